"""One process or several: `torchrun --nproc-per-node N -- train.py ...` starts one for each GPU."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import distributed

from pii.device import choose_device


@dataclass(frozen=True)
class Processes:
    """This process among those that work on one command."""

    rank: int
    world_size: int
    device: torch.device

    @classmethod
    @contextlib.contextmanager
    def join(cls, device: str) -> Iterator["Processes"]:
        """Meet the other processes that torchrun started, if it started any. Raises UserError at a bad device.

        With `auto` or `cuda` each process takes the GPU of its own local rank.
        """
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            yield cls(0, 1, choose_device(device))
            return
        if device in ("auto", "cuda") and torch.cuda.is_available():
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        chosen = choose_device(device)
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)
        distributed.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
        try:
            yield cls(distributed.get_rank(), world, chosen)
            with contextlib.suppress(RuntimeError):  # the others may have failed since, and say so themselves
                distributed.barrier()  # all leave together: one that is left alone can be aborted
        finally:
            distributed.destroy_process_group()

    def print(self, text: str) -> None:
        """On the first process only."""
        if self.rank == 0:
            print(text)

    def own(self, count: int) -> np.ndarray:
        """Which of `count` things are this process's: every world-th one."""
        return np.arange(self.rank, count, self.world_size)

    def all_reduce(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor with its sum over all processes: in one exchange, as they are small."""
        if self.world_size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def barrier(self) -> None:
        """Until all are here."""
        if self.world_size > 1:
            distributed.barrier()

    def all_gather(self, own: np.ndarray, counts: Sequence[int]) -> list[np.ndarray]:
        """Every process's array, on every process: `own` [counts[rank], ...] of one dtype and width."""
        if self.world_size == 1:
            return [own]
        parts = [torch.from_numpy(np.zeros((count, *own.shape[1:]), own.dtype)) for count in counts]
        parts[self.rank] = torch.from_numpy(np.ascontiguousarray(own))
        for rank, part in enumerate(parts):
            if part.numel():
                distributed.broadcast(part, src=rank)
        return [part.numpy() for part in parts]
