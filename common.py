"""What every script shares: one-line errors and files that are whole or absent."""

import argparse
import collections
import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NoReturn, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class UserError(Exception):
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
    """Run a script's main: a UserError becomes one line and exit code 2, Ctrl-C one line and 130."""
    try:
        main()
    except UserError as error:
        fail(str(error), error.code)
    except KeyboardInterrupt:
        fail("interrupted", code=130)
    except BrokenPipeError:  # the reader of our output left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


def fail(message: str, code: int = 2) -> NoReturn:
    """Print one line on standard error and leave: code 2 is the user's mistake, 1 a failed check."""
    print(f"{Path(sys.argv[0]).name}: error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(code)


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, delete it on any exception."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(folder: Path | str, mode: int = 0o777) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`; put it in `folder`'s place on success, delete it on any exception.

    A folder cannot be renamed onto a full one, so the old one steps aside first and is deleted last.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        (new := temporary / "new").mkdir(mode)
        yield new
        if folder.exists():
            folder.rename(temporary / "old")
        new.rename(folder)
    finally:
        shutil.rmtree(temporary)


def parallel_map(function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[tuple[Task, Result]]:
    """(task, function(task)) in the tasks' order, worked out by one process a core; a few tasks are read ahead."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("fork" if "fork" in methods and sys.platform == "linux" else None)
    tasks = iter(tasks)
    waiting = collections.deque(islice(tasks, 1))  # what the first task needs is loaded here, before the workers start
    with ProcessPoolExecutor(cores, context, initializer=_follow_parent, initargs=(os.getpid(),)) as pool:
        pending = collections.deque((task, pool.submit(function, task)) for task in waiting)
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


def fraction(text: str) -> float:
    """An argparse type: a share from 0 to 1, both included."""
    if not 0 <= (value := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def positive_float(text: str) -> float:
    """An argparse type: finite and above 0."""
    if not 0 < (value := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value
