"""One text with all that offsets stumble over: accents, an emoji, a Windows line end, spans that touch, a line feed."""

import json

from pii.corpus.rows import Row, parse_row

TEXT = "Zoé 🙂 Lee\r\nAnnBob, à Saint-Étienne\nle 12/03. 🙂"


def spans_of(*values: tuple[str, str]) -> list[tuple[int, int, str]]:
    return [(TEXT.index(value), TEXT.index(value) + len(value), label) for value, label in values]


SPANS = spans_of(("Zoé", "NAME"), ("Lee", "NAME"), ("Ann", "NAME"), ("Bob", "NAME"), ("Saint-Étienne", "CITY"))
SPANS += spans_of(("12/03", "DATE"))


def row_of(fields: object, *arguments: object) -> Row:
    return parse_row(json.dumps(fields).encode(), *arguments)


def utf_16(offset: int) -> int:
    """An offset into TEXT as JavaScript counts it."""
    return len(TEXT[:offset].encode("utf-16-le")) // 2
