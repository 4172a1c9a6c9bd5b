"""The prepared data on disk: its format, its writer and its reader, side by side.

A prepared folder holds `meta.json` and one folder a split. Of each split, every token is one entry of the token
columns, every row owns the entries between two offsets, and everything is read through memory maps.
"""

import math
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pii.common import UserError
from pii.corpus.spans import ranges, starts_of
from pii.untrusted import read_json, safe_join

FORMAT_VERSION = 1
SPLITS = ("train", "validation")
TOKEN_COLUMNS: dict[str, np.dtype] = {
    "token_ids": np.dtype(np.uint32),
    "label_ids": np.dtype(np.uint16),
    "begins": np.dtype(np.bool_),
    "char_starts": np.dtype(np.uint32),
    "char_ends": np.dtype(np.uint32),
}
LANGUAGE = np.dtype("<U8")
MAX_LABELS = 2**15  # tags are uint16, and begin-aware ones two a label
HEADER_BYTES = 128  # of a one-dimensional or [n, 3] .npy file; numpy pads it so that the shape can grow in place


class Rows(NamedTuple):
    """Some rows of a split as flat arrays; the counts say how much of each belongs to which row."""

    tokens: dict[str, np.ndarray]  # the TOKEN_COLUMNS, each [tokens]
    token_counts: np.ndarray  # [rows] int64
    text: np.ndarray  # [bytes] uint8, UTF-8
    text_counts: np.ndarray  # [rows] int64, bytes
    spans: np.ndarray  # [spans, 3] int32: start, end, label id
    span_counts: np.ndarray  # [rows] int64
    languages: np.ndarray  # [rows] LANGUAGE

    def texts(self) -> list[str]:
        """The rows' texts, decoded. Raises UnicodeDecodeError."""
        starts, data = starts_of(self.text_counts), self.text.tobytes()
        return [data[start:end].decode("utf-8") for start, end in pairwise(starts)]


class Column:
    """A .npy file that grows: entries are appended, the header is written when it is closed."""

    def __init__(self, path: Path, dtype: np.dtype, width: tuple[int, ...] = ()) -> None:
        self._file = path.open("wb")
        self._file.write(bytes(HEADER_BYTES))
        self._dtype, self._width, self._length = dtype, width, 0

    def append(self, entries: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(entries, dtype=self._dtype).data.cast("B") if len(entries) else b"")
        self._length += len(entries)

    def close(self) -> None:
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._length, *self._width)}
        self._file.seek(0)
        np.lib.format.write_array_header_1_0(self._file, header)
        assert self._file.tell() == HEADER_BYTES, "numpy's header outgrew its place"
        self._file.close()


