"""The GRU's ways, compared with torch's own on one window at a time: promises of gru.py."""

import pytest
import torch
from torch import nn

from pii.heads.gru import Gru, by_library, by_position
from pii.heads.order import Order

SIZE, UNITS = 5, 3
PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def gru_of(dtype: torch.dtype = torch.float32) -> nn.GRU:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.GRU(SIZE, UNITS, bidirectional=True, batch_first=True).to(dtype)


def hidden_of(lengths: list[int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(lengths))
    return torch.randn(sum(lengths), SIZE, generator=generator).to(dtype).requires_grad_()


def one_by_one(gru: nn.GRU, hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    return torch.cat([gru(window[None])[0][0] for window in hidden.split(lengths.tolist())])


@pytest.mark.parametrize("way", [by_position, by_library])
@pytest.mark.parametrize("lengths", [[1], [6], [1, 1, 1], [2, 2], [3, 7, 1, 7, 2], [9, 8, 1, 30]], ids=str)
def test_states_and_gradients_are_those_of_each_window_alone(way, lengths):
    gru, hidden, counts = gru_of(), hidden_of(lengths), torch.tensor(lengths)
    wanted = torch.randn(len(hidden), 2 * UNITS, generator=torch.Generator().manual_seed(9))
    found, expected = way(gru, hidden, counts), one_by_one(gru, hidden, counts)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    inputs = [hidden, *gru.parameters()]
    gradients = [torch.autograd.grad((states * wanted).sum(), inputs) for states in (found, expected)]
    for own, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-5)


def test_the_gradients_are_those_of_small_differences():
    lengths = torch.tensor([3, 1, 4])
    order, hidden = Order(lengths), hidden_of(lengths.tolist(), torch.float64)
    gru = gru_of(torch.float64)
    parts = [[gru.get_parameter(f"{name}_l0{way}") for way in ("", "_reverse")] for name in PARTS]
    weights = [torch.stack(both).detach().requires_grad_() for both in parts]
    assert torch.autograd.gradcheck(lambda hidden, *weights: Gru.apply(hidden, order, *weights), [hidden, *weights])


def test_without_gradients_the_states_have_the_same_bits():
    gru, lengths = gru_of(), torch.tensor([4, 2, 6])
    hidden = hidden_of(lengths.tolist())
    with torch.no_grad():
        assert torch.equal(by_position(gru, hidden, lengths), by_position(gru, hidden, lengths).detach())
        alone = by_position(gru, hidden, lengths)
    assert torch.equal(alone, by_position(gru, hidden, lengths))


def test_a_gradient_can_be_taken_twice_and_is_the_same():
    gru, lengths = gru_of(), torch.tensor([4, 2, 6])
    states = by_position(gru, hidden_of(lengths.tolist()), lengths).square().sum()
    once, again = (torch.autograd.grad(states, [*gru.parameters()], retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


def test_a_number_that_is_none_reaches_its_own_window_alone():
    gru, lengths = gru_of(), torch.tensor([4, 2, 6])
    hidden = hidden_of(lengths.tolist()).detach()
    hidden[5] = torch.nan
    found = by_position(gru, hidden, lengths)
    assert found.isnan().any(1).tolist() == [False] * 4 + [True] * 2 + [False] * 6
