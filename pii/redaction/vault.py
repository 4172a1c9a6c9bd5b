"""The vault: what numbered placeholders stand for, and how a redacted text becomes the original again."""

import contextlib
import hashlib
import io
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from pii.common import UserError
from pii.outputs import atomic_path

BRACKETED = re.compile(r"\[[^\[\]]+\]")  # every placeholder, and what looks like one
NUMBERED = re.compile(r"\[[^\[\]]+_[0-9]+\]")
VAULT_HEADER = '{"vault_version": 1}'


def count_from_1() -> defaultdict[str, Iterator[int]]:
    """[LABEL] → the numbers of its placeholders that are still free."""
    return defaultdict(lambda: itertools.count(1))


class Vault:
    """What numbered placeholders stand for: a JSON line a document, also for those without any. It holds the values
    themselves, so only its owner may read it.

    Its numbers go on from document to document: no placeholder stands for two values, so that each document can be
    restored alone, in any order, and no two that differ become the same text. What a text holds that only looks like a
    placeholder is kept as standing for itself.
    """

    def __init__(self, file: IO[str], older: IO[bytes] | None = None) -> None:
        """`older` is the vault that this one is to replace."""
        self.file, self.older = file, older or io.BytesIO()
        self.numbers = count_from_1()
        self._write(VAULT_HEADER)

    @classmethod
    @contextlib.contextmanager
    def create(cls, path: Path | str) -> Iterator["Vault"]:
        """A vault that is written beside `path`, takes its place on success and is deleted on any exception.

        UserError if something else stands there: no vault, or one of other texts, which could be restored no more. A
        vault that begins as the one there, as when a job is done again, takes its place.
        """
        path = Path(path)
        if path.exists() and not is_vault(path):
            raise UserError(f"{path} exists and is no vault: choose another name")
        with atomic_path(path) as temporary, contextlib.ExitStack() as stack:
            older = stack.enter_context(path.open("rb")) if path.exists() else None
            temporary.touch(mode=0o600, exist_ok=False)
            file = stack.enter_context(temporary.open("w", encoding="utf-8", newline="\n"))
            yield (vault := cls(file, older))
            vault.check_older(b"")

    def add(self, redacted: str, values: dict[str, str]) -> None:
        """Keep the values (placeholder → value) of the next document."""
        self._write(json.dumps({"redacted_sha256": sha256_of(redacted), "values": values}))

    def _write(self, line: str) -> None:
        self.check_older(line.encode() + b"\n")
        self.file.write(line + "\n")

    def check_older(self, line: bytes) -> None:
        """UserError if the older vault goes on otherwise than with this line."""
        if (older := self.older.readline()) and older != line:
            raise UserError(
                f"{self.older.name} is the vault of other texts, which it alone can restore: choose another name, or "
                "delete it if they need not be restored"
            )


class Originals(NamedTuple):
    """What a vault holds."""

    documents: dict[str, dict[str, str] | None]  # SHA-256 of a redacted text → placeholder → value; None: several
    values: dict[str, str | None]  # placeholder → value over all documents; None: several


def load_vault(path: Path | str) -> Originals:
    """What `Vault.create` wrote, for `restore`. UserError if it cannot be read, is no vault or is damaged."""
    vault = Originals({}, {})
    try:
        with Path(path).open("rb") as file:
            if not begins_as_vault(file):
                raise UserError(f"{path} is no vault, or of another version: give the vault that redacting wrote")
            for number, line in enumerate(file, start=2):
                digest, values = parse_document(line, f"{path} is damaged in line {number}: use a sound copy")
                if vault.documents.setdefault(digest, values) != values:
                    vault.documents[digest] = None
                for placeholder, value in values.items():
                    if vault.values.setdefault(placeholder, value) != value:
                        vault.values[placeholder] = None
    except OSError as error:
        raise UserError(f"cannot read the vault {path}: {error.strerror}") from None
    return vault


def is_vault(path: Path) -> bool:
    """Whether a path leads to a vault, and to no folder, pipe or other file."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return begins_as_vault(file)


def begins_as_vault(file: IO[bytes]) -> bool:
    return file.readline(100).strip() == VAULT_HEADER.encode()


def parse_document(line: bytes, complaint: str) -> tuple[str, dict[str, str]]:
    """(SHA-256 of the redacted text, placeholder → value)."""
    with contextlib.suppress(ValueError, RecursionError):
        match json.loads(line):
            case {"redacted_sha256": str(digest), "values": dict(values)} if all(
                BRACKETED.fullmatch(key) and isinstance(value, str) for key, value in values.items()
            ):
                "".join(values.values()).encode("utf-8")  # a lone surrogate could not be written
                return digest, values
    raise UserError(complaint)


def restore(vault: Originals, redacted_text: str, edited: bool = False) -> str:
    """The original of a redacted text, each placeholder replaced once.

    With `edited`, a text that the vault does not know is taken for one that was changed since: its placeholders are
    replaced by what they stand for in the vault, and what is none stays. UserError where it is not certain what stood
    there: for a text that the vault does not know, or knows of several originals.
    """
    digest = sha256_of(redacted_text)
    if digest not in vault.documents and not edited:
        raise UserError(
            "the vault does not know this text: it was changed or belongs to another vault; give it as it was, or add "
            "--edited to go by the placeholders alone"
        )
    values: dict[str, str] | dict[str, str | None] | None = vault.documents.get(digest, vault.values)
    if values is None:
        raise UserError("the vault holds several originals of this text: leave it out, nothing tells which it was")

    def original(match: re.Match[str]) -> str:
        value = values.get(match[0], match[0])
        if value is None:
            raise UserError("the vault holds several values of a placeholder in this text: leave it out")
        return value

    return BRACKETED.sub(original, redacted_text)


def sha256_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
