"""Offsets that count UTF-16 units or bytes are recognised as such, and what only looks like it is not."""

import itertools
import json

import pytest

from pii.corpus.doubts.units import BYTES, UTF_16
from pii.corpus.formats.fields import RowError
from pii.corpus.rows import misread, parse_row
from pii.corpus.staging import Task, prepare_chunk

TEXT = "🙂 Ask Zoé about 👍🏽 Ann Lee."
VALUES = ["Zoé", "Ann Lee"]


def length(text: str, unit: str) -> int:
    return len(text.encode({"UTF-16": "utf-16-le", "bytes": "utf-8"}[unit])) // (2 if unit == "UTF-16" else 1)


def places(unit: str, text: str = TEXT, values: list[str] = VALUES) -> list[tuple[int, int]]:
    starts = [text.index(value) for value in values]
    return [(length(text[:s], unit), length(text[: s + len(v)], unit)) for s, v in zip(starts, values, strict=True)]


def line_of(fields: dict) -> bytes:
    return json.dumps(fields).encode()


def reason_of(line: bytes) -> str:
    """Why a row is refused, "" where it is not."""
    [*reasons] = prepare_chunk(Task("", "en", [(1, line)]), {}).rejected
    return reasons[0][1] if reasons else ""


def forms(unit: str) -> dict[str, bytes]:
    """The row in each form, its offsets counted in this unit."""
    spans = places(unit)
    mask = [{"value": v, "start": s, "end": e, "label": "NAME"} for (s, e), v in zip(spans, VALUES, strict=True)]
    presidio = [
        {"entity_value": v, "start_position": s, "end_position": e, "entity_type": "NAME"}
        for (s, e), v in zip(spans, VALUES, strict=True)
    ]
    edges = [0, *(edge for span in spans for edge in span), length(TEXT, unit)]
    tiles = [[s, e, "NAME_1" if i % 2 else "O"] for i, (s, e) in enumerate(itertools.pairwise(edges))]
    return {
        "values": line_of({"source_text": TEXT, "privacy_mask": mask}),
        "presidio": line_of({"full_text": TEXT, "spans": presidio}),
        "without values": line_of({"source_text": TEXT, "privacy_mask": [{**m, "value": None} for m in mask]}),
        "triples": line_of({"unmasked_text": TEXT, "span_labels": [[s, e, "NAME"] for s, e in spans]}),
        "tiling": line_of({"unmasked_text": TEXT, "span_labels": str(tiles)}),
    }


@pytest.mark.parametrize(("unit", "reason"), [("UTF-16", UTF_16), ("bytes", BYTES)])
@pytest.mark.parametrize("form", forms("bytes"))
def test_offsets_in_another_unit_are_recognised_in_every_form(unit, reason, form):
    assert reason_of(forms(unit)[form]) == reason
    assert ("UTF-16" if unit == "UTF-16" else "bytes") in reason and "characters" in reason


def test_offsets_within_the_text_that_would_cut_words_are_recognised_without_values():
    line = line_of({"unmasked_text": "🙂 Ann called about the order.", "span_labels": [[3, 6, "NAME"]]})
    assert parse_row(line).spans == [(3, 5, "NAME")]  # which no row alone tells from a span that is merely wrong
    assert misread(line) == UTF_16 and reason_of(line) == UTF_16


def test_a_span_beyond_the_text_but_not_beyond_its_utf_16_units():
    assert reason_of(line_of({"unmasked_text": "Ann 🙂", "span_labels": [[0, 6, "NAME"]]})) == UTF_16
    assert reason_of(line_of({"unmasked_text": "Ann 🙂", "span_labels": [[0, 7, "NAME"]]})) == "offsets out of range"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"unmasked_text": "Ann, Zoé", "span_labels": [[0, 9, "NAME"]]}, "offsets out of range"),
        ({"unmasked_text": "🙂 Ann", "span_labels": [[3, 99, "NAME"]]}, "offsets out of range"),
        ({"unmasked_text": "🙂 Ann", "span_labels": [[1, 10**30, "NAME"]]}, "offsets out of range"),
        ({"unmasked_text": "🙂 Ann", "span_labels": [[-1, 6, "NAME"]]}, "offsets out of range"),
        ({"unmasked_text": "🙂 Ann", "span_labels": [[1, 6, "NAME"]]}, "offsets out of range"),  # inside the emoji
        (
            {"source_text": "🙂 Ann", "privacy_mask": [{"value": "Bob", "start": 3, "end": 6, "label": "NAME"}]},
            "offsets out of range",
        ),
        (
            {"source_text": "🙂 Ann, too", "privacy_mask": [{"value": "Bob", "start": 3, "end": 6, "label": "NAME"}]},
            "a value that differs from the text",
        ),
        ({"unmasked_text": "Ann é🙂 xx", "span_labels": [[0, 2, "NAME"]]}, ""),  # cuts a word in every unit
        ({"unmasked_text": "🙂 Ann Lee", "span_labels": [[2, 4, "NAME"]]}, ""),
        ({"unmasked_text": "🙂 Ann Lee", "span_labels": [[2, 9, "NAME"]]}, ""),
        (
            {"source_text": "Ann 🙂 Ann", "privacy_mask": [{"value": "An", "start": 0, "end": 2, "label": "NAME"}]},
            "",
        ),
    ],
)
def test_rows_that_are_wrong_or_right_otherwise(fields, reason):
    assert reason_of(line_of(fields)) == reason


def test_a_misread_row_leaves_the_others_of_its_chunk_as_they_are():
    good = line_of({"unmasked_text": "Call Bob.", "span_labels": [[5, 8, "FRIEND"]]})
    bad = line_of({"unmasked_text": "🙂 Ann called.", "span_labels": [[3, 6, "NAME"]]})
    chunk = prepare_chunk(Task("", "en", [(1, b"broken"), (2, bad), (3, good), (4, b"{}")]), {})
    assert chunk.rejected == [(0, "broken JSON"), (1, UTF_16), (3, "no known form")]
    assert chunk.labels == ["O", "FRIEND"] and chunk.cutting == 0 and len(chunk.keys.texts) == 1
    assert chunk.rows.spans.tolist() == [[5, 8, 1]]


def test_the_reason_holds_nothing_of_the_row():
    with pytest.raises(RowError) as caught:
        parse_row(forms("UTF-16")["values"])
    assert not {"Zoé", "Ann"} & set(str(caught.value).split())
