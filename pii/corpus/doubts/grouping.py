"""Which rows are one sentence or one text: such rows stand on one side of a split, whatever their spans are.

Rows of one skeleton are one sentence. Two skeletons are the same group where they differ in Unicode normalisation
alone, or where rows of both have the same text with other spans.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from pii.corpus.rows import Row, skeleton, with_labels
from pii.corpus.spans import starts_of

ASCII_SPACE = bytes(point for point in range(128) if chr(point).isspace())
ASCII_NOISE = ASCII_SPACE + b"0123456789"


class Keys(NamedTuple):
    """Hashes of rows, each [rows] uint64: equal where what they are of is equal."""

    skeletons: np.ndarray
    composed: np.ndarray  # of skeletons whose letters and accents are composed (NFC)
    texts: np.ndarray  # of texts, likewise; white space and case do not count

    def groups(self) -> np.ndarray:
        """[rows] uint64: the skeletons' hashes, one of them for all that are the same group."""
        return merged(self.skeletons, self.composed, self.texts)


def keys_of(rows: Iterable[Row]) -> Keys:
    """The rows' hashes."""
    skeletons, composed, texts = [], [], []
    for row in rows:
        sentence = with_labels(row)
        if sentence.isascii():  # most are, and bytes are several times as fast: the same as below
            skeletons.append(digest(sentence.encode().translate(None, ASCII_NOISE).lower()))
            composed.append(skeletons[-1])
        else:
            own = skeleton(row)
            skeletons.append(digest(own.encode()))
            composed.append(skeletons[-1] if is_composed(own) else digest(compose(own).encode()))
        texts.append(digest(compact(row.text)))
    return Keys(as_numbers(skeletons), as_numbers(composed), as_numbers(texts))


def joined_keys(parts: list[Keys]) -> Keys:
    return Keys(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=8).digest()


def as_numbers(hashes: Sequence[bytes]) -> np.ndarray:
    """[hashes] uint64."""
    return np.array(np.frombuffer(b"".join(hashes), dtype=">u8"), dtype=np.uint64) if hashes else np.zeros(0, np.uint64)


def is_composed(text: str) -> bool:
    return unicodedata.is_normalized("NFC", text)


def compose(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def compact(text: str) -> bytes:
    """The text without white space, in lower case, its letters and accents composed."""
    if text.isascii():
        return text.encode().translate(None, ASCII_SPACE).lower()
    return compose("".join(text.split()).casefold()).encode()


def merged(groups: np.ndarray, *keys: np.ndarray) -> np.ndarray:
    """[rows] names of groups → the same, where groups with a row of one key each are one, named as the least of them.

    Names of groups that share no key stay as they are. Each of `keys` is [rows].
    """
    pairs = [pair for key in keys for pair in sharing(groups, key)]
    if not pairs:
        return groups
    above: dict[int, int] = {}

    def least(group: int) -> int:
        while (upper := above.get(group, group)) != group:
            above[group] = above.get(upper, upper)  # halves the way for those who come after
            group = upper
        return group

    for left, right in pairs:
        low, high = sorted((least(left), least(right)))
        above[high] = low
    old = np.array(sorted(above), dtype=groups.dtype)
    new = np.array([least(group) for group in old.tolist()], dtype=groups.dtype)
    place = np.minimum(np.searchsorted(old, groups), len(old) - 1)
    return np.where(old[place] == groups, new[place], groups)


def sharing(groups: np.ndarray, key: np.ndarray) -> list[list[int]]:
    """Pairs of different groups that have a row of the same key; through them all such groups are connected."""
    order = np.argsort(key, kind="stable")
    groups, key = groups[order], key[order]
    meet = np.flatnonzero((key[1:] == key[:-1]) & (groups[1:] != groups[:-1]))
    return np.stack([groups[meet], groups[meet + 1]], axis=1).tolist()


def contradicting(texts: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """[rows] bool: whether another row of the same text has other spans; both are hashes [rows]."""
    order = np.argsort(texts, kind="stable")
    texts, spans = texts[order], spans[order]
    differ = (texts[1:] == texts[:-1]) & (spans[1:] != spans[:-1])  # of neighbours, so at least once in such a text
    result = np.zeros(len(texts), dtype=bool)
    result[order] = np.isin(texts, texts[1:][differ])
    return result


def span_hashes(rows: Iterable[Row]) -> np.ndarray:
    """[rows] uint64 of the spans and what is around them; white space, case and the form of accents do not count."""
    hashes = []
    for row in rows:
        parts, position = [], 0
        for start, end, label in row.spans:
            parts += [compact(row.text[position:start]), label, compact(row.text[start:end])]
            position = end
        hashes.append(digest(repr(parts).encode()))
    return as_numbers(hashes)


def quick_span_hashes(spans: np.ndarray, span_counts: np.ndarray) -> np.ndarray:
    """[texts] uint64 of spans [n, 3] as they are: of one text's spans, different where the spans are."""
    start, end, label = spans.astype(np.uint64).T
    mixed = (start << 40 ^ end << 16 ^ label) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ mixed >> 29) * np.uint64(0xBF58476D1CE4E5B9)
    totals = np.zeros(len(spans) + 1, dtype=np.uint64)
    np.cumsum(mixed ^ mixed >> 32, out=totals[1:])  # wraps around, and so do the differences
    starts = starts_of(span_counts)
    return totals[starts[1:]] - totals[starts[:-1]]
