"""Every planted fault of prepared data is found and named, and rows are shown only on demand and harmlessly."""

import contextlib
import html
import json
import os
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import check_dataset
import prepare
from dataset import PIITokenDataset
from pii.common import UserError, run
from pii.corpus import tekken
from pii.pages import data_page

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


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder in order; tests only read it. Its train split holds SENTENCES in their order."""
    rows = [row_of(*sentence) for sentence in SENTENCES]
    return prepare_to(tmp_path_factory.mktemp("sound"), rows, "--validation-fraction", "0")


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


# Sound data


def test_a_sound_folder_passes(sound, capsys):
    assert check(sound) is None
    assert "BROKEN" not in capsys.readouterr().out


def test_data_with_an_empty_split_and_no_spans_passes(tmp_path, capsys):
    rows = [{"unmasked_text": "no spans at all", "span_labels": []}]
    for share in ("0", "1"):
        check(prepare_to(tmp_path / share, rows, "--validation-fraction", share))
    assert "BROKEN" not in capsys.readouterr().out


# Planted faults


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


def test_the_command_of_a_broken_folder_ends_with_one_line_and_exit_code_1(folder, capfd, monkeypatch):
    rewrite(folder, "label_ids", put(token_of(folder, 2, " in"), 60))
    monkeypatch.setattr("sys.argv", ["check_dataset.py", "--data", str(folder), "--sample"])
    capfd.readouterr()
    with pytest.raises(SystemExit) as stopped:
        run(check_dataset.main)
    out, err = capfd.readouterr()
    assert stopped.value.code == 1 and "labels are in range" in out
    assert len(err.splitlines()) == 1 and CANARY not in out + err


# Damaged files


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


DAMAGE = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"\x93NUMPY garbage"),
    "a zip file's first bytes": lambda path: path.write_bytes(b"PK\x03\x04 garbage"),
    "truncated": truncate,
    "one entry less": lambda path: np.save(path, np.load(path)[:-1]),
    "no entries": lambda path: np.save(path, np.load(path)[:0]),
    "another type": lambda path: np.save(path, np.load(path).astype(np.float64)),
    "a table": lambda path: np.save(path, np.load(path)[:, None]),
    "a single number": lambda path: np.save(path, np.load(path).ravel()[0]),
    "pickled objects": lambda path: np.save(path, np.load(path).astype(object), allow_pickle=True),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("name", ["label_ids", "example_offsets", "spans"])
def test_a_damaged_array_ends_with_one_line(folder, name, damage):
    damage(folder / "train" / f"{name}.npy")
    with pytest.raises(UserError) as error:
        check(folder)
    assert "train" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["example_offsets", "text_offsets", "span_offsets"])
@pytest.mark.parametrize(
    "change", [put(0, 1), put(-1, 10**9), put(2, 10**9), put(2, -1), add(-1, -1)], ids=["0", "-1", "big", "neg", "less"]
)
def test_offsets_that_do_not_fit_end_with_one_line(folder, name, change):
    rewrite(folder, name, change)
    with pytest.raises(UserError, match=name):
        check(folder)


@pytest.mark.parametrize("damage", [Path.unlink, truncate, lambda path: path.write_bytes(b"")], ids=["no", "cut", "0"])
def test_a_damaged_text_file_ends_with_one_line(folder, damage):
    damage(folder / "train/text.bin")
    with pytest.raises(UserError, match="text"):
        check(folder)


META_FAULTS = {
    "no JSON": lambda meta: "{",
    "no object": lambda meta: "[]",
    "deeply nested": lambda meta: "[" * 100_000,
    "another version": lambda meta: json.dumps(meta | {"format_version": 99}),
    "no labels": lambda meta: json.dumps({key: value for key, value in meta.items() if key != "labels"}),
    "labels without O first": lambda meta: json.dumps(meta | {"labels": meta["labels"][::-1]}),
    "a label twice": lambda meta: json.dumps(meta | {"labels": [*meta["labels"], "CITY"]}),
    "labels of numbers": lambda meta: json.dumps(meta | {"labels": ["O", 1]}),
    "no tokenizer": lambda meta: json.dumps(meta | {"tokenizer": None}),
    "tokenizer without its hash": lambda meta: json.dumps(meta | {"tokenizer": {"vocab_size": 131072}}),
}


@pytest.mark.parametrize("broken", META_FAULTS.values(), ids=META_FAULTS)
def test_a_broken_meta_json_ends_with_one_line(folder, broken):
    path = folder / "meta.json"
    path.write_text(broken(json.loads(path.read_text())))
    with pytest.raises(UserError, match=r"meta\.json") as error:
        check(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("statistics", [None, [], {}, "none"])
def test_broken_statistics_in_meta_json_are_no_traceback(folder, statistics):
    path = folder / "meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"statistics": statistics}))
    with contextlib.suppress(UserError):
        check(folder)


def test_a_label_fewer_in_meta_json_is_found(folder, capsys):
    path = folder / "meta.json"
    meta = json.loads(path.read_text())
    path.write_text(json.dumps(meta | {"labels": meta["labels"][:-1]}))
    report = findings(folder, capsys)
    assert "labels are in range" in report and "spans have a label" in report


def test_another_tokenizer_is_said_and_not_taken_for_a_fault(folder, capsys):
    path = folder / "meta.json"
    meta = json.loads(path.read_text())
    meta["tokenizer"]["sha256"] = "0" * 64
    path.write_text(json.dumps(meta))
    check(folder)
    assert "not checked" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["", "no/such/folder"])
def test_a_folder_without_prepared_data_is_the_users_mistake(tmp_path, place):
    with pytest.raises(UserError, match=r"prepare\.py") as error:
        check(tmp_path / place)
    assert error.value.code == 2


# What it reports of sound data


def strict_f1(found: list[set], gold: list[set]) -> float:
    hits = sum(len(f & g) for f, g in zip(found, gold, strict=True))
    return 2 * hits / (sum(map(len, found)) + sum(map(len, gold)))


def spans_from_tags(example: dict, with_begins: bool) -> set:
    """The spans of one row's gold tags, by a plain loop over its tokens."""
    found, open_label = [], "O"
    columns = (example["labels"], example["begins"], example["char_spans"])
    for label, begin, (start, end) in zip(*columns, strict=True):
        if label != "O" and label == open_label and not (with_begins and begin):
            found[-1][1] = end
        elif label != "O":
            found.append([start, end, label])
        open_label = label
    text = example["text"]
    return {(end - len(text[start:end].lstrip()), end, label) for start, end, label in found}


