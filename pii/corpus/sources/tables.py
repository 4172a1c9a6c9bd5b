"""Tables of one span a line, with the columns text, start, end and label: CSV, and Parquet that is alike; and Label
Studio's CSV and TSV, with an annotation a line.

Lines of one text or task stand together and are one row. A line with only a text is a text without spans.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from itertools import chain, groupby

from pii.common import UserError
from pii.corpus.sources.text_lines import as_json, text_lines

NEEDED = ("text", "start", "end", "label")
EXPORTED = ("annotation_id", "annotator", "lead_time")  # which Label Studio always writes
NAMED = re.compile(r"\.[ct]sv(\.gz)?$", re.I)
NUMBER = re.compile(r"\s*(\d{1,18})(\.0)?\s*")
DELIMITERS = ",;\t"


def is_table(head: bytes, file_name: str, name: str) -> bool:
    """Whether the first line names the four columns, or Label Studio's. UserError for a table without them."""
    if delimiter_of(head.split(b"\n", 1)[0].decode("utf-8", "replace")):
        return True
    if head and NAMED.search(file_name):
        raise UserError(f"{name} has no columns {', '.join(NEEDED)}: name them in its first line")
    return False


def delimiter_of(header: str) -> str:
    """What stands between the cells of a header with the columns of a table that is read; "" for any other line."""
    return next((sign for sign in DELIMITERS if has_columns(names_in(header, sign))), "")


def has_columns(names: Iterable[str]) -> bool:
    return {*NEEDED} <= {*names} or is_exported(names)


def is_exported(names: Iterable[str]) -> bool:
    return {*EXPORTED} <= {*names}


def names_in(header: str, delimiter: str) -> list[str]:
    return [name.strip().strip('"').lower() for name in header.strip().split(delimiter)]


def rows(file: io.BufferedReader, path: str, name: str, limit: int) -> Iterator[tuple[int, bytes]]:
    """(line of its first span or annotation, row as JSON). Raises UserError."""
    lines = records(file, name, limit)
    if first := next(lines, None):
        joined = tasks if is_exported(first[1]) else grouped
        for number, fields in joined(chain([first], lines)):
            yield number, as_json(fields, path, name, number)


def records(file: io.BufferedReader, name: str, limit: int) -> Iterator[tuple[int, dict]]:
    """(line, cells by their column's name) of each line of a CSV file."""
    lines = text_lines(file, name, limit)
    header = next(lines)
    delimiter = delimiter_of(header)
    names = names_in(header, delimiter)
    csv.field_size_limit(limit)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    number = 2
    try:
        for cells in reader:
            if len(cells) == len(names):
                yield number, dict(zip(names, cells, strict=True))
            elif cells:
                raise UserError(f"{name} line {number} has {len(cells)} cells and the header {len(names)}: mend it")
            number = reader.line_num + 2
    except csv.Error as error:
        raise UserError(f"{name} line {number} is no sound CSV: {error}") from None


def grouped(lines: Iterable[tuple[int, dict]]) -> Iterator[tuple[int, dict]]:
    """Spans with their places → rows with theirs, which are those of their first spans."""
    first = 0
    key: tuple | None = None
    spans: list[tuple] = []
    for number, cells in lines:
        own = (cells["text"], cells.get("id"), cells.get("language"))
        if own != key:
            if key is not None:
                yield first, row_of(key, spans)
            first, key, spans = number, own, []
        if not all(cells[name] in ("", None) for name in NEEDED[1:]):
            spans.append((whole(cells["start"]), whole(cells["end"]), cells["label"]))
    if key is not None:
        yield first, row_of(key, spans)


def tasks(lines: Iterable[tuple[int, dict]]) -> Iterator[tuple[int, dict]]:
    """Annotations with their places → `{"label_studio": annotations}` of each task, with the place of the first."""
    for _, group in groupby(lines, key=lambda line: (line[1].get("id") or line[0], line[1].get("text"))):
        numbers, annotations = zip(*group, strict=True)
        language = annotations[0].get("language")
        yield numbers[0], {"label_studio": annotations, **({"language": language} if language else {})}


def whole(cell: object) -> object:
    """A cell as the integer that it holds, `5.0` too; else as it is."""
    match = NUMBER.fullmatch(cell) if isinstance(cell, str) else None
    if match:
        return int(match[1])
    return int(cell) if isinstance(cell, float) and cell.is_integer() else cell


def row_of(key: tuple, spans: list) -> dict:
    text, _, language = key
    return {"text": text, "spans": spans, **({"language": language} if language else {})}
