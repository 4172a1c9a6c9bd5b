"""What must hold of prepared data, worked out again from its text and spans."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from pii.corpus import spans, tekken
from pii.corpus.store import Rows, Split


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
