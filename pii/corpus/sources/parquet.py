"""Parquet: rows of any form that JSON has, or one span a row; read in batches, so that a file may exceed the memory."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pii.common import UserError
from pii.corpus.sources import tables

MAGIC = b"PAR1"
BATCH = 1024  # rows


def is_parquet(head: bytes) -> bool:
    return head.startswith(MAGIC)


def rows(path: Path, name: str) -> Iterator[tuple[int, bytes]]:
    """(row number from 1, row as JSON). Raises UserError."""
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise UserError(f"{name} is Parquet: pip install '.[parquet]' (pyarrow) to read it") from None
    try:
        with ParquetFile(path) as file:
            numbered = enumerate(records(file), start=1)
            is_table = set(tables.NEEDED) <= {*file.schema_arrow.names}
            for number, row in tables.grouped(numbered) if is_table else numbered:
                yield number, json.dumps(row, ensure_ascii=False, default=str).encode()
    except pyarrow.ArrowException as error:
        raise UserError(f"{name} is no sound Parquet file ({type(error).__name__}): is it whole?") from None
    except OSError as error:  # whose text can hold what it read
        raise UserError(f"{name} is no sound Parquet file ({error.strerror or type(error).__name__})") from None


def records(file: Any) -> Iterator[dict]:
    """The rows of a file, without columns of bytes; numbered tags of `datasets` by their names."""
    import pyarrow

    schema = file.schema_arrow
    columns = [field.name for field in schema if not pyarrow.types.is_binary(field.type)]
    names = {column: of for column, of in class_names(schema.metadata).items() if column in columns}
    for batch in file.iter_batches(BATCH, columns=columns):
        for row in batch.to_pylist():
            for column, of in names.items():
                tags = row[column]
                if isinstance(tags, list) and all(type(tag) is int and 0 <= tag < len(of) for tag in tags):
                    row[column] = [of[tag] for tag in tags]
            yield row


def class_names(metadata: dict[bytes, bytes] | None) -> dict[str, list[str]]:
    """Column of lists → the names of its numbers, as `datasets` notes them in the file."""
    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        lists = {column: of.get("feature", of) for column, of in features.items() if isinstance(of, dict)}
        return {column: of["names"] for column, of in lists.items() if isinstance(of, dict) and "names" in of}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
