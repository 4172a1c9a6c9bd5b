"""Forward and backward sums of a conditional random field in as many steps as a window can be halved, for GPUs.

A loop over positions is short work for a CPU; a GPU would spend its time on launches. Here a token is a matrix over the
states of a cut between tokens: no span goes on there, or one of a certain label does. The products of neighbours, of
neighbouring products and so on (Blelloch 1990) give the sums to and from each cut, of all windows at once.

All numbers are positive float64: nothing cancels. A token's are at least FLOOR and every span can be left, so that the
entries of a product, however long, stay within some e^120 of each other; a division every few products keeps the range.
"""

from functools import cache
from typing import NamedTuple

import torch

from pii.decoder.features import to_device

FLOOR = 1e-25  # of a probability beside the largest one of its token: keeps the numbers from running out
PRODUCTS_A_DIVISION = 3  # of 8 tokens, which can shrink by e^57 each at worst; a float64 goes down to e^-708
LARGEST = 2**30  # bytes of the tokens' matrices; the products take as much again


class Entries(NamedTuple):
    """What stands in a token's matrix: entry i is the token's number of tag[i] times exp of the moves that it takes, in
    the cell from state before[i] to state after[i]; those of the first cell, which come first, are added.

    State 0: no span goes on; state l: that of label l does. A tag can be left, and all but O can be stayed in.
    """

    tag: torch.Tensor  # [entries] int64, as before and after
    before: torch.Tensor
    after: torch.Tensor
    tags: torch.Tensor  # [entries, tags] float64: 1 at its tag
    moves: torch.Tensor  # [entries, 3 * tags] float64: 1 at each of leave, enter and stay that it takes
    cell: torch.Tensor  # [entries, cells] float64: 1 at the one that it is added to
    places: torch.Tensor  # [2, cells] int64: of the cells in a matrix, plain and turned
    ends: torch.Tensor  # [2, states] float64: 1 where a window may start, and where it may end


@cache
def entries_of(num_tags: int, device: torch.device) -> Entries:
    """Of all tokens: they differ in their tags' numbers alone."""
    tag = torch.cat([torch.arange(num_tags), torch.arange(1, num_tags)])
    stays = torch.arange(len(tag)) >= num_tags
    continues = (tag > 0) & (tag % 2 == 0)
    order = (stays | continues).long().argsort(stable=True)
    tag, stays, continues = tag[order], stays[order], continues[order]
    tags = torch.nn.functional.one_hot(tag, num_tags).double()
    takes = (~stays, ~continues, stays)  # leave, enter, stay
    moves = torch.cat([tags * taken[:, None] for taken in takes], dim=1)
    before, after = (tag + 1) // 2 * continues, (tag + 1) // 2 * stays
    states = num_tags // 2 + 1
    places = torch.stack([before * states + after, after * states + before])[:, states - 1 :]
    cell = torch.nn.functional.one_hot((torch.arange(len(tag)) - states + 1).clamp(min=0)).double()
    ends = torch.ones(2, states, dtype=torch.float64)  # a sequence may start within a span, ...
    ends[1, 1:] = 0.0  # ... but none goes on after it
    return Entries(*(part.to(device) for part in (tag, before, after, tags, moves, cell, places, ends)))


class Leaves(NamedTuple):
    """Where tokens' matrices stand: windows padded to one power of two, in the order of a Gray code. Those of even
    positions are as they are, those of odd ones turned (transposed), and so in every level of products above."""

    number: int
    leaf: torch.Tensor  # [tokens] int64
    turned: torch.Tensor  # [tokens] int64: 1 if it is
    sums: torch.Tensor  # [2, tokens] int64: where those of its two cuts stand
    is_last: torch.Tensor  # [tokens] float64: of its sequence
    padding: torch.Tensor  # the leaves that are no token

    @classmethod
    def of(cls, counts: torch.Tensor, device: torch.device) -> "Leaves":
        size, ends = padded(counts), counts.cumsum(0)
        row = torch.repeat_interleave(torch.arange(len(counts)), counts)
        place = torch.arange(len(row)) - (ends - counts)[row]
        leaf = row * size + (place ^ (place >> 1))
        is_token = torch.zeros(len(counts) * size, dtype=torch.bool)
        is_token[leaf] = True
        is_last = torch.zeros(len(row), dtype=torch.float64)
        is_last[ends - 1] = 1.0
        turned = place % 2
        sums = 2 * leaf + torch.stack([turned, 1 - turned])
        parts = (leaf, turned, sums, is_last, (~is_token).nonzero()[:, 0])
        return cls(len(is_token), *(to_device(part.numpy(), device) for part in parts))


