"""Label Studio's exports. The rows here are as label-studio-sdk 2.1.2's converter reads and writes them."""

import json

import pytest

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


FORMS = {
    "json": task({"result": RESULTS}),
    "choices and relations": task({"result": [CHOICE, *RESULTS, {"type": "relation", "from_id": "1", "to_id": "2"}]}),
    "another field": task({"result": RESULTS}, letter=TEXT, title="Dear"),
    "ground truth": task(OTHER, {"result": RESULTS, "ground_truth": True}),
    "cancelled": task({"result": RESULTS}, OTHER | {"was_cancelled": True}),
    "two that agree": task({"result": RESULTS}, {"result": RESULTS[::-1]}),
    "min": minimal(),
    "min, another name": {**minimal(label="letter"), "pii": minimal()["label"]},
}


@pytest.mark.parametrize("fields", FORMS.values(), ids=FORMS)
def test_every_export_gives_the_text_and_the_spans_to_the_character(fields):
    row = row_of(fields)
    assert row.text == TEXT and row.spans == SPANS


def test_a_task_without_marks_is_a_text_without_spans():
    assert row_of(task({"result": []})).spans == []
    assert row_of({"id": 7, "text": TEXT, "annotator": 1, "annotation_id": 5, "created_at": "2026"}).spans == []


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
        (task({"result": None}), "an annotation without a list of results"),
        (task({"result": []}, one="a", two="b"), "no field `text`"),
        (task({"result": [{"value": {"start": "/p[1]", "end": "/p[1]", "labels": ["A"]}}]}), "not integers"),
        (task({"result": [{"value": {"start": 0, "end": 3, "labels": [["A"]]}}]}), "not start, end, labels and text"),
    ],
)
def test_tasks_that_cannot_be_right_say_why(fields, reason):
    with pytest.raises(RowError, match=reason):
        row_of(fields)


@pytest.mark.parametrize("kind", ["JSON", "JSON_MIN", "CONLL2003"])
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
