"""doccano, Prodigy, spaCy, Presidio, Nemotron-PII and Gretel: one text, one list of spans, many spellings."""

import json

import pytest

from pii.corpus.doubts.units import UTF_16
from pii.corpus.formats.fields import NOT_ACCEPTED, RowError
from pii.corpus.rows import misread
from tests.corpus.formats.example import SPANS, TEXT, row_of, utf_16

OBJECTS = [{"start": s, "end": e, "label": label} for s, e, label in SPANS]
TYPED = [{"entity_type": label, "start": s, "end": e, "score": 0.85} for s, e, label in SPANS]
NEMOTRON = [{"start": s, "end": e, "text": TEXT[s:e], "label": label} for s, e, label in SPANS]
OFFSETS = [{"id": i, "label": label, "start_offset": s, "end_offset": e} for i, (s, e, label) in enumerate(SPANS)]
FORMS = {
    "doccano": {"id": 1, "text": TEXT, "label": SPANS, "Comments": []},
    "doccano labels": {"id": 1, "text": TEXT, "labels": SPANS},
    "doccano 1.5": {"id": 1, "data": TEXT, "label": SPANS},
    "doccano relations": {"id": 1, "text": TEXT, "entities": OFFSETS, "relations": [], "Comments": []},
    "doccano annotations": {"text": TEXT, "annotations": OFFSETS},
    "prodigy": {"text": TEXT, "spans": OBJECTS, "tokens": [{"text": "Zoé", "start": 0}], "answer": "accept"},
    "spaCy": {"text": TEXT, "ents": OBJECTS},
    "spaCy tuple": [TEXT, {"entities": SPANS}],
    "presidio": {"text": TEXT, "results": TYPED},
    "presidio entities": {"text": TEXT, "entities": TYPED},
    "nemotron string": {"uid": "a", "text": TEXT, "spans": repr(NEMOTRON), "text_tagged": "..."},
    "nemotron JSON": {"text": TEXT, "spans": json.dumps(NEMOTRON)},
    "nemotron list": {"text": TEXT, "spans": NEMOTRON},
    "gretel finance": {"generated_text": TEXT, "pii_spans": json.dumps(OBJECTS), "language": "French"},
    "gretel": {"text": TEXT, "entities": repr([{"entity": TEXT[s:e], "types": [label]} for s, e, label in SPANS])},
}


@pytest.mark.parametrize("fields", FORMS.values(), ids=FORMS)
def test_every_form_gives_the_text_and_the_spans_to_the_character(fields):
    row = row_of(fields)
    assert row.text == TEXT and row.spans == SPANS


@pytest.mark.parametrize("name", ["spans", "label", "labels", "entities", "ents", "annotations", "results"])
def test_a_text_without_spans_is_a_row_in_every_form(name):
    assert row_of({"text": TEXT, name: []}).spans == []


@pytest.mark.parametrize("name", ["doccano", "doccano relations", "prodigy", "presidio", "nemotron list"])
def test_offsets_of_javascript_are_recognised_in_every_form(name):
    def moved(value: object) -> object:
        if isinstance(value, dict):
            is_offset = {"start", "end", "start_offset", "end_offset"} & value.keys()
            return {k: utf_16(v) if k in is_offset else moved(v) for k, v in value.items()}
        if isinstance(value, tuple):
            return [utf_16(value[0]), utf_16(value[1]), value[2]]
        return [*map(moved, value)] if isinstance(value, list) else value

    fields = moved({key: value for key, value in FORMS[name].items() if key != "tokens"})
    if name == "nemotron list":  # which has values
        with pytest.raises(RowError, match=UTF_16):
            row_of(fields)
    else:
        assert misread(json.dumps(fields).encode()) == UTF_16


@pytest.mark.parametrize("answer", ["reject", "ignore"])
def test_what_an_annotator_did_not_accept_is_left_out(answer):
    with pytest.raises(RowError, match=NOT_ACCEPTED):
        row_of(FORMS["prodigy"] | {"answer": answer})


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"text": TEXT, "spans": [OBJECTS[0], SPANS[1]]}, "spans that are no list of objects"),
        ({"text": TEXT, "spans": [SPANS[0], OBJECTS[1]]}, r"spans that are not \[start, end, label\]"),
        ({"text": TEXT, "spans": {"sc": OBJECTS}}, "no known form"),
        ({"text": TEXT, "spans": [{"start": 0, "end": 3}]}, "a span without a label"),
        ({"text": TEXT, "spans": [{"token_start": 0, "label": "A"}]}, "offsets that are not integers"),
        ({"text": TEXT, "spans": [{**NEMOTRON[0], "end": 2}]}, "a value that differs from the text"),
        ({"text": TEXT, "label": ["positive"]}, r"spans that are not \[start, end, label\]"),
        ({"text": TEXT, "label": "positive"}, "span notation that is neither JSON nor Python"),
        ({"text": TEXT, "start": 0, "end": 3, "label": "NAME"}, "neither JSON|one span a row"),
        ({"text": TEXT, "start": 0, "end": 3, "entity_type": "NAME"}, "one span a row"),
        ({"spans": OBJECTS}, "no known form"),
    ],
)
def test_rows_that_cannot_be_right_say_why(fields, reason):
    with pytest.raises(RowError, match=reason):
        row_of(fields)


# Values that are searched


def gretel(text: str, *entities: tuple) -> list:
    listed = [{"entity": value, "types": types} for value, *types in entities]
    return row_of({"text": text, "entities": listed}).spans


def test_a_value_listed_as_often_as_it_stands_there_is_found_everywhere():
    assert gretel("Ann met Ann, not Annie.", ("Ann", "N"), ("Ann", "N")) == [(0, 3, "N"), (8, 11, "N")]


def test_a_value_within_a_longer_one_is_not_ambiguous():
    assert gretel("Ann Lee and Lee.", ("Lee", "L"), ("Ann Lee", "F")) == [(0, 7, "F"), (12, 15, "L")]
    assert gretel("Ann Lee.", ("Lee", "L"), ("Ann Lee", "F")) == [(0, 7, "F")]


def test_a_value_that_stands_in_no_place_as_a_word_is_found_within_one():
    assert gretel("ID4711x", ("4711", "ID")) == [(2, 6, "ID")]


@pytest.mark.parametrize(
    ("text", "entities", "reason"),
    [
        ("Ann met Ann.", [("Ann", "N")], "more often than it is listed"),
        ("Ann", [("Bob", "N")], "not in the text"),
        ("Ann", [("Ann", "N", "M")], "several types"),
        ("Ann Ann", [("Ann", "N"), ("Ann", "M")], "several types"),
        ("Ann", [("Ann",)], "without a value or a type"),
        ("Ann", [(" ", "N")], "without a value or a type"),
        ("Ann", [("Ann", 7)], "a span without a label"),
    ],
)
def test_an_ambiguous_value_is_refused_with_the_reason(text, entities, reason):
    with pytest.raises(RowError, match=reason) as caught:
        gretel(text, *entities)
    assert "Ann" not in str(caught.value)
