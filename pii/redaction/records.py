"""Documents for predict.py: plain text, JSON Lines and CSV in; redacted documents, spans or both out, in order."""

import contextlib
import csv
import gzip
import io
import json
import math
import sys
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import BinaryIO, NamedTuple

from pii.common import UserError

DELIMITERS = ",;\t|"
BOM = "\ufeff"
DEEPEST = 200  # JSON levels; far below where Python stops, so that what was read can be written
LONGEST_CELL = 2**27  # characters: what a quote that never closes may take of memory
MOST_REREAD = 1000  # lines of a broken CSV row that are read again as rows of their own


class Record(NamedTuple):
    source: str  # the file's name as given, "-" for standard input
    number: int  # line of JSON Lines, row of CSV (1 = first row after the header), 1 for a text file
    text: str
    row: dict | None  # the JSON object or the CSV row, None for plain text


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

    def line(self, cells: Iterable[str]) -> bytes:
        buffer = io.StringIO(newline="")
        # with another terminator, Python 3.11 leaves a carriage return inside a cell unquoted
        csv.writer(buffer, delimiter=self.delimiter, lineterminator="\r\n").writerow(cells)
        return (buffer.getvalue()[:-2] + self.terminator).encode()


class CsvRow(dict):
    """Cells by column name."""

    header: CsvHeader


def read_records(
    source: str,
    field: str | None = None,
    column: str | None = None,
    on_header: Callable[[CsvHeader], None] | None = None,
) -> Iterator[Record | BadRecord]:
    """The documents of a file, or of standard input for "-", read as they are asked for.

    Without `field` and `column` the file is one plain text, kept exactly: line ends and BOM included. With `field` it
    is JSON Lines (gzip if named .gz) and the text is that field. With `column` it is CSV (RFC 4180, also with ; tab
    or |, also .gz) and the text is that column; `on_header` is told its header, rows or not. Blank lines of JSON Lines
    and CSV are no records and are dropped. Raises UserError for a file that cannot be read or lacks the column.
    """
    if source == "-" and sys.stdin is None:
        raise UserError("standard input is closed: name a file")
    opener = gzip.open if (field or column) and source.endswith(".gz") else open
    try:
        with contextlib.nullcontext(sys.stdin.buffer) if source == "-" else opener(source, "rb") as file:
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
        return Record(source, 1, raw.decode("utf-8"), None)
    except UnicodeDecodeError:
        return BadRecord(source, 1, "not UTF-8", raw)


def is_unicode(text: str) -> bool:
    """Whether the text has no surrogate: a lone one of JSON, or a byte of CSV that was not UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


# JSON Lines


def json_records(file: BinaryIO | gzip.GzipFile, source: str, field: str) -> Iterator[Record | BadRecord]:
    for number, raw in enumerate(file, start=1):
        line = raw.removeprefix(BOM.encode()) if number == 1 else raw
        if line.strip():
            row = object_or_fault(line, field)
            if isinstance(row, str):
                yield BadRecord(source, number, row, raw)
            else:
                yield Record(source, number, row[field], row)


def object_or_fault(line: bytes, field: str) -> dict | str:
    """A JSON object whose `field` is text, or the reason why the line is none."""
    try:
        row = json.loads(line.decode("utf-8"), strict=False, parse_float=finite_float)
        if nesting(row) > DEEPEST:
            raise RecursionError
    except UnicodeDecodeError:
        return "not UTF-8"
    except json.JSONDecodeError:
        return "broken JSON"
    except ValueError:  # more digits than Python converts, or beyond floating point
        return "a number too large"
    except RecursionError:
        return "JSON nested too deep"
    if not isinstance(row, dict):
        return "not a JSON object"
    if not isinstance(row.get(field), str):
        return f"no field {field}"
    return row if is_unicode(row[field]) else "lone surrogate"


def finite_float(digits: str) -> float:
    if math.isinf(value := float(digits)):  # it would be written as Infinity, which is no JSON
        raise ValueError
    return value


def nesting(value: object) -> int:
    if not isinstance(value, (dict, list)):
        return 0
    return 1 + max(map(nesting, value.values() if isinstance(value, dict) else value), default=0)


# CSV

CsvRows = Iterator[tuple[list[str] | None, str]]  # cells, None where the quotes are broken, and the physical lines


def csv_records(
    file: BinaryIO | gzip.GzipFile, source: str, column: str, on_header: Callable[[CsvHeader], None] | None
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
                row = CsvRow(zip(header.names, cells, strict=True))
                row.header = header
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
        raise UserError(f"cannot read {source}: its header is no CSV in UTF-8")
    if (count := cells.count(column)) != 1:
        raise UserError(f"{source} has {count or 'no'} columns named {column} among its {len(cells)}")
    names = [cell if cells.index(cell) == i else f"{cell}_{i + 1}" for i, cell in enumerate(cells)]
    if len(set(names)) < len(names):
        raise UserError(f"{source} has columns that share a name: rename them")
    terminator = next((end for end in ("\r\n", "\n", "\r") if raw.endswith(end)), "\n")
    return CsvHeader(cells, names, delimiter, terminator, bom), rows


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
        return "not UTF-8"
    if cells is None:
        return "broken CSV"
    return "" if len(cells) == columns else f"{len(cells)} cells under {columns} columns"
