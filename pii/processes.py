"""One process or several: `torchrun --nproc-per-node N -- train.py ...` starts one for each GPU."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import distributed

from pii.common import UserError
from pii.device import choose_device, set_threads

LAUNCH = "start the processes with torchrun, or unset RANK, WORLD_SIZE and their like to use one"


@dataclass(frozen=True)
class Place:
    """Which of how many processes this one is, of all and on its machine."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @classmethod
    def of_environment(cls) -> "Place":
        """As torchrun tells it; without it one process. Raises UserError where that cannot be."""
        world = number_in_environment("WORLD_SIZE", "1", least=1, most=2**31 - 1)
        local_world = number_in_environment("LOCAL_WORLD_SIZE", str(world), least=1, most=world)
        if world > 1 and "RANK" not in os.environ:
            raise UserError(f"WORLD_SIZE is {world} but RANK is not set: {LAUNCH}")
        rank = number_in_environment("RANK", "0", least=0, most=world - 1)
        local_rank = number_in_environment("LOCAL_RANK", "0", least=0, most=local_world - 1)
        return cls(rank, world, local_rank, local_world)


def number_in_environment(name: str, default: str, least: int, most: int) -> int:
    """Raises UserError where the variable holds anything but a whole number from `least` to `most`."""
    text = os.environ.get(name, default)
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        numbers = f"{least} to {most}" if least < most else str(least)
        raise UserError(f"{name} in the environment is {text[:40]!r}, here it can be {numbers}: {LAUNCH}")
    return value


def own_device(device: str, place: Place) -> str:
    """The GPU of this process where it is one of several and was told none."""
    if place.world_size > 1 and device in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{place.local_rank}"
    return device


def meet(backend: str) -> None:
    """Raises UserError where the other processes cannot be met."""
    if "MASTER_ADDR" not in os.environ:
        raise UserError(f"WORLD_SIZE is above 1 but MASTER_ADDR is not set: {LAUNCH}")
    number_in_environment("MASTER_PORT", "", least=1, most=65535)
    try:
        distributed.init_process_group(backend)
    except (RuntimeError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"the other processes cannot be met ({reason}): {LAUNCH}") from None


@dataclass(frozen=True)
class Processes:
    """This process among those that work on one command."""

    rank: int
    world_size: int
    device: torch.device

    @classmethod
    @contextlib.contextmanager
    def join(cls, device: str) -> Iterator["Processes"]:
        """Meet the other processes that torchrun started, if it started any. Raises UserError at a bad device,
        and where the environment tells of processes that cannot be. Each process gets its share of the cores.

        With `auto` or `cuda` each process takes the GPU of its own local rank.
        """
        place = Place.of_environment()
        chosen = choose_device(own_device(device, place))
        set_threads(place.local_world_size)
        if place.world_size == 1:
            yield cls(0, 1, chosen)
            return
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)
        meet("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
        try:
            yield cls(place.rank, place.world_size, chosen)
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
