"""Hidden states → tags: what a trained head says of each token, decoded over whole texts."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from dataset import Windows
from features import Reader, columns_of
from heads import BIO
from spans import OUTSIDE_ID, JoinedText, Transitions, begins_of_tags, labels_of_tags, ranges, viterbi

WINDOWS_A_CHUNK = 256  # whose features are held at a time in prediction
FEWEST_SPANS = 50  # that a calibration is fitted on
RIDGE = 1.0


class Tagged(NamedTuple):
    """What was decided of each token."""

    label_ids: np.ndarray  # [tokens] uint16
    begins: np.ndarray  # [tokens] bool: starts a span of its own; all False with plain tags
    probabilities: np.ndarray  # [tokens] float32: that label's, whatever the bias

    @classmethod
    def of(cls, parts: Sequence["Tagged"]) -> "Tagged":
        nothing = cls(np.zeros(0, np.uint16), np.zeros(0, bool), np.zeros(0, np.float32))
        return cls(*(np.concatenate(columns) for columns in zip(nothing, *parts, strict=True)))


class Tagger:
    """One trained head on the features of a Reader.

    `transitions` are needed by heads with begin-aware tags; `calibration` is fit_calibration's.
    """

    def __init__(
        self,
        head: nn.Module,
        reader: Reader,
        layers: Sequence[int],
        transitions: Transitions | None = None,
        calibration: Sequence[float] | None = None,
    ) -> None:
        self.head, self.reader, self.layers = head, reader, list(layers)
        self.columns = columns_of(reader.layers, layers, reader.backbone.config.hidden_size)
        self.transitions, self.calibration = transitions, calibration

    @torch.no_grad()
    def scores(self, features: torch.Tensor, windows: Windows) -> np.ndarray:
        """Features of the windows' tokens → [scored tokens, tags] float32 log-probabilities."""
        self.head.eval()
        logits = self.head(features[:, self.columns], torch.from_numpy(windows.lengths))
        scored = torch.from_numpy(windows.scored_places()).to(logits.device)
        return logits[scored].log_softmax(dim=-1).cpu().numpy()

    def decode(self, scores: np.ndarray, token_counts: np.ndarray, bias: float = 0.0) -> Tagged:
        """[tokens, tags] scores of whole texts → their tags. `bias` is taken off the score of O.

        Plain tags: the best one of each token. Begin-aware tags: the best path that makes sense.
        """
        biased = scores.copy()
        biased[:, OUTSIDE_ID] -= bias
        rows = np.arange(len(scores))
        if self.head.tags != BIO:
            label_ids = biased.argmax(axis=1).astype(np.uint16)
            return Tagged(label_ids, np.zeros(len(scores), bool), np.exp(scores[rows, label_ids]))
        tags = viterbi(biased, token_counts, self.transitions)
        label_ids = labels_of_tags(tags)
        first = np.maximum(2 * label_ids.astype(np.int64) - 1, 0)  # O has one tag, every label two
        probabilities = np.exp(scores[rows, first]) + np.where(first > 0, np.exp(scores[rows, first + (first > 0)]), 0)
        return Tagged(label_ids, begins_of_tags(tags), probabilities.clip(max=1).astype(np.float32))

    def predict(
        self,
        token_ids: np.ndarray,
        windows: Windows,
        offsets: np.ndarray,
        bias: float = 0.0,
        progress: Callable[[int], object] = lambda tokens: None,
    ) -> Tagged:
        """Tags of all tokens; `windows` are make_windows' of the texts that start at `offsets` [texts + 1].

        Texts are decoded as their scores come in, each at once. Only one longer than WINDOWS_A_CHUNK is decoded in
        parts: what is read of it waits from the last token that was found to be O, so that no span is cut.
        """
        parts, waiting, begin = [], None, int(offsets[0])
        for (scores,) in score_chunks([self], token_ids, windows, progress):
            scores = scores if waiting is None else np.concatenate([waiting, scores])
            end = begin + len(scores)
            unread = int(offsets[np.searchsorted(offsets, end, side="right") - 1])  # where one is not read to its end
            if unread > begin:
                tagged = self.decode(scores[: unread - begin], counts_between(offsets, begin, unread), bias)
            else:
                tagged = up_to_last_outside(self.decode(scores, np.array([len(scores)]), bias))
            parts.append(tagged)
            done = len(tagged.label_ids)
            waiting, begin = scores[done:], begin + done
        return Tagged.of(parts)


def score_chunks(
    taggers: Sequence[Tagger],
    token_ids: np.ndarray,
    windows: Windows,
    progress: Callable[[int], object] = lambda tokens: None,
) -> Iterator[list[np.ndarray]]:
    """Each tagger's scores of the scored tokens of some windows at a time, in order. All taggers share a reader: one
    pass of the backbone serves them all."""
    for start in range(0, len(windows), WINDOWS_A_CHUNK):
        chunk = windows[start : start + WINDOWS_A_CHUNK]
        features = taggers[0].reader(token_ids, chunk, progress)
        yield [tagger.scores(features, chunk) for tagger in taggers]


def all_scores(
    taggers: Sequence[Tagger],
    token_ids: np.ndarray,
    windows: Windows,
    progress: Callable[[int], object] = lambda tokens: None,
) -> list[np.ndarray]:
    """[tokens, tags] of each tagger, for data that is decoded more than once."""
    nothing = [np.zeros((0, tagger.head.num_tags), np.float32) for tagger in taggers]  # a process may have no windows
    chunks = [nothing, *score_chunks(taggers, token_ids, windows, progress)]
    return [np.concatenate(parts) for parts in zip(*chunks, strict=True)]


def up_to_last_outside(tagged: Tagged) -> Tagged:
    """The tokens up to the last one that is O; all where there is none."""
    outside = np.flatnonzero(tagged.label_ids == OUTSIDE_ID)
    return Tagged(*(column[: outside[-1] + 1] for column in tagged)) if len(outside) else tagged


def counts_between(offsets: np.ndarray, begin: int, end: int) -> np.ndarray:
    """How many of the tokens begin:end belong to each text that has some of them."""
    inner = offsets[np.searchsorted(offsets, begin, side="right") : np.searchsorted(offsets, end)]
    return np.diff(np.concatenate([[begin], np.unique(inner), [end]]))


def span_scores(
    text: JoinedText,
    token_counts: np.ndarray,
    char_starts: np.ndarray,
    char_ends: np.ndarray,
    tagged: Tagged,
    spans: np.ndarray,
    span_counts: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """[spans] float64 mean probability of the label over each span's tokens, and [spans] how many tokens those are.

    The texts' tokens are given as to spans_of_tags, `spans` as it returns them.
    """
    # the tokens with a character of the span; of those that share one, only the span's own label counts
    token_text_start = np.repeat(text.starts[:-1], token_counts)
    span_text_start = np.repeat(text.starts[:-1], span_counts)
    first = np.searchsorted(token_text_start + char_ends, span_text_start + spans[:, 0], side="right")
    stop = np.searchsorted(token_text_start + char_starts, span_text_start + spans[:, 1], side="left")
    token, span = ranges(first, stop - first), np.repeat(np.arange(len(spans)), stop - first)
    same = tagged.label_ids[token] == spans[span, 2]
    sizes = np.bincount(span[same], minlength=len(spans))
    return np.bincount(span[same], weights=tagged.probabilities[token[same]], minlength=len(spans)) / sizes, sizes


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
