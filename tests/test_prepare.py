"""Raw rows in, prepared data out: the same bytes for the same seed, nothing lost silently, old data never harmed."""

import contextlib
import gzip
import hashlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub
import pytest

import prepare
from dataset import PIITokenDataset
from pii import common
from pii.common import UserError
from pii.corpus import staging, tekken

ROOT = Path(__file__).parent.parent
CANARY = "xylophonecanary"
NAMES = ["Ann", "Zoé", "李雷", "Jean-Luc", "محمد"]
SENTENCES = [
    *(f"{word} {{}} called about the order." for word in ("Yesterday", "Today", "Tonight", "Maybe", "Once", "Twice")),
    *(f"{{}} habite à {city}." for city in ("Lyon", "Nice", "Metz", "Brest", "Dijon", "Tours")),
]


def row(text: str, *spans: tuple, **fields: object) -> dict:
    return {"unmasked_text": text, "span_labels": [list(span) for span in spans], **fields}


def filled(sentence: str, name: str, **fields: object) -> dict:
    start = sentence.index("{}")
    return row(sentence.format(name), (start, start + len(name), "NAME"), **fields)


def rows_of(sentences: list[str]) -> list[dict]:
    """Every name in every sentence."""
    return [filled(sentence, name) for name in NAMES for sentence in sentences]


def bad_rows(count: int) -> list[dict]:
    return [row(f"{CANARY} {i}", (0, 99, "NAME")) for i in range(count)]


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def examples_in(folder: Path, split: str) -> list[dict]:
    data = PIITokenDataset(folder, split)
    return [data.example(i) for i in range(len(data))]


def texts_in(folder: Path, split: str) -> list[str]:
    return [example["text"] for example in examples_in(folder, split)]


def meta_in(folder: Path) -> dict:
    return json.loads((folder / "meta.json").read_text(encoding="utf-8"))


