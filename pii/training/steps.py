"""Which windows each optimizer step sees, and what is to be learnt there."""

from collections.abc import Container, Iterator
from dataclasses import dataclass

import numpy as np

from pii.corpus.spans import bio_tags, starts_of
from pii.corpus.store import PreparedSplit
from pii.corpus.windows import Windows
from pii.heads.heads import BIO, PLAIN
from pii.processes import Processes


@dataclass(frozen=True)
class Step:
    """One optimizer step, as one process sees it. Its windows stand side by side with those of other steps."""

    number: int  # 1, 2, ... over all epochs
    rows: np.ndarray  # rows of all processes' windows, to name them when something is wrong
    windows: Windows  # this process's
    tokens: slice  # its windows' tokens among the features
    scored: slice  # its windows' scored tokens among the tags
    count: int  # scored tokens of all processes' windows


def step_groups(
    windows: Windows, epoch: int, windows_a_step: int, steps_ahead: int, seed: int, processes: Processes
) -> Iterator[tuple[list[Step], np.ndarray]]:
    """An epoch's steps in their order, up to `steps_ahead` of them together, each time with the indices of this
    process's windows: window i is read by process i modulo their number, in every epoch. The first epoch starts with
    one step, then two, four, ...: a mistake shows in seconds.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(windows))
    batches = list(slices(order, windows_a_step))
    number = epoch * len(batches)
    start, size = 0, 1 if epoch == 0 else steps_ahead
    while start < len(batches):
        together = batches[start : start + min(size, steps_ahead)]
        start, size = start + len(together), 2 * size
        own = [batch[batch % processes.world_size == processes.rank] for batch in together]
        token_ends = starts_of(np.array([windows.lengths[batch].sum() for batch in own]))
        scored_ends = starts_of(np.array([windows.scored_counts[batch].sum() for batch in own]))
        steps = []
        for i, batch in enumerate(together):
            number += 1
            steps.append(
                Step(
                    number=number,
                    rows=windows.row[batch],
                    windows=windows[own[i]],
                    tokens=slice(token_ends[i], token_ends[i + 1]),
                    scored=slice(scored_ends[i], scored_ends[i + 1]),
                    count=int(windows.scored_counts[batch].sum()),
                )
            )
        yield steps, np.concatenate(own)


def slices(array: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """The array, `size` entries at a time."""
    return (array[start : start + size] for start in range(0, len(array), size))


def tags_of(split: PreparedSplit, windows: Windows, schemes: Container[str]) -> dict[str, np.ndarray]:
    """Tags of the windows' scored tokens in each tag scheme: [scored tokens] int64."""
    tokens = windows.scored_tokens()
    label_ids = split.tokens["label_ids"][tokens]
    tags = {}
    if PLAIN in schemes:
        tags[PLAIN] = label_ids.astype(np.int64)
    if BIO in schemes:
        tags[BIO] = bio_tags(label_ids, split.tokens["begins"][tokens]).astype(np.int64)
    return tags
