"""The loss of begin-aware tags: a linear-chain conditional random field (Lafferty, McCallum & Pereira 2001).

The scores of tags and of the moves between them are learnt together, so that nothing is counted twice in decoding: a
token's scores already know how frequent each tag is.
"""

from functools import cache

import numpy as np
import torch
from torch import nn

from pii.decoder.features import to_device
from pii.heads import halving
from pii.heads.halving import FLOOR
from pii.heads.order import Order
from pii.heads.viterbi import Transitions


class Crf(nn.Module):
    """Learnt transitions between BIO tags, and the loss that learns them.

    `leave`, `enter` and `stay` [tags] float32 are those of spans.Transitions; what stands for moves that cannot be, to
    enter a tag that continues and to stay in O, is looked at nowhere.
    """

    def __init__(self, num_tags: int) -> None:
        super().__init__()
        self.leave, self.enter, self.stay = (nn.Parameter(torch.zeros(num_tags)) for _ in Transitions._fields)

    def values(self) -> Transitions:
        """What spans.viterbi decodes with."""
        leave, enter, stay = (part.detach().cpu().numpy().copy() for part in (self.leave, self.enter, self.stay))
        enter[2::2] = stay[0] = -np.inf
        return Transitions(leave, enter, stay)

    def loss(self, scores: torch.Tensor, tags: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """-log p(tags | scores), summed over sequences of text that stand one after the other.

        scores [tokens, tags] float32, tags [tokens] int64, counts [sequences] int64 on the CPU, none of them 0. A
        sequence can start within a span: any tag may come first there, and one that continues a span costs no move.
        """
        return Loss.apply(scores, self.leave, self.enter, self.stay, self, tags, counts)

    def stacked(self) -> torch.Tensor:
        """leave, enter and stay, [3, tags]."""
        return torch.stack([self.leave, self.enter, self.stay])

    @torch.no_grad()
    def expectations(
        self, scores: torch.Tensor, counts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """log Z, summed over the sequences; p(tag) of each token [tokens, tags]; and how often each tag is expected to
        be left, entered and stayed in: [3, tags]. A GPU computes them in fewer steps, where memory allows that."""
        if scores.device.type == "cuda" and halving.fits(counts, scores.shape[1]):
            return halving.expectations(scores, counts, self.stacked())
        return self.expectations_by_position(scores, counts)

    def expectations_by_position(
        self, scores: torch.Tensor, counts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Forward and backward sums (Rabiner 1989) go through the sequences in one loop, the backward ones from the
        ends: their step is the same with the table of moves transposed.
        """
        order, ends = Order(counts), (counts.cumsum(0) - 1).to(scores.device)
        tokens, places = order.tokens.to(scores.device), order.places.to(scores.device)
        level = scores.amax(1)
        sums = (
            (scores - level[:, None]).exp().clamp(min=FLOOR)[tokens]
        )  # [2, tokens, tags]: of each token alone, then ...
        table = self.table()
        tables = torch.stack([table, table.T])
        scales = scores.new_empty(*sums.shape[:2], 1)
        before = sums[:, : order.steps[0][1]]
        before[0, :, 0] *= self.enter[0].exp()
        before[0, :, 1::2] *= self.enter[1::2].exp()
        for start, stop in order.steps:  # ... of all paths up to it (or on from it), beside the largest of its tags
            here = sums[:, start:stop]
            if start:
                here *= torch.bmm(before[:, : stop - start], tables)
            torch.amax(here, dim=2, keepdim=True, out=scales[:, start:stop])
            before = here.div_(scales[:, start:stop]).clamp_(min=FLOOR)

        forward, backward = sums[0][places[0]], sums[1][places[1]]  # [tokens, tags] each
        log_partition = level.sum() + scales[0].log().sum() + forward[ends].sum(1).log().sum()

        is_last = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
        is_last[ends] = True
        ahead = backward.roll(-1, 0) * ~is_last[:, None]  # of the next token's tag; nothing comes after the last
        onward = torch.where(is_last[:, None], 1.0, ahead @ table.T)
        through = (forward * onward).sum(1, keepdim=True)
        marginals = forward * onward / through
        stays = torch.zeros_like(marginals)
        stays[:, 1:] = forward[:, 1:] * self.stay[1:].exp() * ahead[:, 2::2].repeat_interleave(2, dim=1) / through
        entered = marginals.sum(0)
        entered[2::2] = 0.0
        left = ((marginals * ~is_last[:, None]) - stays).sum(0)
        return log_partition, marginals, torch.stack([left, entered, stays.sum(0)])

    def table(self) -> torch.Tensor:
        """[tags, tags] exp(score) of each move from a tag (row) to a tag (column), 0 where it cannot be."""
        table = (self.leave[:, None] + self.enter).exp()
        table[:, 2::2] = 0.0
        inside = torch.arange(1, len(table), device=table.device)
        table[inside, (inside + 1) // 2 * 2] = self.stay[1:].exp()
        return table


class Loss(torch.autograd.Function):
    """Crf.loss, and its gradient at once: d log Z / d score is what is expected of it, and of the given path what it
    has."""

    @staticmethod
    def forward(ctx, scores, leave, enter, stay, crf, tags, counts):
        log_partition, of_scores, of_moves = crf.expectations(scores, counts)
        taken = moves_of(tags, counts, len(leave))
        gold = scores.gather(1, tags[:, None]).sum() + torch.dot(taken.flatten(), crf.stacked().flatten())
        of_scores = of_scores.to(scores.dtype).scatter_(1, tags[:, None], -1.0, reduce="add")
        ctx.save_for_backward(of_scores, (of_moves - taken).to(scores.dtype))
        return (log_partition - gold).to(scores.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        of_scores, of_moves = ctx.saved_tensors
        return of_scores * gradient, *(of_moves * gradient), None, None, None


def moves_of(tags: torch.Tensor, counts: torch.Tensor, num_tags: int) -> torch.Tensor:
    """[3, tags] float32: how often the given path leaves, enters and stays in each tag; arguments as of Crf.loss."""
    weights = torch.ones(2, len(tags))
    weights[1, counts.cumsum(0) - counts] = 0.0  # nothing comes before the first tag
    # counted with weights and not by choosing, for whose size the host would wait for a GPU
    which = move_indices(num_tags, tags.device)[:, tags]
    which[1] += tags.roll(1)
    taken = torch.zeros(3 * num_tags + 1, device=tags.device)
    taken.index_add_(0, which.flatten(), to_device(weights.flatten().numpy(), tags.device))
    return taken[:-1].view(3, num_tags)


@cache
def move_indices(num_tags: int, device: torch.device) -> torch.Tensor:
    """[2, tags] among leave, enter and stay, joined end to end: how this tag is entered, after the end where it is not;
    and, but for the tag before, how that one is left behind."""
    tag = torch.arange(num_tags)
    continues = (tag > 0) & (tag % 2 == 0)
    return torch.stack([(tag + num_tags).masked_fill(continues, 3 * num_tags), 2 * num_tags * continues]).to(device)
