"""The loss of begin-aware tags, compared with all paths one by one and with a textbook's CRF: promises of crf.py."""

import itertools

import pytest
import torch

from pii.heads.crf import Crf
from pii.heads.viterbi import viterbi


def crf_of(num_tags: int, seed: int = 0, spread: float = 1.0) -> Crf:
    """Random transitions."""
    crf = Crf(num_tags)
    generator = torch.Generator().manual_seed(seed)
    for part in crf.parameters():
        part.data += spread * torch.randn(num_tags, generator=generator)
    return crf


def dense_moves(crf: Crf) -> torch.Tensor:
    """[tags, tags] float64: the score of each move, -inf where it cannot be; gradients reach the transitions."""
    rows = []
    for before in range(len(crf.leave)):
        row = []
        for after in range(len(crf.leave)):
            if after == 0 or after % 2 == 1:
                row.append(crf.leave[before] + crf.enter[after])
            elif before in (after - 1, after):
                row.append(crf.stay[before])
            else:
                row.append(torch.tensor(-torch.inf))
        rows.append(torch.stack(row))
    return torch.stack(rows).double()


def first_moves(crf: Crf) -> torch.Tensor:
    """[tags] float64: a sequence may start within a span, which costs nothing."""
    zero = torch.zeros(())
    return torch.stack([zero if t and t % 2 == 0 else crf.enter[t] for t in range(len(crf.enter))]).double()


def score_of(path, scores: torch.Tensor, start: torch.Tensor, moves: torch.Tensor) -> torch.Tensor:
    steps = [moves[before, after] for before, after in itertools.pairwise(path)]
    return sum([scores[place, tag] for place, tag in enumerate(path)]) + start[path[0]] + sum(steps)


def loss_by_enumeration(crf: Crf, scores: torch.Tensor, tags: torch.Tensor, counts: list[int]) -> torch.Tensor:
    start, moves, total = first_moves(crf), dense_moves(crf), 0.0
    for own, gold in zip(scores.double().split(counts), tags.split(counts), strict=True):
        paths = itertools.product(range(scores.shape[1]), repeat=len(own))
        legal = [p for p in paths if all(moves[a, b] > -torch.inf for a, b in itertools.pairwise(p))]
        every = torch.stack([score_of(path, own, start, moves) for path in legal])
        total = total + every.logsumexp(0) - score_of(gold.tolist(), own, start, moves)
    return total


def loss_by_textbook(crf: Crf, scores: torch.Tensor, tags: torch.Tensor, counts: list[int]) -> torch.Tensor:
    """The forward algorithm with a table of all moves, in logarithms, and autograd through it."""
    start, moves, total = first_moves(crf), dense_moves(crf), 0.0
    for own, gold in zip(scores.double().split(counts), tags.split(counts), strict=True):
        reached = start + own[0]
        for token in own[1:]:
            reached = (reached[:, None] + moves).logsumexp(0) + token
        total = total + reached.logsumexp(0) - score_of(gold.tolist(), own, start, moves)
    return total


def gradients(loss: torch.Tensor, crf: Crf, scores: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, [scores, *crf.parameters()], materialize_grads=True))


def check(oracle, crf: Crf, scores: torch.Tensor, tags: torch.Tensor, counts: list[int], atol: float) -> None:
    expected = oracle(crf, scores, tags, counts)
    found = crf.loss(scores, tags, torch.tensor(counts))
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=atol)
    for own, theirs in zip(gradients(found, crf, scores), gradients(expected, crf, scores), strict=True):
        torch.testing.assert_close(own, theirs.float(), rtol=1e-4, atol=atol)


