"""WebAnno TSV 3, as INCEpTION and WebAnno export it: a header, then the sentences of a document, which is a row."""

import io
import re
from collections.abc import Iterator
from itertools import chain

from pii.common import UserError
from pii.corpus.sources.text_lines import as_json, text_lines

HEADER = "#FORMAT=WebAnno TSV"
READ = re.compile(HEADER + r" 3\.[1-9]\s*")


def is_webanno(head: bytes) -> bool:
    return head.startswith(HEADER.encode())


def rows(file: io.BufferedReader, path: str, name: str, limit: int) -> Iterator[tuple[int, bytes]]:
    """(line of its header, `{"webanno": lines}`) of each document: one a file, or several behind one another.

    Raises UserError, also for versions before 3.1."""
    block: list[str] = []
    first = size = 0
    for number, line in enumerate(chain(text_lines(file, name, limit), [""]), start=1):
        if not line or line.startswith(HEADER):
            if block:
                document = "".join(block).replace("\r\n", "\n")
                yield first, as_json({"webanno": document}, path, name, first)
            if line and not READ.fullmatch(line):
                raise UserError(f"{name} line {number} begins another version of WebAnno TSV: export it as 3.1 to 3.3")
            block, first, size = [], number, 0
        block.append(line)
        size += len(line)
        if size > limit:
            raise UserError(f"{name} line {first} begins a document of more than {limit} characters: cut it")
