"""What every script shares: promises of common.py about what stands in the place of an output, and beside it."""

import contextlib
import errno
import fcntl
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from pii import common
from pii.common import UserError, atomic_folder, atomic_path, clear_leftovers

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

    monkeypatch.setattr(common, "exchanged", lambda *_: False)
    assert in_child(child) == -9


def test_folders_are_exchanged_in_one_step_where_the_system_can(tmp_path, older, monkeypatch):
    def forbidden(*_) -> None:
        raise AssertionError("the place would be empty for a moment")

    if not common.exchanged(older, older):
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
        monkeypatch.setattr(common, "exchanged", lambda *_: False)
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
    monkeypatch.setattr(common, "PATIENCE", 0.1)
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
    with pytest.raises(common.UserError, match=r"page\.html is a folder"), common.atomic_path(tmp_path / "page.html"):
        raise AssertionError("nothing is to be written")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