def legal_tags(counts: list[int], num_tags: int, generator: torch.Generator) -> torch.Tensor:
    """Random paths; some start within a span."""
    tags = []
    for count in counts:
        tag = int(torch.randint(num_tags, (1,), generator=generator))
        for _ in range(count):
            tags.append(tag)
            stays = tag > 0 and torch.rand(1, generator=generator) < 0.6
            entered = int(torch.randint((num_tags + 1) // 2, (1,), generator=generator))
            tag = tag + tag % 2 if stays else max(0, 2 * entered - 1)
    return torch.tensor(tags)


@pytest.mark.parametrize("counts", [[1], [3], [1, 4, 2, 1, 3]], ids=str)
@pytest.mark.parametrize("num_tags", [3, 5])
def test_loss_and_gradients_are_those_of_all_paths_one_by_one(counts, num_tags):
    generator = torch.Generator().manual_seed(sum(counts))
    scores = (2 * torch.randn(sum(counts), num_tags, generator=generator)).requires_grad_()
    tags = legal_tags(counts, num_tags, generator)
    check(loss_by_enumeration, crf_of(num_tags), scores, tags, counts, atol=1e-5)


@pytest.mark.parametrize("spread", [0.5, 8.0])  # of the scores: unsure, and surer than training makes a head
def test_long_windows_and_many_tags_are_those_of_the_textbook(spread):
    counts, num_tags = [96, 1, 40], 21
    generator = torch.Generator().manual_seed(1)
    scores = (spread * torch.randn(sum(counts), num_tags, generator=generator)).requires_grad_()
    tags = legal_tags(counts, num_tags, generator)
    check(loss_by_textbook, crf_of(num_tags, spread=2.0), scores, tags, counts, atol=1e-3)


def test_windows_do_not_touch_each_other_and_their_order_changes_nothing():
    counts, generator = [5, 2, 7], torch.Generator().manual_seed(2)
    scores, tags = torch.randn(14, 5, generator=generator), legal_tags(counts, 5, generator)
    crf = crf_of(5)
    alone = [
        crf.loss(own, gold, torch.tensor([len(gold)]))
        for own, gold in zip(scores.split(counts), tags.split(counts), strict=True)
    ]
    torch.testing.assert_close(crf.loss(scores, tags, torch.tensor(counts)), sum(alone))


@pytest.mark.parametrize("size", [100.0, 1e4, 1e30])
def test_scores_however_large_give_finite_gradients_that_point_to_the_gold(size):
    """As an absurd learning rate makes them: the impossible is all that the scores want."""
    tags = torch.tensor([0, 1, 2, 2, 0, 3])
    scores = torch.zeros(6, 5)
    scores[:, 4] = size  # a span of the second label goes on and on, though none began
    scores.requires_grad_()
    crf = crf_of(5)
    loss = crf.loss(scores, tags, torch.tensor([6]))
    loss.backward()
    found = [scores.grad, *(part.grad for part in crf.parameters())]
    assert loss > size and all(gradient.isfinite().all() for gradient in found)
    assert (scores.grad.gather(1, tags[:, None]) < 0).all() and (scores.grad[:, 4] > 0.99).all()


def test_a_score_that_is_no_number_shows_in_the_loss():
    scores = torch.zeros(4, 5)
    scores[1, 3] = torch.nan
    assert crf_of(5).loss(scores, torch.zeros(4, dtype=torch.long), torch.tensor([3, 1])).isnan()


def test_moves_that_cannot_be_stay_so_in_training_and_the_learnt_ones_decode():
    """Two labels whose spans have two tokens each, from scores that say nothing of borders."""
    tags = torch.tensor([1, 2, 1, 2, 0, 3, 4, 0, 1, 2])
    labels = (tags + 1) // 2
    crf, bias = Crf(5), torch.nn.Parameter(torch.zeros(5))
    scores = torch.full((10, 5), -4.0)
    for column in range(5):
        scores[labels == (column + 1) // 2, column] = 0.0
    optimizer = torch.optim.AdamW([*crf.parameters(), bias], lr=0.1)
    for _ in range(200):
        crf.loss(scores + bias, tags, torch.tensor([10])).backward()
        optimizer.step()
        optimizer.zero_grad()
    learnt = crf.values()
    assert [part.dtype.name for part in learnt] == ["float32"] * 3
    assert [(part == -float("inf")).nonzero()[0].tolist() for part in learnt] == [[], [2, 4], [0]]
    found = viterbi((scores + bias).detach().numpy(), torch.tensor([10]).numpy(), learnt)
    assert found.tolist() == tags.tolist()
    assert learnt.stay[1] > learnt.leave[1] and learnt.stay[2] < learnt.leave[2]
