"""Check prepared data before it costs a training run, and show rows so that a person can see the spans."""

import argparse
import os
import sys
import textwrap
import unicodedata
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pii.common import Parser, UserError, positive_int, run
from pii.corpus import tekken
from pii.corpus.doubts.find import Doubt, find_doubts, find_more_doubts
from pii.corpus.invariants import check_split
from pii.corpus.roundtrip import Span, round_trip
from pii.corpus.statistics import print_statistics, statistics
from pii.corpus.store import SPLITS, PreparedSplit, Split, read_meta
from pii.outputs import check_output
from pii.pages.data_page import ROWS as PAGE_ROWS
from pii.pages.data_page import write_data_page

ORIGIN = (  # only prepare.py could count these
    "overlapping_spans_dropped",
    "blank_spans_dropped",
    "spans_widened_to_words",
    "rejected_rows",
)
COLOURS = (31, 32, 33, 34, 35, 36)  # of the terminal; a label keeps its own, and its name is always written
DIM = 2
MOST_ROWS = 100  # that are named for one reason


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    check_output(arguments.html)
    meta, splits = open_data(arguments.data)
    check_invariants(arguments.data, meta, splits)
    print(f"{arguments.data}: every invariant holds")

    ceiling, lost = round_trip(splits)
    figures = statistics(splits, len(meta["labels"]), arguments.max_length) | origin(meta)
    doubtful, doubts = find_doubts(splits, meta["labels"])
    figures |= {"alignment_ceiling": ceiling} | doubtful
    if arguments.doubts or arguments.html:
        doubts += find_more_doubts(splits, meta["labels"])
    print_statistics(figures)
    print_labels(splits, meta["labels"])
    print_doubts(doubts, counted=arguments.doubts)
    if arguments.doubts and not doubts:
        print("no row is in doubt")
    split = PreparedSplit(arguments.data, arguments.split)
    doubtful_rows = [doubt.rows for doubt in doubts if doubt.split == arguments.split]
    shown = chosen_rows(split, arguments, doubtful_rows if arguments.doubts else None)
    if arguments.label and not shown:
        print(f"none of these rows of {arguments.split} has a span of {arguments.label}")
    for index in shown if arguments.sample or arguments.index or not arguments.html else ():
        show_row(split, index, lost[arguments.split].get(index, ()))
    if arguments.html:
        write_data_page(arguments.html, splits, split, shown, lost[arguments.split], figures, doubts)
        print(f"\nwrote {arguments.html}: it holds the rows' text and is readable by you only")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data/prepared"), help="prepared folder")
    parser.add_argument("--split", choices=SPLITS, default="train", help="whose rows are shown (train)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--sample", type=positive_int, nargs="?", const=5, help="show so many rows, drawn at random (5)")
    which.add_argument("--index", type=int, nargs="+", help="show these rows")
    parser.add_argument("--label", help="show only rows with a span of this label")
    parser.add_argument("--doubts", action="store_true", help="name all rows to look at; show no others")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write statistics and rows as a page for a browser")
    parser.add_argument("--max-length", type=positive_int, default=96, help="for the statistics (96)")
    return parser.parse_args(argv)


def open_data(folder: Path) -> tuple[dict, dict[str, Split]]:
    """meta.json and the splits. Data that cannot be opened is broken (exit code 1), no data a mistake (2)."""
    if not (folder / "meta.json").exists():
        read_meta(folder)  # raises
    try:
        return read_meta(folder), {name: Split(folder / name) for name in SPLITS}
    except UserError as error:
        raise UserError(str(error), code=1) from None


def load_tokenizer(meta: dict) -> tekken.Tekken | None:
    """The tokenizer that made the data, or None, said aloud, where it is not at hand."""
    try:
        tokenizer = tekken.load()
    except ImportError as error:
        print(f"not checked: that the tokens rebuild the text ({error})")
        return None
    if tokenizer.describe()["sha256"] != meta["tokenizer"]["sha256"]:
        print("not checked: that the tokens rebuild the text (the data was made with another tokenizer file)")
        return None
    return tokenizer


def check_invariants(folder: Path, meta: dict, splits: dict[str, Split]) -> None:
    """Print each broken invariant with its rows. Raises UserError if there is one."""
    tokenizer = load_tokenizer(meta)
    broken: dict[str, set[int]] = {}
    for name, split in splits.items():
        for problem, row in check_split(split, meta, tokenizer):
            broken.setdefault(f"{name}: {problem}", set()).add(row)
    for problem, rows in broken.items():
        print(f"BROKEN {problem}: {len(rows)} rows, the first is row {min(rows)}")
    if broken:
        raise UserError(f"{folder} breaks {len(broken)} invariants: run prepare.py again", code=1)


