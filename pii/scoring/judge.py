"""Predictions beside gold spans, in one label set: figures, operating points and scores of whole splits."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pii.common import UserError
from pii.corpus.label_maps.maps import read_label_map, warn_unused
from pii.corpus.rows import OUTSIDE
from pii.corpus.spans import JoinedText
from pii.corpus.store import PreparedSplit
from pii.corpus.windows import make_windows
from pii.heads.calibration import calibrated
from pii.heads.tagging import Tagged, Tagger, all_scores, span_scores, spans_of
from pii.processes import Processes
from pii.progress import progress
from pii.scoring import errors, metrics

LARGEST_BIAS = 32.0  # on the logit of O: more than any head's margins
BIAS_STEP = 0.03
CURVE_BIASES = (-4.0, -2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)  # of the page: below 0 finds less


def label_map_of(path: Path | None, labels: list[str], quiet: bool = False) -> dict[str, str]:
    """Data label → label to judge it by, `O` for those left out. Labels the file does not name stay as they are; labels
    that the data does not have are told, unless `quiet`."""
    given = read_label_map(path) if path else {}
    if not quiet:
        warn_unused(given, labels, "the data does not have")
    return {label: OUTSIDE if label == OUTSIDE else given.get(label, label) for label in labels}


def read_scores(
    taggers: Sequence[Tagger], split: PreparedSplit, max_length: int, processes: Processes
) -> list[np.ndarray]:
    """Each tagger's scores of every token of the split: [tokens, tags] float32. The processes share the rows."""
    windows = make_windows(split.example_offsets, max_length)
    shares = [windows[windows.row % processes.world_size == rank] for rank in range(processes.world_size)]
    own, token_ids = shares[processes.rank], split.tokens["token_ids"]
    with progress("evaluate", int(own.scored_counts.sum()), quiet=processes.rank > 0) as bar:
        scores = all_scores(taggers, token_ids, own, bar.update)
    if processes.world_size == 1:
        return scores
    counts = [int(share.scored_counts.sum()) for share in shares]
    whole = []
    for part in scores:
        joined = np.empty((len(token_ids), part.shape[1]), part.dtype)
        for share, gathered in zip(shares, processes.all_gather(part, counts), strict=True):
            joined[share.scored_tokens()] = gathered
        whole.append(joined)
    return whole


class Judged(NamedTuple):
    """Predictions beside the gold, in one label set."""

    documents: metrics.Documents
    labels: list[str]
    char_starts: np.ndarray  # [tokens] offsets in their document
    char_ends: np.ndarray
    scores: np.ndarray  # [predicted spans] float64: mean probability of the label, not calibrated


def judge(
    split: PreparedSplit,
    tagged: Tagged,
    run_labels: list[str],
    label_map: dict[str, str],
    rows: np.ndarray | None = None,
    widened: bool = False,
) -> Judged:
    """Gold and predictions in one label set: O, then all labels of the run and of the mapped split, sorted. `tagged`
    is of all rows, or of those with these indices; `widened` is spans_of's."""
    labels = [OUTSIDE, *sorted({*run_labels, *label_map.values()} - {OUTSIDE})]
    new_id = {label: i for i, label in enumerate(labels)}
    of_data = np.array([new_id[label_map[label]] for label in split.labels])
    of_run = np.array([new_id[label] for label in run_labels])

    chosen = split.rows(np.arange(len(split)) if rows is None else rows)
    text = JoinedText.of(chosen.texts())
    tagged = tagged._replace(label_ids=of_run[tagged.label_ids])
    char_starts, char_ends = (chosen.tokens[name].astype(np.int64) for name in ("char_starts", "char_ends"))
    predicted, predicted_counts = spans_of(text, chosen.token_counts, char_starts, char_ends, tagged, widened)
    scores, _ = span_scores(text, chosen.token_counts, char_starts, char_ends, tagged, predicted, predicted_counts)
    gold = chosen.spans.copy()
    gold[:, 2] = of_data[gold[:, 2]]
    kept = gold[:, 2] != new_id[OUTSIDE]
    document = np.repeat(np.arange(len(chosen.languages)), chosen.span_counts)
    documents = metrics.Documents(
        languages=chosen.languages,
        lengths=np.diff(text.starts),
        gold=gold[kept],
        gold_counts=np.bincount(document[kept], minlength=len(chosen.languages)),
        predicted=predicted,
        predicted_counts=predicted_counts,
        gold_tags=of_data[chosen.tokens["label_ids"]],
        predicted_tags=tagged.label_ids,
        token_counts=chosen.token_counts,
    )
    return Judged(documents, labels, char_starts, char_ends, scores)


