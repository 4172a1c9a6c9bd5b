"""Every planted fault of prepared data is found and named, in the report of the check."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import check_dataset
import prepare
from dataset import PIITokenDataset
from pii.common import UserError

CANARY = "xylophonecanary"
SENTENCES = [
    ("Hello {FIRSTNAME} {LASTNAME}, email: {EMAIL}", ["John", "Smith", "john@example.com"]),
    ("Dear {PREFIX}{PREFIX} the code is {PIN}.", ["Miss", "Miss", "4711"]),
    (CANARY + " {FIRSTNAME} {FIRSTNAME} live in {CITY} now", ["Ann", "Lee", "Thonon les Bains"]),
    ("é🙂 Mme {LASTNAME} habite à {CITY} depuis hier", ["Zoé-👍🏽", "Besançon"]),
    ("nothing to see here", []),
    ("the PIN {PIN} belongs to {EMAIL} of {CITY}", ["90210", "a.b@c.org", "New York"]),
]


def row_of(template: str, values: list[str]) -> dict:
    """A raw row: the template with its {LABEL}s filled in."""
    text, spans, left = "", [], iter(values)
    for part in re.split(r"(\{\w+\})", template):
        if part.startswith("{"):
            value = next(left)
            spans.append([len(text), len(text) + len(value), part[1:-1]])
            part = value
        text += part
    return {"unmasked_text": text, "span_labels": spans}


def prepare_to(folder: Path, rows: list[dict], *flags: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    prepare.main(["--input", str(source), "--output", str(folder / "prepared"), *flags])
    return folder / "prepared"


def prepare_sentences(folder: Path) -> Path:
    """A prepared folder in order, whose train split holds SENTENCES in their order."""
    return prepare_to(folder, [row_of(*sentence) for sentence in SENTENCES], "--validation-fraction", "0")


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A copy of the sound folder, to be broken."""
    return Path(shutil.copytree(sound, tmp_path / "prepared"))


def check(folder: Path, *flags: str) -> None:
    check_dataset.main(["--data", str(folder), *flags])


def rewrite(folder: Path, name: str, change: Callable[[np.ndarray], object], split: str = "train") -> None:
    """Change an array of a split on disk: `change` works in place or gives a new array."""
    path = folder / split / f"{name}.npy"
    array = np.load(path)
    changed = change(array)
    np.save(path, array if changed is None else changed)


def put(index: int | tuple, value: int) -> Callable[[np.ndarray], None]:
    """A change that puts a value in a place."""
    return lambda array: array.__setitem__(index, value)


def add(index: int | tuple, value: int) -> Callable[[np.ndarray], None]:
    return lambda array: array.__setitem__(index, int(array[index]) + value)


def token_of(folder: Path, row: int, string: str) -> int:
    """The place in the token columns of the last token of a row that is this string."""
    tokens = PIITokenDataset(folder, "train")
    strings = tokens.example(row)["tokens"]
    assert string in strings, strings
    return int(tokens.split.example_offsets[row]) + len(strings) - 1 - strings[::-1].index(string)


def span_of(folder: Path, row: int, number: int) -> int:
    return int(np.load(folder / "train/span_offsets.npy")[row]) + number


def findings(folder: Path, capsys: pytest.CaptureFixture) -> str:
    """What the check of a broken folder reports; it fails with exit code 1 and one line, and shows no row."""
    capsys.readouterr()
    with pytest.raises(UserError) as error:
        check(folder)
    captured = capsys.readouterr()
    everything = captured.out + captured.err + str(error.value)
    assert error.value.code == 1 and "\n" not in str(error.value)
    assert CANARY not in everything and "John" not in everything and "4711" not in everything
    return captured.out


def assert_found(report: str, invariant: str, row: int, split: str = "train") -> None:
    """The report names the invariant and the one row that breaks it."""
    lines = [line for line in report.splitlines() if invariant in line]
    assert lines, f"{invariant!r} is not in {report!r}"
    assert all(split in line and re.search(rf"\b1 rows?, the first is row {row}$", line) for line in lines), lines