def refused(capsys: pytest.CaptureFixture, *flags: object) -> tuple[int, str]:
    """The exit code and standard error of a run that cannot go on."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        common.run(lambda: prepare.main([str(flag) for flag in flags]))
    return left.value.code, capsys.readouterr().err


def assert_one_line(errors: str) -> None:
    assert len(errors.strip().splitlines()) == 1 and errors.endswith("\n") and "Traceback" not in errors, errors


def command(*flags: object, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, ROOT / "prepare.py", *map(str, flags)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


# What is written


def test_the_same_seed_and_inputs_give_the_same_bytes_in_another_process(prepare_rows, tmp_path):
    here = prepare_rows(rows_of(SENTENCES), "--validation-fraction", "0.3", "--seed", "5")
    flags = ["--input", tmp_path / "rows.jsonl", "--output", tmp_path / "there"]
    done = command(*flags, "--validation-fraction", "0.3", "--seed", "5", PYTHONHASHSEED="77")
    assert done.returncode == 0, done.stderr
    assert files_in(here) == files_in(tmp_path / "there")
    assert str(tmp_path / "there") in done.stdout


def test_another_seed_splits_otherwise(prepare_rows):
    sides = {
        tuple(texts_in(prepare_rows(rows_of(SENTENCES), "--validation-fraction", "0.5", "--seed", str(seed)), "train"))
        for seed in range(3)
    }
    assert len(sides) > 1


def test_rows_in_small_chunks_give_the_same_bytes(prepare_rows, monkeypatch):
    rows = rows_of(SENTENCES) + bad_rows(2)
    rows.insert(3, row("Bob 12", (0, 3, "AAA")))  # a label that sorts first, and one that comes late
    rows.append(row("Bob 12", (4, 6, "ZIP"), language="de"))
    at_once = files_in(prepare_rows(rows, "--max-rejected", "0.1"))
    monkeypatch.setattr(staging, "ROWS_A_CHUNK", 7)
    assert files_in(prepare_rows(rows, "--max-rejected", "0.1")) == at_once


def test_every_row_arrives_whole_and_in_order(prepare_rows):
    rows = rows_of(SENTENCES)
    folder = prepare_rows(rows, "--validation-fraction", "0.3")
    expected = {r["unmasked_text"]: [tuple(span) for span in r["span_labels"]] for r in rows}
    order = list(expected)
    found = {}
    for split in ("train", "validation"):
        examples = examples_in(folder, split)
        assert [e["text"] for e in examples] == sorted((e["text"] for e in examples), key=order.index)
        found |= {e["text"]: e["spans"] for e in examples}
    assert found == expected


def test_rows_of_one_skeleton_fall_on_one_side(prepare_rows):
    for seed in range(3):
        folder = prepare_rows(rows_of(SENTENCES), "--validation-fraction", "0.3", "--seed", str(seed))
        sides = {}
        for split in ("train", "validation"):
            for example in examples_in(folder, split):
                (start, end, _) = example["spans"][0]
                sides.setdefault(example["text"][:start] + "{}" + example["text"][end:], set()).add(split)
        assert set(sides) == set(SENTENCES) and all(len(side) == 1 for side in sides.values())
        assert {split for side in sides.values() for split in side} == {"train", "validation"}


@pytest.mark.parametrize(
    ("count", "share", "validation"),
    [
        (12, "0", 0),
        (12, "1", 12),
        (12, "0.25", 3),
        (12, "0.5", 6),
        (1, "0.1", 0),
        (1, "0", 0),
        (1, "1", 1),
        (2, "0.5", 1),
    ],
)
def test_the_share_is_met_where_every_sentence_is_another(prepare_rows, count, share, validation):
    folder = prepare_rows([filled(sentence, "Ann") for sentence in SENTENCES[:count]], "--validation-fraction", share)
    assert len(PIITokenDataset(folder, "validation")) == validation
    assert len(PIITokenDataset(folder, "train")) == count - validation
    statistics = meta_in(folder)["statistics"]
    assert (statistics["training_examples"], statistics["validation_examples"]) == (count - validation, validation)


def test_nothing_is_cut(prepare_rows):
    digits = "7" * 500
    folder = prepare_rows([row(digits, (490, 500, "PIN"))], "--validation-fraction", "0", "--max-length", "16")
    item = PIITokenDataset(folder)[0]
    assert len(item["input_ids"]) == 500 and item["labels"].tolist() == [0] * 490 + [1] * 10


def test_documented_example_is_prepared_as_documented(prepare_rows):
    text = "Hello John Smith, email: john@example.com"
    folder = prepare_rows([row(text, (6, 16, "PERSON"), (24, 40, "EMAIL"))], "--validation-fraction", "0")
    example = PIITokenDataset(folder).example(0)
    assert "|".join(example["tokens"]) == "Hello| John| Smith|,| email|:| j|ohn|@example|.com"
    assert example["labels"] == ["O", "PERSON", "PERSON", "O", "O", "O"] + ["EMAIL"] * 4


def test_labels_are_sorted_with_o_first(prepare_rows):
    labels = ["ZIP", "NAME_2", "b", "O", "AGE", "A_B", "É"]
    rows = [row(f"word{i} Bob", (6, 9, label)) for i, label in enumerate(labels)]
    folder = prepare_rows(rows, "--validation-fraction", "0.5")
    assert meta_in(folder)["labels"] == ["O", "AGE", "A_B", "NAME", "ZIP", "b", "É"]
    assert PIITokenDataset(folder).label_to_id["O"] == 0
    found = [e["spans"][0][2] for split in ("train", "validation") for e in examples_in(folder, split) if e["spans"]]
    assert sorted(found) == sorted(["ZIP", "NAME", "b", "AGE", "A_B", "É"])


def test_a_label_map_joins_label_sets_and_leaves_out_what_it_maps_to_null(prepare_rows, tmp_path):
    rows = [
        {"unmasked_text": "Ask Ann in Rome.", "span_labels": [[4, 7, "FIRSTNAME"], [11, 15, "CITY"]]},
        {"unmasked_text": "Ask Bob, no. 7.", "span_labels": [[4, 7, "PERSON"], [13, 14, "ID"]]},
    ]
    (tmp_path / "map.json").write_text('{"FIRSTNAME": "PERSON", "ID": null, "UNHEARD": "OF"}')
    folder = prepare_rows(rows, "--label-map", str(tmp_path / "map.json"), "--validation-fraction", "0")
    data = PIITokenDataset(folder)
    assert data.labels == ["O", "CITY", "PERSON"]
    assert [data.example(i)["spans"] for i in range(2)] == [[(4, 7, "PERSON"), (11, 15, "CITY")], [(4, 7, "PERSON")]]
    assert data.meta["label_map"] == {"FIRSTNAME": "PERSON", "ID": "O", "UNHEARD": "OF"}
    assert "label_map" not in PIITokenDataset(prepare_rows(rows, output="unmapped")).meta


def test_a_label_map_that_cannot_be_right_is_one_line_and_writes_nothing(write_rows, tmp_path):
    (tmp_path / "map.json").write_text('{"FIRSTNAME": 3}')
    flags = [
        "--input",
        str(write_rows([])),
        "--output",
        str(tmp_path / "out"),
        "--label-map",
        str(tmp_path / "map.json"),
    ]
    with pytest.raises(UserError, match=r"map\.json must hold"):
        prepare.main(flags)
    assert not (tmp_path / "out").exists()


def test_rows_without_any_span_are_data_of_one_label(prepare_rows):
    folder = prepare_rows([row("Nothing here."), row("Nor here!")], "--validation-fraction", "0")
    assert meta_in(folder)["labels"] == ["O"] and len(PIITokenDataset(folder)) == 2


def test_several_files_of_several_kinds_are_read_in_their_order(write_rows, tmp_path):
    first = write_rows([row("one Bob", (4, 7, "NAME"))], "english_a.jsonl")
    (tmp_path / "b-fr.jsonl.gz").write_bytes(gzip.compress(json.dumps(row("deux Bob", (5, 8, "NAME"))).encode()))
    (tmp_path / "c.json").write_text(json.dumps([row("three Bob", (6, 9, "NAME")), row("vier", language="de")]))
    inputs = [str(path) for path in (first, tmp_path / "b-fr.jsonl.gz", tmp_path / "c.json")]
    prepare.main(["--input", *inputs, "--output", str(tmp_path / "out"), "--validation-fraction", "0"])
    examples = examples_in(tmp_path / "out", "train")
    assert [e["text"] for e in examples] == ["one Bob", "deux Bob", "three Bob", "vier"]
    assert [e["language"] for e in examples] == ["en", "fr", "und", "de"]
    meta = meta_in(tmp_path / "out")
    assert [(source["file"], source["rows"]) for source in meta["sources"]] == list(zip(inputs, [1, 1, 2], strict=True))
    assert meta["statistics"]["rows_by_language"] == {"de": 1, "en": 1, "fr": 1, "und": 1}


# Figures

COUNTED = [
    row("Pakistan Rupee746,208.95", (0, 14, "CURRENCY"), (14, 24, "AMOUNT"), language="en"),
    row("MissMiss Ann", (0, 4, "PREFIX"), (4, 8, "PREFIX"), (9, 12, "NAME"), language="en"),
    row("Nothing in this sentence, which goes on for more than eight tokens.", language="en"),
    row("Code 1234567890 of 🙂 Ann", (5, 15, "PIN"), (19, 20, "NAME"), (21, 24, "NAME"), language="fr"),
    row("Jean Dupont, Lyon", (0, 11, "NAME"), (5, 11, "LAST"), (0, 4, "FIRST"), (13, 17, "CITY"), language="fr"),
    row("Hello", (0, 2, "NAME"), (2, 5, "CITY")),  # two spans in one token: one of them gets none
    row("Ann  Lee", (3, 5, "NAME"), (0, 8, "NAME")),
    row("Twice", (0, 5, "NAME"), (0, 5, "NAME")),
    "broken",
    row(CANARY, (0, 99, "NAME")),
    row(CANARY, (0, 98, "NAME")),
]


@pytest.mark.parametrize("max_length", [1, 8, 13, 96])
def test_figures_are_those_of_a_plain_count(prepare_rows, max_length):
    folder = prepare_rows(
        COUNTED, "--max-rejected", "0.5", "--validation-fraction", "0.4", "--max-length", str(max_length)
    )
    train, validation = examples_in(folder, "train"), examples_in(folder, "validation")
    examples = train + validation
    tokens, pii, beyond, rows_beyond, spans, spans_beyond, touching = 0, 0, 0, 0, 0, 0, 0
    for example in examples:
        tokens += len(example["tokens"])
        pii += sum(label != "O" for label in example["labels"])
        beyond += len(example["tokens"][max_length:])
        rows_beyond += len(example["tokens"]) > max_length
        for start, end, _ in example["spans"]:
            spans += 1
            spans_beyond += any(first < end and last > start for first, last in example["char_spans"][max_length:])
            touching += any(start == other_end for _, other_end, _ in example["spans"])
    assert meta_in(folder)["statistics"] == {
        "training_examples": len(train),
        "validation_examples": len(validation),
        "labels": len({span[2] for e in examples for span in e["spans"]}) + 1,
        "average_sequence_length": pytest.approx(tokens / len(examples), abs=0.005),
        "non_o_token_ratio": pytest.approx(pii / tokens, abs=0.00005),
        "tokens": tokens,
        "spans": spans,
        "max_length": max_length,
        "rows_beyond_max_length": rows_beyond,
        "tokens_beyond_max_length": beyond,
        "spans_beyond_max_length": spans_beyond,
        "touching_spans": touching,
        "overlapping_spans_dropped": 2,
        "blank_spans_dropped": 1,
        "spans_without_a_token": 1,
        "rejected_rows": {"offsets out of range": 2, "broken JSON": 1},
        "rows_by_language": {"en": 3, "fr": 2, "und": 3},
    }
    assert touching == 3 and len(examples) == 8


def test_meta_holds_what_the_design_lists(prepare_rows, tmp_path):
    meta = meta_in(prepare_rows(COUNTED, "--max-rejected", "0.5", "--seed", "9"))
    assert set(meta) == {"format_version", "labels", "tokenizer", "sources", "seed", "statistics"}
    assert meta["seed"] == 9 and meta["tokenizer"] == tekken.load().describe()
    sha256 = hashlib.sha256((tmp_path / "rows.jsonl").read_bytes()).hexdigest()
    assert meta["sources"] == [{"file": str(tmp_path / "rows.jsonl"), "sha256": sha256, "rows": len(COUNTED)}]


# Refused rows


def test_refused_rows_are_kept_with_file_line_and_reason_for_their_owner_only(prepare_rows, tmp_path):
    before = os.umask(0)
    try:
        folder = prepare_rows(["", *COUNTED, '{"unmasked_text": "\\ud83d"}'], "--max-rejected", "0.5")
    finally:
        os.umask(before)
    path = folder / "rejected.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [(record["file"], record["line"], record["reason"]) for record in records] == [
        (str(tmp_path / "rows.jsonl"), 10, "broken JSON"),
        (str(tmp_path / "rows.jsonl"), 11, "offsets out of range"),
        (str(tmp_path / "rows.jsonl"), 12, "offsets out of range"),
        (str(tmp_path / "rows.jsonl"), 13, "no known form"),
    ]


def test_without_refused_rows_the_list_of_them_is_empty(prepare_rows):
    assert (prepare_rows([row("Ann", (0, 3, "NAME"))]) / "rejected.jsonl").read_bytes() == b""


def test_too_many_refused_rows_end_with_code_1_and_write_nothing(write_rows, tmp_path, capsys):
    path = write_rows(rows_of(SENTENCES) + bad_rows(2))
    before = sorted(tmp_path.iterdir())
    code, errors = refused(capsys, "--input", path, "--output", tmp_path / "out")
    assert code == 1 and sorted(tmp_path.iterdir()) == before
    assert "2 of 62" in errors and "--max-rejected" in errors and CANARY not in errors
    assert_one_line(errors)


def test_too_many_refused_rows_leave_older_data_untouched(prepare_rows, write_rows, tmp_path, capsys):
    folder = prepare_rows(rows_of(SENTENCES))
    before, beside = files_in(folder), sorted(tmp_path.iterdir())
    write_rows(bad_rows(1) + rows_of(SENTENCES[:1]))
    code, _ = refused(capsys, "--input", tmp_path / "rows.jsonl", "--output", folder)
    assert code == 1 and files_in(folder) == before and sorted(tmp_path.iterdir()) == beside


@pytest.mark.parametrize(("bad", "share"), [(1, "0.01"), (7, "0.07"), (29, "0.29"), (57, "0.57"), (0, "0")])
def test_a_share_of_refused_rows_at_the_limit_is_not_above_it(prepare_rows, bad, share):
    rows = [row(f"Ann {i}", (0, 3, "NAME")) for i in range(100 - bad)] + bad_rows(bad)
    assert sum(meta_in(prepare_rows(rows, "--max-rejected", share))["statistics"]["rejected_rows"].values()) == bad


def test_input_of_nothing_but_refused_rows_is_no_data_at_any_limit(write_rows, tmp_path, capsys):
    code, _ = refused(capsys, "--input", write_rows(bad_rows(3)), "--output", tmp_path / "out", "--max-rejected", "1")
    assert code == 1 and not (tmp_path / "out").exists()


# Old data


def test_new_data_takes_the_whole_place_of_old(prepare_rows, tmp_path):
    fresh = files_in(prepare_rows(rows_of(SENTENCES[:3]), output="fresh"))
    folder = prepare_rows(rows_of(SENTENCES), output="old")
    (folder / "train" / "of_an_older_version.npy").write_bytes(b"")
    assert files_in(prepare_rows(rows_of(SENTENCES[:3]), output="old")) == fresh
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "old", "rows.jsonl"]


def test_old_data_survives_when_the_new_cannot_take_its_place(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "meta.json").write_text("old")
    with pytest.raises(OSError), common.atomic_folder(tmp_path / "data", "meta.json") as new:
        shutil.rmtree(new)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert (tmp_path / "data" / "meta.json").read_text() == "old"


def test_ctrl_c_leaves_the_old_data_as_it_was_and_nothing_beside(prepare_rows, write_rows, tmp_path):
    folder = prepare_rows(rows_of(SENTENCES))
    before, beside = files_in(folder), {path.name for path in tmp_path.iterdir()}
    many = write_rows([json.dumps(filled(SENTENCES[0], "Ann"))] * 150_000)
    process = subprocess.Popen(
        [sys.executable, ROOT / "prepare.py", "--input", many, "--output", folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background shell ignores it
    )
    try:
        assert wait_until(lambda: written_beside(tmp_path, beside) > 100_000 or process.poll() is not None)
        assert process.poll() is None, process.stderr.read()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to workers too
        _, errors = process.communicate(timeout=30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130 and "Traceback" not in errors, errors
    assert files_in(folder) == before and {path.name for path in tmp_path.iterdir()} == beside


def wait_until(condition, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def written_beside(folder: Path, known: set[str]) -> int:
    """Bytes in what is new in a folder; what vanishes meanwhile counts nothing."""
    total = 0
    for path in folder.iterdir():
        for file in path.rglob("*") if path.name not in known else ():
            with contextlib.suppress(FileNotFoundError):
                total += file.stat().st_size
    return total


# A user's mistakes


@pytest.mark.parametrize(
    "flags",
    [
        ["--validation-fraction", "2"],
        ["--validation-fraction", "-0.1"],
        ["--validation-fraction", "nan"],
        ["--validation-fraction", "half"],
        ["--max-rejected", "1.5"],
        ["--max-length", "0"],
        ["--max-length", "many"],
        ["--max-length", str(10**30)],
        ["--seed", "one"],
        ["--seed", "-1"],
        ["--unknown"],
        ["--input"],
        ["stray"],
    ],
    ids=" ".join,
)
def test_a_flag_that_cannot_be_right_is_one_line_and_code_2(write_rows, tmp_path, capsys, flags):
    path = write_rows(rows_of(SENTENCES[:2]))
    code, errors = refused(capsys, "--input", path, "--output", tmp_path / "out", *flags)
    assert code == 2 and not (tmp_path / "out").exists()
    assert_one_line(errors)


@pytest.mark.parametrize(
    "name", ["missing.jsonl", "folder", "empty.jsonl", "blank.jsonl", "cut.jsonl.gz", "not_a_list.json"]
)
def test_an_input_that_cannot_be_read_is_one_line_and_code_2(tmp_path, capsys, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.jsonl").write_bytes(b"")
    (tmp_path / "blank.jsonl").write_bytes(b"\n \r\n")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(json.dumps(COUNTED[0]).encode() * 99)[:-9])
    (tmp_path / "not_a_list.json").write_text("[1, 2")
    before = sorted(tmp_path.iterdir())
    code, errors = refused(capsys, "--input", tmp_path / name, "--output", tmp_path / "out")
    assert code == 2 and sorted(tmp_path.iterdir()) == before
    assert_one_line(errors)


def test_an_input_that_is_missing_is_found_before_the_others_are_read(write_rows, tmp_path, capsys):
    code, errors = refused(
        capsys, "--input", write_rows(rows_of(SENTENCES)), tmp_path / "missing.jsonl", "--output", tmp_path / "out"
    )
    assert code == 2 and "missing.jsonl" in errors and not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_a_mistake_and_the_file_stays(write_rows, tmp_path, capsys):
    path = write_rows(rows_of(SENTENCES[:2]))
    (tmp_path / "notes.txt").write_text("mine")
    code, errors = refused(capsys, "--input", path, "--output", tmp_path / "notes.txt")
    assert code == 2 and (tmp_path / "notes.txt").read_text() == "mine"
    assert_one_line(errors)


def test_an_output_below_a_file_is_a_mistake(write_rows, capsys):
    path = write_rows(rows_of(SENTENCES[:2]))
    code, errors = refused(capsys, "--input", path, "--output", path / "out")
    assert code == 2
    assert_one_line(errors)


def test_a_folder_that_holds_other_things_than_prepared_data_is_never_replaced(write_rows, tmp_path, capsys):
    (tmp_path / "project").mkdir()
    path = write_rows(rows_of(SENTENCES[:2]), "project/rows.jsonl")
    code, errors = refused(capsys, "--input", path, "--output", tmp_path / "project")
    assert code == 2 and [p.name for p in (tmp_path / "project").iterdir()] == ["rows.jsonl"]
    assert_one_line(errors)


def test_an_empty_folder_as_output_is_filled(prepare_rows, tmp_path):
    (tmp_path / "prepared").mkdir()
    assert len(PIITokenDataset(prepare_rows([row("Ann", (0, 3, "NAME"))], "--validation-fraction", "0"))) == 1


def test_a_file_whose_name_is_not_utf_8_is_read(prepare_rows):
    folder = prepare_rows([row("Ann", (0, 3, "NAME")), "broken"], "--max-rejected", "0.5", name="donn\udce9es.jsonl")
    assert meta_in(folder)["sources"][0]["rows"] == 2


def test_a_mistake_on_the_command_line_prints_one_line_and_no_traceback(tmp_path):
    done = command("--input", tmp_path / "missing.jsonl", "--output", tmp_path / "out")
    assert done.returncode == 2 and done.stdout == "" and "missing.jsonl" in done.stderr
    assert_one_line(done.stderr)


# The hub


def test_default_input_is_the_english_and_french_file_of_the_hub(write_rows, tmp_path, monkeypatch):
    tiles = "[[0, 6, 'O'], [6, 9, 'FIRSTNAME_1'], [9, 10, 'O']]"
    first_form = {
        "masked_text": "Hello [FIRSTNAME_1]!",
        "privacy_mask": "{'[FIRSTNAME_1]': 'Bob'}",
        "span_labels": tiles,
    }
    write_rows([{**first_form, "unmasked_text": "Hello Bob!"}], "english_pii_43k.jsonl")
    write_rows([{**first_form, "unmasked_text": "Salut Léo!"}], "french_pii_62k.jsonl")
    asked = []

    def download(repo_id: str, filename: str, **options: object) -> str:
        asked.append((repo_id, filename, options))
        return str(tmp_path / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    prepare.main(["--output", str(tmp_path / "out"), "--validation-fraction", "0"])
    examples = examples_in(tmp_path / "out", "train")
    assert [(e["language"], e["text"], e["spans"]) for e in examples] == [
        ("en", "Hello Bob!", [(6, 9, "FIRSTNAME")]),
        ("fr", "Salut Léo!", [(6, 9, "FIRSTNAME")]),
    ]
    assert {(repo, options["repo_type"]) for repo, _, options in asked} == {("ai4privacy/pii-masking-200k", "dataset")}
    assert all(re.fullmatch("[0-9a-f]{40}", options["revision"]) for *_, options in asked)
    names = [source["file"] for source in meta_in(tmp_path / "out")["sources"]]
    assert [name.rsplit("/", 1)[1] for name in names] == ["english_pii_43k.jsonl", "french_pii_62k.jsonl"]
    assert all("ai4privacy/pii-masking-200k" in name and str(tmp_path) not in name for name in names)


def test_offline_the_error_says_what_to_pass_instead(tmp_path):
    done = command("--output", tmp_path / "out", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "home"))
    assert done.returncode == 2 and "--input" in done.stderr and not (tmp_path / "out").exists()
    assert_one_line(done.stderr)


def test_rows_of_another_encoding_are_refused_with_the_command_that_converts_them(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        "".join(json.dumps(row(f"{CANARY} é {i}"), ensure_ascii=False) + "\n" for i in range(9)).encode("cp1252")
    )
    code, errors = refused(capsys, "--input", path, "--output", tmp_path / "out")
    assert code == 1 and "9 not UTF-8" in errors
    assert f"iconv -f cp1252 -t utf-8 {path} > {tmp_path}/rows.utf8.jsonl" in errors
    assert_one_line(errors)
