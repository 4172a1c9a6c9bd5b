"""Text in, redacted text out: promises of predict.py, kept with a tiny random backbone and a head that finds a lot."""

import csv
import gzip
import hashlib
import hmac
import io
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file, save_file

import predict
from pii import common
from pii.common import UserError
from predict import Redactor
from tests.redaction.test_redactor import CANARY, LABELS, TEXT, TEXTS, places, with_labels, write_run
from tests.training.test_runs import seal

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "predict.py"
KEY = b"a key of 16 bytes or more"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", predict.KEY_VARIABLE):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("predict"))


@pytest.fixture(scope="session")
def redactor(trained: Path) -> Redactor:
    return Redactor(trained, device="cpu")


@pytest.fixture
def build(trained: Path) -> Callable[..., Redactor]:
    return lambda **arguments: Redactor(trained, device="cpu", **arguments)


@pytest.fixture
def command(trained: Path) -> Callable[..., None]:
    return lambda *flags: predict.main(["--run", str(trained), "--device", "cpu", *map(str, flags)])


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def left_in(folder: Path) -> set[str]:
    """Names of what stands in a folder, hidden files included."""
    return {path.name for path in folder.iterdir()}


# The command: what goes in and comes out


def test_a_text_file_comes_out_redacted_to_the_byte(command, redactor, tmp_path, capsysbinary):
    command(write(tmp_path / "a.txt", TEXT))
    expected = with_labels(TEXT, redactor.spans(TEXT))
    assert capsysbinary.readouterr().out == expected.encode() != TEXT.encode()


def test_standard_input_is_read_where_no_file_is_named(command, redactor, monkeypatch, capsysbinary):
    for flags in ([], ["-"]):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(TEXT.encode())))
        command(*flags)
        assert capsysbinary.readouterr().out.decode() == with_labels(TEXT, redactor.spans(TEXT))


@pytest.mark.parametrize("text", ["", "\n", "\0\0 Ann\0", "\ufeffAnn\r\n"], ids=["empty", "a line", "NUL", "BOM"])
def test_odd_documents_come_out_as_any_other(command, redactor, tmp_path, capsysbinary, text):
    command(write(tmp_path / "a.txt", text))
    assert capsysbinary.readouterr().out.decode() == with_labels(text, redactor.spans(text))


