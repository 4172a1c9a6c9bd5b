"""Hidden states → tags, compared with plain loops over one token or one text at a time: promises of tagging.py."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pii.corpus.spans import JoinedText, spans_of_tags
from pii.corpus.windows import Windows, make_windows
from pii.heads import tagging
from pii.heads.heads import BIO, DOCUMENTED, KINDS, PLAIN, STRONG, build_head
from pii.heads.tagging import Tagged, Tagger, all_scores, score_chunks, span_scores
from pii.heads.viterbi import Transitions, viterbi

LABELS = 3
TAGS = 2 * LABELS - 1
VOCABULARY = 40


class TableReader:
    """In the place of a Reader: a token's features are a row of a table, whatever stands around it."""

    def __init__(self, table: torch.Tensor, layers: tuple[int, ...] = (1,)) -> None:
        self.table, self.layers = table, list(layers)
        self.backbone = SimpleNamespace(config=SimpleNamespace(hidden_size=table.shape[1] // len(layers)))
        self.asked: list[int] = []  # windows of each call

    def __call__(self, token_ids: np.ndarray, windows: Windows, progress) -> torch.Tensor:
        self.asked.append(len(windows))
        progress(int(windows.scored_counts.sum()))
        return self.table[torch.from_numpy(token_ids[windows.tokens()].astype(np.int64))]


class GivenLogits(nn.Module):
    """A head whose logits are the features."""

    def __init__(self, tags: str, seed: int = 0) -> None:
        super().__init__()
        self.tags, self.num_tags = tags, TAGS if tags == BIO else LABELS
        self.seed = seed

    def decoding(self) -> Transitions | None:
        return transitions_of(self.seed) if self.tags == BIO else None

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return features.float()


def transitions_of(seed: int = 0) -> Transitions:
    rng = np.random.default_rng(seed)
    stay = rng.uniform(0.2, 0.8, TAGS)
    leave, enter = np.log(1 - stay), np.log(rng.dirichlet(np.ones(TAGS)))
    leave[0], stay[0], enter[2::2] = 0.0, 0.0, -np.inf
    with np.errstate(divide="ignore"):
        return Transitions(*(part.astype(np.float32) for part in (leave, enter, np.log(stay))))


def tagger_of(tags: str, seed: int = 0, outside: float = 0.0, reader: TableReader | None = None) -> Tagger:
    """A head that gives each of VOCABULARY tokens its own random logits; `outside` is added to those of O."""
    table = torch.randn(VOCABULARY, TAGS if tags == BIO else LABELS, generator=torch.Generator().manual_seed(seed))
    table[:, 0] += outside
    return Tagger(GivenLogits(tags, seed), reader or TableReader(2 * table), [1])


def texts_of(lengths: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random token ids, and where the texts start."""
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return np.random.default_rng(seed).integers(0, VOCABULARY, offsets[-1]).astype(np.uint32), offsets


def by_text(tagger: Tagger, token_ids: np.ndarray, offsets: np.ndarray, max_length: int, bias: float = 0.0) -> Tagged:
    """All scores of a text at once, decoded alone: each text for itself."""
    parts = []
    for start, end in itertools.pairwise(offsets.tolist()):
        ids = token_ids[start:end]
        if len(ids):
            windows = make_windows(np.array([0, len(ids)]), max_length)
            scores = tagger.scores(tagger.reader(ids, windows, lambda tokens: None), windows)
            parts.append(tagger.decode(scores, np.array([len(ids)]), bias))
    return Tagged.of(parts)


def assert_same(found: Tagged, expected: Tagged) -> None:
    assert found.label_ids.tolist() == expected.label_ids.tolist()
    assert found.begins.tolist() == expected.begins.tolist()
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)
    assert [column.dtype for column in found] == [np.uint16, np.bool_, np.float32]


# Scores


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [[2], [2, 7], [7, 0], [0, 2, 7]], ids=str)
def test_scores_are_log_probabilities_of_the_scored_tokens_in_the_windows_order(kind, layers):
    hidden = 4
    table = torch.randn(VOCABULARY, 3 * hidden, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    head = build_head(kind, hidden * len(layers), LABELS, dropout=0.5)
    tagger = Tagger(head, TableReader(table, (0, 2, 7)), layers)
    token_ids, offsets = texts_of([5, 23, 1, 12])
    windows = make_windows(offsets, 8)
    windows = windows[np.random.default_rng(1).permutation(len(windows))]
    found = tagger.scores(tagger.reader(token_ids, windows, lambda tokens: None), windows)
    expected = []
    for _, start, stop, scored_from, scored_to in zip(*vars(windows).values(), strict=True):
        states = table[torch.from_numpy(token_ids[start:stop].astype(np.int64))].view(-1, 3, hidden)
        features = torch.cat([states[:, [0, 2, 7].index(layer)] for layer in layers], dim=1)
        with torch.no_grad():
            logits = head.eval()(features, torch.tensor([stop - start]))
        for row in logits[scored_from - start : scored_to - start].double():
            expected.append((row - row.exp().sum().log()).tolist())
    assert found.dtype == np.float32 and len(found) == len(token_ids)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_one_pass_of_the_backbone_serves_all_taggers_a_chunk_at_a_time(monkeypatch):
    monkeypatch.setattr(tagging, "WINDOWS_A_CHUNK", 4)
    plain, begin_aware = tagger_of(PLAIN), tagger_of(BIO)
    reader = TableReader(torch.cat([begin_aware.reader.table, torch.zeros(VOCABULARY, TAGS)], dim=1), (1, 2))
    plain = Tagger(build_head(DOCUMENTED, TAGS, LABELS), reader, [1])
    begin_aware = Tagger(GivenLogits(BIO), reader, [1])
    token_ids, offsets = texts_of([5, 23, 1, 12])
    windows, heard = make_windows(offsets, 8), []
    assert len(windows) == 8
    chunks = list(score_chunks([plain, begin_aware], token_ids, windows, heard.append))
    assert reader.asked == [4, 4] and sum(heard) == len(token_ids)
    whole = all_scores([plain, begin_aware], token_ids, windows)
    for index, tagger in enumerate((plain, begin_aware)):
        alone = tagger.scores(reader(token_ids, windows, heard.append), windows)
        np.testing.assert_allclose(np.concatenate([chunk[index] for chunk in chunks]), alone, atol=1e-6)
        np.testing.assert_allclose(whole[index], alone, atol=1e-6)


def test_no_windows_have_no_scores():
    """As a process has that shares a few rows with many."""
    taggers = [tagger_of(PLAIN), tagger_of(BIO)]
    nothing = make_windows(np.array([0]), 8)
    assert [scores.shape for scores in all_scores(taggers, np.zeros(0, np.uint32), nothing)] == [(0, LABELS), (0, TAGS)]
    for kind in KINDS:
        assert build_head(kind, 4, LABELS).num_tags == (TAGS if kind == STRONG else LABELS)


# Decoding


def log_probabilities(count: int, tags: int, seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, 2, (count, tags))
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


@pytest.mark.parametrize("bias", [-2.0, 0.0, 1.5, 100.0])
def test_plain_tags_are_the_best_of_each_token_with_the_bias_off_o(bias):
    scores = log_probabilities(60, LABELS, 0)
    before = scores.copy()
    found = tagger_of(PLAIN).decode(scores, np.array([25, 35]), bias)
    expected = [max(range(LABELS), key=lambda tag: row[tag] - bias * (tag == 0)) for row in scores.tolist()]
    assert found.label_ids.tolist() == expected and not found.begins.any()
    own = [math.exp(row[label]) for row, label in zip(scores.tolist(), expected, strict=True)]
    np.testing.assert_allclose(found.probabilities, own, atol=1e-6)
    assert np.array_equal(scores, before)


def test_a_tie_goes_to_o():
    tie = np.log(np.full((1, LABELS), 1 / LABELS, np.float32))
    assert tagger_of(PLAIN).decode(tie, np.array([1])).label_ids.tolist() == [0]
    assert tagger_of(PLAIN).decode(tie, np.array([1]), bias=0.01).label_ids.tolist() == [1]


@pytest.mark.parametrize("bias", [-2.0, 0.0, 1.5, 100.0])
def test_begin_aware_tags_are_the_best_path_with_the_bias_off_o(bias):
    tagger, counts = tagger_of(BIO), np.array([25, 0, 34, 1])
    scores = log_probabilities(60, TAGS, 0)
    before = scores.copy()
    found = tagger.decode(scores, counts, bias)
    biased = scores.copy()
    biased[:, 0] -= bias
    tags = viterbi(biased, counts, tagger.transitions).tolist()
    names = [(0, False), (1, True), (1, False), (2, True), (2, False)]  # of the tags
    assert list(zip(found.label_ids.tolist(), found.begins.tolist(), strict=True)) == [names[tag] for tag in tags]
    own = [
        sum(math.exp(row[i]) for i, name in enumerate(names) if name[0] == names[tag][0])
        for row, tag in zip(scores.tolist(), tags, strict=True)
    ]
    np.testing.assert_allclose(found.probabilities, own, atol=1e-6)
    assert found.probabilities.max() <= 1 and np.array_equal(scores, before)
    assert (bias < 100) == (0 in tags)


# Whole texts, a chunk at a time


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(0, 14), max_size=12),
    st.sampled_from([PLAIN, BIO]),
    st.integers(3, 6),
    st.sampled_from([0.0, 1.0, 3.0]),
    st.integers(0, 9),
)
def test_texts_are_decoded_as_each_alone_however_the_scores_come_in(lengths, tags, max_length, bias, seed):
    """Also those of several windows, sequences and chunks."""
    token_ids, offsets = texts_of(lengths, seed)
    windows, heard = make_windows(offsets, max_length), []
    tagger = tagger_of(tags, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tagging, "SEQUENCE_TOKENS", 6)
        expected = by_text(tagger, token_ids, offsets, max_length, bias)
        patch.setattr(tagging, "WINDOWS_A_CHUNK", 1 + seed)
        patch.setattr(tagging, "SEQUENCES_A_CHUNK", 1 + seed)
        found = tagger.predict(token_ids, windows, offsets, bias, heard.append)
        scores = tagger.scores(tagger.reader(token_ids, windows, heard.append), windows)
        assert_same(tagger.decode(scores, np.diff(offsets), bias), expected)
    assert_same(found, expected)
    assert 2 * len(found.label_ids) == 2 * len(token_ids) == sum(heard)


@pytest.mark.parametrize("tags", [PLAIN, BIO])
@pytest.mark.parametrize("lengths", [[], [0], [0, 0, 0], [0, 4, 0, 0, 9, 0], [9, 0]], ids=str)
def test_empty_texts_anywhere_and_no_texts_at_all(tags, lengths, monkeypatch):
    monkeypatch.setattr(tagging, "WINDOWS_A_CHUNK", 1)
    token_ids, offsets = texts_of(lengths)
    tagger = tagger_of(tags)
    found = tagger.predict(token_ids, make_windows(offsets, 16), offsets)
    assert_same(found, by_text(tagger, token_ids, offsets, 16))


def whole_path(tagger: Tagger, scores: np.ndarray, bias: float = 0.0) -> np.ndarray:
    """[tokens] tags: Viterbi over one whole text, however long."""
    biased = scores.copy()
    biased[:, 0] -= bias
    return viterbi(biased, np.array([len(scores)]), tagger.transitions)


@pytest.mark.parametrize("bias", [0.0, 2.0])
@pytest.mark.parametrize(("seed", "outside"), [(0, 0.0), (1, 0.0), (2, 3.0), (3, 8.0)])
def test_a_long_text_gets_the_best_path_of_the_whole_text(seed, outside, bias):
    scores = np.random.default_rng(seed).normal(0, 2, (30_000, TAGS)).astype(np.float32)
    scores[:, 0] += outside
    tagger = tagger_of(BIO, seed)
    tags = whole_path(tagger, scores, bias)
    found = tagger.decode(scores, np.array([len(scores)]), bias)
    assert len(np.unique(tags)) == TAGS
    assert found.label_ids.tolist() == ((tags + 1) // 2).tolist() and found.begins.tolist() == (tags % 2 == 1).tolist()


def test_a_span_far_longer_than_a_stretch_stays_whole(monkeypatch):
    """Whatever the sequences that start and end in it: it begins once, and once again where a second one does."""
    monkeypatch.setattr(tagging, "SEQUENCE_TOKENS", 24)
    tags = np.array([0] * 31 + [1] + [2] * 200 + [1] + [2] * 90 + [0] * 20 + [3] + [4] * 50)
    scores = np.log(np.where(np.arange(TAGS) == tags[:, None], 0.9, 0.1 / (TAGS - 1))).astype(np.float32)
    found = tagger_of(BIO).decode(scores, np.array([len(tags)]))
    assert found.label_ids.tolist() == ((tags + 1) // 2).tolist() and found.begins.tolist() == (tags % 2 == 1).tolist()


def test_a_choice_that_hangs_on_a_far_token_is_made_within_the_stretch(monkeypatch):
    """What the overlap does not promise: each of two equally good ways to pair the tokens depends on the first one."""
    even = Transitions(*(np.full(TAGS, math.log(0.5), np.float32) for _ in range(3)))
    even.leave[2::2], even.stay[2::2], even.leave[1::2] = math.log(0.99), math.log(0.01), math.log(0.01)
    even.leave[0], even.stay[0], even.enter[2::2] = 0, -np.inf, -np.inf
    scores = np.full((401, TAGS), -20.0, np.float32)
    scores[:, 1:3] = -1
    scores[0, 1] = -20  # so O, and then pairs
    scores[0, 0] = 0
    tagger = tagger_of(BIO)
    tagger.transitions = even
    whole = whole_path(tagger, scores)
    assert whole.tolist() == [0] + [1, 2] * 200
    monkeypatch.setattr(tagging, "SEQUENCE_TOKENS", 25)
    found = tagger.decode(scores, np.array([401]))
    assert found.label_ids.tolist() == [0] + [1] * 400
    begins = whole == 1
    assert (found.begins[:16] == begins[:16]).all() and (found.begins != begins).any()


@pytest.mark.parametrize("outside", [-50.0, 0.0, 50.0], ids=["no O", "some O", "only O"])
@pytest.mark.parametrize("lengths", [[4000], [2] * 2000, [3, 3000, 0, 1, 900]], ids=["one", "many", "some"])
def test_memory_is_bounded_by_the_chunk(monkeypatch, outside, lengths):
    """Whatever is found, no more scores are held than those of a chunk and a sequence."""
    monkeypatch.setattr(tagging, "WINDOWS_A_CHUNK", 5)
    monkeypatch.setattr(tagging, "SEQUENCE_TOKENS", 20)
    token_ids, offsets = texts_of(lengths)
    tagger, sizes = tagger_of(BIO, outside=outside), []
    decode_sequences = tagger.decode_sequences

    def check(scores: np.ndarray, sequences: Windows, bias: float) -> Tagged:
        assert len(scores) == sequences.lengths.sum()
        sizes.append(len(scores))
        return decode_sequences(scores, sequences, bias)

    monkeypatch.setattr(tagger, "decode_sequences", check)
    found = tagger.predict(token_ids, make_windows(offsets, 8), offsets)
    assert len(found.label_ids) == len(token_ids)
    assert max(tagger.reader.asked) <= 5 and max(sizes) <= 2 * (5 * 8 + 20) and len(sizes) > 50


# Scores of spans


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text("ab \n.é👩", max_size=8), max_size=5), st.randoms())
def test_span_scores_are_those_of_a_loop_over_the_tokens(texts, draw):
    """Tokens are single bytes here: an emoji is split over four, which may have several labels."""
    starts = [i for text in texts for i, char in enumerate(text) for _ in char.encode()]
    counts = np.array([len(text.encode()) for text in texts], np.int64)
    labels, begins, probabilities = (
        [draw.choice(values) for _ in starts] for values in ([0, 1, 1, 2], [0, 1], [0.2, 0.5, 0.9])
    )
    text, char_starts = JoinedText.of(texts), np.array(starts, np.int64)
    tagged = Tagged(np.array(labels, np.uint16), np.array(begins, bool), np.array(probabilities, np.float32))
    places = (counts, tagged.label_ids, char_starts, char_starts + 1)
    spans, span_counts = spans_of_tags(text, *places, tagged.begins)
    found, sizes = span_scores(text, counts, char_starts, char_starts + 1, tagged, spans, span_counts)
    token_text = np.repeat(np.arange(len(texts)), counts).tolist()
    expected = []
    for span_text, (start, end, label) in zip(
        np.repeat(np.arange(len(texts)), span_counts).tolist(), spans.tolist(), strict=True
    ):
        expected.append(
            [
                probability
                for own_text, place, own, probability in zip(token_text, starts, labels, probabilities, strict=True)
                if own_text == span_text and start <= place < end and own == label
            ]
        )
    assert sizes.tolist() == [len(own) for own in expected]
    assert found.tolist() == pytest.approx([sum(own) / len(own) for own in expected])
