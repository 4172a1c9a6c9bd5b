"""What rules add to a model's predictions, and what they cost: for evaluate.py."""

from collections.abc import Iterator
from itertools import islice

import numpy as np

from pii.corpus.store import PreparedSplit
from pii.redaction.replacements import Span
from pii.redaction.rules.joining import joined
from pii.redaction.rules.rulebook import RULE_LABELS, Rulebook
from pii.scoring import metrics
from pii.scoring.judge import Judged


class SplitRules:
    """What predict.py's rules of a mode say of a split's texts: read once, for predictions at any bias."""

    def __init__(self, split: PreparedSplit, mode: str) -> None:
        rulebook = Rulebook(mode)
        self.split, self.said = split, [] if rulebook.is_empty else [rulebook.read(text) for text in texts_of(split)]

    def add_to(self, judged: Judged) -> Judged:
        """The same documents with what the rules find; without rules the same. Tokens keep what the model said of them.

        Labels that only rules know are appended to the judged ones.
        """
        if not self.said:
            return judged
        labels = [*judged.labels, *sorted(RULE_LABELS - {*judged.labels})]
        number = {label: i for i, label in enumerate(labels)}
        spans: list[tuple[int, int, int]] = []
        scores: list[float] = []
        counts = []
        for text, model, said in zip(texts_of(self.split), model_spans(judged), self.said, strict=True):
            found = list(joined(text, model, said))
            spans += [(span.start, span.end, number[span.label]) for span in found]
            scores += [span.score for span in found]
            counts.append(len(found))
        documents = judged.documents._replace(
            predicted=np.array(spans, np.int32).reshape(-1, 3), predicted_counts=np.array(counts, np.int64)
        )
        return judged._replace(documents=documents, labels=labels, scores=np.array(scores))


def model_spans(judged: Judged) -> Iterator[list[Span]]:
    """The predicted spans of each document."""
    documents = judged.documents
    rows = zip(documents.predicted.tolist(), judged.scores.tolist(), strict=True)
    for count in documents.predicted_counts.tolist():
        yield [Span(start, end, judged.labels[label], score) for (start, end, label), score in islice(rows, count)]


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
