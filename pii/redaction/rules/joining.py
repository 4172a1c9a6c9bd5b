"""What a model found and what rules and lists say of the same text → one list of spans, sorted and without overlaps.

The stronger takes its full extent, the weaker keeps what is left of it: allowed values over denied ones, these over
proven ones, then the model, then what has only the form of personal data.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from pii.redaction.replacements import Span
from pii.redaction.rules.rules import PROVEN_SCORE


def joined(
    text: str,
    model: Iterable[Span],
    proven: Iterable[Span] = (),
    forms: Iterable[Span] = (),
    denied: Iterable[Span] = (),
    allowed: Iterable[tuple[int, int]] = (),
) -> Iterator[Span]:
    """Each of the arguments is sorted and without overlaps. The model's spans are read as they are needed."""
    certain = whole_first(list(denied), list(proven))
    spans = beside(text, forms, beside(text, model, certain))
    return without(text, spans, list(allowed))


def whole_first(denied: list[Span], proven: list[Span]) -> Iterator[Span]:
    """Denied and proven values: a proven one is never cut, but gives way to a denied one that holds all of it."""
    starts = [span.start for span in denied]
    holders = ((span, bisect_right(starts, span.start)) for span in proven)
    kept = [span for span, after in holders if not after or denied[after - 1].end < span.end]
    return beside("", denied, kept, keep_all=True)


def beside(text: str, weak: Iterable[Span], strong: Iterable[Span], keep_all: bool = False) -> Iterator[Span]:
    """All of the strong spans and what they leave of the weak ones, sorted; a rest without a letter or digit goes,
    unless all is kept."""
    strong = iter(strong)
    ahead, reach = next(strong, None), 0
    for span in weak:
        place, rests = max(span.start, reach), []
        while ahead is not None and ahead.start < span.end:
            if place < ahead.start:
                rests.append((place, ahead.start))
            yield from pieces(text, span, rests, keep_all)
            rests = []
            yield ahead
            reach = ahead.end
            place, ahead = max(place, reach), next(strong, None)
        if place < span.end:
            yield from pieces(text, span, [(place, span.end)], keep_all)
    if ahead is not None:
        yield ahead
    yield from strong


def pieces(text: str, span: Span, rests: Iterable[tuple[int, int]], keep_all: bool = False) -> Iterator[Span]:
    """What is left of a span, without white space and punctuation at new edges."""
    for start, end in rests:
        if (start, end) == span[:2] or keep_all:
            yield span._replace(start=start, end=end)
            continue
        while start < end and start != span.start and not text[start].isalnum():
            start += 1
        while start < end and end != span.end and not text[end - 1].isalnum():
            end -= 1
        if any(character.isalnum() for character in text[start:end]):
            yield span._replace(start=start, end=end)


def without(text: str, spans: Iterable[Span], allowed: list[tuple[int, int]]) -> Iterator[Span]:
    """What the allowed ranges leave of the spans; a proven value gives way only to one that holds all of it."""
    first = 0
    for span in spans:
        while first < len(allowed) and allowed[first][1] <= span.start:
            first += 1
        place, rests, index = span.start, [], first
        whole = False
        while index < len(allowed) and allowed[index][0] < span.end:
            start, end = allowed[index]
            whole |= start <= span.start and span.end <= end
            if place < start:
                rests.append((place, start))
            place, index = max(place, end), index + 1
        if place < span.end:
            rests.append((place, span.end))
        if span.source.startswith("rule:") and span.score == PROVEN_SCORE:
            rests = [] if whole else [(span.start, span.end)]
        yield from pieces(text, span, rests)
