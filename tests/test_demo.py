"""What demo.py runs, without running it."""

import io
import subprocess
import sys
from types import SimpleNamespace

import pytest

import demo
import train
from pii.common import UserError


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_the_demo_trains_in_the_precision_that_was_measured_and_says_so(monkeypatch, capsys, precision):
    started: list[list[str]] = []

    def stop_at_training(command: list[str], **_) -> subprocess.CompletedProcess:
        started.append(command)
        return subprocess.CompletedProcess(command, int("train.py" in command))

    monkeypatch.setattr(demo, "fastest_precision", lambda _: (precision, "measured"))
    monkeypatch.setattr(demo, "check_output", lambda _: None)
    monkeypatch.setattr(subprocess, "run", stop_at_training)
    with pytest.raises(UserError):
        demo.main([])
    assert f"precision of the backbone: {precision} (measured)" in capsys.readouterr().out
    assert train.parse_arguments(started[-1][2:]).precision == precision


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("out", "colour"), [(io.StringIO(), False), (Terminal(), True)])
def test_two_letters_end_the_demo_in_colour_on_a_terminal_alone(monkeypatch, out, colour):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", out)
    demo.print_letters(SimpleNamespace(redact=lambda texts: ["[PREFIX] [LASTNAME] " + text[-5:] for text in texts]))
    printed = out.getvalue()
    assert all(letter[:20] in printed for letter in demo.LETTERS)
    assert printed.count("\033[7m[LASTNAME]\033[0m") == 2 * colour and printed.count("[LASTNAME]") == 2