@pytest.mark.parametrize("with_text", [False, True])
def test_spans_are_written_as_json_lines(command, redactor, tmp_path, capsysbinary, with_text):
    paths = [write(tmp_path / f"{i}.txt", text) for i, text in enumerate(TEXTS)]
    command(*paths, "--output-format", "spans", *["--with-text"] * with_text)
    lines = [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
    assert [line["source"] for line in lines] == [str(path) for path in paths]
    for text, line in zip(TEXTS, lines, strict=True):
        assert [(s["start"], s["end"], s["label"]) for s in line["spans"]] == places(redactor.spans(text))
        assert all(s.get("text") == (text[s["start"] : s["end"]] if with_text else None) for s in line["spans"])


def rows_of(texts: list[str]) -> list[dict]:
    return [{"id": i, "note": text, "tags": {"a": [1, None]}} for i, text in enumerate(texts)]


def json_lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def test_json_lines_keep_their_order_and_other_fields(command, redactor, tmp_path, capsysbinary):
    rows = rows_of(TEXTS * 3)
    path = write(tmp_path / "rows.jsonl", json_lines(rows))
    redacted = [{**row, "note": with_labels(row["note"], redactor.spans(row["note"]))} for row in rows]
    command(path, "--field", "note")
    assert [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()] == redacted
    command(path, "--field", "note", "--output-format", "jsonl")
    lines = [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
    assert [{key: line[key] for key in ("id", "note", "tags")} for line in lines] == rows
    assert [line["redacted"] for line in lines] == [row["note"] for row in redacted]
    found = [[(s["start"], s["end"], s["label"]) for s in line["spans"]] for line in lines]
    assert found == [places(redactor.spans(row["note"])) for row in rows]


def test_csv_keeps_its_order_and_other_columns(command, redactor, tmp_path, capsysbinary):
    table = [["id", "note", "more"], *([str(i), text, f'Ann "{i}"'] for i, text in enumerate(TEXTS))]
    file = io.StringIO(newline="")
    csv.writer(file).writerows(table)
    command(write(tmp_path / "rows.csv", file.getvalue()), "--column", "note")
    written = list(csv.reader(io.StringIO(capsysbinary.readouterr().out.decode(), newline="")))
    expected = [[i, with_labels(text, redactor.spans(text)), more] for i, text, more in table[1:]]
    assert written == [table[0], *expected]


def test_flags_choose_spans_as_the_class_does(command, build, tmp_path, capsysbinary):
    path = write(tmp_path / "a.txt", TEXT)
    label_map = write(tmp_path / "map.json", '{"CITY": "TOWN", "PIN": null}')
    command(path, "--label-map", label_map, "--exclude-labels", "EMAIL", "--min-score", "0.4")
    arguments = {"label_map": {"CITY": "TOWN", "PIN": "O"}, "exclude_labels": ["EMAIL"], "min_score": 0.4}
    assert capsysbinary.readouterr().out.decode() == build(**arguments).redact(TEXT)
    command(path, "--labels", "CITY", "FIRSTNAME")
    assert capsysbinary.readouterr().out.decode() == build(labels=["CITY", "FIRSTNAME"]).redact(TEXT)


def test_a_long_text_without_a_space_is_redacted(command, tmp_path):
    """2 MB, in pieces; a span covers the word that it cuts."""
    text = "international14" * 154_000
    assert len(text) > 2_000_000
    command(write(tmp_path / "a.txt", text), "--replace", "mask", "--output", tmp_path / "out")
    redacted = (tmp_path / "out").read_text()
    assert len(redacted) == len(text) and 0 < redacted.count("*") < len(text)
    assert {redacted[i : i + 13] for i in range(0, len(text), 15)} <= {"international", "*" * 13}
    assert all(new in ("*", old) for new, old in zip(redacted, text, strict=True))


# The command: how spans are replaced


def test_every_kind_of_replacement_changes_the_spans_alone(command, redactor, tmp_path, monkeypatch, capsysbinary):
    monkeypatch.setenv(predict.KEY_VARIABLE, KEY.decode())
    spans = redactor.spans(TEXT)
    numbers: dict[tuple[str, str], str] = {}

    def numbered(label: str, value: str) -> str:
        if (label, value) not in numbers:
            free = (f"[{label}_{i}]" for i in count(1))
            numbers[label, value] = next(p for p in free if p not in TEXT and p not in numbers.values())
        return numbers[label, value]

    expected_of = {
        "label": lambda label, value: f"[{label}]",
        "numbered": numbered,
        "mask": lambda label, value: "".join(c if c in "\r\n\u2028" else "*" for c in value),
        "hash": lambda label, value: f"[{label}_{hash_of(label, value)}]",
        "keep": lambda label, value: value,
        "remove": lambda label, value: "",
    }
    assert {*expected_of} | {"fake"} == {*predict.KINDS}
    path = write(tmp_path / "a.txt", TEXT)
    for kind, replacement in expected_of.items():
        expected, end = "", 0
        for span in spans:
            expected += TEXT[end : span.start] + replacement(span.label, TEXT[span.start : span.end])
            end = span.end
        command(path, "--replace", kind)
        assert capsysbinary.readouterr().out.decode() == expected + TEXT[end:]


def hash_of(label: str, value: str) -> str:
    return hmac.new(KEY, f"{label}\0{value}".encode(), hashlib.sha256).hexdigest()[:16]


def test_fakes_stand_in_the_place_of_the_values(command, redactor, tmp_path, capsysbinary):
    pytest.importorskip("faker", reason="Faker is not installed: fakes cannot be made")
    spans = redactor.spans(TEXT)
    command(write(tmp_path / "a.txt", TEXT), "--replace", "fake")
    rest = capsysbinary.readouterr().out.decode()
    ends = [0, *(span.end for span in spans)]
    starts = [*(span.start for span in spans), len(TEXT)]
    for number, (end, start) in enumerate(zip(ends, starts, strict=True)):
        between = TEXT[end:start]
        at = rest.find(between)
        assert at == 0 if number == 0 else at >= (len(between) > 0)
        rest = rest[at + len(between) :]
    assert rest == "" or spans[-1].end == len(TEXT)


def test_the_key_of_hashes_comes_from_a_file_or_the_environment(command, redactor, tmp_path, monkeypatch, capsysbinary):
    text = write(tmp_path / "a.txt", TEXT)
    span = redactor.spans(TEXT)[0]
    placeholder = f"[{span.label}_{hash_of(span.label, TEXT[span.start : span.end])}]"
    command(text, "--replace", "hash", "--hash-key-file", write(tmp_path / "key", KEY + b"\n"))
    of_file = capsysbinary.readouterr().out
    assert placeholder.encode() in of_file
    monkeypatch.setenv(predict.KEY_VARIABLE, KEY.decode())
    command(text, "--replace", "hash")
    assert capsysbinary.readouterr().out == of_file
    monkeypatch.setenv(predict.KEY_VARIABLE, "another key of 16 bytes or more")
    command(text, "--replace", "hash")
    assert capsysbinary.readouterr().out != of_file


def test_texts_of_several_files_in_one_output_get_no_vault_they_could_not_be_restored_with(
    command, documents, tmp_path, capfd
):
    flags = (*documents[:3], "--replace", "numbered", "--vault", tmp_path / "vault")
    line = refusal(capfd, command, *flags, "--output", tmp_path / "out")
    assert "--output-format jsonl" in line and not (tmp_path / "out").exists() and not (tmp_path / "vault").exists()
    command(*flags, "--output-format", "jsonl", "--output", tmp_path / "out")  # as the line says
    restored = ("--restore", tmp_path / "vault", "--field", "redacted", "--output", tmp_path / "restored")
    command(tmp_path / "out", *restored)
    lines = (tmp_path / "restored").read_bytes().splitlines()
    assert [json.loads(line)["redacted"] for line in lines] == TEXTS[:3]
    capfd.readouterr()
    (tmp_path / "vault").unlink()
    command(documents[0], *flags[3:])  # one text is restored whole: see the next test
    assert capfd.readouterr().out


@pytest.mark.parametrize("kind", ["text", "field", "column"])
def test_a_vault_brings_the_bytes_back(command, tmp_path, kind):
    content, flags = TEXT, []
    if kind == "field":
        content, flags = json_lines(rows_of(TEXTS * 2)), ["--field", "note"]
    elif kind == "column":
        file = io.StringIO(newline="")
        csv.writer(file).writerows([["note", "id"], *([text, str(i)] for i, text in enumerate(TEXTS * 2))])
        content, flags = file.getvalue(), ["--column", "note"]
    source = write(tmp_path / "source", content)
    command(source, *flags, "--replace", "numbered", "--vault", tmp_path / "vault", "--output", tmp_path / "redacted")
    assert (tmp_path / "redacted").read_bytes() != source.read_bytes()
    assert stat.S_IMODE((tmp_path / "vault").stat().st_mode) == 0o600
    command(tmp_path / "redacted", *flags, "--restore", tmp_path / "vault", "--output", tmp_path / "restored")
    assert (tmp_path / "restored").read_bytes() == source.read_bytes()


# The command: files and processes


def test_a_run_that_fails_leaves_the_old_output_and_nothing_else(command, tmp_path):
    rows = json_lines(rows_of(TEXTS)) + "no JSON\n"
    source = write(tmp_path / "rows.jsonl", rows)
    output = write(tmp_path / "out" / "rows.jsonl", "old")
    vault = tmp_path / "out" / "vault"
    with pytest.raises(UserError):
        command(source, "--field", "note", "--output", output, "--replace", "numbered", "--vault", vault)
    assert output.read_text() == "old" and left_in(output.parent) == {"rows.jsonl"}


@pytest.fixture
def documents(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / "in" / f"{i}.txt", text) for i, text in enumerate(TEXTS)]


@pytest.mark.parametrize("there", [True, False], ids=["that is there", "that is new"])
def test_a_folder_gets_one_output_for_each_input(command, redactor, documents, tmp_path, there):
    if there:
        (tmp_path / "out").mkdir()
    command(*documents, "--output", f"{tmp_path}/out/")
    assert left_in(tmp_path / "out") == {path.name for path in documents}
    for path, text in zip(documents, TEXTS, strict=True):
        redacted = (tmp_path / "out" / path.name).read_bytes().decode()
        assert redacted == with_labels(text, redactor.spans(text))


def test_a_rerun_does_what_is_missing_and_leaves_the_rest(command, redactor, documents, tmp_path, capsysbinary):
    write(tmp_path / "out" / "0.txt", "done before")
    write(documents[3], b"\xff" + CANARY.encode())
    with pytest.raises(UserError):
        command(*documents, "--output", tmp_path / "out")
    done = left_in(tmp_path / "out")
    assert {"0.txt"} <= done <= {"0.txt", "1.txt", "2.txt"}
    write(documents[3], TEXTS[3])
    command(*documents, "--output", tmp_path / "out")
    assert left_in(tmp_path / "out") == {path.name for path in documents}
    assert (tmp_path / "out" / "0.txt").read_text() == "done before"
    assert (tmp_path / "out" / "4.txt").read_text() == redactor.redact(TEXTS[4])
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    command(*documents, "--output", tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("world", [2, 4, 9])
def test_processes_share_the_files_and_each_is_done_once(command, documents, tmp_path, monkeypatch, world):
    monkeypatch.setenv("WORLD_SIZE", str(world))
    outputs = []
    for rank in range(world):
        monkeypatch.setenv("RANK", str(rank))
        folder = tmp_path / f"out-{rank}"  # apart, so that no process sees what another has done
        folder.mkdir()
        command(*documents, "--output", folder)
        outputs += sorted(left_in(folder))
    assert sorted(outputs) == [path.name for path in documents]


def test_an_input_is_not_taken_for_its_own_output(command, documents):
    """--output names the inputs' folder: to redact nothing and say that all is done would be a leak."""
    before = {path: path.read_bytes() for path in documents}
    with pytest.raises(UserError):
        command(*documents, "--output", documents[0].parent)
    assert {path: path.read_bytes() for path in documents} == before


def test_inputs_of_one_name_are_refused_where_outputs_are_named_after_them(command, documents, tmp_path):
    twin = write(tmp_path / "other" / documents[0].name, TEXT)
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError):
        command(*documents, twin, "--output", tmp_path / "out")
    assert left_in(tmp_path / "out") == set()


# The command: mistakes end with one line, and no text in it


def refusal(capfd: pytest.CaptureFixture, command: Callable[..., None], *flags: object, code: int = 2) -> str:
    """The one line that the command ends with."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as stopped:
        common.run(lambda: command(*flags))
    out, err = capfd.readouterr()
    lines = err.splitlines()
    assert len(lines) == 1 and ": error: " in lines[0], err
    assert stopped.value.code == code and CANARY not in out + err
    return lines[0]


BAD_INPUT = {
    "a text not in UTF-8": (CANARY.encode() + b" \xff\n", []),
    "a row without the field": (json_lines([{"text": CANARY}]), ["--field", "note"]),
    "a row that is no JSON": (f'{{"note": "{CANARY}', ["--field", "note"]),
    "a row with a cell too many": (f"note\nAnn,{CANARY}\n", ["--column", "note"]),
}


@pytest.mark.parametrize(("content", "flags"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_a_bad_record_ends_with_one_line_that_says_where(command, tmp_path, capfd, content, flags):
    line = refusal(capfd, command, write(tmp_path / "bad.in", content), *flags, code=1)
    assert "bad.in" in line and "--skip-bad" in line


def test_skip_bad_goes_on_and_rejected_keeps_the_record(command, redactor, tmp_path, capfd):
    good = rows_of(TEXTS[:2])
    bad = json.dumps({"text": f"{CANARY} without a note"})
    path = write(tmp_path / "rows.jsonl", json_lines(good[:1]) + bad + "\n" + json_lines(good[1:]))
    rejected = tmp_path / "rejected.jsonl"
    command(path, "--field", "note", "--skip-bad", "--rejected", rejected, "--output", tmp_path / "out")
    written = [json.loads(line) for line in (tmp_path / "out").read_bytes().splitlines()]
    assert written == [{**row, "note": redactor.redact(row["note"])} for row in good]
    [kept] = map(json.loads, rejected.read_text().splitlines())
    assert (kept["file"], kept["line"], kept["row"]) == (str(path), 2, bad)
    assert stat.S_IMODE(rejected.stat().st_mode) == 0o600
    out, err = capfd.readouterr()
    assert out == "" and CANARY not in err and err.count("1 record ") == len(err.splitlines()) == 1


@pytest.mark.parametrize("restoring", [False, True])
def test_records_passed_over_are_counted_though_nobody_keeps_them(command, tmp_path, capfd, restoring):
    path = write(tmp_path / "rows.jsonl", json_lines(rows_of(TEXTS[:1])) + f'"{CANARY}"\n{{\n')
    flags = ["--field", "note", "--replace", "numbered", "--skip-bad"]
    command(path, *flags, "--vault", tmp_path / "vault", "--output", tmp_path / "out")
    if restoring:
        capfd.readouterr()
        write(tmp_path / "out", (tmp_path / "out").read_bytes() + b"{\n[]\n")
        command(tmp_path / "out", "--field", "note", "--skip-bad", "--restore", tmp_path / "vault")
    _, err = capfd.readouterr()
    assert "2 records " in err and len(err.splitlines()) == 1 and CANARY not in err


MISTAKES = {
    "a file that is not there": ["none.txt"],
    "a folder as input": ["."],
    "a run that is not there": ["a.txt", "--run", "none"],
    "a head that is not there": ["a.txt", "--head", "nosuchhead"],
    "a device that is not there": ["a.txt", "--device", "nonsense"],
    "a column that is not there": ["a.csv", "--column", "note"],
    "a label that is not there": ["a.txt", "--labels", "TOWN"],
    "a label map that is not there": ["a.txt", "--label-map", "none.json"],
    "a score above 1": ["a.txt", "--min-score", "2"],
    "hashes without a key": ["a.txt", "--replace", "hash"],
    "a key that is too short": ["a.txt", "--replace", "hash", "--hash-key-file", "short-key"],
    "a key file that is not there": ["a.txt", "--replace", "hash", "--hash-key-file", "none"],
    "a key as a flag's value": ["a.txt", "--replace", "hash", "--hash-key", KEY.decode()],
    "a vault for other replacements": ["a.txt", "--vault", "vault"],
    "a vault in place of another file": ["a.txt", "--replace", "numbered", "--vault", "a.csv"],
    "a vault for a folder of outputs": ["a.txt", "--replace", "numbered", "--vault", "vault", "--output", "folder"],
    "rejected without skip-bad": ["a.txt", "--rejected", "rejected"],
    "a vault to restore that is not there": ["a.txt", "--restore", "none"],
    "a vault to restore that is none": ["a.txt", "--restore", "a.csv"],
    "both kinds of rows": ["a.csv", "--column", "text", "--field", "text"],
    "an output in a file": ["a.txt", "--output", "a.csv/out"],
    "standard input named twice": ["-", "a.txt", "-"],
    "a vault that is the output": ["a.txt", "--replace", "numbered", "--vault", "both", "--output", "./both"],
    "rejected records where the output is": ["a.txt", "--skip-bad", "--rejected", "both", "--output", "both"],
    "rejected records where the input is": ["a.txt", "--skip-bad", "--rejected", "a.txt"],
    "a restored text in the place of its vault": ["a.txt", "--restore", "a.csv", "--output", "a.csv"],
}


@pytest.mark.parametrize("flags", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_ends_with_one_line_and_writes_nothing(command, tmp_path, capfd, monkeypatch, flags):
    monkeypatch.chdir(tmp_path)
    files = {"a.txt": TEXT.encode(), "a.csv": f"text,more\n{CANARY},\n".encode(), "short-key": b"short"}
    for name, content in files.items():
        write(tmp_path / name, content)
    (tmp_path / "folder").mkdir()
    refusal(capfd, command, *flags)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == files
    assert left_in(tmp_path / "folder") == set()


@pytest.mark.parametrize("environment", [{"RANK": "one"}, {"WORLD_SIZE": "many"}], ids=str)
def test_ranks_that_are_no_numbers_are_refused(command, tmp_path, capfd, monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert next(iter(environment)) in refusal(capfd, command, write(tmp_path / "a.txt", TEXT))


def test_several_processes_without_files_or_a_folder_are_refused(command, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    refusal(capfd, command, "--output", tmp_path)
    refusal(capfd, command, write(tmp_path / "a.txt", TEXT))


RUN_FAULTS = {
    "a config cut short": lambda run: (run / "config.json").write_text("{"),
    "no config": lambda run: (run / "config.json").unlink(),
    "a head cut short": lambda run: os.truncate(run / "documented" / "head.safetensors", 100),
    "no head": lambda run: (run / "documented" / "head.safetensors").unlink(),
    "another tokenizer": lambda run: change_config(run, tokenizer={"sha256": "0" * 64, "vocab_size": 131072}),
    "a label too many": lambda run: change_config(run, labels=[*LABELS, "TOWN"]),
    "a backbone that is gone": lambda run: change_config(
        run, backbone={"name": str(run / "none"), "precision": "bf16"}
    ),
}


def change_config(run: Path, **changes: object) -> None:
    path = run / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("damage", RUN_FAULTS.values(), ids=RUN_FAULTS)
def test_a_damaged_run_ends_with_one_line(trained, tmp_path, capfd, monkeypatch, damage):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    damage(run)
    text = write(tmp_path / "a.txt", TEXT)
    refusal(capfd, predict.main, ["--run", str(run), "--device", "cpu", str(text)])


def test_a_text_that_the_vault_does_not_know_is_not_restored(command, tmp_path, capfd):
    rows = write(tmp_path / "rows.jsonl", json_lines(rows_of(TEXTS)))
    command(
        rows, "--field", "note", "--replace", "numbered", "--vault", tmp_path / "vault", "--output", tmp_path / "out"
    )
    edited = write(tmp_path / "edited", (tmp_path / "out").read_text().replace('"note": "', '"note": "x'))
    line = refusal(
        capfd, command, edited, "--field", "note", "--restore", tmp_path / "vault", "--output", tmp_path / "restored"
    )
    assert f"{edited}, record 1: " in line and "--skip-bad" in line and "--edited" in line
    assert not (tmp_path / "restored").exists()


def lines_of(path: Path) -> list[str]:
    """With their ends; a text may hold what str.splitlines breaks at."""
    return [line.decode() for line in path.read_bytes().splitlines(keepends=True)]


def as_numbered(path: Path) -> list[str]:
    return ["--field", "note", "--replace", "numbered", "--vault", str(path)]


def test_an_edited_record_is_passed_over_kept_or_restored_by_its_placeholders(command, tmp_path, capfd):
    rows = write(tmp_path / "rows.jsonl", json_lines(rows_of(TEXTS)))
    command(rows, *as_numbered(tmp_path / "vault"), "--output", tmp_path / "out")
    lines = lines_of(tmp_path / "out")
    lines[1] = lines[1].replace('"note": "', '"note": "PS: ')
    write(tmp_path / "out", "".join(lines))
    flags = (tmp_path / "out", "--field", "note", "--restore", tmp_path / "vault", "--output", tmp_path / "restored")
    assert "out, record 2: " in refusal(capfd, command, *flags)
    command(*flags, "--skip-bad", "--rejected", tmp_path / "rejected")
    originals = lines_of(rows)
    assert lines_of(tmp_path / "restored") == originals[:1] + originals[2:]
    (kept,) = map(json.loads, (tmp_path / "rejected").read_text().splitlines())
    assert (kept["file"], kept["line"], kept["row"] + "\n") == (str(tmp_path / "out"), 2, lines[1])
    assert "1 record " in capfd.readouterr().err
    command(*flags, "--edited")
    originals[1] = originals[1].replace('"note": "', '"note": "PS: ')
    assert lines_of(tmp_path / "restored") == originals


def test_records_that_differ_in_their_values_alone_are_restored_one_by_one(command, tmp_path, capsysbinary):
    rows = [{"id": i, "note": f"PIN {4711 + i} of Besançon"} for i in range(6)]
    files = [write(tmp_path / f"{half}.jsonl", json_lines(rows[half * 3 : half * 3 + 3])) for half in (0, 1)]
    command(*files, *as_numbered(tmp_path / "vault"), "--output", tmp_path / "out")
    redacted = lines_of(tmp_path / "out")
    assert len({json.loads(line)["note"] for line in redacted}) == 6
    for chosen in ([1], [5, 2], [3, 3, 0, 4]):
        some = write(tmp_path / "some", "".join(redacted[i] for i in chosen))
        capsysbinary.readouterr()
        command(some, "--field", "note", "--restore", tmp_path / "vault")
        assert capsysbinary.readouterr().out.decode() == json_lines([rows[i] for i in chosen])


def test_a_second_job_does_not_take_the_first_ones_vault(command, tmp_path, capfd):
    rows = [write(tmp_path / f"{i}.jsonl", json_lines([{"note": f"PIN {i}711"}])) for i in (4, 5)]
    flags = as_numbered(tmp_path / "vault")
    command(rows[0], *flags, "--output", tmp_path / "first")
    before = (tmp_path / "vault").read_bytes()
    line = refusal(capfd, command, rows[1], *flags, "--output", tmp_path / "second")
    assert "vault" in line and not (tmp_path / "second").exists() and (tmp_path / "vault").read_bytes() == before
    command(rows[0], *flags, "--output", tmp_path / "first")  # the same job once more
    command(tmp_path / "first", "--field", "note", "--restore", tmp_path / "vault", "--output", tmp_path / "restored")
    assert (tmp_path / "restored").read_bytes() == rows[0].read_bytes()


def test_a_vault_brings_odd_json_lines_back(command, tmp_path):
    lines = '\ufeff{"n":1e400, "note" :"Ann, PIN 4711","x":"\\u00e9\\/"}\r\n{"note":"Bob of Oslo","n":-0,"n":1.10}'
    command(write(tmp_path / "in", lines), *as_numbered(tmp_path / "vault"), "--output", tmp_path / "out.gz")
    flags = ("--field", "note", "--restore", tmp_path / "vault", "--output", tmp_path / "restored")
    command(tmp_path / "out.gz", *flags)
    assert (tmp_path / "restored").read_bytes() == lines.encode()


def test_packed_files_of_a_folder_come_out_packed(command, redactor, tmp_path):
    packed = write(tmp_path / "in" / "a.txt.GZ", gzip.compress(TEXT.encode()))
    command(packed, "--output", f"{tmp_path}/out/")
    assert gzip.decompress((tmp_path / "out" / "a.txt.GZ").read_bytes()).decode() == redactor.redact(TEXT)


@pytest.mark.parametrize("kind", [[], ["--column", "note"], ["--field", "note"]])
def test_a_file_of_excel_is_read_or_its_conversion_told(command, redactor, tmp_path, capfd, kind):
    text = f"À {CANARY}, PIN 4711 ’"
    content = {0: text, "--column": f"id\tnote\r\n1\t{text}\r\n", "--field": json_lines([{"note": text}])}
    content = content[kind[0] if kind else 0]
    output = ("--output", tmp_path / "out")
    command(write(tmp_path / "a.csv", content.encode("utf-16")), *kind, *output)
    redacted = redactor.redact(text) if kind else redactor.redact("\ufeff" + text).removeprefix("\ufeff")
    assert (tmp_path / "out").read_bytes().decode() == "\ufeff" + content.replace(text, redacted)
    assert capfd.readouterr().err == ""
    for encoding in ("cp1252", "utf-16le", "utf-16be"):
        path = write(tmp_path / "b.csv", content.encode(encoding))
        line = refusal(capfd, command, path, *kind, *output, code=2 if "utf" in encoding and kind else 1)
        assert f"iconv -f {encoding} -t utf-8 {path} > {tmp_path}/b.utf8.csv" in line


def test_a_byte_order_mark_is_part_of_no_span(redactor):
    texts = ["\ufeff" + text for text in TEXTS]
    assert all(redacted.startswith("\ufeff") for redacted in redactor.redact(texts))
    assert sum(span.start == 1 for spans in redactor.spans(texts) for span in spans) > 0


def test_an_output_cannot_be_packed_otherwise(command, tmp_path, capfd):
    assert ".gz" in refusal(capfd, command, write(tmp_path / "a.txt", TEXT), "--output", tmp_path / "out.bz2")
    assert "--restore" in refusal(capfd, command, tmp_path / "a.txt", "--edited")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_ends_with_one_line(command, tmp_path, capfd):
    refusal(capfd, command, write(tmp_path / "a.txt", TEXT), "--output", "/dev/full")


# The script as others start it


def start(*arguments: object, **options) -> subprocess.Popen:
    """A Python of its own, in the tests' environment but for one thread."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen([sys.executable, *map(str, arguments)], env=environment, **pipes)


def test_help_works_and_importing_does_no_work(tmp_path):
    heavy = "print([name for name in ('transformers', 'mistral_common', 'faker', 'ray') if name in sys.modules])"
    imports = start("-c", f"import sys, predict; {heavy}", cwd=tmp_path)
    shown = start(SCRIPT, "--help", cwd=tmp_path)
    out, err = shown.communicate(timeout=120)
    assert shown.returncode == 0 and err == b"" and b"--run" in out
    assert imports.communicate(timeout=120) == (b"[]\n", b"") and imports.returncode == 0
    assert left_in(tmp_path) == set()


def test_a_reader_that_left_and_a_full_disk_behind_standard_output_end_the_script(trained, tmp_path):
    """As `predict.py FILE | head` and `predict.py FILE > /dev/full`: quietly, and with one line."""
    flags = (SCRIPT, "--run", trained, "--device", "cpu", write(tmp_path / "a.txt", TEXT))
    full = start(*flags, stdout=os.open("/dev/full", os.O_WRONLY)) if Path("/dev/full").exists() else None
    piped = start(*flags)
    piped.stdout.close()
    assert (piped.stderr.read(), piped.wait(120)) == (b"", 1)
    if full:
        _, err = full.communicate(timeout=120)
        assert full.returncode == 2 and len(err.splitlines()) == 1 and b": error: " in err, err


def test_standard_input_to_standard_output_in_a_process_of_its_own(trained, redactor):
    process = start(SCRIPT, "--run", trained, "--device", "cpu", stdin=subprocess.PIPE)
    out, err = process.communicate(TEXT.encode(), timeout=120)
    assert (process.returncode, err) == (0, b"") and out == with_labels(TEXT, redactor.spans(TEXT)).encode()


def test_labels_of_a_label_map_that_the_run_does_not_have_are_named(build, capsys):
    capsys.readouterr()
    build(label_map={"CITTY": "TOWN", "CITY": "TOWN", "O": "X"})
    warning = "warning: the label map names labels that the run does not have: CITTY, O\n"
    assert capsys.readouterr().err == warning
    build(label_map={"CITY": "TOWN"})
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "arguments",
    [
        {"labels": ["O"]},
        {"labels": ["CITY"], "exclude_labels": ["CITY"]},
        {"label_map": dict.fromkeys(["CITY", "EMAIL", "FIRSTNAME", "PIN"], "O")},
    ],
)
def test_a_choice_of_labels_that_leaves_none_is_refused(build, arguments):
    """Everything would go through as it is."""
    with pytest.raises(UserError, match="no label is left"):
        build(**arguments)


