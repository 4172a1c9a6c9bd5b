"""Lines of a text file that is no JSON, and its rows as JSON."""

import io
import json
from collections.abc import Iterator

from pii.common import UserError
from pii.inputs import NOT_UTF8, advice

PIECE = 1 << 16  # characters that are read at once


def text_lines(file: io.BufferedReader, name: str, limit: int) -> Iterator[str]:
    """Lines with a line end, of `limit` characters at most; what is not UTF-8 as lone surrogates. Raises UserError."""
    for lines in line_lists(file, name, limit):
        for line in lines:
            yield line + "\n"


def line_lists(file: io.BufferedReader, name: str, limit: int) -> Iterator[list[str]]:
    """The same without their ends, many at a time."""
    text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="\n")
    number, rest = 1, ""
    while piece := text.read(max(PIECE, len(rest))):
        *lines, rest = (rest + piece).split("\n")
        if max(map(len, [*lines, rest])) > limit:
            long = next(place for place, line in enumerate([*lines, rest]) if len(line) > limit)
            raise UserError(f"{name} line {number + long} is longer than {limit} characters: cut the row")
        yield lines
        number += len(lines)
    if rest:
        yield [rest]
    text.detach()  # the file is the caller's to close


def as_json(fields: dict, path: str, name: str, number: int) -> bytes:
    """A row that begins at a line. UserError where its text was not UTF-8."""
    text = json.dumps(fields, ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raw = text[max(0, error.start - 200) : error.start + 200].encode("utf-8", "surrogateescape")
        raise UserError(f"{name} line {number} is {NOT_UTF8}{advice(path, raw)}") from None
