"""Span scores as the share of such spans that are right (Platt 1999)."""

from collections.abc import Sequence

import numpy as np

FEWEST_SPANS = 50  # that a calibration is fitted on
RIDGE = 1.0


def fit_calibration(scores: np.ndarray, correct: np.ndarray) -> list[float] | None:
    """Platt's two numbers (1999): the share of spans with a score s that are right is sigmoid(a * logit(s) + b).

    `scores` [spans] in [0, 1], `correct` [spans] bool. Fitted on targets smoothed as Platt does; a is not below 0, so
    that the order of the scores stays. None where there are too few spans.
    """
    if len(scores) < FEWEST_SPANS:
        return None
    right, wrong = correct.sum(), (~correct).sum()
    target = np.where(correct, (right + 1) / (right + 2), 1 / (wrong + 2))
    inputs = np.stack([logit(scores), np.ones(len(scores))], axis=1)
    weights = fit_logistic(inputs, target, np.array([1.0, 0.0]))
    if weights[0] < 0:
        weights = np.append(0.0, fit_logistic(inputs[:, 1:], target, np.zeros(1)))
    return weights.tolist()


def fit_logistic(inputs: np.ndarray, target: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Logistic regression by Newton's method: [n, k] inputs and [n] targets in [0, 1] → [k] weights."""
    weights = start.copy()
    for _ in range(100):
        found = sigmoid(inputs @ weights)
        # a little ridge towards the start, which is the score as it is, keeps the fit finite where all spans are right
        gradient = inputs.T @ (found - target) + RIDGE * (weights - start)
        hessian = (inputs * (found * (1 - found))[:, None]).T @ inputs + RIDGE * np.eye(len(start))
        change = np.linalg.solve(hessian, gradient)
        weights -= np.clip(change, -1, 1)
        if np.abs(change).max() < 1e-9:
            break
    return weights


def calibrated(scores: np.ndarray, calibration: Sequence[float] | None) -> np.ndarray:
    """Scores as the share of such spans that were right on validation; as they are without a calibration."""
    return scores if calibration is None else sigmoid(calibration[0] * logit(scores) + calibration[1])


def logit(scores: np.ndarray) -> np.ndarray:
    clipped = np.clip(scores, 1e-6, 1 - 1e-6)
    return np.log(clipped / (1 - clipped))


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(values, -500, 500)))
