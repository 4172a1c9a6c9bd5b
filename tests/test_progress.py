"""Progress is seen wherever standard error goes, and errors stay one line."""

import re

import pytest

from pii import progress as module
from pii.progress import progress
from tests.conftest import display


@pytest.fixture(autouse=True)
def shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.Lines, "display", display)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL", 1e-9)


def test_a_log_gets_a_plain_line_for_each_part_and_one_at_the_end(capsys, always):
    with progress("train", 3000) as bar:
        for loss in (2.5, 1.25):
            bar.set_postfix_str(f"loss {loss}", refresh=False)
            bar.update(1500)
    printed = capsys.readouterr().err
    assert "\r" not in printed and printed.endswith("\n")
    lines = printed.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "train: 1.50k/3.00k tok (50%)",
        "train: 3.00k/3.00k tok (100%)",
        "train: 3.00k/3.00k tok (100%)",
    ]
    assert all(re.search(r"tok/s, \d\d:\d\d passed, \S+ left, loss \d", line) for line in lines)


def test_between_two_lines_of_a_log_there_is_time(capsys, monkeypatch):
    monkeypatch.setattr(module, "INTERVAL", 1e9)
    with progress("prepare", unit="rows") as bar:
        for _ in range(100):
            bar.update(7)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("prepare: 700 rows, ") and "left" not in line


def test_an_error_is_not_preceded_by_a_last_line(capsys):
    with pytest.raises(ValueError), progress("predict", unit="records") as bar:
        bar.update(3)
        raise ValueError
    assert capsys.readouterr().err == ""


def test_a_terminal_has_a_bar(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress("train", 10) as bar:
        bar.update(10)
    assert "\r" in capsys.readouterr().err and not isinstance(bar, module.Lines)


@pytest.mark.parametrize("stream", [True, False])
def test_other_processes_than_the_first_and_closed_streams_say_nothing(capsys, always, monkeypatch, stream):
    if not stream:
        monkeypatch.setattr("sys.stderr", None)
    with progress("train", 10, quiet=stream) as bar:
        bar.update(10)
        bar.set_postfix_str("loss 1", refresh=False)
    monkeypatch.undo()
    assert capsys.readouterr().err == ""


def test_a_command_in_a_log_says_at_the_end_what_it_did(prepare_rows, capsys):
    prepare_rows(
        [{"unmasked_text": f"I am {name}.", "span_labels": [[5, 8, "NAME"]]} for name in ("Ann", "Bob", "Eve")]
    )
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("prepare: 3 rows, ")
