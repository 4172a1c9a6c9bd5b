"""One document and its predicted spans as a task of Label Studio, doccano or Prodigy.

All three count code points, and a carriage return as one. Label Studio's editor is written in JavaScript and converts
what it counts (its first versions did not: there an emoji moved what follows); doccano counts them unless a project is
set to count grapheme clusters; Prodigy is Python.
"""

from collections.abc import Sequence

from pii.redaction.annotations.tokens import tokens_of
from pii.redaction.replacements import Span

Place = dict[str, str | int]  # where the document came from: {"source", "number"}


def label_studio(text: str, spans: Sequence[Span], place: Place, model: str) -> dict:
    """A task with one prediction, for a project with `<Labels name="label" toName="text">` and
    `<Text name="text" value="$text">`, as its template for named entities has them."""
    results = [
        {
            "id": f"s{number}",
            "from_name": "label",
            "to_name": "text",
            "type": "labels",
            "value": {
                "start": span.start,
                "end": span.end,
                "text": text[span.start : span.end],
                "labels": [span.label],
            },
            "score": rounded(span.score),
        }
        for number, span in enumerate(spans, start=1)
    ]
    prediction = {"model_version": model, "result": results} | lowest(spans)
    return {"data": {"text": text, **place}, "predictions": [prediction]}


def doccano(text: str, spans: Sequence[Span], place: Place, model: str) -> dict:
    """A line of sequence labelling; what doccano does not know it keeps as the document's metadata."""
    labels = [[span.start, span.end, span.label] for span in spans]
    return {"text": text, "label": labels, **place, "scores": [rounded(span.score) for span in spans], "model": model}


def prodigy(text: str, spans: Sequence[Span], place: Place, model: str) -> dict:
    """A line for ner.manual and spans.manual, with tokens that fit every span."""
    places = list(tokens_of(text, spans))
    with_space = spaced(text, [token[:2] for token in places])
    first = {start: number for number, (start, _, _) in enumerate(with_space)}
    last = {end: number for number, (_, end, _) in enumerate(with_space)}
    return {
        "text": text,
        "tokens": [
            {"text": text[start:end], "start": start, "end": end, "id": number, "ws": ws}
            for number, (start, end, ws) in enumerate(with_space)
        ],
        "spans": [
            {
                "start": span.start,
                "end": span.end,
                "token_start": first[span.start],
                "token_end": last[span.end],
                "label": span.label,
                "score": rounded(span.score),
            }
            for span in spans
        ],
        "meta": {**place, "model": model, **lowest(spans)},
    }


def spaced(text: str, tokens: Sequence[tuple[int, int]]) -> list[tuple[int, int, bool]]:
    """(start, end, whether one space follows) of the tokens and of the other white space, which spaCy has as tokens:
    together they are the text."""
    result: list[tuple[int, int, bool]] = []
    end = 0
    for start, stop in [*tokens, (len(text), len(text))]:
        if result and text[end : end + 1] == " ":
            result[-1] = (*result[-1][:2], True)
            end += 1
        if end < start:
            result.append((end, start, False))
        if start < stop:
            result.append((start, stop, False))
        end = stop
    return result


def lowest(spans: Sequence[Span]) -> dict[str, float]:
    """The score of the least certain span, by which the tools can sort; nothing without spans."""
    return {"score": rounded(min(span.score for span in spans))} if spans else {}


def rounded(score: float) -> float:
    return round(float(score), 4)
