"""Which documents to correct first: those about which a run is least certain."""

import heapq
from collections.abc import Sequence
from typing import NamedTuple

from pii.redaction.records import Record
from pii.redaction.replacements import Span


class Candidate(NamedTuple):
    """A document; of two that are equally doubtful the earlier one is the greater."""

    doubt: float
    order: int  # 0 of the first document, then -1, -2, ...
    record: Record
    spans: Sequence[Span]


class MostUncertain:
    """The `count` most doubtful of the documents that it is given; no others are held."""

    def __init__(self, count: int) -> None:
        self.count, self.seen = count, 0
        self._heap: list[Candidate] = []

    def add(self, record: Record, spans: Sequence[Span], others: Sequence[Span] | None) -> None:
        """`others`: the spans of another head, None where there is none."""
        candidate = Candidate(doubt_of(spans, others), -self.seen, record, spans)
        self.seen += 1
        if len(self._heap) < self.count:
            heapq.heappush(self._heap, candidate)
        else:
            heapq.heappushpop(self._heap, candidate)

    def in_order(self) -> list[Candidate]:
        """As they were given."""
        return sorted(self._heap, key=lambda candidate: -candidate.order)


def doubt_of(spans: Sequence[Span], others: Sequence[Span] | None) -> float:
    """From 0 to 2: how likely the least certain span is wrong, and the share of spans on which two heads disagree."""
    least = 1 - min((span.score for span in spans), default=1.0)
    if others is None:
        return least
    own, other = {span[:3] for span in spans}, {span[:3] for span in others}
    return least + len(own ^ other) / max(1, len(own | other))