def origin(meta: dict) -> dict:
    """The figures of meta.json that tell what became of the raw rows."""
    known = meta.get("statistics")
    return {name: known[name] for name in ORIGIN if name in known} if isinstance(known, dict) else {}


def print_labels(splits: dict[str, Split], labels: list[str]) -> None:
    counts = [np.bincount(split.spans[:, 2], minlength=len(labels)) for split in splits.values()]
    print(f"\n{'spans':<30}" + "".join(f"{name:>12}" for name in splits))
    for label, *numbers in list(zip(labels, *counts, strict=True))[1:]:
        print(f"{label:<30}" + "".join(f"{number:>12}" for number in numbers))


def print_doubts(doubts: Sequence[Doubt], counted: bool) -> None:
    """Name the rows that are sound and that one may doubt all the same, and how many; --index shows them."""
    for what, split, rows, places in doubts:
        named = ", ".join(map(str, rows[:MOST_ROWS]))
        more = f" and {len(rows) - MOST_ROWS} more" if len(rows) > MOST_ROWS else ""
        several = f" ({places} in {len(rows)} rows)" if counted else ""
        print(textwrap.fill(f"{split} rows with {what}{several}: {named}{more}", 80, subsequent_indent="  "))


def chosen_rows(
    split: PreparedSplit, arguments: argparse.Namespace, doubtful: Sequence[np.ndarray] | None = None
) -> list[int]:
    """The rows the user asked to see, of the `doubtful` ones where these are given; in a terminal none unless asked, on
    a page the first ones."""
    if arguments.label is not None and arguments.label not in split.labels[1:]:
        raise UserError(f"no label {arguments.label}: choose one of {', '.join(split.labels[1:])}")
    if arguments.index:
        if not len(split):
            raise UserError(f"{arguments.split} has no rows")
        if wrong := [i for i in arguments.index if not 0 <= i < len(split)]:
            raise UserError(f"no row {wrong[0]}: {arguments.split} has rows 0 to {len(split) - 1}")
        candidates = np.array(arguments.index)
    elif arguments.html and not arguments.sample:
        candidates = np.arange(len(split))
    elif arguments.sample or arguments.label:
        candidates = np.random.default_rng(0).permutation(len(split))
    else:
        return []
    if arguments.label:
        row_of_span = np.repeat(np.arange(len(split)), np.diff(split.span_offsets))
        having = row_of_span[split.spans[:, 2] == split.label_to_id[arguments.label]]
        candidates = candidates[np.isin(candidates, having)]
    if doubtful is not None and not arguments.index:
        candidates = candidates[np.isin(candidates, np.concatenate([np.zeros(0, int), *doubtful]))]
    most = len(candidates) if arguments.index else arguments.sample or (PAGE_ROWS if arguments.html else 5)
    return candidates[:most].tolist()


def show_row(split: PreparedSplit, index: int, lost: Sequence[Span]) -> None:
    """One row with token borders (|) and its spans in brackets, each with its label's name; and the spans `lost`."""
    example = split.example(index)
    opening = {start: label for start, _, label in example["spans"]}
    closing = {end: label for _, end, label in example["spans"]}
    borders = {start for start, _ in example["char_spans"]} - {0}
    colour = 0
    shown = []
    for position, character in enumerate([*example["text"], ""]):
        if position in closing:
            shown.append(paint(f"]{closing[position]}", colour))
            colour = 0
        if position in borders:
            shown.append(paint("|", DIM))
        if position in opening:
            colour = COLOURS[zlib.crc32(opening[position].encode()) % len(COLOURS)]
            shown.append(paint("[", colour))
        shown.append(paint(visible(character), colour))
    print(f"\nrow {index}, {example['language']}, {len(example['tokens'])} tokens, {len(example['spans'])} spans")
    print("".join(shown))
    if lost:
        described = ", ".join(f"{start}:{end} {split.labels[label]}" for start, end, label in lost)
        print(paint(textwrap.fill(f"the tags do not give back {described}", 80), DIM))


def visible(character: str) -> str:
    """A character as it can be shown: control and direction characters do nothing to the terminal."""
    if character == "\n":
        return "\\n\n"
    if unicodedata.category(character or " ")[0] == "C":
        return character.encode("unicode_escape").decode()
    return character


def paint(text: str, colour: int) -> str:
    use_colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return f"\033[{colour}m{text}\033[0m" if colour and text and use_colour else text


if __name__ == "__main__":
    run(main)