# torchrun


def test_torchrun_as_documented_shares_the_files(trained, tmp_path):
    texts = {f"{name}.txt": f"{CANARY} {name} " + TEXT for name in "abc"}
    sources = [str(write(tmp_path / name, text)) for name, text in texts.items()]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "--"]
    command = [*launch, str(SCRIPT), "--run", str(trained), "--device", "cpu", "--output", f"{tmp_path}/out/", *sources]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    redactor = Redactor(trained, device="cpu")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        name: redactor.redact(text).encode() for name, text in texts.items()
    }


@pytest.mark.parametrize("pattern", ["*.md", "docs/*.md", "*.py", "pii/**/*.py", "notebooks/*.ipynb"])
def test_every_torchrun_that_is_shown_keeps_the_scripts_flags_from_torchrun(pattern):
    """Without the -- it takes --run for a flag of its own."""
    lines = [line for path in ROOT.glob(pattern) for line in path.read_text().splitlines() if "torchrun --" in line]
    assert all(" -- " in line.split("torchrun", 1)[1] for line in lines)


# For labelling tools


def jsonl_of(texts: list[str]) -> str:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts)


def spans_of_tasks(path: Path, output_format: str) -> list[list[tuple]]:
    """What a labelling tool would read: (start, end, label) of each document's spans."""
    if output_format == "label-studio":
        results = [task["predictions"][0]["result"] for task in json.loads(path.read_bytes())]
        return [
            [(*(r["value"][key] for key in ("start", "end")), *r["value"]["labels"]) for r in own] for own in results
        ]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    if output_format == "doccano":
        return [[tuple(label) for label in line["label"]] for line in lines]
    return [[(span["start"], span["end"], span["label"]) for span in line["spans"]] for line in lines]


