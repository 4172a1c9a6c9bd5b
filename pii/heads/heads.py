"""The heads: small modules on frozen hidden states. Each takes flat features and gives one row of logits a token."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import nn

from pii.heads.crf import Crf
from pii.heads.gru import by_library, by_position
from pii.heads.viterbi import Transitions

DOCUMENTED, STRONG = "documented", "strong"
PLAIN, BIO = "plain", "bio"  # tag schemes: one tag a label, or begin and continue apart
STRONG_UNITS, MOST_UNITS = 192, 4096  # of its GRU in either direction: the default, and far more than pays
STRONG_DEPTHS = (0.4, 0.6, 0.8)  # of the backbone, where the strong head reads unless told: see docs/accuracy.md


class Head(nn.Module, ABC):
    """What all heads have; called with features and the windows' lengths, one gives logits."""

    tags: str  # its tag scheme
    tag_weights: tuple[str, ...]  # those with a row a tag
    num_tags: int

    @abstractmethod
    def loss(self, logits: torch.Tensor, tags: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Summed over the scored parts of windows: logits [tokens, tags], tags [tokens] int64, counts [windows] int64,
        on the CPU."""

    @abstractmethod
    def decoding(self) -> Transitions | None:
        """What its tags are decoded with, if not token by token."""

    @abstractmethod
    def standardise(self, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        """Take note of the features' mean and deviation, [in_features] each, if it looks at them."""


class DocumentedHead(nn.Linear, Head):
    """The documented head: dropout and one float32 linear layer on the last hidden state."""

    tags = PLAIN
    tag_weights = ("weight", "bias")

    def __init__(self, in_features: int, num_labels: int, dropout: float = 0.1) -> None:
        super().__init__(in_features, num_labels, dtype=torch.float32)
        self.num_tags, self.dropout = num_labels, dropout

    def forward(self, features: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """[tokens, in_features] → [tokens, num_labels] float32. The windows' lengths are not looked at."""
        return super().forward(F.dropout(features.float(), self.dropout, self.training))

    def loss(self, logits: torch.Tensor, tags: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Cross-entropy, summed over tokens: logits [tokens, tags], tags [tokens] int64. Where windows end is nothing
        to it."""
        return F.cross_entropy(logits, tags, reduction="sum")

    def decoding(self) -> None:
        """Plain tags are decoded token by token."""

    def standardise(self, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        """The documented head takes the features as they are."""


class StrongHead(Head):
    """Several layers side by side, standardised and projected, and a bidirectional GRU (Cho et al. 2014) over them.

    The backbone is causal: only the GRU knows what follows a token. Its tags are begin-aware, and it is trained as a
    conditional random field over them.
    """

    tags = BIO
    tag_weights = (
        "classifier.weight",
        "classifier.bias",
        *(f"transitions.{part}" for part in Transitions._fields),
    )
    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, in_features: int, num_labels: int, dropout: float = 0.3, units: int = STRONG_UNITS) -> None:
        super().__init__()
        self.num_tags, self.dropout = 2 * num_labels - 1, dropout
        self.register_buffer("mean", torch.zeros(in_features))
        self.register_buffer("deviation", torch.ones(in_features))
        self.project = nn.Linear(in_features, units)
        self.gru = nn.GRU(units, units, bidirectional=True, batch_first=True)
        self.classifier = nn.Linear(2 * units, self.num_tags)
        self.transitions = Crf(self.num_tags)

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """[tokens, in_features] of windows with these lengths ([windows] int64, on the CPU), one after the other →
        [tokens, 2 * num_labels - 1] float32."""
        hidden = (features.float() - self.mean).div_(self.deviation)
        hidden = F.dropout(hidden, self.dropout, self.training, inplace=hidden.device.type == "cpu")  # large, no copy
        read = by_position if hidden.device.type == "cpu" else by_library
        return self.classifier(self.drop(read(self.gru, self.drop(self.project(hidden)), lengths)))

    def loss(self, logits: torch.Tensor, tags: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """-log p(path of tags) and each tag's cross-entropy, summed over the scored parts of windows: logits [tokens,
        tags], tags [tokens] int64, counts [windows] int64, on the CPU.

        The path alone would teach the tokens too little: spans are as good, but more tokens have a wrong label
        (docs/accuracy.md).
        """
        return self.transitions.loss(logits, tags, counts) + F.cross_entropy(logits, tags, reduction="sum")

    def decoding(self) -> Transitions:
        """What its tags are decoded with."""
        return self.transitions.values()

    def drop(self, hidden: torch.Tensor) -> torch.Tensor:
        return F.dropout(hidden, self.dropout, self.training)

    def standardise(self, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        """[in_features] each: a decoder's middle layers have a few dimensions a hundred times as large as the rest."""
        self.mean.copy_(mean)
        self.deviation.copy_(deviation.clamp(min=1e-3))


KINDS: dict[str, type[Head]] = {DOCUMENTED: DocumentedHead, STRONG: StrongHead}


def build_head(kind: str, in_features: int, num_labels: int, dropout: float = 0.0, units: int | None = None) -> Head:
    """A new head of one of KINDS; `units` is the width of a strong head (STRONG_UNITS)."""
    if kind == STRONG:
        return StrongHead(in_features, num_labels, dropout, units or STRONG_UNITS)
    return KINDS[kind](in_features, num_labels, dropout=dropout)
