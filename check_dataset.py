"""Check prepared data before it costs a training run, and show rows so that a person can see the spans."""

import argparse
import os
import sys
import unicodedata
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

import spans
import tekken
from common import Parser, UserError, positive_int, run
from dataset import PIITokenDataset
from prepare import print_statistics, statistics
from rows import Row, skeleton
from store import SPLITS, Rows, Split, read_meta

ORIGIN = ("overlapping_spans_dropped", "blank_spans_dropped", "rejected_rows")  # only prepare.py could count these
COLOURS = (31, 32, 33, 34, 35, 36)  # of the terminal; a label keeps its own, and its name is always written
DIM = 2


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    meta, splits = open_data(arguments.data)
    tokenizer = load_tokenizer(meta)
    broken = {}
    for name, split in splits.items():
        for problem, row in check_split(split, meta, tokenizer):
            broken.setdefault(f"{name}: {problem}", set()).add(row)
    for problem, rows in broken.items():
        print(f"BROKEN {problem}: {len(rows)} rows, the first is row {min(rows)}")
    if broken:
        raise UserError(f"{arguments.data} breaks {len(broken)} invariants: run prepare.py again", code=1)
    print(f"{arguments.data}: every invariant holds")

    known = meta.get("statistics")
    origin = {name: known[name] for name in ORIGIN if name in known} if isinstance(known, dict) else {}
    print_statistics(statistics(splits, len(meta["labels"]), arguments.max_length) | origin)
    print_ceilings(splits)
    print_shared_skeletons(splits, meta["labels"])
    print_labels(splits, meta["labels"])
    data = PIITokenDataset(arguments.data, arguments.split)
    shown = chosen_rows(data, arguments)
    for index in shown:
        show_row(data, index)
    if arguments.label and not shown:
        print(f"none of these rows of {arguments.split} has a span of {arguments.label}")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data/prepared"), help="prepared folder")
    parser.add_argument("--split", choices=SPLITS, default="train", help="whose rows are shown (train)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--sample", type=positive_int, nargs="?", const=5, help="show so many rows, drawn at random (5)")
    which.add_argument("--index", type=int, nargs="+", help="show these rows")
    parser.add_argument("--label", help="show only rows with a span of this label")
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


def check_split(split: Split, meta: dict, tokenizer: tekken.Tekken | None) -> Iterator[tuple[str, int]]:
    """(what is broken, row) for every broken invariant. Offsets between rows were checked when the split was opened."""
    first = 0
    for rows in split.chunks():
        try:
            texts = rows.texts()
        except UnicodeDecodeError:
            yield from (("texts are UTF-8", first + row) for row in undecodable(rows))
            return
        text = spans.JoinedText.of(texts)
        problems = [*token_problems(rows, text, meta), *span_problems(rows, text, len(meta["labels"]))]
        if tokenizer and not problems:  # the alignment is worked out again, which presumes that ranges are sound
            problems = [*alignment_problems(rows, texts, text, tokenizer)]
        for problem, broken in problems:
            for row in np.unique(broken):
                yield problem, first + int(row)
        first += len(texts)


def undecodable(rows: Rows) -> Iterator[int]:
    """The rows whose text is no UTF-8."""
    for row, (start, end) in enumerate(pairwise(spans.starts_of(rows.text_counts))):
        try:
            rows.text[start:end].tobytes().decode()
        except UnicodeDecodeError:
            yield row