@pytest.mark.parametrize("output_format", ["label-studio", "doccano", "prodigy"])
def test_predictions_open_in_labelling_tools(command, redactor, tmp_path, output_format):
    rows = write(tmp_path / "rows.jsonl", jsonl_of(TEXTS))
    command("--field", "text", rows, "--output-format", output_format, "--output", tmp_path / "tasks")
    expected = [places(spans) for spans in redactor.spans(TEXTS)]
    assert spans_of_tasks(tmp_path / "tasks", output_format) == expected and any(expected)


def test_texts_csv_and_standard_output_go_to_labelling_tools_too(command, tmp_path, capfdbinary):
    table = write(tmp_path / "t.csv", "id;note\r\n1;I am Ann.\r\n")
    letters = [write(tmp_path / name, TEXT) for name in ("a.txt", "b.txt")]
    command(*letters, "--output-format", "conll")
    assert capfdbinary.readouterr().out.decode().count("-DOCSTART-") == 2
    command("--column", "note", table, "--output-format", "label-studio")
    [task] = json.loads(capfdbinary.readouterr().out)
    assert task["data"] == {"text": "I am Ann.", "source": str(table), "number": 1}


def test_brat_gets_one_folder_of_all_inputs_and_never_loses_corrections(command, tmp_path, capsys):
    letters = [write(tmp_path / name / "letter.txt", TEXT + name) for name in "ab"]
    command(*letters, "--output-format", "brat", "--output", f"{tmp_path / 'brat'}/")
    names = ["annotation.conf", "letter-2.ann", "letter-2.txt", "letter.ann", "letter.txt"]
    assert sorted(path.name for path in (tmp_path / "brat").iterdir()) == names
    corrected = write(tmp_path / "brat" / "letter.ann", "T1\tCITY 0 4\tDear\n")
    with pytest.raises(UserError, match="corrections"):
        command(*letters, "--output-format", "brat", "--output", tmp_path / "brat")
    assert corrected.read_text() == "T1\tCITY 0 4\tDear\n"
    with pytest.raises(UserError, match="--output"):
        command(*letters, "--output-format", "brat")


