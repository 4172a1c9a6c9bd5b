"""Hidden states of windows, computed in batches and kept for later epochs: promises of features.py."""

import os
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pii.corpus.windows import Windows, make_windows
from pii.decoder import features
from pii.decoder.backbone import load_backbone
from pii.decoder.features import Cache, Reader, choose_cache, columns_of, existing, free_memory
from tests.decoder.test_backbone import refusal, save_tiny_backbone, some_ids

BOS, DEPTH, HIDDEN = 1, 3, 32
LENGTHS = [3, 30, 8, 1, 17, 8, 9]  # rows of 30, 17 and 9 tokens are longer than a window
CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_backbone(tmp_path_factory.mktemp("features") / "backbone", num_hidden_layers=DEPTH)


@pytest.fixture(scope="session")
def tiny(tiny_folder) -> nn.Module:
    return load_backbone(str(tiny_folder), torch.float32)


@pytest.fixture
def token_ids() -> np.ndarray:
    return some_ids(sum(LENGTHS)).numpy().astype(np.uint32)


def some_windows() -> Windows:
    windows = make_windows(np.concatenate([[0], np.cumsum(LENGTHS)]), max_length=8)
    assert len(windows) > len(LENGTHS) + 3
    return windows


@torch.no_grad()
def plain_features(backbone: nn.Module, token_ids: np.ndarray, windows: Windows, layers: list[int]) -> torch.Tensor:
    """Window by window, with the library's own hidden states."""
    parts = []
    for start, stop in zip(windows.start.tolist(), windows.stop.tolist(), strict=True):
        states = backbone(torch.tensor([[BOS, *token_ids[start:stop].tolist()]]), output_hidden_states=True)
        parts.append(torch.cat([states.hidden_states[layer][0, 1:] for layer in layers], dim=1))
    return torch.cat(parts)


# reading


@pytest.mark.parametrize("tokens_per_forward", [1, 20, 4096])
@pytest.mark.parametrize("layers", [[DEPTH], [0, 2], [1, 2, 3]])
def test_a_reader_gives_what_a_plain_loop_over_single_windows_gives(tiny, token_ids, tokens_per_forward, layers):
    windows = some_windows()
    windows = windows[np.random.default_rng(0).permutation(len(windows))[:-1]]
    heard = []
    read = Reader(tiny, layers, tokens_per_forward)
    states = read(token_ids, windows, heard.append)
    assert states.shape == (windows.lengths.sum(), read.width) and read.width == HIDDEN * len(layers)
    torch.testing.assert_close(states, plain_features(tiny, token_ids, windows, layers), rtol=0, atol=1e-5)
    assert sum(heard) == windows.scored_counts.sum()


def test_a_forward_pass_holds_no_more_tokens_than_told_padding_included(tiny, token_ids):
    seen = []
    hook = tiny.register_forward_pre_hook(
        lambda _, args, named: seen.append(named["input_ids"].shape), with_kwargs=True
    )
    Reader(tiny, [1], 20)(token_ids, some_windows())
    hook.remove()
    assert all(rows * (width - 1) <= 20 for rows, width in seen)  # BOS comes on top
    assert 1 < len(seen) < len(some_windows())


def test_features_come_in_the_backbones_precision(tiny_folder, token_ids):
    made = load_backbone(str(tiny_folder), torch.bfloat16)
    states = Reader(made, [1, 3])(token_ids, some_windows())
    assert states.dtype == torch.bfloat16 and not states.requires_grad


def test_no_windows_are_no_features(tiny, token_ids):
    assert Reader(tiny, [1, 2])(token_ids, some_windows()[:0]).shape == (0, 2 * HIDDEN)


@pytest.mark.parametrize(("named", "used"), [(7, 7), (0, 0), (None, BOS)])
def test_the_backbones_own_bos_is_used_and_tekkens_where_it_names_none(tmp_path, token_ids, named, used):
    made = load_backbone(str(save_tiny_backbone(tmp_path / "backbone", bos_token_id=named)), torch.float32)
    states = Reader(made, [2])(token_ids, some_windows()[:1])
    with torch.no_grad():
        expected = made(torch.tensor([[used, *token_ids[: LENGTHS[0]].tolist()]])).last_hidden_state[0, 1:]
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-6)


# columns


@pytest.mark.parametrize(
    ("layers", "wanted"),
    [([3], [3]), ([1, 2, 3], [1]), ([1, 2, 3], [2, 3]), ([1, 2, 3], [1, 3]), ([1, 2, 3], [3, 1]), ([0, 4, 9], [9, 4])],
)
def test_columns_are_those_of_the_wanted_layers_in_their_order(layers, wanted):
    stacked = torch.arange(len(layers) * 4).view(1, -1)
    expected = torch.cat([torch.arange(4) + 4 * layers.index(layer) for layer in wanted])
    assert torch.equal(stacked[:, columns_of(layers, wanted, 4)][0], expected)


@pytest.mark.parametrize("wanted", [[1], [2, 3], [1, 2, 3]])
def test_neighbouring_layers_are_a_slice_which_copies_nothing(wanted):
    assert isinstance(columns_of([1, 2, 3], wanted, 4), slice)


