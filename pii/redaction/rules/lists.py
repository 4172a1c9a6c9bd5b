"""A user's own lists: values that are never redacted, values that always are, and patterns of their own labels."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import regex

from pii.common import UserError
from pii.corpus.formats.searched import is_whole as is_whole_word
from pii.corpus.label_maps.maps import is_label
from pii.corpus.spans import in_word
from pii.inputs import decoded
from pii.untrusted import read_json

LISTED = "LISTED"  # the label of a denied value that has none
TOKEN = regex.compile(r"\w+|[^\w\s]")
SECONDS, CHARACTERS_A_SECOND = 1.0, 1_000_000  # that a pattern may take for a document


class ValueList:
    """Many values → where they stand in a text, as whole words: linear in the text, however many they are.

    Case, accents and white space count, unless they are `folded`: then `Ann  lee` finds `Ánn Lee`.
    """

    def __init__(self, values: Mapping[str, str], folded: bool = False) -> None:
        """`values`: value → label. Raises UserError at one without a letter, digit or mark."""
        self.fold = folded
        # first token → length → value → label: of the values that could begin at a token, each length is looked up once
        self.by_start: defaultdict[str, defaultdict[int, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
        for value, label in values.items():
            composed, split = unicodedata.normalize("NFC", value), unicodedata.normalize("NFD", value)
            for key in map(str.strip, {fold(value)[0]} if folded else {value, composed, split}):
                first = TOKEN.match(key)
                if first is None:
                    raise UserError("a value of a list is empty: leave it out")
                self.by_start[first[0]][len(key)][key] = label

    def find(self, text: str) -> Iterator[tuple[int, int, str]]:
        """(start, end, label), sorted: the longest value at each place. One may begin within another."""
        read, places = fold(text) if self.fold else (text, None)
        for match in TOKEN.finditer(read):
            if match[0] not in self.by_start:
                continue
            for length, values in sorted(self.by_start[match[0]].items(), reverse=True):
                start, end = match.start(), match.start() + length
                label = values.get(read[start:end])
                if label is not None and is_whole(read, start, end):
                    if places is not None:
                        start, end = places[start], after(text, places[end - 1])
                    yield start, end, label
                    break


def is_whole(text: str, start: int, end: int) -> bool:
    """Whether words begin and end there: a letter beside a digit is no border here, unlike where spans are widened."""
    cuts = (start > 0 and in_word(text, start)) or (end < len(text) and in_word(text, end))
    return is_whole_word(text, start, end) and not cuts


def fold(text: str) -> tuple[str, list[int]]:
    """The text without case and accents, each white space one space; and the place in the text of each character."""
    characters: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        if character.isspace():
            if characters and characters[-1] != " ":
                characters.append(" ")
                places.append(place)
            continue
        for part in unicodedata.normalize("NFKD", character.casefold()):
            if not unicodedata.combining(part):
                characters.append(part)
                places.append(place)
    return "".join(characters), places


def after(text: str, place: int) -> int:
    """Where the character ends that stands at a place, with the accents that follow it."""
    end = place + 1
    while end < len(text) and unicodedata.combining(text[end]):
        end += 1
    return end


class Patterns:
    """Label → regular expression, with a time limit a document: one that takes too long is an error and no wait."""

    def __init__(self, patterns: Iterable[tuple[str, str]]) -> None:
        """(label, pattern) pairs. Raises UserError at a pattern that is none."""
        self.patterns = [(label, compiled(pattern)) for label, pattern in patterns]

    def find(self, text: str) -> Iterator[tuple[int, int, str]]:
        """(start, end, label); those of one pattern do not overlap."""
        limit = SECONDS + len(text) / CHARACTERS_A_SECOND
        for label, pattern in self.patterns:
            try:
                yield from [(*match.span(), label) for match in pattern.finditer(text, timeout=limit) if match[0]]
            except TimeoutError:
                raise UserError(
                    f"the pattern {pattern.pattern!r} takes more than {limit:.0f} s for a text: make it simpler"
                ) from None


def compiled(pattern: str) -> regex.Pattern:
    try:
        return regex.compile(pattern)
    except (regex.error, RecursionError, OverflowError) as error:
        raise UserError(f"the pattern {pattern!r} is none ({error}): mend it") from None


def parted(entries: Iterable[tuple[str, str]]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """(value or /pattern/, label) pairs → (value → label, (label, pattern) pairs). Raises UserError."""
    values: dict[str, str] = {}
    patterns: list[tuple[str, str]] = []
    for value, label in entries:
        if not isinstance(value, str) or not is_label(label):
            raise UserError("a list holds what is no text, or a label that is empty or has a control character")
        if is_pattern(value):
            patterns.append((label, value[1:-1]))
        else:
            values[value] = label
    return values, patterns


def read_list(path: Path, labelled: bool) -> list[tuple[str, str]]:
    """(value or /pattern/, label) pairs of a file, one a line; `labelled`: after a tab its label, LISTED where there is
    none. Empty lines and those that begin with # are passed over. Raises UserError."""
    pairs = []
    for line in decoded(path.read_bytes(), str(path)).splitlines():
        value, _, label = line.partition("\t") if labelled else (line, "", "")
        value, label = value.strip(), label.strip() or LISTED
        if value and not value.startswith("#"):
            pairs.append((value, label))
    return pairs


def is_pattern(line: str) -> bool:
    return len(line) > 2 and line[0] == line[-1] == "/"


def labelled_patterns(given: object, where: str) -> list[tuple[str, str]]:
    """(label, pattern) pairs of {label: pattern or list of patterns}. Raises UserError, which names `where`."""
    pairs: list[tuple[str, str]] = []
    if isinstance(given, Mapping):
        for label, patterns in given.items():
            several = patterns if isinstance(patterns, list | tuple) else [patterns]
            pairs += [(label, pattern) for pattern in several]
    if not isinstance(given, Mapping) or not all(is_label(label) and isinstance(p, str) and p for label, p in pairs):
        raise UserError(f'{where} is no object of label to pattern, as {{"EMPLOYEEID": "EMP-[0-9]{{6}}"}}')
    return pairs


def read_patterns(path: Path) -> list[tuple[str, str]]:
    """labelled_patterns of a JSON file. Raises UserError."""
    try:
        given = read_json(path)
    except UserError:
        raise
    except ValueError:
        given = None
    return labelled_patterns(given, str(path))
