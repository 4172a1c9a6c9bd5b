"""Token and span metrics of a run on prepared data: what it finds, what it invents, and what leaks."""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

import errors
import metrics
from common import Parser, UserError, fraction, run, write_json
from dataset import PIITokenDataset, make_windows
from errors import short
from processes import Processes
from report_page import commonest_confusions, write_report_page
from rows import OUTSIDE, read_label_map
from runs import OPERATING_POINTS, choose_head, load_run, stored_bias
from spans import JoinedText
from store import SPLITS
from tagging import Tagged, Tagger, all_scores, calibrated, span_scores, spans_of
from untrusted import inside, read_json

LARGEST_BIAS = 32.0  # on the logit of O: more than any head's margins
BIAS_STEP = 0.03
CURVE_BIASES = (-4.0, -2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)  # of the page: below 0 finds less


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    with Processes.join(arguments.device) as processes:
        evaluate_run(arguments, processes)


def evaluate_run(arguments: argparse.Namespace, processes: Processes) -> None:
    if arguments.show_text and not arguments.html:
        raise UserError("--show-text is for the page: name its file with --html")
    data = PIITokenDataset(arguments.data, arguments.split)
    if not len(data):
        raise UserError(f"{arguments.data} has no {arguments.split} rows: choose another --split")
    label_map = label_map_of(arguments.label_map, data.labels)
    tagger, config = load_run(arguments.run, processes.device, arguments.head, arguments.backbone)
    if config["tokenizer"]["sha256"] != data.meta["tokenizer"]["sha256"]:
        raise UserError(f"{arguments.data} was tokenised with another tokenizer than {arguments.run}: run prepare.py")
    head = choose_head(config, arguments.run, arguments.head)
    (scores,) = read_scores([tagger], data, config["max_length"], processes)
    if processes.rank:
        return

    def judge_at(bias: float) -> Judged:
        tagged = tagger.decode(scores, np.diff(data.split.example_offsets), bias)
        return judge(data, tagged, config["labels"], label_map)

    started = time.perf_counter()
    judged = judge_at(0.0)
    report = {
        "run": str(arguments.run),
        "head": head,
        "data": str(arguments.data),
        "split": arguments.split,
        **figures_of(judged, config["labels"], tagger.calibration),
    }
    tell(report, arguments)
    print(f"scored in {time.perf_counter() - started:.1f} s")

    def point_at(bias: float) -> dict:
        return operating_point(bias, judge_at(bias).documents, len(judged.labels))

    points = []
    if arguments.target_recall:
        points = operating_points(arguments.target_recall, point_at)
        print_operating_points(points)
        store_operating_point(arguments.run, head, arguments.target_recall, points[-1])
    if arguments.html:
        chosen = points[-1]["bias"] if points else stored_bias_or_none(arguments.run, head)
        points = curve(points, chosen, point_at)
        text = data if arguments.show_text else None
        write_report_page(arguments.html, report, judged.documents, points, chosen, text)
        print(f"wrote {arguments.html}")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/default"), help="run folder")
    parser.add_argument("--data", type=Path, default=Path("data/prepared"), help="prepared folder")
    parser.add_argument("--split", choices=SPLITS, default="validation")
    parser.add_argument("--head", help="which head of the run (the one that was best on validation in training)")
    parser.add_argument("--backbone", help="where the run's backbone is now (default: where it was in training)")
    parser.add_argument("--label-map", type=Path, help="JSON: data label to run label, or null to leave it out")
    parser.add_argument("--errors", action="store_true", help="tell the kinds of errors by label")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--html", type=Path, help="write a page for a browser to this file: figures, charts, errors")
    parser.add_argument("--show-text", action="store_true", help="let the page show the text around each error")
    parser.add_argument(
        "--target-recall", type=fraction, help="store the bias on O at which this share of PII characters is covered"
    )
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, mps, cpu")
    return parser.parse_args(argv)


def label_map_of(path: Path | None, labels: list[str]) -> dict[str, str]:
    """Data label → label to judge it by, `O` for those left out. Labels the file does not name stay as they are."""
    given = read_label_map(path) if path else {}
    return {label: OUTSIDE if label == OUTSIDE else given.get(label, label) for label in labels}


