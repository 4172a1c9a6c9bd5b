"""Token and span metrics, in the field's words (SemEval-2013 task 9.1, nervaluate): numpy only, no model.

Spans are compared by characters over whole documents. All documents are laid end to end on one line, so that one
sweep from left to right matches the spans of all of them.
"""

from typing import NamedTuple

import numpy as np

from pii.corpus.spans import OUTSIDE_ID, starts_of

SCHEMES = ("strict", "exact", "partial", "type")
COUNTS = ("gold", "predicted", "matched", "type_matched", *SCHEMES, "partial_only", "gold_chars", "covered_chars")
TOKEN_COUNTS = ("tokens", "correct_tokens", "gold_tokens", "predicted_tokens", "true_tokens")


class Documents(NamedTuple):
    """Gold and predicted spans and tags of some documents, with label ids of one label set."""

    languages: np.ndarray  # [documents] str
    lengths: np.ndarray  # [documents] int64, characters
    gold: np.ndarray  # [spans, 3]: start, end, label id; offsets in the document, sorted, without overlaps
    gold_counts: np.ndarray  # [documents]
    predicted: np.ndarray  # [spans, 3]
    predicted_counts: np.ndarray  # [documents]
    gold_tags: np.ndarray  # [tokens] label ids
    predicted_tags: np.ndarray  # [tokens] label ids
    token_counts: np.ndarray  # [documents]

    def select(self, wanted: np.ndarray) -> "Documents":
        """The documents where `wanted` [documents] bool holds."""
        gold, predicted = np.repeat(wanted, self.gold_counts), np.repeat(wanted, self.predicted_counts)
        tokens = np.repeat(wanted, self.token_counts)
        return Documents(
            self.languages[wanted],
            self.lengths[wanted],
            self.gold[gold],
            self.gold_counts[wanted],
            self.predicted[predicted],
            self.predicted_counts[wanted],
            self.gold_tags[tokens],
            self.predicted_tags[tokens],
            self.token_counts[wanted],
        )


def score(documents: Documents, labels: list[str], resamples: int = 1000, seed: int = 0) -> dict:
    """Every figure as nested dicts of plain numbers; `labels` [label ids], O first; keys: docs/evaluation.md.

    Micro figures are at the top of each scheme, `macro` is the mean over the labels that have gold spans. Intervals
    are 95% percentile bootstrap intervals over documents (Efron 1979), with `resamples` draws; 0 leaves them out.
    """
    report = score_subset(documents, labels, resamples, seed)
    report["per_language"] = {
        str(language): score_subset(documents.select(documents.languages == language), labels, 0, seed)
        for language in np.unique(documents.languages)
    }
    report["confusion"] = {"labels": labels, "counts": confusion(documents, len(labels)).tolist()}
    return report


def score_subset(documents: Documents, labels: list[str], resamples: int, seed: int) -> dict:
    per_document, per_label = count_spans(documents, len(labels))
    per_document |= count_tokens(documents)
    totals = {name: column.sum() for name, column in per_document.items()}
    report = {"documents": len(documents.lengths), **plain(figures(totals))}
    report["per_label"] = {
        label: plain(figures({name: column[i] for name, column in per_label.items()}))
        for i, label in enumerate(labels)
        if i != OUTSIDE_ID and (per_label["gold"][i] or per_label["predicted"][i])
    }
    supported = [entry for entry in report["per_label"].values() if entry["gold"]]
    for scheme in SCHEMES:
        report[scheme]["macro"] = {
            name: float(np.mean([entry[scheme][name] for entry in supported])) if supported else 0.0
            for name in ("precision", "recall", "f1")
        }
    if resamples:
        add_intervals(report, per_document, resamples, seed)
    return report


