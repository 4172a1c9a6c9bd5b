"""What became of each gold span, and how wrong borders are wrong: counts and places, never text.

The words for spans are those of metrics.py. Borders are equal or not in characters; how far they are off is told in
tokens, the steps in which a head can move them.
"""

from typing import NamedTuple

import numpy as np

from pii.corpus.spans import OUTSIDE_ID, ranges, starts_of
from pii.scoring.metrics import Documents, on_one_line, plain

KINDS = ("correct", "wrong_label", "border", "border_and_label", "missed")  # each gold span is one of them
ERROR_KINDS = (*KINDS[1:], "invented")  # "invented" is of a predicted span
BORDER_KINDS = ("split", "merged", "one_token_long", "one_token_short", "other")  # the first that holds
MOST_CONFUSED = 5  # labels that `confused_with` names
MOST_ROWS = 10  # of the printed tables beneath the first


class Findings(NamedTuple):
    """What `analyse` counts, by span."""

    kind: np.ndarray  # [gold] index in KINDS
    border_kind: np.ndarray  # [gold] index in BORDER_KINDS; it means something only where the kind is border
    taken_for: np.ndarray  # [gold] label id found in place of the span's own, -1 where there is none
    invented: np.ndarray  # [predicted] bool


class Errors(NamedTuple):
    """Errors one by one, document by document, each from left to right."""

    kind: np.ndarray  # [errors] index in ERROR_KINDS
    document: np.ndarray  # [errors]
    gold: np.ndarray  # [errors] index of the gold span, -1 where there is none: invented
    predicted: np.ndarray  # [errors] index of the predicted span found in its place, -1 where there is none: missed


class Pairs(NamedTuple):
    """Each pair of a gold and a predicted span that share a character."""

    gold: np.ndarray  # [pairs] index of the gold span, ascending
    predicted: np.ndarray  # [pairs] index of the predicted span, ascending
    shared: np.ndarray  # [pairs] characters
    same_borders: np.ndarray  # [pairs] bool
    same_label: np.ndarray  # [pairs] bool


def analyse(documents: Documents, labels: list[str], char_starts: np.ndarray, char_ends: np.ndarray) -> dict:
    """Errors by kind as nested dicts of plain ints; `labels` [label ids], O first.

    `char_starts` and `char_ends` [tokens] are each token's offsets in its document, as `Tags` of spans.py has them.
    A gold span is one of

    - `correct`: a predicted span has its borders and its label,
    - `wrong_label`: a predicted span has its borders and another label,
    - `border`: a predicted span of its label overlaps it with other borders,
    - `border_and_label`: only predicted spans of other labels and other borders overlap it,
    - `missed`: nothing overlaps it;

    a predicted span is `invented` where it overlaps no gold span. `border_kinds` divides `border` into the first of

    - `split`: two or more predicted spans of its label lie inside it,
    - `merged`: a predicted span of its label holds it and at least one more gold span, of any label,
    - `one_token_long`, `one_token_short`: the only predicted span of its label that overlaps it has one token more or
      less on one side and ends at the same token on the other,
    - `other`, such as borders that differ within a token only.

    "Inside" and "holds" are meant in tokens; a span's tokens are those it shares a character with. `per_label` goes by
    the gold label, except `invented` and `predicted`; it leaves out labels without any span. Its `confused_with` names
    the labels most often found instead, the most frequent first: a gold span counts once, for the predicted span that
    shares most characters with it, the earlier of two. `per_language` has it all again for each language.

    Raises ValueError where the tokens are not those of the documents.
    """
    if not len(char_starts) == len(char_ends) == documents.token_counts.sum():
        wanted = documents.token_counts.sum()
        raise ValueError(f"{len(char_starts)} token starts and {len(char_ends)} ends for {wanted} tokens")
    gold, gold_document = on_one_line(documents.gold, documents.gold_counts, documents.lengths)
    predicted, predicted_document = on_one_line(documents.predicted, documents.predicted_counts, documents.lengths)
    text_start = np.repeat(starts_of(documents.lengths)[:-1], documents.token_counts)
    findings = find(gold, predicted, text_start + char_starts, text_start + char_ends)

    def count(document_wanted: np.ndarray) -> dict:
        of_gold, of_predicted = document_wanted[gold_document], document_wanted[predicted_document]
        chosen = Findings._make([*(column[of_gold] for column in findings[:3]), findings.invented[of_predicted]])
        return count_findings(chosen, gold[of_gold, 2], predicted[of_predicted, 2], labels)

    report = count(np.ones(len(documents.lengths), dtype=bool))
    report["per_language"] = {
        str(language): count(documents.languages == language) for language in np.unique(documents.languages)
    }
    return report


