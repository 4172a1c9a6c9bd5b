"""Tokens of a text for the formats that have no offsets of their own.

White space separates tokens. Punctuation marks and symbols at the ends of what stands between are tokens of their own,
and so are the parts on both sides of a span's border: `(d'Angers),` with a span on Angers is `( d' Angers ) ,`.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from unicodedata import category

import numpy as np

from pii.corpus.spans import JoinedText, word_borders
from pii.redaction.replacements import Span

SOLID = re.compile(r"\S+")


def tokens_of(text: str, spans: Sequence[Span]) -> Iterator[tuple[int, int, int | None]]:
    """(start, end, index of the span that it belongs to) of each token; sorted spans without overlaps have whole
    tokens."""
    own = 0
    for start, end in token_borders(text, spans):
        while own < len(spans) and spans[own].end <= start:
            own += 1
        inside = own < len(spans) and spans[own].start <= start
        yield start, end, own if inside else None


def token_borders(text: str, spans: Sequence[Span]) -> Iterator[tuple[int, int]]:
    """(start, end) of each token."""
    joined = JoinedText.of([text])
    is_border = word_borders(joined.points, joined.starts)
    borders = sorted({place for span in spans for place in (span.start, span.end)})
    following = 0
    for match in SOLID.finditer(text):
        places = {*match.span(), *mark_borders(text, *match.span(), is_border)}
        while following < len(borders) and borders[following] < match.end():
            places |= {borders[following]} if borders[following] > match.start() else set()
            following += 1
        yield from pairwise(sorted(places))


def mark_borders(text: str, start: int, end: int, is_border: np.ndarray) -> Iterator[int]:
    """Where the marks at the ends of a text's part without white space end and begin, `is_border` [characters + 1]
    being what no character of several parts is cut at."""
    parts = list(pairwise((start + np.flatnonzero(is_border[start : end + 1])).tolist()))
    for ordered, inner in ((parts, 1), (parts[::-1], 0)):
        for part in ordered:
            if category(text[part[0]])[0] not in "PS":
                break
            yield part[inner]
