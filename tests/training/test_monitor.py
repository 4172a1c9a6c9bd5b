"""What a training says while it goes on: validation F1, TensorBoard, and numbers that are not finite."""

import json
import re

import numpy as np
import pytest
import torch

import train
from dataset import PIITokenDataset
from pii.training import monitor, setup
from tests.test_train import (
    BOTH,
    HEADS,
    MAX_LENGTH,
    contents,
    equal,
    head_of,
    metrics_of,
    plain_windows,
    row_lengths,
    siblings,
    with_weights,
)


@pytest.mark.usefixtures("short_stretches")
def test_validation_f1_is_taken_down_along_the_steps_of_each_head(command, tmp_path):
    flags = {"learning_rate": 0.01, "strong_epochs": 6, "strong_learning_rate": 0.01}
    assert command(tmp_path / "run", heads=HEADS, epochs=3, **flags) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    for head in HEADS:
        steps = [record for record in metrics_of(tmp_path / "run") if record["head"] == head]
        checks = [(record["step"], record["validation_strict_f1"]) for record in steps if len(record) == 7]
        assert 5 <= len(checks) <= monitor.CHECKS and checks[-1][0] == len(steps)
        # the same rows as at the end, all eight of them
        assert checks[-1][1] == pytest.approx(summary["validation"][head]["strict"], abs=1e-12)
        assert len({strict for _, strict in checks}) > 1


def test_looking_at_validation_rows_changes_no_weight(trained, monkeypatch):
    looked = trained(**BOTH)
    monkeypatch.setattr(train, "Validation", lambda *_: None)
    not_looked = trained(**BOTH, save_every=1000)
    assert all(equal(head_of(looked, head), head_of(not_looked, head)) for head in HEADS)


@pytest.mark.usefixtures("short_stretches")
def test_tensorboard_gets_what_the_metrics_hold(command, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = tmp_path / "runs" / "mine"
    assert command(run, tensorboard=True) == 0, command.err
    events = accumulator.EventAccumulator(str(tmp_path / "runs" / "tensorboard" / "mine"))
    events.Reload()
    logged = {(event.step, event.value) for event in events.Scalars("loss/documented")}
    written = metrics_of(run)
    assert logged == {(record["step"], np.float32(record["loss"])) for record in written}
    checks = [record for record in written if "validation_strict_f1" in record]
    assert len(events.Scalars("validation_strict_f1/documented")) == len(checks) > 0


def test_without_tensorboard_its_flag_is_refused_in_one_line(command, tmp_path, monkeypatch):
    monkeypatch.setattr(monitor.importlib.util, "find_spec", lambda _: None)
    command(tmp_path / "run", tensorboard=True)
    assert command.code == 2 and "pip install tensorboard" in command.error()


# numbers that are not finite


def test_a_broken_weight_stops_at_the_step_that_meets_it(command, prepared, copied_backbone, older_run):
    data = PIITokenDataset(prepared, "train")
    windows = plain_windows(row_lengths(data), MAX_LENGTH)
    order = np.random.default_rng([0, 0]).permutation(len(windows)).tolist()
    steps = [order[i : i + 12] for i in range(0, len(order), 12)]
    holders_of = {}  # token id → the windows that hold it
    for number, (row, start, stop, *_) in enumerate(windows):
        for token in data[row]["input_ids"][start:stop].tolist():
            holders_of.setdefault(token, set()).add(number)
    token, step = next(
        (token, step)
        for token, holders in holders_of.items()
        for step in range(2, len(steps))
        if holders <= set(steps[step])
    )
    with_weights(copied_backbone, lambda weights: weights["embed_tokens.weight"][token].fill_(float("nan")))

    before = contents(older_run.parent)
    assert command(older_run, backbone=copied_backbone) == 1
    message = command.error()
    assert re.search(rf"\bstep {step + 1}\b", message)
    named = re.search(r"rows ((?:\d+ ?)+)", message).group(1).split()
    assert set(map(int, named)) == {windows[i][0] for i in steps[step]}
    assert contents(older_run.parent) == before
    assert siblings(older_run) == ["mine"]


def test_a_nan_in_all_features_names_the_backbone_and_writes_nothing(command, copied_backbone, tmp_path):
    with_weights(copied_backbone, lambda weights: weights["norm.weight"].fill_(float("nan")))
    assert command(tmp_path / "runs/mine", backbone=copied_backbone) == 1
    assert "step 1" in command.error() and "backbone" in command.error()
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize("steps", [2, 3, 8])
def test_an_absurd_learning_rate_stops_and_writes_nothing(command, prepared, older_run, steps):
    windows = len(plain_windows(row_lengths(PIITokenDataset(prepared, "train")), MAX_LENGTH))
    before = contents(older_run.parent)
    assert command(older_run, learning_rate=1e30, batch_size=-(-windows // (3 * steps))) == 1
    named = re.search(r"\bstep (\d+)\b.*\brows \d+\b", command.error())
    assert named or f"step {steps} left weights" in command.error()  # of the last step no loss shows what it did
    assert " --learning-rate" in command.error()
    assert contents(older_run.parent) == before
    assert siblings(older_run) == ["mine"]


def test_the_head_whose_learning_rate_is_absurd_is_named_with_its_flag(command, older_run):
    before = contents(older_run.parent)
    assert command(older_run, heads=HEADS, strong_learning_rate=[1e-3, 1e30], save_every=1) == 1
    assert "strong@1e+30" in command.error() and " --strong-learning-rate" in command.error()
    after = contents(older_run.parent)
    assert {name: after[name] for name in before} == before and siblings(older_run) == ["mine"]


def test_hidden_states_that_overflow_in_float16_name_the_backbone_and_its_precision(
    command, copied_backbone, tmp_path, monkeypatch
):
    with_weights(copied_backbone, lambda weights: weights["norm.weight"].fill_(60000))
    assert command(tmp_path / "runs/wide", backbone=copied_backbone) == 0  # in float32 all is well
    monkeypatch.setattr(setup, "backbone_dtype", lambda _: torch.float16)
    assert command(tmp_path / "runs/mine", backbone=copied_backbone) == 1
    assert "hidden states are not finite" in command.error() and "precision" in command.error()
    assert siblings(tmp_path / "runs/mine") == ["wide"]


def test_an_exploding_gradient_stops_at_its_step_and_blames_no_backbone(command, older_run, monkeypatch):
    calls, step = [], train.take_step

    def exploding(self, a_step, features, tags):
        calls.append(a_step.number)
        return step(self, a_step, features * (1e25 if len(calls) == 3 else 1), tags)  # finite, its square is not

    monkeypatch.setattr(train, "take_step", exploding)
    before = contents(older_run.parent)
    assert command(older_run, learning_rate=0.01) == 1
    assert "step 3 " in command.error() and "gradient norm inf" in command.error()
    assert "features are finite" in command.error() and "--learning-rate" in command.error()
    assert contents(older_run.parent) == before
