"""One process or several, which together do what one does: promises of processes.py."""

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import train
from dataset import PIITokenDataset
from pii import common
from pii.common import UserError
from pii.decoder import precision
from pii.decoder.precision import backbone_dtype
from pii.processes import Place, Processes, own_device
from pii.training import runs, setup
from tests.decoder.test_backbone import save_tiny_backbone
from tests.test_train import (
    MAX_LENGTH,
    Command,
    contents,
    metrics_of,
    plain_windows,
    row_lengths,
    siblings,
    summary_of,
    write_prepared,
)

CPU = torch.device("cpu")
ALONE = Processes(0, 1, CPU)


def start_processes(world: int, call: Callable[[int], object], folder: Path) -> list[int]:
    """`call(rank)` in processes that stand in the environment that torchrun makes; what they print goes to
    folder/RANK.out and .err. Their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir(exist_ok=True)

    def child(rank: int) -> None:
        sys.stdout, sys.stderr = ((folder / f"{rank}.{name}").open("w", buffering=1) for name in ("out", "err"))
        os.dup2(sys.stderr.fileno(), 2)  # for what is not Python
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        common.run(lambda: call(rank))

    context = multiprocessing.get_context("fork")
    children = [context.Process(target=child, args=(rank,)) for rank in range(world)]
    for process in children:
        process.start()
    for process in children:
        process.join(120)
    for process in children:
        if process.exitcode is None:  # one that waits for another that is gone
            process.kill()
            process.join()
    return [process.exitcode for process in children]


def in_processes(world: int, call: Callable[[Processes], object], folder: Path) -> list:
    """What `call` returns in each of them: its tensors and arrays."""

    def child(rank: int) -> None:
        with Processes.join("cpu") as processes:
            assert (processes.rank, processes.world_size, processes.device) == (rank, world, CPU)
            torch.save(call(processes), folder / f"{rank}.pt")

    assert start_processes(world, child, folder) == [0] * world, [p.read_text() for p in folder.glob("*.err")]
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world)]


# one process


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with Processes.join("cpu") as processes:
        assert processes == ALONE
        assert not torch.distributed.is_initialized()
        processes.barrier()


def test_one_process_adds_and_gathers_its_own(capsys):
    tensors, own = [torch.ones(2), torch.tensor(3.0)], np.arange(4)
    ALONE.all_reduce(tensors)
    assert torch.equal(tensors[0], torch.ones(2)) and tensors[1] == 3
    assert [part is own for part in ALONE.all_gather(own, [4])] == [True]
    ALONE.print("hello")
    assert capsys.readouterr().out == "hello\n"


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_each_thing_belongs_to_exactly_one_process_in_even_shares(world, count):
    shares = [Processes(rank, world, CPU).own(count) for rank in range(world)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all((share % world == rank).all() for rank, share in enumerate(shares))


# several


def test_sums_are_over_all_processes_and_the_same_on_each(tmp_path):
    def add(processes: Processes) -> list[torch.Tensor]:
        tensors = [torch.full((2, 3), 1.0 + processes.rank), torch.tensor(10.0 * processes.rank), torch.zeros(0)]
        processes.all_reduce(tensors)
        return tensors

    for matrix, number, nothing in in_processes(3, add, tmp_path / "processes"):
        assert torch.equal(matrix, torch.full((2, 3), 6.0)) and number == 30 and nothing.shape == (0,)


def test_arrays_are_gathered_in_the_order_of_the_ranks_even_empty_ones(tmp_path):
    counts = [2, 0, 3]

    def gather(processes: Processes) -> list[np.ndarray]:
        own = np.full((3, 4), processes.rank, np.float32)[: counts[processes.rank], ::2]  # not contiguous
        return processes.all_gather(own, counts)

    for parts in in_processes(3, gather, tmp_path / "processes"):
        assert [part.shape for part in parts] == [(2, 2), (0, 2), (3, 2)]
        assert all((part == rank).all() and part.dtype == np.float32 for rank, part in enumerate(parts))


def test_only_the_first_process_prints_and_all_can_wait(tmp_path):
    def talk(processes: Processes) -> None:
        processes.print(f"I am {processes.rank}")
        processes.barrier()

    in_processes(2, talk, tmp_path)
    assert [(tmp_path / f"{rank}.out").read_text() for rank in (0, 1)] == ["I am 0\n", ""]


# training


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_backbone(tmp_path_factory.mktemp("processes") / "tiny", vocab_size=131072, num_hidden_layers=3)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prepared(tmp_path_factory.mktemp("processes") / "small", 60, "--validation-fraction", "0.2")


FLAGS = {"heads": ["documented", "strong"], "dropout": 0, "strong_dropout": 0, "epochs": 2, "strong_epochs": 2}
FLAGS |= {"learning_rate": 0.01, "strong_learning_rate": 5e-4, "cache": "ram"}


def with_a_last_step_of_one_window(data: Path) -> dict:
    """Flags that make it so, and at least four steps an epoch."""
    lengths = row_lengths(PIITokenDataset(data, "train"))
    return next(
        {"max_length": max_length, "batch_size": size}
        for max_length in range(MAX_LENGTH, 2 * MAX_LENGTH)
        for size in range(5, 20)
        for windows in [len(plain_windows(lengths, max_length))]
        if windows % (3 * size) == 1 and windows > 9 * size
    )


@pytest.mark.parametrize("world", [2, 3])
def test_several_processes_train_the_heads_of_one(tiny, small, tmp_path, world):
    """Also where the windows do not divide evenly and a step has fewer of them than there are processes."""
    flags = FLAGS | with_a_last_step_of_one_window(small)
    command = Command(small, tiny, None)
    train.main(command.arguments(tmp_path / "one", **flags))
    together = command.arguments(tmp_path / "runs" / "several", **flags)
    assert start_processes(world, lambda rank: train.main(together), tmp_path / "printed") == [0] * world

    one, several = tmp_path / "one", tmp_path / "runs" / "several"
    for head in FLAGS["heads"]:
        weights = [load_file(run / head / "head.safetensors") for run in (one, several)]
        torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=1e-6)
    assert len(metrics_of(one)) == len(metrics_of(several)) >= 8
    for name in ("loss", "gradient_norm"):
        figures = [[record[name] for record in metrics_of(run)] for run in (one, several)]
        np.testing.assert_allclose(figures[1], figures[0], rtol=1e-4)
    summaries = [summary_of(run) for run in (one, several)]
    assert [summary["processes"] for summary in summaries] == [1, world]
    for name in ("steps", "tokens", "windows", "examples"):
        assert summaries[0][name] == summaries[1][name]
    for head in FLAGS["heads"]:
        for name in ("strict", "token", "leakage"):
            assert summaries[1]["validation"][head][name] == pytest.approx(summaries[0]["validation"][head][name])

    # one writes and prints
    assert set(contents(tmp_path / "runs")) == {f"several/{name}" for name in contents(one)}
    assert siblings(several) == ["several"]
    printed = [(tmp_path / "printed" / f"{rank}.out").read_text() for rank in range(world)]
    assert "wrote" in printed[0] and not any(printed[1:])
    assert "Traceback" not in "".join(path.read_text() for path in (tmp_path / "printed").glob("*.err"))


def test_processes_that_were_killed_can_be_resumed_together(tiny, small, tmp_path):
    command, run = Command(small, tiny, None), tmp_path / "run"
    flags = FLAGS | {"dropout": 0.2, "strong_dropout": 0.2, "save_every": 3}

    def training(output: Path, **more) -> Callable[[int], None]:
        def call(rank: int) -> None:
            train.STEPS_AHEAD["cpu"] = 3
            train.main(command.arguments(output, **flags, **more))

        return call

    def killed(rank: int) -> None:
        save, calls = runs.save_state, []

        def save_and_die(*arguments) -> None:
            save(*arguments)
            calls.append(rank)
            if len(calls) == 2:
                os.kill(os.getpid(), 9)

        runs.save_state = save_and_die
        training(run)(rank)

    assert start_processes(2, training(tmp_path / "whole"), tmp_path / "printed") == [0, 0]
    assert start_processes(2, killed, tmp_path / "printed")[0] == -9
    assert set(contents(run)) == {"resume.safetensors"}
    assert start_processes(2, training(run, resume=True), tmp_path / "printed") == [0, 0]
    for head in flags["heads"]:
        weights = [load_file(folder / head / "head.safetensors") for folder in (run, tmp_path / "whole")]
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
    assert set(contents(run)) == set(contents(tmp_path / "whole"))


def test_a_cache_must_have_room_for_all_processes_of_a_machine(small, monkeypatch):
    asked = []
    monkeypatch.setattr(setup, "choose_cache", lambda wanted, size, folder: asked.append(size) or "none")
    windows = train.make_windows(PIITokenDataset(small, "train").split.example_offsets, MAX_LENGTH)
    reader = type("Reader", (), {"width": 4, "backbone": type("Backbone", (), {"dtype": torch.float32})})
    for processes in (ALONE, Processes(1, 2, CPU)):
        setup.build_cache("auto", small, reader, windows, 2, processes)
    assert asked == [int(windows.lengths.sum()) * 16] * 2


# an environment that cannot be

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
MET = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1"}
BAD_ENVIRONMENTS = [
    {"WORLD_SIZE": "2"},
    {"WORLD_SIZE": "0"},
    {"WORLD_SIZE": ""},
    {"WORLD_SIZE": "abc"},
    {"WORLD_SIZE": str(2**70), "RANK": "0"},
    {"RANK": "3"},
    {"RANK": "-1"},
    {"RANK": "2", "WORLD_SIZE": "2"},
    {"LOCAL_RANK": "1"},
    {"LOCAL_RANK": "x"},
    {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "1", "WORLD_SIZE": "2", "RANK": "1"},
    {"LOCAL_WORLD_SIZE": "4"},
]
UNMET = [{"WORLD_SIZE": "2", "RANK": "0"}, MET, *(MET | {"MASTER_PORT": port} for port in ("", "x", "0", "99999"))]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    return lambda values: [monkeypatch.setenv(name, value) for name, value in values.items()]


@pytest.mark.parametrize("values", BAD_ENVIRONMENTS, ids=str)
def test_processes_that_cannot_be_are_refused_in_one_line(environment, values):
    environment(values)
    for place in (Place.of_environment, lambda: Processes.join("cpu").__enter__()):
        with pytest.raises(UserError, match="torchrun") as refused:
            place()
        assert refused.value.code == 2 and "\n" not in str(refused.value)


@pytest.mark.parametrize("values", UNMET, ids=str)
def test_processes_that_cannot_meet_are_refused_in_one_line(environment, values):
    environment(values)
    with pytest.raises(UserError, match="MASTER_"), Processes.join("cpu"):
        raise AssertionError("it was not joined")


@pytest.mark.parametrize(
    "values", [{}, {"RANK": "0"}, {"LOCAL_RANK": "0"}, {"SLURM_PROCID": "3", "SLURM_NTASKS": "4"}], ids=str
)
def test_what_a_launcher_of_one_process_leaves_does_no_harm(environment, values):
    environment(values)
    assert Place.of_environment() == Place(0, 1, 0, 1)


def test_only_one_of_several_processes_takes_the_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert own_device("auto", Place(3, 4, 1, 2)) == own_device("cuda", Place(3, 4, 1, 2)) == "cuda:1"
    assert [own_device(name, Place(3, 4, 1, 2)) for name in ("cpu", "cuda:0")] == ["cpu", "cuda:0"]
    assert own_device("auto", Place()) == "auto"


@pytest.mark.parametrize(("fast", "dtype"), [({0, 1}, torch.bfloat16), ({0}, torch.float32), ({1}, torch.float32)])
def test_processes_compute_in_bfloat16_on_their_cpus_only_where_all_are_fast_in_it(monkeypatch, tmp_path, fast, dtype):
    """Each has measured for itself, beside the other."""

    def ask(processes: Processes) -> list:
        monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: processes.rank in fast)
        return [backbone_dtype(processes.device) for _ in range(2)]

    assert in_processes(2, ask, tmp_path / "both") == [[dtype] * 2] * 2
