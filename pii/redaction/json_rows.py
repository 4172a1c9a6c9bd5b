"""One line of JSON Lines whose values are replaced where they stand: every other byte stays as it came."""

import json
import re
from typing import NamedTuple

from pii.untrusted import is_deeper

DEEPEST = 200  # JSON levels, the row's own included; far below where Python stops, so that all versions agree
JSON = json.JSONDecoder(strict=False, parse_float=bool, parse_int=bool)  # numbers may have any size: none is used
SURROGATE = re.compile("[\ud800-\udfff]")
SPACE = r"[ \t\n\r]*"
OBJECT, QUOTE, COLON, COMMA, END = (
    re.compile(pattern.replace("_", SPACE)) for pattern in ("_{", '_"', "_:_", "_,", r"_}_\Z")
)


class Member(NamedTuple):
    key: str
    value: object
    start: int  # where the value's JSON stands in the line
    end: int


class JsonRow(NamedTuple):
    line: str  # as it came, with its line end
    members: list[Member]  # those of the outermost object, one at least
    bom: str = ""  # the byte order mark of its file, for the first row

    def with_values(self, values: dict[str, str]) -> str:
        """The line with the values (key → JSON) in the place of those that the keys had; new keys come last."""
        parts, position = [], 0
        for key, _, start, end in self.members:
            if key in values:
                parts += [self.line[position:start], values[key]]
                position = end
        parts.append(self.line[position : self.members[-1].end])
        new = values.keys() - {member.key for member in self.members}
        parts += [f", {json_string(key)}: {value}" for key, value in values.items() if key in new]
        return "".join([*parts, self.line[self.members[-1].end :]])

    def with_text(self, field: str, text: str) -> str:
        """The line with another text in its field; the same text stays written as it was."""
        (member,) = (member for member in self.members if member.key == field)
        if member.value == text:
            return self.line
        ascii_only = "\\u" in (old := self.line[member.start : member.end]) and old.isascii()
        return self.with_values({field: json.dumps(text, ensure_ascii=ascii_only)})


def json_string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def row_or_fault(line: str, field: str) -> tuple[JsonRow, str] | str:
    """A JSON object and the text that is its `field`, or the reason why the line is none."""
    try:
        members = members_of(line)
    except RecursionError:
        return "JSON nested too deep"
    except ValueError:
        return "broken JSON"
    if members is None:
        return "not a JSON object"
    if any(isinstance(m.value, (dict, list)) and is_deeper(m.value, DEEPEST - 1) for m in members):
        return "JSON nested too deep"
    texts = [member.value for member in members if member.key == field]
    if len(texts) > 1:
        return f"{len(texts)} times the field {field}"
    if not texts or not isinstance(texts[0], str):
        return f"no field {field}"
    return "lone surrogate" if SURROGATE.search(texts[0]) else (JsonRow(line, members), texts[0])


def members_of(line: str) -> list[Member] | None:
    """The members of the JSON object that the line is, in their order; None for another value. Raises ValueError for
    what is no JSON, RecursionError."""
    brace = OBJECT.match(line)
    if brace is None:
        JSON.decode(line)
        return None
    members: list[Member] = []
    place = brace.end()
    if END.match(line, place):
        return members
    while True:
        key, end = JSON.raw_decode(line, found(QUOTE, line, place) - 1)
        start = found(COLON, line, end)
        value, end = JSON.raw_decode(line, start)
        members.append(Member(key, value, start, end))
        if END.match(line, end):
            return members
        place = found(COMMA, line, end)


def found(mark: re.Pattern[str], line: str, place: int) -> int:
    """Where the mark that has to stand at a place ends. Raises ValueError."""
    match = mark.match(line, place)
    if match is None:
        raise ValueError("a mark is missing")
    return match.end()
