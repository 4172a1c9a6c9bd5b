"""Raw rows of every form people have → text, language and clean character spans, or the reason why not.

The forms are recognised by their fields; docs/data.md shows one row of each.
"""

import ast
import bisect
import hashlib
import io
import json
import os
import re
import sys
import warnings
import zlib
from collections.abc import Collection, Iterator
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import NamedTuple

from pii.common import UserError
from pii.corpus.doubts.units import Marked, other_unit
from pii.inputs import NOT_UTF8, advice, as_utf8
from pii.untrusted import read_json

Span = tuple[int, int, str]  # start, end (exclusive), label; in code points

OUTSIDE = "O"
UNKNOWN_LANGUAGE = "und"  # ISO 639 for undetermined
LANGUAGE_NAMES = {"english": "en", "french": "fr"}
INSTANCE_SUFFIX = re.compile(r"_\d+$")
DIGITS = re.compile(r"\d+")
BRACKETS = re.compile(r"[\[\](){}]")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MOST_NAMED = 10  # labels in a warning
NAMED_JSON = re.compile(r"\.json(\.gz)?$", re.I)
JSON, JSON_SPACE = json.JSONDecoder(), re.compile(r"[ \t\n\r]*")
LINE_BYTES, LIST_BYTES = 1 << 27, 1 << 30  # of a row and of a JSON list at most: a small archive can hold much more
# what is parsed of spans in one string at most: characters of JSON, and characters and brackets in brackets of Python,
# whose parser takes a kilobyte a number
NOTATION_LIMIT, LITERAL_LIMIT, LITERAL_DEPTH = 10_000_000, 100_000, 50


class RowError(ValueError):
    """A row that cannot be right; the message is the reason and never holds the row's text."""


class OffsetError(RowError):
    """Offsets that are integers and do not fit the text."""


class Row(NamedTuple):
    text: str
    language: str
    spans: list[Span]  # sorted by start, trimmed, without overlaps
    overlapping: int  # spans that lost to a longer or earlier one
    blank: int  # spans over nothing but white space


