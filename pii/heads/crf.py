"""The loss of begin-aware tags: a linear-chain conditional random field (Lafferty, McCallum & Pereira 2001).

The scores of tags and of the moves between them are learnt together, so that nothing is counted twice in decoding: a
token's scores already know how frequent each tag is.
"""

import numpy as np
import torch
from torch import nn

from pii.heads.viterbi import Transitions

FLOOR = 1e-25  # of a probability beside the largest one of its token: keeps float32 from running out


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

        d log Z / d score is the score's expected count: the gradient is that of the mean score of all paths, whose
        probabilities are computed without gradients.
        """
        log_partition, marginals, stays, leaves = self.expectations(scores.detach(), counts)
        enters = marginals[:, 1::2].sum(0)
        mean_score = (marginals * scores).sum() + marginals[:, 0].sum() * self.enter[0]
        mean_score = mean_score + (enters * self.enter[1::2]).sum()
        mean_score = mean_score + (leaves * self.leave).sum() + (stays[1:] * self.stay[1:]).sum()
        return mean_score + (log_partition - mean_score).detach() - self.path_score(scores, tags, counts)

    def path_score(self, scores: torch.Tensor, tags: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """The score of the given tags, summed over the sequences; arguments as of `loss`."""
        is_first = torch.zeros(len(tags), dtype=torch.bool)
        is_first[counts.cumsum(0) - counts] = True
        is_first, before = is_first.to(tags.device), tags.roll(1)
        continues = (tags > 0) & (tags % 2 == 0)
        # products with masks and no choice by them, for whose size the host would wait for a GPU
        moves = self.enter[tags] * ~continues
        moves = moves + self.leave[before] * (~continues & ~is_first) + self.stay[before] * (continues & ~is_first)
        return scores.gather(1, tags[:, None]).sum() + moves.sum()

    @torch.no_grad()
    def expectations(
        self, scores: torch.Tensor, counts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """log Z, summed over the sequences; p(tag) of each token [tokens, tags]; and for each tag how often it is
        expected to be followed by its span's continuation, and by another tag: [tags] each.

        Forward and backward sums (Rabiner 1989) go through the sequences in one loop, the backward ones from the ends:
        their step is the same with the table of moves transposed.
        """
        ends = counts.cumsum(0)
        place = torch.arange(len(scores)) - torch.repeat_interleave(ends - counts, counts)
        row = torch.repeat_interleave(torch.arange(len(counts)), counts)
        mirrored = (counts[row] - 1 - place).to(scores.device)
        row, place, last = row.to(scores.device), place.to(scores.device), (counts - 1).to(scores.device)

        level = scores.amax(1)
        relative = (scores - level[:, None]).exp().clamp(min=FLOOR)
        emitted = scores.new_ones((int(counts.max()), 2, len(counts), scores.shape[1]))  # beyond the ends: 1
        emitted[place, 0, row], emitted[mirrored, 1, row] = relative, relative
        table = self.table()
        tables = torch.stack([table, table.T])

        sums = emitted.clone()  # of all paths up to (or on from) a tag, beside the largest of its token
        sums[0, 0, :, 0] *= self.enter[0].exp()
        sums[0, 0, :, 1::2] *= self.enter[1::2].exp()
        scales = scores.new_ones(emitted.shape[:3])
        for t in range(len(emitted)):
            if t:
                torch.mul(torch.bmm(sums[t - 1], tables), emitted[t], out=sums[t])
            torch.amax(sums[t], dim=2, out=scales[t])
            sums[t].div_(scales[t, :, :, None]).clamp_(min=FLOOR)

        forward, backward = sums[place, 0, row], sums[mirrored, 1, row]  # [tokens, tags] each
        ended = sums[last, 0, torch.arange(len(last), device=last.device)].sum(1)
        log_partition = level.sum() + scales[place, 0, row].log().sum() + ended.log().sum()

        is_last = place == last[row]
        ahead = backward.roll(-1, 0) * ~is_last[:, None]  # of the next token's tag; nothing comes after the last
        onward = torch.where(is_last[:, None], 1.0, ahead @ table.T)
        through = (forward * onward).sum(1, keepdim=True)
        marginals = forward * onward / through
        stays = torch.zeros_like(marginals)
        stays[:, 1:] = forward[:, 1:] * self.stay[1:].exp() * ahead[:, 2::2].repeat_interleave(2, dim=1) / through
        return log_partition, marginals, stays.sum(0), ((marginals * ~is_last[:, None]) - stays).sum(0)

    def table(self) -> torch.Tensor:
        """[tags, tags] exp(score) of each move from a tag (row) to a tag (column), 0 where it cannot be."""
        table = (self.leave[:, None] + self.enter).exp()
        table[:, 2::2] = 0.0
        inside = torch.arange(1, len(table), device=table.device)
        table[inside, (inside + 1) // 2 * 2] = self.stay[1:].exp()
        return table
