"""Redacted documents, spans or both out: whole or not at all, for their owner, and quiet about text."""

import gzip
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pii.common import UserError
from pii.redaction.records import BadRecord, Record, read_records
from pii.redaction.writers import RecordWriter, RejectedWriter
from tests.redaction.test_records import CANARY, ROOT, SPAN, convert, few, json_lines, reasons, texts, written


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


# Outputs


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


# What is not the field's text stays as it came, to the byte

space = st.sampled_from(["", " ", "\t", "  ", " \r "])
odd_numbers = st.sampled_from(
    ["3.14159265358979323846264338", "12345678901234567890.123", "1e400", "-0", "1E+2", "9" * 5000, "NaN", "-Infinity"]
)
odd_strings = st.sampled_from([r'"\u00e9"', r'"\/"', r'"\ud800"', '"é\u2028"', r'"\"}, \"text\": \"x"', '"\t"'])
odd_values = (
    odd_numbers | odd_strings | st.sampled_from(['{"text": "in", "text": "ner"}', "[1.0, [ ] ]", "{ }", "null"])
)


@st.composite
def odd_rows(draw: st.DrawFn) -> tuple[str, str, str]:
    """A JSON object in three parts, of which the middle one is what stands for its field `text`."""
    keys = st.sampled_from(['"id"', '"id"', '""', r'"\u0074ex"', '"Text"', '"spams"'])
    member = st.builds("{0}{1}{0}:{0}{2}{0}".format, space, keys, odd_values)
    before, after = (draw(st.lists(member, max_size=3)) for _ in range(2))
    text = draw(texts.map(json.dumps) | st.sampled_from([r'"\u00e9"', r'"a\/b"', '"\t\x7f"', r'"\uD83D\uDE00"']))
    key = draw(st.sampled_from(['"text"', r'"t\u0065xt"']))
    head = draw(space) + "{" + "".join(f"{part}," for part in before) + draw(space) + key + draw(space) + ":"
    return head + draw(space), text, draw(space) + "".join(f",{part}" for part in after) + "}" + draw(space)


@settings(max_examples=60, deadline=None)
@given(st.lists(odd_rows(), min_size=1, max_size=4), st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans())
def test_of_a_json_line_only_the_fields_string_changes(folder: Path, rows: list, end: str, bom: bool, ended: bool):
    def file_of(replace) -> bytes:
        lines = [head + replace(text) + tail for head, text, tail in rows]
        return ("\ufeff" * bom + end.join(lines) + end * ended).encode()

    source = written(folder / "a.jsonl", file_of(str))
    assert convert([source], folder / "out", field="text") == file_of(str)
    assert convert([source], folder / "out", edit=lambda _: "[X] é", field="text") == file_of(
        lambda old: json.dumps("[X] é", ensure_ascii=old.isascii() and "\\u" in old) if old != '"[X] é"' else old
    )
    added = convert([source], folder / "out", "jsonl", str.upper, field="text").decode("utf-8")
    for line, (head, text, tail) in zip(added.removeprefix("\ufeff").split("\n"), rows, strict=False):
        assert line.startswith(head + text) and tail.rstrip().rstrip("}").rstrip() in line
        row = json.loads(line, strict=False, parse_int=lambda digits: int(digits[:9]))
        assert row["redacted"] == json.loads(text, strict=False).upper() and row["spans"] == [SPAN]


def test_fields_named_redacted_and_spans_are_replaced_where_they_stand(tmp_path: Path) -> None:
    source = written(tmp_path / "a.jsonl", '{"spans":1e400,"text":"a", "redacted" : {"a": 1}, "spans": 2}')
    converted = convert([source], tmp_path / "out", "jsonl", str.upper, field="text")
    spans = json.dumps([SPAN])
    assert converted.decode() == f'{{"spans":{spans},"text":"a", "redacted" : "A", "spans": {spans}}}'


@pytest.mark.parametrize(
    "line", ['{"text":"a",}', '{"text" "a"}', '{"text":01}', "{text:1}", '{"text":"a"', '{,"a":1}']
)
def test_what_is_nearly_json_is_broken(tmp_path: Path, line: str) -> None:
    assert reasons(written(tmp_path / "a.jsonl", line), field="text") == {1: "broken JSON"}


@pytest.mark.parametrize(
    ("kind", "name", "parts"),
    [
        ({"field": "text"}, "a.jsonl", ['{"text":"a"}\r\n', '{"text":"b"}\n', '{"text":"c"}']),
        ({"column": "text"}, "a.csv", ["text\r\n", "a\n", "b\r", "c\r\n", "d"]),
        ({"column": "text"}, "a.csv", ["text\n", "a\r\n", "b\n"]),
        ({"column": "text"}, "a.csv", ["text"]),
        ({}, "a.txt", ["a\r\n", "b\n", "c\r", "d"]),
    ],
)
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_every_line_keeps_its_own_end(tmp_path: Path, kind: dict, name: str, parts: list[str], bom: str) -> None:
    source = written(tmp_path / name, content := bom + "".join(parts))
    assert convert([source], tmp_path / "out", **kind) == content.encode()


