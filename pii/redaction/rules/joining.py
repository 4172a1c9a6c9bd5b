"""What a model found and what rules and lists say of the same text → one list of spans, sorted and without overlaps.

The stronger takes its full extent, the weaker keeps what is left of it: allowed values over denied ones, these over
proven ones, then the model, then what has only the form of personal data.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from pii.redaction.replacements import Span

ALLOWED = "\0"  # the label of what stays in the text: none of a user's own


class Said(NamedTuple):
    """What rules and lists say of a text: each part sorted and without overlaps."""

    proven: Sequence[Span] = ()
    forms: Sequence[Span] = ()
    denied: Sequence[Span] = ()
    allowed: Sequence[Span] = ()  # of the label ALLOWED


def joined(text: str, model: Iterable[Span], said: Said) -> Iterator[Span]:
    """The model's spans, sorted and without overlaps and read as they are needed, with what rules and lists say.

    A proven value is never cut: it gives way only to a denied or allowed one that holds all of it.
    """
    proven = not_within(not_within(said.proven, said.denied), said.allowed)
    spans = beside(text, model, beside("", said.denied, proven, keep_all=True))
    spans = beside(text, said.forms, spans)
    stays = list(beside("", said.allowed, proven, keep_all=True))  # all that is left of it beside proven values
    spans = beside(text, spans, [span for span in stays if span.label == ALLOWED])
    return (span for span in spans if span.label != ALLOWED)


def side_by_side(spans: Iterable[Span]) -> list[Span]:
    """Sorted and without overlaps: of those at one place the longest, and of one that begins within another the rest,
    so that all that they cover stays covered."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        start = max(span.start, kept[-1].end) if kept else span.start
        if start < span.end:
            kept.append(span._replace(start=start))
    return kept


def not_within(spans: Sequence[Span], holders: Sequence[Span]) -> list[Span]:
    """The spans that no single holder holds all of."""
    starts = [holder.start for holder in holders]
    before = ((span, bisect_right(starts, span.start)) for span in spans)
    return [span for span, after in before if not after or holders[after - 1].end < span.end]


def beside(text: str, weak: Iterable[Span], strong: Iterable[Span], keep_all: bool = False) -> Iterator[Span]:
    """All of the strong spans and what they leave of the weak ones, sorted; a rest without a letter or digit goes,
    unless all is kept."""
    strong = iter(strong)
    ahead, reach = next(strong, None), 0
    for span in weak:
        place = max(span.start, reach)
        while ahead is not None and ahead.start < span.end:
            yield from rest(text, span, place, ahead.start, keep_all)
            yield ahead
            reach = ahead.end
            place, ahead = max(place, reach), next(strong, None)
        yield from rest(text, span, place, span.end, keep_all)
    if ahead is not None:
        yield ahead
    yield from strong


def rest(text: str, span: Span, start: int, end: int, keep_all: bool) -> Iterator[Span]:
    """The part of a span from `start` to `end`, if there is one: without white space and punctuation at new edges."""
    if start >= end:
        return
    if (start, end) == span[:2] or keep_all:
        yield span._replace(start=start, end=end)
        return
    while start < end and start != span.start and not text[start].isalnum():
        start += 1
    while start < end and end != span.end and not text[end - 1].isalnum():
        end -= 1
    if any(character.isalnum() for character in text[start:end]):
        yield span._replace(start=start, end=end)