def test_what_labelling_tools_have_no_use_for_is_refused(command, tmp_path, monkeypatch):
    letter = write(tmp_path / "letter.txt", TEXT)
    with pytest.raises(UserError, match="--vault"):
        command(letter, "--output-format", "doccano", "--replace", "numbered", "--vault", tmp_path / "vault.json")
    with pytest.raises(UserError, match="--uncertain"):
        command(letter, "--uncertain", "3", "--output", f"{tmp_path / 'out'}/")
    names = write(tmp_path / "map.json", json.dumps({"CITY": "VILLE À VOIR"}))
    with pytest.raises(UserError, match="--label-map"):
        command(letter, "--output-format", "conll", "--label-map", names)
    monkeypatch.setenv("WORLD_SIZE", "2"), monkeypatch.setenv("RANK", "0")
    with pytest.raises(UserError, match="one process"):
        command(letter, "--output-format", "brat", "--output", tmp_path / "out")


def lowest_scores(texts: list[str], redactor: Redactor) -> list[float]:
    return [min((span.score for span in spans), default=1.0) for spans in redactor.spans(texts)]


@pytest.mark.parametrize("output_format", ["spans", "redacted", "doccano"])
def test_the_least_certain_documents_come_in_order(command, redactor, tmp_path, output_format):
    texts = [text for text in TEXTS if text.strip()] + [
        f"{name} of Paris wrote {name}" for name in ("Ann", "Bob", "Eve")
    ]
    rows = write(tmp_path / "rows.jsonl", jsonl_of(texts))
    flags = ("--field", "text", rows, "--output-format", output_format)
    command(*flags, "--output", tmp_path / "all"), command(*flags, "--uncertain", 3, "--output", tmp_path / "some")
    scores = lowest_scores(texts, redactor)
    wanted = sorted(sorted(range(len(texts)), key=lambda i: scores[i])[:3])
    lines = (tmp_path / "all").read_bytes().splitlines()
    assert (tmp_path / "some").read_bytes().splitlines() == [lines[i] for i in wanted]
    command(*flags, "--uncertain", 99, "--output", tmp_path / "more")
    assert (tmp_path / "more").read_bytes() == (tmp_path / "all").read_bytes()


