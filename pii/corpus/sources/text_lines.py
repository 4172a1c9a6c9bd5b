"""Lines of a text file that is no JSON, decoded one by one so that a fault can be told by its line."""

import io
from collections.abc import Iterator

from pii.common import UserError
from pii.inputs import NOT_UTF8, advice


def text_lines(file: io.BufferedReader, path: str, name: str, limit: int) -> Iterator[tuple[int, str]]:
    """(number from 1, line with its end, of `limit` bytes at most). Raises UserError."""
    for number, line in enumerate(iter(lambda: file.readline(limit + 1), b""), start=1):
        if len(line) > limit:
            raise UserError(f"{name} line {number} is longer than {limit} bytes: cut the row")
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise UserError(f"{name} line {number} is {NOT_UTF8}{advice(path, line)}") from None
