"""A document of a brat folder: its text and the text-bound annotations of its .ann file."""

import re

from pii.corpus.formats.fields import Found, RowError

BOUND = re.compile(r"T\S*\t(\S+) (\d+) (\d+)((?:;\d+ \d+)*)(?:\t(.*))?")
BREAKS = re.compile(r"[\r\n]")


def read(fields: dict) -> Found | None:
    document = fields.get("brat")
    if not isinstance(document, dict) or not isinstance(annotations := document.get("ann"), str):
        return None
    text = document.get("text")
    if not isinstance(text, str):
        raise RowError("no .txt beside the .ann")
    spans = [bound(line) for line in annotations.split("\n") if line.startswith("T")]
    if "\r\n" in text and not fit(text, spans) and fit(text.replace("\r\n", "\n"), spans):
        text = text.replace("\r\n", "\n")  # the text was annotated before its line ends became those of Windows
    return text, [(start, end, label, as_in(text, start, end, value)) for start, end, label, value in spans]


def bound(line: str) -> tuple[int, int, str, str | None]:
    match = BOUND.fullmatch(line.rstrip("\r"))
    if not match or max(len(match[2]), len(match[3])) > 18:
        raise RowError("a line of the .ann that is no text-bound annotation")
    if match[4]:
        raise RowError("a discontinuous span")
    return int(match[2]), int(match[3]), match[1], match[5]


def fit(text: str, spans: list) -> bool:
    return all(value is None or as_in(text, start, end, value) == text[start:end] for start, end, _, value in spans)


def as_in(text: str, start: int, end: int, value: str | None) -> str | None:
    """The value as the text has it, which has line breaks where the .ann has spaces."""
    own = text[start:end]
    return own if value is not None and BREAKS.sub(" ", own) == BREAKS.sub(" ", value) else value
