"""Which rows the tables of bench.py have, and what is told where there are none."""

from pathlib import Path

import pytest
import torch

import bench
import train
from pii.bench import training as bench_training
from pii.bench.training import ONE_HEAD, QUICK_PRECISIONS, QUICK_WAYS, RECIPE, Work, reason_to_skip
from pii.corpus.store import PreparedSplit
from pii.corpus.windows import make_windows
from tests.decoder.test_backbone import save_tiny_backbone

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_backbone(tmp_path_factory.mktemp("bench") / "backbone", vocab_size=131072))


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """What to train on, where nothing is trained: each way takes a second a head's round."""
    monkeypatch.setattr(bench_training, "MATMUL_SIZE", {"cpu": 8})
    monkeypatch.setattr(bench, "WINDOWS", {"cpu": 72})
    monkeypatch.setattr(bench_training, "bench_strong_step", lambda *_: {})
    monkeypatch.setattr(bench_training, "affordable_windows", lambda *_: 36)
    monkeypatch.setattr(bench_training, "plain_recipe", lambda *_: 4.0)
    monkeypatch.setattr(bench_training, "run_engine", lambda _, __, heads, epochs: float(len(heads) + epochs))
    split = PreparedSplit(bench.write_random_data(tmp_path / "random"), "train")
    return Work(
        CPU, split, make_windows(split.example_offsets, 96), tmp_path / "run", None, False, train.train, train.take_step
    )


def test_precisions_that_are_the_same_here_have_rows_of_their_own(work, backbone):
    ways = bench_training.bench_training(backbone, work, ["bf16", "fp32"], rounds=1)["ways"]
    assert len(ways) == 10 and {way.rpartition(", ")[2] for way in ways} == {"bf16", "fp32"}


def test_a_quick_table_has_each_way_once_and_says_what_this_device_cannot_do(work, backbone, capsys):
    report = bench_training.bench_training(backbone, work, QUICK_PRECISIONS, rounds=1, quick=True)
    assert list(report["ways"]) == [*(f"{way}, bf16" for way in QUICK_WAYS), f"{ONE_HEAD}, int8"]
    assert report["skipped"] == {"fp8": "cpu has no float8 units"} and report["windows"] == 36
    assert "fp8: skipped, cpu has no float8 units" in capsys.readouterr().out


def test_the_recipe_is_what_all_precisions_of_a_quick_table_are_held_against(work, backbone):
    ways = bench_training.bench_training(backbone, work, ["bf16", "int8"], rounds=1, quick=True, fixed=True)["ways"]
    recipe = ways[f"{RECIPE}, bf16"]["seconds"][0]
    assert ways[f"{ONE_HEAD}, int8"]["times_recipe"] == pytest.approx(recipe / 2)


def test_a_precision_for_which_there_is_no_memory_is_skipped_and_the_next_has_all_ways(work, backbone, monkeypatch):
    load = bench_training.load_backbone

    def load_or_fail(*arguments, precision: str, **others):
        if precision == "bf16":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return load(*arguments, precision=precision, **others)

    monkeypatch.setattr(bench_training, "load_backbone", load_or_fail)
    report = bench_training.bench_training(backbone, work, ["bf16", "int8"], rounds=1, quick=True)
    assert list(report["skipped"]) == ["bf16"] and list(report["ways"]) == [f"{way}, int8" for way in QUICK_WAYS]


def test_a_quick_table_ends_when_its_time_is_up():
    assert reason_to_skip("int8", CPU, time_left=1.0) is None
    assert "time" in str(reason_to_skip("int8", CPU, time_left=-1.0))


def test_a_precision_named_twice_is_measured_once():
    assert bench.parse_arguments(["--precision", "int8", "bf16", "int8"]).precision == ["int8", "bf16"]
