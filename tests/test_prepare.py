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
import unicodedata
from pathlib import Path

import huggingface_hub
import pytest

import prepare
from dataset import PIITokenDataset
from pii import common, outputs
from pii.common import UserError
from pii.corpus import staging, tekken
from tests.corpus.formats.test_label_studio import line_of_csv, table
from tests.corpus.formats.test_webanno import document
from tests.corpus.test_staging import (
    CANARY,
    NAMES,
    SENTENCES,
    bad_rows,
    examples_in,
    files_in,
    filled,
    meta_in,
    row,
    rows_of,
    texts_in,
)
from tests.corpus.test_statistics import COUNTED

ROOT = Path(__file__).parent.parent


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
    with pytest.raises(OSError), outputs.atomic_folder(tmp_path / "data", "meta.json") as new:
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


# What is most likely wrong


def test_spans_that_cut_a_word_or_a_number_are_counted_and_said(prepare_rows, capsys):
    rows = [row("Born 12.03.1980", (5, 14, "DOB")), row("46117Main St", (0, 5, "NR"), (5, 12, "STREET"))]
    folder = prepare_rows([*rows, row("Ask Annabel", (4, 7, "NAME"), (7, 11, "NAME"))], "--validation-fraction", "0")
    assert meta_in(folder)["statistics"]["spans_that_cut_a_word"] == 1
    assert re.search(r"spans that cut a word +1\n", out := capsys.readouterr().out) and "most likely wrong" in out
    prepare_rows(rows[1:], "--validation-fraction", "0")
    assert "most likely wrong" not in capsys.readouterr().out


def test_rows_whose_offsets_count_utf_16_units_are_refused_with_the_reason(prepare_rows, write_rows, tmp_path, capsys):
    mask = [{"value": "Ann", "start": 3, "end": 6, "label": "NAME"}]
    rows = [{"source_text": "🙂 Ann called.", "privacy_mask": mask}, row("Call Ann.", (5, 8, "NAME"))]
    folder = prepare_rows(rows, "--max-rejected", "0.5")
    assert "1 offsets that count UTF-16 units" in re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "UTF-16" in (folder / "rejected.jsonl").read_text(encoding="utf-8")
    code, errors = refused(capsys, "--input", write_rows(rows), "--output", tmp_path / "none")
    assert code == 1 and "UTF-16 units" in errors and "convert them" in errors
    assert_one_line(errors)


def test_labels_of_a_label_map_that_no_span_has_are_named(prepare_rows, tmp_path, capsys):
    rows = [row("Ask Ann", (4, 7, "FIRSTNAME_1")), row("see Bob", (4, 7, "NAME"))]
    given = {"FIRSTNAME": "NAME", "FRSTNAME": None, "FIRSTNAME_1": "X", "O": "Y", "\x1b[2J": "Z"}
    (tmp_path / "map.json").write_text(json.dumps(given))
    prepare_rows(rows, "--label-map", str(tmp_path / "map.json"))
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert line.endswith(r"no span of the input has: '\x1b[2J', FIRSTNAME_1, FRSTNAME, O")
    (tmp_path / "map.json").write_text(json.dumps({f"L{i}": "X" for i in range(100, 130)}))
    prepare_rows(rows, "--label-map", str(tmp_path / "map.json"))
    assert "L108, L109 and 20 more" in capsys.readouterr().err
    (tmp_path / "map.json").write_text('{"FIRSTNAME": "NAME"}')
    prepare_rows(rows, "--label-map", str(tmp_path / "map.json"))
    assert "warning" not in capsys.readouterr().err


def other_forms(text: str) -> list[str]:
    """The text, and the same with white space or accents written otherwise."""
    return [text, f" {text}\n", text.replace(" ", "\u00a0"), unicodedata.normalize("NFD", text)]


@pytest.mark.parametrize("form", range(4))
def test_one_text_stands_on_one_side_of_the_split_whatever_its_spans_are(prepare_rows, write_rows, tmp_path, form):
    texts = [f"Call Zoé {chr(97 + i)} {chr(110 + i % 3)}" for i in range(20)]
    first = [row(text, (5, 8, "NAME"), language="en") for text in texts]
    second = [row(other_forms(text)[form], language="fr") for text in texts]
    inputs = [str(write_rows(rows, f"{name}.jsonl")) for name, rows in (("a", first), ("b", second))]
    for seed in range(3):
        out = tmp_path / str(seed)
        flags = ["--input", *inputs, "--output", str(out), "--validation-fraction", "0.5", "--seed", str(seed)]
        prepare.main(flags)
        sides = [
            {unicodedata.normalize("NFC", "".join(text.split())) for text in texts_in(out, split)}
            for split in ("train", "validation")
        ]
        assert not sides[0] & sides[1] and all(len(side) == 10 for side in sides)
        assert meta_in(out)["statistics"]["contradicting_rows"] == 40


