"""A file of rows, whatever its kind: known by its first bytes, read as lines of JSON, and hashed as it is read."""

import hashlib
import io
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pii.common import UserError
from pii.corpus.rows import language_of
from pii.corpus.sources import columns, docbin, parquet, tables, webanno
from pii.corpus.sources.json_lists import json_elements
from pii.inputs import NOT_UTF8, advice, as_utf8, first_bytes

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
NAMED_JSON = re.compile(r"\.json(\.gz)?$", re.I)
LINE_BYTES, LIST_BYTES = 1 << 27, 1 << 30  # of a row and of a JSON list at most: a small archive can hold much more
Place = int | str  # of a row: its line, or the name of its file in the folder


class Source:
    """A file of raw rows, or a pipe. Iterate once over `lines()`; then `sha256` and `rows` are known."""

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path = path
        self.name = name or os.fsencode(path).decode("utf-8", "replace")
        self.language = language_of(path.name.split(".")[0].replace("-", "_").split("_"))
        self.sha256 = ""
        self.rows = 0

    def lines(self) -> Iterator[tuple[Place, bytes]]:
        """(line number from 1, raw JSON bytes); for what has no lines the row's number. Blank lines are no rows."""
        digest = hashlib.sha256()
        try:
            with self.path.open("rb", buffering=0) as raw:
                file = io.BufferedReader(HashedReader(raw, digest))
                for number, line in self._elements(file):
                    if len(line) > LINE_BYTES:
                        raise UserError(f"{self.name} line {number} is longer than {LINE_BYTES} bytes: cut the row")
                    line = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
                    if line.strip():
                        self.rows += 1
                        yield number, line
                while file.read(1 << 20):  # what was read another way
                    pass
                self.sha256 = digest.hexdigest()
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"cannot read {self.name}: {getattr(error, 'strerror', None) or error}") from None

    def _elements(self, file: Any) -> Iterator[tuple[int, bytes]]:
        head = first_bytes(file)
        if parquet.is_parquet(head):
            return parquet.rows(self.path, self.name)
        if docbin.is_docbin(head, self.path.name):
            return docbin.rows(file, self.name, LIST_BYTES)
        file = as_utf8(file, str(self.path))
        head = first_bytes(file).removeprefix(BYTE_ORDER_MARK)
        if NAMED_JSON.search(self.path.name) and head.lstrip(b" \t\r\n").startswith(b"["):
            return self._list(file)
        if webanno.is_webanno(head):
            return webanno.rows(file, str(self.path), self.name, LINE_BYTES)
        if columns.are_columns(head, self.path.name):
            return columns.rows(file, str(self.path), self.name, LINE_BYTES)
        if tables.is_table(head, self.path.name, self.name):
            return tables.rows(file, str(self.path), self.name, LINE_BYTES)
        return enumerate(iter(lambda: file.readline(LINE_BYTES + 1), b""), start=1)

    def _list(self, file: io.BufferedReader) -> Iterator[tuple[int, bytes]]:
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


def where(source: str, place: Place) -> str:
    """A row's place, for a message."""
    return f"{source} line {place}" if isinstance(place, int) else f"{source}/{place}"
