"""Documents for predict.py: plain text, JSON Lines and CSV in; redacted documents, spans or both out, in order."""

import contextlib
import csv
import gzip
import io
import json
import math
import os
import sys
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pii.common import UserError, atomic_path

OUTPUT_FORMATS = ("redacted", "spans", "jsonl")
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


def json_records(file: BinaryIO, source: str, field: str) -> Iterator[Record | BadRecord]:
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


def json_line(fields: dict) -> bytes:
    """A lone surrogate, which UTF-8 cannot hold, stays the escape `\\ud800` that it was."""
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


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
            if reason := csv_fault(cells, raw, len(header.names)):
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


# Writing


@contextlib.contextmanager
def output_file(path: Path | None, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Standard output for None, flushed at the end; else a file that is there, whole, on success only."""
    if path is None and sys.stdout is None:
        raise UserError("standard output is closed: name a file with --output")
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    elif path.exists() and not path.is_file():  # a pipe or a device, which nothing may be renamed onto
        with path.open("wb") as file:
            yield file
    else:
        with atomic_path(path.resolve()) as temporary:  # what a link names is written, the link stays
            temporary.unlink(missing_ok=True)
            temporary.touch(mode, exist_ok=False)
            with temporary.open("wb") as file:
                yield file


class Writer:
    """A context manager around an output file."""

    def __init__(self, path: Path | None, mode: int = 0o666) -> None:
        self._context = output_file(path, mode)

    def __enter__(self):
        self._file = self._context.__enter__()
        return self

    def __exit__(self, *exception: object) -> bool | None:
        return self._context.__exit__(*exception)

    def flush(self) -> None:
        """Write all that was given, so that a full disk is met now and not at the end."""
        self._file.flush()


class RecordWriter(Writer):
    """Writes the result of each record, to standard output for None; a file appears, whole, on success only.

    `redacted`: plain texts one after the other with nothing between; the JSON object with its field replaced; the CSV
    row with its column replaced, under the header of the first file (every file must have the same columns).
    `spans`: {"source", "number", "spans"} a line. `jsonl`: the JSON object and "redacted" and "spans", which replace
    fields of these names; for plain text and CSV also "source" and "number" unless a column is named so. With
    `with_text` each span holds its text.
    """

    def __init__(
        self,
        output: Path | None,
        output_format: str,
        field: str | None = None,
        column: str | None = None,
        with_text: bool = False,
    ) -> None:
        super().__init__(output)
        self.output_format, self.field, self.column, self.with_text = output_format, field, column, with_text
        self.header: CsvHeader | None = None

    def write_header(self, header: CsvHeader) -> None:
        """For read_records' `on_header`: CSV without rows comes out with its header. Once is enough for all files."""
        if self.output_format != "redacted" or (self.header and self.header.cells == header.cells):
            return
        if self.header:
            raise UserError("the CSV files have different columns: redact each to a file of its own")
        self.header = header
        self._file.write(header.bom.encode() + header.line(header.cells))

    def write(self, record: Record, redacted: str, spans: list[dict]) -> None:
        """`spans`: {"start", "end", "label", "score"} each, in code points of record.text."""
        if self.with_text:
            spans = [{**span, "text": record.text[span["start"] : span["end"]]} for span in spans]
        place = {"source": record.source, "number": record.number}
        if self.output_format == "redacted":
            self._file.write(self._redacted(record.row, redacted))
        elif self.output_format == "spans":
            self._file.write(json_line({**place, "spans": spans}))
        else:
            fields = record.row if self.field is not None else {**place, **(record.row or {})}
            self._file.write(json_line({**fields, "redacted": redacted, "spans": spans}))

    def _redacted(self, row: dict | None, redacted: str) -> bytes:
        if row is None:
            return redacted.encode("utf-8")
        if self.field is not None:
            return json_line({**row, self.field: redacted})
        self.write_header(row.header)
        return self.header.line({**row, self.column: redacted}.values())


class RejectedWriter(Writer):
    """Writes bad records as JSON lines for their owner's eyes (mode 0600); None for a path writes nothing.

    How many there were is said at the end, on standard error: none may be missed unseen.
    """

    def __init__(self, path: Path | None) -> None:
        super().__init__(Path(os.devnull) if path is None else path, mode=0o600)
        self.count = 0

    def __exit__(self, *exception: object) -> bool | None:
        result = super().__exit__(*exception)
        if self.count and exception[0] is None:
            records = "1 record" if self.count == 1 else f"{self.count} records"
            print(f"passed over {records} that could not be read", file=sys.stderr)
        return result

    def write(self, bad: BadRecord) -> None:
        self.count += 1
        row = bad.raw.decode("utf-8", "replace").rstrip("\r\n")
        self._file.write(json_line({"file": bad.source, "line": bad.number, "reason": bad.reason, "row": row}))
