"""Redacted documents, spans or both out: whole or not at all, for their owner, and quiet about text."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pii.common import UserError
from pii.redaction.records import BadRecord, Record, read_records
from pii.redaction.writers import RecordWriter, RejectedWriter
from tests.redaction.test_records import CANARY, ROOT, SPAN, convert, json_lines, written


@pytest.mark.parametrize("with_text", [False, True])
def test_spans_hold_text_only_when_asked(tmp_path: Path, with_text: bool) -> None:
    span = {**SPAN, "text": "Mr"} if with_text else SPAN
    for kind, name, content in (
        ({}, "a.txt", "Mr Müller"),
        ({"field": "text"}, "a.jsonl", '{"text": "Mr Müller"}'),
        ({"column": "text"}, "a.csv", "text\nMr Müller"),
    ):
        source = written(tmp_path / name, content)
        (line,) = json_lines(convert([source], tmp_path / "out", "spans", with_text=with_text, **kind))
        assert line == {"source": source, "number": 1, "spans": [span]}


def test_jsonl_output_of_text_and_csv(tmp_path: Path) -> None:
    source = written(tmp_path / "a.txt", "Mr É")
    content = convert([source], tmp_path / "out", "jsonl", str.lower)
    assert "é".encode() in content
    assert json_lines(content) == [{"source": source, "number": 1, "redacted": "mr é", "spans": [SPAN]}]
    source = written(tmp_path / "a.csv", "id,text,spans,number\n7,Mr É,old,9\n")
    (row,) = json_lines(convert([source], tmp_path / "out", "jsonl", str.lower, column="text"))
    assert row == {"source": source, "number": "9", "id": "7", "text": "Mr É", "redacted": "mr é", "spans": [SPAN]}


@pytest.mark.parametrize("content", ["id,text\n1,a\n2\n", "id,text\n"])
def test_nothing_is_left_behind_by_an_exception(tmp_path: Path, content: str) -> None:
    source = written(tmp_path / "a.csv", content)
    kind = {"column": "text"}
    with (
        pytest.raises(RuntimeError),
        RecordWriter(tmp_path / "out", "redacted", **kind) as writer,
        RejectedWriter(tmp_path / "rejected.jsonl") as rejected,
    ):
        for record in read_records(source, **kind, on_header=writer.write_header):
            if isinstance(record, BadRecord):
                rejected.write(record)
            else:
                writer.write(record, record.text, [])
        raise RuntimeError
    assert list(tmp_path.iterdir()) == [Path(source)]


def test_input_and_output_may_be_one_file(tmp_path: Path) -> None:
    source = written(tmp_path / "a.csv", "id,text\n" + "1,a\n" * 10_000)
    assert convert([source], Path(source), edit=str.upper, column="text") == b"id,text\n" + b"1,A\n" * 10_000


def test_a_device_or_a_link_as_output_stays_what_it_is(tmp_path: Path) -> None:
    source = written(tmp_path / "a.txt", "text")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    convert([source], tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"text"
    with RecordWriter(Path(os.devnull), "redacted") as writer:
        writer.write(Record("a", 1, "text", None), "text", [])
    assert Path(os.devnull).is_char_device()


def test_rejected_records_are_for_their_owner_from_the_first_byte(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rejected.jsonl"
    with RejectedWriter(path) as rejected:
        (temporary,) = path.parent.rglob("rejected.jsonl")
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
        rejected.write(BadRecord("a.csv", 3, "not UTF-8", b"caf\xe9 \xc3\xa9\r\n"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json_lines(path.read_bytes()) == [{"file": "a.csv", "line": 3, "reason": "not UTF-8", "row": "caf� é"}]


def test_without_a_path_rejected_records_go_nowhere(tmp_path: Path, capfdbinary: pytest.CaptureFixture) -> None:
    with RejectedWriter(None) as rejected:
        rejected.write(BadRecord("a", 1, "not UTF-8", CANARY.encode()))
    out, err = capfdbinary.readouterr()
    assert out == b"" and CANARY.encode() not in err


def test_a_reader_that_leaves_ends_the_script_quietly(tmp_path: Path) -> None:
    source = written(tmp_path / "a.jsonl", '{"text": "a"}\n' * 50_000)
    script = (
        "import sys; from pii.common import run; from pii.redaction.records import read_records\n"
        "from pii.redaction.writers import RecordWriter\n"
        "def main():\n"
        "    with RecordWriter(None, 'redacted', field='text') as writer:\n"
        "        for record in read_records(sys.argv[1], field='text'): writer.write(record, record.text, [])\n"
        "run(main)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, source], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b'{"text": "a"}\n'
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(10) == 1
    process.stderr.close()


@pytest.mark.parametrize(("count", "words"), [(0, None), (1, "1 record "), (3, "3 records ")])
@pytest.mark.parametrize("name", [None, "rejected.jsonl"])
def test_how_many_records_were_passed_over_is_said_at_the_end(tmp_path, capfd, name, count, words):
    with RejectedWriter(name and tmp_path / name) as rejected:
        for number in range(count):
            rejected.write(BadRecord("a", number, "not UTF-8", CANARY.encode()))
        assert capfd.readouterr().err == ""
    err = capfd.readouterr().err
    assert (words in err and len(err.splitlines()) == 1 and CANARY not in err) if words else err == ""


@pytest.mark.parametrize("stream", ["stdin", "stdout"])
def test_a_closed_standard_stream_is_said_in_one_line(monkeypatch, stream):
    monkeypatch.setattr(sys, stream, None)
    with pytest.raises(UserError, match="closed"):
        list(read_records("-")) if stream == "stdin" else RecordWriter(None, "redacted").__enter__()


def test_a_command_that_fails_ends_with_its_error_alone(capfd):
    with pytest.raises(KeyError), RejectedWriter(None) as rejected:
        rejected.write(BadRecord("a", 1, "not UTF-8", b""))
        raise KeyError
    assert capfd.readouterr().err == ""
