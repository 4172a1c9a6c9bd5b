"""Documents: one record in, one out, in order; what cannot be processed is told apart, and never tells its text."""

import csv
import gzip
import io
import json
import os
import sys
import threading
import tracemalloc
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pii.common import UserError
from pii.redaction.records import MOST_REREAD, BadRecord, Record, read_records
from pii.redaction.writers import RecordWriter

ROOT = Path(__file__).parents[2]
CANARY = "xylophonecanary"
SPAN = {"start": 0, "end": 2, "label": "PREFIX", "score": 0.5}
texts = st.text(st.characters(exclude_categories=["Cs"]))
few = settings(max_examples=40, deadline=None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


def written(path: Path, content: bytes | str) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def convert(sources: list[str], output: Path, output_format: str = "redacted", edit=lambda text: text, **kind) -> bytes:
    """What predict.py does, with `edit` for a model that finds one span."""
    with RecordWriter(output, output_format, **kind) as writer:
        kind.pop("with_text", None)
        for source in sources:
            for record in read_records(source, **kind, on_header=writer.write_header):
                if isinstance(record, Record):
                    writer.write(record, edit(record.text), [SPAN])
    return output.read_bytes()


def reasons(source: str, **kind) -> dict[int, str]:
    records = list(read_records(source, **kind))
    bad = [record for record in records if isinstance(record, BadRecord)]
    assert not any(CANARY in record.reason for record in bad)
    return {record.number: record.reason for record in bad}


def json_lines(content: bytes) -> list[dict]:
    return [json.loads(line) for line in content.decode("utf-8-sig").split("\n")[:-1]]


# Plain text


@few
@given(st.lists(texts, min_size=1, max_size=3))
@example(["\ufeffa\r\nb\rc\n", "", "no line end", "\0\u2028\x85 é 👩‍👩‍👧"][:3])
def test_plain_texts_come_out_byte_for_byte_one_after_the_other(folder: Path, contents: list[str]) -> None:
    sources = [written(folder / f"{i}.txt", content) for i, content in enumerate(contents)]
    assert convert(sources, folder / "out") == "".join(contents).encode()


@few
@given(texts)
def test_a_plain_text_is_one_record_decoded_exactly(folder: Path, content: str) -> None:
    source = written(folder / "a.txt", content)
    assert list(read_records(source)) == [Record(source, 1, content, None)]


@pytest.mark.parametrize("raw", [b"caf\xe9", b"a\0" * 8, b"\xed\xa0\x80", b"a" * 100_000 + b"\xc3"])
def test_a_text_that_is_not_utf8_is_bad_as_a_whole(tmp_path: Path, raw: bytes) -> None:
    source = written(tmp_path / "a.txt", raw)
    assert list(read_records(source)) == [BadRecord(source, 1, "not UTF-8", raw)]


def test_a_large_text_is_held_once_as_bytes_and_once_as_text(tmp_path: Path) -> None:
    source = written(tmp_path / "a.txt", b"abcdefg\n" * 2_000_000)
    tracemalloc.start()
    try:
        record = next(read_records(source))
        assert tracemalloc.get_traced_memory()[1] < 2.1 * len(record.text)
    finally:
        tracemalloc.stop()


# JSON Lines

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
json_values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(texts, st.lists(scalars), max_size=2)
json_objects = st.dictionaries(texts, json_values, max_size=3)
json_rows = st.lists(st.builds(lambda text, row: {**row, "text": text}, texts, json_objects), max_size=3)


@few
@given(json_rows, st.booleans(), st.sampled_from(["\n", "\r\n", "\n\n \r\n"]), st.sampled_from(["", "\ufeff"]))
@example([{"text": "a\u2028\x85\0\x1c", "é\n": '"\\'}], False, "\n", "")
def test_json_objects_come_out_equal_in_order(folder: Path, rows: list, ascii_only: bool, end: str, bom: str) -> None:
    lines = [json.dumps(row, ensure_ascii=ascii_only) + end for row in rows]
    source = written(folder / "a.jsonl", bom + "".join(lines))
    converted = json_lines(convert([source], folder / "out", field="text"))
    assert [list(row.items()) for row in converted] == [list(row.items()) for row in rows]


@few
@given(json_rows)
def test_json_objects_gain_redacted_and_spans(folder: Path, rows: list) -> None:
    source = written(folder / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    converted = json_lines(convert([source], folder / "out", "jsonl", str.swapcase, field="text"))
    assert converted == [{**row, "redacted": row["text"].swapcase(), "spans": [SPAN]} for row in rows]


def test_numbers_are_lines_and_blank_lines_are_no_records(tmp_path: Path) -> None:
    source = written(tmp_path / "a.jsonl", '\n{"text": "a"}\n \r\n{"text": ""}')
    assert [(r.number, r.text) for r in read_records(source, field="text")] == [(2, "a"), (4, "")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "' + CANARY.encode() + b'\xe9"}', "not UTF-8"),
        (b'{"text": "\xed\xa0\x80"}', "not UTF-8"),
        (b'{"text": "' + CANARY.encode(), "broken JSON"),
        (b'{"text": "a"} ' + CANARY.encode(), "broken JSON"),
        (CANARY.encode(), "broken JSON"),
        (b"\0", "broken JSON"),
        (b'["' + CANARY.encode() + b'"]', "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"' + CANARY.encode() + b'": "a"}', "no field text"),
        (b'{"text": null}', "no field text"),
        (b'{"text": 1}', "no field text"),
        (b'{"text": ["a"]}', "no field text"),
        (b'{"text": "' + CANARY.encode() + b'\\ud800"}', "lone surrogate"),
        (b'{"text": "a", "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "JSON nested too deep"),
        (b'{"text": "a", "deep": ' + b'{"a":' * 300 + b"1" + b"}" * 301, "JSON nested too deep"),
        (b'{"text": "a", "deep": ' + b"[" * 100_000, "JSON nested too deep"),
        (b'{"text": "' + CANARY.encode() + b'", "id": 1, "te\\u0078t": "a"}', "2 times the field text"),
        (b'{"text": 1, "text": "' + CANARY.encode() + b'"}', "2 times the field text"),
    ],
)
def test_a_bad_json_line_is_told_and_the_lines_around_it_go_on(tmp_path: Path, line: bytes, reason: str) -> None:
    source = written(tmp_path / "a.jsonl", b'{"text": "before"}\n' + line + b'\n{"text": "after"}\n')
    before, bad, after = read_records(source, field="text")
    assert bad == BadRecord(source, 2, reason, line + b"\n")
    assert (before.text, before.number, after.text, after.number) == ("before", 1, "after", 3)


def test_json_nested_as_deep_as_allowed_can_be_written(tmp_path: Path) -> None:
    row = b'{"text": "a", "deep": ' + b"[" * 199 + b"]" * 199 + b"}\n"
    source = written(tmp_path / "a.jsonl", row)
    assert json_lines(convert([source], tmp_path / "out", field="text")) == [json.loads(row)]


def test_the_fields_beside_the_text_keep_what_only_json_can_hold(tmp_path: Path) -> None:
    row = b'{"text": "a\\u0000\\ud83d\\ude00", "\\udc00": "\\ud800 \xc3\xa9", "n": NaN}\n'
    source = written(tmp_path / "a.jsonl", row)
    assert convert([source], tmp_path / "out", field="text") == row
    converted = convert([source], tmp_path / "out", edit=lambda text: text + "é", field="text")
    assert converted == row.replace(b'\\ude00"', b'\\ude00\\u00e9"')


@pytest.mark.parametrize(("kind", "content"), [("field", '{"text": "é"}\n'), ("column", "id,text\n1,é\n")])
def test_a_gzip_file_is_read_as_the_file_in_it(tmp_path: Path, kind: str, content: str) -> None:
    source = written(tmp_path / "a.gz", gzip.compress(content.encode()))
    assert convert([source], tmp_path / "out", **{kind: "text"}) == content.encode()


# CSV

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=",;\t|\r\n\ufeff")).filter("text".__ne__)
csv_tables = st.lists(names, min_size=1, max_size=3, unique=True).flatmap(
    lambda header: st.tuples(
        st.permutations([*header, "text"]),
        st.lists(st.lists(texts, min_size=len(header) + 1, max_size=len(header) + 1), max_size=4),
    )
)


