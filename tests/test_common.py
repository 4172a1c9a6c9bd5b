"""What every script shares: promises of outputs.py about what stands in the place of an output and beside it."""

import argparse
import contextlib
import errno
import fcntl
import io
import multiprocessing
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from pii import common, outputs
from pii.common import UserError
from pii.outputs import atomic_folder, atomic_path, clear_leftovers

CONTEXT = multiprocessing.get_context("fork")


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A folder as an earlier command wrote it."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mark").write_text("older")
    return folder


def write(folder: Path, text: str) -> None:
    with atomic_folder(folder, "mark") as new:
        (new / "mark").write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def in_child(call) -> int:
    process = CONTEXT.Process(target=call)
    process.start()
    process.join(60)
    return process.exitcode


def killed_at_rename(monkeypatch: pytest.MonkeyPatch, folder: Path, number: int) -> None:
    """A process that writes `folder` where folders cannot be exchanged is killed just before its rename `number`."""

    def child() -> None:
        calls, rename = [], Path.rename
        monkeypatch.setattr(Path, "rename", lambda *paths: (calls.append(paths), dying(calls), rename(*paths))[2])
        write(folder, "new")

    def dying(calls: list) -> None:
        if len(calls) == number:
            os.kill(os.getpid(), 9)

    monkeypatch.setattr(outputs, "exchanged", lambda *_: False)
    assert in_child(child) == -9


def test_folders_are_exchanged_in_one_step_where_the_system_can(tmp_path, older, monkeypatch):
    def forbidden(*_) -> None:
        raise AssertionError("the place would be empty for a moment")

    if not outputs.exchanged(older, older):
        pytest.skip("not here")
    monkeypatch.setattr(Path, "rename", forbidden)
    write(older, "new")
    assert (older / "mark").read_text() == "new" and names(tmp_path) == ["out"]


@pytest.mark.parametrize("next_text", ["newer", None])
def test_a_folder_that_a_killed_process_had_taken_away_is_put_back_first(tmp_path, older, monkeypatch, next_text):
    killed_at_rename(monkeypatch, older, 2)
    assert not older.exists()
    ends = pytest.raises(OSError) if next_text is None else contextlib.nullcontext()
    with ends, atomic_folder(older, "mark") as new:
        assert (older / "mark").read_text() == "older"
        (new / "mark").write_text(next_text or "")
        if next_text is None:
            raise OSError
    assert (older / "mark").read_text() == (next_text or "older") and names(tmp_path) == ["out"]


@pytest.mark.parametrize("is_exchanged", [True, False])
def test_what_is_new_replaces_what_is_older_as_a_whole(tmp_path, older, monkeypatch, is_exchanged):
    if not is_exchanged:
        monkeypatch.setattr(outputs, "exchanged", lambda *_: False)
    (older / "more").write_text("of the older one")
    write(older, "new")
    assert names(older) == ["mark"] and (older / "mark").read_text() == "new" and names(tmp_path) == ["out"]


def killed_while_writing(path: Path) -> None:
    def child() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), 9)

    assert in_child(child) == -9


def test_the_next_to_write_a_file_clears_up_what_a_killed_one_left(tmp_path):
    path = tmp_path / "file"
    for _ in range(3):
        killed_while_writing(path)
        assert names(tmp_path) == [".file.writing"] and len(names(tmp_path / ".file.writing")) == 2  # it and the lock
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
    assert names(tmp_path) == ["file"] and path.read_text() == "whole"


def test_leftovers_of_something_that_is_done_can_be_cleared(tmp_path):
    killed_while_writing(tmp_path / "file")
    clear_leftovers(tmp_path / "another")
    assert names(tmp_path) == [".file.writing"]
    clear_leftovers(tmp_path / "file")
    assert names(tmp_path) == []


def test_a_folder_that_holds_only_what_a_killed_process_left_counts_as_empty(tmp_path):
    killed_while_writing(tmp_path / "out" / "mark")
    write(tmp_path / "out", "new")
    assert names(tmp_path) == ["out"] and names(tmp_path / "out") == ["mark"]
    killed_while_writing(tmp_path / "other" / "precious")
    with pytest.raises(UserError, match="--output"):
        write(tmp_path / "other", "new")