def padded(counts: torch.Tensor) -> int:
    """The length that all windows are given, 2 at least."""
    return 1 << max(1, int(counts.max() - 1).bit_length())


def fits(counts: torch.Tensor, num_tags: int) -> bool:
    """Whether the matrices of such windows may be held."""
    return len(counts) * padded(counts) * (num_tags // 2 + 1) ** 2 * 8 <= LARGEST


@torch.no_grad()
def expectations(
    scores: torch.Tensor, counts: torch.Tensor, transitions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As Crf.expectations; `transitions` are leave, enter and stay, [3, tags]. All three in float64."""
    tags, states = scores.shape[1], scores.shape[1] // 2 + 1
    entries, leaves = entries_of(tags, scores.device), Leaves.of(counts, scores.device)
    transitions = transitions.double()

    # the matrices leave a sequence's last tag as well, so what that costs is given before
    level = scores.amax(1)
    relative = torch.addcmul(scores - level[:, None], leaves.is_last[:, None], transitions[0], value=-1)
    relative = relative.exp_().clamp_(min=FLOOR)
    weights = relative[:, entries.tag] * (entries.moves @ transitions.flatten()).exp()  # [tokens, entries]
    matrices = weights.new_zeros(leaves.number, states * states)
    matrices[:, :: states + 1].index_fill_(0, leaves.padding, 1.0)
    matrices[leaves.leaf[:, None], entries.places[leaves.turned]] = weights @ entries.cell

    sums, log_total = sums_at_cuts(matrices.view(-1, 2, states, states), len(counts), entries.ends)
    before, after = sums[leaves.sums]  # [tokens, states] each
    shares = (before[:, entries.before] * after[:, entries.after]).mul_(weights)
    shares /= shares.sum(1, keepdim=True)
    marginals, expected = shares @ entries.tags, (shares.sum(0) @ entries.moves).view(3, tags)
    expected[0].sub_(leaves.is_last @ marginals)
    return log_total + level.sum(), marginals, expected


def sums_at_cuts(pairs: torch.Tensor, windows: int, ends: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Matrices of all tokens in the order of Leaves, [windows * size / 2, 2, states, states] → the sums of all paths to
    the cut before a token and from the cut after it, [windows * size * 2, states], each known up to a factor, those of
    turned ones the other way round; and log Z, summed over windows. `ends` are those of Entries.

    A pair is a left one and a turned right one, or a turned right one and a left one where their product is turned.
    """
    states, levels, scales = pairs.shape[-1], [pairs], []
    while len(levels[-1]) > windows:
        product = torch.bmm(levels[-1][:, 0], levels[-1][:, 1].mT)
        if len(levels) % PRODUCTS_A_DIVISION == 0 and len(product) > 2 * windows:
            scales.append(product.amax((1, 2), keepdim=True))
            product /= scales[-1]
        levels.append(product.view(-1, 2, states, states))
    sums = ends.repeat(windows, 1)
    for depth in reversed(range(len(levels))):
        to_middle = torch.bmm(sums[:, None], levels[depth].view(-1, states, states)).view(-1, 2, states)
        if depth == len(levels) - 1:
            scales.append(torch.bmm(to_middle[:, :1], to_middle[:, 1:].mT))
        elif depth and depth % PRODUCTS_A_DIVISION == 0:
            to_middle /= to_middle.amax(2, keepdim=True)
        left, right = sums.view(-1, 2, states).unbind(1)
        sums = torch.stack([left, to_middle[:, 1], right, to_middle[:, 0]], dim=1).view(-1, states)
    return sums, torch.cat([scale.flatten() for scale in scales]).log().sum()
