"""What rules add to a model's predictions, and what they cost: for evaluate.py."""

from collections.abc import Iterator

import numpy as np

from pii.corpus.store import PreparedSplit
from pii.redaction.replacements import Span
from pii.redaction.rules.rulebook import RULE_LABELS, Rulebook
from pii.scoring import metrics
from pii.scoring.judge import Judged


def with_rules(judged: Judged, split: PreparedSplit, mode: str) -> Judged:
    """The same documents with what predict.py's rules of this mode find. Tokens keep what the model said of them.

    Labels that only rules know are appended to the judged ones.
    """
    labels = [*judged.labels, *sorted(RULE_LABELS - {*judged.labels})]
    number, rulebook = {label: i for i, label in enumerate(labels)}, Rulebook(mode)
    documents, first = judged.documents, 0
    spans: list[tuple[int, int, int]] = []
    scores: list[float] = []
    counts = []
    for text, count in zip(texts_of(split), documents.predicted_counts.tolist(), strict=True):
        rows = zip(
            documents.predicted[first : first + count].tolist(),
            judged.scores[first : first + count].tolist(),
            strict=True,
        )
        model = [Span(start, end, labels[label], score) for (start, end, label), score in rows]
        found = list(rulebook.apply(text, model))
        spans += [(span.start, span.end, number[span.label]) for span in found]
        scores += [span.score for span in found]
        counts.append(len(found))
        first += count
    documents = documents._replace(
        predicted=np.array(spans, np.int32).reshape(-1, 3), predicted_counts=np.array(counts, np.int64)
    )
    return judged._replace(documents=documents, labels=labels, scores=np.array(scores))


def texts_of(split: PreparedSplit) -> Iterator[str]:
    for rows in split.chunks():
        yield from rows.texts()


def rule_effects(without: Judged, judged: Judged) -> dict[str, dict]:
    """Label → {found, right, strict_f1, leakage, invented} of the labels whose predicted spans the rules change; the
    last three are pairs: without rules, with them. The first entry is of all labels."""
    before, after = label_figures(without, judged.labels), label_figures(judged, judged.labels)
    own, others = spans_of(judged), spans_of(without)
    gold = {(document, *span) for document, span in numbered(judged.documents.gold, judged.documents.gold_counts)}
    effects = {}
    for label in ["all", *judged.labels[1:]]:
        new = {span for span in own - others if label in ("all", judged.labels[span[3]])}
        changed = {span for span in others - own if label in ("all", judged.labels[span[3]])}
        if new or changed or label == "all":
            effects[label] = {"found": len(new), "right": len(new & gold)} | {
                name: (before[label][name], after[label][name]) for name in ("strict_f1", "leakage", "invented")
            }
    return effects


def label_figures(judged: Judged, labels: list[str]) -> dict[str, dict]:
    """Label, and `all` → strict F1, leakage, and how many predicted spans cover no gold character of any label."""
    figures = metrics.score(judged.documents, labels, resamples=0)
    gold: set[tuple[int, int]] = set()
    for document, (start, end, _) in numbered(judged.documents.gold, judged.documents.gold_counts):
        gold.update((document, place) for place in range(start, end))
    invented = dict.fromkeys(labels, 0)
    for document, (start, end, label) in numbered(judged.documents.predicted, judged.documents.predicted_counts):
        invented[labels[label]] += all((document, place) not in gold for place in range(start, end))
    whole = {"strict_f1": figures["strict"]["f1"], "leakage": figures["leakage"], "invented": sum(invented.values())}
    result = {"all": whole}
    for name in labels:
        entry = figures["per_label"].get(name, {"strict": {"f1": 0.0}, "leakage": 0.0})
        result[name] = {"strict_f1": entry["strict"]["f1"], "leakage": entry["leakage"], "invented": invented[name]}
    return result


def spans_of(judged: Judged) -> set[tuple[int, int, int, int]]:
    """(document, start, end, label id) of the predictions."""
    documents = judged.documents
    found = numbered(documents.predicted, documents.predicted_counts)
    return {(document, start, end, label) for document, (start, end, label) in found}


def numbered(spans: np.ndarray, counts: np.ndarray) -> list[tuple[int, list[int]]]:
    """(document, [start, end, label id]) of each span."""
    return list(zip(np.repeat(np.arange(len(counts)), counts).tolist(), spans.tolist(), strict=True))