class SplitWriter:
    """Writes one split, batch by batch, in constant memory. A context manager."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._columns = {name: Column(folder / f"{name}.npy", dtype) for name, dtype in TOKEN_COLUMNS.items()}
        self._columns["language"] = Column(folder / "language.npy", LANGUAGE)
        self._columns["spans"] = Column(folder / "spans.npy", np.dtype(np.int32), (3,))
        self._text = (folder / "text.bin").open("wb")
        self._ends = {}  # where the next row starts in each of the three
        for name in ("example_offsets", "text_offsets", "span_offsets"):
            self._columns[name] = Column(folder / f"{name}.npy", np.dtype(np.int64))
            self._columns[name].append(np.zeros(1))
            self._ends[name] = 0

    def append(self, rows: Rows) -> None:
        for name in TOKEN_COLUMNS:
            self._columns[name].append(rows.tokens[name])
        self._columns["language"].append(rows.languages)
        self._columns["spans"].append(rows.spans)
        self._text.write(rows.text.tobytes())
        counts = {
            "example_offsets": rows.token_counts,
            "text_offsets": rows.text_counts,
            "span_offsets": rows.span_counts,
        }
        for name, count in counts.items():
            ends = self._ends[name] + np.cumsum(count)
            self._columns[name].append(ends)
            self._ends[name] = int(ends[-1]) if len(ends) else self._ends[name]

    def __enter__(self) -> "SplitWriter":
        return self

    def __exit__(self, *_) -> None:
        self._text.close()
        for column in self._columns.values():
            column.close()


class Split:
    """One split of prepared data, memory-mapped. Raises UserError where files are missing or do not fit together."""

    def __init__(self, folder: Path) -> None:
        self.folder = safe_join(folder.parent, folder.name)
        self.tokens = {name: self._load(name, dtype) for name, dtype in TOKEN_COLUMNS.items()}
        self.language = self._load("language", LANGUAGE)
        if not all(are_ascii(self.language[i : i + 2**20]) for i in range(0, len(self.language), 2**20)):
            raise UserError(f"{folder / 'language.npy'} holds no language codes: run prepare.py again")
        self.spans = self._load("spans", np.dtype(np.int32), (3,))
        path = self._path("text.bin")
        is_empty = not path.is_file() or not path.stat().st_size  # which cannot be mapped
        self.text = np.zeros(0, np.uint8) if is_empty else np.asarray(np.memmap(path, np.uint8, "r"))
        lengths = {len(column) for column in self.tokens.values()}
        if len(lengths) != 1:
            raise UserError(f"{folder}: the token columns differ in length; run prepare.py again")
        self.example_offsets = self._offsets("example_offsets", lengths.pop())
        self.text_offsets = self._offsets("text_offsets", len(self.text))
        self.span_offsets = self._offsets("span_offsets", len(self.spans))

    def _path(self, name: str) -> Path:
        return safe_join(self.folder.parent, self.folder.name, name)  # a link to the other split is fine

    def _load(self, name: str, dtype: np.dtype, width: tuple[int, ...] = ()) -> np.ndarray:
        path = self._path(f"{name}.npy")
        try:
            held, shape, offset = read_header(path)
            if held != dtype or not shape or shape[1:] != width:
                raise UserError(f"{path} does not hold {dtype} entries: run prepare.py again")
            if offset + math.prod(shape) * dtype.itemsize > path.stat().st_size:
                raise EOFError
            # no entry would be no byte, which cannot be mapped
            return np.asarray(np.memmap(path, dtype, "r", offset, shape)) if shape[0] else np.zeros(shape, dtype)
        except FileNotFoundError:
            raise UserError(f"{path} is missing: run prepare.py again") from None
        except UserError:
            raise
        except Exception:  # numpy's reader of headers passes on what the parsers below it raise
            raise UserError(f"{path} is damaged: run prepare.py again") from None

    def _offsets(self, name: str, total: int) -> np.ndarray:
        offsets = self._load(name, np.dtype(np.int64))
        rows = len(self.language)
        good = len(offsets) == rows + 1 and offsets[0] == 0 and offsets[-1] == total
        good = good and (offsets[1:] >= offsets[:-1]).all()  # a difference can overflow
        if not good:
            raise UserError(f"{self.folder / name}.npy does not fit the other files: run prepare.py again")
        return offsets

    def __len__(self) -> int:
        return len(self.language)

    def rows(self, indices: np.ndarray) -> Rows:
        """Copy the rows with these indices out of the memory maps."""

        def pick(offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            starts = offsets[indices]
            counts = offsets[indices + 1] - starts
            return ranges(starts, counts), counts

        indices = np.asarray(indices, dtype=np.int64)
        token, token_counts = pick(self.example_offsets)
        byte, text_counts = pick(self.text_offsets)
        span, span_counts = pick(self.span_offsets)
        columns = {name: column[token] for name, column in self.tokens.items()}
        return Rows(
            columns, token_counts, self.text[byte], text_counts, self.spans[span], span_counts, self.language[indices]
        )

    def chunks(self, rows_a_chunk: int = 8192) -> Iterator[Rows]:
        """All rows in order, some at a time, so that memory stays flat."""
        for start in range(0, len(self), rows_a_chunk):
            yield self.row_range(start, min(start + rows_a_chunk, len(self)))

    def row_range(self, first: int, stop: int) -> Rows:
        """The rows from `first` to before `stop`, as views of the memory maps."""

        def cut(offsets: np.ndarray) -> tuple[slice, np.ndarray]:
            own = offsets[first : stop + 1]
            return slice(int(own[0]), int(own[-1])), np.diff(own)

        token, token_counts = cut(self.example_offsets)
        byte, text_counts = cut(self.text_offsets)
        span, span_counts = cut(self.span_offsets)
        columns = {name: column[token] for name, column in self.tokens.items()}
        language = self.language[first:stop]
        return Rows(columns, token_counts, self.text[byte], text_counts, self.spans[span], span_counts, language)


class PreparedSplit(Split):
    """A split with its labels and what else meta.json tells of it; every id and offset in it is in its range.

    `folder` is a split's folder, or the prepared folder and `name` chooses ("train"). Raises UserError where a label
    does not lie in [0, num_labels), a token id not in the tokenizer's vocabulary, or an offset not in its row.
    """

    def __init__(self, folder: Path | str, name: str | None = None) -> None:
        folder = Path(folder)
        if name is None and not (folder / "meta.json").exists() and (folder.parent / "meta.json").exists():
            folder, name = folder.parent, folder.name
        self.meta = read_meta(folder)
        super().__init__(folder / (name or "train"))
        self.labels: list[str] = self.meta["labels"]
        self.num_labels = len(self.labels)
        self.label_to_id = {label: i for i, label in enumerate(self.labels)}
        check_range(self, self.num_labels, self.meta["tokenizer"]["vocab_size"])

    def token_slice(self, index: int) -> slice:
        """Which tokens are those of a row; a negative index counts from the end. Raises IndexError."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        index %= len(self)
        return slice(int(self.example_offsets[index]), int(self.example_offsets[index + 1]))

    def example(self, index: int) -> dict:
        """Everything known of one row, as plain Python values. A token's string is the characters it has a byte of."""
        tokens = self.token_slice(index)
        rows = self.rows(np.array([index % len(self)]))
        text = rows.texts()[0]
        columns = {name: column[tokens].tolist() for name, column in self.tokens.items()}
        char_spans = list(zip(columns["char_starts"], columns["char_ends"], strict=True))
        return {
            "text": text,
            "language": str(rows.languages[0]),
            "tokens": [text[start:end] for start, end in char_spans],
            "token_ids": columns["token_ids"],
            "labels": [self.labels[i] for i in columns["label_ids"]],
            "label_ids": columns["label_ids"],
            "begins": columns["begins"],
            "char_spans": char_spans,
            "spans": [(start, end, self.labels[label]) for start, end, label in rows.spans.tolist()],
        }


