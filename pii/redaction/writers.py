"""Redacted documents, spans or both out, in the order of the records."""

import contextlib
import gzip
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from pii.common import UserError
from pii.inputs import is_gzip
from pii.outputs import atomic_path
from pii.redaction.json_rows import JsonRow, json_string
from pii.redaction.records import BadRecord, CsvHeader, CsvRow, Record, terminator_of

OUTPUT_FORMATS = ("redacted", "spans", "jsonl")
LINE_ENDS = (b"\n", b"\r")


def json_line(fields: dict) -> bytes:
    """A lone surrogate of a file's name, which UTF-8 cannot hold, becomes an escape."""
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


# Writing


@contextlib.contextmanager
def output_file(path: Path | None, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Standard output for None, flushed at the end; else a file that is there, whole, on success only. A file named
    .gz is packed."""
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
            with temporary.open("wb") as file, packed(file, path) as inner:
                yield inner


def packed(file: BinaryIO, path: Path) -> Any:
    """The file, or one to write in that packs what it gets into it: the same bytes whenever and wherever."""
    if not is_gzip(path.name):
        return contextlib.nullcontext(file)
    return gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0)


class Writer:
    """A context manager around an output file."""

    def __init__(self, path: Path | None, mode: int = 0o666) -> None:
        self._context = output_file(path, mode)

    def __enter__(self):
        self._file = self._context.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._context.__exit__(kind, error, trace)

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
        self.line_end = b"\n"  # the last one written
        self.missing = b""  # the line end that the row before has not; the last of its file
        self.is_empty = True

    def write_header(self, header: CsvHeader) -> None:
        """For read_records' `on_header`: CSV without rows comes out with its header. Once is enough for all files."""
        if self.output_format != "redacted" or (self.header and self.header.cells == header.cells):
            return
        if self.header:
            raise UserError("the CSV files have different columns: redact each to a file of its own")
        self.header = header
        self._write_row(header.bom.encode() + header.line(header.cells, header.terminator))

    def write(self, record: Record, redacted: str, spans: list[dict]) -> None:
        """`spans`: {"start", "end", "label", "score"} each, in code points of record.text."""
        if self.with_text:
            spans = [{**span, "text": record.text[span["start"] : span["end"]]} for span in spans]
        place = {"source": record.source, "number": record.number}
        if self.output_format == "redacted":
            self._write_redacted(record, redacted)
        elif self.output_format == "spans":
            self._file.write(json_line({**place, "spans": spans}))
        elif isinstance(record.row, JsonRow):
            new = {"redacted": json_string(redacted), "spans": json.dumps(spans, ensure_ascii=False)}
            self._write_json(record.row, record.row.with_values(new))
        else:
            self._file.write(json_line({**place, **(record.row or {}), "redacted": redacted, "spans": spans}))

    def _write_redacted(self, record: Record, redacted: str) -> None:
        match record.row:
            case None:
                self._file.write(redacted.encode("utf-8"))
            case JsonRow():
                assert self.field is not None
                self._write_json(record.row, record.row.with_text(self.field, redacted))
            case CsvRow():
                self._write_csv(record.row, redacted)

    def _write_json(self, row: JsonRow, line: str) -> None:
        self._write_row((row.bom + line if self.is_empty else line).encode("utf-8"))

    def _write_csv(self, row: CsvRow, redacted: str) -> None:
        """In the first file's way to write CSV; its own rows keep their line ends."""
        self.write_header(row.header)
        header = self.header or row.header
        terminator = terminator_of(row.raw) if header is row.header else header.terminator or "\n"
        self._write_row(header.line({**row, self.column: redacted}.values(), terminator))

    def _write_row(self, row: bytes) -> None:
        """A row in a line of its own, with the line end that it has."""
        self._file.write(self.missing + row)
        self.is_empty = False
        if row.endswith(LINE_ENDS):
            self.line_end, self.missing = b"\r\n" if row.endswith(b"\r\n") else row[-1:], b""
        else:
            self.missing = self.line_end


class RejectedWriter(Writer):
    """Writes bad records as JSON lines for their owner's eyes (mode 0600); None for a path writes nothing.

    How many there were is said at the end, on standard error: none may be missed unseen.
    """

    def __init__(self, path: Path | None) -> None:
        super().__init__(Path(os.devnull) if path is None else path, mode=0o600)
        self.count = 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        result = super().__exit__(kind, error, trace)
        if self.count and kind is None:
            records = "1 record" if self.count == 1 else f"{self.count} records"
            print(f"passed over {records} that could not be read or restored", file=sys.stderr)
        return result

    def write(self, bad: BadRecord) -> None:
        self.count += 1
        row = bad.raw.decode("utf-8", "replace").rstrip("\r\n")
        self._file.write(json_line({"file": bad.source, "line": bad.number, "reason": bad.reason, "row": row}))
