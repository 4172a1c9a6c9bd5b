"""The vault: what numbered placeholders stand for, and how a redacted text becomes the original again."""

import contextlib
import hashlib
import json
import re
from collections import defaultdict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pii.common import UserError, atomic_path

BRACKETED = re.compile(r"\[[^\[\]]+\]")  # every placeholder, and what looks like one
VAULT_HEADER = '{"vault_version": 1}'


# The vault


class Vault:
    """What numbered placeholders stand for: a JSON line a document, also for those without any. It holds the values
    themselves, so only its owner may read it."""

    def __init__(self, file: IO[str]) -> None:
        self.file = file
        self.file.write(VAULT_HEADER + "\n")

    @classmethod
    @contextlib.contextmanager
    def create(cls, path: Path | str) -> Iterator["Vault"]:
        """A vault that is written beside `path`, takes its place on success and is deleted on any exception. UserError
        if something else than a vault stands there."""
        path = Path(path)
        if path.exists() and not is_vault(path):
            raise UserError(f"{path} exists and is no vault: choose another name")
        with atomic_path(path) as temporary:
            temporary.touch(mode=0o600, exist_ok=False)
            with temporary.open("w", encoding="utf-8", newline="\n") as file:
                yield cls(file)

    def add(self, redacted: str, values: dict[str, str]) -> None:
        """Keep the values (placeholder → value) of the next document."""
        self.file.write(json.dumps({"redacted_sha256": sha256_of(redacted), "values": values}) + "\n")


Documents = dict[str, deque[dict[str, str]]]  # SHA-256 of a redacted text → values of the documents that became it


def load_vault(path: Path | str) -> Documents:
    """What `Vault.create` wrote, for `restore`. UserError if it cannot be read, is no vault or is damaged."""
    documents: Documents = defaultdict(deque)
    try:
        with Path(path).open("rb") as file:
            if not begins_as_vault(file):
                raise UserError(f"{path} is no vault, or of another version: give the vault that redacting wrote")
            for number, line in enumerate(file, start=2):
                digest, values = parse_document(line, f"{path} is damaged in line {number}: use a sound copy")
                documents[digest].append(values)
    except OSError as error:
        raise UserError(f"cannot read the vault {path}: {error.strerror}") from None
    return dict(documents)


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


def restore(vault: Documents, redacted_text: str) -> str:
    """The original of a redacted text, each placeholder replaced once.

    A text that the vault does not know, because it was edited, is restored only if the vault holds one document: it can
    be no other. Else UserError. Different originals that became the same redacted text come back in the order in which
    they were redacted, and then from the first again: restore a job's texts in the job's order.
    """
    same = vault.get(sha256_of(redacted_text))
    if same is None and sum(map(len, vault.values())) == 1:
        (same,) = vault.values()
    if same is None:
        raise UserError("the vault does not know this text: it was changed or belongs to another vault")
    values = same[0]
    same.rotate(-1)
    return BRACKETED.sub(lambda match: values.get(match[0], match[0]), redacted_text)


def sha256_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