def judge_own(split: PreparedSplit, tagged: Tagged, rows: np.ndarray | None = None) -> tuple[Judged, dict]:
    """`judge` where the head was trained on the data's labels, and its figures without intervals."""
    judged = judge(split, tagged, split.labels, label_map_of(None, split.labels), rows)
    return judged, metrics.score(judged.documents, judged.labels, resamples=0)


def figures_of(judged: Judged, run_labels: list[str], calibration: Sequence[float] | None) -> dict:
    """Every figure of the report; `calibration` is the head's."""
    scores = calibrated(judged.scores, calibration)
    return {
        "unknown_labels": unknown_labels(judged, run_labels),
        **metrics.score(judged.documents, judged.labels),
        "errors": errors.analyse(judged.documents, judged.labels, judged.char_starts, judged.char_ends),
        "calibration": metrics.calibration(scores, metrics.strict_hits(judged.documents)),
    }


def unknown_labels(judged: Judged, run_labels: list[str]) -> list[str]:
    """Labels of gold spans that the run cannot predict; they count as misses."""
    return [judged.labels[i] for i in np.unique(judged.documents.gold[:, 2]) if judged.labels[i] not in run_labels]


def operating_point(bias: float, documents: metrics.Documents, num_labels: int) -> dict:
    """What a bias on O gives: `documents` were decoded with it."""
    counts, _ = metrics.count_spans(documents, num_labels)
    figures = metrics.plain(metrics.figures({name: column.sum() for name, column in counts.items()}))
    strict = {f"strict_{name}": figures["strict"][name] for name in ("precision", "recall", "f1")}
    return {"bias": bias, "recall": 1 - figures["leakage"], "leakage": figures["leakage"], **strict}


def operating_points(target_recall: float, point_at: Callable[[float], dict]) -> list[dict]:
    """`operating_point`s along the bias on O, up to the least one whose recall of PII characters reaches the target.

    A bias is taken off the logit of O. The more is taken off, the more tokens are covered: recall rises (with plain
    tags it cannot fall), so the least bias is found by bisection. Raises UserError where no bias reaches the target.
    """
    low, high = 0.0, LARGEST_BIAS
    points = [point_at(low)]
    if points[0]["recall"] >= target_recall:
        return points
    if (last := point_at(high))["recall"] < target_recall:
        raise UserError(f"no bias reaches a recall of {target_recall}: at {high} it is {last['recall']:.4f}", code=1)
    while high - low > BIAS_STEP:
        middle = (low + high) / 2
        points.append(point_at(middle))
        low, high = (low, middle) if points[-1]["recall"] >= target_recall else (middle, high)
    chosen = {entry["bias"]: entry for entry in [*points, point_at(high)] if entry["bias"] <= high}
    return [chosen[bias] for bias in sorted(chosen)]


def curve(points: list[dict], chosen: float | None, point_at: Callable[[float], dict]) -> list[dict]:
    """Operating points at CURVE_BIASES, at the chosen bias, and those that were worked out before; by bias."""
    known = {point["bias"]: point for point in points}
    wanted = {*CURVE_BIASES, *known} | ({chosen} if chosen is not None else set())
    return [known.get(bias) or point_at(bias) for bias in sorted(wanted)]
