"""Values that rows disagree about: labelled here and not there, or with one label here and another there."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations

from pii.corpus.rows import Row

WORD = re.compile(r"\w+")
INSIDE = re.compile(r"[-.@_/&+]?\w|[\u0300-\u036f]")  # what goes on behind a value is another value
BEFORE = re.compile(r"\w[-.@_/&+]?$")
ONE_WORD = re.compile(r"[^\W\d_]+(?:[-'’.][^\W\d_]+)*")
FEWEST_LETTERS, FEWEST_MIXED = 3, 5  # characters of a value, of one with digits: a short number means many things
# single words that two labels share, from which on it is their manner, as of first names and surnames
FEWEST_SHARED = 5
SELDOM, SELDOM_SHARE = 2, 1 / 3  # the exception: so many places, or so many for each as a value mostly is

Labels = Mapping[str, Counter]  # value → how often it has each label


def labelled(rows: Iterable[Row]) -> Labels:
    """The values that can be told again where they stand elsewhere."""
    values: defaultdict[str, Counter] = defaultdict(Counter)
    for row in rows:
        for start, end, label in row.spans:
            if is_telling(value := row.text[start:end]):
                values[value][label] += 1
    return values


def is_telling(value: str) -> bool:
    """Whether a value is long enough to mean one thing."""
    fewest = FEWEST_MIXED if any(map(str.isdigit, value)) else FEWEST_LETTERS
    return len(value) >= fewest and WORD.search(value) is not None


def minorities(values: Labels) -> dict[str, set[str]]:
    """Value → the labels that are likely wrong: those it has seldom beside another that it has as often at least.

    A single word can be two things by nature: it counts only where its labels share few such words.
    """
    several = {value: counts for value, counts in values.items() if len(counts) > 1}
    shared: Counter = Counter()
    for value, counts in several.items():
        shared.update(combinations(sorted(counts), 2) if ONE_WORD.fullmatch(value) else ())
    usual = {pair for pair, count in shared.items() if count >= FEWEST_SHARED}
    found = {}
    for value, counts in several.items():
        if ONE_WORD.fullmatch(value) and {*combinations(sorted(counts), 2)} <= usual:
            continue
        most = max(counts.values())
        rare = {label for label, count in counts.items() if count <= max(SELDOM, most * SELDOM_SHARE)}
        less = {label for label in rare if counts[label] < most}
        if rare:
            found[value] = less or rare
    return found


def unlabelled(rows: Iterable[Row], values: Labels) -> dict[str, list[int]]:
    """Value → the rows that have it where no span is, once for each place."""
    shapes: defaultdict[str, set[tuple[int, int]]] = defaultdict(set)
    for value in values:
        word = WORD.search(value)
        assert word  # is_telling
        shapes[word.group()].add((len(value), word.start()))
    longest_first = {word: sorted(own, reverse=True) for word, own in shapes.items()}
    found: defaultdict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        for value in bare_values(row, values, longest_first):
            found[value].append(index)
    return {value: places for value, places in found.items() if is_seldom(value, len(places), values[value].total())}


def is_seldom(value: str, bare: int, with_span: int) -> bool:
    """Whether places without a span are the exception: a single word that has many is rather no name there."""
    return not ONE_WORD.fullmatch(value) or bare <= max(SELDOM, with_span * SELDOM_SHARE)


def bare_values(row: Row, values: Labels, shapes: Mapping[str, list[tuple[int, int]]]) -> Iterator[str]:
    """The longest known value at each place of a row that no span touches. `shapes`: the first word of values → how
    long they are, and where in them it starts."""
    stop = 0
    for match in WORD.finditer(row.text):
        for length, shift in shapes.get(match.group(), ()):
            start = match.start() - shift
            value = row.text[start : start + length] if start >= stop else ""
            if value in values and stands_alone(row, start, start + length):
                yield value
                stop = start + length
                break


def stands_alone(row: Row, start: int, end: int) -> bool:
    """Whether a place is part of no longer word or address, and no span is there."""
    text = row.text
    if INSIDE.match(text, end) or BEFORE.search(text[max(0, start - 2) : start]):
        return False
    return not any(first < end and start < last for first, last, _ in row.spans)
