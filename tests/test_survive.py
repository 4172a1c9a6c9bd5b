"""Killed at any moment, two at once, no room to write: an output is whole, the older or the new one, and nothing piles
up. With PII_LONG=1 each command is killed 50 times instead of a few times."""

import contextlib
import ctypes
import hashlib
import io
import itertools
import json
import multiprocessing
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from transformers.utils import logging

import predict
import prepare
import standin
import train
from pii import common, outputs
from pii.decoder import standin as builder
from tests.decoder.test_backbone import save_tiny_backbone
from tests.test_standin import HIDDEN, source, source_tokenizer  # noqa: F401 (fixtures)
from tests.test_train import DEPTH, MAX_LENGTH, raw_rows

KILLS = 50 if os.environ.get("PII_LONG") else 3  # of each command
FILE_EVENTS = ("open", "os.", "shutil.", "tempfile.", "ctypes.dlsym")  # what Python announces of work on files
VOLATILE = {"config.json", "summary.json"}  # times and the flag --resume stand in them
CONTEXT = multiprocessing.get_context("fork")


class Job(NamedTuple):
    """A command that writes below a folder: `run(folder, "old")` and, over its output, `run(folder, "new")`."""

    run: Callable[[Path, str], object]
    outputs: list[str]  # each whole by itself


