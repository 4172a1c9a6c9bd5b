"""Rows that are sound and yet most likely wrong, and texts on both sides of the split: for a person to look at."""

from collections.abc import Iterator, Mapping

import numpy as np

from pii.corpus.doubts.cuts import cutting_spans
from pii.corpus.doubts.grouping import contradicting, joined_keys, keys_of, span_hashes
from pii.corpus.roundtrip import as_raw
from pii.corpus.rows import Row
from pii.corpus.spans import JoinedText
from pii.corpus.store import Split

CUT, CONTRADICTION, SHARED = (
    "a span that cuts a word or a number",
    "a text that has other spans in another row",
    "a text that is on both sides of the split",
)


def find_doubts(splits: Mapping[str, Split], labels: list[str]) -> tuple[dict, list[tuple[str, str, np.ndarray]]]:
    """Figures of sentences and texts, and (what, split, its rows) of all that one may doubt.

    A sentence or text on both sides makes validation too easy.
    """
    keys = {name: keys_of(raw_rows(split, labels)) for name, split in splits.items()}
    joined = joined_keys([*keys.values()])
    hashes = [span_hashes(raw_rows(split, labels)) for split in splits.values()]
    other_spans = contradicting(joined.texts, np.concatenate(hashes))
    cuts = {name: spans_that_cut(split) for name, split in splits.items()}
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
            (CUT, name, np.unique(cuts[name])),
            (CONTRADICTION, name, np.flatnonzero(other_spans[first:stop])),
            (SHARED, name, np.flatnonzero(np.isin(own.texts, elsewhere))),
        ]
        first = stop
    return figures, [doubt for doubt in doubts if len(doubt[2])]


def raw_rows(split: Split, labels: list[str]) -> Iterator[Row]:
    return (row for rows in split.chunks() for row in as_raw(rows, labels))


def spans_that_cut(split: Split) -> np.ndarray:
    """The row of each span that cuts a word or a number."""
    found, first = [np.zeros(0, dtype=np.int64)], 0
    for rows in split.chunks():
        cutting = cutting_spans(JoinedText.of(rows.texts()), rows.spans, rows.span_counts)
        found.append(first + np.repeat(np.arange(len(rows.span_counts)), rows.span_counts)[cutting])
        first += len(rows.span_counts)
    return np.concatenate(found)


def in_both(hashes: Mapping[str, np.ndarray]) -> str:
    """How many different ones each split has, and how many more than one."""
    own = {name: np.unique(column) for name, column in hashes.items()}
    _, splits = np.unique(np.concatenate([*own.values()]), return_counts=True)
    return ", ".join([*(f"{len(column)} {name}" for name, column in own.items()), f"{(splits > 1).sum()} in both"])