def test_the_same_text_with_the_same_spans_is_no_contradiction(prepare_rows, monkeypatch):
    rows = [filled(sentence, name) for sentence in SENTENCES for name in NAMES[:2]] * 3
    rows += [row("twice 06 12", (6, 11, "PHONE")), row("twice 06 12", (6, 8, "PHONE")), row("twice  06 12")]
    rows += [row("Once Ann", (5, 8, "NAME")), row(" once  ANN", (7, 10, "NAME"))]
    monkeypatch.setattr(staging, "ROWS_A_CHUNK", 2)
    assert meta_in(prepare_rows(rows))["statistics"]["contradicting_rows"] == 3


def test_without_contradictions_the_split_is_the_one_that_it_has_always_been(prepare_rows):
    folder = prepare_rows(rows_of(SENTENCES), "--validation-fraction", "0.4", "--seed", "7")
    digest = hashlib.sha256("\n".join(texts_in(folder, "validation")).encode()).hexdigest()
    assert digest == "7197e7df504d1c14e3e2445b90cfbe8936634926bdf16edb34708da0b698c08b"


def test_rows_of_another_encoding_are_refused_with_the_command_that_converts_them(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        "".join(json.dumps(row(f"{CANARY} é {i}"), ensure_ascii=False) + "\n" for i in range(9)).encode("cp1252")
    )
    code, errors = refused(capsys, "--input", path, "--output", tmp_path / "out")
    assert code == 1 and "9 not UTF-8" in errors
    assert f"iconv -f cp1252 -t utf-8 {path} > {tmp_path}/rows.utf8.jsonl" in errors
    assert_one_line(errors)


def test_spans_that_cut_a_word_are_widened_on_request_and_counted(prepare_rows, capsys):
    rows = [
        row("🙂 Zoe\u0301lie Lefèvre,\r\nborn 12.03.1980", (2, 4, "FIRST"), (9, 14, "LAST"), (24, 32, "DOB")),
        row("Ask Annabel", (4, 7, "NAME"), (7, 11, "LAST")),  # they touch: a border that is meant
        row("It is 46117Main, Ann's", (6, 11, "NR"), (17, 20, "NAME")),
        row("🙂 Ask Annabel and Bob", (6, 9, "NAME"), (18, 21, "NAME")),
    ]
    folder = prepare_rows(rows, "--snap-words", "--validation-fraction", "0")
    data = PIITokenDataset(folder / "train")
    examples = [data.example(i) for i in range(len(data))]
    values = [[(example["text"][start:end], label) for start, end, label in example["spans"]] for example in examples]
    assert values == [
        [("Zoe\u0301lie", "FIRST"), ("Lefèvre", "LAST"), ("12.03.1980", "DOB")],
        [("Ann", "NAME"), ("abel", "LAST")],
        [("46117", "NR"), ("Ann", "NAME")],
        [("Annabel", "NAME"), ("Bob", "NAME")],
    ]
    statistics = meta_in(folder)["statistics"]
    assert (statistics["spans_widened_to_words"], statistics["spans_that_cut_a_word"]) == (4, 0)
    assert re.search(r"spans widened to words +4\n", capsys.readouterr().out)
    assert "spans_widened_to_words" not in meta_in(prepare_rows(rows, output="as-they-are"))["statistics"]


def test_a_border_at_a_mark_is_not_widened(prepare_rows):
    """12.03 of 12.03.1980 may be half a date or a whole one and a year."""
    folder = prepare_rows([row("Born 12.03.1980", (5, 10, "DOB"))], "--snap-words", "--validation-fraction", "0")
    statistics = meta_in(folder)["statistics"]
    assert (statistics["spans_widened_to_words"], statistics["spans_that_cut_a_word"]) == (0, 1)


# The forms of others


