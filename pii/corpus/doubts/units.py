"""Offsets that count something other than characters, as JavaScript, Java and C# count UTF-16 units."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pii.corpus.doubts.cuts import cutting_spans
from pii.corpus.spans import JoinedText, starts_of

UTF_16 = "offsets that count UTF-16 units, as JavaScript does, not characters: convert them to code points"
BYTES = "offsets that count UTF-8 bytes, not characters: convert them to code points"


class Marked(NamedTuple):
    """A span as a row gives it, unchecked."""

    start: object
    end: object
    value: object  # None where the row gives none
    outside: bool  # of the label O


def other_unit(text: str, spans: Sequence[Marked], impossible: bool) -> str | None:
    """Why a row is wrong whose offsets fit when they are read as UTF-16 units or as UTF-8 bytes, else None.

    They fit where all of them lie between characters, with their values where values are given; a span without one
    must not cut a word, nor have white space at an edge. UTF-16 units need not meet the last two where the offsets are
    `impossible` as code points.
    """
    if text.isascii() or not spans:
        return None
    joined = JoinedText.of([text])
    utf_16 = starts_of(1 + (joined.points >= 0x10000))
    for reason, places, lenient in ((UTF_16, utf_16, impossible), (BYTES, joined.char_bytes, False)):
        if places[-1] == len(text):
            continue  # a unit is a character
        read = converted(spans, places)
        if read is not None and has_values(text, read, spans) and (lenient or is_neat(joined, read, spans)):
            return reason
    return None


def converted(spans: Sequence[Marked], places: np.ndarray) -> np.ndarray | None:
    """The spans [n, 2] in code points, of which each starts at one of `places`; None where one is not on any."""
    if not all(type(s.start) is type(s.end) is int and 0 <= s.start <= s.end <= places[-1] for s in spans):
        return None
    units = np.array([span[:2] for span in spans], dtype=np.int64)
    offsets = np.searchsorted(places, units)
    return offsets if (places[offsets] == units).all() else None


def has_values(text: str, read: np.ndarray, spans: Sequence[Marked]) -> bool:
    """Whether the values that are given stand there."""
    places = zip(read.tolist(), spans, strict=True)
    return all(span.value is None or text[start:end] == span.value for (start, end), span in places)


def is_neat(joined: JoinedText, read: np.ndarray, spans: Sequence[Marked]) -> bool:
    """Whether no span without a value cuts a word, is empty or has white space at an edge; and, where no span has a
    value, one starts elsewhere than its offsets say as code points."""
    own = [i for i, span in enumerate(spans) if span.value is None and not span.outside]
    moved = any(read[i, 0] != spans[i].start for i in own) or any(span.value is not None for span in spans)
    read = read[own][np.argsort(read[own, 0], kind="stable")]
    empty = (read[:, 0] >= read[:, 1]).any()
    if not moved or empty or joined.is_space[read[:, 0]].any() or joined.is_space[read[:, 1] - 1].any():
        return False
    return not cutting_spans(joined, read, np.array([len(read)])).any()