def test_alignment_ceilings_are_those_of_a_loop_over_rows(tmp_path, capsys):
    rows = [row_of(*sentence) for sentence in SENTENCES]
    rows.append({"unmasked_text": "write to john@example.com", "span_labels": [[9, 24, "EMAIL"]]})  # one short
    folder = prepare_to(tmp_path, rows, "--validation-fraction", "0.3")
    examples = [
        data.example(i)
        for data in (PIITokenDataset(folder, "train"), PIITokenDataset(folder, "validation"))
        for i in range(len(data))
    ]
    gold = [set(example["spans"]) for example in examples]
    expected = [strict_f1([spans_from_tags(example, begins) for example in examples], gold) for begins in (False, True)]
    assert expected[0] < expected[1] < 1  # neighbours of one label merge, and a span that ends inside a token is lost
    capsys.readouterr()
    check(folder)
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("alignment ceiling")]
    assert [float(number) for number in re.findall(r"\d\.\d+", line)] == pytest.approx(expected, abs=5e-5)


def test_skeletons_on_both_sides_of_the_split_are_counted(tmp_path, capsys):
    rows = [row_of("I am {CITY}", [city]) for city in ("Rome", "Oslo", "Bern")]
    rows += [row_of("I know {CITY}", ["Oslo"]), row_of("I am {AGE}", ["42"])]
    folder = prepare_to(tmp_path, rows, "--validation-fraction", "0.5")

    def counts() -> list[int]:
        capsys.readouterr()
        check(folder)
        [line] = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("skeletons")]
        return [int(number) for number in re.findall(r"\d+", line)]

    train, validation, both = counts()
    assert train + validation == 3 and both == 0 and train and validation
    shutil.rmtree(folder / "validation")
    shutil.copytree(folder / "train", folder / "validation")
    assert counts() == [train, train, train]


