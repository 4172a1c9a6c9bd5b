"""curves.svg: what a training did, step by step."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pii.pages import charts

POINTS = 400  # of a curve at most; more steps than that are averaged

Curve = tuple[Sequence[float], Sequence[float]]  # x [n], y [n]


def write_curves(
    path: Path, logs: Mapping[str, Sequence[Sequence[float]]], checks: Mapping[str, Sequence[Sequence[float]]]
) -> None:
    """An SVG file: loss, gradient norm and validation F1 of each head over its steps.

    `logs` are head → [steps, 2 or more] (loss, gradient norm, ...), `checks` head → [checks, 2] (step, strict F1)."""
    columns = {name: np.array(log) for name, log in logs.items()}
    points = {name: np.array(check).T for name, check in checks.items() if len(check)}
    curves = {
        "training loss": {name: averaged(log[:, 0]) for name, log in columns.items()},
        "gradient norm before clipping": {name: averaged(log[:, 1]) for name, log in columns.items()},
        "strict span F1 on some validation rows": {name: (check[0], check[1]) for name, check in points.items()},
    }
    pictures = {
        title: charts.line_chart(of_heads, "step", "", dots=title.startswith("strict"))
        for title, of_heads in curves.items()
        if of_heads
    }
    charts.write_stacked(path, pictures)


def averaged(values: np.ndarray) -> Curve:
    """Steps 1, 2, ... and their values [steps], or at most POINTS means of as many neighbours each."""
    parts = np.array_split(np.arange(len(values)), min(POINTS, len(values)))
    return [float(part.mean()) + 1 for part in parts], [float(values[part].mean()) for part in parts]
