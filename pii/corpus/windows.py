"""Windows: what the backbone sees at once, and in which batches."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pii.corpus.spans import ranges, starts_of

IGNORE_INDEX = -100  # label of a position that is not scored, as in torch's cross-entropy


@dataclass(frozen=True)
class Windows:
    """What the backbone sees at once: tokens start:stop of a split; those of scored_from:scored_to are scored."""

    row: np.ndarray  # [windows] int64
    start: np.ndarray  # [windows] int64, over the whole split's tokens, as all below
    stop: np.ndarray
    scored_from: np.ndarray
    scored_to: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, chosen: np.ndarray | slice) -> "Windows":
        return Windows(*(column[chosen] for column in vars(self).values()))

    @property
    def lengths(self) -> np.ndarray:
        return self.stop - self.start

    @property
    def scored_counts(self) -> np.ndarray:
        return self.scored_to - self.scored_from

    def tokens(self) -> np.ndarray:
        """Indices of all tokens the windows hold, one window after the other: those of two overlap."""
        return ranges(self.start, self.lengths)

    def scored_tokens(self) -> np.ndarray:
        """Indices of the tokens that are scored, in the windows' order."""
        return ranges(self.scored_from, self.scored_counts)

    def scored_places(self) -> np.ndarray:
        """Where the scored tokens stand in `tokens()`."""
        return ranges(starts_of(self.lengths)[:-1] + self.scored_from - self.start, self.scored_counts)


def make_windows(example_offsets: np.ndarray, max_length: int) -> Windows:
    """Cut each row into windows of at most `max_length` tokens; every token is scored in exactly one of them.

    A row that fits is one window. A longer one gets windows that overlap by a quarter. Two thirds of the overlap are
    left context for the later window, one third is right context for the earlier one, which a head can look ahead
    into. The last window is moved left until it is full.
    """
    overlap = min(max_length - 1, max(1, max_length // 4))
    ahead = overlap // 3
    lengths = np.diff(example_offsets)
    extra = np.maximum(0, -(-(lengths - max_length) // (max_length - overlap)))
    counts = np.where(lengths > 0, 1 + extra, 0)
    row = np.repeat(np.arange(len(lengths)), counts)
    nth = ranges(np.zeros_like(counts), counts)
    start = np.minimum(nth * (max_length - overlap), np.maximum(lengths[row] - max_length, 0))
    stop = np.minimum(start + max_length, lengths[row])
    scored_from = np.where(nth > 0, (nth - 1) * (max_length - overlap) + max_length - ahead, 0)
    scored_to = np.where(nth + 1 < counts[row], stop - ahead, stop)
    first = np.asarray(example_offsets)[row]
    return Windows(row, first + start, first + stop, first + scored_from, first + scored_to)


def length_sorted_batches(lengths: np.ndarray, token_budget: int) -> Iterator[np.ndarray]:
    """Index arrays that cover all windows, longest first, each of at most `token_budget` tokens with its padding."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        stop = start + max(1, token_budget // int(lengths[order[start]]))
        yield order[start:stop]
        start = stop
