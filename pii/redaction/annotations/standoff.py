"""Documents as brat's standoff: NAME.txt and NAME.ann, and an annotation.conf that names the labels."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from pii.redaction.replacements import Span

CONFIG = "annotation.conf"
NAMES = re.compile(r"[A-Za-z0-9_-]+")  # of labels, as brat's configuration takes them


def annotation_conf(labels: Iterable[str]) -> str:
    return "\n".join(["[entities]", *labels, "", "[relations]", "[events]", "[attributes]", ""])


def ann(text: str, spans: Sequence[Span]) -> str:
    """The annotations of one document, with the score of each as a note."""
    lines = []
    for number, span in enumerate(spans, start=1):
        parts = fragments(text, span)
        places = ";".join(f"{start} {end}" for start, end in parts)
        value = " ".join(text[start:end] for start, end in parts)
        lines += [
            f"T{number}\t{span.label} {places}\t{value}\n",
            f"#{number}\tAnnotatorNotes T{number}\t{span.score:.4f}\n",
        ]
    return "".join(lines)


def fragments(text: str, span: Span) -> list[tuple[int, int]]:
    """The parts of a span in each of its lines: an annotation is a line, so brat has none with a line break in it."""
    parts, start = [], span.start
    for line in text[span.start : span.end].splitlines(keepends=True):
        value = line.strip()
        if value:
            first = start + line.index(value)
            parts.append((first, first + len(value)))
        start += len(line)
    return parts


def document_name(taken: set[str], source: str, number: int, is_record: bool) -> str:
    """A name that no other document has, after the file and, for a record of several, its number."""
    stem = "stdin" if source == "-" else Path(source).name.removesuffix(".gz").rsplit(".", 1)[0]
    base = f"{stem}-{number:06d}" if is_record else stem
    name, again = base, 1
    while name.casefold() in taken:  # of file systems that know no case, too
        again += 1
        name = f"{base}-{again}"
    taken.add(name.casefold())
    return name
