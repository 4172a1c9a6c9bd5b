"""curves.svg: what a training did, step by step."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pii.pages import charts
from pii.training.trainer import HeadTrainer

POINTS = 400  # of a curve at most; more steps than that are averaged

Curve = tuple[Sequence[float], Sequence[float]]  # x [n], y [n]


def write_curves(path: Path, trainers: Sequence[HeadTrainer]) -> None:
    """An SVG file: loss, gradient norm and validation F1 of each head over its steps."""
    logs = {trainer.plan.name: np.array(trainer.log) for trainer in trainers}
    checks = {trainer.plan.name: np.array(trainer.checks).T for trainer in trainers if trainer.checks}
    curves = {
        "training loss": {name: averaged(log[:, 0]) for name, log in logs.items()},
        "gradient norm before clipping": {name: averaged(log[:, 1]) for name, log in logs.items()},
        "strict span F1 on some validation rows": {name: (check[0], check[1]) for name, check in checks.items()},
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
