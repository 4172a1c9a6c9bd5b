"""CoNLL columns: a word and its tag a line, a blank line after each sentence, which is a row."""

import io
import re
from collections.abc import Iterator
from itertools import chain

from pii.common import UserError
from pii.corpus.formats.tokens import TAGGED
from pii.corpus.sources.text_lines import as_json, line_lists
from pii.inputs import HEAD

NAMED = re.compile(r"\.(conll(2002|2003)?|iob2?|bio|bioes|bilou|bmes|col)(\.gz)?$", re.I)
DOCUMENT = "-DOCSTART-"


def are_columns(head: bytes, file_name: str) -> bool:
    """Whether a file is such: by its name, or as its first lines all end with a tag."""
    if NAMED.search(file_name):
        return True
    if b"\n" not in head and len(head) >= HEAD:
        return False
    lines = head.decode("utf-8", "replace").split("\n")
    lines = [line.rstrip("\r") for line in (lines[:-1] or lines)]  # the last one may go on
    words = [line for line in lines if line.strip() and not line.startswith(("#", DOCUMENT))]
    if not words:
        return any(line.startswith(DOCUMENT) for line in lines)
    return all(TAGGED.search(line) and not line.startswith(('{"', "[{", "[[")) for line in words)


def rows(file: io.BufferedReader, path: str, name: str, limit: int) -> Iterator[tuple[int, bytes]]:
    """(number of its first line, `{"conll": lines}`) of each sentence. Raises UserError."""
    block: list[str] = []
    first = number = 1  # the line where the block begins, and the one that comes next
    for lines in chain(line_lists(file, name, limit), [[""]]):
        start, size = 0, len(lines)
        ends = [i for i, line in enumerate(lines) if not line or line.isspace() or line.startswith(DOCUMENT)]
        for end in [*ends, size]:
            first = first if block else number + start
            block += lines[start:end]
            if sum(map(len, block)) + len(block) > limit:
                raise UserError(f"{name} line {first}: no blank line ends this sentence")
            if end == size:
                break  # the block goes on in the next lines
            if block:
                sentence = "\n".join(block).replace("\r\n", "\n").removesuffix("\r")
                yield first, as_json({"conll": sentence}, path, name, first)
            block, start = [], end + 1
        number += size
