"""spaCy's binary training data (.spacy): the text of each document and its entities."""

import io
import json
from collections.abc import Iterator

from pii.common import UserError


def is_docbin(head: bytes, file_name: str) -> bool:
    """By its name; all that can be seen of its content is that it is compressed."""
    return file_name.lower().endswith(".spacy") and bool(head)


def rows(file: io.BufferedReader, name: str) -> Iterator[tuple[int, bytes]]:
    """(number of the document from 1, row as JSON). Raises UserError."""
    try:
        import spacy
        from spacy.tokens import DocBin
    except ImportError:
        raise UserError(f"{name} is spaCy's: pip install '.[spacy]' to read it") from None
    try:
        documents = DocBin().from_bytes(file.read()).get_docs(spacy.blank("xx").vocab)
        for number, document in enumerate(documents, start=1):
            spans = [(span.start_char, span.end_char, span.label_) for span in document.ents]
            yield number, json.dumps({"text": document.text, "spans": spans}, ensure_ascii=False).encode()
    except Exception as error:  # its reader passes on what zlib, msgpack and numpy raise
        raise UserError(f"{name} is no sound .spacy file ({type(error).__name__}): is it whole?") from None
