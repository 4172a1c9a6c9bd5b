"""Gold spans whose ends or contents are odd: a bracket or a quote taken in, a line break inside, the last letter
missing. What is a label's manner, as line breaks in addresses, is no doubt."""

import re

import numpy as np

from pii.corpus.doubts.cuts import cutting_spans, inside_words, read
from pii.corpus.spans import WHITE_SPACE, JoinedText

PAIRS = dict(zip("([{<«“‘„‹", ")]}>»”’“›", strict=True)) | {'"': '"', "'": "'"}
OPENING, CLOSING = {*PAIRS}, {*PAIRS.values()}
INVISIBLE = "\u200b\u2060\ufeff"  # beside what str.isspace knows
ENCLOSING = np.array(sorted(map(ord, OPENING | CLOSING)), dtype=np.uint32)
EMPTY = np.append(WHITE_SPACE, np.array([*map(ord, INVISIBLE)], dtype=np.uint32))
LINE_BREAKS = np.array([0xA, 0xB, 0xC, 0xD, 0x85, 0x2028, 0x2029], dtype=np.uint32)
QUOTE = re.compile(r"(?<!\w)'|'(?!\w)")  # and no apostrophe
NEAR = 500  # characters on a side in which the other bracket or quote is sought
MANNER, FEWEST = 0.1, 5  # share and number of a label's spans from which on something is its manner


def odd_edges(text: JoinedText, spans: np.ndarray, span_counts: np.ndarray) -> np.ndarray:
    """[n] bool: which of the spans [n, 3] take in white space, a bracket or a quote at an end."""
    starts, ends, text_starts, text_ends = positions(text, spans, span_counts)
    first, last = text.points[starts], text.points[ends - 1]
    result = np.isin(first, EMPTY) | np.isin(last, EMPTY)
    for i in np.flatnonzero(np.isin(first, ENCLOSING) | np.isin(last, ENCLOSING)):
        before = read(text, max(text_starts[i], starts[i] - NEAR), starts[i])
        after = read(text, ends[i], min(text_ends[i], ends[i] + NEAR))
        result[i] |= takes_in(before, read(text, starts[i], ends[i]), after)
    return result


def takes_in(before: str, value: str, after: str) -> bool:
    """Whether a value has a bracket or a quote at an end whose other one stands outside, or two around words."""
    first, last = value[0], value[-1]
    for opening, closing in PAIRS.items():
        if last == closing and first == opening and len(value) > 2 and is_words(value[1:-1], opening, closing):
            return True
        if last == closing and lacks(value, opening, closing) > 0 and lacks(before, opening, closing) < 0:
            return True
        if first == opening and lacks(value, opening, closing) < 0 and lacks(after, opening, closing) > 0:
            return True
        if opening == closing and quotes(value, opening) % 2 and {first, last} & {opening}:
            beyond = before if last == opening else after
            if quotes(beyond, opening) % 2:
                return True
    return False


def is_words(inside: str, opening: str, closing: str) -> bool:
    """Whether what stands in a pair is more than a number, as in (33) or [82.5,-63.8], and has no pair of its own."""
    return any(map(str.isalpha, inside)) and not {opening, closing} & {*inside}


def lacks(text: str, opening: str, closing: str) -> int:
    """How many more brackets close than open; 0 of what opens and closes with the same mark."""
    return 0 if opening == closing else text.count(closing) - text.count(opening)


def quotes(text: str, mark: str) -> int:
    return len(QUOTE.findall(text)) if mark == "'" else text.count(mark)


def breaking(text: JoinedText, spans: np.ndarray, span_counts: np.ndarray) -> np.ndarray:
    """[n] bool: which of the spans [n, 3] cross a line break."""
    starts, ends, *_ = positions(text, spans, span_counts)
    before = np.append(0, np.cumsum(np.isin(text.points, LINE_BREAKS)))
    return before[ends] > before[starts]


def one_short(text: JoinedText, spans: np.ndarray, span_counts: np.ndarray) -> np.ndarray:
    """[n] bool: which of the spans [n, 3] end one character before their word or number does."""
    _, ends, _, text_ends = positions(text, spans, span_counts)
    result = cutting_spans(text, spans, span_counts) & (ends < text_ends)
    result[result] = inside_words(text, ends[result])
    further = result & (ends + 1 < text_ends)
    result[further] = ~inside_words(text, ends[further] + 1)
    return result


def positions(text: JoinedText, spans: np.ndarray, span_counts: np.ndarray) -> tuple[np.ndarray, ...]:
    """Where each span starts and ends in the joined text, and where its text does, each [n] int64."""
    starts, ends = (np.repeat(edges, span_counts) for edges in (text.starts[:-1], text.starts[1:]))
    return spans[:, 0] + starts, spans[:, 1] + starts, starts, ends


def without_manners(odd: np.ndarray, label_ids: np.ndarray) -> np.ndarray:
    """[n] bool of all spans of the data: the odd ones of labels whose spans are seldom so; both are [n]."""
    total = np.bincount(label_ids, minlength=1)
    often = np.bincount(label_ids[odd], minlength=len(total))
    is_manner = (often >= FEWEST) & (often >= MANNER * total)
    return odd & ~is_manner[label_ids]