def test_documents_on_which_two_heads_disagree_come_first(trained, tmp_path):
    """The second head finds nothing, so that a document is the more doubtful for any span of the first."""
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    shutil.copytree(run / "documented", run / "documented@1")
    weights = load_file(run / "documented@1" / "head.safetensors")
    save_file({"weight": weights["weight"] * 0, "bias": weights["bias"]}, run / "documented@1" / "head.safetensors")
    config = json.loads((run / "config.json").read_text())
    config["heads"]["documented@1"] = config["heads"]["documented"]
    (run / "config.json").write_text(json.dumps(config))
    redactor = Redactor(seal(run), device="cpu", second_opinion=True)
    assert redactor.head == "documented"
    for (text, spans, others), alone in zip(redactor.opinions(TEXTS), redactor.spans(TEXTS), strict=True):
        assert (spans, others) == (alone, []) and text in TEXTS
    reads = []
    redactor.tagger.reader.backbone.register_forward_hook(lambda *_: reads.append(1))
    assert len([*redactor.spans([TEXT])]) == 1 and [*redactor.opinions([TEXT])]
    assert len(reads) == 2  # one for each call: the heads share a pass
    [(_, _, others)] = Redactor(trained, device="cpu", second_opinion=True).opinions([TEXT])
    assert others is None
