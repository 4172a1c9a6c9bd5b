"""The prepared format: what is written comes back, damage is one line, windows and batches lose no token."""

import contextlib
import functools
import io
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dataset import PIITokenDataset
from pii.common import UserError
from pii.corpus.store import Rows, Split, SplitWriter, read_meta
from pii.corpus.windows import length_sorted_batches, make_windows
from tests.decoder.test_backbone import Bomb

ROOT = Path(__file__).parent.parent
LABELS = ["O", "EMAIL", "NAME"]
DTYPES = {  # as DESIGN.md lists them
    "token_ids": np.uint32,
    "label_ids": np.uint16,
    "begins": np.bool_,
    "char_starts": np.uint32,
    "char_ends": np.uint32,
    "example_offsets": np.int64,
    "text_offsets": np.int64,
    "spans": np.int32,
    "span_offsets": np.int64,
}
EXAMPLES = [  # tokens: id, label id, begin, start, end
    {
        "text": "Hi Zoé",
        "language": "en",
        "tokens": [(1000, 0, False, 0, 2), (131071, 2, True, 2, 5), (1002, 2, False, 5, 6), (1003, 2, False, 5, 6)],
        "spans": [(3, 6, 2)],
    },
    {"text": "Rien.", "language": "fr", "tokens": [(1004, 0, False, 0, 4), (1005, 0, False, 4, 5)], "spans": []},
    {
        "text": "🙂a@b.c Al",
        "language": "und",
        "tokens": [(1006, 0, False, 0, 1), (1007, 0, False, 0, 1), (1008, 1, True, 1, 6), (1009, 2, True, 6, 9)],
        "spans": [(1, 6, 1), (7, 9, 2)],
    },
    {
        "text": "MissMiss",
        "language": "en",
        "tokens": [(7, 2, True, 0, 4), (7, 2, True, 4, 8)],
        "spans": [(0, 4, 2), (4, 8, 2)],
    },
]


def rows_of(examples: list[dict]) -> Rows:
    columns = list(zip(*(token for e in examples for token in e["tokens"]), strict=True)) or [[]] * 5
    raw = [e["text"].encode() for e in examples]
    return Rows(
        tokens={name: np.array(columns[i], DTYPES[name]) for i, name in enumerate(list(DTYPES)[:5])},
        token_counts=np.array([len(e["tokens"]) for e in examples], np.int64),
        text=np.frombuffer(b"".join(raw), np.uint8),
        text_counts=np.array([len(text) for text in raw], np.int64),
        spans=np.array([span for e in examples for span in e["spans"]], np.int32).reshape(-1, 3),
        span_counts=np.array([len(e["spans"]) for e in examples], np.int64),
        languages=np.array([e["language"] for e in examples], "<U8"),
    )


def examples_of(rows: Rows) -> list[dict]:
    """The opposite of `rows_of`, by slicing."""
    found, token, span = [], 0, 0
    for i, text in enumerate(rows.texts()):
        tokens = slice(token, token := token + int(rows.token_counts[i]))
        spans = slice(span, span := span + int(rows.span_counts[i]))
        columns = [rows.tokens[name][tokens].tolist() for name in list(DTYPES)[:5]]
        found.append({"text": text, "language": str(rows.languages[i]), "tokens": list(zip(*columns, strict=True))})
        found[-1]["spans"] = list(map(tuple, rows.spans[spans].tolist()))
    return found


def write_split(folder: Path, examples: list[dict], rows_a_batch: int = 3) -> Path:
    with SplitWriter(folder) as writer:
        for start in range(0, len(examples), rows_a_batch):
            writer.append(rows_of(examples[start : start + rows_a_batch]))
    return folder


