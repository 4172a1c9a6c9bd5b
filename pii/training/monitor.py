"""What a training says while it goes on: numbers that are checked, validation F1 along the steps, TensorBoard."""

import importlib.util
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from pii.common import UserError
from pii.corpus.store import PreparedSplit
from pii.corpus.windows import make_windows
from pii.decoder.features import Reader
from pii.heads.heads import DOCUMENTED
from pii.heads.tagging import Tagger
from pii.scoring.judge import judge_own
from pii.training.steps import Step
from pii.training.trainer import HeadTrainer

CHECKS = 20  # of the validation F1, over all steps of a head
CHECK_ROWS = 128  # validation rows that are looked at


class Monitor:
    """Takes down losses and gradient norms, group by group, into the heads' logs; stops at numbers that are not.

    A group is read one group late, so that a GPU never waits for the host. A context manager, to be entered once
    the heads are at their first or resumed step. Without `validation` no F1 is taken down; without `board`, a folder,
    nothing goes to TensorBoard.
    """

    def __init__(
        self, trainers: Sequence[HeadTrainer], validation: "Validation | None" = None, board: Path | None = None
    ) -> None:
        self.trainers, self.validation, self.board_folder = trainers, validation, board
        self.board: TensorBoard | None = None
        self.late: tuple[Callable[[], torch.Tensor], Sequence[Step], Sequence[HeadTrainer]] | None = None

    def add(self, log: Callable[[], torch.Tensor], steps: Sequence[Step], active: Sequence[HeadTrainer]) -> None:
        """`log` gives [steps x heads + 1, 2]: loss and gradient norm; the last row says if the features were finite."""
        self._read()
        self.late = (log, steps, active)
        first, last = steps[0].number, steps[-1].number
        due = [trainer for trainer in active if is_due(first, last, trainer.plan.steps)]
        if due and self.validation:
            self.settle()
            self.validation.check(due)
        if self.board:
            self.board.write(self.trainers)

    def losses(self) -> str:
        """Each head's last loss that was read, for a progress bar."""
        return ", ".join(f"{t.plan.name} loss {t.log[-1][0]:.3f}" for t in self.trainers if t.log)

    def settle(self) -> None:
        """Read what is late. Raises UserError where a loss, a gradient or a weight is not finite."""
        self._read()
        check_weights(self.trainers)

    def _read(self) -> None:
        if self.late:
            read_log(*self.late)
            self.late = None

    def __enter__(self) -> "Monitor":
        if self.board_folder:
            self.board = TensorBoard(self.board_folder, max(len(trainer.log) for trainer in self.trainers))
        return self

    def __exit__(self, kind: type | None, *_) -> None:
        try:
            if kind is None:
                self.settle()
        finally:
            if self.board:
                self.board.write(self.trainers)
                self.board.close()


def read_log(log: Callable[[], torch.Tensor], steps: Sequence[Step], active: Sequence[HeadTrainer]) -> None:
    """Append a group of steps to the heads' logs. Raises UserError where a number is not finite: no state is saved."""
    *rows, (finite, _) = log().tolist()
    for i, (loss, norm) in enumerate(rows):
        step, trainer = steps[i // len(active)], active[i % len(active)]
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise UserError(not_finite(f"loss {loss}, gradient norm {norm}", step, trainer, bool(finite)), code=1)
        trainer.log.append([loss, norm, trainer.plan.learning_rate_at(step.number)])


def check_weights(trainers: Sequence[HeadTrainer]) -> None:
    for trainer in trainers:
        if not all(weight.isfinite().all() for weight in trainer.parameters):
            raise UserError(
                f"step {len(trainer.log)} left weights of {trainer.plan.name} that are not finite: try a lower "
                f"{rate_option(trainer)}",
                code=1,
            )


def not_finite(what: str, step: Step, trainer: HeadTrainer, finite: bool) -> str:
    if finite:
        cause = f"the features are finite, so try a lower {rate_option(trainer)}"
    else:
        cause = "the backbone's hidden states are not finite: its weights are damaged or overflow in its precision"
    rows = " ".join(map(str, step.rows))
    return f"step {step.number} of {trainer.plan.name}: {what}, on training rows {rows}; {cause}"


def rate_option(trainer: HeadTrainer) -> str:
    return "--learning-rate" if trainer.plan.kind == DOCUMENTED else "--strong-learning-rate"


def is_due(first: int, last: int, steps: int) -> bool:
    """Does one of CHECKS evenly spaced steps of all `steps` lie among the steps first to last?"""
    return last * CHECKS // steps > (first - 1) * CHECKS // steps


class Validation:
    """Some validation rows, read once, on which the heads are judged as they learn."""

    def __init__(self, reader: Reader, folder: Path, max_length: int, seed: int) -> None:
        self.reader, self.split = reader, PreparedSplit(folder, "validation")
        self.rows = np.sort(np.random.default_rng(seed).permutation(len(self.split))[:CHECK_ROWS])
        windows = make_windows(self.split.example_offsets, max_length)
        self.windows = windows[np.isin(windows.row, self.rows)]
        self.features = reader(self.split.tokens["token_ids"], self.windows) if len(self.rows) else None

    def check(self, trainers: Sequence[HeadTrainer]) -> None:
        """Append (step, strict F1) to these heads' checks; nothing where there are no validation rows."""
        if self.features is None:
            return
        counts = np.diff(self.split.example_offsets)[self.rows]
        for trainer in trainers:
            tagger = Tagger(trainer.head, self.reader, trainer.plan.layers)
            tagged = tagger.decode(tagger.scores(self.features, self.windows), counts)
            trainer.head.train()
            _, report = judge_own(self.split, tagged, self.rows)
            trainer.checks.append([len(trainer.log), report["strict"]["f1"]])


def check_tensorboard() -> None:
    """Raise UserError where TensorBoard is not installed."""
    if not importlib.util.find_spec("tensorboard"):
        raise UserError("--tensorboard needs its package: pip install tensorboard")


class TensorBoard:
    """Writes to `folder` what the heads' logs and checks hold after step `done`, as far as it has not yet."""

    def __init__(self, folder: Path, done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes seconds and a package of its own

        self.writer, self.written = SummaryWriter(str(folder), purge_step=done + 1), done

    def write(self, trainers: Sequence[HeadTrainer]) -> None:
        for trainer in trainers:
            name = trainer.plan.name
            for step, entry in enumerate(trainer.log[self.written :], self.written + 1):
                for figure, value in zip(("loss", "gradient_norm", "learning_rate"), entry, strict=True):
                    self.writer.add_scalar(f"{figure}/{name}", value, step)
            for checked, strict in trainer.checks:
                if checked > self.written:
                    self.writer.add_scalar(f"validation_strict_f1/{name}", strict, int(checked))
        self.written = max(len(trainer.log) for trainer in trainers)

    def close(self) -> None:
        self.writer.close()
