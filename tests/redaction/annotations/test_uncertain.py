"""The documents that a run is least certain about, in the input's order."""

import pytest

from pii.redaction.annotations.uncertain import MostUncertain, doubt_of
from pii.redaction.records import Record
from pii.redaction.replacements import Span

ANN, BOB = Span(0, 3, "NAME", 0.9), Span(4, 7, "NAME", 0.6)


@pytest.mark.parametrize(
    ("spans", "others", "doubt"),
    [
        ([ANN, BOB], None, 0.4),
        ([], None, 0.0),
        ([ANN], [ANN._replace(score=0.1)], 0.1),
        ([ANN], [], 1.1),
        ([], [ANN], 1.0),
        ([], [], 0.0),
        ([ANN, BOB], [ANN, BOB._replace(label="CITY")], 0.4 + 2 / 3),
    ],
)
def test_doubt_of_a_document(spans, others, doubt):
    assert doubt_of(spans, others) == pytest.approx(doubt)


def chosen(count: int, scores: list[float]) -> list[int]:
    most = MostUncertain(count)
    for number, score in enumerate(scores):
        most.add(Record("a", number, "", None), [ANN._replace(score=score)], None)
    return [candidate.record.number for candidate in most.in_order()]


def test_the_most_doubtful_come_in_order_and_of_equals_the_first():
    assert chosen(2, [0.5, 0.9, 0.2, 0.8]) == [0, 2]
    assert chosen(2, [0.9, 0.5, 0.5, 0.5]) == [1, 2]
    assert chosen(2, [0.5, 0.5, 0.5, 0.1]) == [0, 3]
    assert chosen(9, [0.5, 0.9]) == [0, 1] and chosen(3, []) == []
