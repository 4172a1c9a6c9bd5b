"""How much of the machine's processors is ours: its affinity, and what a container's control group leaves."""

import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def available_cores() -> int:
    """Cores that this process may keep busy, at least 1: part of a core is not counted."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([cores, *quotas()])))


def quotas() -> Iterator[float]:
    """The cores that each control group above this process allows, where one has a quota."""
    for folder in cgroup_folders():
        try:
            if (folder / "cpu.max").exists():  # version 2
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            if int(quota) > 0:
                yield int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max": no quota
            continue


def cgroup_folders() -> Iterator[Path]:
    """Folders that may hold a quota. A container sees its own group as the root, whatever path it is told."""
    try:
        lines = OWN_CGROUPS.read_text().splitlines()
    except (OSError, ValueError):  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers or "cpu" in controllers.split(","):
            own = Path(path.lstrip("/"))
            for root in (CGROUPS, CGROUPS / "unified") if not controllers else (CGROUPS / "cpu", CGROUPS / controllers):
                yield from (root / folder for folder in (own, *own.parents))
