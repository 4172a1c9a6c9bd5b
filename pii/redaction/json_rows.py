"""One line of JSON Lines whose values are replaced where they stand: every other byte stays as it came."""

import json
import re
from typing import NamedTuple

from pii.corpus.rows import after_space
from pii.untrusted import is_deeper

DEEPEST = 200  # JSON levels, the row's own included; far below where Python stops, so that all versions agree
JSON = json.JSONDecoder(strict=False, parse_float=bool, parse_int=bool)  # numbers may have any size: none is used


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
    if any(is_deeper(member.value, DEEPEST - 1) for member in members):
        return "JSON nested too deep"
    texts = [member.value for member in members if member.key == field]
    if len(texts) > 1:
        return f"{len(texts)} times the field {field}"
    if not texts or not isinstance(texts[0], str):
        return f"no field {field}"
    return "lone surrogate" if re.search("[\ud800-\udfff]", texts[0]) else (JsonRow(line, members), texts[0])


def members_of(line: str) -> list[Member] | None:
    """The members of the JSON object that the line is, in their order; None for another value. Raises ValueError for
    what is no JSON, RecursionError."""
    start = after_space(line, 0)
    if line[start : start + 1] != "{":
        _, end = JSON.raw_decode(line, start)
        check_end(line, end)
        return None
    members: list[Member] = []
    position = after_space(line, start + 1)
    if line[position : position + 1] == "}":
        check_end(line, position + 1)
        return members
    while True:
        member = member_at(line, position)
        members.append(member)
        position = after_space(line, member.end)
        if line[position : position + 1] == "}":
            check_end(line, position + 1)
            return members
        if line[position : position + 1] != ",":
            raise ValueError("no end of the object")
        position = after_space(line, position + 1)


def member_at(line: str, position: int) -> Member:
    """The key that stands at `position` and its value."""
    if line[position : position + 1] != '"':
        raise ValueError("no key")
    key, end = JSON.raw_decode(line, position)
    colon = after_space(line, end)
    if line[colon : colon + 1] != ":":
        raise ValueError("no colon")
    start = after_space(line, colon + 1)
    value, end = JSON.raw_decode(line, start)
    return Member(key, value, start, end)


def check_end(line: str, position: int) -> None:
    if after_space(line, position) < len(line):
        raise ValueError("more than a value")
