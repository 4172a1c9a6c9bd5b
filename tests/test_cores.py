"""How many cores are ours: promises of cores.py, and of device.py about threads."""

import os
from pathlib import Path

import pytest
import torch

from pii import cores, device

TREES = {
    "version 2, inside a container": ("0::/\n", {"cpu.max": "150000 100000"}, 1),
    "version 2, a group within a group": (
        "0::/a/b\n",
        {"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000", "cpu.max": "max 100000"},
        2,
    ),
    "version 2, half a core": ("0::/a\n", {"a/cpu.max": "50000 100000"}, 1),
    "version 1": (
        "5:cpu,cpuacct:/a\n4:memory:/b\n",
        {"cpu,cpuacct/a/cpu.cfs_quota_us": "300000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
        3,
    ),
    "version 1, a path of the host": (
        "5:cpu:/docker/of-the-host\n",
        {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"},
        2,
    ),
    "no quota": ("0::/\n1:cpu:/\n", {"cpu.max": "max 100000", "cpu/cpu.cfs_quota_us": "-1"}, 8),
    "damaged": ("0::/\n1:cpu:/\n", {"cpu.max": "", "cpu/cpu.cfs_quota_us": "x", "cpu/cpu.cfs_period_us": "0"}, 8),
    "no control groups": (None, {}, 8),
}


@pytest.mark.parametrize(("own", "files", "expected"), TREES.values(), ids=TREES)
def test_a_container_has_the_cores_of_its_quota(tmp_path, monkeypatch, own, files, expected):
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text + "\n")
    if own is not None:
        (tmp_path / "own").write_text(own)
    monkeypatch.setattr(cores, "CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(cores, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert cores.available_cores() == expected
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5}, raising=False)
    assert cores.available_cores() == 1


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch):
    """PyTorch uses four threads, and nobody chose so."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("available", "processes", "expected"),
    [(8, 1, 4), (4, 1, 4), (2, 1, 2), (1, 1, 1), (4, 2, 2), (4, 3, 1), (2, 8, 1)],
)
def test_there_are_no_more_threads_than_cores_for_this_process(threads, monkeypatch, available, processes, expected):
    monkeypatch.setattr(device, "available_cores", lambda: available)
    device.set_threads(processes)
    assert torch.get_num_threads() == expected
    assert device.describe_device(torch.device("cpu")) == f"cpu, {expected} thread{'s' * (expected > 1)}"


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_a_number_of_threads_that_the_user_chose_stays(threads, monkeypatch, name):
    monkeypatch.setenv(name, "4")
    monkeypatch.setattr(device, "available_cores", lambda: 1)
    device.set_threads()
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "standin", "bench"])
def test_every_command_says_how_threads_wait_before_torch_is_loaded(command):
    lines = (Path(__file__).parent.parent / f"{command}.py").read_text(encoding="utf-8").splitlines()
    first = {
        name: next((i for i, line in enumerate(lines) if line.startswith(name)), len(lines))
        for name in ("import pii", "from pii", "import torch", "from torch")
    }
    assert min(first["import pii"], first["from pii"]) < min(first["import torch"], first["from torch"])