def test_spans_of_each_label_are_counted(sound, capsys):
    check(sound)
    lines = capsys.readouterr().out.splitlines()
    wanted = [label for row in SENTENCES for label in re.findall(r"\{(\w+)\}", row[0])]
    for label in set(wanted):
        [line] = [line for line in lines if line.split()[:1] == [label]]
        assert line.split()[1:] == [str(wanted.count(label)), "0"]


# Rows that are shown


def shown_rows(folder: Path, capsys: pytest.CaptureFixture, *flags: str) -> list[tuple[int, str]]:
    """(row number, what is shown of it) for each row that is shown."""
    capsys.readouterr()
    check(folder, *flags)
    blocks = re.split(r"^row (\d+)\b.*\n", capsys.readouterr().out, flags=re.MULTILINE)
    return [(int(number), shown.strip("\n")) for number, shown in zip(blocks[1::2], blocks[2::2], strict=True)]


def test_no_row_is_shown_unless_asked(sound, capsys):
    capsys.readouterr()
    check(sound)
    captured = capsys.readouterr()
    for value in (CANARY, "Hello", "John", "4711", "Besançon", "nothing to see"):
        assert value not in captured.out + captured.err


def test_the_rows_of_index_are_shown_and_no_others(sound, capsys):
    assert [number for number, _ in shown_rows(sound, capsys, "--index", "2", "0")] == [2, 0]
    [(number, shown)] = shown_rows(sound, capsys, "--index", "0")
    assert number == 0 and "Hello" in shown and CANARY not in shown


@pytest.mark.parametrize("row", range(len(SENTENCES)))
def test_a_shown_row_has_its_spans_in_brackets_with_labels_and_its_token_borders(sound, capsys, row):
    [(_, shown)] = shown_rows(sound, capsys, "--index", str(row))
    template, values = SENTENCES[row]
    for value in values:
        template = re.sub(r"\{(\w+)\}", lambda match, value=value: f"[{value}]{match[1]}", template, count=1)
    assert shown.replace("|", "") == template

    names = "|".join(set(re.findall(r"\{(\w+)\}", SENTENCES[row][0]))) or "NONE"
    text = row_of(*SENTENCES[row])["unmasked_text"]
    borders, position = [], 0
    for part in re.sub(rf"\[|\](?:{names})", "", shown).split("|"):
        position += len(part)
        borders.append(position)
    pieces = [tekken.load().pieces[i] for i in tekken.load().encode([text]).token_ids]
    ends = [sum(map(len, pieces[: i + 1])) for i in range(len(pieces))]  # in bytes
    whole = [i for i in range(1, len(text) + 1) if len(text[:i].encode()) in ends]
    assert [border for border in borders if border in whole] == whole  # every border between characters is shown,
    inside = {len(text.encode()[:end].decode(errors="ignore")) for end in ends} - set(whole)
    assert set(borders) - set(whole) <= inside | {i + 1 for i in inside}  # and others only at characters that are split


def test_a_sample_is_as_large_as_asked_and_of_different_rows(sound, capsys):
    sample = [number for number, _ in shown_rows(sound, capsys, "--sample", "3")]
    assert len(set(sample)) == len(sample) == 3 and set(sample) <= set(range(len(SENTENCES)))
    assert sorted(n for n, _ in shown_rows(sound, capsys, "--sample", "100")) == list(range(len(SENTENCES)))
    assert len(shown_rows(sound, capsys, "--sample")) == 5


