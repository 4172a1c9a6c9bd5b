"""Rows that are sound and yet most likely wrong, and texts on both sides of the split: for a person to look at."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import NamedTuple

import numpy as np

from pii.corpus.doubts.cuts import cutting_spans
from pii.corpus.doubts.edges import breaking, odd_edges, one_short, without_manners
from pii.corpus.doubts.grouping import contradicting, joined_keys, keys_of, span_hashes
from pii.corpus.doubts.values import Labels, labelled, minorities, unlabelled
from pii.corpus.roundtrip import as_raw
from pii.corpus.rows import Row
from pii.corpus.spans import JoinedText
from pii.corpus.store import Split

CUT, CONTRADICTION, SHARED = (
    "a span that cuts a word or a number",
    "a text that has other spans in another row",
    "a text that is on both sides of the split",
)
SHORT, EDGE, BREAK, UNLABELLED, TWO_LABELS = (
    "a span that ends one character too early",
    "a span that takes in white space, a bracket or a quote",
    "a span that crosses a line break",
    "a value without a span that has one elsewhere",
    "a value that has another label elsewhere",
)
SPAN_KINDS = {SHORT: one_short, EDGE: odd_edges, BREAK: breaking}


class Doubt(NamedTuple):
    """Rows of a split that one may doubt for one reason."""

    what: str
    split: str
    rows: np.ndarray  # [rows] int64, sorted
    places: int  # spans, values or rows that are meant


def find_doubts(splits: Mapping[str, Split], labels: list[str]) -> tuple[dict, list[Doubt]]:
    """Figures of sentences and texts, and the doubts that every look at the data names.

    A sentence or text on both sides makes validation too easy.
    """
    keys = {name: keys_of(raw_rows(split, labels)) for name, split in splits.items()}
    joined = joined_keys([*keys.values()])
    hashes = [span_hashes(raw_rows(split, labels)) for split in splits.values()]
    other_spans = contradicting(joined.texts, np.concatenate(hashes))
    cuts = {name: row_of_span(split)[marked(split, cutting_spans)] for name, split in splits.items()}
    figures = {
        "spans_that_cut_a_word": sum(map(len, cuts.values())),
        "contradicting_rows": int(other_spans.sum()),
        "skeletons": in_both({name: own.skeletons for name, own in keys.items()}),
        "texts": in_both({name: own.texts for name, own in keys.items()}),
    }
    doubts, first = [], 0
    for name, own in keys.items():
        stop = first + len(own.texts)
        elsewhere = np.concatenate([joined.texts[:first], joined.texts[stop:]])
        doubts += [
            doubt(CUT, name, cuts[name]),
            doubt(CONTRADICTION, name, np.flatnonzero(other_spans[first:stop])),
            doubt(SHARED, name, np.flatnonzero(np.isin(own.texts, elsewhere))),
        ]
        first = stop
    return figures, [doubt for doubt in doubts if doubt.places]


def find_more_doubts(splits: Mapping[str, Split], labels: list[str]) -> list[Doubt]:
    """Those of single spans and of values, which are told over all splits; the values are held in memory."""
    doubts = []
    spans = np.concatenate([split.spans for split in splits.values()])
    starts = np.cumsum([0, *(len(split.spans) for split in splits.values())])
    for what, find in SPAN_KINDS.items():
        odd = np.concatenate([marked(split, find) for split in splits.values()])
        odd = odd if what == SHORT else without_manners(odd, spans[:, 2])
        for (name, split), first, stop in zip(splits.items(), starts[:-1], starts[1:], strict=True):
            doubts.append(doubt(what, name, row_of_span(split)[odd[first:stop]]))
    values = labelled(all_rows(splits, labels))
    bare = [row for places in unlabelled(all_rows(splits, labels), values).values() for row in places]
    for what, rows in ((UNLABELLED, bare), (TWO_LABELS, other_labels(all_rows(splits, labels), values))):
        doubts += [doubt(what, name, own) for name, own in by_split(splits, rows).items()]
    return [doubt for doubt in doubts if doubt.places]


def doubt(what: str, split: str, rows: np.ndarray) -> Doubt:
    """`rows`: the row of each span or value that is meant."""
    return Doubt(what, split, np.unique(rows), len(rows))


def raw_rows(split: Split, labels: list[str]) -> Iterator[Row]:
    return (row for rows in split.chunks() for row in as_raw(rows, labels))


def all_rows(splits: Mapping[str, Split], labels: list[str]) -> Iterator[Row]:
    return chain.from_iterable(raw_rows(split, labels) for split in splits.values())


def row_of_span(split: Split) -> np.ndarray:
    """[spans] int64."""
    counts = np.diff(split.span_offsets)
    return np.repeat(np.arange(len(counts)), counts)


def marked(split: Split, find: Callable[[JoinedText, np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """[spans] bool: what `find` says of them, some rows at a time."""
    parts = [find(JoinedText.of(rows.texts()), rows.spans, rows.span_counts) for rows in split.chunks()]
    return np.concatenate([np.zeros(0, dtype=bool), *parts])


def other_labels(rows: Iterable[Row], values: Labels) -> list[int]:
    """The row of each span whose value most likely has a wrong label."""
    wrong = minorities(values)
    return [
        index
        for index, row in enumerate(rows)
        for start, end, label in row.spans
        if label in wrong.get(row.text[start:end], ())
    ]


def by_split(splits: Mapping[str, Split], rows: list[int]) -> dict[str, np.ndarray]:
    """Rows that are counted over all splits → those of each split, counted in it."""
    sizes = [len(split.span_offsets) - 1 for split in splits.values()]
    starts, numbers = np.cumsum([0, *sizes]), np.array(rows, dtype=np.int64)
    which = np.searchsorted(starts, numbers, side="right") - 1
    return {name: numbers[which == i] - starts[i] for i, name in enumerate(splits)}


def in_both(hashes: Mapping[str, np.ndarray]) -> str:
    """How many different ones each split has, and how many more than one."""
    own = {name: np.unique(column) for name, column in hashes.items()}
    _, splits = np.unique(np.concatenate([*own.values()]), return_counts=True)
    return ", ".join([*(f"{len(column)} {name}" for name, column in own.items()), f"{(splits > 1).sum()} in both"])
