"""What every script shares: one-line errors and files that are whole or absent."""

import argparse
import collections
import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import NoReturn, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class UserError(ValueError):
    """A script cannot go on. The message is one line: what is wrong and what to do. Exit code 2 is the user's
    mistake, 1 a check that failed."""

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, as every other error is."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see --help)")


def run(main: Callable[[], None]) -> None:
    """Run a script's main. What a user can mend ends with one line on standard error and code 2, Ctrl-C with 130."""
    code = 0
    try:
        main()
    except UserError as error:
        message, code = str(error), error.code
    except KeyboardInterrupt:
        message, code = "interrupted", 130
    except BrokenPipeError:  # the reader of our output left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:  # a full disk, a read-only folder
        message, code = f"{error.strerror or type(error).__name__}: {error.filename or 'no file named'}", 2
    if code:
        print(f"{Path(sys.argv[0]).name}: error: {' '.join(message.split())}", file=sys.stderr)
        raise SystemExit(code)


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, delete it on any exception."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Readable JSON, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextlib.contextmanager
def atomic_folder(folder: Path | str, *marks: str, mode: int = 0o777) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`; put it in `folder`'s place on success, delete it on any exception.

    Only an empty folder or one that holds a file named as one of `marks`, as every folder written here does, is
    replaced: any other is not ours to delete (UserError).
    """
    folder = Path(folder)
    ours = any((folder / mark).is_file() for mark in marks) or (folder.is_dir() and not any(folder.iterdir()))
    if folder.exists() and not ours:
        raise UserError(f"{folder} exists and holds something else (no {marks[0]}): choose another --output")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    new, old = temporary / "new", temporary / "old"
    try:
        new.mkdir(mode)
        yield new
        try:  # a folder cannot be renamed onto a full one, so the old one steps aside
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
        finally:
            if old.exists() and not folder.exists():
                old.rename(folder)
    finally:
        shutil.rmtree(temporary)


def parallel_map(function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[tuple[Task, Result]]:
    """(task, function(task)) in the tasks' order, worked out by one process a core; a few tasks are read ahead.

    The workers start when the first task is there: on Linux they share what was loaded until then.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    pending: collections.deque[tuple[Task, Future]] = collections.deque()
    with ProcessPoolExecutor(cores, context, initializer=_follow_parent, initargs=(os.getpid(),)) as pool:
        try:
            for task in tasks:
                pending.append((task, pool.submit(function, task)))
                if len(pending) > 2 * cores:
                    done, future = pending.popleft()
                    yield done, future.result()
            while pending:
                done, future = pending.popleft()
                yield done, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _follow_parent(parent: int) -> None:
    """In a worker: leave Ctrl-C to the parent, and end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def positive_int(text: str) -> int:
    """An argparse type."""
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def seed(text: str) -> int:
    """An argparse type: what every random generator here takes."""
    if not 0 <= (value := int(text)) < 2**32:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {2**32 - 1}")
    return value


def fraction(text: str) -> float:
    """An argparse type: a share from 0 to 1, both included."""
    if not 0 <= (value := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def positive_float(text: str) -> float:
    """An argparse type: above 0 and finite as a float32."""
    if not 0 < (value := float(text)) < 2.0**127:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0, or too large")
    return value
