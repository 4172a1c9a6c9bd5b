"""Gold spans that cut a word or a number, as [5, 14] cuts "Born 12.03.1980": most come of offsets that are wrong.

A border lies inside a word where spans.py's `in_word` says so, and beside an apostrophe between letters but for French
elisions (`d'|Angers`) and English endings (`Ann|'s`); inside a number also beside a separator of digits. Between a
letter and a digit (`46117|Main`) there is none, and where another gold span begins or ends neither: spans may touch.
"""

import re

import numpy as np

from pii.corpus.spans import DIGIT, IN_SIGHT, LETTER, MARK, SPACE, JoinedText, in_word, kinds_of_characters

APOSTROPHES, POINTS, SEPARATORS = "'’", ".,", "-/:"  # a separator also stands between two numbers, as in 12-14
JOINTS = np.array([ord(mark) for mark in APOSTROPHES + POINTS + SEPARATORS], dtype=np.uint32)
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
        result[own] |= inside_words(text, places[own])
        points = text.points[places[own] - 1], text.points[places[own]]
        near_joint = own[(np.isin(points[0], JOINTS) | np.isin(points[1], JOINTS)) & (gap[own] > 1)]
        for i in near_joint[beside_joint(text, places[near_joint])]:
            result[i] |= joint_is_cut(text, places[i], starts[i], ends[i], text_start[i], text_end[i])
    return result


def inside_words(text: JoinedText, places: np.ndarray) -> np.ndarray:
    """[n] bool of positions inside texts: what `in_word` says of each, which is asked only beside marks and invisible
    characters."""
    before, after = (kinds_of_characters()[text.points[places + side]] for side in (-1, 0))
    result = (before == after) & (after > SPACE)
    for i in np.flatnonzero((before >= MARK) | (after >= MARK)):
        start, end = text.starts[np.searchsorted(text.starts, places[i], side="right") + np.array([-1, 0])]
        first = max(start, places[i] - IN_SIGHT)
        result[i] = in_word(read(text, first, min(end, places[i] + IN_SIGHT)), int(places[i] - first))
    return result


def beside_joint(text: JoinedText, places: np.ndarray) -> np.ndarray:
    """[n] bool of positions inside texts: beside an apostrophe between letters, or a joint between digits."""
    around = text.points[np.clip(places[:, None] + np.arange(-2, 2), 0, len(text.points) - 1)]
    kinds = kinds_of_characters()[around]
    left, right, middle = kinds[:, :2], kinds[:, 2:], around[:, 1:3]
    letters = ((left == LETTER) | (left == MARK)) & (right == LETTER) & np.isin(middle, JOINTS[: len(APOSTROPHES)])
    digits = (left == DIGIT) & (right == DIGIT) & np.isin(middle, JOINTS)
    return (letters | digits).any(axis=1)


def joint_is_cut(text: JoinedText, place: int, start: int, end: int, text_start: int, text_end: int) -> bool:
    """Whether the punctuation mark beside a position joins a word's or a number's parts, of which the span start:end
    has not all."""
    first = max(place - CONTEXT, text_start)
    around = read(text, first, min(place + CONTEXT, text_end))
    for joint in (place - first - 1, place - first):
        mark, left, right = around[joint], around[:joint], around[joint + 1 :]
        kinds = [kinds_of_characters()[ord(side)] if side else None for side in (left[-1:], right[:1])]
        if mark in APOSTROPHES and kinds in ([LETTER, LETTER], [MARK, LETTER]):
            return not ELISION.search(left) and not ENDING.match(right)
        if kinds == [DIGIT, DIGIT]:
            if mark in SEPARATORS:  # a date's, where the span has another of them than the one at its edge
                return mark in read(text, start + 1, end - 1)
            return mark in POINTS + APOSTROPHES
    return False


def read(text: JoinedText, first: int, stop: int) -> str:
    return text.points[first:stop].tobytes().decode("utf-32-le")
