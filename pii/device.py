"""Where this process computes."""

import ctypes
import os
import platform
import resource

import torch

from pii.common import UserError
from pii.cores import available_cores

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def choose_device(name: str) -> torch.device:
    """The device `auto` stands for, or the named one. Raises UserError where it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except Exception as error:  # each of PyTorch's backends raises what it likes
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"device {name} cannot be used ({reason}): try --device cpu") from None
    if device.type == "cpu":
        keep_freed_memory()
    return device


def keep_freed_memory() -> None:
    """Let glibc keep what is freed for the next tensor, where it would give it back to the system.

    Each operation allocates its result, and pages that come anew from the system are cleared first: a forward pass of
    the stand-in in int8 took 1.7 times as long (docs/speed.md). Other C libraries are left as they are.
    """
    if platform.libc_ver()[0] == "glibc":
        malloc_option = ctypes.CDLL(None).mallopt
        malloc_option(M_TRIM_THRESHOLD, 2**31 - 1)
        malloc_option(M_MMAP_THRESHOLD, 2**30) or malloc_option(M_MMAP_THRESHOLD, 2**25)  # older ones take no more


def set_threads(processes: int = 1) -> None:
    """No more threads than this process has cores: more would wait for each other. `processes` share the machine.

    Fewer that someone chose, in the environment or in PyTorch, stay. The number depends on no measurement, so the same
    command on the same machine gives the same bits.
    """
    if not {"OMP_NUM_THREADS", "MKL_NUM_THREADS"} & {*os.environ}:
        share = max(1, available_cores() // processes)
        if share < torch.get_num_threads():
            torch.set_num_threads(share)


def describe_device(device: torch.device) -> str:
    """Its name, and of a CPU how many threads work on it."""
    threads = torch.get_num_threads()
    return f"cpu, {threads} thread{'s' * (threads > 1)}" if device.type == "cpu" else device_name(device)


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def peak_memory(device: torch.device) -> float:
    """GiB: of the GPU where there is one, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1024 if platform.system() == "Linux" else 1) / 2**30
