"""What every script shares: one-line errors, types of arguments, and work on several cores."""

import argparse
import collections
import io
import multiprocessing
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NoReturn, TypeVar

from pii.cores import available_cores

NO_MEMORY = re.compile("out of memory|allocate memory|not enough memory")  # what PyTorch says, of a GPU and of a CPU
MOST_RATE = 1e30  # AdamW's first step multiplies it by 10, in float32

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


def run_command(command: str, folder: Path) -> float:
    """Run `python COMMAND` in a folder, show it first, and return its seconds. Raises UserError where it fails."""
    print(f"\n$ python {command}", flush=True)
    started = time.perf_counter()
    if subprocess.run([sys.executable, *shlex.split(command)], cwd=folder).returncode:
        raise UserError(f"`python {command}` failed: see above", code=1)
    return time.perf_counter() - started


def run(main: Callable[[], None]) -> None:
    """Run a script's main. What a user can mend ends with one line on standard error and code 2, Ctrl-C with 130."""
    code = 0
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what its encoding lacks is shown as an escape: \xe9
            stream.reconfigure(errors="backslashreplace")
    try:
        main()
        if sys.stdout is not None:
            sys.stdout.flush()  # a full disk behind it is met now, not where the interpreter ends
    except UserError as error:
        message, code = str(error), error.code
    except KeyboardInterrupt as interrupt:
        message, code = "; ".join(["interrupted", *map(str, interrupt.args)]), 130
    except BrokenPipeError:  # the reader of our output left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not NO_MEMORY.search(str(error)):
            raise
        message, code = "memory is short: free some, or have less done at once (--tokens-per-forward, --batch-size)", 2
    except UnicodeEncodeError as error:  # of a file's name, where the locale's encoding is narrow
        message, code = f"{error.encoding} cannot hold a name that was given: rename it or set LC_ALL=C.UTF-8", 2
    except OSError as error:  # a full disk, a read-only folder
        message, code = f"{error.strerror or type(error).__name__}: {error.filename or 'no file named'}", 2
    if code:
        print(f"{Path(sys.argv[0]).name}: error: {' '.join(message.split())}", file=sys.stderr)
        raise SystemExit(code)


def path_text(path: Path | str) -> str:
    """A path as files in UTF-8 can hold it: what of its name is no UTF-8 stands as an escape."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def parallel_map(function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[tuple[Task, Result]]:
    """(task, function(task)) in the tasks' order, worked out by one process a core; a few tasks are read ahead.

    The workers start when the first task is there: on Linux they share what was loaded until then.
    """
    cores = available_cores()
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
        except BrokenProcessPool:
            raise UserError(
                "a worker process was killed, as happens where memory is short: free some", code=1
            ) from None
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
    if not 1 <= (value := int(text)) < 2**31:
        raise argparse.ArgumentTypeError(f"{text} is not between 1 and {2**31 - 1}")
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


def learning_rate(text: str) -> float:
    """An argparse type: above 0, and so that no step of an optimizer overflows before its loss does."""
    if not 0 < (value := float(text)) <= MOST_RATE:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most {MOST_RATE:g}")
    return value


def positive_float(text: str) -> float:
    """An argparse type: above 0 and finite as a float32."""
    if not 0 < (value := float(text)) < 2.0**127:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0, or too large")
    return value