def find(gold: np.ndarray, predicted: np.ndarray, token_starts: np.ndarray, token_ends: np.ndarray) -> Findings:
    """Findings of spans [n, 3] and tokens [tokens] that all stand on one line, sorted."""
    pairs = overlapping(gold, predicted)
    kind, found = kinds_of(pairs, len(gold)), counterparts(pairs, len(gold))
    tokens = [tokens_of(spans, token_starts, token_ends) for spans in (gold, predicted)]
    confused = (kind == KINDS.index("wrong_label")) | (kind == KINDS.index("border_and_label"))
    taken_for = np.full(len(gold), -1)
    taken_for[confused] = predicted[found[confused], 2]
    return Findings(kind, border_kinds(pairs, *tokens), taken_for, overlaps_nothing(pairs, len(predicted)))


def listed(documents: Documents) -> Errors:
    """Every error of the documents: each gold span that is not correct, each predicted span that is invented."""
    gold, gold_document = on_one_line(documents.gold, documents.gold_counts, documents.lengths)
    predicted, predicted_document = on_one_line(documents.predicted, documents.predicted_counts, documents.lengths)
    pairs = overlapping(gold, predicted)
    kind = kinds_of(pairs, len(gold))
    wrong = np.flatnonzero(kind != KINDS.index("correct"))
    invented = np.flatnonzero(overlaps_nothing(pairs, len(predicted)))
    errors = Errors(
        kind=np.append(kind[wrong] - 1, np.full(len(invented), ERROR_KINDS.index("invented"))),
        document=np.append(gold_document[wrong], predicted_document[invented]),
        gold=np.append(wrong, np.full(len(invented), -1)),
        predicted=np.append(counterparts(pairs, len(gold))[wrong], invented),
    )
    order = np.argsort(np.append(gold[wrong, 0], predicted[invented, 0]), kind="stable")
    return Errors(*(column[order] for column in errors))


def kinds_of(pairs: Pairs, num_gold: int) -> np.ndarray:
    """[gold] index in KINDS."""
    # predicted spans do not overlap: one with the borders of a gold span is the only one that overlaps it
    evidence = (pairs.same_borders & pairs.same_label, pairs.same_borders, pairs.same_label, pairs.shared > 0)
    return first_that_holds([count_pairs(pairs.gold, hit, num_gold) > 0 for hit in evidence])


def counterparts(pairs: Pairs, num_gold: int) -> np.ndarray:
    """[gold] index of the predicted span found in place of each gold span: of its label if there is one, then the one
    that shares most characters, then the earlier; -1 where none overlaps it."""
    found = np.full(num_gold, -1)
    order = np.lexsort((-pairs.predicted, pairs.shared, pairs.same_label))  # the best is written last
    found[pairs.gold[order]] = pairs.predicted[order]
    return found


def overlaps_nothing(pairs: Pairs, num_predicted: int) -> np.ndarray:
    """[predicted] bool: whether each overlaps no gold span."""
    return np.bincount(pairs.predicted, minlength=num_predicted) == 0


def overlapping(gold: np.ndarray, predicted: np.ndarray) -> Pairs:
    """All pairs of spans [n, 3] on one line; each side sorted, without overlaps within itself."""
    # so those that overlap a gold span are neighbours: first, first + 1, ...
    first = np.searchsorted(predicted[:, 1], gold[:, 0], side="right")
    counts = np.searchsorted(predicted[:, 0], gold[:, 1], side="left") - first
    of_gold, of_predicted = np.repeat(np.arange(len(gold)), counts), ranges(first, counts)
    left, right = gold[of_gold], predicted[of_predicted]
    shared = np.minimum(left[:, 1], right[:, 1]) - np.maximum(left[:, 0], right[:, 0])
    equal = left == right
    return Pairs(of_gold, of_predicted, shared, equal[:, 0] & equal[:, 1], equal[:, 2])


def tokens_of(spans: np.ndarray, token_starts: np.ndarray, token_ends: np.ndarray) -> np.ndarray:
    """[spans, 2] int64: the first token that shares a character with each span, and the one after the last."""
    first = np.searchsorted(token_ends, spans[:, 0], side="right")
    return np.stack([first, np.searchsorted(token_starts, spans[:, 1], side="left")], axis=1)


def border_kinds(pairs: Pairs, gold_tokens: np.ndarray, predicted_tokens: np.ndarray) -> np.ndarray:
    """[gold] index in BORDER_KINDS, from the tokens of all gold and predicted spans (see `analyse`)."""
    longer = (gold_tokens[pairs.gold] - predicted_tokens[pairs.predicted]) * np.array([1, -1])  # [pairs, 2] by side
    inside, holds = (longer <= 0).all(axis=1), (longer >= 0).all(axis=1)
    holds_several = count_pairs(pairs.predicted, holds, len(predicted_tokens)) > 1
    only_one = count_pairs(pairs.gold, pairs.same_label, len(gold_tokens)) == 1
    one_side = only_one[pairs.gold] & (np.abs(longer).sum(axis=1) == 1)

    def count(hit: np.ndarray) -> np.ndarray:
        return count_pairs(pairs.gold, pairs.same_label & hit, len(gold_tokens))

    return first_that_holds(
        [
            count(inside) > 1,
            count(holds & holds_several[pairs.predicted]) > 0,
            count(one_side & holds) > 0,
            count(one_side & inside) > 0,
        ]
    )


