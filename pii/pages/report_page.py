"""The page of evaluate.py --html: a report's figures, charts and errors as values for pages/evaluate.html.

Unless the data is given, no text is in the page: errors are told by row, label and offsets alone.
"""

from pathlib import Path

import numpy as np
from markupsafe import Markup

from pii.corpus.spans import starts_of
from pii.corpus.store import PreparedSplit
from pii.pages import charts
from pii.pages.pages import colours_of, pieces_of, write_page
from pii.scoring import errors
from pii.scoring.errors import ERROR_KINDS
from pii.scoring.metrics import SCHEMES, Documents

MOST_ERRORS = 2000  # in a page, or it grows too heavy for a phone
WHOLE_ROW = 800  # characters: of a longer row, what stands around the error is shown
AROUND = 300  # characters on each side
MOST_CONFUSIONS = 10
MEANINGS = {
    "strict": "borders and label equal",
    "exact": "borders equal, whatever the label",
    "partial": "borders equal; an overlap counts half",
    "type": "label equal, and the spans overlap",
    "token": "label equal, token by token; O does not count",
}
KINDS = {  # as the page calls them
    "wrong_label": ("wrong label", "borders right, label wrong"),
    "border": ("border", "label right, borders wrong"),
    "border_and_label": ("both", "overlapped, with other borders and another label"),
    "missed": ("missed", "nothing predicted there"),
    "invented": ("invented", "predicted where there is no gold span"),
}


def write_report_page(
    path: Path,
    report: dict,
    documents: Documents,
    points: list[dict],
    chosen: float | None,
    split: PreparedSplit | None = None,
) -> None:
    """Write the page of evaluate.py's `report` on these documents.

    `points` are operating points by ascending bias, the chosen one and that at bias 0 among them; the one at the bias
    `chosen` (None: 0) is ringed. `data` [documents] gives the text around the errors.
    """
    ringed = next(point for point in points if point["bias"] == (chosen or 0.0))
    found = errors.listed(documents)
    shown = errors.Errors(*(column[spread(len(found.kind))] for column in found))
    write_page(
        path,
        "evaluate",
        f"Evaluation of {report['run']}",
        error_values(shown, documents, report["confusion"]["labels"], split),
        report=report,
        schemes=[(name, MEANINGS[name], report[name]) for name in (*SCHEMES, "token")],
        confusion=confusion_map(report["confusion"]),
        confusions=commonest_confusions(report["confusion"])[:MOST_CONFUSIONS],
        points=points,
        ringed=ringed,
        is_stored=chosen is not None,
        kinds=[(*KINDS[name], report["errors"][name]) for name in ERROR_KINDS],
        num_errors=len(found.kind),
        num_shown=len(shown.kind),
        with_text=split is not None,
        **operating_charts(points, ringed),
        **calibration_charts(report["calibration"]),
    )


def spread(count: int) -> np.ndarray:
    """Indices of all of `count` errors, or of MOST_ERRORS of them, spread evenly."""
    return np.arange(count) if count <= MOST_ERRORS else np.linspace(0, count - 1, MOST_ERRORS).astype(np.int64)


# charts


def confusion_map(table: dict) -> Markup:
    """The heat map of the labels that occur, as gold or as predicted."""
    counts = np.array(table["counts"])
    occurs = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    names = [table["labels"][i] for i in occurs]
    return Markup(charts.heat_map(names, counts[np.ix_(occurs, occurs)].tolist(), "gold", "predicted"))


def commonest_confusions(table: dict) -> list[tuple[int, str, str]]:
    """(tokens, gold label, predicted label) of all token confusions, the commonest first."""
    counts = np.array(table["counts"])
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")
    cells = [divmod(int(cell), len(counts)) for cell in order if counts.flat[cell]]
    return [(int(counts[cell]), *(table["labels"][i] for i in cell)) for cell in cells]


def operating_charts(points: list[dict], ringed: dict) -> dict[str, Markup]:
    """Precision over recall, and leakage over the bias, through all operating points."""

    def chart(x: str, y: str, x_title: str, y_title: str) -> Markup:
        columns = ([point[x] for point in points], [point[y] for point in points])
        return Markup(charts.lines({y: columns}, x_title, y_title, dots=True, chosen=(ringed[x], ringed[y])))

    return {
        "precision_recall": chart("strict_recall", "strict_precision", "strict recall", "strict precision"),
        "leakage_bias": chart("bias", "leakage", "bias on O", "leakage"),
    }


