"""Hidden states of windows: computed on batches that suit the hardware, and kept for later epochs.

The backbone is frozen, so its batches need not be the optimizer's: windows of like length go together, which leaves
next to no padding, and what was computed once can be read again.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from pii.common import UserError
from pii.corpus.spans import ranges, starts_of
from pii.corpus.windows import Windows, length_sorted_batches
from pii.decoder.backbone import Backbone, bos_id_of
from pii.decoder.states import hidden_states

# more fill the matrix units of a GPU, fewer stay in a CPU's caches (measured: 1,024 tokens are 1.2x as fast as 4,096)
TOKENS_PER_FORWARD = {"cuda": 8192, "cpu": 1024}
CACHES = ("auto", "none", "ram", "disk")
MEMORY_SHARE = 0.6  # of what is free that a cache may take


class Reader:
    """Reads windows of one token stream with a frozen backbone.

    `layers` are those that some head reads, in the features' order; `tokens_per_forward` counts padding too.
    """

    def __init__(self, backbone: Backbone, layers: Sequence[int], tokens_per_forward: int | None = None) -> None:
        self.backbone, self.layers = backbone, list(layers)
        self.device = next(backbone.parameters()).device
        self.tokens_per_forward = tokens_per_forward or TOKENS_PER_FORWARD.get(self.device.type, 4096)
        self.bos_id = bos_id_of(backbone)
        self.width = len(self.layers) * backbone.config.hidden_size

    def __call__(
        self, token_ids: np.ndarray, windows: Windows, progress: Callable[[int], object] = lambda tokens: None
    ) -> torch.Tensor:
        """[tokens of the windows, width] in the backbone's dtype, one window after the other.

        `token_ids` [tokens of the split]; `progress` hears how many scored tokens were read.
        """
        lengths = windows.lengths
        place = starts_of(lengths)
        features = torch.empty((int(place[-1]), self.width), dtype=self.backbone.dtype, device=self.device)
        for batch in length_sorted_batches(lengths, self.tokens_per_forward):
            width = int(lengths[batch].max())
            cells = ranges(np.arange(len(batch)) * width, lengths[batch])
            flat_ids = np.zeros(len(batch) * width, dtype=np.int64)
            flat_ids[cells] = token_ids[windows[batch].tokens()]
            input_ids = to_device(flat_ids, self.device).view(len(batch), width)
            hidden = hidden_states(self.backbone, input_ids, self.layers, self.bos_id)
            target = to_device(ranges(place[batch], lengths[batch]), self.device)
            features[target] = hidden.flatten(0, 1)[to_device(cells, self.device)]
            progress(int(windows.scored_counts[batch].sum()))
        return features


def to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """The array there. A GPU is not waited for: from pinned memory a copy takes its turn behind what is queued."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def fetch(tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Start to copy a tensor to the host; the function returned gives it, and waits for this copy alone: not for
    what a GPU was given to do since."""
    if tensor.device.type != "cuda":
        return tensor.cpu
    copied = torch.empty_like(tensor, device="cpu", pin_memory=True)
    copied.copy_(tensor, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()

    def wait() -> torch.Tensor:
        arrived.synchronize()
        return copied

    return wait


def columns_of(layers: Sequence[int], wanted: Sequence[int], hidden_size: int) -> slice | torch.Tensor:
    """Which features belong to the `wanted` layers, where `layers` stand side by side: a slice where that suffices."""
    places = [list(layers).index(layer) for layer in wanted]
    if places == list(range(places[0], places[0] + len(places))):
        return slice(places[0] * hidden_size, (places[-1] + 1) * hidden_size)
    return torch.cat([torch.arange(place * hidden_size, (place + 1) * hidden_size) for place in places])


class Cache:
    """The features of all windows, in host memory or in a file that vanishes with the process."""

    def __init__(self, windows: Windows, width: int, dtype: torch.dtype, folder: Path | None = None) -> None:
        """`folder` is where the file lies; without one the features are kept in memory."""
        self.starts, self.lengths = starts_of(windows.lengths)[:-1], windows.lengths
        shape = (int(windows.lengths.sum()), width)
        if folder is None:
            self.features = torch.empty(shape, dtype=dtype)
            return
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:  # has no name: a killed process leaves nothing behind
            size = shape[0] * shape[1] * dtype.itemsize
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, max(1, size))  # a full disk is met now, not in the middle
            else:
                file.truncate(max(1, size))
            memory = np.memmap(file, dtype=np.uint8, mode="r+", shape=(max(1, size),))
        self.features = torch.from_numpy(memory)[:size].view(dtype).view(shape)

    def write(self, chosen: np.ndarray, features: torch.Tensor) -> None:
        self.features[torch.from_numpy(ranges(self.starts[chosen], self.lengths[chosen]))] = features.cpu()

    def read(self, chosen: np.ndarray, device: torch.device) -> torch.Tensor:
        """The features of the chosen windows, one after the other: [tokens, width] on `device`."""
        features = self.features[torch.from_numpy(ranges(self.starts[chosen], self.lengths[chosen]))]
        return features.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else features.to(device)


def choose_cache(wanted: str, size: int, folder: Path) -> str:
    """`ram`, `disk` or `none` for features of `size` bytes. Raises UserError where what was asked for cannot hold."""
    free = {"ram": MEMORY_SHARE * free_memory(), "disk": MEMORY_SHARE * shutil.disk_usage(existing(folder)).free}
    if wanted == "auto":
        return next((kind for kind in ("ram", "disk") if size <= free[kind]), "none")
    if wanted != "none" and size > free[wanted]:
        raise UserError(
            f"--cache {wanted} needs {size / 2**30:.1f} GiB but {free[wanted] / 2**30:.1f} GiB may be taken: "
            f"choose another --cache, fewer --layers or a smaller --data"
        )
    return wanted


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def free_memory() -> int:
    """Bytes of host memory that a process may still take."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):  # a container's own bound
        try:
            free = min(free, int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):
            continue
    return max(0, free)