class Source:
    """A file of raw rows, or a pipe. Iterate once over `lines()`; then `sha256` and `rows` are known."""

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path = path
        self.name = name or os.fsencode(path).decode("utf-8", "replace")
        self.language = language_of(path.name.split(".")[0].replace("-", "_").split("_"))
        self.sha256 = ""
        self.rows = 0

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """(line number from 1, raw JSON bytes); for a JSON list the element's number. Blank lines are no rows."""
        digest = hashlib.sha256()
        try:
            with self.path.open("rb", buffering=0) as raw:
                file = as_utf8(io.BufferedReader(HashedReader(raw, digest)), str(self.path))
                for number, line in self._elements(file):
                    if len(line) > LINE_BYTES:
                        raise UserError(f"{self.name} line {number} is longer than {LINE_BYTES} bytes: cut the row")
                    line = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
                    if line.strip():
                        self.rows += 1
                        yield number, line
                self.sha256 = digest.hexdigest()
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"cannot read {self.name}: {getattr(error, 'strerror', None) or error}") from None

    def _elements(self, file: io.BufferedReader) -> Iterator[tuple[int, bytes]]:
        named_json = NAMED_JSON.search(self.path.name)
        if not named_json or not file.peek(1024).lstrip(BYTE_ORDER_MARK + b" \t\r\n").startswith(b"["):
            yield from enumerate(iter(lambda: file.readline(LINE_BYTES + 1), b""), start=1)
            return
        raw = bytearray()
        while block := file.read(1 << 20):
            raw += block
            if len(raw) > LIST_BYTES:
                raise UserError(f"{self.name} is longer than {LIST_BYTES} bytes: write it as JSON Lines")
        try:
            elements = json_elements(raw.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise UserError(f"{self.name} is {NOT_UTF8}{advice(str(self.path), error.object)}") from None
        except (ValueError, RecursionError):
            raise UserError(f"{self.name} holds no valid JSON list: if it is JSON Lines, call it .jsonl") from None
        for number, element in enumerate(elements, start=1):
            yield number, element.encode()


class HashedReader(io.RawIOBase):
    """A raw file whose bytes are hashed as they are read: a pipe can be read only once."""

    def __init__(self, raw: io.RawIOBase, digest) -> None:
        self._raw, self._digest = raw, digest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        count = self._raw.readinto(buffer)
        self._digest.update(memoryview(buffer)[:count])
        return count


def json_elements(text: str) -> list[str]:
    """The elements of a JSON list, each still as JSON, so that every row goes one way. Raises ValueError or
    RecursionError."""
    elements: list[str] = []
    end = after_space(text, 0)
    while not elements or text[end] == ",":
        start = after_space(text, end + 1)  # after the bracket or the comma
        if not elements and text[start : start + 1] == "]":
            end = start
            break
        _, end = JSON.raw_decode(text, start)
        elements.append(text[start:end])
        end = after_space(text, end)
        if text[end : end + 1] not in (",", "]") or end == len(text):
            raise ValueError("no end of the list")
    if after_space(text, end + 1) < len(text):
        raise ValueError("more than a list")
    return elements


def after_space(text: str, start: int) -> int:
    """Where something other than JSON's white space comes, from `start` on."""
    space = JSON_SPACE.match(text, start)
    assert space  # of any length
    return space.end()


def language_of(words: list[str]) -> str:
    """The first of the words that names a language ("english", "fr"), as ISO 639; else `und`."""
    for word in words:
        word = word.strip().lower()
        if word in LANGUAGE_NAMES.values():
            return word
        if word in LANGUAGE_NAMES:
            return LANGUAGE_NAMES[word]
    return UNKNOWN_LANGUAGE


def parse_row(line: bytes, default_language: str = UNKNOWN_LANGUAGE) -> Row:
    """One raw row → Row. Raises RowError with the reason."""
    fields = fields_of(line)
    text, spans = text_and_spans(fields)
    if not isinstance(text, str) or not text.strip():
        raise RowError("no text")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise RowError("text with a lone surrogate") from None
    try:
        kept, blank = checked_spans(text, spans)
    except OffsetError as error:
        raise RowError(other_unit(text, marked(spans), impossible=True) or str(error)) from None
    winners = without_overlaps(kept)
    return Row(text, row_language(fields, default_language), winners, len(kept) - len(winners), blank)


def fields_of(line: bytes) -> dict:
    try:
        fields = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise RowError(NOT_UTF8) from None
    except (ValueError, RecursionError):
        raise RowError("broken JSON") from None
    if not isinstance(fields, dict):
        raise RowError("not a JSON object")
    return fields


def misread(line: bytes) -> str | None:
    """Why a row that was accepted, but has spans that cut words, must be refused after all; else None."""
    text, spans = text_and_spans(fields_of(line))
    has_values = any(value is not None for *_, value in spans)  # then they stood where the offsets say
    return None if has_values else other_unit(str(text), marked(spans), impossible=False)


def marked(spans: list) -> list[Marked]:
    """The unchecked spans of `text_and_spans` as `other_unit` takes them."""
    outside = [label_type(str(label)) == OUTSIDE for _, _, label, _ in spans]
    return [Marked(start, end, value, o) for (start, end, _, value), o in zip(spans, outside, strict=True)]


def row_language(fields: dict, default: str) -> str:
    language = fields.get("language")
    return language_code(language) or default if isinstance(language, str) else default


@lru_cache(maxsize=1024)
def language_code(language: str) -> str:
    """ "en", "en_US", "English" → "en"; "" for what is no language code."""
    language = language.strip().lower()
    code = LANGUAGE_NAMES.get(language) or re.split("[-_]", language)[0]
    return code if re.fullmatch("[a-z]{2,8}", code) else ""


def read_label_map(path: Path) -> dict[str, str]:
    """A label map from JSON: label → new label; null, which leaves the label out, becomes `O`. Raises UserError."""
    try:
        given = read_json(path)
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the label map {path}: {type(error).__name__}") from None
    if not isinstance(given, dict) or not all(new is None or is_label(new) for new in given.values()):
        raise UserError(f"{path} must hold a JSON object of labels to labels or null")
    return {old: OUTSIDE if new is None else new for old, new in given.items()}


def warn_unused(label_map: dict[str, str], labels: Collection[str], whose: str) -> None:
    """Name the labels of a label map that are none of these, or `O`, on standard error: most are misspelt."""
    if unused := sorted(set(label_map) - set(labels) | set(label_map) & {OUTSIDE}):
        named = [label if is_label(label) else ascii(label) for label in unused[:MOST_NAMED]]
        more = f" and {len(unused) - MOST_NAMED} more" if len(unused) > MOST_NAMED else ""
        print(f"warning: the label map names labels that {whose}: {', '.join(named)}{more}", file=sys.stderr)


def is_label(label: object) -> bool:
    """Whether it can stand in a text or a terminal as a label: no control characters, no lone surrogates."""
    return isinstance(label, str) and label != "" and label.isprintable()


def text_and_spans(fields: dict) -> tuple[object, list]:
    """The text and its unchecked (start, end, label, value or None) of whichever form the row has."""
    if "full_text" in fields and "spans" in fields:  # presidio-research
        keys = ("start_position", "end_position", "entity_type", "entity_value")
        return fields["full_text"], records(fields["spans"], keys)
    if "source_text" in fields and isinstance(fields.get("privacy_mask"), list):  # pii-masking-200k today
        return fields["source_text"], records(fields["privacy_mask"], ("start", "end", "label", "value"))
    for name in ("source_text", "unmasked_text"):
        if name in fields and "span_labels" in fields:
            return fields[name], triples(fields["span_labels"])
    raise RowError("no known form")


def records(spans: object, keys: tuple[str, str, str, str]) -> list:
    if not isinstance(spans, list) or not all(isinstance(span, dict) for span in spans):
        raise RowError("spans that are no list of objects")
    return [tuple(span.get(key) for key in keys) for span in spans]


def triples(spans: object) -> list:
    if isinstance(spans, str):
        spans = parse_notation(spans)
    if not isinstance(spans, (list, tuple)):
        raise RowError("spans that are no list")
    if not all(isinstance(span, (list, tuple)) and len(span) == 3 for span in spans):
        raise RowError("spans that are not [start, end, label]")
    return [(start, end, label, None) for start, end, label in spans]


def parse_notation(notation: str) -> object:
    """Spans written as JSON or as Python literals, in one string."""
    if len(notation) > NOTATION_LIMIT:
        raise RowError("span notation too long")
    # without a double quote or a backslash, every single quote delimits a string: JSON but for the quotes, and JSON
    # parses thirty times faster than Python's literals
    plain = notation.replace("'", '"') if '"' not in notation and "\\" not in notation else notation
    try:
        return json.loads(plain)
    except (ValueError, RecursionError):
        pass
    if len(notation) > LITERAL_LIMIT or brackets_deep(notation) > LITERAL_DEPTH:
        raise RowError("span notation that is neither JSON nor Python")
    try:
        with warnings.catch_warnings(action="ignore"):  # of an odd escape, which would go to standard error
            return ast.literal_eval(notation)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        raise RowError("span notation that is neither JSON nor Python") from None


def brackets_deep(notation: str) -> int:
    """How many brackets are open at once at most; those in quotes count as others do."""
    steps = (1 if bracket in "[({" else -1 for bracket in BRACKETS.findall(notation))
    return max(accumulate(steps), default=0)


def checked_spans(text: str, spans: list) -> tuple[list[Span], int]:
    """Spans in range, white space trimmed, `O` and duplicates dropped; and how many were blank. Raises RowError."""
    kept: dict[Span, None] = {}  # a set that keeps the order
    blank = 0
    for start, end, label, value in spans:
        if type(start) is not int or type(end) is not int:
            raise RowError("offsets that are not integers")
        if start < 0 or end > len(text):
            raise OffsetError("offsets out of range")
        if not isinstance(label, str) or not (label := label_type(label)):
            raise RowError("a span without a label")
        if not label.isprintable():
            raise RowError("a label with control characters or lone surrogates")
        if start > end or (start == end and label != OUTSIDE):  # tilings hold empty O spans
            raise RowError("start not before end")
        if value is not None and value != text[start:end]:
            raise OffsetError("a value that differs from the text")
        if label == OUTSIDE:
            continue
        while start < end and text[start].isspace():
            start += 1
        while start < end and text[end - 1].isspace():
            end -= 1
        if start == end:
            blank += 1
        else:
            kept[start, end, label] = None
    return list(kept), blank


@lru_cache(maxsize=65536)
def label_type(label: str) -> str:
    """A label without its instance: `FIRSTNAME_2` is a FIRSTNAME."""
    return INSTANCE_SUFFIX.sub("", label.strip())


def without_overlaps(spans: list[Span]) -> list[Span]:
    """Of overlapping spans the longer wins, then the earlier. Sorted by start; touching spans stay two."""
    spans = sorted(spans, key=lambda span: span[:2])
    if all(left[1] <= right[0] for left, right in pairwise(spans)):
        return spans
    winners: list[Span] = []  # sorted, so that only the two neighbours can overlap a newcomer
    for span in sorted(spans, key=lambda span: span[0] - span[1]):  # stable: equals stay in order of their starts
        place = bisect.bisect_right(winners, span[0], key=lambda winner: winner[0])
        if place and winners[place - 1][1] > span[0]:
            continue
        if place < len(winners) and winners[place][0] < span[1]:
            continue
        winners.insert(place, span)
    return winners


def skeleton(row: Row) -> str:
    """The text with each span replaced by its label: rows of one skeleton are one sentence with other values.

    Case, digits and white space do not count, so that "order 17" and "Order  18" are the same sentence too.
    """
    return DIGITS.sub("", "".join(with_labels(row).split())).casefold()


def with_labels(row: Row) -> str:
    """The text with each span replaced by its label."""
    parts, position = [], 0
    for start, end, label in row.spans:
        parts += [row.text[position:start], "\0", label, "\0"]
        position = end
    parts.append(row.text[position:])
    return "".join(parts)
