"""Token and span metrics of a run on prepared data: what it finds, what it invents, and what leaks."""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

import metrics
from common import Parser, UserError, atomic_path, run
from dataset import PIITokenDataset, make_windows
from model import DOCUMENTED, MinistralTokenClassifier, choose_device, load_run, predict_tokens
from rows import OUTSIDE, read_label_map
from spans import JoinedText, spans_of_tags
from store import SPLITS


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    data = PIITokenDataset(arguments.data, arguments.split)
    if not len(data):
        raise UserError(f"{arguments.data} has no {arguments.split} rows: choose another --split")
    label_map = label_map_of(arguments.label_map, data.labels)
    model, config = load_run(arguments.run, choose_device(arguments.device), arguments.head)
    if config["tokenizer"]["sha256"] != data.meta["tokenizer"]["sha256"]:
        raise UserError(f"{arguments.data} was tokenised with another tokenizer than {arguments.run}: run prepare.py")

    predicted = predict_tags(model, data, config["max_length"])
    started = time.perf_counter()
    documents, labels = as_documents(data, predicted, config["labels"], label_map)
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


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/default"), help="run folder")
    parser.add_argument("--data", type=Path, default=Path("data/prepared"), help="prepared folder")
    parser.add_argument("--split", choices=SPLITS, default="validation")
    parser.add_argument("--head", default=DOCUMENTED, help=f"which head of the run ({DOCUMENTED})")
    parser.add_argument("--label-map", type=Path, help="JSON: data label to run label, or null to leave it out")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, mps, cpu")
    return parser.parse_args(argv)


def label_map_of(path: Path | None, labels: list[str]) -> dict[str, str]:
    """Data label → label to judge it by, `O` for those left out. Labels the file does not name stay as they are."""
    given = read_label_map(path) if path else {}
    return {label: OUTSIDE if label == OUTSIDE else given.get(label, label) for label in labels}


def predict_tags(model: MinistralTokenClassifier, data: PIITokenDataset, max_length: int) -> np.ndarray:
    """The likeliest label id of every token of the split, [tokens] int64, in the run's label set."""
    token_ids = data.split.tokens["token_ids"]
    windows = make_windows(data.split.example_offsets, max_length)
    with tqdm(total=len(token_ids), unit=" tok", unit_scale=True, desc="evaluate", disable=None) as bar:
        return predict_tokens(model, token_ids, windows, bar.update).tags()


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
