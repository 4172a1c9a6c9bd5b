"""Texts of any length → the spans a model finds in them.

A long text is tokenised and decoded in parts, and its spans are handed out as they are asked for, so that it needs
little more memory than its tokens. The windows that the backbone reads run over the whole text, and a text is cut for
decoding only where nothing was found.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from pii.corpus.spans import OUTSIDE_ID, JoinedText, in_word, starts_of, token_chars
from pii.corpus.tekken import Tekken
from pii.corpus.windows import make_windows
from pii.heads.calibration import calibrated
from pii.heads.tagging import Tagged, Tagger, predict_together, span_scores, spans_of
from pii.redaction.folding import folded

PIECE = 500_000  # characters that are tokenised or decoded at once


class Found(NamedTuple):
    """A span as the model sees it: offsets in code points, end exclusive."""

    start: int
    end: int
    label_id: int
    score: float  # of a right span: calibrated mean probability of the label over the span's tokens
    tokens: int


class Part(NamedTuple):
    """Some characters of a text."""

    text_index: int
    start: int
    end: int


class Tokens(NamedTuple):
    """The tokens of some texts, flat."""

    token_ids: np.ndarray  # [tokens] uint32
    char_starts: np.ndarray  # [tokens] uint32, in the text
    char_ends: np.ndarray  # [tokens] uint32
    offsets: np.ndarray  # [texts + 1] int64: where each text's tokens start


def detect(
    tagger: Tagger, tokenizer: Tekken, texts: Sequence[str], max_length: int, bias: float = 0.0
) -> Iterator[Iterator[Found]]:
    """The spans of each text, sorted, without overlaps. `bias` is taken off the logit of O.

    Read one text's spans before you ask for the next text's: they are made as they are read, since those of a long text
    take more memory than all else.
    """
    [found] = detect_together([(tagger, bias)], tokenizer, texts, max_length)
    return found


def detect_together(
    taggers: Sequence[tuple[Tagger, float]], tokenizer: Tekken, texts: Sequence[str], max_length: int
) -> list[Iterator[Iterator[Found]]]:
    """`detect` by several taggers, each with its bias, that share a reader."""
    tokens = tokenise(tokenizer, texts)
    windows = make_windows(tokens.offsets, max_length)
    views = []
    for (tagger, _), tagged in zip(
        taggers, predict_together(taggers, tokens.token_ids, windows, tokens.offsets), strict=True
    ):
        views.append(by_text(spans_in(texts, tokens, tagged, tagger.calibration), len(texts)))
    return views


def spans_in(
    texts: Sequence[str], tokens: Tokens, tagged: Tagged, calibration: Sequence[float] | None
) -> Iterator[tuple[int, Found]]:
    """(text index, span) of all texts, in order."""
    for slab in slabs(quiet_cuts(texts, tokens, tagged.label_ids)):
        yield from decode(texts, tokens, tagged, slab, calibration)


def by_text(found: Iterable[tuple[int, Found]], num_texts: int) -> Iterator[Iterator[Found]]:
    """(text index, span) in the texts' order → the spans of each text, also of those that have none."""
    groups = groupby(found, key=lambda pair: pair[0])
    index, spans = next(groups, (None, iter(())))
    for text_index in range(num_texts):
        if index == text_index:
            yield (span for _, span in spans)
            index, spans = next(groups, (None, iter(())))
        else:
            yield iter(())


def slabs(parts: Iterable[Part]) -> Iterator[list[Part]]:
    """The parts in order, so many together that numpy has something to do."""
    slab: list[Part] = []
    characters = 0
    for part in parts:
        slab.append(part)
        characters += part.end - part.start
        if characters >= PIECE:
            yield slab
            slab, characters = [], 0
    if slab:
        yield slab


