"""A text and a list of its spans, as doccano, Prodigy, spaCy, Presidio's analyzer and Nemotron-PII write them.

The list may be written in a string. What its first span looks like tells the form; those of Gretel have no offsets.
"""

from pii.corpus.formats import searched
from pii.corpus.formats.fields import NOT_ACCEPTED, Found, RowError, parse_notation, records, string_of, triples

TEXTS = ("text", "data", "full_text", "generated_text", "source_text")
SPANS = (  # the first that is a list, else the first that is a string
    *("spans", "label", "labels", "entities", "ents", "annotations", "pii_spans", "privacy_mask"),
    *("results", "analyzer_results", "recognizer_results", "presidio_results"),
)
OBJECTS = (
    ("start_offset", "end_offset", "label"),  # doccano with relations
    ("start", "end", "entity_type"),  # Presidio's analyzer
    ("start", "end", "label"),  # Prodigy, spaCy, Nemotron-PII
    ("start_position", "end_position", "entity_type"),  # presidio-research
)
VALUES = ("text", "value", "entity_value")


def read(fields: dict) -> Found | None:
    text = string_of(fields, TEXTS)
    names = [name for name in SPANS if isinstance(fields.get(name), list)]
    names += [name for name in SPANS if isinstance(fields.get(name), str)]
    if text is None or not names:
        if text is not None and {"start", "end"} <= fields.keys():
            raise RowError("one span a row, which only CSV and Parquet may have")
        return None
    if fields.get("answer", "accept") != "accept":
        raise RowError(NOT_ACCEPTED)
    spans = fields[names[0]]
    return text, spans_of(text, parse_notation(spans) if isinstance(spans, str) else spans)


def spans_of(text: str, spans: object) -> list:
    """The unchecked (start, end, label, value or None) of a list of spans in whichever form. Raises RowError."""
    if not isinstance(spans, (list, tuple)) or not spans or not isinstance(spans[0], dict):
        return triples(spans)
    if "entity" in spans[0] and "start" not in spans[0]:
        return searched.found(text, list(spans))
    keys = next((keys for keys in OBJECTS if spans[0].keys() >= {*keys}), ("start", "end", "label"))
    value = next((name for name in VALUES if name in spans[0]), VALUES[0])
    return records(list(spans), (*keys, value))
