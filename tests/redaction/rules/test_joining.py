"""What the model, rules and lists say of one text becomes one list of spans: by a plain loop over its characters."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from pii.redaction.replacements import Span
from pii.redaction.rules.joining import ALLOWED, Said, joined, side_by_side
from pii.redaction.rules.rules import PROVEN_SCORE

SIZE = 24


@st.composite
def sorted_spans(draw: st.DrawFn, label: str, source: str, score: float) -> list[Span]:
    cuts = sorted(draw(st.sets(st.integers(0, SIZE), max_size=8)))
    pairs = [(a, b) for a, b in pairwise(cuts) if draw(st.booleans())]
    return [Span(start, end, label, score, source) for start, end in pairs]


model = sorted_spans("MODEL", "model", 0.7)
proven = sorted_spans("IBAN", "rule:iban", PROVEN_SCORE)
forms = sorted_spans("EMAIL", "rule:email", 0.5)
denied = sorted_spans("STAFF", "list:deny", PROVEN_SCORE)
allowed = sorted_spans(ALLOWED, "", 1.0)


def covered(spans: list) -> set[int]:
    return {place for start, end, *_ in spans for place in range(start, end)}


@settings(max_examples=400, deadline=None)
@given(st.text("ab ,1", min_size=SIZE, max_size=SIZE), model, proven, forms, denied, allowed)
def test_the_stronger_takes_its_extent_and_nothing_overlaps(text, model, proven, forms, denied, allowed):
    spans = list(joined(text, iter(model), Said(proven, forms, denied, allowed)))
    end = 0
    for span in spans:
        assert end <= span.start < span.end <= SIZE
        end = span.end
    whole = [own for own in proven if not any(d.start <= own.start and own.end <= d.end for d in denied)]
    kept = [own for own in whole if not any(a.start <= own.start and own.end <= a.end for a in allowed)]
    assert [span for span in spans if span.source == "rule:iban"] == kept  # never cut
    open_places = {*range(SIZE)} - (covered(allowed) - covered(kept))
    models = [span for span in spans if span.label == "MODEL"]
    for weak, stronger in ((denied, whole), (model, [*whole, *denied]), (forms, [*whole, *denied, *models])):
        places = (covered(weak) - covered(stronger)) & open_places
        own = covered([span for span in spans if weak and span.label == weak[0].label])
        assert own <= places
        assert all(not text[place].isalnum() for place in places - own)  # only marks and spaces at new edges go
    assert not covered(spans) & covered(allowed) - covered(kept)


def test_without_rules_the_models_spans_come_as_they_are_and_as_they_are_needed():
    asked = []

    def lazily():
        for start in range(3):
            asked.append(start)
            yield Span(2 * start, 2 * start + 1, "A", 0.5)

    spans = joined("a,b,c,", lazily(), Said())
    assert next(spans) == Span(0, 1, "A", 0.5) and len(asked) < 3
    assert len(list(spans)) == 2


@given(st.lists(st.tuples(st.integers(0, SIZE), st.integers(1, 9)).map(lambda p: Span(p[0], sum(p), "A", 1.0))))
def test_spans_that_overlap_cover_afterwards_what_they_covered(spans):
    kept = side_by_side(spans)
    assert covered(kept) == covered(spans) and all(a.end <= b.start for a, b in pairwise(kept))
