"""What a training computes in, on CPUs with and without bfloat16 units: the same command gives the same bytes."""

import json
import sys
from pathlib import Path

import pytest
import torch

from pii.decoder import precision, states
from pii.decoder.int8 import Int8Linear, on_units
from pii.training import runs, setup
from pii.training.runs import load_run
from tests.test_train import Command, at, contents

CPU = torch.device("cpu")


@pytest.fixture
def measured(monkeypatch):
    """measured(True): from now on this CPU is found to be faster in bfloat16."""
    return lambda fast: monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: fast)


def heads_of(run: Path) -> dict[str, str]:
    return {name: content for name, content in contents(run).items() if name.endswith("head.safetensors")}


def dtype_of(run: Path) -> str:
    return json.loads((run / "config.json").read_text())["backbone"]["dtype"]


@pytest.mark.parametrize(("fast", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_a_training_computes_in_what_was_measured_and_says_so(command: Command, measured, tmp_path, fast, dtype):
    measured(fast)
    for name in ("one", "two"):
        assert command(tmp_path / name) == 0, command.err
        assert f", {dtype} (this CPU is " in command.out and dtype_of(tmp_path / name) == dtype
    assert heads_of(tmp_path / "one") == heads_of(tmp_path / "two") != {}


def test_fp32_stands_for_float32_wherever_it_is_read(command: Command, measured, tmp_path):
    measured(False)
    assert command(tmp_path / "plain") == 0, command.err
    measured(True)
    assert command(tmp_path / "forced", precision="fp32") == 0, command.err
    assert ", float32\n" in command.out and dtype_of(tmp_path / "forced") == "float32"
    assert heads_of(tmp_path / "forced") == heads_of(tmp_path / "plain")
    assert load_run(tmp_path / "forced", CPU)[0].reader.backbone.dtype == torch.float32


def test_an_int8_run_is_read_in_int8(command: Command, measured, tmp_path):
    measured(True)
    assert command(tmp_path / "run", precision="int8") == 0, command.err
    assert "matrices in int8" in command.out
    backbone = load_run(tmp_path / "run", CPU)[0].reader.backbone
    assert isinstance(backbone.layers[0].self_attn.qkv_proj, Int8Linear) and backbone.dtype == torch.bfloat16


@pytest.mark.parametrize("fast", [True, False])
def test_a_state_goes_on_in_the_dtype_that_it_began_in(command: Command, measured, tmp_path, fast):
    measured(fast)
    assert command(tmp_path / "whole", epochs=2, cache="none") == 0, command.err
    flags = {"epochs": 2, "cache": "none", "save_every": 1}
    assert command.fork(tmp_path / "killed", at(1, runs, "save_state"), **flags) == -9
    measured(not fast)
    assert command(tmp_path / "killed", **flags, resume=True) == 0, command.err
    assert heads_of(tmp_path / "killed") == heads_of(tmp_path / "whole")
    assert dtype_of(tmp_path / "killed") == dtype_of(tmp_path / "whole")


@pytest.mark.parametrize(
    ("trained", "read", "dtype"),
    [
        (False, True, torch.float32),  # the bits of training
        (True, True, torch.bfloat16),
        (True, False, torch.float32),  # bfloat16 would take six times as long there
    ],
)
def test_a_run_is_read_in_the_dtype_of_training_where_that_is_no_slower(
    command: Command, measured, tmp_path, trained, read, dtype
):
    measured(trained)
    assert command(tmp_path / "run") == 0, command.err
    measured(read)
    assert load_run(tmp_path / "run", CPU)[0].reader.backbone.dtype == dtype


@pytest.mark.parametrize("flags", [{}, {"no_compile": True}])
def test_on_a_cpu_layers_are_compiled_for_long_work_on_int8_units_unless_told_otherwise(
    command: Command, monkeypatch, tmp_path, flags
):
    compiled = []
    monkeypatch.setattr(setup, "compile_layers", compiled.append)
    monkeypatch.setattr(states, "fastest_on_cpu", lambda: on_units)
    monkeypatch.setattr(states, "CPU_COMPILE_TOKENS", 1)
    monkeypatch.setenv("CXX", sys.executable)
    assert command(tmp_path / "run", precision="int8", **flags) == 0, command.err
    assert len(compiled) == command.out.count("compiled the backbone's layers in") == (0 if flags else 1)
