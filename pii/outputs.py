"""Files and folders that are whole or absent, written by one process at a time, and tried before the work."""

import contextlib
import ctypes
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout
from safetensors import SafetensorError

from pii.common import UserError, path_text

PATIENCE = 2.0  # seconds to wait for another process that writes the same file: most are written in less
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux' renameat2


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path near `path`; rename it to `path` on success, delete it on any exception."""
    path = Path(path).absolute()
    refuse_as_file(path)
    with work_folder(path) as place:
        temporary = place / path.name
        yield temporary
        temporary.replace(path)


def write_json(path: Path, value: object) -> None:
    """Readable JSON, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextlib.contextmanager
def atomic_folder(folder: Path | str, *marks: str, mode: int = 0o777) -> Iterator[Path]:
    """Yield a temporary folder near `folder`; put it in `folder`'s place on success, delete it on any exception.

    Only an empty folder or one that holds a file named as one of `marks`, as every folder written here does, is
    replaced: any other is not ours to delete (UserError).
    """
    place_of = Path(folder).absolute()
    with work_folder(place_of) as place:
        refuse_as_folder(place_of, marks)
        new = place / "new"
        new.mkdir(mode)
        yield new
        take_place(new, place_of)


def check_output(path: Path | str | None, *marks: str) -> None:
    """Before long work: raise UserError or OSError where `atomic_path`, or with `marks` `atomic_folder`, would fail at
    its end. It tries, and leaves nothing; None is no output."""
    if path is None:
        return
    path = Path(path).absolute()
    missing = [folder for folder in path.parents if not folder.exists()]
    try:
        with work_folder(path) as place:
            refuse_as_folder(path, marks) if marks else refuse_as_file(path)
            (place / path.name).touch()  # under the name that it will have
    finally:
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()


def refuse_as_file(path: Path) -> None:
    """Raise UserError where a file cannot take the place of what is there."""
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file")
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is a pipe or a device: name a file")


def refuse_as_folder(folder: Path, marks: tuple[str, ...]) -> None:
    """Raise UserError where a folder cannot take the place of what is there."""
    if folder.exists() and not is_ours(folder, marks):
        raise UserError(f"{folder} exists and holds something else (no {marks[0]}): choose another --output")
    if os.path.ismount(folder):
        raise UserError(f"{folder} is a mount point, which nothing can replace: name a folder within it")


def check_unicode(path: Path) -> None:
    """Raise UserError where a path is none for libraries that take names in Unicode only."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{path_text(path)}: its name must be UTF-8, and so must the locale's: set LC_ALL=C.UTF-8"
        ) from None


def is_ours(folder: Path, marks: tuple[str, ...]) -> bool:
    """Whether a folder holds one of these files, or nothing but what a killed process left of writing one."""
    if any((folder / mark).is_file() for mark in marks):
        return True
    return folder.is_dir() and {*folder.iterdir()} <= {writing_folder(folder / mark) for mark in marks}


def take_place(new: Path, folder: Path) -> None:
    """Put `new` in the place of `folder`, which may be there and full: in one step if that can be, so that a process
    killed meanwhile leaves the one or the other."""
    if not folder.exists():
        new.rename(folder)
    elif not exchanged(new, folder):
        old = new.with_name("old")  # where `clear_up` looks for it
        try:
            folder.rename(old)
            new.rename(folder)
        finally:
            if old.exists() and not folder.exists():
                old.rename(folder)


def exchanged(one: Path, other: Path) -> bool:
    """Exchange two folders in one step. False where that is not possible: only Linux does, on most file systems."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    return rename is not None and not rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE)


@contextlib.contextmanager
def work_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder near `path`, its owner's only, to write in what shall take `path`'s place; then delete it.

    One process at a time has it: UserError for another. It first clears up what a killed one left, which it can tell
    because the lock of a process ends with it. A file system without locks lets all of them work, each in a folder
    of its own, and nothing is cleared up.
    """
    shared = writing_folder(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{path.parent} is no folder, or a part of its way is none: choose another place") from None
    with locked(shared / "lock", path) as is_alone:
        if is_alone:
            clear_up(shared, path)
        own = Path(tempfile.mkdtemp(dir=shared))
        try:
            yield own
        except SafetensorError as error:  # its writer says so that the disk is full
            raise UserError(f"cannot write {path}: {error}") from None
        except OSError as error:
            error.filename = error.filename or str(path)  # a failed write names no file
            raise
        finally:
            shutil.rmtree(own)


def writing_folder(path: Path) -> Path:
    """Where all who write `path` meet."""
    return path.parent / f".{path.name}.writing"


def clear_leftovers(path: Path) -> None:
    """Delete what a process left near `path` that was killed when it had just put it in its place."""
    path = path.absolute()
    if writing_folder(path).exists():
        with work_folder(path):
            pass


def clear_up(shared: Path, path: Path) -> None:
    """Delete what killed processes left; an older folder that one had just taken from its place goes back there."""
    for left in shared.iterdir():
        if left.is_dir():
            if (left / "old").is_dir() and not path.exists():
                (left / "old").rename(path)
            shutil.rmtree(left)


@contextlib.contextmanager
def locked(lock: Path, path: Path) -> Iterator[bool]:
    """Hold the lock file of `path`, in a folder made for it. False where the file system has no locks."""
    taken = FileLock(lock, fallback_to_soft=False)  # a file instead of a lock would outlast a killed process
    is_alone = take(taken, lock, path)
    try:
        yield is_alone
    finally:
        lock.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another process is there already
            lock.parent.rmdir()
        taken.release()


def take(taken: BaseFileLock, lock: Path, path: Path) -> bool:
    """Wait for the lock. False where the file system has none; UserError where another process keeps it."""
    for _ in range(100):  # in vain only where others make or delete the folders in the same moment
        try:
            path.parent.mkdir(parents=True, exist_ok=True)  # another process that had made it may have taken it away
            with contextlib.suppress(FileExistsError):
                lock.parent.mkdir(0o700)
        except FileNotFoundError:
            continue
        try:
            taken.acquire(PATIENCE, 0.02)
            return True
        except (FileNotFoundError, FileExistsError):
            continue
        except Timeout:
            break
        except OSError:
            return False
    raise UserError(f"another process is writing {path}: wait for it or choose another name")