# the cache


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_cache_gives_back_any_windows_in_any_order_to_the_bit(tmp_path, on_disk, dtype):
    windows = some_windows()
    starts = np.concatenate([[0], np.cumsum(windows.lengths)])
    whole = torch.randn(int(windows.lengths.sum()), 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    rows = [whole[start:stop] for start, stop in pairwise(starts)]
    cache = Cache(windows, 6, dtype, tmp_path / "made" / "here" if on_disk else None)
    order = np.random.default_rng(1).permutation(len(windows))
    for part in np.array_split(order, 4):
        cache.write(part, torch.cat([rows[i] for i in part]))
    for chosen in (np.arange(len(windows)), order, order[:3], order[:1], order[:0]):
        expected = torch.cat([rows[i] for i in chosen]) if len(chosen) else whole[:0]
        assert torch.equal(cache.read(chosen, CPU), expected) and cache.read(chosen, CPU).dtype == dtype


def test_a_cache_on_the_disk_lies_there_and_has_no_name(tmp_path):
    before = shutil.disk_usage(tmp_path).free
    cache = Cache(some_windows(), 200_000, torch.float32, tmp_path)
    size = cache.features.numel() * 4
    assert list(tmp_path.iterdir()) == [] and size > 10 * 2**20
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert any(f"{tmp_path}/" in line and "(deleted)" in line for line in maps.read_text().splitlines())
    assert before - shutil.disk_usage(tmp_path).free > size // 2  # taken at once: a full disk is met now
    del cache
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="space cannot be taken beforehand")
def test_a_full_disk_is_met_when_the_cache_is_made_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        Cache(some_windows(), 8, torch.float32, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_cache_of_no_windows_is_one_too(tmp_path, on_disk):
    """A process among more processes than windows has none."""
    cache = Cache(some_windows()[:0], 4, torch.float32, tmp_path if on_disk else None)
    nothing = np.zeros(0, np.int64)
    cache.write(nothing, torch.zeros(0, 4))
    assert cache.read(nothing, CPU).shape == (0, 4)


# which cache


@pytest.fixture
def free(monkeypatch):
    """free(ram, disk): how many bytes a process may take of each."""

    def set_free(ram: float, disk: float) -> None:
        usage = shutil._ntuple_diskusage(10**12, 0, int(disk / features.MEMORY_SHARE))
        monkeypatch.setattr(features, "free_memory", lambda: int(ram / features.MEMORY_SHARE))
        monkeypatch.setattr(features.shutil, "disk_usage", lambda folder: usage)

    return set_free


@pytest.mark.parametrize(
    ("ram", "disk", "chosen"),
    [(2000, 2000, "ram"), (2000, 0, "ram"), (500, 2000, "disk"), (500, 500, "none"), (0, 0, "none")],
)
def test_auto_prefers_memory_to_the_disk_and_the_disk_to_nothing(free, tmp_path, ram, disk, chosen):
    free(ram, disk)
    assert choose_cache("auto", 1000, tmp_path) == chosen


def test_what_was_asked_for_is_taken_where_it_fits(free, tmp_path):
    free(2000, 2000)
    assert [choose_cache(wanted, 1000, tmp_path) for wanted in ("ram", "disk", "none")] == ["ram", "disk", "none"]


@pytest.mark.parametrize(("wanted", "ram", "disk"), [("ram", 500, 2000), ("disk", 2000, 500)])
def test_a_cache_that_does_not_fit_is_refused_with_both_sizes(free, tmp_path, wanted, ram, disk):
    free(ram * 2**30, disk * 2**30)
    message = refusal(choose_cache, wanted, 1000 * 2**30, tmp_path)
    assert f"--cache {wanted}" in message and "1000.0 GiB" in message and "500.0 GiB" in message
    assert choose_cache("none", 1000 * 2**30, tmp_path) == "none"


def test_the_disk_is_asked_about_where_the_folder_will_be(tmp_path):
    assert existing(tmp_path / "not" / "yet") == tmp_path
    assert existing(tmp_path) == tmp_path
    assert existing(Path("nowhere-at-all")) == Path.cwd()
    assert choose_cache("auto", 1, tmp_path / "not" / "yet") == "ram"


def files(monkeypatch, held: dict[str, str]) -> None:
    """What Path.read_text finds where the system tells about its memory."""

    def read_text(self: Path) -> str:
        if str(self) not in held:
            raise FileNotFoundError(self)
        return held[str(self)]

    monkeypatch.setattr(Path, "read_text", read_text)


MEMINFO = {"/proc/meminfo": "MemTotal:       3000 kB\nMemFree: 9 kB\nMemAvailable:       2000 kB\n"}
CGROUP = "/sys/fs/cgroup/memory"


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        (MEMINFO, 2000 * 1024),
        (MEMINFO | {f"{CGROUP}.max": "max\n", f"{CGROUP}.current": "5\n"}, 2000 * 1024),
        (MEMINFO | {f"{CGROUP}.max": "1500\n", f"{CGROUP}.current": "500\n"}, 1000),
        (MEMINFO | {f"{CGROUP}.max": "500\n", f"{CGROUP}.current": "600\n"}, 0),
        (MEMINFO | {f"{CGROUP}/memory.limit_in_bytes": "900", f"{CGROUP}/memory.usage_in_bytes": "200"}, 700),
    ],
)
def test_free_memory_is_what_the_machine_and_the_container_leave(monkeypatch, held, expected):
    files(monkeypatch, held)
    assert free_memory() == expected


def test_free_memory_is_half_of_the_machines_where_the_system_does_not_tell(monkeypatch):
    files(monkeypatch, {})
    assert free_memory() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