def count_pairs(spans: np.ndarray, hit: np.ndarray, num_spans: int) -> np.ndarray:
    """[num_spans]: in how many of the pairs where `hit` [pairs] bool holds each of `spans` [pairs] stands."""
    return np.bincount(spans[hit], minlength=num_spans)


def first_that_holds(conditions: list[np.ndarray]) -> np.ndarray:
    """[n] index of the first condition [n] bool that holds, or their number where none does."""
    return np.select(conditions, range(len(conditions)), default=len(conditions))


def count_findings(findings: Findings, gold_ids: np.ndarray, predicted_ids: np.ndarray, labels: list[str]) -> dict:
    """Totals and `per_label` of `analyse`, from the label ids of the gold and the predicted spans."""
    at_border, confused = findings.kind == KINDS.index("border"), findings.taken_for >= 0
    kinds = table_of(gold_ids, findings.kind, len(labels), len(KINDS))
    borders = table_of(gold_ids[at_border], findings.border_kind[at_border], len(labels), len(BORDER_KINDS))
    confusions = table_of(gold_ids[confused], findings.taken_for[confused], len(labels), len(labels))
    invented = np.bincount(predicted_ids[findings.invented], minlength=len(labels))
    predicted = np.bincount(predicted_ids, minlength=len(labels))

    def entry(of_labels: slice, **more: dict) -> dict:
        kind_counts, border_counts = kinds[of_labels].sum(axis=0), borders[of_labels].sum(axis=0)
        counts = {
            "gold": kind_counts.sum(),
            **dict(zip(KINDS, kind_counts, strict=True)),
            "invented": invented[of_labels].sum(),
            "predicted": predicted[of_labels].sum(),
            **more,
            "border_kinds": dict(zip(BORDER_KINDS, border_counts, strict=True)),
        }
        return plain(counts)

    report = entry(slice(None))
    report["per_label"] = {
        label: entry(slice(i, i + 1), confused_with=commonest(confusions[i], labels))
        for i, label in enumerate(labels)
        if i != OUTSIDE_ID and (kinds[i].any() or predicted[i])
    }
    return report


def table_of(rows: np.ndarray, columns: np.ndarray, num_rows: int, num_columns: int) -> np.ndarray:
    """[num_rows, num_columns]: how often each pair of indices occurs."""
    cells = np.bincount(rows * num_columns + columns, minlength=num_rows * num_columns)
    return cells.reshape(num_rows, num_columns)


def commonest(counts: np.ndarray, labels: list[str]) -> dict:
    """Label → count of the largest counts [labels] above 0, the largest first."""
    order = np.argsort(-counts, kind="stable")[:MOST_CONFUSED]
    return {labels[i]: counts[i] for i in order if counts[i]}


def print_errors(report: dict) -> None:
    """What `analyse` returns, as tables of at most 80 columns."""
    per_label = report["per_label"]
    print(f"\n{'label':<22}{'correct':>9}{'wrong label':>12}{'border':>9}{'both':>9}{'missed':>9}{'invented':>10}")
    for label in sorted(per_label, key=lambda label: -num_errors(per_label[label])):
        print_row(label, per_label[label])
    for language, entry in report["per_language"].items():
        print_row(f"({language})", entry)
    print_row("all", report)
    print_confusions(per_label)
    print_border_kinds(report)


def num_errors(entry: dict) -> int:
    return entry["gold"] - entry["correct"] + entry["invented"]


def print_row(name: str, entry: dict) -> None:
    print(
        f"{short(name):<22}{entry['correct']:>9}{entry['wrong_label']:>12}{entry['border']:>9}"
        f"{entry['border_and_label']:>9}{entry['missed']:>9}{entry['invented']:>10}"
    )


def short(name: str) -> str:
    """A label that fits its column."""
    return name if len(name) <= 21 else f"{name[:18]}..."


def print_confusions(per_label: dict) -> None:
    """The commonest of all, no more than MOST_CONFUSED of one gold label."""
    pairs = [(count, gold, found) for gold in per_label for found, count in per_label[gold]["confused_with"].items()]
    pairs.sort(key=lambda pair: -pair[0])
    print("\ncommonest span confusions, gold > predicted:" if pairs else "\nno span confusions")
    for count, gold, found in pairs[:MOST_ROWS]:
        print(f"{count:>8}  {short(gold)} > {short(found)}")


def print_border_kinds(report: dict) -> None:
    """How wrong borders are wrong, for the labels that have most of them."""
    if not report["border"]:
        print("no border errors")
        return
    headings = ("split", "merged", "one long", "one short", "other")  # of BORDER_KINDS
    print(f"\n{'border errors, tokens':<22}" + "".join(f"{heading:>11}" for heading in headings))
    per_label = report["per_label"]
    most = sorted((label for label in per_label if per_label[label]["border"]), key=lambda n: -per_label[n]["border"])
    for name, entry in [*((label, per_label[label]) for label in most[:MOST_ROWS]), ("all", report)]:
        print(f"{short(name):<22}" + "".join(f"{entry['border_kinds'][kind]:>11}" for kind in BORDER_KINDS))
