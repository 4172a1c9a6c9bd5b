"""Which head and which layers: promises of compare.py, against evaluate.py's figures and the data themselves."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import evaluate
import train
from pii.common import UserError
from pii.corpus.roundtrip import as_raw
from pii.corpus.rows import skeleton
from pii.corpus.store import PreparedSplit
from pii.corpus.windows import make_windows
from pii.decoder.backbone import load_backbone
from pii.decoder.features import Reader
from pii.heads.heads import DOCUMENTED, STRONG
from pii.heads.tagging import Tagger
from pii.processes import Processes
from pii.training import compare, plans
from pii.training.config import AUTO, TrainingConfig
from pii.training.run_config import read_config
from pii.training.runs import load_run
from tests.decoder.test_backbone import save_tiny_backbone
from tests.test_evaluate import prepare_to

ALONE = Processes(0, 1, torch.device("cpu"))
DEPTH = 4


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare") / "backbone"
    return save_tiny_backbone(folder, vocab_size=131072, num_hidden_layers=DEPTH, initializer_range=0.05)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_to(tmp_path_factory.mktemp("compare") / "data", "0.5")


@pytest.fixture(scope="module")
def trained(backbone: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three heads, and validation rows to compare them on."""
    run = tmp_path_factory.mktemp("compare") / "run"
    flags = {"data": data, "backbone": backbone, "output": run, "device": "cpu", "max-length": 32, "epochs": 20}
    flags |= {"strong-epochs": 12, "strong-dropout": 0, "gradient-accumulation-steps": 1}
    rates = ["--learning-rate", "1e-5", "5e-2"]
    train.main([f"--{name}={value}" for name, value in flags.items()] + ["--heads", DOCUMENTED, STRONG, *rates])
    return run


# Heads


def test_figures_are_those_of_evaluate_and_the_best_head_has_the_best_strict_f1(trained, data, tmp_path):
    config = read_config(trained)
    reader = Reader(load_backbone(config["backbone"]["name"], torch.float32), [2, 3, DEPTH])
    taggers = {}
    for head, entry in config["heads"].items():
        alone, _ = load_run(trained, torch.device("cpu"), head)
        taggers[head] = Tagger(alone.head, reader, entry["layers"])
    figures, best = compare.compare_heads(taggers, data, config["max_length"], ALONE)
    assert list(figures) == ["documented@1e-5", "documented@5e-2", STRONG] == list(config["heads"])
    for head, entry in figures.items():
        path = tmp_path / "report.json"
        flags = ["--run", trained, "--data", data, "--head", head, "--json", path, "--device", "cpu"]
        evaluate.main([str(flag) for flag in flags])
        report = json.loads(path.read_text())
        assert (entry["strict"], entry["token"]) == (report["strict"]["f1"], report["token"]["f1"])
        assert entry["leakage"] == report["leakage"]
        assert (entry["calibration"] is None) == (report["predicted"] < 50)
        if entry["calibration"]:
            assert entry["calibration"] == pytest.approx(config["heads"][head]["calibration"], abs=1e-3)
    strict = {head: entry["strict"] for head, entry in figures.items()}
    assert strict[best] == max(strict.values()) > min(strict.values()) and best == config["best"]
    assert any(entry["calibration"] for entry in figures.values())


def test_without_validation_rows_there_is_a_best_head_all_the_same(trained, tmp_path):
    nothing = prepare_to(tmp_path / "data", "0")
    taggers = dict.fromkeys(["documented@1e-5", "documented@5e-2", "strong@1e-3", "strong@2e-3"])
    assert compare.compare_heads(taggers, nothing, 32, ALONE) == ({}, "strong@1e-3")
    taggers = dict.fromkeys(["documented@1e-5", "documented@5e-2"])
    assert compare.compare_heads(taggers, nothing, 32, ALONE) == ({}, "documented@1e-5")


# Layers


@pytest.mark.parametrize(
    ("depth", "default"), [(1, [1]), (2, [1, 2]), (3, [1, 2]), (30, [12, 18, 24]), (36, [14, 22, 29])]
)
def test_layers_to_try_exist_and_the_default_is_among_them(depth, default):
    assert plans.default_layers(depth) == default
    sets = compare.layer_sets(depth)
    assert default in sets and len({tuple(layers) for layers in sets}) == len(sets)
    for layers in sets:
        assert layers == sorted(set(layers)) and layers[0] >= 1 and layers[-1] <= depth
    assert [depth] in sets