TOKEN_FAULTS = [
    # name, column, row, token, change at its place, invariant
    ("label out of range", "label_ids", 0, " John", lambda i: put(i, 60), "labels are in range"),
    ("label changed", "label_ids", 0, " John", lambda i: put(i, 1), "labels follow from the spans"),
    ("label invented", "label_ids", 2, " in", lambda i: put(i, 1), "a change of label begins a span"),
    ("token id beyond the vocabulary", "token_ids", 2, " in", lambda i: put(i, 131072), "in the vocabulary"),
    ("token id replaced by another", "token_ids", 2, " in", lambda i: add(i, 1), "rebuild the text"),
    ("token id replaced by a special one", "token_ids", 2, " in", lambda i: put(i, 1), "rebuild the text"),
    ("start shifted right", "char_starts", 1, " code", lambda i: add(i, 1), "cover the text without gaps"),
    ("start shifted left by one", "char_starts", 1, " code", lambda i: add(i, -1), "offsets are the tokens' own"),
    ("start shifted left by two", "char_starts", 1, " code", lambda i: add(i, -2), "cover the text without gaps"),
    ("start beyond the token before", "char_starts", 1, " code", lambda i: put(i, 0), "offsets are monotone"),
    ("start not before end", "char_starts", 1, " code", lambda i: add(i, 5), "offsets are monotone"),
    ("end shifted left", "char_ends", 1, " code", lambda i: add(i, -1), "cover the text without gaps"),
    ("last end before the text's", "char_ends", 0, ".com", lambda i: add(i, -1), "end where the text ends"),
    ("last end beyond the text's", "char_ends", 0, ".com", lambda i: add(i, 1), "end where the text ends"),
    ("begin bit removed", "begins", 0, " John", lambda i: put(i, 0), "a change of label begins a span"),
    ("begin bit between neighbours removed", "begins", 2, " Lee", lambda i: put(i, 0), "span's first token"),
    ("begin bit added inside a span", "begins", 0, ".com", lambda i: put(i, 1), "span's first token"),
    ("begin bit added on O", "begins", 0, " email", lambda i: put(i, 1), "begin bits stand on labelled tokens"),
]


@pytest.mark.parametrize(
    ("column", "row", "token", "change", "invariant"),
    [pytest.param(*fault[1:], id=fault[0]) for fault in TOKEN_FAULTS],
)
def test_a_fault_in_a_token_column_is_found_and_named(folder, capsys, column, row, token, change, invariant):
    rewrite(folder, column, change(token_of(folder, row, token)))
    assert_found(findings(folder, capsys), invariant, row)


def test_a_begin_bit_that_moved_is_found(folder, capsys):
    place = token_of(folder, 0, "@example")
    rewrite(folder, "begins", lambda begins: begins.__setitem__(slice(place - 2, place + 1), [False, False, True]))
    assert_found(findings(folder, capsys), "a change of label begins a span", 0)


def test_a_border_between_tokens_that_moved_is_found_once(folder, capsys):
    """One token's end and the next one's start move together: no gap, and still one broken row."""
    place = token_of(folder, 2, " in")
    rewrite(folder, "char_starts", add(place, -1))
    rewrite(folder, "char_ends", add(place - 1, -1))
    assert_found(findings(folder, capsys), "offsets are the tokens' own", 2)


@pytest.mark.parametrize("column", ["token_ids", "label_ids", "begins", "char_starts", "char_ends"])
def test_any_single_entry_that_changed_is_found(folder, capsys, column):
    """Whatever the place: all these columns follow from the text and its spans."""
    path = folder / "train" / f"{column}.npy"
    labels = len(PIITokenDataset(folder, "train").labels)
    whole = path.read_bytes()
    tokens = len(np.load(path))
    for place in range(0, tokens, 4):
        new = {
            "begins": lambda entry: not entry,
            "label_ids": lambda entry, place=place: (entry + 1 + place % (labels - 1)) % labels,
            "token_ids": lambda entry: entry + 1,
        }.get(column, lambda entry, place=place: entry + 1 if place % 2 or not entry else entry - 1)
        rewrite(folder, column, lambda array, place=place, new=new: put(place, new(int(array[place])))(array))
        assert "BROKEN" in findings(folder, capsys), place
        path.write_bytes(whole)