META = {
    "format_version": 1,
    "labels": LABELS,
    "tokenizer": {"name": "tekken-v3", "file": "tekken.json", "sha256": "00", "vocab_size": 131072},
    "sources": [],
    "seed": 0,
    "statistics": {},
}


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A prepared folder: EXAMPLES for training, two of them for validation."""
    folder = tmp_path / "prepared"
    write_split(folder / "train", EXAMPLES)
    write_split(folder / "validation", EXAMPLES[:2])
    (folder / "meta.json").write_text(json.dumps(META))
    return folder


def assert_is_one_line(error: UserError, *parts: str) -> None:
    assert "\n" not in str(error) and all(part in str(error) for part in parts)


# Writer and reader

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
tokens = st.tuples(
    st.integers(0, 131071), st.integers(0, 2), st.booleans(), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)
)
drawn_examples = st.fixed_dictionaries(
    {
        "text": words,
        "language": st.sampled_from(["en", "fr", "und", "abcdefgh"]),
        "tokens": st.lists(tokens, max_size=4),
        "spans": st.lists(st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 9), st.integers(0, 2)), max_size=3),
    }
)


@settings(max_examples=60, deadline=None)
@given(st.lists(drawn_examples, max_size=8), st.integers(1, 3), st.integers(1, 4), st.data())
def test_what_is_written_comes_back(tmp_path_factory, examples, rows_a_batch, rows_a_chunk, data):
    split = Split(write_split(tmp_path_factory.mktemp("split") / "train", examples, rows_a_batch))
    assert len(split) == len(examples)
    assert [e for rows in split.chunks(rows_a_chunk) for e in examples_of(rows)] == examples
    picked = data.draw(st.lists(st.integers(0, len(examples) - 1), max_size=5)) if examples else []
    assert examples_of(split.rows(np.array(picked, np.int64))) == [examples[i] for i in picked]


def test_rows_written_at_once_or_one_by_one_give_the_same_bytes(tmp_path):
    at_once = write_split(tmp_path / "once", EXAMPLES, rows_a_batch=9)
    one_by_one = write_split(tmp_path / "single", EXAMPLES, rows_a_batch=1)
    names = {path.name for path in at_once.iterdir()}
    assert names == {"text.bin", "language.npy", *(f"{name}.npy" for name in DTYPES)}
    assert all((at_once / name).read_bytes() == (one_by_one / name).read_bytes() for name in names)


@pytest.mark.parametrize("examples", [EXAMPLES, []], ids=["rows", "no rows"])
def test_plain_numpy_reads_every_file_with_the_documented_dtype(tmp_path, examples):
    folder = write_split(tmp_path / "train", examples)
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in DTYPES}
    assert {name: array.dtype for name, array in arrays.items()} == DTYPES
    assert np.load(folder / "language.npy", mmap_mode="r", allow_pickle=False).tolist() == [
        e["language"] for e in examples
    ]
    assert arrays["spans"].shape == (sum(len(e["spans"]) for e in examples), 3)
    raw = (folder / "text.bin").read_bytes()
    places = arrays["text_offsets"].tolist()
    assert [raw[i:j].decode() for i, j in pairwise(places)] == [e["text"] for e in examples]
    expected = rows_of(examples)
    for name in list(DTYPES)[:5]:
        assert arrays[name].tolist() == expected.tokens[name].tolist()
    assert arrays["example_offsets"].tolist() == [0, *np.cumsum(expected.token_counts).tolist()]
    assert arrays["span_offsets"].tolist() == [0, *np.cumsum(expected.span_counts).tolist()]


# PIITokenDataset


def test_a_row_is_its_ids_and_labels_as_long_tensors(prepared):
    data = PIITokenDataset(prepared)
    assert isinstance(data, torch.utils.data.Dataset) and len(data) == len(EXAMPLES)
    for index, expected in enumerate(EXAMPLES):
        item = data[index]
        assert set(item) == {"input_ids", "labels"}
        assert all(isinstance(tensor, torch.LongTensor) for tensor in item.values())
        assert item["input_ids"].tolist() == [token[0] for token in expected["tokens"]]
        assert item["labels"].tolist() == [token[1] for token in expected["tokens"]]


def test_rows_can_be_changed_without_changing_the_data(prepared):
    data = PIITokenDataset(prepared)
    data[0]["labels"].fill_(-100)
    assert data[0]["labels"].tolist() == [0, 2, 2, 2]


def test_negative_indices_count_from_the_end_and_others_raise_index_error(prepared):
    data = PIITokenDataset(prepared)
    for index in range(-len(data), 0):
        assert data[index]["input_ids"].tolist() == data[len(data) + index]["input_ids"].tolist()
        assert data.example(index) == data.example(len(data) + index)
    for index in (len(data), -len(data) - 1):
        with pytest.raises(IndexError):
            data[index]
        with pytest.raises(IndexError):
            data.example(index)
    assert len(list(data)) == len(data)


def test_labels_and_ids_belong_together(prepared):
    data = PIITokenDataset(prepared)
    assert data.labels == LABELS and data.num_labels == 3
    assert data.label_to_id == {"O": 0, "EMAIL": 1, "NAME": 2}
    assert data.id_to_label == {0: "O", 1: "EMAIL", 2: "NAME"}


def test_an_example_holds_everything_known_of_a_row(prepared):
    data = PIITokenDataset(prepared)
    assert data.example(2) == {
        "text": "🙂a@b.c Al",
        "language": "und",
        "tokens": ["🙂", "🙂", "a@b.c", " Al"],
        "token_ids": [1006, 1007, 1008, 1009],
        "labels": ["O", "O", "EMAIL", "NAME"],
        "label_ids": [0, 0, 1, 2],
        "begins": [False, False, True, True],
        "char_spans": [(0, 1), (0, 1), (1, 6), (6, 9)],
        "spans": [(1, 6, "EMAIL"), (7, 9, "NAME")],
    }
    json.dumps([data.example(i) for i in range(len(data))])  # plain Python values


def test_to_dict_is_the_documented_structure(prepared):
    data = PIITokenDataset(prepared)
    columns = {
        "texts": "text",
        "tokens": "tokens",
        "token_ids": "token_ids",
        "labels": "labels",
        "label_ids": "label_ids",
    }
    for indices in (None, [2, 0, 2, -1], []):
        found = data.to_dict() if indices is None else data.to_dict(indices)
        examples = [data.example(i) for i in (range(len(data)) if indices is None else indices)]
        assert found == {
            **{name: [e[key] for e in examples] for name, key in columns.items()},
            "label_to_id": {"O": 0, "EMAIL": 1, "NAME": 2},
            "id_to_label": {0: "O", 1: "EMAIL", 2: "NAME"},
            "num_labels": 3,
        }


@pytest.mark.parametrize("as_text", [False, True])
def test_a_split_is_chosen_by_its_folder_or_by_argument(prepared, as_text):
    kind = str if as_text else Path
    assert len(PIITokenDataset(kind(prepared))) == len(PIITokenDataset(kind(prepared), "train")) == 4
    assert len(PIITokenDataset(kind(prepared / "train"))) == 4
    assert len(PIITokenDataset(kind(prepared), split="validation")) == 2
    assert len(PIITokenDataset(kind(prepared / "validation"))) == 2


def test_an_empty_split_is_a_dataset_of_no_rows(prepared):
    shutil.rmtree(prepared / "validation")
    write_split(prepared / "validation", [])
    data = PIITokenDataset(prepared, "validation")
    assert len(data) == 0 and list(data) == [] and data.num_labels == 3 and data.to_dict()["texts"] == []
    for index in (0, -1):
        with pytest.raises(IndexError):
            data[index]


# Damage


@pytest.mark.parametrize(("name", "value"), [("label_ids", 3), ("label_ids", 65535), ("token_ids", 131072)])
@pytest.mark.parametrize("row", range(len(EXAMPLES)))
def test_ids_out_of_range_are_refused_and_the_row_is_named(prepared, name, value, row):
    first = sum(len(e["tokens"]) for e in EXAMPLES[:row])
    for token in (first, first + len(EXAMPLES[row]["tokens"]) - 1):
        column = np.load(prepared / "train" / f"{name}.npy")
        column[token] = value
        np.save(prepared / "train" / f"{name}.npy", column)
        with pytest.raises(ValueError, match=rf"\brow {row}\b"):
            PIITokenDataset(prepared)


def test_a_row_is_named_rightly_after_rows_without_tokens(prepared):
    nothing = {"text": "", "language": "en", "tokens": [], "spans": []}
    bad = {**EXAMPLES[1], "tokens": [(0, 9, True, 0, 1)]}
    shutil.rmtree(prepared / "train")
    write_split(prepared / "train", [nothing, nothing, EXAMPLES[0], nothing, bad, nothing])
    with pytest.raises(ValueError, match=r"\brow 4\b"):
        PIITokenDataset(prepared)


@pytest.mark.parametrize("label", [3, -1])
def test_a_label_of_a_span_out_of_range_is_refused(prepared, label):
    """Every label is asserted to lie in [0, num_labels) when opened, a span's as much as a token's."""
    spans = np.load(prepared / "train" / "spans.npy")
    spans[-1, 2] = label
    np.save(prepared / "train" / "spans.npy", spans)
    with pytest.raises((ValueError, UserError)):
        PIITokenDataset(prepared)


FILES = ["text.bin", "language.npy", *(f"{name}.npy" for name in DTYPES)]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_one_line(prepared, name):
    (prepared / "train" / name).unlink()
    with pytest.raises(UserError) as caught:
        PIITokenDataset(prepared)
    assert_is_one_line(caught.value, str(prepared / "train"), "prepare.py")


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_anywhere_is_one_line(prepared, name):
    path = prepared / "train" / name
    raw = path.read_bytes()
    for length in sorted({0, 1, 6, 10, 60, 127, 128, len(raw) // 2, len(raw) - 1}):
        if length < len(raw):
            path.write_bytes(raw[:length])
            with pytest.raises(UserError) as caught:
                PIITokenDataset(prepared)
            assert_is_one_line(caught.value, str(prepared / "train"), "prepare.py")


def npy_bytes(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


def npy_header(shape: str) -> bytes:
    """A file whose header claims a shape."""
    header = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(80)


DAMAGE = {
    "a wider dtype": lambda column: npy_bytes(column.astype("U9" if column.dtype.kind == "U" else np.float64)),
    "another byte order": lambda column: npy_bytes(
        column.astype(">u8" if column.itemsize == 1 else column.dtype.newbyteorder(">"))
    ),
    "a dimension more": lambda column: npy_bytes(column.reshape(*column.shape, 1)),
    "a scalar": lambda column: npy_bytes(column.reshape(-1)[:1].reshape(())),
    "an entry less": lambda column: npy_bytes(column[:-1]),
    "an entry more": lambda column: npy_bytes(np.concatenate([column, column[-1:]])),
    "a pickle": lambda column: npy_bytes(np.array([{}, None], dtype=object), allow_pickle=True),
    "text": lambda column: b"not an array",
    "half a zip archive": lambda column: b"PK\x03\x04 not an archive",
    "a huge shape": lambda column: npy_header(f"({10**25},)"),
    "a negative shape": lambda column: npy_header("(-1,)"),
    "a header that is no header": lambda column: npy_header("(("),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_array_is_one_line(prepared, damage):
    for name in FILES[1:]:
        path = prepared / "train" / name
        whole = path.read_bytes()
        path.write_bytes(damage(np.load(path)))
        with pytest.raises(UserError) as caught:
            PIITokenDataset(prepared)
        assert_is_one_line(caught.value, str(prepared / "train"), "prepare.py")
        path.write_bytes(whole)
    assert len(PIITokenDataset(prepared)) == len(EXAMPLES)


@pytest.mark.parametrize("name", ["example_offsets", "text_offsets", "span_offsets"])
def test_offsets_that_do_not_fit_are_one_line(prepared, name):
    path = prepared / "train" / f"{name}.npy"
    good = np.load(path)
    for change in ([1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, -1], [0, 99, 0, 0, 0], [0, -99, 0, 0, 0]):
        np.save(path, good + np.array(change))
        with pytest.raises(UserError) as caught:
            PIITokenDataset(prepared)
        assert_is_one_line(caught.value, name, "prepare.py")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"7",
        b"\xff\xfe",
        b"[" * 100_000,
        *(
            json.dumps({**META, **change}).encode()
            for change in (
                {"format_version": 2},
                {"format_version": None},
                {"labels": None},
                {"labels": []},
                {"labels": ["EMAIL", "O"]},
                {"labels": ["O", "EMAIL", "EMAIL"]},
                {"labels": ["O", ["EMAIL"]]},
                {"labels": "O"},
                {"tokenizer": None},
                {"tokenizer": {}},
                {"tokenizer": {**META["tokenizer"], "vocab_size": "131072"}},
                {"tokenizer": {**META["tokenizer"], "sha256": None}},
            )
        ),
        *(json.dumps({k: v for k, v in META.items() if k != key}).encode() for key in ("labels", "tokenizer")),
    ],
    ids=lambda content: content[:60].decode("latin-1") or "empty",
)
def test_a_damaged_meta_file_is_one_line(prepared, content):
    (prepared / "meta.json").write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_meta(prepared)
    assert_is_one_line(caught.value, str(prepared / "meta.json"), "prepare.py")
    with pytest.raises(UserError):
        PIITokenDataset(prepared, "train")


def test_a_folder_without_prepared_data_is_one_line(tmp_path, prepared):
    for folder, split in [(tmp_path / "nothing", None), (tmp_path, None), (prepared, "test")]:
        with pytest.raises(UserError) as caught:
            PIITokenDataset(folder, split)
        assert_is_one_line(caught.value, str(folder), "prepare.py")


# What someone else made


def refused(folder: Path, *parts: str) -> None:
    """Opening says one line, and nothing beside it."""
    with warnings.catch_warnings(action="error"), pytest.raises(UserError) as caught:
        PIITokenDataset(folder)
    assert_is_one_line(caught.value, *parts)


def replace_column(prepared: Path, name: str, change: Callable[[np.ndarray], object]) -> None:
    column = np.load(prepared / "train" / f"{name}.npy")
    change(column)
    np.save(prepared / "train" / f"{name}.npy", column)


def test_offsets_whose_differences_overflow_are_refused(prepared):
    """0 to 2**63 - 1 to -2**63 to -1 to the end: each difference of int64 is positive."""
    offsets = np.array([0, 2**63 - 1, -(2**63), -1, 12])
    assert (np.diff(offsets) >= 0).all()
    np.save(prepared / "train" / "example_offsets.npy", offsets)
    refused(prepared, "example_offsets")


BEYOND = {
    "a token that ends beyond its text": ("char_ends", lambda column: column.__setitem__(3, 7)),
    "a token far beyond its text": ("char_ends", lambda column: column.__setitem__(3, 2**32 - 1)),
    "a token that ends before it starts": ("char_starts", lambda column: column.__setitem__(0, 2)),
    "tokens that go back": ("char_starts", lambda column: column.__setitem__(slice(1, 3), [5, 4])),
    "a span beyond its text": ("spans", lambda column: column.__setitem__((0, 1), 7)),
    "a span from before its text": ("spans", lambda column: column.__setitem__((0, 0), -1)),
    "an empty span": ("spans", lambda column: column.__setitem__((0, 1), 3)),
    "spans that overlap": ("spans", lambda column: column.__setitem__((2, 0), 5)),
    "a begin bit that is no bit": ("begins", lambda column: column.view(np.uint8).__setitem__(0, 2)),
}


@pytest.mark.parametrize(("name", "change"), BEYOND.values(), ids=BEYOND)
def test_places_beyond_a_text_are_refused_when_opened(prepared, name, change):
    """Else an array would be read beyond its end, by whoever reads it first."""
    replace_column(prepared, name, change)
    refused(prepared, str(prepared / "train"), "row ")


@pytest.mark.parametrize("text", [b"\xff", b"\xed\xa0\x80"], ids=["no UTF-8", "a surrogate"])
def test_a_text_that_is_no_utf_8_is_refused_when_opened(prepared, text):
    raw = (prepared / "train" / "text.bin").read_bytes()
    (prepared / "train" / "text.bin").write_bytes(text + raw[len(text) :])
    refused(prepared, str(prepared / "train"))


@pytest.mark.parametrize("point", [0x110000, 0xD800, 0x1B, 0x20, 0xE9, 2**32 - 1])
def test_a_language_of_no_ascii_is_refused(prepared, point):
    """A Unicode column may hold what is no character, at which Python itself stumbles."""
    replace_column(prepared, "language", lambda column: column.view(np.uint32).__setitem__(9, point))
    refused(prepared, "language")


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [("<i4", "(6148914691236517206, 3)"), ("<i4", "(5L, 3)"), (r"\d", "(5, 3)"), ("<i4", f"({2**40}, 3)")],
    ids=["a size that overflows", "of Python 2", "an odd escape", "4 TiB"],
)
def test_a_header_is_believed_in_nothing_and_says_nothing(prepared, dtype, shape):
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    raw = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(60)
    (prepared / "train" / "spans.npy").write_bytes(raw)
    tracemalloc.start()
    with contextlib.suppress(UserError), warnings.catch_warnings(action="error"):
        PIITokenDataset(prepared)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_an_archive_or_a_pickle_in_the_place_of_a_column_is_refused_unread(prepared, tmp_path):
    column = prepared / "train" / "begins.npy"
    for held in ("an archive", "a pickle"):
        bomb = np.array([Bomb(tmp_path / "trace")], dtype=object)
        buffer = io.BytesIO()
        if held == "an archive":
            np.savez(buffer, bomb)
        column.write_bytes(buffer.getvalue() if held == "an archive" else npy_bytes(bomb, allow_pickle=True))
        refused(prepared, "begins.npy")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("name", ["meta.json", "train", "train/token_ids.npy", "train/text.bin", "train/language.npy"])
def test_a_link_that_leads_out_of_a_prepared_folder_is_refused(prepared, tmp_path, name):
    """Or the data of someone else would show what stands in one's own files."""
    outside = (prepared / name).rename(tmp_path / "outside")
    (prepared / name).symlink_to(outside)
    refused(prepared, name, "link")


