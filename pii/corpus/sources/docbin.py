"""spaCy's binary training data (.spacy): the text of each document and its entities.

The columns are read as spaCy documents them (DocBin, "serialization format"), many documents at once: its own DocBin
and documents take twenty times as long.
"""

import io
import json
import zlib
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from pii.common import UserError
from pii.corpus.spans import starts_of

INSIDE, BEGINS = 1, 3  # of an entity, as spaCy numbers it; 2 is O, 0 not annotated
DOCUMENTS = 1024  # that are read at once


def is_docbin(head: bytes, file_name: str) -> bool:
    """By its name; all that can be seen of its content is that it is compressed."""
    return file_name.lower().endswith(".spacy") and bool(head)


def rows(file: io.BufferedReader, name: str, limit: int) -> Iterator[tuple[int, bytes]]:
    """(number of the document from 1, row as JSON). Raises UserError."""
    try:
        import spacy  # noqa: F401 (what is missing is named)
    except ImportError:
        raise UserError(f"{name} is spaCy's: pip install '.[spacy]' to read it") from None
    try:
        unpacker = zlib.decompressobj()
        packed = unpacker.decompress(b"".join(iter(lambda: file.read(1 << 20), b"")), limit)
        if unpacker.unconsumed_tail:
            raise UserError(f"{name} holds more than {limit} bytes: cut it in several files")
        if not unpacker.eof:
            raise EOFError
        for number, (text, spans) in enumerate(documents(packed), start=1):
            yield number, json.dumps({"text": text, "spans": spans}, ensure_ascii=False).encode()
    except UserError:
        raise
    except Exception as error:  # msgpack and numpy raise whatever they like at what is broken
        raise UserError(f"{name} is no sound .spacy file ({type(error).__name__}): is it whole?") from None


class Columns(NamedTuple):
    """All tokens of a file, one document after the other."""

    strings: dict[int, str]  # by spaCy's hashes
    starts: np.ndarray  # [documents + 1]: where each document's tokens start
    words: np.ndarray  # [tokens] hashes
    spaces: np.ndarray  # [tokens] bool: whether a space follows
    begins: np.ndarray  # [tokens]: ENT_IOB
    kinds: np.ndarray  # [tokens] hashes of labels


def columns_of(packed: bytes) -> Columns:
    from spacy.attrs import ENT_IOB, ENT_TYPE, ORTH
    from spacy.strings import StringStore
    from srsly import msgpack_loads

    message = msgpack_loads(packed)
    store, names = StringStore(), list(message["attrs"])
    table = np.frombuffer(message["tokens"], np.uint64).reshape(-1, len(names))
    counts = np.frombuffer(message["lengths"], np.int32)
    unknown = [flags.get("has_unknown_spaces", False) for flags in message.get("flags", [{}] * len(counts))]
    nothing = np.zeros(len(table), np.uint64)
    return Columns(
        {0: "", **{store.add(string): string for string in message["strings"]}},
        starts_of(counts),
        table[:, names.index(ORTH)],
        np.frombuffer(message["spaces"], bool) | np.repeat(np.array(unknown, bool), counts),
        *(table[:, names.index(name)] if name in names else nothing for name in (ENT_IOB, ENT_TYPE)),
    )


def documents(packed: bytes) -> Iterator[tuple[str, list]]:
    """The text and the entities of each document."""
    columns = columns_of(packed)
    firsts, lasts = entities(columns)
    for start in range(0, len(columns.starts) - 1, DOCUMENTS):
        starts = columns.starts[start : start + DOCUMENTS + 1]
        own = slice(starts[0], starts[-1])
        words = [columns.strings[word] for word in columns.words[own].tolist()]
        pieces = [word + " " if gap else word for word, gap in zip(words, columns.spaces[own].tolist(), strict=True)]
        places = starts_of(np.array([*map(len, pieces)], np.int64))

        bounds = np.searchsorted(firsts, starts)  # of each document's entities
        first, last = (tokens[bounds[0] : bounds[-1]] for tokens in (firsts, lasts))
        text_start = np.repeat(places[starts[:-1] - starts[0]], np.diff(bounds))
        begin = places[first - starts[0]] - text_start
        end = places[last + 1 - starts[0]] - columns.spaces[last] - text_start
        labels = [columns.strings[kind] for kind in columns.kinds[first].tolist()]
        spans = [*zip(begin.tolist(), end.tolist(), labels, strict=True)]
        token_bounds, span_bounds = (starts - starts[0]).tolist(), (bounds - bounds[0]).tolist()
        for tokens, entity in zip(pairwise(token_bounds), pairwise(span_bounds), strict=True):
            yield "".join(pieces[slice(*tokens)]), spans[slice(*entity)]


def entities(columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last token of each entity."""
    begins, kinds = columns.begins, columns.kinds
    inside = (begins == INSIDE) | (begins == BEGINS)
    goes_on = begins == INSIDE
    goes_on[1:] &= inside[:-1] & (kinds[1:] == kinds[:-1])
    goes_on[columns.starts[:-1][np.diff(columns.starts) > 0]] = False
    return np.flatnonzero(inside & ~goes_on), np.flatnonzero(inside & ~np.append(goes_on[1:], False))