def calibration_charts(calibration: dict) -> dict[str, Markup]:
    """The reliability diagram (Guo et al. 2017) and how many spans each of its bins holds."""
    bins = calibration["bins"]
    columns = ([entry["confidence"] for entry in bins], [entry["accuracy"] for entry in bins])
    width = min((entry["high"] - entry["low"] for entry in bins), default=1.0)
    num_bins = round(1 / width)
    counts = np.zeros(num_bins, dtype=int)
    for entry in bins:
        counts[round(entry["low"] * num_bins)] = entry["count"]
    edges = (np.arange(num_bins + 1) / num_bins).tolist()
    return {
        "reliability": Markup(charts.lines({"spans": columns}, "confidence", "accuracy", unit_square=True, dots=True)),
        "confidences": Markup(charts.histogram(counts.tolist(), edges, "confidence", y_title="spans")),
    }


# errors


def error_values(
    found: errors.Errors, documents: Documents, labels: list[str], split: PreparedSplit | None = None
) -> dict:
    """What pages/evaluate.js reads: the errors, and the texts around them if `data` is given.

    An error is [row, kind, language, gold span or null, predicted span or null, place of its text in `texts`, number
    of its mark in the gold line, in the predicted line]; a span is [start, end, label id].
    """
    gold_starts, predicted_starts = starts_of(documents.gold_counts), starts_of(documents.predicted_counts)
    texts = Texts(split, documents, np.unique(found.document)) if split is not None else None
    entries = []
    for kind, row, gold, predicted in zip(*(column.tolist() for column in found), strict=True):
        spans = [
            of_all[index].tolist() if index >= 0 else None
            for of_all, index in ((documents.gold, gold), (documents.predicted, predicted))
        ]
        entry = [row, kind, str(documents.languages[row]), *spans]
        if texts:
            numbers = (gold - int(gold_starts[row]), predicted - int(predicted_starts[row]))
            entry += texts.add(row, spans, numbers)
        entries.append(entry)
    return {
        "labels": labels,
        "colours": colours_of(labels),
        "kinds": [KINDS[name][0] for name in ERROR_KINDS],
        "errors": entries,
        "texts": texts.drawn if texts else [],
    }


class Texts:
    """The texts that a page shows, each once, however many errors it has."""

    def __init__(self, split: PreparedSplit, documents: Documents, rows: np.ndarray) -> None:
        self.drawn: list[list] = []  # [gold pieces, predicted pieces, cut on the left, cut on the right]
        self._places: dict[tuple[int, int, int], int] = {}
        self._texts = dict(zip(rows.tolist(), split.rows(rows).texts(), strict=True))
        self._sides = [
            (spans, starts_of(counts))
            for spans, counts in (
                (documents.gold, documents.gold_counts),
                (documents.predicted, documents.predicted_counts),
            )
        ]

    def add(self, row: int, spans: list[list[int] | None], numbers: tuple[int, int]) -> list[int]:
        """Take in the text around an error: its place in `drawn`, and the numbers there of its gold and its predicted
        span, given their `numbers` in the row; -1 for none."""
        text = self._texts[row]
        start, stop = excerpt(len(text), *next(filter(None, spans))[:2])
        lines, marks = [], []
        for (of_all, starts), span, number in zip(self._sides, spans, numbers, strict=True):
            of_row = of_all[starts[row] : starts[row + 1]]
            cut, first = cut_spans(of_row, start, stop)
            lines.append((text[start:stop], cut))
            marks.append(number - first if span and 0 <= number - first < len(cut) else -1)
        key = (row, start, stop)
        if key not in self._places:
            self._places[key] = len(self.drawn)
            self.drawn.append([*(pieces_of(*line, ()) for line in lines), start > 0, stop < len(text)])
        return [self._places[key], *marks]


def excerpt(length: int, start: int, end: int) -> tuple[int, int]:
    """Where to cut a text of `length` characters around a span: all of it, or AROUND characters on each side."""
    if length <= WHOLE_ROW:
        return 0, length
    return max(0, start - AROUND), min(length, min(end, start + WHOLE_ROW) + AROUND)


def cut_spans(spans: np.ndarray, start: int, stop: int) -> tuple[list[list[int]], int]:
    """The spans [n, 3] that reach into start:stop, clipped and counted from `start`, and how many stand before."""
    inside = np.flatnonzero((spans[:, 0] < stop) & (spans[:, 1] > start))
    cut = spans[inside].astype(np.int64)
    cut[:, :2] = cut[:, :2].clip(start, stop) - start
    return cut.tolist(), int(inside[0]) if len(inside) else 0