SPAN_FAULTS = [
    # name, row, number of the span in the row, column of the span, change, invariant
    ("end beyond the text", 0, 2, 1, lambda i: add(i, 1), "spans are in range"),
    ("start before the text", 0, 0, 0, lambda i: put(i, -1), "spans are in range"),
    ("empty", 1, 2, 1, lambda i: add(i, -4), "spans are in range"),
    ("overlap", 2, 0, 1, lambda i: add(i, 3), "sorted and do not overlap"),
    ("label O", 2, 2, 2, lambda i: put(i, 0), "spans have a label"),
    ("negative label", 2, 2, 2, lambda i: put(i, -1), "spans have a label"),
    ("unknown label", 2, 2, 2, lambda i: put(i, 60), "spans have a label"),
    ("another label", 2, 2, 2, lambda i: put(i, 2), "labels follow from the spans"),
    ("white space at its start", 2, 2, 0, lambda i: add(i, -1), "white space"),
    ("white space at its end", 2, 2, 1, lambda i: add(i, 1), "white space"),
    ("longer by a word", 2, 2, 1, lambda i: add(i, 4), "labels follow from the spans"),
    ("shorter by a word", 2, 2, 1, lambda i: add(i, -6), "labels follow from the spans"),
]


@pytest.mark.parametrize(
    ("row", "number", "column", "change", "invariant"), [pytest.param(*fault[1:], id=fault[0]) for fault in SPAN_FAULTS]
)
def test_a_fault_in_a_span_is_found_and_named(folder, capsys, row, number, column, change, invariant):
    rewrite(folder, "spans", change((span_of(folder, row, number), column)))
    assert_found(findings(folder, capsys), invariant, row)


def test_spans_in_the_wrong_order_are_found(folder, capsys):
    first = span_of(folder, 2, 0)
    rewrite(folder, "spans", lambda spans: spans.__setitem__([first, first + 1], spans[[first + 1, first]]))
    assert_found(findings(folder, capsys), "sorted and do not overlap", 2)


def test_a_text_that_changed_is_found(folder, capsys):
    path = folder / "train/text.bin"
    path.write_bytes(path.read_bytes().replace(b"nothing", b"nothinG"))
    assert_found(findings(folder, capsys), "rebuild the text", 4)


def test_a_text_that_is_no_utf_8_is_found_with_its_row(folder, capsys):
    path = folder / "train/text.bin"
    path.write_bytes(path.read_bytes().replace(b"nothing", b"nothin\xff"))
    assert_found(findings(folder, capsys), "UTF-8", 4)


@pytest.mark.parametrize("name", ["example_offsets", "text_offsets", "span_offsets"])
def test_a_border_between_rows_that_moved_is_found(folder, capsys, name):
    rewrite(folder, name, add(3, -1))
    report = findings(folder, capsys)
    assert "BROKEN" in report and ("row 2" in report or "row 3" in report)


def test_a_row_without_tokens_is_found(folder, capsys):
    rewrite(folder, "example_offsets", lambda offsets: put(5, int(offsets[4]))(offsets))
    assert_found(findings(folder, capsys), "every row has tokens", 4)


def test_faults_of_both_splits_are_all_reported(folder, capsys):
    shutil.rmtree(folder / "validation")
    shutil.copytree(folder / "train", folder / "validation")
    outside, email = token_of(folder, 2, " in"), token_of(folder, 0, " email")
    rewrite(folder, "label_ids", put(outside, 60))
    rewrite(folder, "spans", put((span_of(folder, 0, 0), 0), -1))
    rewrite(folder, "begins", put(email, 1), split="validation")
    report = findings(folder, capsys)
    assert_found(report, "labels are in range", 2)
    assert_found(report, "spans are in range", 0)
    assert_found(report, "begin bits stand on labelled tokens", 0, split="validation")
