"""Sums by halving, compared with the loop over positions and with a textbook's CRF: promises of halving.py."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pii.heads import halving
from pii.heads.crf import Crf
from tests.heads.test_crf import check, crf_of, gradients, legal_tags, loss_by_enumeration, loss_by_textbook


@pytest.fixture
def by_halving(monkeypatch) -> None:
    """On a CPU too, where the loop is faster."""
    monkeypatch.setattr(Crf, "expectations", lambda crf, *of: halving.expectations(*of, crf.stacked().detach()))


def scores_of(tokens: int, tags: int, spread: float) -> torch.Tensor:
    return (spread * torch.randn(tokens, tags, generator=torch.Generator().manual_seed(tokens))).requires_grad_()


@pytest.mark.parametrize("counts", [[1], [2], [3], [1, 4, 2, 1, 3]], ids=str)
@pytest.mark.parametrize("num_tags", [3, 5])
def test_loss_and_gradients_are_those_of_all_paths_one_by_one(by_halving, counts, num_tags):
    scores = scores_of(sum(counts), num_tags, spread=2.0)
    tags = legal_tags(counts, num_tags, torch.Generator().manual_seed(1))
    check(loss_by_enumeration, crf_of(num_tags), scores, tags, counts, atol=1e-5)


@pytest.mark.parametrize("spread", [0.5, 8.0])
def test_long_windows_and_many_tags_are_those_of_the_textbook(by_halving, spread):
    counts, num_tags = [96, 1, 40, 64], 21
    scores = scores_of(sum(counts), num_tags, spread)
    tags = legal_tags(counts, num_tags, torch.Generator().manual_seed(2))
    check(loss_by_textbook, crf_of(num_tags, spread=2.0), scores, tags, counts, atol=1e-3)


@pytest.mark.parametrize("counts", [[1] * 5, [1, 2, 3], [64, 65, 63], [96] * 3, [5, 96, 17, 33], [200, 3]], ids=str)
@pytest.mark.parametrize("spread", [0.1, 1.0, 16.0])
def test_expectations_are_those_of_the_loop(counts, spread):
    crf = crf_of(13, spread=min(spread, 2.0))
    scores = scores_of(sum(counts), 13, spread).detach()
    found = halving.expectations(scores, torch.tensor(counts), crf.stacked().detach())
    with torch.no_grad():
        expected = crf.expectations_by_position(scores, torch.tensor(counts))
    assert all(part.dtype == torch.float64 for part in found)
    for own, loops in zip(found, expected, strict=True):
        torch.testing.assert_close(own.float(), loops, rtol=1e-5, atol=1e-4)


def test_gradients_of_a_real_heads_size_are_those_of_the_loop(monkeypatch):
    counts = [96, 20, 71, 6, 48, 33]
    crf, scores = crf_of(113), scores_of(sum(counts), 113, spread=3.0)
    tags, lengths = legal_tags(counts, 113, torch.Generator().manual_seed(3)), torch.tensor(counts)
    loops = gradients(crf.loss(scores, tags, lengths), crf, scores)
    monkeypatch.setattr(Crf, "expectations", lambda crf, *of: halving.expectations(*of, crf.stacked().detach()))
    for own, theirs in zip(gradients(crf.loss(scores, tags, lengths), crf, scores), loops, strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("length", [6, 96, 512])
@pytest.mark.parametrize("size", [100.0, 1e4, 1e30])
def test_scores_however_large_give_finite_gradients_that_point_to_the_gold(by_halving, length, size):
    """As an absurd learning rate makes them: a span goes on that never began, or each token goes on with another."""
    lengths = torch.tensor([length])
    for wanted in (torch.full((length,), 4), 2 + 2 * (torch.arange(length) % 2)):
        scores = torch.zeros(length, 5).scatter_(1, wanted[:, None], size).requires_grad_()
        crf = crf_of(5)
        tags = torch.zeros(length, dtype=torch.long)
        loss = crf.loss(scores, tags, lengths)
        found = gradients(loss, crf, scores)
        assert loss > size and all(gradient.isfinite().all() for gradient in found)
        assert (found[0][:, 0] < 0).all()


def test_windows_do_not_touch_each_other(by_halving):
    counts = [5, 2, 70]
    crf, scores = crf_of(5), scores_of(77, 5, spread=1.0)
    tags = legal_tags(counts, 5, torch.Generator().manual_seed(4))
    parts = zip(scores.split(counts), tags.split(counts), strict=True)
    alone = sum(crf.loss(own, gold, torch.tensor([len(gold)])) for own, gold in parts)
    torch.testing.assert_close(crf.loss(scores, tags, torch.tensor(counts)), alone)


def test_a_score_that_is_no_number_shows_in_the_loss(by_halving):
    scores = torch.zeros(4, 5)
    scores[1, 3] = torch.nan
    assert crf_of(5).loss(scores, torch.zeros(4, dtype=torch.long), torch.tensor([3, 1])).isnan()


class Computing(TorchDispatchMode):
    """Counts the operations that compute or copy; those that only look at a tensor in another way launch nothing."""

    count = 0

    def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
        self.count += not (operation.is_view or any(name in str(operation) for name in ("empty", "squeeze_")))
        return operation(*arguments, **(keywords or {}))


def test_a_window_of_96_takes_less_than_60_operations_and_a_longer_one_a_few_more(monkeypatch):
    """The loop takes five a position. What the host alone works out is not counted: a GPU does not see it."""
    counted = {}
    for longest in (96, 128, 256, 512):
        counts = torch.tensor([longest, 3])
        scores, transitions = scores_of(longest + 3, 21, 1.0).detach(), crf_of(21).stacked().detach()
        leaves = halving.Leaves.of(counts, scores.device)
        halving.entries_of(21, scores.device)
        monkeypatch.setattr(halving.Leaves, "of", lambda *_, leaves=leaves: leaves)
        with Computing() as computing:
            halving.expectations(scores, counts, transitions)
        monkeypatch.undo()
        counted[longest] = computing.count
    assert counted[96] == counted[128] < 60 and counted[512] - counted[128] < 12


def test_what_would_take_too_much_memory_is_left_to_the_loop():
    assert halving.fits(torch.tensor([96] * 36), 113)
    assert not halving.fits(torch.tensor([2000] * 36), 113)
    assert not halving.fits(torch.tensor([1] * 35 + [2000]), 113)
