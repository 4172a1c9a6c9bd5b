"""Text-bound annotations of brat, as its documentation of the standoff format states them."""

import pytest

from pii.corpus.formats.fields import RowError
from tests.corpus.formats.example import SPANS, TEXT, row_of

ANN = "".join(f"T{i}\t{label} {s} {e}\t{TEXT[s:e]}\n" for i, (s, e, label) in enumerate(SPANS, 1))
OTHERS = "R1\tKnows Arg1:T1 Arg2:T2\nE1\tMeet:T1\nA1\tOld T1\n#1\tAnnotatorNotes T1\tTitle?\n*\tEquiv T1 T2\n"


def brat(ann: str, text: object = TEXT):
    return row_of({"brat": {"text": text, "ann": ann}})


@pytest.mark.parametrize("ann", [ANN, OTHERS + ANN, ANN.replace("\n", "\r\n"), ANN.rstrip("\n")])
def test_spans_are_read_to_the_character(ann):
    row = brat(ann)
    assert row.text == TEXT and row.spans == SPANS


def test_no_annotations_are_a_text_without_spans():
    assert brat("").spans == []


def test_a_span_over_several_lines_is_one_span():
    text = "Ann\r\n  Lee, Bob"
    assert brat("T1\tA 0 3;7 10\tAnn Lee\n", text).spans == [(0, 10, "A")]


def test_a_line_break_in_a_value_is_a_space_in_the_annotation():
    start = TEXT.index("Étienne")
    assert brat(f"T1\tA {start} {start + 10}\tÉtienne le\n").spans == [(start, start + 10, "A")]


def test_a_text_whose_line_ends_became_those_of_windows_is_read_as_it_was():
    text = "Ann\r\nBob\r\nLee"
    assert brat("T1\tA 4 7\tBob\nT2\tA 8 11\tLee\n", text).spans == [(4, 7, "A"), (8, 11, "A")]
    assert brat("T1\tA 5 8\tBob\n", text).spans == [(5, 8, "A")]


@pytest.mark.parametrize(
    ("ann", "text", "reason"),
    [
        ("T1\tA 0 3;6 9\tZoé Lee\n", TEXT, "a discontinuous span"),
        ("T1\tA 6 9;0 3\tLee Zoé\n", TEXT, "a discontinuous span"),
        ("T1\tA 0\tZoé\n", TEXT, "no text-bound annotation"),
        ("T1 A 0 3 Zoé\n", TEXT, "no text-bound annotation"),
        ("T1\tA 0 " + "9" * 5000 + "\tZoé\n", TEXT, "no text-bound annotation"),
        ("T1\tA 0 999\tZoé\n", TEXT, "offsets out of range"),
        ("T1\tA 1 3\tZoé\n", TEXT, "a value that differs from the text"),
        (ANN, None, "no .txt beside the .ann"),
    ],
)
def test_annotations_that_cannot_be_right_say_why(ann, text, reason):
    with pytest.raises(RowError, match=reason):
        brat(ann, text)
