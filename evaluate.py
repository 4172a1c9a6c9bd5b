"""Token and span metrics of a run on prepared data: what it finds, what it invents, and what leaks."""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

import metrics
from common import Parser, UserError, atomic_path, fraction, run
from dataset import PIITokenDataset, make_windows
from model import (
    DOCUMENTED,
    OPERATING_POINTS,
    MinistralTokenClassifier,
    TokenPredictions,
    choose_device,
    load_run,
    predict_tokens,
)
from rows import OUTSIDE, read_label_map
from spans import JoinedText, spans_of_tags
from store import SPLITS

LARGEST_BIAS = 32.0  # on the logit of O: more than any head's margins
BIAS_STEP = 0.03


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    data = PIITokenDataset(arguments.data, arguments.split)
    if not len(data):
        raise UserError(f"{arguments.data} has no {arguments.split} rows: choose another --split")
    label_map = label_map_of(arguments.label_map, data.labels)
    model, config = load_run(arguments.run, choose_device(arguments.device), arguments.head, arguments.backbone)
    if config["tokenizer"]["sha256"] != data.meta["tokenizer"]["sha256"]:
        raise UserError(f"{arguments.data} was tokenised with another tokenizer than {arguments.run}: run prepare.py")

    predictions = predict(model, data, config["max_length"])
    started = time.perf_counter()
    documents, labels = as_documents(data, predictions.tags(), config["labels"], label_map)
    report = {
        "run": str(arguments.run),
        "head": arguments.head,
        "data": str(arguments.data),
        "split": arguments.split,
        "unknown_labels": unknown_labels(documents, labels, config["labels"]),
        **metrics.score(documents, labels),
    }
    if arguments.json:
        with atomic_path(arguments.json) as path:
            path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print_report(report)
    print(f"scored in {time.perf_counter() - started:.1f} s")
    if arguments.target_recall:
        points = operating_points(
            arguments.target_recall,
            lambda bias: as_documents(data, predictions.tags(bias), config["labels"], label_map)[0],
            len(labels),
        )
        print_operating_points(points)
        store_operating_point(arguments.run, arguments.head, arguments.target_recall, points[-1])


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/default"), help="run folder")
    parser.add_argument("--data", type=Path, default=Path("data/prepared"), help="prepared folder")
    parser.add_argument("--split", choices=SPLITS, default="validation")
    parser.add_argument("--head", default=DOCUMENTED, help=f"which head of the run ({DOCUMENTED})")
    parser.add_argument("--backbone", help="where the run's backbone is now (default: where it was in training)")
    parser.add_argument("--label-map", type=Path, help="JSON: data label to run label, or null to leave it out")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument(
        "--target-recall", type=fraction, help="store the bias on O at which this share of PII characters is covered"
    )
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, mps, cpu")
    return parser.parse_args(argv)


def label_map_of(path: Path | None, labels: list[str]) -> dict[str, str]:
    """Data label → label to judge it by, `O` for those left out. Labels the file does not name stay as they are."""
    given = read_label_map(path) if path else {}
    return {label: OUTSIDE if label == OUTSIDE else given.get(label, label) for label in labels}


def predict(model: MinistralTokenClassifier, data: PIITokenDataset, max_length: int) -> TokenPredictions:
    """Predictions for every token of the split, in the run's label set."""
    token_ids = data.split.tokens["token_ids"]
    windows = make_windows(data.split.example_offsets, max_length)
    with tqdm(total=len(token_ids), unit=" tok", unit_scale=True, desc="evaluate", disable=None) as bar:
        return predict_tokens(model, token_ids, windows, bar.update)


def as_documents(
    data: PIITokenDataset, predicted_tags: np.ndarray, run_labels: list[str], label_map: dict[str, str]
) -> tuple[metrics.Documents, list[str]]:
    """Gold and predictions in one label set: O, then all labels of the run and of the mapped data, sorted."""
    labels = [OUTSIDE, *sorted({*run_labels, *label_map.values()} - {OUTSIDE})]
    new_id = {label: i for i, label in enumerate(labels)}
    of_data = np.array([new_id[label_map[label]] for label in data.labels])
    of_run = np.array([new_id[label] for label in run_labels])

    rows = data.split.rows(np.arange(len(data)))
    text = JoinedText.of(rows.texts())
    columns = (rows.tokens["char_starts"], rows.tokens["char_ends"])
    predicted, predicted_counts = spans_of_tags(text, rows.token_counts, of_run[predicted_tags], *columns)
    gold = rows.spans.copy()
    gold[:, 2] = of_data[gold[:, 2]]
    kept = gold[:, 2] != new_id[OUTSIDE]
    document = np.repeat(np.arange(len(data)), rows.span_counts)
    return metrics.Documents(
        languages=rows.languages,
        lengths=np.diff(text.starts),
        gold=gold[kept],
        gold_counts=np.bincount(document[kept], minlength=len(data)),
        predicted=predicted,
        predicted_counts=predicted_counts,
        gold_tags=of_data[rows.tokens["label_ids"]],
        predicted_tags=of_run[predicted_tags],
        token_counts=rows.token_counts,
    ), labels


