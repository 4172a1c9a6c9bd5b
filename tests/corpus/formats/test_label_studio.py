"""Label Studio's exports. The rows here are as label-studio-sdk 2.1.2's converter reads and writes them."""

import csv
import io
import json
from pathlib import Path

import pytest

from pii.common import UserError
from pii.corpus.doubts.units import UTF_16
from pii.corpus.formats.fields import NOT_SUBMITTED, RowError
from pii.corpus.sources.source import Source
from tests.corpus.formats.example import SPANS, TEXT, row_of, utf_16

CONFIG = """<View><Labels name="label" toName="text"><Label value="NAME"/><Label value="CITY"/><Label value="DATE"/>
</Labels><Text name="text" value="$text"/></View>"""


def result(start: int, end: int, label: str) -> dict:
    value = {"start": start, "end": end, "text": TEXT[start:end], "labels": [label]}
    return {"id": f"{start}", "type": "labels", "from_name": "label", "to_name": "text", "value": value}


RESULTS = [result(*span) for span in SPANS]
CHOICE = {"id": "c", "type": "choices", "from_name": "kind", "to_name": "text", "value": {"choices": ["letter"]}}
OTHER = {"result": RESULTS[:1]}


def task(*annotations: dict, **data: str) -> dict:
    who = {"id": 1, "completed_by": 1, "was_cancelled": False, "ground_truth": False}
    return {
        "id": 7,
        "data": data or {"text": TEXT, "source": "mail"},
        "annotations": [who | annotation for annotation in annotations],
        "predictions": [OTHER],
        "drafts": [],
    }


def minimal(**fields: object) -> dict:
    marks = [result["value"] for result in RESULTS]
    return {"id": 7, "text": TEXT, "label": marks, "annotator": 1, "annotation_id": 5, "lead_time": 1.2} | fields


def line_of_csv(**cells: object) -> dict:
    marks = json.dumps([result["value"] for result in RESULTS], ensure_ascii=False)
    return {"annotation_id": 5, "annotator": 1, "id": 7, "label": marks, "lead_time": 1.2, "text": TEXT} | cells


def table(*lines: dict, delimiter: str = ",") -> str:
    """As csv2 of label-studio-sdk's converter writes it."""
    out = io.StringIO(newline="")
    names = sorted({name for line in lines for name in line})
    writer = csv.DictWriter(out, names, quoting=csv.QUOTE_NONNUMERIC, delimiter=delimiter)
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def rows_in(path: Path) -> list[tuple]:
    return [(place, row_of(json.loads(line))) for place, line in Source(path).lines()]


LINE = line_of_csv()
NAMED = {name: cell for name, cell in line_of_csv(label="", pii=LINE["label"], letter=TEXT).items() if name != "text"}
AGREED = line_of_csv(annotation_id=6, label=json.dumps([result["value"] for result in RESULTS[::-1]]))
FORMS = {
    "json": task({"result": RESULTS}),
    "choices and relations": task({"result": [CHOICE, *RESULTS, {"type": "relation", "from_id": "1", "to_id": "2"}]}),
    "another field": task({"result": RESULTS}, letter=TEXT, title="Dear"),
    "ground truth": task(OTHER, {"result": RESULTS, "ground_truth": True}),
    "cancelled": task({"result": RESULTS}, OTHER | {"was_cancelled": True}),
    "two that agree": task({"result": RESULTS}, {"result": RESULTS[::-1]}),
    "min": minimal(),
    "min, another name": {**minimal(label="letter"), "pii": minimal()["label"]},
    "csv": {"label_studio": [LINE]},
    "csv in one row": LINE,
    "csv, two that agree": {"label_studio": [LINE, AGREED]},
    "csv, other names": {"label_studio": [{**NAMED, "title": "Dear"}]},
    "csv, annotations called text": {"label_studio": [line_of_csv(text=LINE["label"], label="", _data_text=TEXT)]},
    "csv, a list in the data": {"label_studio": [line_of_csv(turns='[{"who": "Ann"}]')]},
}


@pytest.mark.parametrize("fields", FORMS.values(), ids=FORMS)
def test_every_export_gives_the_text_and_the_spans_to_the_character(fields):
    row = row_of(fields)
    assert row.text == TEXT and row.spans == SPANS


def test_a_task_without_marks_is_a_text_without_spans():
    assert row_of(task({"result": []})).spans == []
    assert row_of({"id": 7, "text": TEXT, "annotator": 1, "annotation_id": 5, "created_at": "2026"}).spans == []
    assert row_of({"label_studio": [{**NAMED, "pii": ""}]}).spans == []
    for names in ({"text": "[{name}]"}, {"text": "", "_data_text": "[{name}]"}, {"letter": "[name]"}):
        row = row_of({"label_studio": [{"annotation_id": "5", "id": "7", "label": "", **names}]})
        assert "name" in row.text and row.spans == []


