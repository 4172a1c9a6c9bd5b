"""The command: damage is one line, rows and pages are shown only on demand and harmlessly."""

import contextlib
import json
import os
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

import check_dataset
from dataset import PIITokenDataset
from pii.common import UserError, run
from pii.corpus import tekken
from tests.corpus.test_invariants import (
    CANARY,
    SENTENCES,
    add,
    check,
    findings,
    prepare_to,
    put,
    rewrite,
    row_of,
    token_of,
)
from tests.corpus.test_roundtrip import spans_from_tags
from tests.pages.test_data_page import page_of, without_markup


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A copy of the sound folder, to be broken."""
    return Path(shutil.copytree(sound, tmp_path / "prepared"))


# Sound data


def test_a_sound_folder_passes(sound, capsys):
    assert check(sound) is None
    assert "BROKEN" not in capsys.readouterr().out


def test_data_with_an_empty_split_and_no_spans_passes(tmp_path, capsys):
    rows = [{"unmasked_text": "no spans at all", "span_labels": []}]
    for share in ("0", "1"):
        check(prepare_to(tmp_path / share, rows, "--validation-fraction", share))
    assert "BROKEN" not in capsys.readouterr().out


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


# The page (test_data_page.py has what it holds)


@pytest.fixture
def elsewhere(sound: Path, tmp_path: Path) -> Path:
    """The sound folder again, where a page can be written beside it."""
    return Path(shutil.copytree(sound, tmp_path / "prepared"))


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


def test_doubts_of_every_kind_are_counted_and_named_without_text(tmp_path, capsys):
    rows = [
        row_of("see ({NAME} " + CANARY, ["Ann)"]),
        row_of("at {PLACE} now", ["12 Main St\r\nBath"]),
        row_of("ask {NAME}r today 🙂", ["Zoé Mille"]),
        row_of("we met {NAME} there", ["Bob Brown"]),
        row_of("then Bob Brown left", []),
        row_of("for {ORG} only", ["Acme Ltd"]),
        row_of("to {PLACE} at once", ["Acme Ltd"]),
    ]
    folder = prepare_to(tmp_path, rows, "--validation-fraction", "0")
    assert [line for line in doubts(folder, capsys)] == ["train rows with a span that cuts a word or a number: 2"]
    check(folder, "--doubts")
    out = re.sub(r"\n  (?=\S)", " ", capsys.readouterr().out)
    assert CANARY not in out
    assert [line.removeprefix("train rows with a ") for line in out.splitlines() if " rows with " in line] == [
        "span that cuts a word or a number (1 in 1 rows): 2",
        "span that ends one character too early (1 in 1 rows): 2",
        "span that takes in white space, a bracket or a quote (1 in 1 rows): 0",
        "span that crosses a line break (1 in 1 rows): 1",
        "value without a span that has one elsewhere (1 in 1 rows): 4",
        "value that has another label elsewhere (2 in 2 rows): 5, 6",
    ]
    check(folder, "--doubts", "--sample", "100")
    assert sorted(re.findall(r"^row (\d+)", capsys.readouterr().out, re.M)) == ["0", "1", "2", "4", "5", "6"]


def test_data_without_a_doubt_says_so(sound, capsys):
    check(sound, "--doubts")
    assert "no row is in doubt" in capsys.readouterr().out
