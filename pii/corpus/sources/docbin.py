"""spaCy's binary training data (.spacy): the text of each document and its entities."""

import io
import json
import zlib
from collections.abc import Iterator
from typing import Any

from pii.common import UserError
from pii.corpus.formats.tokens import joined, spans_of_tags

IOB = {1: "I-", 3: "B-"}  # as spaCy numbers them; 2 is O, 0 not annotated


def is_docbin(head: bytes, file_name: str) -> bool:
    """By its name; all that can be seen of its content is that it is compressed."""
    return file_name.lower().endswith(".spacy") and bool(head)


def rows(file: io.BufferedReader, name: str, limit: int) -> Iterator[tuple[int, bytes]]:
    """(number of the document from 1, row as JSON). Raises UserError."""
    try:
        import spacy  # noqa: F401 (what is missing is named)
        from spacy.tokens import DocBin
    except ImportError:
        raise UserError(f"{name} is spaCy's: pip install '.[spacy]' to read it") from None
    try:
        raw = b"".join(iter(lambda: file.read(1 << 20), b""))
        if unpacked_size(raw, limit) >= limit:
            raise UserError(f"{name} holds more than {limit} bytes: cut it in several files")
        for number, (text, spans) in enumerate(documents(DocBin().from_bytes(raw)), start=1):
            yield number, json.dumps({"text": text, "spans": spans}, ensure_ascii=False).encode()
    except UserError:
        raise
    except Exception as error:  # its reader passes on what zlib, msgpack and numpy raise
        raise UserError(f"{name} is no sound .spacy file ({type(error).__name__}): is it whole?") from None


def documents(packed: Any) -> Iterator[tuple[str, list]]:
    """The text and the entities of each document of a DocBin, from its columns: as its own documents would have them,
    which take twenty times as long to make."""
    from spacy.attrs import ENT_IOB, ENT_TYPE, ORTH
    from spacy.strings import StringStore

    store = StringStore(packed.strings)
    strings = {0: "", **{store[string]: string for string in packed.strings}}
    orth = packed.attrs.index(ORTH)
    has_entities = {ENT_IOB, ENT_TYPE} <= {*packed.attrs}
    for columns, spaces, flags in zip(packed.tokens, packed.spaces, packed.flags, strict=True):
        words = [strings[word] for word in columns[:, orth].tolist()]
        gaps = [True] * len(words) if flags.get("has_unknown_spaces") else spaces[:, 0].tolist()
        text, places = joined(words, gaps)
        tags = []
        if has_entities:
            begins, kinds = (columns[:, packed.attrs.index(of)].tolist() for of in (ENT_IOB, ENT_TYPE))
            both = zip(begins, kinds, strict=True)
            tags = [IOB[begin] + strings[kind] if begin in IOB else "O" for begin, kind in both]
        yield text, [(places[first][0], places[last][1], kind) for first, last, kind in spans_of_tags(tags)]


def unpacked_size(raw: bytes, limit: int) -> int:
    """How many bytes are packed in these, `limit` at most. Raises zlib.error."""
    unpacker, size = zlib.decompressobj(), 0
    while raw and size < limit:
        size += len(unpacker.decompress(raw, 1 << 20))
        raw = unpacker.unconsumed_tail
    return size