def count_spans(documents: Documents, num_labels: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """COUNTS by document and by label. By label, only gold and predicted spans of that label meet each other."""
    gold, gold_document = on_one_line(documents.gold, documents.gold_counts, documents.lengths)
    predicted, predicted_document = on_one_line(documents.predicted, documents.predicted_counts, documents.lengths)
    length = int(documents.lengths.sum())
    covered_before = starts_of(covered(predicted, length))
    leaks = (gold[:, 1] - gold[:, 0], covered_before[gold[:, 1]] - covered_before[gold[:, 0]])

    def by_group(gold, predicted, gold_group, predicted_group, leaks, groups) -> dict[str, np.ndarray]:
        # a gold span with the same borders is the only one a predicted span overlaps: both schemes take it
        matches = match(gold, predicted)
        hits = {
            "matched": matches.gold >= 0,
            "type_matched": matches.type_gold >= 0,
            "strict": matches.same_bounds & matches.same_type,
            "exact": matches.same_bounds,
            "partial": matches.same_bounds,
            "partial_only": (matches.gold >= 0) & ~matches.same_bounds,
            "type": matches.same_type,
        }
        counts = {name: np.bincount(predicted_group[hit], minlength=groups) for name, hit in hits.items()}
        counts["gold"] = np.bincount(gold_group, minlength=groups)
        counts["predicted"] = np.bincount(predicted_group, minlength=groups)
        for name, chars in zip(("gold_chars", "covered_chars"), leaks, strict=True):
            counts[name] = np.bincount(gold_group, weights=chars, minlength=groups).astype(np.int64)
        return counts

    per_document = by_group(gold, predicted, gold_document, predicted_document, leaks, len(documents.lengths))
    # a line for each label, one behind the other: only spans of one label can meet
    gold_order, predicted_order = (np.argsort(spans[:, 2], kind="stable") for spans in (gold, predicted))
    gold, predicted = (
        spans + spans[:, 2:] * length * np.array([1, 1, 0]) for spans in (gold[gold_order], predicted[predicted_order])
    )
    leaks = tuple(chars[gold_order] for chars in leaks)
    return per_document, by_group(gold, predicted, gold[:, 2], predicted[:, 2], leaks, num_labels)


def character_precision(documents: Documents) -> float:
    """The share of the characters in predicted spans that are in gold spans, whatever their labels."""
    size = int(documents.lengths.sum())
    gold, predicted = (
        covered(on_one_line(spans, counts, documents.lengths)[0], size)
        for spans, counts in (
            (documents.gold, documents.gold_counts),
            (documents.predicted, documents.predicted_counts),
        )
    )
    return float(ratio((gold & predicted).sum(), predicted.sum()))


def covered(spans: np.ndarray, size: int) -> np.ndarray:
    """[size] bool: whether a character is in one of the spans, [n, 2 or more] with start and end first."""
    steps = np.zeros(size + 1, np.int64)
    np.add.at(steps, spans[:, 0], 1)
    np.add.at(steps, spans[:, 1], -1)
    return steps[:-1].cumsum() > 0


def on_one_line(spans: np.ndarray, counts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spans with positions over all documents, int64, and the document of each."""
    document = np.repeat(np.arange(len(counts)), counts)
    spans = spans.astype(np.int64)
    spans[:, :2] += starts_of(lengths)[document][:, None]
    return spans, document


class Matches(NamedTuple):
    """For each predicted span the index of the gold span it is matched with, -1 for none."""

    gold: np.ndarray  # strict, exact, partial: the span with the same borders, else the first that is free
    same_bounds: np.ndarray  # [predicted] bool
    type_gold: np.ndarray  # type: the free span of the same label with the nearest borders, else the first that is free
    same_type: np.ndarray  # [predicted] bool


def match(gold: np.ndarray, predicted: np.ndarray) -> Matches:
    """Match each predicted span with at most one gold span it overlaps, and each gold span once, from left to right.

    The order of preference is nervaluate's, so that its figures and these are the same. Both are sorted [n, 3]
    without overlaps within themselves.
    """
    matched = np.full((2, len(predicted)), -1, dtype=np.int64)
    equal = np.zeros((2, len(predicted)), dtype=bool)
    gold_spans = gold.tolist()
    taken, type_taken = bytearray(len(gold_spans)), bytearray(len(gold_spans))
    first = 0
    for index, (start, end, label) in enumerate(predicted.tolist()):
        while first < len(gold_spans) and gold_spans[first][1] <= start:
            first += 1
        stop = first
        while stop < len(gold_spans) and gold_spans[stop][0] < end:
            stop += 1
        free = next((g for g in range(first, stop) if not taken[g]), -1)
        if free >= 0:  # a gold span with the same borders is the only one that overlaps
            taken[free] = 1
            matched[0, index], equal[0, index] = free, gold_spans[free][:2] == [start, end]
        candidates = [g for g in range(first, stop) if not type_taken[g]]
        same = [g for g in candidates if gold_spans[g][2] == label]
        if candidates:
            nearest = min(same, key=lambda g: abs(gold_spans[g][0] - start) + abs(gold_spans[g][1] - end), default=-1)
            best = nearest if same else candidates[0]
            type_taken[best] = 1
            matched[1, index], equal[1, index] = best, bool(same)
    return Matches(matched[0], equal[0], matched[1], equal[1])


def count_tokens(documents: Documents) -> dict[str, np.ndarray]:
    """TOKEN_COUNTS by document."""
    document = np.repeat(np.arange(len(documents.token_counts)), documents.token_counts)
    gold, predicted = documents.gold_tags != OUTSIDE_ID, documents.predicted_tags != OUTSIDE_ID
    equal = documents.gold_tags == documents.predicted_tags
    columns = (np.ones_like(gold), equal, gold, predicted, equal & gold)
    return {
        name: np.bincount(document[column], minlength=len(documents.token_counts))
        for name, column in zip(TOKEN_COUNTS, columns, strict=True)
    }


def figures(counts: dict) -> dict:
    """Counts (numbers, or arrays of resamples) → precision, recall, F1 and leakage.

    Partial matches count half: SemEval-2013 task 9.1, precision = (correct + partial / 2) / predicted.
    """
    report = {"gold": counts["gold"], "predicted": counts["predicted"]}
    for scheme in SCHEMES:
        correct = counts[scheme]
        matched = counts["type_matched" if scheme == "type" else "matched"]
        hits = correct + counts["partial_only"] / 2 if scheme == "partial" else correct
        report[scheme] = {
            **precision_recall_f1(hits, counts["predicted"], counts["gold"]),
            "correct": correct,
            "incorrect": matched * 0 if scheme == "partial" else matched - correct,
            "partial": counts["partial_only"] if scheme == "partial" else matched * 0,
            "missed": counts["gold"] - matched,
            "spurious": counts["predicted"] - matched,
        }
    report["leakage"] = ratio(counts["gold_chars"] - counts["covered_chars"], counts["gold_chars"])
    if "tokens" in counts:
        report["token"] = {
            **precision_recall_f1(counts["true_tokens"], counts["predicted_tokens"], counts["gold_tokens"]),
            "accuracy": ratio(counts["correct_tokens"], counts["tokens"]),
        }
    return report


def precision_recall_f1(hits, predicted, gold) -> dict:
    return {"precision": ratio(hits, predicted), "recall": ratio(hits, gold), "f1": ratio(2 * hits, predicted + gold)}


def ratio(numerator, denominator):
    """numerator / denominator, 0 where there is nothing to divide by."""
    return np.where(denominator > 0, numerator / np.maximum(denominator, 1), 0.0)


def plain(value):
    """numpy numbers inside nested dicts → Python numbers."""
    return {key: plain(entry) for key, entry in value.items()} if isinstance(value, dict) else np.asarray(value).item()


def add_intervals(report: dict, per_document: dict[str, np.ndarray], resamples: int, seed: int) -> None:
    """Add 95% intervals of the headline figures, under `interval` beside each."""
    names = list(per_document)
    table = np.stack([per_document[name] for name in names], axis=1).astype(np.float64)  # [documents, counts]
    rng, documents = np.random.default_rng(seed), len(table)
    drawn = [np.bincount(rng.integers(documents, size=documents), minlength=documents) for _ in range(resamples)]
    totals = dict(zip(names, (np.stack(drawn) @ table).T, strict=True))  # each [resamples]
    resampled = figures(totals)

    def interval(values: np.ndarray) -> list[float]:
        return np.percentile(values, [2.5, 97.5]).tolist()

    for name in (*SCHEMES, "token"):
        report[name]["interval"] = {key: interval(resampled[name][key]) for key in ("precision", "recall", "f1")}
    report["leakage_interval"] = interval(resampled["leakage"])


def strict_hits(documents: Documents) -> np.ndarray:
    """[predicted spans] bool: whether a gold span of the same document has the same start, end and label."""
    gold, _ = on_one_line(documents.gold, documents.gold_counts, documents.lengths)
    predicted, _ = on_one_line(documents.predicted, documents.predicted_counts, documents.lengths)
    if not len(gold):
        return np.zeros(len(predicted), dtype=bool)
    # gold spans do not overlap: no more than one of them starts at a position
    same_start = np.searchsorted(gold[:, 0], predicted[:, 0]).clip(max=len(gold) - 1)
    return (gold[same_start] == predicted).all(axis=1)


def calibration(scores: np.ndarray, correct: np.ndarray, bins: int = 15) -> dict:
    """Expected calibration error of the confidence of spans, with the bins it comes from.

    `scores` [spans] float in [0, 1], `correct` [spans] bool: see `strict_hits`. ECE = Σ count / spans · |accuracy -
    confidence| over bins of equal width, low < score <= high, the first with 0 (Guo et al. 2017, "On Calibration of
    Modern Neural Networks", equations 2 and 3). Empty bins are left out; without spans the error is 0. Raises
    ValueError for a score outside [0, 1] by more than rounding, or NaN.
    """
    scores, correct = np.asarray(scores, dtype=np.float64), np.asarray(correct, dtype=bool)
    if not (np.abs(scores - 0.5) <= 0.5 + 1e-6).all():  # this way NaN is caught too
        raise ValueError("confidences must lie in [0, 1]")
    edges = np.arange(bins + 1) / bins
    bin_of_span = (np.searchsorted(edges, scores, side="left") - 1).clip(0, bins - 1)
    counts, sums, hits = (np.bincount(bin_of_span, weights, bins) for weights in (None, scores, correct))
    report = [
        {
            "low": edges[i],
            "high": edges[i + 1],
            "count": counts[i],
            "confidence": sums[i] / counts[i],
            "accuracy": hits[i] / counts[i],
        }
        for i in np.flatnonzero(counts)
    ]
    error = np.abs(hits - sums).sum() / max(len(scores), 1)
    return {"ece": float(error), "spans": len(scores), "bins": [plain(entry) for entry in report]}


def confusion(documents: Documents, num_labels: int) -> np.ndarray:
    """[gold label, predicted label] token counts."""
    cells = documents.gold_tags.astype(np.int64) * num_labels + documents.predicted_tags
    return np.bincount(cells, minlength=num_labels**2).reshape(num_labels, num_labels)
