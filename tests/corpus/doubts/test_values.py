"""Values that rows disagree about are found; those that are two things by nature are not."""

import pytest

from pii.corpus.doubts.values import labelled, minorities, unlabelled
from pii.corpus.rows import Row


def row_of(marked: str, label: str = "NAME") -> Row:
    """A row whose spans stand in ⟦⟧."""
    spans, plain = [], ""
    for i, part in enumerate(marked.replace("⟧", "⟦").split("⟦")):
        if i % 2:
            spans.append((len(plain), len(plain) + len(part), label))
        plain += part
    return Row(plain, "en", spans, 0, 0)


def bare(*marked: str) -> dict[str, list[int]]:
    rows = [row_of(text) for text in marked]
    return unlabelled(rows, labelled(rows))


def test_a_value_that_stands_elsewhere_without_a_span():
    assert bare("Ask ⟦Ann Miller⟧.", "Ann Miller came.", "so did ⟦Bob⟧") == {"Ann Miller": [1]}
    assert bare("Ask ⟦Zoé⟧ 🙂", "🙂 Zoé\r\ncame", "⟦+33 1 45 56⟧", "call +33 1 45 56") == {
        "Zoé": [1],
        "+33 1 45 56": [3],
    }
    assert bare("⟦Ann⟧ met Ann.") == {"Ann": [0]}
    assert bare("⟦Ann Miller⟧", *["Ann Miller"] * 9) == {"Ann Miller": [*range(1, 10)]}
    assert bare(*["⟦Ann⟧"] * 12, *["Ann"] * 4) == {"Ann": [12, 13, 14, 15]}
    assert bare("⟦Ann⟧, ⟦Ann Miller⟧", "Ann Miller's") == {"Ann Miller": [1]}  # the longest at a place


@pytest.mark.parametrize(
    "text",
    [
        "Annabel came",
        "Joann came",
        "Ann-Marie came",
        "to ann@example.org, Ann@example.org",
        "⟦Ann Miller⟧ came",
        "ANN came",
        "Ann Ann Ann",  # more often without: rather a word that is seldom a name
        "Ann\u0303 came",
    ],
)
def test_another_value(text):
    assert bare("Ask ⟦Ann⟧", text) == {}


def test_short_numbers_mean_many_things():
    assert bare("is ⟦42⟧, lives at ⟦42B⟧", "42 boxes, 42B") == {}
    assert bare("id ⟦123456⟧", "id 123456") == {"123456": [1]}


def wrong(*rows: tuple[str, str]) -> dict[str, set[str]]:
    return minorities(labelled(row_of(f"⟦{value}⟧", label) for value, label in rows))


def test_a_value_with_two_labels():
    assert wrong(("Acme Ltd", "ORG"), ("Acme Ltd", "ORG"), ("Acme Ltd", "NAME"), ("Ann", "NAME")) == {
        "Acme Ltd": {"NAME"}
    }
    assert wrong(("Acme Ltd", "ORG"), ("Acme Ltd", "NAME")) == {"Acme Ltd": {"ORG", "NAME"}}
    assert wrong(*[("Euro", "CODE")] * 6, *[("Euro", "NAME")] * 5) == {}
    assert wrong(("12", "AGE"), ("12", "NUMBER")) == {}


def test_words_that_two_labels_share_by_nature():
    names = ["Martin", "Thomas", "Paul", "Anne-Marie", "Lee"]
    both = [(name, label) for name in names for label in ("FIRST", "LAST")]
    assert wrong(*both) == {}
    assert wrong(*both[:-2]).keys() == {*names[:-1]}
    assert wrong(*both, ("Lee", "CITY")) == {"Lee": {"FIRST", "LAST", "CITY"}}
    assert wrong(*both, ("Ann Lee", "FIRST"), ("Ann Lee", "LAST")) == {"Ann Lee": {"FIRST", "LAST"}}