def test_line_breaks_in_values_may_be_written_as_label_studio_writes_them():
    start = TEXT.index("Étienne")
    value = {"start": start, "end": start + 10, "labels": ["A"], "text": "Étienne\\nle"}
    assert row_of(task({"result": [{"value": value}]})).spans == [(start, start + 10, "A")]


def test_offsets_of_javascript_are_recognised():
    value = RESULTS[-1]["value"]
    value = value | {"start": utf_16(value["start"]), "end": utf_16(value["end"])}
    with pytest.raises(RowError, match=UTF_16):
        row_of(task({"result": [{"value": value}]}))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (task(), NOT_SUBMITTED),
        (task({"result": RESULTS, "was_cancelled": True}), NOT_SUBMITTED),
        (task({"result": RESULTS}, OTHER), "several annotations that differ"),
        (minimal(annotation_id=None), NOT_SUBMITTED),
        ({"label_studio": [line_of_csv(annotation_id="", label="")]}, NOT_SUBMITTED),
        ({"label_studio": [LINE, line_of_csv(annotation_id=6, label="")]}, "several annotations that differ"),
        ({"label_studio": [line_of_csv(label=LINE["label"][:99])]}, "neither JSON nor Python"),
        ({"label_studio": [line_of_csv(text="Zoé")]}, "offsets out of range"),
        (task({"result": None}), "an annotation without a list of results"),
        (task({"result": []}, one="a", two="b"), "no field `text`"),
        (task({"result": [{"value": {"start": "/p[1]", "end": "/p[1]", "labels": ["A"]}}]}), "not integers"),
        (task({"result": [{"value": {"start": 0, "end": 3, "labels": [["A"]]}}]}), "not start, end, labels and text"),
    ],
)
def test_tasks_that_cannot_be_right_say_why(fields, reason):
    with pytest.raises(RowError, match=reason):
        row_of(fields)


# CSV and TSV


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", "\t"])
@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_the_annotations_of_a_task_are_one_row_of_a_table(tmp_path, encoding, delimiter, end):
    """Each task's lines stand together; the long one has cells longer than Python's csv takes by itself."""
    long = "x" * 200_000
    other = line_of_csv(id=8, text=long, label="", annotation_id=9)
    content = table(LINE, AGREED, other, line_of_csv(id=9), delimiter=delimiter)
    content = content.replace(TEXT, "TEXT").replace("\r\n", end).replace("TEXT", TEXT)
    (tmp_path / "a.csv").write_bytes(content.encode(encoding))
    (first, task), (_, without), (_, last) = rows_in(tmp_path / "a.csv")
    assert first == 2 and (task.text, task.spans) == (last.text, last.spans) == (TEXT, SPANS)
    assert (without.text, without.spans) == (long, [])


def test_a_table_says_the_language_and_may_lack_the_number_of_its_tasks(tmp_path):
    lines = [{name: cell for name, cell in {**LINE, "language": "fr"}.items() if name != "id"}] * 2
    (tmp_path / "a.tsv").write_bytes(table(*lines, delimiter="\t").encode())
    assert [row.language for _, row in rows_in(tmp_path / "a.tsv")] == ["fr", "fr"]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (table(LINE).encode()[:-40], "line 2 is no sound CSV: unexpected end of data"),
        (table(LINE).replace("🙂", "").encode("cp1252"), "line 2 is not UTF-8, likely cp1252"),
        (table(LINE).replace('"annotation_id",', "", 1).encode(), "has no columns"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_line_without_its_text(tmp_path, raw, reason):
    (tmp_path / "a.csv").write_bytes(raw)
    with pytest.raises(UserError, match=reason) as caught:
        rows_in(tmp_path / "a.csv")
    assert "\n" not in str(caught.value) and "Lee" not in str(caught.value)


@pytest.mark.parametrize("kind", ["JSON", "JSON_MIN", "CSV", "TSV", "CONLL2003"])
def test_what_label_studios_own_converter_writes_is_read(tmp_path, kind):
    converter = pytest.importorskip("label_studio_sdk.converter")
    (tmp_path / "in.json").write_text(json.dumps([task({"result": RESULTS})]))
    made = converter.Converter(config=CONFIG, project_dir=str(tmp_path))
    made.convert(str(tmp_path / "in.json"), str(tmp_path / "out"), kind, is_dir=False)
    (path,) = (tmp_path / "out").iterdir()
    ((_, line),) = Source(path).lines()
    row = row_of(json.loads(line))
    if kind != "CONLL2003":  # which has no offsets, and splits words in its own way
        assert row.text == TEXT and row.spans == SPANS
    else:
        assert {row.text[s:e] for s, e, _ in row.spans} >= {"Zoé", "Lee"}
