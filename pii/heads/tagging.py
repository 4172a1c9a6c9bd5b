"""Hidden states → tags: what a trained head says of each token, decoded over whole texts."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from pii.corpus.spans import (
    OUTSIDE_ID,
    JoinedText,
    begins_of_tags,
    labels_of_tags,
    ranges,
    spans_of_tags,
    starts_of,
    whole_words,
)
from pii.corpus.windows import Windows, make_windows
from pii.decoder.features import Reader, columns_of
from pii.heads.heads import Head
from pii.heads.viterbi import viterbi

WINDOWS_A_CHUNK = 256  # whose features are held at a time in prediction
SEQUENCE_TOKENS = 512  # tokens that are decoded as one path; a longer text is many of them, side by side
SEQUENCES_A_CHUNK = 1024  # that are decoded at a time


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

    `calibration` is fit_calibration's.
    """

    def __init__(
        self,
        head: Head,
        reader: Reader,
        layers: Sequence[int],
        calibration: Sequence[float] | None = None,
    ) -> None:
        self.head, self.reader, self.layers = head, reader, list(layers)
        self.columns = columns_of(reader.layers, layers, reader.backbone.config.hidden_size)
        self.transitions, self.calibration = head.decoding(), calibration

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

        A text of more than SEQUENCE_TOKENS tokens is decoded in sequences that overlap by a quarter (make_windows):
        each token is decided by the text alone, in sight of 86 tokens before it and 42 after it at least. That gives
        the best path of the whole text, and spans of any length whole, unless a choice hangs on tokens further off,
        which takes paths that are equally good for that long. There a tag may continue nothing; it counts as a begin.
        """
        sequences = make_windows(starts_of(token_counts), SEQUENCE_TOKENS)
        chunks = [sequences[i : i + SEQUENCES_A_CHUNK] for i in range(0, len(sequences), SEQUENCES_A_CHUNK)]
        return Tagged.of([self.decode_sequences(scores[chunk.tokens()], chunk, bias) for chunk in chunks])

    def decode_sequences(self, scores: np.ndarray, sequences: Windows, bias: float) -> Tagged:
        """The tags of the tokens that the sequences score, from the scores of all that they hold."""
        biased = scores.copy()
        biased[:, OUTSIDE_ID] -= bias
        places = sequences.scored_places()
        if self.transitions is None:
            label_ids = biased.argmax(axis=1)[places].astype(np.uint16)
            return Tagged(label_ids, np.zeros(len(places), bool), np.exp(scores[places, label_ids]))
        tags = viterbi(biased, sequences.lengths, self.transitions)[places]
        label_ids = labels_of_tags(tags)
        first = np.maximum(2 * label_ids.astype(np.int64) - 1, 0)  # O has one tag, every label two
        both = np.exp(scores[places, first]) + np.where(first > 0, np.exp(scores[places, first + (first > 0)]), 0)
        return Tagged(label_ids, begins_of_tags(tags), both.clip(max=1).astype(np.float32))

    def predict(
        self,
        token_ids: np.ndarray,
        windows: Windows,
        offsets: np.ndarray,
        bias: float = 0.0,
        progress: Callable[[int], object] = lambda tokens: None,
    ) -> Tagged:
        """Tags of all tokens; `windows` are make_windows' of the texts that start at `offsets` [texts + 1].

        They are those of `decode`, but each sequence is decoded as soon as its scores are there: no text is so long
        that more of them are held than those of WINDOWS_A_CHUNK windows and a sequence.
        """
        [tagged] = predict_together([(self, bias)], token_ids, windows, offsets, progress)
        return tagged


class StreamedDecoding:
    """Decodes the scores of one tagger as they come, some windows' at a time."""

    def __init__(self, tagger: Tagger, bias: float, offsets: np.ndarray) -> None:
        self.tagger, self.bias = tagger, bias
        self.sequences = make_windows(offsets, SEQUENCE_TOKENS)
        self.held, self.begin = np.zeros((0, tagger.head.num_tags), np.float32), int(offsets[0])
        self.parts: list[Tagged] = []

    def add(self, scores: np.ndarray) -> None:
        """[tokens, tags] of the next tokens; scores that no sequence needs any more are let go."""
        self.held = np.concatenate([self.held, scores])
        end = self.begin + len(self.held)
        ready = self.sequences[: np.searchsorted(self.sequences.stop, end, side="right")]
        self.parts.append(self.tagger.decode_sequences(self.held[ready.tokens() - self.begin], ready, self.bias))
        self.sequences = self.sequences[len(ready) :]
        needed = int(self.sequences.start[0]) if len(self.sequences) else end
        self.held, self.begin = self.held[needed - self.begin :], needed


def predict_together(
    taggers: Sequence[tuple[Tagger, float]],
    token_ids: np.ndarray,
    windows: Windows,
    offsets: np.ndarray,
    progress: Callable[[int], object] = lambda tokens: None,
) -> list[Tagged]:
    """`Tagger.predict` of several taggers, each with its bias, that share a reader: the backbone reads once."""
    decodings = [StreamedDecoding(tagger, bias, offsets) for tagger, bias in taggers]
    for scores in score_chunks([tagger for tagger, _ in taggers], token_ids, windows, progress):
        for decoding, own in zip(decodings, scores, strict=True):
            decoding.add(own)
    return [Tagged.of(decoding.parts) for decoding in decodings]


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


def spans_of(
    text: JoinedText,
    token_counts: np.ndarray,
    char_starts: np.ndarray,
    char_ends: np.ndarray,
    tagged: Tagged,
    widened: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """The predicted spans [n, 3] int32 and how many each text has, as spans_of_tags returns them. Those of begin-aware
    tags, each of which has its begin bit, cut no word; plain tags give the documented spans unless these are
    `widened`."""
    spans, counts = spans_of_tags(text, token_counts, tagged.label_ids, char_starts, char_ends, tagged.begins)
    return whole_words(text, spans, counts) if widened or tagged.begins.any() else (spans, counts)


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

    The texts' tokens are given as to spans_of, `spans` as it returns them.
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