def test_label_shows_only_rows_with_a_span_of_it(sound, capsys):
    with_city = [i for i, (template, _) in enumerate(SENTENCES) if "{CITY}" in template]
    assert sorted(number for number, _ in shown_rows(sound, capsys, "--label", "CITY")) == with_city
    assert {n for n, _ in shown_rows(sound, capsys, "--label", "CITY", "--sample", "2")} < set(with_city)
    assert [n for n, _ in shown_rows(sound, capsys, "--label", "CITY", "--index", "0", "5", "1", "2")] == [5, 2]


def test_rows_of_the_split_that_was_asked_for_are_shown(tmp_path, capsys):
    folder = prepare_to(tmp_path, [row_of(*sentence) for sentence in SENTENCES], "--validation-fraction", "0.4")
    texts = [PIITokenDataset(folder, "validation").example(i)["text"] for i in range(2)]
    shown = shown_rows(folder, capsys, "--split", "validation", "--index", "0", "1")
    assert [re.sub(r"\||\[|\][A-Z]+", "", line) for _, line in shown] == texts


WRONG_CHOICES = [
    ["--index", "6"],
    ["--index", "0", "-1"],
    ["--index", "99999999999999999999"],
    ["--split", "validation", "--index", "0"],  # the split is empty
    ["--label", "O"],
    ["--label", "city"],
    ["--sample", "0"],
    ["--sample", "1", "--index", "1"],
]


@pytest.mark.parametrize("flags", WRONG_CHOICES, ids=" ".join)
def test_a_wrong_choice_of_rows_is_the_users_mistake_in_one_line(sound, capsys, flags):
    capsys.readouterr()
    with pytest.raises(UserError) as error:
        check(sound, *flags)
    assert error.value.code == 2 and "\n" not in str(error.value)
    assert "to -1" not in str(error.value)  # no range of rows is offered where there is none
    assert CANARY not in capsys.readouterr().out


# A terminal that stays whole

HOSTILE = "a\x1b[31mb\x07c\x08d\re\x9bf\u202eg\u2066h\u200bi\x7fj\tk\x00l\u200fm\x85n"


def dangerous(text: str) -> set[str]:
    return {c for c in text if c != "\n" and (c < " " or "\x7f" <= c <= "\x9f" or c in "\u202e\u2066\u200b\u200f")}


def test_control_characters_of_a_text_are_shown_escaped(tmp_path, capsys):
    rows = [{"unmasked_text": f"{HOSTILE} {HOSTILE}", "span_labels": [[0, len(HOSTILE), "CITY"]]}]
    folder = prepare_to(tmp_path, rows, "--validation-fraction", "0")
    [(_, shown)] = shown_rows(folder, capsys, "--index", "0")
    assert not dangerous(shown)
    for escaped in (r"\x1b", r"\x07", r"\r", r"\x9b", r"\u202e", r"\u2066", r"\u200b", r"\t", r"\x00"):
        assert shown.count(escaped) == 2, escaped


def test_control_characters_of_a_label_never_reach_the_terminal(folder, capsys):
    """prepare.py refuses such labels; a folder that somebody else made may hold them."""
    path = folder / "meta.json"
    meta = json.loads(path.read_text())
    path.write_text(json.dumps(meta | {"labels": ["O", f"CI{HOSTILE}TY", *meta["labels"][2:]]}))
    capsys.readouterr()
    with contextlib.suppress(UserError):
        check(folder, "--sample")
    captured = capsys.readouterr()
    assert not dangerous(captured.out + captured.err)


@contextlib.contextmanager
def terminal():
    """Standard output is a terminal meanwhile; yields a function that gives what arrived there, to be called after."""
    master, slave = os.openpty()
    arrived: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # the terminal is closed
            while chunk := os.read(master, 4096):
                arrived.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    with open(slave, "w", encoding="utf-8") as screen, contextlib.redirect_stdout(screen):  # noqa: PTH123
        yield lambda: (reader.join(10), os.close(master), b"".join(arrived).decode().replace("\r\n", "\n"))[-1]


