"""Calibration against a slow fit of the same loss: few spans give none, and the order of the scores stays."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pii.heads.calibration import calibrated, fit_calibration


def reference_calibration(scores: np.ndarray, correct: np.ndarray) -> list[float]:
    """The least of Platt's loss and half the squared distance to (1, 0), by a quasi-Newton method of torch. A slope
    below 0 is held at 0."""
    p = np.clip(scores, 1e-6, 1 - 1e-6)
    inputs = torch.from_numpy(np.log(p / (1 - p)))
    right = int(correct.sum())
    high, low = (right + 1) / (right + 2), 1 / (len(correct) - right + 2)
    targets = torch.tensor([high if hit else low for hit in correct], dtype=torch.float64)
    weights = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=500, tolerance_grad=1e-11, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logits = weights[0] * inputs + weights[1]
        total = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
        total = total + (weights - torch.tensor([1.0, 0.0])).square().sum() / 2
        total.backward()
        return total

    optimizer.step(loss)
    if weights[0] < 0:
        inputs = torch.zeros_like(inputs)
        optimizer.step(loss)
        return [0.0, weights[1].item()]
    return weights.tolist()


SPANS_TO_CALIBRATE = {
    "all right": (lambda rng: rng.uniform(0.3, 1, 80), lambda rng, scores: np.ones(80, bool)),
    "all wrong": (lambda rng: rng.uniform(0.3, 1, 80), lambda rng, scores: np.zeros(80, bool)),
    "too sure": (lambda rng: 1 - 10 ** -rng.uniform(0.3, 6, 400), lambda rng, scores: rng.random(400) < 0.7),
    "as sure as right": (lambda rng: rng.uniform(0, 1, 400), lambda rng, scores: rng.random(400) < scores),
    "one score": (lambda rng: np.full(60, 0.9), lambda rng, scores: rng.random(60) < 0.5),
    "certain": (lambda rng: np.ones(60), lambda rng, scores: rng.random(60) < 0.5),
    "just enough": (lambda rng: rng.uniform(0.3, 1, 50), lambda rng, scores: rng.random(50) < scores),
}


@pytest.mark.parametrize(("draw", "judge"), SPANS_TO_CALIBRATE.values(), ids=SPANS_TO_CALIBRATE)
def test_a_calibration_is_that_of_a_slow_reference(draw, judge):
    rng = np.random.default_rng(0)
    scores = draw(rng)
    correct = judge(rng, scores)
    found = fit_calibration(scores, correct)
    assert [type(number) for number in found] == [float, float]
    assert found == pytest.approx(reference_calibration(scores, correct), abs=1e-4)
    after = calibrated(scores, found)
    assert ((after > 0) & (after < 1)).all() and found[0] >= 0
    assert after.mean() == pytest.approx(correct.mean(), abs=0.05)
    order = np.argsort(scores)
    assert (np.diff(after[order]) >= 0).all()


def test_few_spans_give_no_calibration_and_scores_stay():
    scores = np.linspace(0, 1, 49)
    assert fit_calibration(scores, scores > 0.5) is None
    assert fit_calibration(scores[:0], scores[:0] > 0.5) is None
    assert calibrated(scores, None) is scores


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1), st.floats(0.01, 5), st.floats(-20, 20))
def test_calibrated_scores_are_shares_in_the_order_of_the_scores(scores, slope, shift):
    scores = np.sort(np.array(scores))
    found = calibrated(scores, [slope, shift])
    assert (np.diff(found) >= 0).all() and found.min() >= 0 and found.max() <= 1
    middle = np.clip(scores, 1e-6, 1 - 1e-6)
    expected = [1 / (1 + math.exp(-shift) * ((1 - p) / p) ** slope) for p in middle.tolist()]
    assert found.tolist() == pytest.approx(expected, rel=1e-6, abs=1e-12)