def read_header(path: Path) -> tuple[np.dtype, tuple[int, ...], int]:
    """The dtype and shape that a .npy file claims to hold, and where its entries start. Raises whatever numpy does.

    `np.load` would also open archives, and say on standard error what it thinks of a header.
    """
    with path.open("rb") as file, warnings.catch_warnings(action="ignore"):
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran_order, dtype = read(file)
        if min(shape, default=0) < 0 or (fortran_order and len(shape) > 1):
            raise ValueError
        return dtype, shape, file.tell()


def are_ascii(strings: np.ndarray) -> bool:
    """Whether all characters of a Unicode column are printable ASCII, no spaces: it may hold what is no character."""
    points = np.ascontiguousarray(strings).view(np.uint32)
    return bool(((points == 0) | ((points > 0x20) & (points < 0x7F))).all())  # 0 fills up


def read_meta(folder: Path) -> dict:
    """meta.json of a prepared folder. Raises UserError."""
    path = safe_join(folder, "meta.json")
    try:
        meta = read_json(path)
        version, labels, tokenizer = meta["format_version"], meta["labels"], meta["tokenizer"]
        known = type(tokenizer["vocab_size"]) is int and isinstance(tokenizer["sha256"], str)
        known &= isinstance(labels, list) and labels[:1] == ["O"] and len(labels) <= MAX_LABELS
        known &= all(isinstance(label, str) and label.isprintable() for label in labels)
    except FileNotFoundError:
        raise UserError(f"{folder} holds no prepared data: run prepare.py --output {folder}") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged: run prepare.py again") from None
    if version != FORMAT_VERSION or not known or len(set(labels)) != len(labels):
        raise UserError(f"{path} is of another version or damaged: run prepare.py again")
    return meta


def check_range(split: Split, num_labels: int, vocab_size: int) -> None:
    """Raise UserError unless every label id, of tokens and spans, every token id and every offset is in its range.

    So nobody who reads the rows can be led beyond an array's end, whoever wrote them.
    """
    if len(split.spans) and not (split.spans[:, 2].min() > 0 and split.spans[:, 2].max() < num_labels):
        raise UserError(f"{split.folder}: a span has a label beyond 1 to {num_labels - 1}: run prepare.py again")
    for name, limit in (("label_ids", num_labels), ("token_ids", vocab_size)):
        column = split.tokens[name]
        if len(column) and int(column.max()) >= limit:
            where = int(np.searchsorted(split.example_offsets, int(np.argmax(column >= limit)), side="right")) - 1
            raise UserError(f"{split.folder}: row {where} has one of {name} beyond {limit - 1}: run prepare.py again")
    first = 0
    for rows in split.chunks():
        try:
            lengths = np.array([len(text) for text in rows.texts()], dtype=np.int64)
        except UnicodeDecodeError:
            raise UserError(f"{split.folder}: a text is not UTF-8: run prepare.py again") from None
        for what, broken in broken_rows(rows, lengths):
            if len(broken):
                raise UserError(f"{split.folder}: row {first + int(broken[0])} has {what}: run prepare.py again")
        first += len(lengths)


def broken_rows(rows: Rows, lengths: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """(what is wrong, in which rows) of values that no code can work with; texts have `lengths` characters."""
    row = np.repeat(np.arange(len(lengths)), rows.token_counts)
    yield "a begin bit beyond 1", row[rows.tokens["begins"].view(np.uint8) > 1]
    places = (rows.tokens["char_starts"], rows.tokens["char_ends"])
    back = [(place[1:] < place[:-1]) & (row[1:] == row[:-1]) for place in places]
    yield "token offsets beyond its text", row[(places[0] >= places[1]) | (places[1] > lengths[row])]
    yield "token offsets that go back", row[1:][back[0] | back[1]]
    row = np.repeat(np.arange(len(lengths)), rows.span_counts)
    starts, ends = rows.spans[:, 0], rows.spans[:, 1]
    yield "spans beyond its text", row[(starts < 0) | (starts >= ends) | (ends > lengths[row])]
    yield "spans that overlap or go back", row[1:][(starts[1:] < ends[:-1]) & (row[1:] == row[:-1])]