@pytest.fixture(scope="module")
def materials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs of all commands, an older and a newer version of each."""
    folder = tmp_path_factory.mktemp("survive")
    save_tiny_backbone(folder / "backbone", vocab_size=131072, num_hidden_layers=DEPTH)
    rows = [json.dumps(row) + "\n" for row in raw_rows(100)]
    for version, lines in (("old", rows[:40]), ("new", rows[40:])):
        (folder / f"{version}.jsonl").write_text("".join(lines), encoding="utf-8")
        (folder / version).mkdir()
        for name in ("a.jsonl", "b.jsonl", "c.jsonl"):
            (folder / version / name).write_text("".join(lines[: ord(name[0]) - 90]), encoding="utf-8")
    prepare_job(folder).run(folder, "new")
    shutil.move(folder / "out", folder / "prepared")
    train_job(folder).run(folder, "new")
    shutil.move(folder / "out", folder / "run")
    return folder


def prepare_job(materials: Path) -> Job:
    def run(folder: Path, version: str) -> None:
        prepare.main(["--input", str(materials / f"{version}.jsonl"), "--output", str(folder / "out")])

    return Job(run, ["out"])


def train_job(materials: Path) -> Job:
    def run(folder: Path, version: str) -> None:
        flags = ["--data", materials / "prepared", "--backbone", materials / "backbone", "--output", folder / "out"]
        flags += ["--seed", int(version == "new"), "--epochs", 2, "--save-every", 1, "--resume", "--device", "cpu"]
        flags += ["--heads", "documented", "strong", "--strong-epochs", 2, "--batch-size", 12, "--dropout", 0.3]
        train.STEPS_AHEAD["cpu"] = 3
        train.main([*map(str, flags), "--max-length", str(MAX_LENGTH), "--learning-rate", "0.01"])

    return Job(run, ["out"])


def predict_job(materials: Path, kind: str) -> Job:
    def run(folder: Path, version: str) -> None:
        names, version = ("abc" if version == "new" else "a", "new") if kind == "folder" else ("a", version)
        files = [materials / version / f"{name}.jsonl" for name in names]
        if kind == "folder":
            (folder / "out").mkdir(exist_ok=True)
        flags = ["--run", materials / "run", "--device", "cpu", "--field", "unmasked_text", "--output", folder / "out"]
        vault = ["--vault", folder / f"vault-{version}", "--replace", "numbered"] if kind == "vault" else []
        predict.main([*map(str, [*flags, *vault, *files])])

    outputs = {"file": ["out"], "folder": [f"out/{name}.jsonl" for name in "abc"], "vault": ["vault-new", "out"]}
    return Job(run, outputs[kind])


def standin_job(source: Path) -> Job:  # noqa: F811 (the fixture's value)
    def run(folder: Path, version: str) -> None:
        logging.disable_progress_bar()
        builder.tekken_embeddings = lambda *_: (torch.zeros(131072, HIDDEN), 1.0)  # seconds of work
        if version == "new":  # an older backbone is never written over
            standin.main(["--source", str(source), "--output", str(folder / "out")])

    return Job(run, ["out"])


class Place(NamedTuple):
    """A job and the folder it writes below, as it is before; and what the undisturbed job makes of it."""

    job: Job
    folder: Path
    older: Path
    old: list[str | None]  # `state_of` the outputs
    new: list[str | None]
    seconds: float
    events: int
    largest: int  # bytes of the largest new file

    def run(self) -> None:
        self.job.run(self.folder, "new")

    def reset(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.older, self.folder)

    def state(self) -> list[str | None]:
        return state_of(self.folder, self.job.outputs)


@pytest.fixture(
    scope="module", params=["prepare", "train", "predict file", "predict folder", "predict vault", "standin"]
)
def place(request: pytest.FixtureRequest, materials: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    name, _, kind = request.param.partition(" ")
    if name == "predict":
        job = predict_job(materials, kind)
    elif name == "standin":
        job = standin_job(request.getfixturevalue("source"))
    else:
        job = {"prepare": prepare_job, "train": train_job}[name](materials)
    older, folder = (tmp_path_factory.mktemp(name) / name for name in ("older", "work"))
    (older / "tmp").mkdir(parents=True)
    assert finish(lambda: job.run(older, "old"), older) == 0
    shutil.copytree(older, folder)
    events, started = CONTEXT.Value("i", 0), time.perf_counter()
    assert finish(lambda: job.run(folder, "new"), folder, events=events) == 0
    seconds, old, new = time.perf_counter() - started, state_of(older, job.outputs), state_of(folder, job.outputs)
    assert old != new and not leftovers(folder)
    largest = max(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Place(job, folder, older, old, new, seconds, events.value, largest)


def start(call: Callable[[], object], folder: Path, kill_at: int = 0, events=None) -> multiprocessing.Process:
    """`call` in a child process whose temporary files go to folder/tmp. It counts the `events` of its work on files and
    kills itself just before one of them."""
    counted = itertools.count(1)

    def child() -> None:
        own, kinds = os.getpid(), {}

        def hook(event: str, _) -> None:
            if event not in kinds:
                kinds[event] = event.startswith(FILE_EVENTS) and event not in ("os.listdir", "os.scandir")
            if kinds[event] and os.getpid() == own:
                number = next(counted)
                if events:
                    events.value = number
                if number == kill_at:
                    os.kill(own, 9)

        tempfile.tempdir = str(folder / "tmp")
        sys.addaudithook(hook)
        common.run(call)

    process = CONTEXT.Process(target=child)
    process.start()
    return process


def finish(call: Callable[[], object], folder: Path, **rest) -> int:
    process = start(call, folder, **rest)
    process.join(120)
    return process.exitcode


def state_of(folder: Path, outputs: list[str]) -> list[str | None]:
    """A hash of what each output holds, None where it is not there."""
    return [fingerprint(folder / output) for output in outputs]


def fingerprint(output: Path) -> str | None:
    if not output.is_dir():
        return hashlib.sha256(output.read_bytes()).hexdigest() if output.exists() else None
    digest = hashlib.sha256()
    for path in sorted(output.rglob("*")):
        name = str(path.relative_to(output))
        if path.is_file() and not name.startswith(".") and name != "resume.safetensors":
            digest.update(name.encode() + (b"" if name in VOLATILE else path.read_bytes()))
    return digest.hexdigest()


def leftovers(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.match(".*") or path.match("tmp/*")]


def test_a_command_killed_at_any_moment_leaves_the_older_or_the_new_output_whole(place, capfd):
    choose = random.Random()
    place.reset()
    for number in range(KILLS):
        if number % 2:
            process = start(place.run, place.folder)
            process.join(moment := choose.uniform(0, place.seconds))
            process.kill()
            process.join()
        else:
            moment = choose.randint(1, place.events)
            finish(place.run, place.folder, kill_at=moment)
        at = f"kill {number} at {moment} of {place.seconds} s or {place.events} events"
        assert_whole(place, at)
        assert len([name for name in leftovers(place.folder) if name.endswith(".writing")]) <= 2, at
        if choose.random() < 0.5:  # else another kill follows this one
            assert finish(place.run, place.folder) == 0, f"{at}\n{capfd.readouterr().err}"
            assert place.state() == place.new and not leftovers(place.folder), f"{at}: {leftovers(place.folder)}"
            place.reset()


def assert_whole(place: Place, at: str) -> None:
    """Each output is the older or the new one, and a new text is never beside an older vault."""
    found = place.state()
    assert all(some in both for some, both in zip(found, zip(place.old, place.new, strict=True), strict=True)), at
    if "vault-new" in place.job.outputs:
        assert found != [place.old[0], place.new[1]], at


# no room, no right to write


def full_disk(place: Place, room: int) -> None:
    """A file system of `room` bytes beside the older output."""
    mount(place, "size=64m")
    with contextlib.suppress(OSError), (place.folder / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))
    os.truncate(place.folder / "filler", max(0, (place.folder / "filler").stat().st_size - room))


def read_only(place: Place, _) -> None:
    mount(place, "size=64m")
    mount(place, "remount,ro")


def mount(place: Place, options: str) -> None:
    """For this process alone."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place.folder], check=True)
    if "remount" not in options:
        shutil.copytree(place.older, place.folder, dirs_exist_ok=True)