def token_problems(rows: Rows, text: spans.JoinedText, meta: dict) -> Iterator[tuple[str, np.ndarray]]:
    """(what is broken, rows) among the token columns."""
    row = np.repeat(np.arange(len(rows.token_counts)), rows.token_counts)
    label_ids, begins = rows.tokens["label_ids"], rows.tokens["begins"]
    starts, ends = (rows.tokens[name].astype(np.int64) for name in ("char_starts", "char_ends"))
    first, last = np.ones(len(row), dtype=bool), np.ones(len(row), dtype=bool)
    first[1:] = last[:-1] = row[1:] != row[:-1]
    length = np.diff(text.starts)
    gap = np.where(first, starts, starts - np.roll(ends, 1))  # -1 where a character is split over tokens
    backwards = ~first & ((starts < np.roll(starts, 1)) | (ends < np.roll(ends, 1)))
    continues = ~first & (label_ids == np.roll(label_ids, 1))
    checks = {
        "every row has tokens": (rows.token_counts == 0).nonzero()[0],
        "labels are in range": row[label_ids >= len(meta["labels"])],
        "token ids are in the vocabulary": row[rows.tokens["token_ids"] >= meta["tokenizer"]["vocab_size"]],
        "offsets are monotone": row[backwards | (starts >= ends)],
        "tokens cover the text without gaps": row[(gap > 0) | (gap < -1) | (first & (starts != 0))],
        "tokens end where the text ends": row[last & (ends != length[row])],
        "begin bits stand on labelled tokens": row[begins & (label_ids == spans.OUTSIDE_ID)],
        "a change of label begins a span": row[(label_ids != spans.OUTSIDE_ID) & ~continues & ~begins],
    }
    yield from ((problem, broken) for problem, broken in checks.items() if len(broken))


def span_problems(rows: Rows, text: spans.JoinedText, num_labels: int) -> Iterator[tuple[str, np.ndarray]]:
    """(what is broken, rows) among the spans."""
    row = np.repeat(np.arange(len(rows.span_counts)), rows.span_counts)
    starts, ends, labels = rows.spans.astype(np.int64).T
    length = np.diff(text.starts)[row]
    outside = (starts < 0) | (ends > length) | (starts >= ends)
    overlap = np.zeros(len(row), dtype=bool)
    overlap[1:] = (starts[1:] < ends[:-1]) & (row[1:] == row[:-1])
    edge = np.zeros(len(row), dtype=bool)
    if not outside.any():
        edge = text.is_space[text.starts[row] + starts] | text.is_space[text.starts[row] + ends - 1]
    checks = {
        "spans are in range": row[outside],
        "spans are sorted and do not overlap": row[overlap],
        "spans have a label": row[(labels <= spans.OUTSIDE_ID) | (labels >= num_labels)],
        "spans have no white space at their edges": row[edge],
    }
    yield from ((problem, broken) for problem, broken in checks.items() if len(broken))


def alignment_problems(
    rows: Rows, texts: list[str], text: spans.JoinedText, tokenizer: tekken.Tekken
) -> Iterator[tuple[str, np.ndarray]]:
    """(what is broken, rows): the tokens rebuild the text's bytes, and the tags follow from the spans."""
    offsets = spans.starts_of(rows.token_counts)
    token_ids = rows.tokens["token_ids"]
    rebuilt = [b"".join(tokenizer.pieces[i] for i in token_ids[start:end]) for start, end in pairwise(offsets)]
    different = [row for row, (a, b) in enumerate(zip(rebuilt, texts, strict=True)) if a != b.encode()]
    if different:
        yield "tokens rebuild the text's bytes", np.array(different)
        return
    token_bytes = spans.starts_of(np.array([len(tokenizer.pieces[i]) for i in token_ids]))
    tags = spans.tag_tokens(text, rows.token_counts, token_bytes, rows.spans, rows.span_counts)
    row = np.repeat(np.arange(len(texts)), rows.token_counts)
    for name, problem in (
        ("char_starts", "character offsets are the tokens' own"),
        ("char_ends", "character offsets are the tokens' own"),
        ("label_ids", "labels follow from the spans"),
        ("begins", "begin bits stand on each span's first token"),
    ):
        different = getattr(tags, name) != rows.tokens[name]
        if different.any():
            yield problem, row[different]


