"""Reading folders that someone else may have made: nothing outside them is read, and nothing without end."""

import contextlib
import json
import os
import stat
from pathlib import Path
from typing import Any

from pii.common import UserError
from pii.inputs import decoded

JSON_BYTES, JSON_LEVELS = 1 << 26, 100  # of a file that describes data or a run, at most


def safe_join(folder: Path, *names: str) -> Path:
    """The path of a file or folder in a folder that someone else may have made, there or not.

    Raises UserError where a symbolic link leads out of the folder, and at a pipe or device, which would never end.
    """
    path = folder.joinpath(*names)
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise UserError(f"{path} is a link that leads out of {folder}: put a copy in its place")
    with contextlib.suppress(OSError):  # what is not there is for the caller to miss
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise UserError(f"{path} is no file: put a copy of the real one in its place")
    return path


def read_json(path: Path, unique_keys: bool = False) -> Any:
    """What a JSON file holds. Raises OSError, or ValueError where it holds no JSON or more than a file of ours can:
    lone surrogates, more than JSON_LEVELS lists in lists, more than JSON_BYTES bytes; with `unique_keys` also where an
    object has a key twice."""
    if path.stat().st_size > JSON_BYTES:
        raise ValueError("too large")
    try:
        hook = without_repeats if unique_keys else None
        value = json.loads(decoded(path.read_bytes(), str(path)), object_pairs_hook=hook)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("nested too deep") from None
    if is_deeper(value, JSON_LEVELS):
        raise ValueError("nested too deep")
    return value


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def is_deeper(value: object, levels: int) -> bool:
    """Whether lists and objects lie in one another more than so many levels deep."""
    if not isinstance(value, (dict, list)):
        return False
    return levels == 0 or any(is_deeper(e, levels - 1) for e in (value.values() if isinstance(value, dict) else value))
