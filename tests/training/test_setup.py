"""What stands ready before the first step: weights of another run, and a backbone as far as some head reads it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pii.training import runs
from tests.test_train import BOTH, HEADS, equal, head_of, raw_rows

# starting from another run


STILL = {"heads": HEADS, "learning_rate": 1e-30, "strong_learning_rate": 1e-30, "strong_epochs": 1}


def test_heads_start_from_another_run(trained, command, tmp_path):
    assert command(tmp_path / "run", start_from=trained(**BOTH), **STILL) == 0, command.err
    for head in HEADS:
        assert equal(head_of(trained(**BOTH), head), head_of(tmp_path / "run", head))
    assert f"from {trained(**BOTH)}" in command.out


def test_labels_that_both_runs_know_keep_their_weights(trained, command, prepare_rows, tmp_path):
    rows = [json.loads(json.dumps(row).replace("LASTNAME", "AGE")) for row in raw_rows(40)]
    flags = STILL | {"data": prepare_rows(rows)}
    assert command(tmp_path / "new", **flags) == 0, command.err
    assert command(tmp_path / "started", start_from=trained(**BOTH), **flags) == 0, command.err
    # label ids: O AGE FIRSTNAME PIN here, O FIRSTNAME LASTNAME PIN there
    for head, name, kept, theirs in (
        ("documented", "weight", [0, 2, 3], [0, 1, 3]),
        ("strong", "classifier.weight", [0, 3, 4, 5, 6], [0, 1, 2, 5, 6]),
    ):
        before, new, started = (head_of(run, head) for run in (trained(**BOTH), tmp_path / "new", tmp_path / "started"))
        expected = new[name].clone()
        expected[kept] = before[name][theirs]
        assert torch.equal(started[name], expected)
        others = [key for key in started if key not in (name, name.replace("weight", "bias")) and "trans" not in key]
        assert all(torch.equal(started[key], before[key]) for key in others)


@pytest.mark.parametrize(
    "flags, said",
    [
        ({"heads": "strong", "layers": [0, 3]}, "--layers"),
        ({"heads": "strong", "strong_units": 8}, "--strong-units 192"),
        ({"start_from": "nowhere"}, "nowhere holds no run"),
    ],
)
def test_what_cannot_be_started_from_is_refused_in_one_line(trained, command, tmp_path, flags, said):
    command(tmp_path / "run", **({"start_from": trained(**BOTH)} | flags))
    assert command.code == 2 and said in command.error()


def test_a_run_without_a_head_of_the_kind_is_refused(trained, command, tmp_path):
    documented = trained(heads="documented", epochs=3, learning_rate=0.01)
    command(tmp_path / "run", heads="strong", start_from=documented)
    assert command.code == 2 and "no strong head" in command.error()


# layers that no head reads


def without_upper_layers(folder: Path, layers: int) -> Path:
    """A checkpoint with the first `layers` decoder layers alone, and a final norm that shows where it acts."""
    weights = load_file(folder / "model.safetensors")
    weights["norm.weight"].fill_(float("nan"))
    above = {name for name in weights if name.startswith("layers.") and int(name.split(".")[1]) >= layers}
    kept = {name: tensor for name, tensor in weights.items() if name not in above}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("layers", [[1], [0, 2], [0]])
def test_layers_above_the_highest_that_is_read_are_never_built(command, trained, copied_backbone, tmp_path, layers):
    flags = {"heads": "strong", "layers": layers, "strong_epochs": 1}
    cut = without_upper_layers(copied_backbone, max(layers))
    assert command(tmp_path / "run", **flags, backbone=cut) == 0
    assert equal(head_of(tmp_path / "run", "strong"), head_of(trained(**flags), "strong"))
    tagger, _ = runs.load_run(tmp_path / "run", torch.device("cpu"))
    assert len(tagger.reader.backbone.layers) == max(layers)


def test_beside_a_documented_head_all_layers_are_needed(command, copied_backbone, tmp_path):
    command(tmp_path / "run", heads=HEADS, layers=1, backbone=without_upper_layers(copied_backbone, 1))
    assert command.code == 2 and "lacks" in command.error()
