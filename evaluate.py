"""Token and span metrics of a run on prepared data: what it finds, what it invents, and what leaks."""

import argparse
import time
from pathlib import Path

import numpy as np

from pii.common import Parser, UserError, fraction, path_text, run
from pii.corpus.label_maps.maps import SETS, label_map_path
from pii.corpus.store import SPLITS, PreparedSplit
from pii.heads.heads import PLAIN
from pii.outputs import check_output, write_json
from pii.pages.report_page import commonest_confusions, write_report_page
from pii.processes import Processes
from pii.redaction.rules.effects import SplitRules, rule_effects
from pii.redaction.rules.rules import MODES, check_mode
from pii.scoring import errors, metrics
from pii.scoring.errors import short
from pii.scoring.judge import (
    Judged,
    curve,
    figures_of,
    judge,
    label_map_of,
    operating_point,
    operating_points,
    read_scores,
)
from pii.training.run_config import OPERATING_POINTS, choose_head, stored_bias
from pii.training.runs import load_run
from pii.untrusted import read_json, safe_join


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    with Processes.join(arguments.device) as processes:
        evaluate_run(arguments, processes)


def evaluate_run(arguments: argparse.Namespace, processes: Processes) -> None:
    check_mode(arguments.rules)
    if arguments.show_text and not arguments.html:
        raise UserError("--show-text is for the page: name its file with --html")
    if processes.rank == 0:
        check_outputs(arguments)
    split = PreparedSplit(arguments.data, arguments.split)
    if not len(split):
        raise UserError(f"{arguments.data} has no {arguments.split} rows: choose another --split")
    label_map = label_map_of(arguments.label_map, split.labels, quiet=processes.rank > 0)
    tagger, config = load_run(arguments.run, processes.device, arguments.head, arguments.backbone)
    if config["tokenizer"]["sha256"] != split.meta["tokenizer"]["sha256"]:
        raise UserError(f"{arguments.data} was tokenised with another tokenizer than {arguments.run}: run prepare.py")
    head = choose_head(config, arguments.run, arguments.head)
    (scores,) = read_scores([tagger], split, config["max_length"], processes)
    if processes.rank:
        return

    def judge_model(bias: float) -> Judged:
        tagged = tagger.decode(scores, np.diff(split.example_offsets), bias)
        return judge(split, tagged, config["labels"], label_map, widened=arguments.whole_words)

    started = time.perf_counter()
    rules = SplitRules(split, arguments.rules)
    of_model = judge_model(0.0)
    judged = rules.add_to(of_model)
    in_whole_words = arguments.whole_words or config["heads"][head]["tags"] != PLAIN
    report = {
        "run": path_text(arguments.run),
        "head": head,
        "data": path_text(arguments.data),
        "split": arguments.split,
        "rules": arguments.rules,
        "spans": "whole words" if in_whole_words else "documented",
        **figures_of(judged, config["labels"], tagger.calibration),
    }
    tell(report, arguments)
    if arguments.rules != "none":
        print_rules(rule_effects(of_model, judged))
    print(f"scored in {time.perf_counter() - started:.1f} s")

    def point_at(bias: float) -> dict:
        return operating_point(bias, rules.add_to(judge_model(bias)).documents, len(judged.labels))

    points: list[dict] = []
    for target_recall in arguments.target_recall:
        points = operating_points(target_recall, point_at)
        print_operating_points(points)
        store_operating_point(arguments.run, head, target_recall, points[-1])
    if arguments.html:
        chosen = points[-1]["bias"] if points else stored_bias_or_none(arguments.run, head)
        points = curve(points, chosen, point_at)
        text = split if arguments.show_text else None
        write_report_page(arguments.html, report, judged.documents, points, chosen, text)
        print(f"wrote {arguments.html}")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/default"), help="run folder")
    parser.add_argument("--data", type=Path, default=Path("data/prepared"), help="prepared folder")
    parser.add_argument("--split", choices=SPLITS, default="validation")
    parser.add_argument("--head", help="which head of the run (the one that was best on validation in training)")
    parser.add_argument("--backbone", help="where the run's backbone is now (default: where it was in training)")
    what = "JSON: data label to run label, or null to leave it out; or " + ", ".join(SETS)
    parser.add_argument("--label-map", type=label_map_path, help=what)
    parser.add_argument(
        "--whole-words", action="store_true", help="judge spans as predict.py gives them (the strong head's always are)"
    )
    parser.add_argument(
        "--rules", choices=MODES, default="none", help="judge with predict.py's rules, and tell what they change (none)"
    )
    parser.add_argument("--errors", action="store_true", help="tell the kinds of errors by label")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--html", type=Path, help="write a page for a browser to this file: figures, charts, errors")
    parser.add_argument("--show-text", action="store_true", help="let the page show the text around each error")
    what = "store the bias on O at which this share of PII characters is covered; of several, the last is the latest"
    parser.add_argument("--target-recall", type=fraction, nargs="+", default=[], metavar="RECALL", help=what)
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, mps, cpu")
    return parser.parse_args(argv)


def check_outputs(arguments: argparse.Namespace) -> None:
    """Raise UserError or OSError where what is to be measured could not be written."""
    if arguments.json and arguments.html and arguments.json.resolve() == arguments.html.resolve():
        raise UserError("--json and --html: each needs a file of its own")
    check_output(arguments.json)
    check_output(arguments.html)
    if arguments.target_recall and arguments.run.is_dir():
        check_output(arguments.run / OPERATING_POINTS)


def stored_bias_or_none(run: Path, head: str) -> float | None:
    try:
        return stored_bias(run, head)
    except UserError:
        return None


def store_operating_point(run: Path, head: str, target_recall: float, point: dict) -> None:
    """Keep the point in the run folder, for predict.py --target-recall, as the latest; other points stay."""
    path = run / OPERATING_POINTS
    try:
        stored = read_json(safe_join(run, OPERATING_POINTS))
    except (OSError, ValueError):
        stored = {}
    stored = stored if isinstance(stored, dict) else {}  # what someone else wrote there may be anything
    points = stored.get(head)
    points = points if isinstance(points, dict) else {}
    points.pop(str(target_recall), None)  # its new place is behind the others
    write_json(path, stored | {head: points | {str(target_recall): point}})
    print(f"stored in {path}: use it with predict.py --target-recall {target_recall}")


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
    if report["spans"] == "documented":
        print("spans as documented; predict.py widens them to whole words: --whole-words")
    print(f"token accuracy {report['token']['accuracy']:.3f}, {report['documents']} documents")
    print(f"calibration error of span scores {report['calibration']['ece']:.3f}")
    print_confusions(report["confusion"])
    if report["unknown_labels"]:
        print(f"labels the run does not know, counted as misses: {', '.join(report['unknown_labels'])}")


def print_rules(effects: dict[str, dict]) -> None:
    """What the rules add and cost, by label: the same figures without them and with them."""
    print(f"\n{'with rules':<22}{'found':>7}{'right':>7}{'strict F1':>16}{'leak':>16}{'invented':>12}")
    for label, entry in effects.items():
        strict, leak = (f"{before:.3f} > {after:.3f}" for before, after in (entry["strict_f1"], entry["leakage"]))
        invented = "{} > {}".format(*entry["invented"])
        print(f"{short(label):<22}{entry['found']:>7}{entry['right']:>7}{strict:>16}{leak:>16}{invented:>12}")


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