def csv_bytes(
    rows: list[list[str]], delimiter: str = ",", end: str = "\r\n", quoting: int = csv.QUOTE_MINIMAL
) -> bytes:
    """The table as csv writes it, then each row's line end replaced: so Python 3.11 quotes carriage returns too."""
    lines = []
    for row in rows:
        buffer = io.StringIO(newline="")
        csv.writer(buffer, delimiter=delimiter, quoting=quoting).writerow(row)
        lines.append(buffer.getvalue()[:-2] + end)
    return "".join(lines).encode()


def parsed(content: bytes, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode(), newline=""), delimiter=delimiter, strict=True))


@settings(max_examples=100, deadline=None)
@given(
    csv_tables,
    st.sampled_from(",;\t|"),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from([b"", "\ufeff".encode()]),
)
@example((["text"], [['a "quoted", b'], [""], ["x\r\ny\nz\rw"], ["\0\u2028\x85\x1c"]]), ",", "\n", 0, b"")
@example((["id", "text", "", ""], [["1", "a;b", "", "\r"], ["2", "", "", ""]]), ",", "\r\n", 0, b"")
@example((["a,b,c", "text"], [["1", "2"]]), ";", "\r\n", 1, b"")
def test_csv_rows_come_out_equal_under_their_header(folder: Path, table, delimiter, end, quoting, bom) -> None:
    header, rows = table
    source = written(folder / "a.csv", bom + csv_bytes([header, *rows], delimiter, end, quoting))
    converted = convert([source], folder / "out", column="text")
    assert converted == bom + csv_bytes([header, *rows], delimiter, end)
    assert parsed(converted.removeprefix(bom), delimiter) == [header, *rows]
    records = [(record.number, record.text) for record in read_records(source, column="text")]
    assert records == [(number, row[header.index("text")]) for number, row in enumerate(rows, start=1)]