def on_terminal(folder: Path, *flags: str) -> str:
    with terminal() as screen:
        check(folder, *flags)
    return screen()


COLOUR = re.compile(r"\x1b\[\d+m")


def test_colours_are_for_terminals_only_and_never_with_no_color(sound, capsys, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    capsys.readouterr()
    check(sound, "--index", "0", "2")
    plain = capsys.readouterr().out
    assert "\x1b" not in plain
    coloured = on_terminal(sound, "--index", "0", "2")
    assert COLOUR.search(coloured) and COLOUR.sub("", coloured) == plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert on_terminal(sound, "--index", "0", "2") == plain


def test_a_text_cannot_colour_the_terminal(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    rows = [{"unmasked_text": "a \x1b[7m b", "span_labels": []}]
    shown = on_terminal(prepare_to(tmp_path, rows, "--validation-fraction", "0"), "--index", "0")
    assert "\x1b[7m" not in shown and COLOUR.search(shown)


def test_every_colour_is_switched_off_before_the_line_ends(sound, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    codes = COLOUR.findall(on_terminal(sound, "--sample", "6"))
    assert codes[1::2] == ["\x1b[0m"] * (len(codes) // 2) and "\x1b[0m" not in codes[::2]


def test_statistics_and_tables_fit_80_columns(tmp_path, capsys):
    rows = [row_of(*sentence) for sentence in SENTENCES]
    rows += [{**row_of("I am {CITY}", ["Rome"]), "language": f"l{i}"} for i in range(20)]
    rows.append({"unmasked_text": "write to " + "a.b@c.org," * 40, "span_labels": []})
    rows[-1]["span_labels"] = [[9 + 10 * i, 17 + 10 * i, "EMAIL"] for i in range(40)]  # one short each
    folder = prepare_to(tmp_path, rows, "--validation-fraction", "0.3")
    meta = json.loads((folder / "meta.json").read_text())
    meta["statistics"]["rejected_rows"] = {f"a reason of some {i} words": i for i in range(9)}
    (folder / "meta.json").write_text(json.dumps(meta))
    capsys.readouterr()
    check(folder)
    lines = capsys.readouterr().out.splitlines()[1:]  # the first line names the folder
    assert max(map(len, lines)) <= 80
    [index] = [i for i, line in enumerate(lines) if line.strip().startswith("rejected rows")]
    assert lines[index + 1].startswith(" " * 31) and lines[index + 1][31] != " "


def test_what_the_tags_of_a_row_lose_is_said_in_80_columns(tmp_path, capsys):
    text = "write to " + "a.b@c.org," * 40
    spans = [[9 + 10 * i, 17 + 10 * i, "EMAIL"] for i in range(40)]
    folder = prepare_to(tmp_path, [{"unmasked_text": text, "span_labels": spans}], "--validation-fraction", "0")
    [(_, shown)] = shown_rows(folder, capsys, "--index", "0")
    _, *lost = shown.splitlines()
    assert lost[0].startswith("the tags do not give back") and max(map(len, lost)) <= 80
    example = PIITokenDataset(folder, "train").example(0)
    wanted = sorted(set(example["spans"]) - spans_from_tags(example, True))
    assert [tuple(map(int, pair)) for pair in re.findall(r"(\d+):(\d+) EMAIL", " ".join(lost))] == [
        (start, end) for start, end, _ in wanted
    ]


# The page


def page_of(folder: Path, *flags: str) -> tuple[str, dict]:
    """The page that the check writes, and the data inside it."""
    path = folder.parent / "page.html"
    check(folder, "--html", str(path), *flags)
    page = path.read_text(encoding="utf-8")
    return page, json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])


@pytest.fixture
def elsewhere(sound: Path, tmp_path: Path) -> Path:
    """The sound folder again, where a page can be written beside it."""
    return Path(shutil.copytree(sound, tmp_path / "prepared"))


def without_markup(page: str) -> str:
    """The words of a page as they are read, without its data."""
    page = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.S)
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", page).split()))


def test_a_page_is_for_its_owner_only_and_said_in_one_line_without_any_row(elsewhere, capsys):
    capsys.readouterr()
    check(elsewhere, "--html", str(elsewhere.parent / "page.html"))
    out = capsys.readouterr().out
    [line] = [line for line in out.splitlines() if "page.html" in line]
    assert line == out.splitlines()[-1] and "text" in line
    assert CANARY not in out and "John" not in out
    assert (elsewhere.parent / "page.html").stat().st_mode & 0o777 == 0o600
    check(elsewhere, "--html", str(elsewhere.parent / "page.html"), "--index", "0")
    assert "row 0" in capsys.readouterr().out  # what was asked for is shown in both places


def test_a_page_tells_every_figure_that_the_terminal_prints(elsewhere, capsys):
    capsys.readouterr()
    page, _ = page_of(elsewhere)
    words = without_markup(page)
    for line in capsys.readouterr().out.split("\n\n")[0].splitlines()[1:]:
        assert " ".join(line.split()) in words
    assert "rows.jsonl 6" in words  # the source


def test_a_page_holds_each_row_whole_with_its_spans_and_tokens(elsewhere):
    _, data = page_of(elsewhere)
    dataset = PIITokenDataset(elsewhere, "train")
    assert [row["row"] for row in data["rows"]] == list(range(len(SENTENCES)))
    for row in data["rows"]:
        example, place, spans = dataset.example(row["row"]), 0, []
        borders = {place for place, _ in example["char_spans"]}
        for label, *tokens in row["pieces"]:
            if label:
                spans.append((place, place + len("".join(tokens)), data["labels"][label]))
            for i, token in enumerate(tokens):
                assert not i or place in borders
                place += len(token)
        assert "".join(token for _, *tokens in row["pieces"] for token in tokens) == example["text"]
        assert spans == example["spans"]
        assert (row["language"], row["tokens"]) == (example["language"], len(example["tokens"]))


def test_a_page_shows_the_rows_that_the_user_chooses(elsewhere, capsys):
    def rows(*flags: str) -> list[int]:
        return [row["row"] for row in page_of(elsewhere, *flags)[1]["rows"]]

    with_city = [i for i, (template, _) in enumerate(SENTENCES) if "{CITY}" in template]
    assert rows("--index", "2", "0") == [2, 0]
    assert rows("--label", "CITY") == with_city
    assert len(set(rows("--sample", "3"))) == 3 and len(rows("--sample")) == 5
    assert set(rows("--label", "CITY", "--sample", "2")) < set(with_city)
    sample = [number for number, _ in shown_rows(elsewhere, capsys, "--sample", "3")]
    assert rows("--sample", "3") == sample  # as in the terminal
    assert rows("--split", "validation") == []


def test_a_page_says_how_many_rows_of_how_many_it_shows(elsewhere, monkeypatch):
    monkeypatch.setattr(check_dataset, "PAGE_ROWS", 2)
    page, data = page_of(elsewhere)
    assert [row["row"] for row in data["rows"]] == [0, 1]
    assert "2 of 6 rows are on this page" in without_markup(page)


def test_a_page_names_the_rows_whose_tags_lose_a_span(tmp_path):
    short = {"unmasked_text": "write to john@example.com", "span_labels": [[9, 24, "EMAIL"]]}
    rows = [row_of(*SENTENCES[0]), short, row_of(*SENTENCES[2]), short | {"unmasked_text": "mail to: john@example.com"}]
    folder = prepare_to(tmp_path / "data", rows, "--validation-fraction", "0")
    _, data = page_of(folder)
    email = data["labels"].index("EMAIL")
    assert [row["lost"] for row in data["rows"]] == [[], [[9, 24, email]], [], [[9, 24, email]]]
    page, data = page_of(folder, "--index", "0", "1")
    assert "The tags of 2 of the 4 rows" in without_markup(page)
    assert "1 of them are not on this page: --index 3 ." in without_markup(page)


def test_a_page_counts_rejected_rows_by_reason_and_shows_none(tmp_path):
    rows = [row_of(*sentence) for sentence in SENTENCES]
    bad = [{"unmasked_text": f"{CANARY}{i} b", "span_labels": [[0, 99, "CITY"]]} for i in range(3)]
    folder = prepare_to(tmp_path / "data", [*rows, *bad, {"unmasked_text": 7}], "--max-rejected", "1")
    reasons = prepare_reasons(folder)
    assert sorted(reasons.values()) == [1, 3]
    page, _ = page_of(folder, "--index", "0")
    words = without_markup(page)
    assert "4 rows could not be right" in words and CANARY + "0" not in page
    for reason, count in reasons.items():
        assert f"{reason} {count}" in words
    with (folder / "rejected.jsonl").open("a") as file:
        file.write('{"broken"\n[]\n\n')
    assert "rejected.jsonl that cannot be read) 3" in without_markup(page_of(folder)[0])
    (folder / "rejected.jsonl").unlink()
    assert "Not known" in without_markup(page_of(folder)[0])


def prepare_reasons(folder: Path) -> dict[str, int]:
    return json.loads((folder / "meta.json").read_text())["statistics"]["rejected_rows"]


def test_the_charts_of_a_page_show_the_numbers_of_the_data(tmp_path):
    rows = [row_of(*sentence) for sentence in SENTENCES] * 2
    folder = prepare_to(tmp_path / "data", rows, "--validation-fraction", "0.4")
    page, _ = page_of(folder, "--max-length", "10")
    *labels, tokens, pii = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.S)]
    lengths = {"tokens": [], "pii": []}
    spans = {}
    for split in ("train", "validation"):
        data = PIITokenDataset(folder, split)
        for i in range(len(data)):
            example = data.example(i)
            lengths["tokens"].append(len(example["tokens"]))
            lengths["pii"].append(sum(label != "O" for label in example["labels"]))
            for _, _, label in example["spans"]:
                spans.setdefault(label, {}).setdefault(split, 0)
                spans[label][split] += 1
    for chart, name in ((tokens, "tokens"), (pii, "pii")):
        bars = [re.fullmatch(r"(\d+) to (\d+): (\d+)", title.text) for title in chart.iter("title")]
        counts = [int(bar[3]) for bar in bars]
        assert sum(counts) == len(rows)
        beyond = [int(bar[3]) for bar in bars if int(bar[1]) >= 10]
        assert sum(beyond) == sum(length > 10 for length in lengths[name])
    longer = [length for length in lengths["tokens"] if length > 10]
    words = without_markup(page)
    assert f"{len(longer)} of {len(rows)} rows are longer than 10 tokens" in words
    assert f"with {sum(length - 10 for length in longer)} of {sum(lengths['tokens'])} tokens" in words
    written = [text.text for chart in labels for text in chart.iter("text")]
    for label, counts in spans.items():
        place = written.index(label)
        assert written[place + 1 : place + 3] == [str(counts.get(split, 0)) for split in ("train", "validation")]