def test_a_prepared_folder_may_be_a_link_itself_and_hold_links_within(prepared, tmp_path):
    (tmp_path / "link").symlink_to(prepared, target_is_directory=True)
    (prepared / "train" / "begins.npy").rename(prepared / "begins.npy")
    (prepared / "train" / "begins.npy").symlink_to(Path("..") / "begins.npy")
    for folder in (tmp_path / "link", tmp_path / "link" / "train"):
        assert len(PIITokenDataset(folder)) == len(EXAMPLES)


@pytest.mark.parametrize("name", ["meta.json", "train/token_ids.npy", "train/text.bin"])
def test_a_pipe_in_a_prepared_folder_is_refused_and_not_waited_for(prepared, name):
    (prepared / name).unlink()
    os.mkfifo(prepared / name)
    refused(prepared, name)


@pytest.mark.parametrize(
    "change",
    [
        {"statistics": functools.reduce(lambda inner, _: [inner], range(200), 1)},
        {"statistics": {"rejected_rows": {"\ud800": 1}}},
        {"labels": ["O", *map(str, range(2**15))]},
        {"tokenizer": {**META["tokenizer"], "vocab_size": True}},
    ],
    ids=["deep", "a lone surrogate", "more labels than tags have numbers", "a vocabulary of yes"],
)
def test_a_meta_file_with_what_nobody_writes_is_one_line(prepared, change):
    (prepared / "meta.json").write_text(json.dumps(META | change))
    refused(prepared, "meta.json", "prepare.py")


