"""Spans that take in too much or too little at an end are told from values that look so by nature."""

from collections.abc import Callable

import numpy as np
import pytest

from pii.corpus.doubts.edges import breaking, odd_edges, one_short, without_manners
from pii.corpus.spans import JoinedText


def found_by(find: Callable, *marked: str) -> list[bool]:
    """What `find` says of the spans, in order, of texts in which each span stands in ⟦⟧."""
    texts = [text.replace("⟦", "").replace("⟧", "") for text in marked]
    spans, counts = [], []
    for text in marked:
        places = [i - len([c for c in text[:i] if c in "⟦⟧"]) for i, c in enumerate(text) if c in "⟦⟧"]
        spans += [[start, end, 1] for start, end in zip(places[::2], places[1::2], strict=True)]
        counts.append(len(places) // 2)
    return find(JoinedText.of(texts), np.array(spans, int).reshape(-1, 3), np.array(counts, int)).tolist()


@pytest.mark.parametrize(
    "text",
    [
        "Ask her (⟦Ann)⟧ now",
        "Ask ⟦(Ann⟧) now",
        "Ask ⟦(Ann)⟧ now",
        "Ask «⟦Zoé»⟧ 🙂",
        'Ask "⟦Ann"⟧ now',
        'Ask ⟦"Ann"⟧ now',
        "Ask ‘⟦Ann’⟧ now",
        "Ask '⟦Ann'⟧, d'accord",
        "to ⟦<ann@example.org>⟧",
        "to [see ⟦12 Main St]⟧",
        "Ask⟦ Ann⟧",
        "Ask ⟦Ann\n⟧",
        "Ask ⟦\u200bAnn⟧",
        "Ask ⟦Ann\ufeff⟧",
        "Ask ⟦Ann\u00a0⟧",
    ],
)
def test_what_a_span_takes_in(text):
    assert found_by(odd_edges, "one (⟦two⟧)", text) == [False, True]


@pytest.mark.parametrize(
    "text",
    [
        "Call ⟦(704)794-5198⟧",
        "Call ⟦(33) 1 45 56⟧",
        "at ⟦[82.5,-63.8]⟧",
        "in ⟦Slovakia (Slovak Republic)⟧.",
        "(in ⟦Slovakia (Slovak Republic)⟧)",
        "is ⟦5'10\"⟧ tall",
        "the ⟦Smiths'⟧ house",
        "her password is ⟦k2)⟧",
        "see ⟦Ann⟧ (Bob)",
        '"⟦Ann⟧"',
        "⟦Ann (Bob⟧ Miller)",  # odd, but not at an end
    ],
)
def test_what_belongs_to_a_value(text):
    assert found_by(odd_edges, text) == [False]


def test_a_line_break_of_any_kind_inside_a_span():
    broken = [f"at ⟦12 Main St{mark}Bath⟧" for mark in ("\n", "\r\n", "\r", "\u2028", "\x85", "\x0b")]
    assert found_by(breaking, "⟦Ann⟧\n⟦Bob⟧", *broken) == [False, False] + [True] * len(broken)


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("Ask ⟦Ann Mille⟧r now", True),
        ("Ask ⟦Zo⟧é", True),
        ("Ask ⟦Zoe⟧\u0301 🙂", True),
        ("Born ⟦12.03.198⟧0", True),
        ("Ask ⟦Ann Mill⟧er now", False),
        ("Ask ⟦An⟧⟦n⟧", False),
        ("Ask ⟦Ann⟧.", False),
        ("Ask ⟦Ann⟧'s", False),
        ("Ask A⟦nn⟧", False),
    ],
)
def test_a_span_that_ends_one_character_too_early(text, short):
    assert found_by(one_short, text)[0] is short


def test_what_many_spans_of_a_label_do_is_its_manner():
    label_ids = np.array([1] * 100 + [2] * 100 + [3] * 4)
    odd = np.zeros(204, dtype=bool)
    odd[:20], odd[100:104], odd[200:] = True, True, True
    assert np.flatnonzero(without_manners(odd, label_ids)).tolist() == [100, 101, 102, 103, 200, 201, 202, 203]
