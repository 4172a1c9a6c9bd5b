"""The whole pipeline on synthetic rows, from nothing to a measured F1: what `make demo` runs."""

import argparse
import json
import os
import re
import sys
import textwrap
from pathlib import Path

import pii  # noqa: F401 (before torch: it says how threads wait)

# isort: split
from pii.common import Parser, positive_int, run, run_command
from pii.decoder.int8 import fastest_precision
from pii.device import choose_device, set_threads
from pii.outputs import check_output
from pii.redaction.redactor import Redactor

ROOT = Path(__file__).resolve().parent
BACKBONE = "backbones/smollm2-tekken"
DATA, RUN = "data/demo", "runs/demo"
LEARNING_RATE = 1e-2  # of the documented head: its 1e-5 wants 2,600 steps and more; the demo has 50
LETTERS = (
    "Dear Ms. Holloway, your order left our warehouse on 14 March 2024. Please pay £48.90 to GB29NWBK60161331926819, "
    "or call 020 7946 0018. Regards, Daniel Whitfield",
    "Bonjour Mme Lefèvre, votre rendez-vous du 3 juin 2024 aura lieu au 12 rue des Lilas, 69003 Lyon. Écrivez-moi à "
    "camille.moreau@exemple.fr ou appelez le 06 12 34 56 78. Camille Moreau",
)
STRONG_EPOCHS = 6  # of the strong head, on features that the first epoch computed


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    for place in (DATA, RUN, BACKBONE):
        check_output(ROOT / place / "any")
    set_threads()
    precision, why = fastest_precision(choose_device("auto"))
    print(f"precision of the backbone: {precision} ({why})")
    seconds = {command.split(".py")[0]: run_command(command, ROOT) for command in commands(arguments.rows, precision)}
    report, summary = (
        json.loads((ROOT / RUN / f"{name}.json").read_text("utf-8")) for name in ("evaluation", "summary")
    )
    print_results(report, summary["validation"], seconds)
    print_letters(Redactor(ROOT / RUN))


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("--rows", type=positive_int, default=2000, help="synthetic rows (2000)")
    return parser.parse_args(argv)


def commands(rows: int, precision: str) -> list[str]:
    """Each stage as a newcomer would type it."""
    return [
        f"synthesize.py --rows {rows} --style own --output {DATA}/rows.jsonl",
        f"prepare.py --input {DATA}/rows.jsonl --output {DATA}/prepared",
        f"check_dataset.py --data {DATA}/prepared --sample 3",
        f"standin.py --output {BACKBONE}",
        f"train.py --data {DATA}/prepared --backbone {BACKBONE} --output {RUN} --batch-size 12 "
        f"--learning-rate {LEARNING_RATE} --heads documented strong --strong-epochs {STRONG_EPOCHS} "
        f"--precision {precision}",
        f"evaluate.py --run {RUN} --data {DATA}/prepared --errors --json {RUN}/evaluation.json",
    ]


def print_letters(redactor: Redactor) -> None:
    """Two letters and what the head that was just trained makes of them; labels stand out on a terminal."""
    mark = "\033[7m{}\033[0m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else "{}"
    print("\ntwo letters, redacted by the head that was just trained:")
    for letter, redacted in zip(LETTERS, redactor.redact(LETTERS), strict=True):
        before, after = textwrap.fill(letter, 100), textwrap.fill(redacted, 100)
        print(f"\n{before}\n\n" + re.sub(r"\[[A-Z0-9]+\]", lambda label: mark.format(label[0]), after))


def print_results(report: dict, heads: dict[str, dict], seconds: dict[str, float]) -> None:
    print(f"\n{'label':<22}{'strict F1':>10}   ({report['head']} head)")
    for label, entry in report["per_label"].items():
        print(f"{label:<22}{entry['strict']['f1']:>10.3f}")
    print(f"\n{'head':<22}{'strict F1':>10}{'token F1':>10}{'leakage':>10}")
    for name, figures in heads.items():
        print(f"{name:<22}{figures['strict']:>10.3f}{figures['token']:>10.3f}{figures['leakage']:>10.3f}")
    print("\nstage                    seconds")
    for stage, value in (seconds | {"all": sum(seconds.values())}).items():
        print(f"{stage:<22}{value:>10.1f}")
    print(
        f"""
This was a small backbone, few synthetic rows and a learning rate to suit them ({LEARNING_RATE}; the documented 1e-5
never leaves the floor in so few steps). What the figures show is that the pipeline works and how far apart the two
heads are, not how good Ministral-8B is. Next, on a machine with a GPU:

  python prepare.py                       # ai4privacy/pii-masking-200k, English and French
  python train.py --batch-size 12 --heads documented strong
  python evaluate.py --run runs/default
  python check_dataset.py --sample"""
    )


if __name__ == "__main__":
    run(main)