@pytest.fixture
def busy(tmp_path):
    """Another process is writing tmp_path/out; it lets go when it is told."""
    ours, theirs = CONTEXT.Pipe()

    def child() -> None:
        with atomic_folder(tmp_path / "out", "mark") as new:
            (new / "mark").write_text("of the first")
            theirs.send("writing")
            theirs.recv()

    process = CONTEXT.Process(target=child)
    process.start()
    assert ours.recv() == "writing"
    yield ours
    if process.is_alive():
        process.kill()
    process.join()


def test_who_comes_second_is_refused_and_the_first_is_not_disturbed(tmp_path, busy, monkeypatch):
    monkeypatch.setattr(outputs, "PATIENCE", 0.1)
    with pytest.raises(UserError, match=f"another process is writing {tmp_path / 'out'}"):
        write(tmp_path / "out", "of the second")
    busy.send("go on")
    while ".out.writing" in names(tmp_path):
        time.sleep(0.01)
    assert (tmp_path / "out" / "mark").read_text() == "of the first" and names(tmp_path) == ["out"]


def test_who_comes_second_waits_a_moment(tmp_path, busy):
    busy.send("go on")
    write(tmp_path / "out", "of the second")
    assert (tmp_path / "out" / "mark").read_text() == "of the second" and names(tmp_path) == ["out"]


def kill_parent(_: int) -> None:
    os.kill(os.getppid(), 9)
    time.sleep(60)


def test_workers_do_not_keep_the_lock_of_a_killed_process(tmp_path):
    def child() -> None:
        with atomic_folder(tmp_path / "out", "mark"):
            list(common.parallel_map(kill_parent, [0]))

    assert in_child(child) == -9
    write(tmp_path / "out", "new")
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_all_work_side_by_side_and_none_disturbs_another(tmp_path, monkeypatch, number):
    def unsupported(*_) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with atomic_path(tmp_path / "file") as first:
        first.write_text("first")
        with atomic_path(tmp_path / "file") as second:
            second.write_text("second")
        assert (tmp_path / "file").read_text() == "second"
    assert (tmp_path / "file").read_text() == "first" and names(tmp_path) == ["file"]


def test_what_is_being_written_is_its_owners_only_whatever_the_umask(tmp_path):
    mask = os.umask(0)
    try:
        with atomic_path(tmp_path / "file") as temporary:
            for folder in (temporary.parent, temporary.parent.parent):
                assert folder.stat().st_mode & 0o777 == 0o700
            temporary.touch()
    finally:
        os.umask(mask)


@pytest.mark.parametrize("output", [".", "..", "/", "file/below", ""])
def test_places_that_cannot_be_written_raise_what_a_script_tells_in_one_line(tmp_path, monkeypatch, output):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").touch()
    monkeypatch.chdir(tmp_path / "a")
    with pytest.raises((UserError, OSError)):
        write(Path(output), "new")
    assert names(tmp_path) == ["a"] and names(tmp_path / "a") == ["file"]


def dies(task: int) -> None:
    os.kill(os.getpid(), 9)


def test_a_worker_that_is_killed_is_told_in_one_line():
    with pytest.raises(UserError, match="memory"):
        list(common.parallel_map(dies, [1, 2, 3]))


def test_a_folder_where_a_file_is_to_stand_is_named_and_stays(tmp_path):
    (tmp_path / "page.html").mkdir()
    with pytest.raises(common.UserError, match=r"page\.html is a folder"), outputs.atomic_path(tmp_path / "page.html"):
        raise AssertionError("nothing is to be written")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


# what a terminal's or a file system's encoding cannot hold


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("text", ["Zoë → 12 €", os.fsdecode(b"folder\xff/caf\xc3\xa9"), "\ud800"])
def test_what_the_terminal_cannot_show_is_shown_as_an_escape(monkeypatch, encoding, text):
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)

    def main() -> None:
        print(text)
        raise UserError(f"no {text}")

    with pytest.raises(SystemExit) as stop:
        common.run(main)
    out.flush(), err.flush()
    shown = text.encode(encoding, "backslashreplace")
    assert stop.value.code == 2
    assert out.buffer.getvalue() == shown + b"\n" and err.buffer.getvalue().endswith(b"error: no " + shown + b"\n")