def test_the_rows_of_several_files_have_lines_of_their_own_and_one_byte_order_mark(tmp_path: Path) -> None:
    sources = [written(tmp_path / f"{i}.jsonl", f'\ufeff{{"text":"{i}"}}') for i in range(3)]
    sources.insert(1, written(tmp_path / "x.jsonl", '{"text":"x"}\r\n'))
    converted = convert(sources, tmp_path / "out", field="text").decode()
    assert converted == '\ufeff{"text":"0"}\n{"text":"x"}\r\n{"text":"1"}\r\n{"text":"2"}'
    sources = [written(tmp_path / f"{i}.csv", f"text\r\n{i}") for i in range(2)]
    assert convert(sources, tmp_path / "out", column="text") == b"text\r\n0\r\n1\r\n"
    sources = [written(tmp_path / "0.csv", "text"), sources[1]]
    assert convert(sources, tmp_path / "out", column="text") == b"text\n1\n"


def test_a_byte_order_mark_before_a_blank_or_bad_line_is_kept(tmp_path: Path) -> None:
    for first in (" \n", "{\n"):
        source = written(tmp_path / "a.jsonl", f'\ufeff{first}{{"text":"a"}}')
        assert convert([source], tmp_path / "out", field="text").decode() == '\ufeff{"text":"a"}'


# Packed files and other encodings

CONTENTS = [({}, "a.txt", "é ’\r\n\0"), ({"field": "text"}, "a.jsonl", '{"text":"é"}\r\n{"text":"’"}')]
CONTENTS += [({"column": "text"}, "a.csv", "id\ttext\r\n1\té\r\n2\t’ and more\r\n")]


@pytest.mark.parametrize(("kind", "name", "content"), CONTENTS)
@pytest.mark.parametrize("suffix", [".gz", ".GZ"])
def test_a_file_named_gz_is_unpacked_and_packed_again(tmp_path: Path, kind: dict, name: str, content: str, suffix: str):
    source = written(tmp_path / f"{name}{suffix}", gzip.compress(content.encode()))
    packed = convert([source], tmp_path / f"out{suffix}", **kind)
    assert gzip.decompress(packed) == content.encode()
    assert convert([source], tmp_path / f"again{suffix}", **kind) == packed
    assert convert([source], tmp_path / "out", **kind) == content.encode()


@pytest.mark.parametrize(("kind", "name", "content"), CONTENTS)
@pytest.mark.parametrize(("encoding", "mark"), [("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")])
@pytest.mark.parametrize("packed", [False, True])
def test_utf16_with_its_mark_is_read_as_utf8(tmp_path, kind, name, content, encoding, mark, packed):
    raw = mark + content.encode(encoding)
    source = written(tmp_path / (name + ".gz" * packed), gzip.compress(raw) if packed else raw)
    assert convert([source], tmp_path / "out", **kind) == ("\ufeff" + content).encode()


@few
@given(st.lists(texts, min_size=1, max_size=3), st.sampled_from(["utf-16-le", "utf-16-be"]))
def test_any_text_in_utf16_is_read(folder: Path, contents: list[str], encoding: str) -> None:
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in contents)
    source = written(folder / "a", ("\ufeff" + lines).encode(encoding))
    assert [record.text for record in read_records(source, field="text")] == contents


@pytest.mark.parametrize("raw", [b"\xff\xfea\0\0\xd8b\0", b"\xff\xfea\0b"], ids=["half a character", "half a unit"])
def test_damaged_utf16_is_bad(tmp_path: Path, raw: bytes) -> None:
    assert reasons(written(tmp_path / "a.txt", raw)) == {1: "not UTF-8"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("id,text\n1,Mr É\n".encode("utf-16-le"), "iconv -f utf-16le -t utf-8"),
        ("id,text\n1,Mr É\n".encode("utf-16-be"), "iconv -f utf-16be -t utf-8"),
        ("\ufeffid,text\n".encode("utf-32-le"), "iconv -f utf-32 -t utf-8"),
        ("id,text,é\n".encode("cp1252"), "likely cp1252"),
        (b"BZh91AY&SY\x01", "bunzip2"),
        (b"\xfd7zXZ\0\0", "unxz"),
        (b"\x28\xb5\x2f\xfd", "unzstd"),
        (b"PK\x03\x04", "unzip"),
        (b"\x1f\x8b\x08\0", "name that ends with .gz"),
    ],
)
@pytest.mark.parametrize("kind", [{"column": "text"}, {"field": "text"}])
def test_what_has_to_be_converted_or_unpacked_is_said_with_the_command(tmp_path, content, words, kind) -> None:
    source = written(tmp_path / "a b.csv", content)
    if "cp1252" in words and "field" in kind:
        return
    with pytest.raises(UserError, match=r"a b\.csv") as error:
        list(read_records(source, **kind))
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".bz2", ".XZ", ".zst", ".zip", ".7z", ".lzma", ".xlsx"])
def test_an_archive_is_known_by_its_name(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(UserError, match=r"unpack it|save it as CSV"):
        list(read_records(written(tmp_path / f"a.txt{suffix}", CANARY)))