@pytest.mark.parametrize("max_length", [1, 7, 96, 97, 10**6])
@pytest.mark.parametrize("longest", [0, 1, 50, 5000])
def test_bars_of_lengths_are_of_one_width_and_none_straddles_the_maximum(max_length, longest):
    lengths = np.append(np.arange(200) % 40, longest)
    edges, reach = data_page.length_edges(lengths, max_length)
    widths = np.diff(edges)
    assert 0 < widths[0] <= widths[1:].max(initial=widths[0]) and len(set(widths[1:].tolist())) <= 1
    assert max_length in edges or max_length > edges[-1]
    assert len(edges) <= 2 * data_page.BARS + 2
    assert (longest > edges[-1]) == bool(reach) and reach in (0, edges[-2])


@pytest.mark.parametrize("sources", [None, "none", [1, None], [{"file": "<b>x</b>"}]])
def test_sources_of_a_foreign_meta_json_do_no_harm_to_a_page(elsewhere, sources):
    path = elsewhere / "meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sources": sources}))
    assert "<b>" not in page_of(elsewhere)[0]


def test_data_without_spans_and_an_empty_split_have_a_page(tmp_path):
    rows = [{"unmasked_text": "no spans at all", "span_labels": []}]
    for share in ("0", "1"):
        page, _ = page_of(prepare_to(tmp_path / share, rows, "--validation-fraction", share))
        assert "No row has a span." in without_markup(page)


