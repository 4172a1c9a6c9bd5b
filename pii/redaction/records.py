"""Documents for predict.py: plain text, JSON Lines and CSV in, one record after the other."""

import contextlib
import csv
import gzip
import io
import sys
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pii.common import UserError
from pii.inputs import HEAD, NOT_UTF8, advice, as_utf8, unmarked_utf16
from pii.redaction.json_rows import JsonRow, row_or_fault

DELIMITERS = ",;\t|"
BOM = "\ufeff"
LONGEST_CELL = 2**27  # characters: what a quote that never closes may take of memory
MOST_REREAD = 1000  # lines of a broken CSV row that are read again as rows of their own


class Record(NamedTuple):
    source: str  # the file's name as given, "-" for standard input
    number: int  # line of JSON Lines, row of CSV (1 = first row after the header), 1 for a text file
    text: str
    row: "JsonRow | CsvRow | None"  # None for plain text

    def raw(self) -> bytes:
        """The record as it came."""
        match self.row:
            case None:
                return self.text.encode()
            case CsvRow():
                return self.row.raw.encode()
        return (self.row.bom + self.row.line).encode()


class BadRecord(NamedTuple):
    """What cannot be processed, as it came. The reason never holds text."""

    source: str
    number: int
    reason: str
    raw: bytes


class CsvHeader(NamedTuple):
    """What it takes to write a CSV file as it was read."""

    cells: list[str]
    names: list[str]  # the cells, a repeated one with its position, so that a row by name loses no cell
    delimiter: str
    terminator: str
    bom: str

    def line(self, cells: Iterable[str], terminator: str) -> bytes:
        buffer = io.StringIO(newline="")
        # with another terminator, Python 3.11 leaves a carriage return inside a cell unquoted
        csv.writer(buffer, delimiter=self.delimiter, lineterminator="\r\n").writerow(cells)
        return (buffer.getvalue()[:-2] + terminator).encode()


class CsvRow(dict):
    """Cells by column name."""

    def __init__(self, header: CsvHeader, cells: Iterable[str], raw: str) -> None:
        super().__init__(zip(header.names, cells, strict=True))
        self.header, self.raw = header, raw


def read_records(
    source: str,
    field: str | None = None,
    column: str | None = None,
    on_header: Callable[[CsvHeader], None] | None = None,
) -> Iterator[Record | BadRecord]:
    """The documents of a file, or of standard input for "-", read as they are asked for.

    Without `field` and `column` the file is one plain text, kept exactly: line ends and BOM included. With `field` it
    is JSON Lines and the text is that field. With `column` it is CSV (RFC 4180, also with ; tab or |) and the text is
    that column; `on_header` is told its header, rows or not. Blank lines of JSON Lines and CSV are no records and are
    dropped. A file named .gz is unpacked; one in UTF-16 with a byte order mark is read as if it were UTF-8. Raises
    UserError for a file that cannot be read or lacks the column.
    """
    if source == "-" and sys.stdin is None:
        raise UserError("standard input is closed: name a file")
    try:
        with contextlib.nullcontext(sys.stdin.buffer) if source == "-" else Path(source).open("rb") as raw:
            file = as_utf8(raw, source, must_be_text=field is not None or column is not None)
            if field is not None:
                yield from json_records(file, source, field)
            elif column is not None:
                yield from csv_records(file, source, column, on_header)
            else:
                yield text_record(file.read(), source)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UserError(f"cannot read {source}: damaged gzip") from None
    except OSError as error:
        raise UserError(f"cannot read {source}: {error.strerror or type(error).__name__}") from None


def text_record(raw: bytes, source: str) -> Record | BadRecord:
    try:
        if not unmarked_utf16(raw[:HEAD]):
            return Record(source, 1, raw.decode("utf-8"), None)
    except UnicodeDecodeError:
        pass
    return BadRecord(source, 1, NOT_UTF8, raw)


