"""Tasks as Label Studio exports them: JSON with `data` and `annotations`; JSON_MIN, one annotation an element; and CSV
or TSV, one a line.

Of several annotations that differ, the one that is marked as ground truth counts, which only JSON tells. Choices,
relations and predictions are passed over.
"""

from pii.corpus.formats.fields import NOT_SUBMITTED, Found, RowError, parse_notation, string_of

# strings of JSON_MIN and CSV that are no text of the task
NO_DATA = ("id", "annotation_id", "annotator", "created_at", "updated_at", "lead_time", "agreement", "history", "label")
RENAMED = "_data_text"  # the text in CSV where annotations are called `text`


def read(fields: dict) -> Found | None:
    data = fields.get("data")
    annotations = fields.get("annotations", fields.get("completions"))  # the latter in its first versions
    if isinstance(data, dict) and isinstance(annotations, list):
        return placed(data, agreed(annotations))
    lines = fields.get("label_studio", [fields])  # those of CSV with one task, or JSON_MIN
    if not isinstance(lines, list) or not lines or not all(isinstance(line, dict) for line in lines):
        return None
    results = [{"result": [{"value": mark} for mark in marks_in(line)]} for line in lines]
    if not results[0]["result"] and "annotation_id" not in lines[0]:
        return None
    submitted = [line.get("annotation_id", line) not in (None, "") for line in lines]
    annotations = [result for result, is_submitted in zip(results, submitted, strict=True) if is_submitted]
    return placed(data_of(lines[0]), agreed(annotations))


def marks_in(line: dict) -> list:
    """The marks of one annotation of CSV or JSON_MIN: in lists, or in cells with JSON. Raises RowError for a cell that
    is cut, as spreadsheets cut long ones."""
    lists: list = [*line.values()]
    if "annotation_id" in line:
        lists += [parse_notation(cell) for name, cell in line.items() if is_cell(cell) and not is_text(name, line)]
    return [mark for marks in lists if isinstance(marks, list) for mark in marks if is_mark(mark)]


def is_cell(value: object) -> bool:
    return isinstance(value, str) and value.startswith("[{")


def is_text(name: str, line: dict) -> bool:
    return name == (RENAMED if RENAMED in line else "text")


def data_of(line: dict) -> dict:
    """What the task itself holds, under its own names: no cells of annotations, full or empty."""
    names = [name for name, value in line.items() if is_text(name, line) or not (value == "" or is_cell(value))]
    data = {name: line[name] for name in names if name not in NO_DATA}
    return {**data, "text": data.pop(RENAMED)} if RENAMED in data else data


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
        raise RowError("several annotations that differ: mark one as ground truth, and export JSON")
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
