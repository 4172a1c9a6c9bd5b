"""A document of a brat folder: its text and the text-bound annotations of its .ann file.

A span over several lines, of which brat writes the part in each, is one span; parts with words between them are none.
"""

import re
from itertools import pairwise
from typing import NamedTuple

from pii.corpus.formats.fields import Found, RowError

BOUND = re.compile(r"T\S*\t(\S+) (\d{1,18} \d{1,18}(?:;\d{1,18} \d{1,18})*)(?:\t(.*))?")


class Bound(NamedTuple):
    label: str
    parts: list[tuple[int, int]]  # start and end
    value: str | None

    def span(self, text: str) -> tuple[int, int, str, str | None]:
        """Its value as the text has it, whose white space may be another. Raises RowError."""
        inner = pairwise(self.parts) if len(self.parts) > 1 else ()
        if any(after < before or text[before:after].strip() for (_, before), (after, _) in inner):
            raise RowError("a discontinuous span")
        start, end = self.parts[0][0], self.parts[-1][1]
        return start, end, self.label, text[start:end] if self.value and self.fits(text) else self.value

    def fits(self, text: str) -> bool:
        own = text[self.parts[0][0] : self.parts[-1][1]]
        return self.value is None or own == self.value or own.split() == self.value.split()


def read(fields: dict) -> Found | None:
    document = fields.get("brat")
    if not isinstance(document, dict) or not isinstance(annotations := document.get("ann"), str):
        return None
    text = document.get("text")
    if not isinstance(text, str):
        raise RowError("no .txt beside the .ann")
    bound = [bound_of(line) for line in annotations.split("\n") if line.startswith("T")]
    if "\r\n" in text and not all(b.fits(text) for b in bound):
        short = text.replace("\r\n", "\n")
        if all(b.fits(short) for b in bound):
            text = short  # it was annotated before its line ends became those of Windows
    return text, [b.span(text) for b in bound]


def bound_of(line: str) -> Bound:
    match = BOUND.fullmatch(line.rstrip("\r"))
    if not match:
        raise RowError("a line of the .ann that is no text-bound annotation")
    label, places, value = match.groups()
    parts = [part.split(" ") for part in places.split(";")]
    return Bound(label, [(int(start), int(end)) for start, end in parts], value)
