"""What --input names: files, patterns, folders of files, and folders of brat."""

import glob
import hashlib
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from pii.common import UserError, path_text
from pii.corpus.sources.columns import NAMED as COLUMNS
from pii.corpus.sources.columns import are_columns
from pii.corpus.sources.source import BYTE_ORDER_MARK, LINE_BYTES, Place, Source
from pii.corpus.sources.tables import NAMED as TABLES
from pii.inputs import HEAD, decoded

NAMED = re.compile(r"\.(jsonl|ndjson|json)(\.gz)?$|\.(parquet|spacy)$", re.I)
ANN, TXT = ".ann", ".txt"


class BratFolder(Source):
    """Documents of a brat folder: NAME.txt and NAME.ann. Their places are the names of the .ann files."""

    def __init__(self, path: Path, documents: Sequence[str]) -> None:
        super().__init__(path)
        self.documents = documents

    def lines(self) -> Iterator[tuple[Place, bytes]]:
        digest = hashlib.sha256()
        for name in self.documents:
            fields = {}
            for key, suffix in (("text", TXT), ("ann", ANN)):
                path = os.path.join(self.path, name + suffix)  # noqa: PTH118 (a Path takes as long as reading it)
                try:
                    raw = read(path)
                except FileNotFoundError:
                    continue  # which its reader tells
                except OSError as error:
                    raise UserError(f"cannot read {path}: {error.strerror}") from None
                digest.update(raw)
                fields[key] = as_text(raw, path)
            self.rows += 1
            yield path_text(name + ANN), json.dumps({"brat": fields}, ensure_ascii=False).encode()
        self.sha256 = digest.hexdigest()


def read(path: str) -> bytes:
    with io.FileIO(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > LINE_BYTES:
            raise UserError(f"{path} is longer than {LINE_BYTES} bytes: cut it")
        return file.read(size)


def as_text(raw: bytes, path: str) -> str:
    """The same as `decoded`, which takes several times as long."""
    if b"\0" not in raw and not raw.startswith(BYTE_ORDER_MARK):
        with suppress(UnicodeDecodeError):
            return raw.decode()
    return decoded(raw, path)


def sources_of(inputs: Sequence[Path]) -> list[Source]:
    """The sources that some paths, patterns and folders name, in their order. Raises UserError."""
    found: list[Source] = []
    for path in inputs:
        if path.is_dir():
            inside = [source for folder, _, files in walk(path) for source in grouped(folder, files)]
            if not inside:
                raise UserError(f"{path} is a folder without files of rows: name the files")
            found += inside
        elif path.exists() or not glob.has_magic(str(path)):
            found += grouped(path.parent, [path.name], named=True)
        else:
            found += matching(path)
    return found


def walk(path: Path) -> list[tuple[Path, list[str], list[str]]]:
    """The folders in a folder, sorted, with the names of their files; nothing hidden, and no links to folders."""
    visited = []
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        visited.append((Path(folder), folders, sorted(name for name in files if not name.startswith("."))))
    return visited


def matching(pattern: Path) -> list[Source]:
    paths = [Path(name) for name in sorted(glob.glob(str(pattern), recursive=True))]  # noqa: PTH207 (absolute patterns too)
    if not paths:
        raise UserError(f"no file matches {pattern}")
    found = sources_of([path for path in paths if path.is_dir()])
    for folder in sorted({path.parent for path in paths}):
        found += grouped(folder, [path.name for path in paths if path.parent == folder and not path.is_dir()], True)
    return found


def grouped(folder: Path, files: list[str], named: bool = False) -> list[Source]:
    """Some files of a folder: those of brat are one source. Where they are not `named` they are all that it holds, and
    must be known by their names."""
    brat = {name.removesuffix(ANN) for name in files if name.endswith(ANN)}
    texts = [name.removesuffix(TXT) for name in files if name.endswith(TXT)]
    brat |= {name for name in texts if named and (folder / (name + ANN)).exists()}
    others = [name for name in files if not name.endswith((ANN, TXT)) or name[: -len(TXT)] not in brat]
    found: list[Source] = [Source(folder / name) for name in others if named or is_known(folder / name)]
    return found + ([BratFolder(folder, sorted(brat))] if brat else [])


def is_known(path: Path) -> bool:
    if path.name.endswith(TXT) and path.is_file():
        with path.open("rb") as file:
            return are_columns(file.read(HEAD), path.name)
    return any(pattern.search(path.name) for pattern in (NAMED, COLUMNS, TABLES))
