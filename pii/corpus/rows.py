"""Raw rows of every form people have → text, language and clean character spans, or the reason why not.

The forms are recognised by their fields; docs/data.md shows one row of each.
"""

import bisect
import re
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from pii.corpus.doubts.units import Marked, other_unit
from pii.corpus.formats import brat, known, label_studio, listed, tokens, webanno
from pii.corpus.formats.fields import Found, OffsetError, RowError, fields_of

Span = tuple[int, int, str]  # start, end (exclusive), label; in code points

OUTSIDE = "O"
UNKNOWN_LANGUAGE = "und"  # ISO 639 for undetermined
LANGUAGE_NAMES = {"english": "en", "french": "fr"}
INSTANCE_SUFFIX = re.compile(r"_\d+$")
DIGITS = re.compile(r"\d+")
# the first that knows a row reads it
FORMS = (known.read, label_studio.read, tokens.read, brat.read, webanno.read, listed.read)


class Row(NamedTuple):
    text: str
    language: str
    spans: list[Span]  # sorted by start, trimmed, without overlaps
    overlapping: int  # spans that lost to a longer or earlier one
    blank: int  # spans over nothing but white space


def language_of(words: list[str]) -> str:
    """The first of the words that names a language ("english", "fr"), as ISO 639; else `und`."""
    for word in words:
        word = word.strip().lower()
        if word in LANGUAGE_NAMES.values():
            return word
        if word in LANGUAGE_NAMES:
            return LANGUAGE_NAMES[word]
    return UNKNOWN_LANGUAGE


def parse_row(line: bytes, default_language: str = UNKNOWN_LANGUAGE, tag_names: tokens.TagNames = ()) -> Row:
    """One raw row → Row; tags that are numbers count through `tag_names`. Raises RowError with the reason."""
    fields = fields_of(line)
    text, spans = text_and_spans(tokens.named(fields, tag_names))
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


def text_and_spans(fields: dict) -> Found:
    """The text and its unchecked (start, end, label, value or None) of whichever form the row has."""
    for read in FORMS:
        if (found := read(fields)) is not None:
            return found
    raise RowError("no known form")


def misread(line: bytes, tag_names: tokens.TagNames = ()) -> str | None:
    """Why a row that was accepted, but has spans that cut words, must be refused after all; else None."""
    text, spans = text_and_spans(tokens.named(fields_of(line), tag_names))
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