def read_scores(
    taggers: Sequence[Tagger], data: PIITokenDataset, max_length: int, processes: Processes
) -> list[np.ndarray]:
    """Each tagger's scores of every token of the split: [tokens, tags] float32. The processes share the rows."""
    windows = make_windows(data.split.example_offsets, max_length)
    shares = [windows[windows.row % processes.world == rank] for rank in range(processes.world)]
    own, token_ids = shares[processes.rank], data.split.tokens["token_ids"]
    progress = {"total": int(own.scored_counts.sum()), "unit": " tok", "unit_scale": True, "desc": "evaluate"}
    with tqdm(**progress, disable=None if processes.rank == 0 else True) as bar:
        scores = all_scores(taggers, token_ids, own, bar.update)
    if processes.world == 1:
        return scores
    counts = [int(share.scored_counts.sum()) for share in shares]
    whole = []
    for part in scores:
        joined = np.empty((len(token_ids), part.shape[1]), part.dtype)
        for share, gathered in zip(shares, processes.gather(part, counts), strict=True):
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
    data: PIITokenDataset,
    tagged: Tagged,
    run_labels: list[str],
    label_map: dict[str, str],
    rows: np.ndarray | None = None,
) -> Judged:
    """Gold and predictions in one label set: O, then all labels of the run and of the mapped data, sorted. `tagged`
    is of all rows, or of those with these indices."""
    labels = [OUTSIDE, *sorted({*run_labels, *label_map.values()} - {OUTSIDE})]
    new_id = {label: i for i, label in enumerate(labels)}
    of_data = np.array([new_id[label_map[label]] for label in data.labels])
    of_run = np.array([new_id[label] for label in run_labels])

    rows = data.split.rows(np.arange(len(data)) if rows is None else rows)
    text = JoinedText.of(rows.texts())
    tagged = tagged._replace(label_ids=of_run[tagged.label_ids])
    char_starts, char_ends = (rows.tokens[name].astype(np.int64) for name in ("char_starts", "char_ends"))
    predicted, predicted_counts = spans_of(text, rows.token_counts, char_starts, char_ends, tagged)
    scores, _ = span_scores(text, rows.token_counts, char_starts, char_ends, tagged, predicted, predicted_counts)
    gold = rows.spans.copy()
    gold[:, 2] = of_data[gold[:, 2]]
    kept = gold[:, 2] != new_id[OUTSIDE]
    document = np.repeat(np.arange(len(rows.languages)), rows.span_counts)
    documents = metrics.Documents(
        languages=rows.languages,
        lengths=np.diff(text.starts),
        gold=gold[kept],
        gold_counts=np.bincount(document[kept], minlength=len(rows.languages)),
        predicted=predicted,
        predicted_counts=predicted_counts,
        gold_tags=of_data[rows.tokens["label_ids"]],
        predicted_tags=tagged.label_ids,
        token_counts=rows.token_counts,
    )
    return Judged(documents, labels, char_starts, char_ends, scores)


def judge_own(data: PIITokenDataset, tagged: Tagged, rows: np.ndarray | None = None) -> tuple[Judged, dict]:
    """`judge` where the head was trained on the data's labels, and its figures without intervals."""
    judged = judge(data, tagged, data.labels, label_map_of(None, data.labels), rows)
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


def stored_bias_or_none(run: Path, head: str) -> float | None:
    try:
        return stored_bias(run, head)
    except UserError:
        return None


def store_operating_point(run: Path, head: str, target_recall: float, point: dict) -> None:
    """Keep the point in the run folder, for predict.py --target-recall; other heads' points stay."""
    path = run / OPERATING_POINTS
    try:
        stored = read_json(inside(run, OPERATING_POINTS))
    except (OSError, ValueError):
        stored = {}
    kept = stored if isinstance(stored, dict) else {}  # what someone else wrote there may be anything
    write_json(path, kept | {head: {"target_recall": target_recall, **point}})
    print(f"stored in {path}: use it with predict.py --target-recall")


def print_operating_points(points: list[dict]) -> None:
    print(f"\n{'bias on O':>9}{'recall':>9}{'leakage':>9}   strict{'F1':>8}{'precision':>11}{'recall':>9}")
    for entry in points:
        strict = f"{entry['strict_f1']:>17.3f}{entry['strict_precision']:>11.3f}{entry['strict_recall']:>9.3f}"
        print(f"{entry['bias']:>9.3f}{entry['recall']:>9.4f}{entry['leakage']:>9.4f}{strict}")


def tell(report: dict, arguments: argparse.Namespace) -> None:
    if arguments.json:
        write_json(arguments.json, report)
    print_report(report)
    if arguments.errors:
        errors.print_errors(report["errors"])


def print_report(report: dict) -> None:
    """The figures as tables of at most 80 columns."""
    print(f"\n{'label':<22}{'strict F1':>10}{'precision':>11}{'recall':>9}{'gold':>8}{'predicted':>11}{'leak':>8}")
    for label, entry in report["per_label"].items():
        print_row(label, entry)
    for language, entry in report["per_language"].items():
        print_row(f"({language})", entry)
    print_row("all, micro", report)

    print(f"\n{'':<22}{'precision':>10}{'recall':>9}{'F1':>8}{'95% interval':>18}{'macro F1':>10}")
    for name in (*metrics.SCHEMES, "token"):
        entry = report[name]
        low, high = entry["interval"]["f1"]
        macro = f"{entry['macro']['f1']:>10.3f}" if "macro" in entry else ""
        kind = "span " if name in metrics.SCHEMES else ""
        print(
            f"{kind + name:<22}{entry['precision']:>10.3f}{entry['recall']:>9.3f}{entry['f1']:>8.3f}"
            f"{f'{low:.3f} to {high:.3f}':>18}{macro}"
        )
    low, high = report["leakage_interval"]
    print(f"leakage {report['leakage']:.3f} ({low:.3f} to {high:.3f}): the share of gold PII characters left uncovered")
    print(f"token accuracy {report['token']['accuracy']:.3f}, {report['documents']} documents")
    print(f"calibration error of span scores {report['calibration']['ece']:.3f}")
    print_confusions(report["confusion"])
    if report["unknown_labels"]:
        print(f"labels the run does not know, counted as misses: {', '.join(report['unknown_labels'])}")


def print_row(name: str, entry: dict) -> None:
    strict = entry["strict"]
    print(
        f"{short(name):<22}{strict['f1']:>10.3f}{strict['precision']:>11.3f}{strict['recall']:>9.3f}"
        f"{entry['gold']:>8}{entry['predicted']:>11}{entry['leakage']:>8.3f}"
    )


def print_confusions(table: dict, most: int = 8) -> None:
    found = commonest_confusions(table)[:most]
    print("commonest token confusions, gold > predicted:" if found else "no token confusions")
    for count, gold, predicted in found:
        print(f"{count:>8}  {short(gold)} > {short(predicted)}")


if __name__ == "__main__":
    run(main)