@pytest.mark.parametrize("delimiter", list(",;\t|"))
def test_the_delimiter_is_found_in_the_header_alone(tmp_path: Path, delimiter: str) -> None:
    rows = [["id", "text", "a;b|c"], ["1", ",,,;;;|||\t\t\t", "x"]]
    source = written(tmp_path / "a.csv", csv_bytes(rows, delimiter))
    assert convert([source], tmp_path / "out", column="text") == csv_bytes(rows, delimiter)


def test_only_the_column_changes(tmp_path: Path) -> None:
    source = written(tmp_path / "a.csv", 'id;text\r\n1;Mr X\r\n\r\n2;\r\n3;"Mr; Y"')
    converted = convert([source], tmp_path / "out", edit=lambda text: text.replace("Mr", "[PREFIX]"), column="text")
    assert converted == b'id;text\r\n1;[PREFIX] X\r\n2;\r\n3;"[PREFIX]; Y"'


@pytest.mark.parametrize("content", [b"id,text\r\n", b"id,text\n", "\ufeffid,text\r\n".encode()])
def test_csv_without_rows_comes_out_with_its_header(tmp_path: Path, content: bytes) -> None:
    source = written(tmp_path / "a.csv", content)
    assert convert([source], tmp_path / "out", column="text") == content


