"""A run judged on raw rows that it was not trained on, a line a file: `python judge.py my_rows/*.jsonl`."""

import argparse
import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import prepare
from pii.bench.peers import Finder, character_figures, presidio, spans_by_text
from pii.common import Parser, UserError, fraction, run
from pii.corpus.store import PreparedSplit
from pii.decoder.ready import default_run
from pii.device import choose_device
from pii.heads.tagging import Tagger
from pii.outputs import check_output, write_json
from pii.processes import Processes
from pii.redaction.rules.effects import SplitRules
from pii.redaction.rules.rules import MODES, check_mode
from pii.scoring.judge import Judged, figures_of, judge, label_map_of, read_scores
from pii.scoring.metrics import Documents, character_precision
from pii.training.run_config import choose_head, stored_bias
from pii.training.runs import load_run

COLUMNS = ("strict", "token", "exact", "leakage", "precision")


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    check_output(arguments.json)
    check_mode(arguments.rules)
    run_folder = arguments.run or default_run()
    tagger, config = load_run(run_folder, choose_device(arguments.device), arguments.head, arguments.backbone)
    head = choose_head(config, run_folder, arguments.head)
    biases = {"": 0.0} | {
        f", recall {recall:g}": stored_bias(run_folder, head, recall) for recall in arguments.target_recall
    }
    peers = presidio() if arguments.peers else {}
    print(f"{head} head of {run_folder}, rules: {arguments.rules}\n")
    print(f"{'rows of':<36}{'rows':>6}" + "".join(f"{name:>11}" for name in COLUMNS))
    table = {}
    for file in arguments.files:
        for name, entry in judge_file(file, tagger, config, biases, peers, arguments):
            table[name] = entry
            print_row(name, entry)
    print("\nstrict, token, exact: F1 (exact: borders alone); leakage: share of gold characters left uncovered;")
    print("precision: share of the covered characters that are gold. leakage, exact and precision know no labels")
    if arguments.json:
        write_json(arguments.json, table)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="raw rows in any form that prepare.py reads"
    )
    parser.add_argument("--run", type=Path, help="run folder (runs/default, and where there is none the ready head)")
    parser.add_argument("--head", help="which head of the run (the one that was best on validation in training)")
    parser.add_argument("--backbone", help="where the run's backbone is now (default: where it was in training)")
    parser.add_argument(
        "--maps", type=Path, default=Path("docs/maps"), help="folder of label maps: STEM.json is that of STEM.jsonl"
    )
    parser.add_argument("--rules", choices=MODES, default="none", help="judge with predict.py's rules (none)")
    what = "judge at these stored operating points too, as predict.py --target-recall uses them"
    parser.add_argument("--target-recall", type=fraction, nargs="+", default=[], metavar="RECALL", help=what)
    parser.add_argument("--peers", action="store_true", help="judge presidio-analyzer beside it, where it is installed")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, mps, cpu")
    return parser.parse_args(argv)


def judge_file(
    file: Path,
    tagger: Tagger,
    config: dict,
    biases: dict[str, float],
    peers: dict[str, Finder],
    arguments: argparse.Namespace,
) -> Iterator[tuple[str, dict]]:
    """The file's name, with an addition for each bias and peer, and its figures."""
    with prepared(file) as split:
        label_map = label_map_of(map_of(file, arguments.maps), split.labels, quiet=True)
        alone = Processes(0, 1, tagger.reader.device)
        (scores,) = read_scores([tagger], split, config["max_length"], alone)
        rules = SplitRules(split, arguments.rules)
        for addition, bias in biases.items():
            tagged = tagger.decode(scores, np.diff(split.example_offsets), bias)
            judged = rules.add_to(judge(split, tagged, config["labels"], label_map, widened=True))
            yield file.stem + addition, entry_of(judged, figures_of(judged, config["labels"], tagger.calibration))
        for name, find in peers.items():
            if entry := judge_peer(find, split, judged.documents):
                yield f"{file.stem}, {name}", entry


def entry_of(judged: Judged, figures: dict) -> dict:
    """What is printed of a file, and strict F1 by language."""
    return {
        "rows": len(judged.documents.lengths),
        **{name: figures[name]["f1"] for name in ("strict", "token", "exact")},
        "leakage": figures["leakage"],
        "precision": character_precision(judged.documents),
        "per_language": {name: entry["strict"]["f1"] for name, entry in figures["per_language"].items()},
    }


def judge_peer(find: Finder, split: PreparedSplit, documents: Documents) -> dict | None:
    """Leakage and precision of another program's spans on the same gold; None where it lacks a language."""
    rows = split.row_range(0, len(split))
    texts, languages = rows.texts(), rows.languages
    found: list[list[tuple[int, int]]] = [[] for _ in texts]
    try:
        for language in np.unique(languages):
            chosen = np.flatnonzero(languages == language)
            for i, spans in zip(chosen, find([texts[i] for i in chosen], str(language)), strict=True):
                found[i] = [(span.start, span.end) for span in spans]
    except LookupError as error:
        print(error.args[0])
        return None
    gold = spans_by_text(documents.gold, documents.gold_counts)
    leakage, precision = character_figures(texts, gold, found)
    return {"rows": len(texts), "leakage": leakage, "precision": precision}


@contextlib.contextmanager
def prepared(file: Path) -> Iterator[PreparedSplit]:
    """The rows of a file as prepared data in a folder of its own, for as long as they are read."""
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(io.StringIO()):  # the statistics of prepare.py are not asked for
            all_to_judge = ["--validation-fraction", "1", "--max-rejected", "1"]
            prepare.main(["--input", str(file), "--output", f"{folder}/rows", *all_to_judge])
        split = PreparedSplit(Path(folder) / "rows", "validation")
        if not len(split):
            raise UserError(f"{file} has no rows that can be read: python prepare.py --input {file} says why")
        yield split


def map_of(file: Path, folder: Path) -> Path | None:
    path = folder / f"{file.stem}.json"
    return path if path.exists() else None


def print_row(name: str, entry: dict) -> None:
    figures = "".join(f"{entry[column]:>11.3f}" if column in entry else f"{'-':>11}" for column in COLUMNS)
    languages = ", ".join(f"{language} {f1:.3f}" for language, f1 in entry.get("per_language", {}).items())
    print(f"{name:<36}{entry['rows']:>6}{figures}   {languages}".rstrip(), flush=True)


if __name__ == "__main__":
    run(main)
