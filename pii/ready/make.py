"""Make the ready head again: `python -m pii.ready.make` in a clone, two hours or more. CARD.md tells of it."""

import argparse
import json
import shutil
from pathlib import Path

from pii.common import Parser, positive_int, run, run_command
from pii.decoder.ready import READY
from pii.heads.heads import STRONG
from pii.outputs import check_output, write_json
from pii.training.run_config import CONFIG, OPERATING_POINTS, read_config

ROOT = Path(__file__).resolve().parents[2]  # of the clone, where the commands are
DATA, RUN, BACKBONE = "data/ready", "runs/ready", "backbones/smollm2-tekken"
ROWS = 104_958  # as many as pii-masking-200k has in English and French
EPOCHS = 4
LAYERS = "4 8 14 20"  # better than without the first one (docs/accuracy.md)
TARGET_RECALLS = "0.95 0.98 0.99"  # the last one is what --target-recall without a number takes


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    for place in (DATA, RUN, BACKBONE):
        check_output(ROOT / place / "any")
    for command in commands(arguments.rows):
        run_command(command, ROOT)
    publish(ROOT / RUN, READY)
    print(f"wrote {READY}")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--rows", type=positive_int, default=ROWS, help="synthetic rows, a tenth of them for validation (%(default)s)"
    )
    return parser.parse_args(argv)


def commands(rows: int) -> list[str]:
    """Rows, one training on them, and operating points on the sentences that it has not seen."""
    return [
        f"standin.py --output {BACKBONE}",
        f"synthesize.py --rows {rows} --output {DATA}/mixed.jsonl",
        f"prepare.py --input {DATA}/mixed.jsonl --output {DATA}/prepared",
        f"train.py --data {DATA}/prepared --backbone {BACKBONE} --output {RUN} --heads {STRONG} --batch-size 12 "
        f"--layers {LAYERS} --epochs {EPOCHS}",
        f"evaluate.py --run {RUN} --data {DATA}/prepared --target-recall {TARGET_RECALLS} --json {RUN}/evaluation.json",
    ]


def publish(run_folder: Path, ready: Path) -> None:
    """What is needed of a run to use its strong head, without the paths of this machine."""
    config = read_config(run_folder)
    config["backbone"].pop("folder")
    config["heads"] = {STRONG: config["heads"][STRONG]}
    (ready / STRONG).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run_folder / STRONG / "head.safetensors", ready / STRONG / "head.safetensors")
    points = json.loads((run_folder / OPERATING_POINTS).read_text("utf-8"))
    write_json(ready / OPERATING_POINTS, {STRONG: points[STRONG]})
    write_json(ready / CONFIG, config)


if __name__ == "__main__":
    run(main)
