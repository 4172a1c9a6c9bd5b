"""Spans that cut a word or a number are told from those that end where a word does."""

import numpy as np
import pytest

from pii.corpus.doubts.cuts import cutting_spans
from pii.corpus.spans import JoinedText


def cut_of(*marked: str) -> list[bool]:
    """Which spans cut, in order, of texts in which each span stands in ⟦⟧."""
    texts, spans, counts = [], [], []
    for text in marked:
        plain, places = "", []
        for character in text:
            if character in "⟦⟧":
                places.append(len(plain))
            else:
                plain += character
        spans += [[start, end, 1] for start, end in zip(places[::2], places[1::2], strict=True)]
        counts.append(len(places) // 2)
        texts.append(plain)
    return cutting_spans(JoinedText.of(texts), np.array(spans, int).reshape(-1, 3), np.array(counts, int)).tolist()


@pytest.mark.parametrize(
    "text",
    [
        "Born ⟦12.03.19⟧80",
        "Born 1⟦2.03.1980⟧",
        "Born ⟦12.03⟧.1980",
        "Born ⟦12.03.⟧1980",
        "Born 12⟦.03.1980⟧",
        "Born ⟦12/03⟧/1980",
        "Born ⟦1980-12-⟧31",
        "at ⟦10:30⟧:15",
        "for ⟦1,234⟧.50 euros",
        "for 1’⟦234⟧ francs",
        "Call ⟦An⟧n",
        "Call A⟦nn⟧",
        "Mme ⟦Zo⟧é",
        "Mme ⟦Zoe⟧\u0301",
        "Mme ⟦Zoe\u0301⟧lie",
        "Mme Zoe⟦\u0301lie⟧",
        "M. ⟦Sn⟧ŷder",
        "Ask O'⟦Brien⟧",
        "Ask ⟦O⟧’Brien",
        "⟦aujourd⟧'hui",
        "Иван ⟦Петр⟧ов",
        "नाम ⟦सीत⟧ा",
        "٠٦⟦١٢⟧",
    ],
)
def test_a_span_that_cuts_a_word_or_a_number(text):
    assert cut_of(text) == [True]


@pytest.mark.parametrize(
    "text",
    [
        "⟦46117⟧Main",
        "⟦Main⟧46117",
        "⟦Miss⟧⟦Miss⟧",
        "⟦12⟧⟦34⟧",
        "⟦1234⟧,⟦567⟧",
        "⟦12⟧-14",
        "⟦10:00⟧-11:00",
        "⟦10.0.0.1⟧:8080",
        "⟦10.0.0.1⟧/24",
        "habite à l'⟦Étoile⟧",
        "près d’⟦Angers⟧",
        "PRÈS D'⟦ANGERS⟧",
        "puisqu'⟦Anne⟧ vient",
        "⟦Ann⟧'s house",
        "⟦Ann⟧’s",
        "⟦d'⟧Artagnan",
        "'⟦Ann⟧'",
        "⟦Jean⟧-Luc",
        "⟦john⟧_smith",
        "⟦ann⟧@example.com",
        "born ⟦12.03.1980⟧.",
        "born ⟦12.03.1980⟧, in",
        "⟦Zoe\u0301⟧ and",
        "❤\ufe0f⟦Ann⟧",
        "⟦Ann⟧❤\ufe0f",
        "🙂⟦Ann⟧🙂",
        "我是⟦李雷⟧吗",
        "⟦Ann⟧",
    ],
)
def test_a_span_that_ends_where_a_word_does(text):
    assert not any(cut_of(text))


def test_each_span_of_many_texts_is_judged_in_its_own_text():
    assert cut_of("⟦An⟧n and ⟦Bob⟧", "no span", "", "⟦n⟧", "⟦1⟧", "⟦2⟧ and B⟦o⟧b") == [True] + [False] * 4 + [True]


def test_text_without_spans_has_none_that_cut():
    assert cut_of("nothing", "") == [] and cut_of() == []