def test_a_name_that_the_locale_cannot_hold_is_told_in_one_line(capsys):
    with pytest.raises(SystemExit) as stop:
        common.run(lambda: "é".encode("ascii"))
    assert stop.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1


def test_a_path_is_text_for_files_in_utf_8_whatever_its_bytes():
    assert common.path_text("café") == common.path_text(Path("café")) == "café"
    assert common.path_text(os.fsdecode(b"bad\xff/x")) == "bad\\xff/x"


# outputs that cannot be written, before the work


def output_faults(folder: Path) -> dict[str, Path]:
    """Places where nothing can be written, for anybody."""
    (folder / "file").touch()
    (folder / "full").mkdir()
    (folder / "full" / "thing").touch()
    os.mkfifo(folder / "pipe")
    places = {"below a file": folder / "file" / "a" / "out", "a folder of others": folder / "full"}
    places |= {"a pipe": folder / "pipe", "no file system for it": Path("/proc/none/out")}
    return places | {f"{size} bytes": folder / "new" / ("x" * size) for size in (247, 255, 256, 5000)}


@pytest.mark.parametrize("marks", [(), ("mark",)], ids=["file", "folder"])
def test_an_output_that_cannot_be_written_is_found_before_the_work_and_nothing_is_left(tmp_path, marks):
    faults = output_faults(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for name, path in faults.items():
        with pytest.raises((UserError, OSError)):
            outputs.check_output(path, *marks)
        assert sorted(tmp_path.rglob("*")) == before, name


@pytest.mark.parametrize("marks", [(), ("mark",)], ids=["file", "folder"])
def test_an_output_that_can_be_written_is_found_so_and_nothing_is_left(tmp_path, older, marks):
    (tmp_path / "there").touch()
    before = sorted(tmp_path.rglob("*"))
    for path in (older if marks else tmp_path / "there", tmp_path / "a" / "b" / os.fsdecode(b"\xff" * 200)):
        outputs.check_output(path, *marks)
    outputs.check_output(None)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_read_only_folder_is_found_before_the_work(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir(0o500)
    code = CONTEXT.Value("i", -1)

    def child() -> None:
        if os.geteuid() == 0:
            for parent in [tmp_path, *tmp_path.parents][:4]:
                parent.chmod(0o755)
            os.setuid(65534)
        with contextlib.suppress(SystemExit):
            try:
                common.run(lambda: outputs.check_output(folder / "out"))
            except SystemExit as stop:
                code.value = stop.code

    in_child(child)
    assert code.value == 2 and names(folder) == []


def test_a_mount_point_cannot_be_replaced_by_a_folder(tmp_path, older, monkeypatch):
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == older)
    with pytest.raises(UserError, match="mount point"):
        outputs.check_output(older, "mark")


def test_another_process_that_writes_there_is_found_before_the_work(tmp_path, busy, monkeypatch):
    monkeypatch.setattr(outputs, "PATIENCE", 0.1)
    with pytest.raises(UserError, match="another process is writing"):
        outputs.check_output(tmp_path / "out", "mark")


@pytest.mark.parametrize("text", ["inf", "nan", "0", "-1", "1e38", "1e308", "1e400", "9" * 400])
def test_absurd_learning_rates_are_refused(text):
    with pytest.raises((argparse.ArgumentTypeError, ValueError)):
        common.learning_rate(text)
    assert common.learning_rate("1e-5") == 1e-5


def run_out_of_memory(kind: str) -> object:
    if kind == "numpy":
        return np.ones(2**55)
    if kind == "a CPU":
        return torch.ones(2**55)
    if kind == "a GPU":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    raise MemoryError


@pytest.mark.parametrize("kind", ["Python", "numpy", "a CPU", "a GPU"])
def test_where_memory_is_short_one_line_says_so(capsys, kind):
    with pytest.raises(SystemExit) as stop:
        common.run(lambda: run_out_of_memory(kind))
    err = capsys.readouterr().err
    assert stop.value.code == 2 and "memory is short" in err and len(err.splitlines()) == 1


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="size mismatch"):
        common.run(fault)


def fault() -> None:
    raise RuntimeError("size mismatch, an illegal memory access")
