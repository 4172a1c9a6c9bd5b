"""The formats of labelling tools, written a document at a time."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from pii.common import UserError
from pii.outputs import atomic_folder
from pii.redaction.annotations import tasks
from pii.redaction.annotations.columns import conll
from pii.redaction.annotations.standoff import CONFIG, NAMES, ann, annotation_conf, document_name
from pii.redaction.annotations.tokens import SOLID
from pii.redaction.records import BOM, CsvHeader, Record
from pii.redaction.replacements import Span
from pii.redaction.writers import Writer

TASKS = {"doccano": tasks.doccano, "prodigy": tasks.prodigy}
LABEL_STUDIO, CONLL, BRAT = "label-studio", "conll", "brat"
ANNOTATION_FORMATS = (LABEL_STUDIO, *TASKS, CONLL, BRAT)


def annotation_writer(output: Path | None, output_format: str, model: str) -> "TaskWriter | BratWriter":
    return BratWriter(output) if output_format == BRAT else TaskWriter(output, output_format, model)


def check_labels(output_format: str, labels: Sequence[str]) -> None:
    """Raise UserError at a label that the format cannot hold."""
    allowed = {BRAT: NAMES, CONLL: SOLID}.get(output_format)
    if allowed and (wrong := [label for label in labels if not allowed.fullmatch(label)]):
        raise UserError(f"{output_format} has no labels as {wrong[0]!r}: give it another name with --label-map")


def document_of(record: Record, spans: Sequence[Span]) -> tuple[str, list[Span]]:
    """A record's text and spans without a byte order mark, which is the file's and not the text's."""
    shift = len(BOM) if record.text.startswith(BOM) else 0
    return record.text[shift:], [span._replace(start=span.start - shift, end=span.end - shift) for span in spans]


class TaskWriter(Writer):
    """One file, or standard output for None, of all documents; it appears, whole, on success only."""

    def __init__(self, output: Path | None, output_format: str, model: str) -> None:
        super().__init__(output)
        self.output_format, self.model, self.count = output_format, model, 0

    def write_header(self, header: CsvHeader) -> None:
        """CSV's own header is nothing to a labelling tool."""

    def write(self, record: Record, spans: Sequence[Span]) -> None:
        """`spans`: sorted, without overlaps, in code points of record.text."""
        text, spans = document_of(record, spans)
        place: tasks.Place = {"source": record.source, "number": record.number}
        if self.output_format == CONLL:
            self._file.write(conll(text, spans).encode())
        elif self.output_format == LABEL_STUDIO:
            self._file.write(b",\n" if self.count else b"[\n")
            self._file.write(as_json(tasks.label_studio(text, spans, place, self.model)))
        else:
            self._file.write(as_json(TASKS[self.output_format](text, spans, place, self.model)) + b"\n")
        self.count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if kind is None and self.output_format == LABEL_STUDIO:
            self._file.write(b"\n]\n" if self.count else b"[]\n")
        return super().__exit__(kind, error, trace)


class BratWriter:
    """A new folder with two files a document; it appears, whole, on success only."""

    def __init__(self, output: Path | None) -> None:
        self.folder = new_folder(output)
        self.labels: set[str] = set()
        self.names: set[str] = set()

    def __enter__(self):
        self._stack = ExitStack()
        self._place = self._stack.enter_context(atomic_folder(self.folder, CONFIG))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if kind is None:
            (self._place / CONFIG).write_text(annotation_conf(sorted(self.labels)), encoding="utf-8")
        return self._stack.__exit__(kind, error, trace)

    def write_header(self, header: CsvHeader) -> None:
        """As in TaskWriter."""

    def write(self, record: Record, spans: Sequence[Span]) -> None:
        """As in TaskWriter."""
        text, spans = document_of(record, spans)
        name = document_name(self.names, record.source, record.number, is_record=record.row is not None)
        (self._place / f"{name}.txt").write_bytes(text.encode())
        (self._place / f"{name}.ann").write_bytes(ann(text, spans).encode())
        self.labels |= {span.label for span in spans}

    def flush(self) -> None:
        """Its files are closed."""


def new_folder(output: Path | None) -> Path:
    """UserError where brat's folder is none or holds files, which may be corrections."""
    if output is None:
        raise UserError(f"{BRAT} is a folder of files: name a new one with --output")
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise UserError(f"{output} is there already and may hold corrections: name a new folder with --output")
    return output


def as_json(task: dict) -> bytes:
    """In ASCII, so that no tool has to guess the encoding, as doccano does."""
    return json.dumps(task).encode()