def print_ceilings(splits: dict[str, Split]) -> None:
    """Strict F1 of the gold tags turned back into spans: no model that predicts such tags can score more."""
    hits, found, gold = np.zeros(2, int), np.zeros(2, int), 0
    for split in splits.values():
        for rows in split.chunks():
            wanted = span_set(rows.spans, rows.span_counts)
            gold += len(wanted)
            for i, begins in enumerate((None, rows.tokens["begins"])):
                back = span_set(*spans_back(rows, begins))
                hits[i] += len(back & wanted)
                found[i] += len(back)
    plain, with_begins = (2 * hits / np.maximum(1, found + gold)).tolist()
    print(f"  {'alignment ceiling':28s} {plain:.4f} strict F1 with plain tags, {with_begins:.4f} with begin bits")


def spans_back(rows: Rows, begins: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    columns = (rows.tokens["label_ids"], rows.tokens["char_starts"], rows.tokens["char_ends"])
    return spans.spans_of_tags(spans.JoinedText.of(rows.texts()), rows.token_counts, *columns, begins)


def span_set(span_array: np.ndarray, counts: np.ndarray) -> set[tuple[int, ...]]:
    row = np.repeat(np.arange(len(counts)), counts)
    return set(zip(row.tolist(), *span_array.T.tolist(), strict=True))


def print_shared_skeletons(splits: dict[str, Split], labels: list[str]) -> None:
    """Rows that are one sentence with other values, on both sides of the split, make validation too easy."""
    seen: dict[str, set[str]] = {}
    for name, split in splits.items():
        seen[name] = {skeleton(row) for rows in split.chunks() for row in as_raw(rows, labels)}
    shared = len(seen["train"] & seen["validation"])
    print(f"  {'skeletons':28s} {len(seen['train'])} train, {len(seen['validation'])} validation, {shared} in both")


def as_raw(rows: Rows, labels: list[str]) -> Iterator[Row]:
    offsets = spans.starts_of(rows.span_counts)
    for text, start, end in zip(rows.texts(), offsets[:-1], offsets[1:], strict=True):
        yield Row(text, "", [(a, b, labels[label]) for a, b, label in rows.spans[start:end].tolist()], 0, 0)


def print_labels(splits: dict[str, Split], labels: list[str]) -> None:
    counts = [np.bincount(split.spans[:, 2], minlength=len(labels)) for split in splits.values()]
    print(f"\n{'spans':<30}" + "".join(f"{name:>12}" for name in splits))
    for label, *numbers in list(zip(labels, *counts, strict=True))[1:]:
        print(f"{label:<30}" + "".join(f"{number:>12}" for number in numbers))


def chosen_rows(data: PIITokenDataset, arguments: argparse.Namespace) -> list[int]:
    """The rows the user asked to see; none unless asked."""
    if arguments.label is not None and arguments.label not in data.labels[1:]:
        raise UserError(f"no label {arguments.label}: choose one of {', '.join(data.labels[1:])}")
    if arguments.index:
        if not len(data):
            raise UserError(f"{arguments.split} has no rows")
        if wrong := [i for i in arguments.index if not 0 <= i < len(data)]:
            raise UserError(f"no row {wrong[0]}: {arguments.split} has rows 0 to {len(data) - 1}")
        candidates = np.array(arguments.index)
    elif arguments.sample or arguments.label:
        candidates = np.random.default_rng(0).permutation(len(data))
    else:
        return []
    if arguments.label:
        row_of_span = np.repeat(np.arange(len(data)), np.diff(data.split.span_offsets))
        having = row_of_span[data.split.spans[:, 2] == data.label_to_id[arguments.label]]
        candidates = candidates[np.isin(candidates, having)]
    return candidates.tolist() if arguments.index else candidates[: arguments.sample or 5].tolist()


def show_row(data: PIITokenDataset, index: int) -> None:
    """One row with token borders (|) and its spans in brackets, each with its label's name."""
    example = data.example(index)
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
    rows = data.split.rows(np.array([index]))
    back = spans_back(rows, rows.tokens["begins"])[0]
    if missing := [s for s in rows.spans.tolist() if s not in back.tolist()]:
        described = ", ".join(f"{start}:{end} {data.labels[label]}" for start, end, label in missing)
        print(paint(f"the tags do not give back {described}", DIM))


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
