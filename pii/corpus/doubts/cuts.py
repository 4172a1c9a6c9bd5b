"""Gold spans that cut a word or a number, as [5, 14] cuts "Born 12.03.1980": most come of offsets that are wrong.

A border lies inside a word between two letters of an alphabet with capitals, before a combining mark of a letter, and
beside an apostrophe between letters but for French elisions (`d'|Angers`) and English endings (`Ann|'s`); inside a
number between two digits and beside a separator of digits. Between a letter and a digit (`46117|Main`) there is none,
and where another gold span begins or ends neither: spans may touch.
"""

import functools
import re
import unicodedata

import numpy as np

from pii.corpus.spans import JoinedText

# kinds of characters: a LETTER is one without capitals; the last two can join what is on both sides of them
OTHER, CASED, DIGIT, MARK, LETTER, APOSTROPHE, JOINT = range(7)
APOSTROPHES, POINTS, SEPARATORS = "'’", ".,", "-/:"  # a separator also stands between two numbers, as in 12-14
FEW_POINTS = 0x2100  # letters of most alphabets and punctuation lie below: their kinds are looked up in a table
MOST_MARKS = 4  # of one letter that are looked through
ELISION = re.compile(r"(?:^|\W)(?:[cdjlmnst]|(?:jus|lors|puis|quoi|quel)?qu)$", re.IGNORECASE)
ENDING = re.compile(r"(?:[dmst]|ll|re|ve)(?!\w)", re.IGNORECASE)
CONTEXT = 10  # characters on a side that are read: more than an elision has


def cutting_spans(text: JoinedText, spans: np.ndarray, span_counts: np.ndarray) -> np.ndarray:
    """[n] bool: which of the spans [n, 3], sorted in each text, cut a word or a number."""
    text_start, text_end = (np.repeat(edges, span_counts) for edges in (text.starts[:-1], text.starts[1:]))
    starts, ends = spans[:, 0] + text_start, spans[:, 1] + text_start
    gaps = np.where(text_start[1:] == text_start[:-1], starts[1:] - ends[:-1], len(text.points))
    result = np.zeros(len(spans), dtype=bool)
    for places, gap in ((starts, np.append([2], gaps)), (ends, np.append(gaps, [2]))):  # to the neighbour on that side
        own = np.flatnonzero((text_start < places) & (places < text_end) & (gap > 0))
        before, after = (kinds_of(text.points[places[own] + side]) for side in (-1, 0))
        for i in own[(after == MARK) | (before == MARK)]:
            result[i] |= mark_is_cut(text, places[i], text_start[i])
        result[own] |= (before == after) & ((after == CASED) | (after == DIGIT))
        near_joint = own[((before >= APOSTROPHE) | (after >= APOSTROPHE)) & (gap[own] > 1)]
        for i in near_joint[beside_joint(text, places[near_joint])]:
            result[i] |= joint_is_cut(text, places[i], starts[i], ends[i], text_start[i], text_end[i])
    return result


def beside_joint(text: JoinedText, places: np.ndarray) -> np.ndarray:
    """[n] bool of positions inside texts: beside an apostrophe between letters, or a joint between digits."""
    around = np.clip(places[:, None] + np.arange(-2, 2), 0, len(text.points) - 1)
    two_before, before, after, two_after = kinds_of(text.points[around].ravel()).reshape(-1, 4).T
    return joins(two_before, before, after) | joins(before, after, two_after)


def joins(left: np.ndarray, joint: np.ndarray, right: np.ndarray) -> np.ndarray:
    """[n] bool of kinds: whether the middle one may join the others to one word or number."""
    letters = ((left == CASED) | (left == MARK)) & (right == CASED)
    return ((joint == APOSTROPHE) & letters) | ((joint >= APOSTROPHE) & (left == DIGIT) & (right == DIGIT))


def mark_is_cut(text: JoinedText, place: int, text_start: int) -> bool:
    """Whether a position before or after a combining mark is inside a word: the mark is as the letter it stands on."""
    base, after = int(place) - 1, chr(text.points[place])
    while base > text_start and place - base <= MOST_MARKS and kind_of(chr(text.points[base])) == MARK:
        base -= 1
    letter = kind_of(chr(text.points[base]))
    return letter in (CASED, LETTER) if kind_of(after) == MARK else letter == CASED == kind_of(after)


def joint_is_cut(text: JoinedText, place: int, start: int, end: int, text_start: int, text_end: int) -> bool:
    """Whether the punctuation mark beside a position joins a word's or a number's parts, of which the span start:end
    has not all."""
    first = max(place - CONTEXT, text_start)
    around = read(text, first, min(place + CONTEXT, text_end))
    for joint in (place - first - 1, place - first):
        mark, left, right = around[joint], around[:joint], around[joint + 1 :]
        kinds = [kind_of(side) if side else OTHER for side in (left[-1:], right[:1])]
        if mark in APOSTROPHES and kinds in ([CASED, CASED], [MARK, CASED]):
            return not ELISION.search(left) and not ENDING.match(right)
        if kinds == [DIGIT, DIGIT]:
            if mark in SEPARATORS:  # a date's, where the span has another of them than the one at its edge
                return mark in read(text, start + 1, end - 1)
            return mark in POINTS + APOSTROPHES
    return False


def read(text: JoinedText, first: int, stop: int) -> str:
    return text.points[first:stop].tobytes().decode("utf-32-le")


def kinds_of(points: np.ndarray) -> np.ndarray:
    """[n] code points → their kinds."""
    kinds = common_kinds()[np.minimum(points, FEW_POINTS)]
    (others,) = np.nonzero(points >= FEW_POINTS)
    if len(others):
        distinct, inverse = np.unique(points[others], return_inverse=True)
        kinds[others] = np.array([kind_of(chr(point)) for point in distinct], dtype=np.uint8)[inverse]
    return kinds


@functools.cache
def common_kinds() -> np.ndarray:
    """[FEW_POINTS + 1] uint8, the last for all others."""
    return np.array([kind_of(chr(point)) for point in range(FEW_POINTS)] + [OTHER], dtype=np.uint8)


def kind_of(character: str) -> int:
    if character in APOSTROPHES:
        return APOSTROPHE
    if character in POINTS + SEPARATORS:
        return JOINT
    if character.isdecimal():
        return DIGIT
    if character.isupper() or character.islower():
        return CASED
    if character.isalpha():
        return LETTER
    return MARK if unicodedata.category(character).startswith("M") else OTHER
