"""Gold tags → spans → gold spans: what alignment alone costs."""

from collections.abc import Iterator

import numpy as np

from pii.corpus import spans
from pii.corpus.rows import Row
from pii.corpus.store import Rows, Split

Span = tuple[int, ...]  # start, end, label id


def round_trip(splits: dict[str, Split]) -> tuple[str, dict[str, dict[int, list[Span]]]]:
    """The gold tags turned back into spans: their strict F1, which no model that predicts such tags can exceed, and
    split → row → the spans that tags with begin bits do not give back."""
    hits, found, gold = np.zeros(2, int), np.zeros(2, int), 0
    lost: dict[str, dict[int, list[Span]]] = {name: {} for name in splits}
    for name, split in splits.items():
        first = 0
        for rows in split.chunks():
            wanted = span_set(rows.spans, rows.span_counts)
            gold += len(wanted)
            for i, begins in enumerate((None, rows.tokens["begins"])):
                back = span_set(*spans_back(rows, begins))
                hits[i] += len(back & wanted)
                found[i] += len(back)
            for row, *span in sorted(wanted - back):
                lost[name].setdefault(first + row, []).append(tuple(span))
            first += len(rows.text_counts)
    plain, with_begins = (2 * hits / np.maximum(1, found + gold)).tolist()
    return f"{plain:.4f} plain tags, {with_begins:.4f} begin bits (strict F1)", lost


def spans_back(rows: Rows, begins: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    columns = (rows.tokens["label_ids"], rows.tokens["char_starts"], rows.tokens["char_ends"])
    return spans.spans_of_tags(spans.JoinedText.of(rows.texts()), rows.token_counts, *columns, begins)


def span_set(span_array: np.ndarray, counts: np.ndarray) -> set[tuple[int, ...]]:
    row = np.repeat(np.arange(len(counts)), counts)
    return set(zip(row.tolist(), *span_array.T.tolist(), strict=True))


def as_raw(rows: Rows, labels: list[str]) -> Iterator[Row]:
    offsets = spans.starts_of(rows.span_counts)
    for text, start, end in zip(rows.texts(), offsets[:-1], offsets[1:], strict=True):
        yield Row(text, "", [(a, b, labels[label]) for a, b, label in rows.spans[start:end].tolist()], 0, 0)