def test_rows_carry_their_header_when_nobody_told_it(tmp_path: Path) -> None:
    source = written(tmp_path / "a.csv", content := b"id\ttext\r\n1\ta\r\n")
    with RecordWriter(tmp_path / "out", "redacted", column="text") as writer:
        for record in read_records(source, column="text"):
            writer.write(record, record.text, [])
    assert (tmp_path / "out").read_bytes() == content


def test_csv_files_of_the_same_columns_share_one_header(tmp_path: Path) -> None:
    sources = [written(tmp_path / "a.csv", "id,text\n1,a\n"), written(tmp_path / "b.csv", 'id;text\r\n2;"b,c"\r\n')]
    assert convert(sources, tmp_path / "out", column="text") == b'id,text\n1,a\n2,"b,c"\n'
    sources.append(written(tmp_path / "c.csv", f"{CANARY},text\n1,a\n"))
    with pytest.raises(UserError, match="different columns") as error:
        convert(sources, tmp_path / "out", column="text")
    assert CANARY not in str(error.value)


def test_columns_of_one_name_lose_no_cell(tmp_path: Path) -> None:
    source = written(tmp_path / "a.csv", content := b"a,text,a,,\n1,b,2,3,4\n")
    assert convert([source], tmp_path / "out", column="text") == content
    (row,) = json_lines(convert([source], tmp_path / "out", "jsonl", column="text"))
    assert [row[key] for key in ("a", "text", "a_3", "", "_5")] == ["1", "b", "2", "3", "4"]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (f"2,{CANARY}\xe9\n".encode("latin-1"), "not UTF-8"),
        (b"2,\xed\xa0\x80\n", "not UTF-8"),
        (f'2,"{CANARY}\n\xe9"\n'.encode("latin-1"), "not UTF-8"),
        (f"2,{CANARY},x\n".encode(), "3 cells under 2 columns"),
        (f"{CANARY}\n".encode(), "1 cells under 2 columns"),
        (b" \n", "1 cells under 2 columns"),
        (f'2,"{CANARY}" x\n'.encode(), "broken CSV"),
    ],
)
def test_a_bad_csv_row_is_told_and_the_rows_around_it_go_on(tmp_path: Path, lines: bytes, reason: str) -> None:
    source = written(tmp_path / "a.csv", b"id,text\n1,before\n" + lines + b'3,"after"\n')
    before, bad, after = read_records(source, column="text")
    assert bad == BadRecord(source, 2, reason, lines)
    assert (before.text, before.number, after.text, after.number) == ("before", 1, "after", 3)


@pytest.mark.parametrize("good", ["x", "x,y", 'x ""y""'])
@pytest.mark.parametrize("count", [0, 1, MOST_REREAD - 2])
def test_a_quote_that_never_closes_costs_one_row(tmp_path: Path, good: str, count: int) -> None:
    cell = good if good == "x" else f'"{good}"'
    source = written(tmp_path / "a.csv", f'id,text\n1,before\n2,"{CANARY}\n' + f"3,{cell}\n" * count)
    before, bad, *after = read_records(source, column="text")
    assert (before.text, bad.reason, bad.raw.decode()) == ("before", "broken CSV", f'2,"{CANARY}\n')
    assert [record.text for record in after] == [good.replace('""', '"')] * count


def test_a_cell_of_any_length_and_of_many_lines_is_a_record(tmp_path: Path) -> None:
    text = "line\n" * 100_000
    source = written(tmp_path / "a.csv", f'id,text\n1,"{text}"\n2,b\n')
    assert [record.text for record in read_records(source, column="text")] == [text, "b"]