# Windows and batches

row_lengths = st.lists(st.integers(1, 40), max_size=12)


@settings(max_examples=150, deadline=None)
@given(row_lengths, st.integers(1, 30))
@example([1, 4, 5, 8, 97], 1)
@example([1, 4, 5, 8, 97], 4)
@example([], 96)
def test_every_token_is_scored_exactly_once_and_no_window_is_too_long(lengths, max_length):
    offsets = np.array([0, *np.cumsum(lengths)], dtype=np.int64)
    windows = make_windows(offsets, max_length)
    scored = [0] * sum(lengths)
    for row, start, stop, scored_from, scored_to in zip(*vars(windows).values(), strict=True):
        assert offsets[row] <= start <= scored_from < scored_to <= stop <= offsets[row + 1]
        assert stop - start <= max_length
        for token in range(scored_from, scored_to):
            scored[token] += 1
    assert scored == [1] * sum(lengths)
    assert sorted(windows.row.tolist()) == windows.row.tolist() and len(windows) == len(windows.row)


@settings(max_examples=100, deadline=None)
@given(row_lengths, st.integers(4, 30))
def test_every_window_but_a_rows_first_has_left_context(lengths, max_length):
    assert_left_context(lengths, max_length)


@pytest.mark.parametrize("max_length", [2, 3])
def test_even_the_shortest_windows_have_left_context(max_length):
    assert_left_context([1, 2, 3, 4, 5, 9, 10], max_length)


