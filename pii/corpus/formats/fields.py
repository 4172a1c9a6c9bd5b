"""What every form of a row shares: its fields, its spans as objects or lists, and its reasons to be refused."""

import ast
import json
import re
import warnings
from collections.abc import Iterable
from itertools import accumulate

from pii.inputs import NOT_UTF8

BRACKETS = re.compile(r"[\[\](){}]")
STRING = re.compile(r"""'([^'\n]*)'|"[^"\n]*\"""")  # of Python, without a backslash
# what is parsed of spans in one string at most: characters of JSON, and characters and brackets in brackets of Python,
# whose parser takes a kilobyte a number
NOTATION_LIMIT, LITERAL_LIMIT, LITERAL_DEPTH = 10_000_000, 100_000, 50

NOT_ACCEPTED, NOT_SUBMITTED = "a Prodigy answer other than accept", "a Label Studio task without a submitted annotation"
SET_ASIDE = (NOT_ACCEPTED, NOT_SUBMITTED)  # reasons that are no mistakes: annotators chose to leave the row out

Found = tuple[object, list]  # the text and its unchecked (start, end, label, value or None)


class RowError(ValueError):
    """A row that cannot be right; the message is the reason and never holds the row's text."""


class OffsetError(RowError):
    """Offsets that are integers and do not fit the text."""


def fields_of(line: bytes) -> dict:
    try:
        fields = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise RowError(NOT_UTF8) from None
    except (ValueError, RecursionError):
        raise RowError("broken JSON") from None
    if isinstance(fields, list) and len(fields) == 2 and isinstance(fields[0], str) and isinstance(fields[1], dict):
        return {"text": fields[0], **fields[1]}  # spaCy's older training data
    if not isinstance(fields, dict):
        raise RowError("not a JSON object")
    return fields


def string_of(fields: dict, names: Iterable[str]) -> str | None:
    """The first of these fields that is a string."""
    return next((fields[name] for name in names if isinstance(fields.get(name), str)), None)


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
    # without a backslash, a string of Python ends at the next quote of its kind: JSON but for the quotes, and JSON
    # parses thirty times faster than Python's literals
    plain = notation
    if "'" in notation and "\\" not in notation:
        plain = STRING.sub(json_string, notation) if '"' in notation else notation.replace("'", '"')
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


def json_string(literal: re.Match) -> str:
    """A string of Python without a backslash as one of JSON."""
    return literal[0] if literal[1] is None else '"' + literal[1].replace('"', '\\"') + '"'


def brackets_deep(notation: str) -> int:
    """How many brackets are open at once at most; those in quotes count as others do."""
    steps = (1 if bracket in "[({" else -1 for bracket in BRACKETS.findall(notation))
    return max(accumulate(steps), default=0)
