"""The prepared format: what is written comes back, and damage is one line."""

import contextlib
import functools
import io
import json
import os
import shutil
import tracemalloc
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset import PIITokenDataset
from pii.common import UserError
from pii.corpus.store import Rows, Split, SplitWriter, read_meta
from tests.decoder.test_backbone import Bomb

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


def write_prepared(folder: Path) -> Path:
    """A prepared folder: EXAMPLES for training, two of them for validation."""
    write_split(folder / "train", EXAMPLES)
    write_split(folder / "validation", EXAMPLES[:2])
    (folder / "meta.json").write_text(json.dumps(META))
    return folder


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    return write_prepared(tmp_path / "prepared")


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