@few
@given(st.binary(max_size=60), st.booleans())
def test_no_bytes_of_csv_end_in_a_traceback_or_get_lost(folder: Path, content: bytes, inside_quotes: bool) -> None:
    head = b'id,text\n1,"' if inside_quotes else b"id,text\n"
    source = written(folder / "a.csv", head + content)
    records = list(read_records(source, column="text"))
    assert [record.number for record in records] == list(range(1, len(records) + 1))
    if not any(isinstance(record, Record) for record in records):
        kept = b"".join(record.raw for record in records)
        assert kept.translate(None, b"\r\n") == (head.removeprefix(b"id,text\n") + content).translate(None, b"\r\n")


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", f"{CANARY},b,c\n1,2,3\n".encode(), b"text,text\n", b'"text\n', b"id,text,\xe9\n", b"\xff\xfet\0"],
)
def test_csv_without_the_column_is_a_users_error_that_names_no_other(tmp_path: Path, content: bytes) -> None:
    source = written(tmp_path / "a.csv", content)
    with pytest.raises(UserError, match=r"a\.csv") as error:
        list(read_records(source, column="text"))
    assert CANARY not in str(error.value)


# Sources


@pytest.mark.parametrize("kind", [{}, {"field": "text"}, {"column": "text"}])
def test_a_file_that_cannot_be_read_is_a_users_error(tmp_path: Path, kind: dict) -> None:
    for source in (tmp_path / "missing", tmp_path):
        with pytest.raises(UserError, match=source.name):
            list(read_records(str(source), **kind))


def test_damaged_gzip_is_a_users_error_and_leaves_the_old_output(tmp_path: Path) -> None:
    lines = b"".join(b'{"text": "%d"}\n' % i for i in range(20_000))
    packed = gzip.compress(lines)
    (tmp_path / "out").write_text("old", encoding="utf-8")
    middle = len(packed) // 2
    for damaged in (packed[:middle], packed[:middle] + b"\0" * 99 + packed[middle:], CANARY.encode(), packed + b"xy"):
        source = written(tmp_path / "a.jsonl.gz", damaged)
        with pytest.raises(UserError, match=r"a\.jsonl\.gz") as error:
            convert([source], tmp_path / "out", field="text")
        assert "xy" not in str(error.value)
        assert (tmp_path / "out").read_text(encoding="utf-8") == "old"


@pytest.mark.parametrize(
    ("kind", "content"),
    [({}, b"a\r\n\0"), ({"field": "text"}, b'{"text": "a"}\n'), ({"column": "text"}, b"id,text\n1,a\n")],
)
def test_standard_input_and_output(monkeypatch: pytest.MonkeyPatch, kind: dict, content: bytes) -> None:
    stdin, stdout = io.BytesIO(content), io.BytesIO()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=stdin))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=stdout))
    with RecordWriter(None, "redacted", **kind) as writer:
        for record in read_records("-", **kind):
            assert record.source == "-"
            writer.write(record, record.text, [])
    assert stdout.getvalue() == content
    assert not stdin.closed


def endless(path: Path, head: bytes, line: bytes, done: threading.Event) -> threading.Thread:
    """Write a line, then wait, as a slow producer does; then write 60 MB more."""

    def produce() -> None:
        with path.open("wb", buffering=0) as fifo:
            fifo.write(head + line)
            assert done.wait(10)
            for _ in range(3000):
                fifo.write(line)

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("kind", "head", "line"),
    [
        ({"field": "text"}, b"", json.dumps({"text": "x" * 20_000}).encode() + b"\n"),
        ({"column": "text"}, b"id,text\n", b'1,"' + b"x" * 20_000 + b'"\n'),
    ],
)
def test_records_come_before_the_input_ends_and_memory_stays_bounded(tmp_path: Path, kind, head, line) -> None:
    os.mkfifo(fifo := tmp_path / "fifo")
    first_read = threading.Event()
    thread = endless(fifo, head, line, first_read)
    records = read_records(str(fifo), **kind)
    assert next(records).text == "x" * 20_000
    first_read.set()
    tracemalloc.start()
    try:
        assert sum(1 for _ in records) == 3000
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    thread.join(10)


def test_reading_may_stop_early(tmp_path: Path) -> None:
    source = written(tmp_path / "a.csv", "id,text\n" + "1,a\n" * 100)
    assert len(list(islice(read_records(source, column="text"), 3))) == 3