def assert_left_context(lengths: list[int], max_length: int) -> None:
    offsets = np.array([0, *np.cumsum(lengths)], dtype=np.int64)
    windows = make_windows(offsets, max_length)
    for row in range(len(lengths)):
        of_row = np.flatnonzero(windows.row == row)
        assert windows.start[of_row[0]] == windows.scored_from[of_row[0]] == offsets[row]
        for before, window in pairwise(of_row):
            assert windows.start[window] < windows.scored_from[window] == windows.scored_to[before]


@settings(max_examples=100, deadline=None)
@given(row_lengths, st.integers(1, 30))
def test_windows_overlap_by_a_quarter_two_thirds_left_context_and_one_third_right(lengths, max_length):
    offsets = np.array([0, *np.cumsum(lengths)], dtype=np.int64)
    windows = make_windows(offsets, max_length)
    overlap = min(max_length - 1, max(1, max_length // 4))
    for row, end in enumerate(offsets[1:]):
        of_row = np.flatnonzero(windows.row == row)
        assert windows.scored_to[of_row[-1]] == windows.stop[of_row[-1]] == end
        for number, (before, window) in enumerate(pairwise(of_row), start=2):
            shared = windows.stop[before] - windows.start[window]
            assert shared == overlap if number < len(of_row) else shared >= overlap
            assert windows.lengths[before] == windows.lengths[window] == max_length
            assert windows.stop[before] - windows.scored_to[before] == overlap // 3
            assert windows.scored_from[window] - windows.start[window] == shared - overlap // 3


@settings(max_examples=60, deadline=None)
@given(row_lengths, st.integers(1, 30), st.data())
def test_tokens_and_places_are_those_of_a_loop_over_the_windows(lengths, max_length, data):
    windows = make_windows(np.array([0, *np.cumsum(lengths)], dtype=np.int64), max_length)
    chosen = data.draw(st.permutations(range(len(windows))))
    windows = windows[np.array(chosen[: len(chosen) // 2 + 1], dtype=np.int64)]
    tokens, scored, places = [], [], []
    for _, start, stop, scored_from, scored_to in zip(*vars(windows).values(), strict=True):
        places += range(len(tokens) + scored_from - start, len(tokens) + scored_to - start)
        tokens += range(start, stop)
        scored += range(scored_from, scored_to)
    assert windows.tokens().tolist() == tokens and windows.scored_tokens().tolist() == scored
    assert windows.scored_places().tolist() == places
    assert [tokens[place] for place in places] == scored
    assert (windows.lengths.sum(), windows.scored_counts.sum()) == (len(tokens), len(scored))


@settings(max_examples=60, deadline=None)
@given(row_lengths, st.integers(0, 5))
def test_a_row_that_fits_is_one_window(lengths, room):
    offsets = np.array([0, *np.cumsum(lengths)], dtype=np.int64)
    windows = make_windows(offsets, max([*lengths, 1]) + room)
    assert windows.row.tolist() == list(range(len(lengths)))
    assert (windows.start.tolist(), windows.stop.tolist()) == (offsets[:-1].tolist(), offsets[1:].tolist())
    assert windows.scored_from.tolist() == windows.start.tolist()
    assert windows.scored_to.tolist() == windows.stop.tolist()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 200))
def test_batches_hold_every_window_once_within_the_budget(lengths, budget):
    batches = list(length_sorted_batches(np.array(lengths, dtype=np.int64), budget))
    assert sorted(i for batch in batches for i in batch.tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget
    in_order = [lengths[i] for batch in batches for i in batch]
    assert in_order == sorted(lengths, reverse=True)


# Imports


def test_reading_prepared_data_does_not_need_the_tokenizer(prepared):
    code = (
        "import sys, dataset\n"
        "data = dataset.PIITokenDataset(sys.argv[1])\n"
        "data[0], data.example(0)\n"
        "assert 'mistral_common' not in sys.modules and 'tiktoken' not in sys.modules\n"
        "print(len(data))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, prepared], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.stdout, done.returncode) == ("4\n", 0), done.stderr