def test_broken_data_gets_no_page(folder):
    rewrite(folder, "label_ids", put(token_of(folder, 2, " in"), 60))
    with pytest.raises(UserError):
        check(folder, "--html", str(folder.parent / "page.html"))
    assert not (folder.parent / "page.html").exists()


# What is sound and yet most likely wrong


def doubts(folder: Path, capsys: pytest.CaptureFixture) -> list[str]:
    """What a check says of rows that one may doubt, a line each."""
    capsys.readouterr()
    check(folder)
    out = re.sub(r"\n  (?=\S)", " ", capsys.readouterr().out)
    assert CANARY not in out
    return [line for line in out.splitlines() if " rows with " in line]


def test_rows_with_spans_that_cut_a_word_are_named_without_their_text(tmp_path, capsys):
    rows = [row_of("Born {DOB}80 " + CANARY, ["12.03.19"]), row_of("Ask {NAME}", ["Ann"]), row_of("{N}el", ["Ann"])]
    rows += [row_of("{A}{B}", ["46117", "Main"])]
    folder = prepare_to(tmp_path, rows, "--validation-fraction", "0")
    assert doubts(folder, capsys) == ["train rows with a span that cuts a word or a number: 0, 2"]
    many = [row_of("Word" + "x" * i + "{N}el", ["Ann"]) for i in range(130)]
    [line] = doubts(prepare_to(tmp_path / "many", many, "--validation-fraction", "0"), capsys)
    assert line.endswith("98, 99 and 30 more")