def unknown_labels(documents: metrics.Documents, labels: list[str], run_labels: list[str]) -> list[str]:
    """Labels of gold spans that the run cannot predict; they count as misses."""
    return [labels[i] for i in np.unique(documents.gold[:, 2]) if labels[i] not in run_labels]


def operating_points(
    target_recall: float, documents_at: Callable[[float], metrics.Documents], num_labels: int
) -> list[dict]:
    """Figures along the bias on O, up to the least one whose recall of PII characters reaches the target.

    A bias is taken off the logit of O. The more is taken off, the more tokens are covered: recall can only rise, so
    the least bias is found by bisection. Raises UserError where no bias reaches the target.
    """

    def point(bias: float) -> dict:
        counts, _ = metrics.count_spans(documents_at(bias), num_labels)
        figures = metrics.plain(metrics.figures({name: column.sum() for name, column in counts.items()}))
        strict = {f"strict_{name}": figures["strict"][name] for name in ("precision", "recall", "f1")}
        return {"bias": bias, "recall": 1 - figures["leakage"], "leakage": figures["leakage"], **strict}

    low, high = 0.0, LARGEST_BIAS
    points = [point(low)]
    if points[0]["recall"] >= target_recall:
        return points
    if (last := point(high))["recall"] < target_recall:
        raise UserError(f"no bias reaches a recall of {target_recall}: at {high} it is {last['recall']:.4f}", code=1)
    while high - low > BIAS_STEP:
        middle = (low + high) / 2
        points.append(point(middle))
        low, high = (low, middle) if points[-1]["recall"] >= target_recall else (middle, high)
    chosen = {entry["bias"]: entry for entry in [*points, point(high)] if entry["bias"] <= high}
    return [chosen[bias] for bias in sorted(chosen)]


def store_operating_point(run: Path, head: str, target_recall: float, point: dict) -> None:
    """Keep the point in the run folder, for predict.py --target-recall; other heads' points stay."""
    path = run / OPERATING_POINTS
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        stored = {}
    with atomic_path(path) as temporary:
        stored = stored | {head: {"target_recall": target_recall, **point}}
        temporary.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    print(f"stored in {path}: use it with predict.py --target-recall")


def print_operating_points(points: list[dict]) -> None:
    print(f"\n{'bias on O':>9}{'recall':>9}{'leakage':>9}   strict{'F1':>8}{'precision':>11}{'recall':>9}")
    for entry in points:
        strict = f"{entry['strict_f1']:>17.3f}{entry['strict_precision']:>11.3f}{entry['strict_recall']:>9.3f}"
        print(f"{entry['bias']:>9.3f}{entry['recall']:>9.4f}{entry['leakage']:>9.4f}{strict}")


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
    print_confusions(report["confusion"])
    if report["unknown_labels"]:
        print(f"labels the run does not know, counted as misses: {', '.join(report['unknown_labels'])}")


def short(name: str) -> str:
    """A label that fits its column."""
    return name if len(name) <= 21 else f"{name[:18]}..."


def print_row(name: str, entry: dict) -> None:
    strict = entry["strict"]
    print(
        f"{short(name):<22}{strict['f1']:>10.3f}{strict['precision']:>11.3f}{strict['recall']:>9.3f}"
        f"{entry['gold']:>8}{entry['predicted']:>11}{entry['leakage']:>8.3f}"
    )


def print_confusions(table: dict, most: int = 8) -> None:
    counts = np.array(table["counts"])
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:most]
    pairs = [(cell // len(counts), cell % len(counts)) for cell in order if counts.flat[cell]]
    print("commonest token confusions, gold > predicted:" if pairs else "no token confusions")
    for gold, predicted in pairs:
        print(f"{counts[gold, predicted]:>8}  {short(table['labels'][gold])} > {short(table['labels'][predicted])}")


if __name__ == "__main__":
    run(main)
