"""Tokens fit every span, hold no white space and cut no character."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pii.redaction.annotations.tokens import tokens_of
from pii.redaction.replacements import Span


def spans_in(marked: str, label: str = "NAME") -> tuple[str, list[Span]]:
    """A text whose spans stand in ⟦⟧, without them, and the spans; each is a little surer than the one before."""
    text, spans = "", []
    for i, part in enumerate(marked.replace("⟧", "⟦").split("⟦")):
        if i % 2:
            spans.append(Span(len(text), len(text) + len(part), label, 0.5 + len(spans) / 8))
        text += part
    return text, spans


@pytest.mark.parametrize(
    ("marked", "tokens"),
    [
        ("Call ⟦Ann⟧, now.", ["Call", "*Ann", ",", "now", "."]),
        ("(d'⟦Angers⟧),\r\n«⟦Zoe\u0301⟧»", ["(", "d'", "*Angers", ")", ",", "«", "*Zoe\u0301", "»"]),
        ("born 12.03.1980: ann@x.org", ["born", "12.03.1980", ":", "ann@x.org"]),
        ("⟦46117⟧⟦Main St⟧", ["*46117", "*Main", "*St"]),
        ("👩\u200d🚀👍🏽⟦Li⟧ $5", ["👩\u200d🚀", "👍🏽", "*Li", "$", "5"]),
        ("\ufeff \u2028\x85...", ["\ufeff", ".", ".", "."]),
        ("", []),
    ],
)
def test_tokens(marked, tokens):
    text, spans = spans_in(marked)
    assert [("" if own is None else "*") + text[a:b] for a, b, own in tokens_of(text, spans)] == tokens


@given(st.lists(st.text(st.sampled_from("aé\u0301 1.\r\n'(👩\u200d🚀\u2028"), min_size=1, max_size=5), max_size=6))
def test_spans_are_whole_tokens_and_all_but_white_space_is_in_one(parts):
    text, spans = spans_in("".join(f"⟦{part}⟧" if i % 2 and part.strip() else part for i, part in enumerate(parts)))
    tokens = list(tokens_of(text, spans))
    assert "".join(text[a:b] for a, b, _ in tokens) == "".join(text.split())
    assert all(a < b for a, b, _ in tokens) and sorted(tokens, key=lambda token: token[:2]) == tokens
    for index, span in enumerate(spans):
        own = [(a, b) for a, b, i in tokens if i == index]
        assert "".join(text[a:b] for a, b in own) == "".join(text[span.start : span.end].split())