def tokenise(tokenizer: Tekken, texts: Sequence[str]) -> Tokens:
    """The tokens that the model reads, of folded characters, at the offsets of the original ones."""
    ids, starts, ends = ([np.zeros(0, np.uint32)] for _ in range(3))
    counts = np.zeros(len(texts), dtype=np.int64)
    pieces = (Part(index, start, end) for index, text in enumerate(texts) for start, end in cuts(text))
    for slab in slabs(pieces):
        strings = [folded(texts[piece.text_index][piece.start : piece.end]) for piece in slab]
        tokens = tokenizer.encode(strings)
        char_starts, char_ends = token_chars(JoinedText.of(strings), tokens.token_counts, tokens.token_bytes)
        piece_start = np.repeat(np.array([piece.start for piece in slab], np.uint32), tokens.token_counts)
        ids.append(tokens.token_ids)
        starts.append(piece_start + char_starts)
        ends.append(piece_start + char_ends)
        np.add.at(counts, [piece.text_index for piece in slab], tokens.token_counts)
    return Tokens(emptied(ids), emptied(starts), emptied(ends), starts_of(counts))


def emptied(parts: list[np.ndarray]) -> np.ndarray:
    """The parts as one array; the list lets go of them, so that one column at a time exists twice."""
    whole = np.concatenate(parts)
    parts.clear()
    return whole


def cuts(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of the pieces in which a text is tokenised: they end before a white space where one is near."""
    start = 0
    while len(text) - start > PIECE:
        near = (start + PIECE // 2, start + PIECE)
        space = max(text.rfind(" ", *near), text.rfind("\n", *near))
        end = space if space > start else start + PIECE
        yield start, end
        start = end
    yield start, len(text)


def quiet_cuts(texts: Sequence[str], tokens: Tokens, label_ids: np.ndarray) -> Iterator[Part]:
    """The texts' parts for decoding: a long text is cut between two words and two tokens that are both O, so that no
    span is cut."""
    for index, text in enumerate(texts):
        start = 0
        if len(text) > PIECE:
            own = slice(tokens.offsets[index], tokens.offsets[index + 1])
            outside = label_ids[own] == OUTSIDE_ID
            char_starts, char_ends = tokens.char_starts[own], tokens.char_ends[own]
            quiet = char_starts[1:][outside[1:] & outside[:-1] & (char_starts[1:] >= char_ends[:-1])]
            quiet = quiet[np.searchsorted(quiet, PIECE) :]
            while (end := next((place for place in map(int, quiet) if not in_word(text, place)), None)) is not None:
                yield Part(index, start, end)
                start = end
                quiet = quiet[np.searchsorted(quiet, start + PIECE) :]
        yield Part(index, start, len(text))


def decode(
    texts: Sequence[str], tokens: Tokens, tagged: Tagged, parts: list[Part], calibration: Sequence[float] | None = None
) -> Iterator[tuple[int, Found]]:
    """(text index, span) of the spans of some parts, which follow each other, in order."""
    text = JoinedText.of([texts[part.text_index][part.start : part.end] for part in parts])
    edges = np.array([token_range(tokens, part) for part in parts])
    counts, own = edges[:, 1] - edges[:, 0], slice(edges[0, 0], edges[-1, 1])
    part_start = np.array([part.start for part in parts])
    char_starts = tokens.char_starts[own].astype(np.int64) - np.repeat(part_start, counts)
    char_ends = tokens.char_ends[own].astype(np.int64) - np.repeat(part_start, counts)
    tagged = Tagged(*(column[own] for column in tagged))
    spans, span_counts = spans_of(text, counts, char_starts, char_ends, tagged, widened=True)
    part_of_span = np.repeat(np.arange(len(parts)), span_counts)
    scores, sizes = span_scores(text, counts, char_starts, char_ends, tagged, spans, span_counts)
    scores = calibrated(scores, calibration)
    for part, (start, end, label_id), score, size in zip(
        part_of_span.tolist(), spans.tolist(), scores.tolist(), sizes.tolist(), strict=True
    ):
        yield parts[part].text_index, Found(parts[part].start + start, parts[part].start + end, label_id, score, size)


def token_range(tokens: Tokens, part: Part) -> tuple[int, int]:
    """The first token of a part and the one after its last."""
    start, stop = tokens.offsets[part.text_index], tokens.offsets[part.text_index + 1]
    first, last = np.searchsorted(tokens.char_starts[start:stop], [part.start, part.end])
    return start + first, start + last
