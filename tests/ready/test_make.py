"""How the ready head is made again: commands that parse, and a run without this machine's paths."""

import importlib
import json
import shlex

import evaluate
from pii.heads.heads import STRONG
from pii.ready import make
from pii.training.run_config import read_config, stored_bias
from tests.test_evaluate import prepare_to, train_to


def test_every_command_is_one_that_its_script_takes():
    for command in make.commands(make.ROWS):
        script, *flags = shlex.split(command)
        importlib.import_module(script.removesuffix(".py")).parse_arguments(flags)


def test_the_strong_head_alone_is_published_without_paths(tmp_path):
    run, data = train_to(tmp_path / "mine", 512), prepare_to(tmp_path / "data", "1")
    evaluate.main(["--run", str(run), "--data", str(data), "--device", "cpu", "--head", STRONG, "--target-recall", "0"])
    make.publish(run, tmp_path / "ready")
    assert list(read_config(tmp_path / "ready")["heads"]) == [STRONG]
    assert stored_bias(tmp_path / "ready", STRONG, 0.0) == 0
    weights = tmp_path / "ready" / STRONG / "head.safetensors"
    assert weights.read_bytes() == (run / STRONG / "head.safetensors").read_bytes()
    assert "folder" not in json.loads((tmp_path / "ready" / "config.json").read_text())["backbone"]