def test_every_kind_of_input_is_prepared_alike(write_rows, tmp_path):
    """One row in every kind of file, and all of them in a folder."""
    text, (start, end) = "Zoé 🙂 met Ann", (10, 13)
    spans = [[start, end, "NAME"]]
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_text(json.dumps({"text": text, "label": spans}))
    (folder / "b.json").write_text(json.dumps([{"data": {"text": text}, "annotations": [{"result": [
        {"value": {"start": start, "end": end, "text": "Ann", "labels": ["NAME"]}}
    ]}]}]))  # fmt: skip
    (folder / "c.csv").write_text(f"text,start,end,label\r\n{text},{start},{end},NAME\r\n", encoding="utf-16")
    (folder / "d.conll").write_text(f"# text = {text}\nZoé O\n🙂 O\nmet O\nAnn B-NAME\n")
    (folder / "e.txt").write_text(text)
    (folder / "e.ann").write_text(f"T1\tNAME {start} {end}\tAnn\n")
    (folder / "f.tsv").write_text(document(text, [(start, end, "NAME")]))
    marks = json.dumps([{"start": start, "end": end, "text": "Ann", "labels": ["NAME"]}])
    (folder / "g.csv").write_text(table(line_of_csv(text=text, label=marks)))
    prepare.main(["--input", str(folder), "--output", str(tmp_path / "out"), "--validation-fraction", "0"])
    examples = examples_in(tmp_path / "out", "train")
    assert [example["text"] for example in examples] == [text] * 7
    assert all([(start, end, "NAME")] == [tuple(span) for span in example["spans"]] for example in examples)
    assert [s["rows"] for s in meta_in(tmp_path / "out")["sources"]] == [1] * 7


def test_a_refused_document_of_brat_is_named(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name, ann in (("a", "T1\tNAME 0 3\tAnn\n"), ("b", "T1\tNAME 0 1;2 3\tA n\n")):
        (tmp_path / "in" / f"{name}.txt").write_text("Ann")
        (tmp_path / "in" / f"{name}.ann").write_text(ann)
    code, errors = refused(capsys, "--input", tmp_path / "in", "--output", tmp_path / "out")
    assert code == 1 and "in/b.ann: a discontinuous span" in errors
    assert_one_line(errors)


def test_rows_that_annotators_left_out_are_kept_and_are_no_mistakes(prepare_rows, write_rows, tmp_path, capsys):
    rows = [{"text": "Ann", "spans": [], "answer": answer} for answer in ("accept", "reject", "ignore")]
    folder = prepare_rows(rows)
    reason = "a Prodigy answer other than accept"
    assert meta_in(folder)["statistics"]["rejected_rows"] == {reason: 2}
    kept = [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]
    assert [(record["line"], record["reason"]) for record in kept] == [(2, reason), (3, reason)]
    code, errors = refused(capsys, "--input", write_rows(rows[1:]), "--output", tmp_path / "none")
    assert code == 2 and reason in errors
    assert_one_line(errors)


def test_tags_that_are_numbers_need_their_names(prepare_rows, write_rows, tmp_path, capsys):
    rows = [{"tokens": ["Zoé", "Lee"], "ner_tags": [1, 2]}]
    code, errors = refused(capsys, "--input", write_rows(rows), "--output", tmp_path / "out")
    assert code == 1 and "--tag-names" in errors
    (tmp_path / "names.txt").write_text("O\nB-NAME\nI-NAME\n")
    folder = prepare_rows(rows, "--tag-names", str(tmp_path / "names.txt"), "--validation-fraction", "0")
    assert examples_in(folder, "train")[0]["spans"] == [(0, 7, "NAME")]


def test_a_label_set_is_a_label_map(prepare_rows, capsys):
    folder = prepare_rows([row("Ann, Oslo", (0, 3, "FIRSTNAME"), (5, 9, "CITY"))], "--label-map", "conll")
    assert meta_in(folder)["labels"] == ["O", "LOC", "PER"] and "warning" not in capsys.readouterr().err


def test_labels_are_shown_and_nothing_is_written(write_rows, tmp_path, capsys):
    path = write_rows([row("Ann, Oslo", (0, 3, "FIRSTNAME"))])
    prepare.main(["--input", str(path), "--output", str(tmp_path / "out"), "--show-labels", "--label-map", "presidio"])
    printed = capsys.readouterr().out
    assert "FIRSTNAME" in printed and "Aaa" in printed and "→ PERSON" in printed and "Ann" not in printed
    assert not (tmp_path / "out").exists()


def test_too_many_labels_end_with_the_file_that_has_them(write_rows, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(staging, "MAX_LABELS", 3)
    path = write_rows([row("Ann", (0, 3, f"LABEL{i}X")) for i in range(4)])
    code, errors = refused(capsys, "--input", path, "--output", tmp_path / "out")
    assert code == 2 and f"{path}: 5 labels are more than 3" in errors
    assert_one_line(errors)