def is_unicode(text: str) -> bool:
    """Whether the text has no surrogate: a lone one of JSON, or a byte of CSV that was not UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


# JSON Lines


def json_records(file: BinaryIO, source: str, field: str) -> Iterator[Record | BadRecord]:
    bom = ""
    for number, raw in enumerate(file, start=1):
        line = raw
        if number == 1 and raw.startswith(BOM.encode()):
            bom, line = BOM, raw[len(BOM.encode()) :]
        if not line.strip():
            continue
        try:
            found = row_or_fault(line.decode("utf-8"), field)
        except UnicodeDecodeError:
            found = NOT_UTF8
        if isinstance(found, str):
            yield BadRecord(source, number, found, raw)
        else:
            row, text = found
            yield Record(source, number, text, row._replace(bom=bom) if bom else row)
            bom = ""


# CSV

CsvRows = Iterator[tuple[list[str] | None, str]]  # cells, None where the quotes are broken, and the physical lines


def csv_records(
    file: BinaryIO, source: str, column: str, on_header: Callable[[CsvHeader], None] | None
) -> Iterator[Record | BadRecord]:
    csv.field_size_limit(LONGEST_CELL)
    lines = io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="")
    try:
        header, rows = read_header(lines, source, column)
        if on_header:
            on_header(header)
        for number, (cells, raw) in enumerate(rows, start=1):
            if (reason := csv_fault(cells, raw, len(header.names))) or cells is None:
                yield BadRecord(source, number, reason, raw.encode("utf-8", "surrogateescape"))
            else:
                row = CsvRow(header, cells, raw)
                yield Record(source, number, row[column], row)
    finally:
        lines.detach()  # a forgotten wrapper would close standard input


def read_header(lines: Iterator[str], source: str, column: str) -> tuple[CsvHeader, CsvRows]:
    """The header, and the rows under it."""
    first = next((line for line in lines if line.strip()), "")
    bom = BOM if first.startswith(BOM) else ""
    first = first.removeprefix(BOM)
    delimiter = sniff_delimiter(first, column)
    rows = csv_rows(chain([first], lines), delimiter)
    cells, raw = next(rows, ([], ""))
    if cells is None or not is_unicode(raw):
        raw_bytes = raw.encode("utf-8", "surrogateescape")
        why = "no CSV" if is_unicode(raw) else NOT_UTF8 + advice(source, raw_bytes)
        raise UserError(f"cannot read {source}: its header is {why}")
    if (count := cells.count(column)) != 1:
        raise UserError(f"{source} has {count or 'no'} columns named {column} among its {len(cells)}")
    names = [cell if cells.index(cell) == i else f"{cell}_{i + 1}" for i, cell in enumerate(cells)]
    if len(set(names)) < len(names):
        raise UserError(f"{source} has columns that share a name: rename them")
    return CsvHeader(cells, names, delimiter, terminator_of(raw), bom), rows


def terminator_of(raw: str) -> str:
    """The line end of a record; "" where the file ends without one."""
    return next((end for end in ("\r\n", "\n", "\r") if raw.endswith(end)), "")


def sniff_delimiter(header: str, column: str) -> str:
    """The delimiter under which the header has the column; of several or none, that which makes most columns."""
    header = header[:LONGEST_CELL]
    cells = {delimiter: next(csv.reader([header], delimiter=delimiter), []) for delimiter in DELIMITERS}
    return max(DELIMITERS, key=lambda delimiter: (column in cells[delimiter], len(cells[delimiter])))


def csv_rows(lines: Iterator[str], delimiter: str) -> CsvRows:
    """A broken row is its first line: the others are read again, so that a stray quote costs that line and no more."""
    again: deque[str] = deque()
    seen: list[str] = []  # the physical lines of the row

    def next_line() -> str:
        seen.append(again.popleft() if again else next(lines, ""))
        return seen[-1]

    def reader() -> Iterator[list[str]]:
        return csv.reader(iter(next_line, ""), delimiter=delimiter, strict=True)

    rows = reader()
    while True:
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error:
            cells, rows = None, reader()
            if len(seen) <= MOST_REREAD:  # else a file could make us read it over and over
                again.extendleft(reversed(seen[1:]))
                del seen[1:]
        if cells != []:
            yield cells, "".join(seen)
        seen.clear()


def csv_fault(cells: list[str] | None, raw: str, columns: int) -> str:
    if not is_unicode(raw):
        return NOT_UTF8
    if cells is None:
        return "broken CSV"
    return "" if len(cells) == columns else f"{len(cells)} cells under {columns} columns"
