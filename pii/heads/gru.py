"""A bidirectional GRU over windows of different lengths, for CPUs: nn.GRU's weights and numbers, in fewer operations.

nn.GRU computes the weights' gradients at each position and copies a gradient of the whole batch for each slice of it.
Here a position costs one product and a few operations on the numbers of both directions, there and back; all else is
computed for all positions at once.
"""

import torch
from torch import nn

from pii.decoder.features import to_device
from pii.heads.order import Order


class Gru(torch.autograd.Function):
    """hidden [tokens, size] → [tokens, 2 * units]; the weights are those of nn.GRU, those of both directions stacked:
    [2, 3 * units, size], [2, 3 * units, units], [2, 3 * units] twice."""

    @staticmethod
    def forward(ctx, hidden, order, from_input, from_state, input_bias, state_bias):
        read = hidden[order.tokens]  # [2, tokens, size]
        moved = torch.baddbmm(input_bias[:, None], read, from_input.mT)
        units = from_state.shape[2]
        gates, proposed = moved[..., : 2 * units], moved[..., 2 * units :]
        is_learning = any(ctx.needs_input_grad)
        recurrent = torch.empty_like(proposed) if is_learning else None  # what the state adds there, before the reset
        states = torch.empty_like(proposed)
        state, bias = states.new_zeros(2, order.steps[0][1], units), state_bias[:, None]
        for start, stop in order.steps:
            state = state[:, : stop - start]
            said = torch.baddbmm(bias, state, from_state.mT)
            if recurrent is not None:
                recurrent[:, start:stop] = said[..., 2 * units :]
            gate = gates[:, start:stop].add_(said[..., : 2 * units]).sigmoid_()
            new = proposed[:, start:stop].addcmul_(gate[..., :units], said[..., 2 * units :]).tanh_()
            state = torch.lerp(new, state, gate[..., units:], out=states[:, start:stop])
        ctx.order = order
        ctx.save_for_backward(read, from_input, from_state, moved, recurrent, states)
        return torch.cat([states[0][order.places[0]], states[1][order.places[1]]], dim=1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        read, from_input, from_state, moved, recurrent, states = ctx.saved_tensors
        order, units = ctx.order, from_state.shape[2]
        reset, update, new = moved.split(units, dim=2)
        earlier = torch.zeros_like(states)
        earlier[:, order.steps[0][1] :] = states[:, order.earlier]

        # how the three sums of a position, and what the state adds to the last one, move with the state's gradient
        slopes = states.new_empty(*states.shape[:2], 4, units)
        proposal, reset_slope, update_slope, said = slopes.unbind(2)
        torch.mul(1 - update, 1 - new * new, out=proposal)
        torch.mul(proposal, reset, out=said)
        torch.mul(said * recurrent, 1 - reset, out=reset_slope)
        torch.mul((earlier - new) * update, 1 - update, out=update_slope)

        states_gradient = torch.stack([half[order.tokens[i]] for i, half in enumerate(gradient.split(units, dim=1))])
        onward = None  # of the states of the position, from those after it
        for start, stop in reversed(order.steps):
            own = states_gradient[:, start:stop]
            if onward is not None:
                own[:, : onward.shape[1]] += onward
            slope = slopes[:, start:stop].mul_(own[:, :, None]).flatten(2)
            onward = torch.baddbmm(own * update[:, start:stop], slope[..., units:], from_state)

        of_input, of_state = slopes.flatten(2)[..., : 3 * units], slopes.flatten(2)[..., units:]  # [2, tokens, 3 units]
        in_order = [*range(units, 3 * units), *range(units)]
        of_read = torch.bmm(of_input, from_input[:, [*range(2 * units, 3 * units), *range(2 * units)]])
        of_hidden = of_read[0][order.places[0]] + of_read[1][order.places[1]]
        return (
            of_hidden,
            None,
            torch.bmm(of_input.mT, read)[:, in_order],
            torch.bmm(of_state.mT, earlier),
            of_input.sum(1)[:, in_order],
            of_state.sum(1),
        )


def by_position(gru: nn.GRU, hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """[tokens, size] of windows with these lengths, one after the other → the states there and back [tokens, 2 *
    units]; `gru` has one layer, two directions and biases. Lengths as of Order."""
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    weights = [torch.stack([getattr(gru, name), getattr(gru, f"{name}_reverse")]) for name in names]
    return Gru.apply(hidden, Order(lengths), *weights)


def by_library(gru: nn.GRU, hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """The same by nn.GRU: cuDNN on a GPU, which is given all positions in one call."""
    order = Order(lengths)
    sizes = torch.tensor([stop - start for start, stop in order.steps])
    tokens, places = (to_device(part[0].numpy(), hidden.device) for part in (order.tokens, order.places))
    packed = nn.utils.rnn.PackedSequence(hidden.index_select(0, tokens), sizes)
    return gru(packed)[0].data.index_select(0, places)
