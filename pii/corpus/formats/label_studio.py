"""Tasks as Label Studio exports them: JSON with `data` and `annotations`, or JSON_MIN, one annotation an element.

Of several annotations that differ, the one that is marked as ground truth counts. Choices, relations and predictions
are passed over.
"""

from pii.corpus.formats.fields import NOT_SUBMITTED, Found, RowError, string_of

NO_DATA = ("created_at", "updated_at", "annotator", "label")  # strings of JSON_MIN that are no text of the task


def read(fields: dict) -> Found | None:
    data = fields.get("data")
    annotations = fields.get("annotations", fields.get("completions"))  # the latter in its first versions
    if isinstance(data, dict) and isinstance(annotations, list):
        return placed(data, agreed(annotations))
    marks = [mark for value in fields.values() if isinstance(value, list) for mark in value if is_mark(mark)]
    if not marks and "annotation_id" not in fields:
        return None
    return placed({name: value for name, value in fields.items() if name not in NO_DATA}, spans_of(marks))


def agreed(annotations: list) -> list:
    """The spans of the annotation that counts. Raises RowError."""
    if not all(isinstance(annotation, dict) for annotation in annotations):
        raise RowError("annotations that are no list of objects")
    submitted = [annotation for annotation in annotations if not annotation.get("was_cancelled")]
    if not submitted:
        raise RowError(NOT_SUBMITTED)
    chosen = [annotation for annotation in submitted if annotation.get("ground_truth")]
    versions = [marked(annotation) for annotation in (chosen if len(chosen) == 1 else submitted)]
    if any({*version} != {*versions[0]} for version in versions):
        raise RowError("several annotations that differ: mark one as ground truth")
    return versions[0]


def marked(annotation: dict) -> list:
    results = annotation.get("result")
    if not isinstance(results, list):
        raise RowError("an annotation without a list of results")
    return spans_of([result.get("value") for result in results if isinstance(result, dict)])


def spans_of(marks: list) -> list:
    """(start, end, label, value) of what marks text with a label; a mark with two labels is two spans."""
    places = [(mark.get("start"), mark.get("end"), mark, mark.get("text")) for mark in marks if is_mark(mark)]
    spans = [(start, end, label, value) for start, end, mark, value in places for label in mark["labels"]]
    if not all(isinstance(part, (str, int, float, type(None))) for span in spans for part in span):
        raise RowError("spans that are not start, end, labels and text")
    return spans


def is_mark(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("labels"), list) and "start" in value


def placed(data: dict, spans: list) -> Found:
    """The text of a task, `text` or the one field in which the values stand, and the spans."""
    text = string_of(data, ["text"])
    if text is None:
        texts = [value for value in data.values() if isinstance(value, str)]
        if len(texts) > 1:
            texts = [text for text in texts if spans and all(stands(text, *span) for span in spans)]
        if len(texts) != 1:
            raise RowError("no field `text`, and no other that must be the one that was labelled")
        text = texts[0]
    return text, [(start, end, label, unescaped(text, start, end, value)) for start, end, label, value in spans]


def stands(text: str, start: object, end: object, _: object, value: object) -> bool:
    return type(start) is type(end) is int and text[start:end] == value


def unescaped(text: str, start: object, end: object, value: object) -> object:
    """The value, which Label Studio writes with `\\n` for line breaks."""
    plain = value.replace("\\n", "\n") if isinstance(value, str) else value
    return plain if stands(text, start, end, None, plain) else value
