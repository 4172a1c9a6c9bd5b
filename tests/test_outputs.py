"""What cannot be written is said before the work begins, by every command and of every flag that names an output."""

import os
import subprocess
from pathlib import Path

import pytest

import bench
import check_dataset
import demo
import evaluate
import predict
import prepare
import standin
import synthesize
import train
from pii import common, outputs

# command, its flag, and flags whose own mistakes would be met by the work
OUTPUTS = [
    (prepare, "--output", ["--input", "nowhere"]),
    (train, "--output", ["--data", "nowhere", "--device", "cpu"]),
    (evaluate, "--json", ["--run", "nowhere", "--data", "nowhere", "--device", "cpu"]),
    (evaluate, "--html", ["--run", "nowhere", "--data", "nowhere", "--device", "cpu"]),
    (check_dataset, "--html", ["--data", "nowhere"]),
    (predict, "--output", ["--run", "nowhere", "text"]),
    (predict, "--vault", ["--run", "nowhere", "--replace", "numbered", "--output", "redacted", "text"]),
    (predict, "--rejected", ["--run", "nowhere", "--skip-bad", "text"]),
    (predict, "--export", ["--run", "nowhere"]),
    (synthesize, "--output", ["--rows", "1"]),
    (standin, "--output", ["--source", "nowhere"]),
    (bench, "--json", ["--data", "nowhere", "--device", "cpu"]),
]
PLACES = ["a-file/out", "a-file/a/out", "x" * 255, "new/" + "x" * 250, "y" * 300]
IDS = [f"{command.__name__} {flag}" for command, flag, _ in OUTPUTS]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").touch()
    (tmp_path / "text").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thing").touch()
    return tmp_path


def refusal(main, capfd) -> str:
    """What a command says that ends with code 2: one line."""
    with pytest.raises(SystemExit) as stop:
        common.run(main)
    err = capfd.readouterr().err
    assert stop.value.code == 2 and len(err.splitlines()) == 1, err
    return err


@pytest.mark.parametrize("place", PLACES, ids=["below a file", "far below a file", "255", "250", "300"])
@pytest.mark.parametrize(("command", "flag", "rest"), OUTPUTS, ids=IDS)
def test_an_output_that_cannot_be_written_is_told_before_the_work(folder, capfd, command, flag, rest, place):
    err = refusal(lambda: command.main([flag, place, *rest]), capfd)
    assert "nowhere" not in err and ("a-file" in err or "too long" in err)
    assert {path.name for path in folder.iterdir() if path.is_file()} == {"a-file", "text"}


@pytest.mark.parametrize(("command", "flag", "rest"), OUTPUTS, ids=IDS)
def test_a_folder_of_other_things_is_not_replaced_and_that_is_told_before_the_work(folder, capfd, command, flag, rest):
    if (command, flag) == (predict, "--output"):
        (folder / "full" / "text").mkdir()  # a folder is where outputs go, but this one's place is taken
    assert "full" in refusal(lambda: command.main([flag, "full", *rest]), capfd)
    assert (folder / "full" / "thing").exists()


@pytest.mark.parametrize(("command", "flag"), [(evaluate, "--json"), (check_dataset, "--html"), (bench, "--json")])
def test_a_pipe_is_not_replaced_by_a_file(folder, capfd, command, flag):
    os.mkfifo("pipe")
    assert "pipe" in refusal(lambda: command.main([flag, "pipe"]), capfd)
    assert (folder / "pipe").is_fifo()


def test_the_page_and_the_figures_of_a_run_need_a_file_each(capfd):
    assert "--html" in refusal(lambda: evaluate.main(["--json", "a", "--html", "./a", "--device", "cpu"]), capfd)


@pytest.mark.parametrize("place", [demo.DATA, demo.RUN, demo.BACKBONE])
def test_the_demo_looks_at_all_its_places_first(folder, capfd, monkeypatch, place):
    (folder / Path(place).parts[0]).touch()
    monkeypatch.setattr(demo, "ROOT", folder)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("the work began"))
    assert Path(place).parts[0] in refusal(lambda: demo.main([]), capfd)


def test_a_new_folder_that_another_process_takes_away_again_is_made_anew(tmp_path, monkeypatch):
    """As check_output does at its end: in the moment between the folder and the lock's folder in it."""
    folder, make, taken = tmp_path / "new", Path.mkdir, []

    def mkdir(self, *arguments, **named):
        if self.name == ".a.txt.writing" and not taken:
            taken.append(folder.rmdir())
        make(self, *arguments, **named)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with outputs.atomic_path(folder / "a.txt") as temporary:
        temporary.write_text("whole")
    assert taken and (folder / "a.txt").read_text() == "whole"
