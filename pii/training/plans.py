"""What is to be trained: one plan for each head."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pii.common import UserError
from pii.heads.heads import DOCUMENTED, STRONG, STRONG_DEPTHS, STRONG_UNITS
from pii.training.config import AUTO, TrainingConfig

STRONG_STEPS, STRONG_EPOCHS = 2500, 40  # a strong head makes so many steps, but in no more epochs than that
# where there are many windows a strong head of the usual size does not even learn what it is shown (docs/accuracy.md)
MANY_WINDOWS = 10_000
FEW_SIZE, MANY_SIZE = (STRONG_UNITS, 0.3), (2 * STRONG_UNITS, 0.15)  # units and dropout
WARM_UP = 0.1  # share of a strong head's steps in which its learning rate rises


class Plan(NamedTuple):
    """How one head is to be trained."""

    name: str
    kind: str  # one of heads.KINDS
    layers: list[int]  # of the backbone, that it reads
    learning_rate: float  # the highest
    epochs: int
    steps: int  # optimizer steps in all epochs
    dropout: float
    scheduled: bool  # does the learning rate rise and fall?
    units: int | None = None  # of a strong head

    def learning_rate_at(self, step: int) -> float:
        """Of step 1, 2, ...: constant, or a linear warm-up and half a cosine down to 0 (Loshchilov & Hutter 2017)."""
        if not self.scheduled:
            return self.learning_rate
        warm = max(1, round(WARM_UP * self.steps))
        if step <= warm:
            return self.learning_rate * step / warm
        return self.learning_rate * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm))) / 2


def strong_layers(given: Sequence[int | str] | None, depth: int) -> list[int]:
    """The layers that the strong head reads, as TrainingConfig.layers has them; none where it is to choose. Raises
    UserError where a backbone of this depth has not all of them."""
    if given is None:
        return default_layers(depth)
    if tuple(given) == AUTO:
        return []
    try:
        layers = sorted({int(layer) for layer in given})
    except ValueError:
        raise UserError("--layers takes numbers, as in --layers 12 18 24, or auto") from None
    if not 0 <= layers[0] <= layers[-1] <= depth:
        raise UserError(
            f"--layers {' '.join(map(str, layers))}: the backbone has layers 0 to {depth}, choose among them"
        )
    return layers


def strong_size(config: TrainingConfig, windows: int) -> tuple[int, float]:
    """Units and dropout of a strong head that learns from so many windows."""
    units, dropout = FEW_SIZE if windows < MANY_WINDOWS else MANY_SIZE
    return config.strong_units or units, dropout if config.strong_dropout is None else config.strong_dropout


def plan_heads(config: TrainingConfig, depth: int, layers: list[int], windows: int) -> list[Plan]:
    """What to train: one head of each kind for each of its learning rates. `layers` are the strong head's."""
    steps = math.ceil(windows / config.windows_a_step)
    plans = []
    for kind in config.heads:
        if kind == DOCUMENTED:
            rates, epochs, dropout, read = config.learning_rates, config.epochs, config.dropout, [depth]
            units = None
        else:
            rates, read = config.strong_learning_rates, layers
            units, dropout = strong_size(config, windows)
            epochs = config.strong_epochs or min(STRONG_EPOCHS, math.ceil(STRONG_STEPS / steps))
        for rate in rates:
            name = kind if len(rates) == 1 else f"{kind}@{np.format_float_scientific(rate, trim='-', exp_digits=1)}"
            scheduled = kind == STRONG
            plans.append(Plan(name, kind, read, rate, epochs, epochs * steps, dropout, scheduled, units))
    return plans


def default_layers(depth: int) -> list[int]:
    """What the strong head reads unless told: layers at STRONG_DEPTHS of a backbone with `depth` layers."""
    return layers_at(depth, STRONG_DEPTHS)


def layers_at(depth: int, shares: Sequence[float]) -> list[int]:
    """The layers at these shares of the depth, the embeddings left out."""
    return sorted({max(1, round(share * depth)) for share in shares})
