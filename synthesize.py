"""Make raw English and French rows with synthetic PII of all 56 types: `python synthesize.py --rows 2000`.

A row is one whole skeleton of skeletons/en.txt or skeletons/fr.txt: `{TYPE}` becomes a labelled value, `{###}` digits
without a label. All values of a row come from one locale; spans are counted while the text grows, never searched.
"""

import argparse
import contextlib
import gzip
import io
import json
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from pii.common import Parser, UserError, positive_int, run, seed
from pii.inputs import is_gzip
from pii.outputs import atomic_path
from pii.synthetic.sentences import STYLES, synthesize


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    started = time.perf_counter()
    try:
        labels = write_rows(synthesize(arguments.rows, arguments.seed, arguments.style), arguments.output)
        size = arguments.output.stat().st_size
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}; give --output a place that can be written") from None
    counts = f"{arguments.rows:,} rows with {labels.total():,} spans of {len(labels)} types"
    print(f"{arguments.output}: {counts}, {size / 1e6:.1f} MB in {time.perf_counter() - started:.1f} s")
    print(f"next: python prepare.py --input {arguments.output}")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description="Make raw rows with synthetic PII of all 56 types.")
    parser.add_argument("--rows", type=positive_int, default=2000, help="how many, half of them French (%(default)s)")
    parser.add_argument(
        "--style",
        choices=STYLES,
        default="mixed",
        help="own: as people write; documents: everyday English, French hospitals; target: as ai4privacy's rows are; "
        "mixed: a tenth documents, the rest half own, half target (%(default)s)",
    )
    parser.add_argument("--seed", type=seed, default=0, help="the same seed gives the same bytes (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("data/raw/synthetic.jsonl"), help=".jsonl or .jsonl.gz")
    arguments = parser.parse_args(argv)
    if arguments.output.is_dir():
        raise UserError(f"{arguments.output} is a folder; give --output the name of a file")
    return arguments


def write_rows(rows: Iterable[dict], path: Path) -> Counter[str]:
    """Write JSON Lines and return how many spans of each label they hold."""
    labels: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        file: io.BufferedIOBase = stack.enter_context(stack.enter_context(atomic_path(path)).open("wb"))
        if is_gzip(path.name):  # without name and time, so that the same rows are the same bytes
            file = stack.enter_context(gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0))
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            labels.update(label for _, _, label in row["span_labels"])
    return labels


if __name__ == "__main__":
    run(main)
