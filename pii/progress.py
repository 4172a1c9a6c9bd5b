"""What is done of a long work, on a terminal, in a notebook and in a log."""

from tqdm import tqdm


def progress(what: str, total: int | None = None, unit: str = " tok", quiet: bool = False) -> tqdm:
    return tqdm(total=total, unit=unit, desc=what, unit_scale=True, disable=True if quiet else None)
