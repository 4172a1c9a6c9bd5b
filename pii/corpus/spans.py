"""Character spans → token tags, and token tags → character spans: the only place that aligns the two.

Everything works on whole arrays over many texts joined end to end. A *position* counts code points in the joined text,
an *offset* counts code points within one text. Spans are rows [start, end, label id], end exclusive.
"""

import functools
import sys
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple
from unicodedata import category

import numpy as np

OUTSIDE_ID = 0  # label id of O
WHITE_SPACE = np.array([point for point in range(0x3001) if chr(point).isspace()], dtype=np.uint32)
PUNCTUATION = np.array([ord(c) for c in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~«»’“”…"], dtype=np.uint32)
SENTENCE_MARKS = np.array([ord(c) for c in ".,;:!?"], dtype=np.uint32)
# kinds of characters where words are told apart
OTHER, SPACE, LETTER, DIGIT, FLAG, MARK, FORMAT = range(7)
KIND_OF_CATEGORY = dict.fromkeys(("Lu", "Ll", "Lt", "Lm"), LETTER) | dict.fromkeys(("Mn", "Mc", "Me"), MARK)
KIND_OF_CATEGORY |= {"Nd": DIGIT, "Cf": FORMAT}
FEW_POINTS, FEW_MARKS = 0x40000, (0xE0000, 0xE1000)  # beyond is nothing but private and unassigned
JOINER = 0x200D
VIRAMAS = (0x94D, 0x9CD, 0xACD, 0xB4D, 0xC4D, 0xD4D)  # join two consonants of an Indic script
# what Unicode's rules for grapheme clusters (UAX 29) add to marks: joiners, skin tones, tags, Hangul and Thai vowels
MARKS_BY_RULE = (
    (0x200C, JOINER),
    (0x1F3FB, 0x1F3FF),
    (0xE0020, 0xE007F),
    (0x1160, 0x11FF),
    (0xD7B0, 0xD7FF),
    (0xE33, 0xE33),
    (0xEB3, 0xEB3),
)
IN_SIGHT = 32  # characters on each side that say whether a place is inside a word
GLUE = np.array([ord(c) for c in "-'’.:"], dtype=np.uint32)  # what glues a word to the one before it


class JoinedText(NamedTuple):
    """Many texts joined end to end, as the arrays that alignment needs."""

    starts: np.ndarray  # [texts + 1] int64: position where each text starts
    char_bytes: np.ndarray  # [chars + 1] int64: byte where each character starts
    points: np.ndarray  # [chars] uint32: the code points
    is_space: np.ndarray  # [chars] bool

    @classmethod
    def of(cls, texts: Sequence[str]) -> "JoinedText":
        points = np.frombuffer("".join(texts).encode("utf-32-le"), dtype=np.uint32)
        widths = 1 + (points >= 0x80) + (points >= 0x800) + (points >= 0x10000)  # of UTF-8, in bytes
        return cls(
            starts=starts_of(np.array([len(text) for text in texts], dtype=np.int64)),
            char_bytes=starts_of(widths),
            points=points,
            is_space=np.isin(points, WHITE_SPACE),
        )


class Tags(NamedTuple):
    """What each token carries."""

    label_ids: np.ndarray  # [tokens] uint16, 0 is O
    begins: np.ndarray  # [tokens] bool: the first token of its span
    char_starts: np.ndarray  # [tokens] uint32: offset of the first character the token has a byte of
    char_ends: np.ndarray  # [tokens] uint32: offset after the last one


def starts_of(counts: np.ndarray) -> np.ndarray:
    """[n] counts → [n + 1] int64: where each of n runs starts when they stand end to end, and where the last ends."""
    starts = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=starts[1:])
    return starts


def ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """[n] starts and counts → int64 indices start, start + 1, ... (count of them) of each, one after the other."""
    return np.repeat(starts - starts_of(counts)[:-1], counts) + np.arange(counts.sum())


def tag_tokens(
    text: JoinedText, token_counts: np.ndarray, token_bytes: np.ndarray, spans: np.ndarray, span_counts: np.ndarray
) -> Tags:
    """Give each token the label of the span that covers most of its non-white-space bytes; a tie goes to the earlier.

    A token of white space alone takes a label only inside a span. `token_counts` [texts]; `token_bytes` [tokens + 1]
    as tekken.py gives it; `spans` [n, 3] of offsets, sorted, without overlaps, `span_counts` [texts].
    """
    span_of_token = covering_span(text, token_bytes, *span_bytes(text, spans, span_counts))
    inside = span_of_token >= 0
    label_ids = np.zeros(len(span_of_token), dtype=np.uint16)
    label_ids[inside] = spans[span_of_token[inside], 2]
    begins = inside.copy()
    begins[1:] &= span_of_token[1:] != span_of_token[:-1]
    return Tags(label_ids, begins, *token_chars(text, token_counts, token_bytes))


def token_chars(text: JoinedText, token_counts: np.ndarray, token_bytes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """char_starts and char_ends of Tags, from the joined bytes that each token covers."""
    first = np.searchsorted(text.char_bytes, token_bytes[:-1], side="right") - 1  # holds the token's first byte
    stop = np.searchsorted(text.char_bytes, token_bytes[1:], side="left")  # after the one that holds its last
    text_start = np.repeat(text.starts[:-1], token_counts)
    return (first - text_start).astype(np.uint32), (stop - text_start).astype(np.uint32)


def span_bytes(text: JoinedText, spans: np.ndarray, span_counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each span starts and ends in the joined bytes, both [n] int64."""
    text_start = np.repeat(text.starts[:-1], span_counts)
    return text.char_bytes[text_start + spans[:, 0]], text.char_bytes[text_start + spans[:, 1]]


def covering_span(
    text: JoinedText, token_bytes: np.ndarray, span_starts: np.ndarray, span_ends: np.ndarray
) -> np.ndarray:
    """[tokens] int64: the index of the span that each token belongs to, -1 for none."""
    result = np.full(len(token_bytes) - 1, -1, dtype=np.int64)
    # spans are sorted and do not overlap, so those that touch a token are neighbours: first, first + 1, ...
    first = np.searchsorted(span_ends, token_bytes[:-1], side="right")
    touched = np.searchsorted(span_starts, token_bytes[1:], side="left") - first
    token = np.repeat(np.arange(len(result)), touched)  # one entry for each pair of a token and a span it touches
    span = ranges(first, touched)

    solid = starts_of(np.repeat(~text.is_space, np.diff(text.char_bytes)))  # bytes before each that are no white space
    begin = np.maximum(token_bytes[token], span_starts[span])
    end = np.minimum(token_bytes[token + 1], span_ends[span])
    covered = solid[end] - solid[begin]
    all_space = solid[token_bytes[token]] == solid[token_bytes[token + 1]]
    wholly_inside = (token_bytes[token] >= span_starts[span]) & (token_bytes[token + 1] <= span_ends[span])
    eligible = (covered > 0) | (all_space & wholly_inside)

    # the winner of each token is written last: most covered, then the earlier span
    order = np.lexsort((-span, covered))
    order = order[eligible[order]]
    result[token[order]] = span[order]
    return result


def spans_of_tags(
    text: JoinedText,
    token_counts: np.ndarray,
    label_ids: np.ndarray,
    char_starts: np.ndarray,
    char_ends: np.ndarray,
    begins: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Token tags → (spans [n, 3] int32 of offsets, span_counts [texts]), sorted, without overlaps.

    Neighbouring tokens of one label are one span; with `begins` a begin bit starts another. What a token at a span's
    edge holds beyond the value is trimmed: white space (a span of nothing else is dropped), the mark that ends the
    sentence, and the mark that glues the value to the word before it.
    """
    text_of_token = np.repeat(np.arange(len(token_counts)), token_counts)
    inside = label_ids != OUTSIDE_ID
    continues = np.zeros(len(label_ids), dtype=bool)
    continues[1:] = (label_ids[1:] == label_ids[:-1]) & (text_of_token[1:] == text_of_token[:-1])
    if begins is not None:
        continues &= ~begins
    first = np.flatnonzero(inside & ~continues)
    last = np.flatnonzero(inside & ~np.append(continues[1:], False))

    text_start = text.starts[text_of_token[first]]
    starts = text_start + char_starts[first]
    ends = text_start + char_ends[last]
    starts[1:] = np.maximum(starts[1:], ends[:-1])  # two spans can share a character that is split over tokens
    starts, ends = trim(text.is_space, starts, ends)
    starts += glued(text, starts, text_start + char_ends[first])
    ends -= ends_with_mark(text, text_start + char_starts[last], ends)
    kept = starts < ends
    spans = np.stack([starts - text_start, ends - text_start, label_ids[first]], axis=1)[kept]
    return spans.astype(np.int32), np.bincount(text_of_token[first][kept], minlength=len(token_counts))


def trim(is_space: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move positions inwards over white space; where nothing else is between them, the start is not before the end."""
    positions = np.arange(len(is_space))
    next_solid = np.minimum.accumulate(np.where(is_space, len(is_space), positions)[::-1])[::-1]
    last_solid = np.maximum.accumulate(np.where(is_space, -1, positions))
    next_solid = np.append(next_solid, len(is_space))
    return next_solid[starts], last_solid[ends - 1] + 1


def ends_with_mark(text: JoinedText, token_starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """[spans] bool: the last token is several punctuation marks and the last of them ends the sentence, as in `/.`
    of "at https://example.com/." or `.,` of "Miller Ltd., London"."""
    several = ends - token_starts >= 2
    before = text.points[np.maximum(ends - 2, 0)]
    return several & np.isin(text.points[ends - 1], SENTENCE_MARKS) & np.isin(before, PUNCTUATION)


def glued(text: JoinedText, starts: np.ndarray, token_ends: np.ndarray) -> np.ndarray:
    """[spans] bool: the first token starts with a mark that glues it to the word before, as `'Ang` of "d'Angers"."""
    longer = token_ends - starts >= 2
    inner = np.minimum(starts + 1, len(text.points) - 1)
    is_glue = np.isin(text.points[np.minimum(starts, len(text.points) - 1)], GLUE)
    is_word = ~text.is_space[inner] & ~np.isin(text.points[inner], PUNCTUATION)
    follows = ~text.is_space[np.maximum(starts - 1, 0)] & ~np.isin(starts, text.starts)
    return longer & is_glue & is_word & follows


def whole_words(text: JoinedText, spans: np.ndarray, span_counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted spans [n, 3] without overlaps and how many each text has, as spans_of_tags returns them → the same, but
    none cuts a word: each is widened to the next word borders, up to its neighbours. Neighbours of one label that then
    touch inside a word are one span."""
    is_border = word_borders(text.points, text.starts)
    borders = np.flatnonzero(is_border)
    text_start = np.repeat(text.starts[:-1], span_counts)
    starts, ends = spans[:, 0] + text_start, spans[:, 1] + text_start
    ends = borders[np.searchsorted(borders, ends, side="left")]
    ends[:-1] = np.minimum(ends[:-1], starts[1:])
    starts = borders[np.searchsorted(borders, starts, side="right") - 1]
    starts[1:] = np.maximum(starts[1:], ends[:-1])

    joined = np.zeros(len(spans) + 1, dtype=bool)  # a span to the one before it
    joined[1:-1] = (starts[1:] == ends[:-1]) & (spans[1:, 2] == spans[:-1, 2]) & ~is_border[starts[1:]]
    first, last = ~joined[:-1], ~joined[1:]
    counts = np.bincount(np.repeat(np.arange(len(span_counts)), span_counts)[first], minlength=len(span_counts))
    whole = np.stack([starts[first] - text_start[first], ends[last] - text_start[first], spans[first, 2]], axis=1)
    return whole.astype(np.int32), counts


def in_word(text: str, place: int) -> bool:
    """Whether a place between 0 and the text's length is inside a word."""
    start = max(0, place - IN_SIGHT)
    near = JoinedText.of([text[start : place + IN_SIGHT]])
    return not word_borders(near.points, near.starts)[place - start]


def word_borders(points: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """[chars] code points of texts that start at `starts` [texts + 1] → [chars + 1] bool: False inside a word, where
    letters touch letters or digits touch digits, and inside what is read as one character.

    A mark (an accent, a variation selector, a skin tone, a joiner) is part of the character before it; what a
    zero-width joiner joins is one character, and so are regional indicators side by side. Other invisible characters,
    as a soft hyphen, are inside a word where it goes on behind them.
    """
    kinds = kinds_of_characters()[points]
    marks = np.flatnonzero(kinds == MARK)
    if (kinds >= MARK).any():
        resolve_invisible(kinds, starts)
    is_border = np.ones(len(points) + 1, dtype=bool)
    is_border[1:-1] = (kinds[1:] != kinds[:-1]) | (kinds[1:] <= SPACE)
    is_border[marks] = (kinds[marks - 1] == SPACE) & ~np.isin(marks, starts)
    after = marks[~is_border[marks] & (marks + 1 < len(points))] + 1
    is_border[after[(points[after - 1] == JOINER) & (kinds[after] != SPACE)]] = False
    is_border[after[np.isin(points[after - 1], VIRAMAS) & (kinds[after] == OTHER)]] = False
    is_border[starts] = True
    return is_border


def resolve_invisible(kinds: np.ndarray, starts: np.ndarray) -> None:
    """Give each MARK the kind of the character it belongs to, and each FORMAT that of the word it stands in, in place;
    what belongs to nothing is OTHER, and so is what parts two regional indicators."""
    seen = kinds < MARK
    places = np.arange(len(kinds))
    before = np.maximum.accumulate(np.where(seen, places, -1))
    after = np.minimum.accumulate(np.where(seen, places, len(kinds))[::-1])[::-1]
    hidden = np.flatnonzero(~seen)
    text = np.searchsorted(starts, hidden, side="right")
    has_before, has_after = before[hidden] >= starts[text - 1], after[hidden] < starts[text]
    left = np.where(has_before, kinds[before[hidden]], OTHER)
    right = np.where(has_after, kinds[np.minimum(after[hidden], len(kinds) - 1)], OTHER)
    inside = (kinds[hidden] == MARK) | (left == right)
    kinds[hidden] = np.where(inside & (left != SPACE) & (left != FLAG), left, OTHER)


@functools.cache
def kinds_of_characters() -> np.ndarray:
    """[code points] uint8: LETTER of an alphabet with capitals, whose words stand between spaces, DIGIT (decimal), FLAG
    (a regional indicator), MARK, FORMAT (other invisible characters), SPACE, or OTHER."""
    table = np.full(sys.maxunicode + 1, OTHER, dtype=np.uint8)
    for point in chain(range(FEW_POINTS), range(*FEW_MARKS)):
        kind = KIND_OF_CATEGORY.get(category(chr(point)), OTHER)
        table[point] = LETTER if kind == OTHER and has_case(chr(point)) else kind
    table[WHITE_SPACE] = SPACE
    table[0x200B] = SPACE  # of no width, but between words
    table[0x1F1E6:0x1F200] = FLAG
    for first, last in MARKS_BY_RULE:
        table[first : last + 1] = MARK
    return table


def has_case(character: str) -> bool:
    """Also of what is no letter by its category, as the small o of 1º."""
    return character.isupper() or character.islower()


def bio_tags(label_ids: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """Label ids and begin bits [tokens] → BIO tags [tokens] uint16: 0 is O, 2 * label - 1 begins a span of that label,
    2 * label continues one. A begin bit on O is ignored."""
    label_ids = label_ids.astype(np.uint16)
    return 2 * label_ids - (begins & (label_ids != OUTSIDE_ID))


def labels_of_tags(tags: np.ndarray) -> np.ndarray:
    """BIO tags [tokens] → label ids [tokens] uint16."""
    return ((tags + 1) // 2).astype(np.uint16)


def begins_of_tags(tags: np.ndarray) -> np.ndarray:
    """BIO tags [tokens] → begin bits [tokens] bool."""
    return tags % 2 == 1