@pytest.fixture
def config() -> TrainingConfig:
    return TrainingConfig(
        heads=[STRONG],
        batch_size=4,
        gradient_accumulation_steps=2,
        max_length=16,
        layers=AUTO,
        seed=3,
        strong_learning_rates=[0.01],
    )


def test_layers_are_chosen_from_training_rows_alone_and_always_the_same(
    backbone, data, config, monkeypatch, tmp_path, capsys
):
    rows = PreparedSplit(data, "train")
    windows = make_windows(rows.example_offsets, 16)
    monkeypatch.setattr(compare, "QUICK_STEPS", 6)
    opened = []
    monkeypatch.setattr(compare, "PreparedSplit", opened.append)
    decoder = load_backbone(str(backbone), torch.float32)
    fits, quick_fit = [], compare.quick_fit

    def record(*given: object) -> object:
        fits.append(quick_fit(*given))
        return fits[-1]

    monkeypatch.setattr(compare, "quick_fit", record)
    chosen = compare.choose_layers(decoder, rows, windows, config, ALONE, train.take_step)
    assert chosen in compare.layer_sets(DEPTH) and opened == []
    assert [trainer.plan.layers for trainer in fits] == compare.layer_sets(DEPTH)
    for trainer in fits:  # every step that was planned was made: the learning rate has come down
        steps = trainer.optimizer.state_dict()["state"][0]["step"]
        assert steps == trainer.plan.steps >= 6
        assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)
    printed = capsys.readouterr().out
    scores = {
        tuple(map(int, line.split(None, 1)[1].split(", "))): float(line.split()[0]) for line in printed.splitlines()[2:]
    }
    assert [list(layers) for layers in scores] == compare.layer_sets(DEPTH)
    assert scores[tuple(chosen)] == max(scores.values())
    assert compare.choose_layers(decoder, rows, windows, config, ALONE, train.take_step) == chosen
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize("seed", range(3))
def test_no_sentence_is_both_learnt_from_and_judged_by(data, seed, monkeypatch):
    rows = PreparedSplit(data, "train")
    windows = make_windows(rows.example_offsets, 8)
    fit, development = compare.development_split(rows, windows, seed)
    sentences = [skeleton(row) for row in as_raw(rows.rows(np.arange(len(rows))), rows.labels)]
    of_fit, of_development = ({sentences[row] for row in windows.row[part]} for part in (fit, development))
    assert of_fit and of_development and not of_fit & of_development
    assert sorted([*fit, *development]) == list(range(len(windows)))  # few rows: all of them
    assert 0 < len(set(windows.row[development])) <= len(rows) / 2
    monkeypatch.setattr(compare, "SAMPLE_ROWS", 9)
    parts = compare.development_split(rows, windows, seed)
    assert len(set(windows.row[np.concatenate(parts)])) == 9
    for part in parts:  # whole rows
        assert sorted(part) == np.flatnonzero(np.isin(windows.row, windows.row[part])).tolist()
    assert all(map(np.array_equal, parts, compare.development_split(rows, windows, seed)))


def test_rows_of_one_sentence_only_are_refused_in_one_line(prepare_rows):
    rows = [{"unmasked_text": f"Dear {name}!", "span_labels": [[5, 5 + len(name), "NAME"]]} for name in ("Ann", "Li")]
    data = PreparedSplit(prepare_rows(rows, "--validation-fraction", "0"), "train")
    with pytest.raises(UserError) as refused:
        compare.development_split(data, make_windows(data.example_offsets, 8), 0)
    assert "--layers auto" in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("seed", range(3))
def test_no_text_is_both_learnt_from_and_judged_by_whatever_its_spans_are(prepare_rows, seed):
    texts = [f"Dear Ann {chr(97 + i)}" for i in range(12)]
    rows = [{"unmasked_text": t, "span_labels": spans} for spans in ([[5, 8, "NAME"]], []) for t in texts]
    data = PreparedSplit(prepare_rows(rows, "--validation-fraction", "0"), "train")
    windows = make_windows(data.example_offsets, 8)
    parts = compare.development_split(data, windows, seed)
    of_fit, of_development = ({texts[row % 12] for row in windows.row[part]} for part in parts)
    assert of_fit and of_development and not of_fit & of_development