def test_sound_rows_leave_no_doubt(sound, capsys):
    assert doubts(sound, capsys) == []


def test_rows_that_contradict_one_another_are_named(tmp_path, capsys):
    rows = [row_of("Call {NAME} " + CANARY, ["Ann"]), row_of("Call Ann " + CANARY, []), row_of("see {NAME}", ["Bob"])]
    folder = prepare_to(tmp_path, rows, "--validation-fraction", "0")
    assert doubts(folder, capsys) == ["train rows with a text that has other spans in another row: 0, 1"]


def test_texts_on_both_sides_of_the_split_are_counted_and_named(tmp_path, capsys):
    """As data prepared before had them: two halves, each prepared alone, put together."""
    halves = [
        prepare_to(tmp_path / "a", [row_of("Ann met {NAME}", ["Bob"]), row_of("so did {NAME}", ["Eve"])]),
        prepare_to(
            tmp_path / "b", [row_of("{NAME} met Bob", ["Ann"]), row_of("no one", [])], "--validation-fraction", "1"
        ),
    ]
    shutil.rmtree(halves[0] / "validation")
    shutil.copytree(halves[1] / "validation", halves[0] / "validation")
    found = doubts(halves[0], capsys)
    assert "train rows with a text that is on both sides of the split: 0" in found
    assert "validation rows with a text that is on both sides of the split: 0" in found
    assert "validation rows with a text that has other spans in another row: 0" in found
    check(halves[0])
    assert re.search(r"texts +2 train, 2 validation, 1 in both", capsys.readouterr().out)
