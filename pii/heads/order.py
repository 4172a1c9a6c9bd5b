"""In which order windows of different lengths are read, position by position, there and back."""

from itertools import pairwise

import numpy as np
import torch

from pii.corpus.spans import starts_of


class Order:
    """In which order the tokens of windows, given one after the other, are read: all first ones, all second ones, ...,
    the windows by falling length, so that those that get to a position are the first ones.

    lengths [windows] int64, none of them 0, on the CPU.
    """

    def __init__(self, lengths: torch.Tensor) -> None:
        falling, by_length = lengths.sort(descending=True, stable=True)
        starts = (lengths.cumsum(0) - lengths)[by_length]
        position = torch.arange(int(falling[0]))
        reaches = position[:, None] < falling  # [positions, windows]
        there, back = starts + position[:, None], starts + falling - 1 - position[:, None]
        self.tokens = torch.stack([there[reaches], back[reaches]])  # [2, tokens]: which token stands where
        self.places = torch.empty_like(self.tokens)  # [2, tokens]: where each token stands
        self.places.scatter_(1, self.tokens, torch.arange(self.tokens.shape[1]).expand(2, -1))
        sizes = reaches.sum(1).numpy()
        self.steps = list(pairwise(starts_of(sizes).tolist()))  # the places of each position: from, to before
        row = np.arange(sizes.sum()) - np.repeat(starts_of(sizes)[:-1], sizes)
        earlier = np.repeat(starts_of(sizes)[:-2], sizes[1:]) + row[sizes[0] :]
        self.earlier = torch.from_numpy(earlier)  # [tokens - windows]: where the one before it stands, if one does
