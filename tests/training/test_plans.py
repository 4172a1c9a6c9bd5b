"""What is to be trained: learning rates along the steps of a plan."""

from itertools import pairwise

import pytest

from pii.training.config import TrainingConfig
from pii.training.plans import Plan, plan_heads, strong_size


def test_a_strong_heads_learning_rate_rises_and_falls_and_the_documented_ones_stays():
    plan = Plan("strong", "strong", [1], 3.0, epochs=2, steps=40, dropout=0.0, scheduled=True)
    rates = [plan.learning_rate_at(step) for step in range(1, 41)]
    assert rates[:4] == [0.75, 1.5, 2.25, 3.0] and rates[-1] == pytest.approx(0, abs=1e-12)
    assert rates[21] == pytest.approx(1.5)  # half way down, half a cosine is at its half
    assert all(later < earlier for earlier, later in pairwise(rates[3:]))
    assert {plan._replace(scheduled=False).learning_rate_at(step) for step in (1, 20, 40)} == {3.0}


def test_a_strong_head_is_larger_where_there_is_much_to_learn_unless_told():
    assert strong_size(TrainingConfig(), 9_999) == (192, 0.3)
    assert strong_size(TrainingConfig(), 10_000) == (384, 0.15)
    assert strong_size(TrainingConfig(strong_units=8), 10_000) == (8, 0.15)
    assert strong_size(TrainingConfig(strong_dropout=0), 10_000) == (384, 0)
    plans = plan_heads(TrainingConfig(heads=("documented", "strong")), 3, [1], 10_000)
    assert [(plan.units, plan.dropout) for plan in plans] == [(None, 0.1), (384, 0.15)]
