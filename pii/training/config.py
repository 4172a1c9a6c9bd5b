"""What a training is told, checked when it is made: the documented recipe unless said otherwise."""

from collections.abc import Sequence
from dataclasses import dataclass

from pii.common import MOST_RATE, UserError
from pii.decoder.features import CACHES
from pii.heads.heads import DOCUMENTED, KINDS, MOST_UNITS, STRONG

AUTO = ("auto",)  # layers of the strong head: try several


@dataclass(frozen=True)
class TrainingConfig:
    """The numbers of one training. Raises UserError at one that cannot be right."""

    heads: Sequence[str] = (DOCUMENTED,)
    batch_size: int = 12  # windows
    gradient_accumulation_steps: int = 3  # batches an optimizer step
    max_length: int = 96  # tokens a window
    max_grad_norm: float = 1.0
    seed: int = 0
    # the documented head; several rates: a head each
    learning_rates: Sequence[float] = (1e-5,)
    epochs: int = 1
    dropout: float = 0.1
    # the strong head
    layers: Sequence[int | str] | None = None  # of the backbone, that it reads; AUTO, or None for the default depths
    strong_learning_rates: Sequence[float] = (2e-3,)
    strong_epochs: int | None = None  # as many as make plans.STRONG_STEPS steps
    strong_dropout: float | None = None  # what suits so many windows, as plans.strong_size has it; so the units
    strong_units: int | None = None
    # the machine; nothing of it changes what is learnt
    tokens_per_forward: int | None = None  # that the backbone reads at once
    cache: str = "auto"  # one of features.CACHES
    save_every: int = 100  # steps

    def __post_init__(self) -> None:
        if unknown := {*self.heads} - {*KINDS}:
            raise UserError(f"no head {min(unknown)}: choose among {', '.join(KINDS)}")
        counts = ("batch_size", "gradient_accumulation_steps", "max_length", "epochs", "save_every")
        for name in (*counts, "max_grad_norm", "strong_epochs", "strong_units", "tokens_per_forward"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"{option(name)} {value} is not above 0")
        if self.strong_units and self.strong_units > MOST_UNITS:
            raise UserError(f"--strong-units {self.strong_units} is above {MOST_UNITS}")
        for name in ("dropout", "strong_dropout"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UserError(f"{option(name)} {value} is not between 0 and 1")
        for name in ("learning_rates", "strong_learning_rates"):
            if wrong := [rate for rate in getattr(self, name) if not 0 < rate <= MOST_RATE]:
                raise UserError(f"{option(name)} {wrong[0]} is not above 0 and at most {MOST_RATE:g}")
        for name in ("heads", "learning_rates", "strong_learning_rates"):
            values = getattr(self, name)
            if not values or len({*values}) < len(values):
                raise UserError(f"{option(name)} names {'one of them twice' if values else 'none'}")
        if self.cache not in CACHES:
            raise UserError(f"--cache {self.cache}: choose among {', '.join(CACHES)}")

    @property
    def windows_a_step(self) -> int:
        return self.batch_size * self.gradient_accumulation_steps

    @property
    def trains_strong(self) -> bool:
        return STRONG in self.heads

    @property
    def trains_documented(self) -> bool:
        return DOCUMENTED in self.heads


def option(field: str) -> str:
    """The flag of train.py that sets a field."""
    return f"--{field.removesuffix('s') if field.endswith('rates') else field}".replace("_", "-")