def small_files(_, room: int) -> None:
    """No file is longer than `room`: what also a user can have who may not mount anything."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))


@pytest.mark.parametrize("constrain", [full_disk, read_only, small_files])
def test_without_room_or_right_to_write_one_line_says_so_and_nothing_half_written_stays(place, constrain):
    if constrain is not small_files and os.geteuid():
        pytest.skip("only root mounts file systems")
    place.reset()
    for _ in range(1 + KILLS // 10):
        room = random.randrange(9 * place.largest // 10)

        def attempt(room: int = room) -> tuple:
            ctypes.CDLL(None).unshare(0x20000)  # CLONE_NEWNS: mounts are this process's own
            constrain(place, room)
            return *outcome(place.run), place.state(), leftovers(place.folder)

        code, err, state, left = in_child(attempt)
        assert (code, left) == (2, []) and len(err.splitlines()) == 1, f"room {room}: {err}"
        assert state == place.old or len(state) == 3, f"room {room}"  # of several files some are written


def in_child(call: Callable[[], object]):
    """What `call` returns in a child process."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=lambda: theirs.send(call()))
    process.start()
    process.join(60)
    assert ours.poll()
    return ours.recv()


def outcome(run: Callable[[], object]) -> tuple[int, str]:
    """Exit code and standard error of a script."""
    with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()):
        try:
            common.run(run)
            code = 0
        except SystemExit as stop:
            code = stop.code
    return code, err.getvalue()


# two at once


def test_two_at_once_on_one_output_leave_it_whole_and_who_is_refused_is_told_in_one_line(place):
    for patience in (0.0, 60.0):
        place.reset()

        def attempt(patience: float = patience) -> tuple[int, str]:
            outputs.PATIENCE = patience
            return outcome(place.run)

        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(in_child, [attempt, attempt]))
        assert place.state() == place.new and not leftovers(place.folder)
        for code, err in both:
            refused = code == 2 and "another process is writing" in err and len(err.splitlines()) == 1
            assert code == 0 or (refused and not patience), err
        assert any(code == 0 for code, _ in both)
