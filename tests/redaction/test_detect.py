"""Texts → spans: promises of detect.py, kept with a tiny random backbone and plain loops over one text at a time."""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pii.corpus import tekken
from pii.corpus.spans import JoinedText, spans_of_tags
from pii.decoder.backbone import load_backbone
from pii.decoder.features import Reader
from pii.heads.heads import DOCUMENTED, STRONG, build_head
from pii.heads.tagging import Tagged, Tagger
from pii.heads.viterbi import viterbi
from pii.redaction import detect
from pii.redaction.detect import Found
from tests.corpus.test_spans import widened
from tests.decoder.test_backbone import save_tiny_backbone

NUM_LABELS = 5
LONG = 512  # tokens of a window: more than any text here has unless it says so
WORDS = [
    "Ann",
    "of",
    "Besançon",
    "08/15",
    "paid",
    "€1,024.50",
    "to",
    "d'Angers",
    "(née",
    "Li)",
    "Zoé",
    "at",
    "x@y.org/.",
]
ODD_TEXTS = {
    "words": "Ann of Besançon paid 1024 to Mr. O'Neil, née Li.",
    "lines": "Dear Ann,\r\n\r\nyour PIN is 4711.\r\n\tBye  \nLi\u2028x\x85y",
    "emoji": "👩‍👩‍👧👩‍👩‍👧 😀Ann😀 é\u0301\u0301 \ufeff🇫🇷🇫🇷",
    "a long word": "x1y2z3" * 40,
    "spaces": "a  b   c    d" + " " * 30 + "e\t\t\tf",
    "NUL": "Ann\0Li\0\0 PIN\0",
}


@pytest.fixture(scope="module", params=[DOCUMENTED, STRONG])
def tagger(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tagger:
    """A random head that finds much personal data, and many spans of several tokens."""
    folder = save_tiny_backbone(tmp_path_factory.mktemp("detect") / "backbone", vocab_size=131072)
    reader = Reader(load_backbone(str(folder), torch.float32), [1, 2])
    if request.param == DOCUMENTED:
        head = build_head(DOCUMENTED, 32, NUM_LABELS)
        with torch.no_grad():
            head.weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(3))
            head.bias.copy_(torch.tensor([0.5, 0.0, 1.5, 0.0, 0.0]))
        return Tagger(head, reader, [2])
    with torch.random.fork_rng():
        torch.manual_seed(3)
        head = build_head(STRONG, 64, NUM_LABELS)
        with torch.no_grad():
            head.classifier.weight.normal_(0, 0.6)
            head.classifier.bias.zero_()
            enter = [math.log(0.6), *[math.log(0.1), 0.0] * 4]
            moves = ([0.0, *[math.log(0.5)] * 8], enter, [0.0, *[math.log(0.5)] * 8])
            for part, move in zip(head.transitions.parameters(), moves, strict=True):
                part.copy_(torch.tensor(move))
    return Tagger(head, reader, [1, 2])


@pytest.fixture
def find(tagger: Tagger) -> Callable[..., list[list[Found]]]:
    return lambda texts, max_length=LONG, bias=0.0: detected(tagger, texts, max_length, bias)


def detected(tagger: Tagger, texts: list[str], max_length: int, bias: float = 0.0) -> list[list[Found]]:
    """detect.detect, read to its end."""
    return list(map(list, detect.detect(tagger, tekken.load(), texts, max_length, bias)))


def sentence(seed: int, words: int) -> str:
    choose = random.Random(seed)
    return " ".join(choose.choice(WORDS) for _ in range(words))


# The oracle


def tokens_of(text: str, pieces: Sequence[str] | None = None) -> tuple[list[int], list[int], list[int]]:
    """Token ids and the first and last + 1 character of each; the text tokenised whole, or each piece of it."""
    tokenizer = tekken.load()
    ids = [int(i) for piece in pieces or [text] for i in tokenizer.encode([piece]).token_ids]
    char_of_byte = [index for index, char in enumerate(text) for _ in char.encode()]
    starts, ends, byte = [], [], 0
    for token in ids:
        starts.append(char_of_byte[byte])
        byte += len(tokenizer.pieces[token])
        ends.append(char_of_byte[byte - 1] + 1)
    assert byte == len(char_of_byte)
    return ids, starts, ends


@torch.no_grad()
def scores_of(tagger: Tagger, ids: list[int], max_length: int) -> torch.Tensor:
    """[tokens, tags] log-probabilities: each window alone through backbone and head. Windows share a quarter of their
    length, or a token; of which the earlier one scores a third; the last window is moved left until it is full."""
    rows: list[torch.Tensor] = []
    shared = min(max_length - 1, max(1, max_length // 4))
    while len(rows) < len(ids):
        start = max(0, min(max(0, len(rows) - (shared - shared // 3)), len(ids) - max_length))
        window = torch.tensor([[1, *ids[start : start + max_length]]])
        states = tagger.reader.backbone(window, output_hidden_states=True)
        layers = [states.hidden_states[1], states.last_hidden_state][-len(tagger.layers) :]
        features = torch.cat([layer[0, 1:] for layer in layers], dim=-1)
        found = tagger.head(features, torch.tensor([len(features)])).log_softmax(-1)
        stop = len(found) if start + max_length >= len(ids) else len(found) - shared // 3
        rows.extend(found[len(rows) - start : stop])
    return torch.stack(rows) if rows else torch.zeros(0, tagger.head.num_tags)


def spans_by_loop(
    text: str, starts: list[int], ends: list[int], labels: list[int], begins: list[bool], scores: list[float]
) -> list[Found]:
    """spans_of_tags over the whole text (it has tests of its own), widened to whole words; a span's tokens are those
    of its label that have a character of it, and its score is their mean."""
    columns = (
        np.array(labels, np.int64),
        np.array(starts, np.uint32),
        np.array(ends, np.uint32),
        np.array(begins, bool),
    )
    spans, _ = spans_of_tags(JoinedText.of([text]), np.array([len(labels)]), *columns)
    found = []
    for start, end, label in widened(text, spans.tolist()):
        own = [i for i in range(len(labels)) if starts[i] < end and ends[i] > start and labels[i] == label]
        found.append(Found(start, end, label, sum(scores[i] for i in own) / len(own), len(own)))
    return found


def oracle(tagger: Tagger, text: str, max_length: int = LONG, pieces=None, bias: float = 0.0) -> list[Found]:
    """The text alone: tokens, windows, forward, argmax or Viterbi, spans."""
    ids, starts, ends = tokens_of(text, pieces)
    scores = scores_of(tagger, ids, max_length)
    probabilities = scores.exp().tolist()
    scores[:, 0] -= bias
    if tagger.transitions is None:
        labels = scores.argmax(-1).tolist()
        own = [row[label] for row, label in zip(probabilities, labels, strict=True)]
        return spans_by_loop(text, starts, ends, labels, [False] * len(ids), own)
    tags = viterbi(scores.numpy(), np.array([len(ids)]), tagger.transitions).tolist()
    labels = [(tag + 1) // 2 for tag in tags]
    own = [
        sum(row[2 * label - 1 : 2 * label + 1]) if label else row[0]
        for row, label in zip(probabilities, labels, strict=True)
    ]
    return spans_by_loop(text, starts, ends, labels, [tag % 2 == 1 for tag in tags], own)


def borders(found: list[Found]) -> list[tuple[int, int, int]]:
    """Without scores, for texts whose characters are split over tokens: those have a test of their own."""
    return [span[:3] for span in found]


def assert_same(found: list[Found], expected: list[Found]) -> None:
    """Borders, labels and token counts are equal, scores to 1e-4."""
    assert borders(found) == borders(expected)
    assert [span.tokens for span in found] == [span.tokens for span in expected]
    assert [span.score for span in found] == pytest.approx([span.score for span in expected], abs=1e-4)


# One text at a time


@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS)
def test_spans_and_scores_are_those_of_a_plain_loop(tagger, find, text):
    expected = oracle(tagger, text)
    assert expected
    if "😀" in text:
        assert borders(find([text])[0]) == borders(expected)
    else:
        assert_same(find([text])[0], expected)


def test_a_score_counts_no_token_of_another_label_that_shares_a_character():
    """An emoji of several tokens, the last of which has another label: the span's score is that of the first ones."""
    count = len(tokens_of("🫨")[0])
    assert count > 2
    scripted = Scripted(labels=[1] * (count - 1) + [2])
    assert_pieces_are_decoded_as_one_text("🫨", 10, scripted)


@pytest.mark.parametrize("max_length", [1, 2, 7, 16])
def test_texts_longer_than_a_window_are_found_as_by_a_plain_loop(tagger, find, max_length):
    text = sentence(1, 60)
    assert len(tokens_of(text)[0]) > 5 * max_length
    expected = oracle(tagger, text, max_length)
    assert len(expected) > 5
    assert_same(find([text], max_length)[0], expected)


@pytest.mark.parametrize("bias", [-3.0, 0.7, 3.0])
def test_the_bias_is_taken_off_the_logit_of_o(tagger, find, bias):
    text = sentence(2, 60)
    expected = oracle(tagger, text, bias=bias)
    assert [span[:3] for span in expected] != [span[:3] for span in oracle(tagger, text)]
    assert_same(find([text], bias=bias)[0], expected)


def test_a_large_bias_leaves_no_token_outside(find):
    text = sentence(3, 30)
    covered = {i for span in find([text], bias=1e9)[0] for i in range(span.start, span.end)}
    assert not [char for i, char in enumerate(text) if i not in covered and char.isalnum()]


@pytest.mark.parametrize("text", ["", " ", "\r\n\t \u2003\n" * 20], ids=["empty", "a space", "white space"])
def test_texts_without_a_word_have_no_spans(find, text):
    assert find([text], bias=1e9) == [[]]
    before, [span], after = find([text, "Ann", text], bias=1e9)
    assert span[:2] == (0, 3) and before == after == []


def test_no_texts_have_no_answers(find):
    assert find([]) == []


def test_scores_and_token_counts_are_plain_numbers(find):
    for span in find([sentence(4, 40)])[0]:
        assert [type(value) for value in span] == [int, int, int, float, int]
        assert 0 < span.score <= 1 and span.tokens > 0 and 0 < span.label_id < NUM_LABELS


def test_begins_keep_spans_of_touching_values_apart():
    def found(begins: list[bool]) -> list[tuple[int, int, int]]:
        scripted = Scripted()
        tagged = Tagged(np.array([1, 1, 0, 1], np.uint16), np.array(begins), np.full(4, 0.5, np.float32))
        scripted.predict = lambda *arguments: tagged
        return borders(detected(scripted, ["Ann Bob of Li"], LONG)[0])

    assert found([True, True, False, True]) == [(0, 3, 1), (4, 7, 1), (11, 13, 1)]
    assert found([True, False, False, True]) == [(0, 7, 1), (11, 13, 1)]


@pytest.mark.parametrize("tagger", [STRONG], indirect=True)
def test_a_begin_aware_head_finds_values_of_one_label_side_by_side(find):
    text = sentence(2, 60)
    neighbours = [(a, b) for a, b in pairwise(find([text])[0]) if text[a.end : b.start].isspace()]
    assert any(a.label_id == b.label_id for a, b in neighbours)


def test_scores_pass_through_the_calibration_where_there_is_one(tagger, find, monkeypatch):
    [plain] = find([sentence(4, 40)])
    monkeypatch.setattr(tagger, "calibration", [0.7, -1.2])
    [found] = find([sentence(4, 40)])
    assert borders(found) == borders(plain)
    expected = [1 / (1 + math.exp(1.2) * ((1 - span.score) / span.score) ** 0.7) for span in plain]
    assert [span.score for span in found] == pytest.approx(expected)


# Many texts at a time


@pytest.mark.parametrize("max_length", [9, LONG])
@pytest.mark.parametrize("tokens_per_forward", [1, 50, 1024])
def test_a_text_gives_the_same_alone_and_among_others_in_any_order(
    tagger, find, monkeypatch, max_length, tokens_per_forward
):
    texts = [*ODD_TEXTS.values(), "", "  ", *(sentence(seed, 3 * seed) for seed in range(8))]
    alone = [find([text], max_length)[0] for text in texts]
    monkeypatch.setattr(tagger.reader, "tokens_per_forward", tokens_per_forward)
    for seed in range(2):
        order = random.Random(seed).sample(range(len(texts)), len(texts))
        for index, found in zip(order, find([texts[i] for i in order], max_length), strict=True):
            assert_same(found, alone[index])


def test_threads_share_a_tagger_and_each_finds_what_one_alone_finds(tagger):
    texts = [sentence(seed, 3 + seed) for seed in range(24)]
    alone = [detected(tagger, [text], LONG) for text in texts]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda text: detected(tagger, [text], LONG), texts)) == alone


def test_spans_are_made_as_they_are_read_and_unread_ones_are_passed_over(monkeypatch):
    monkeypatch.setattr(detect, "PIECE", 40)
    texts, made, decode = [sentence(6, 400), "", sentence(7, 400), "Ann"], [], detect.decode

    def watched(*arguments: object) -> Iterator[tuple[int, Found]]:
        for pair in decode(*arguments):
            made.append(pair)
            yield pair

    monkeypatch.setattr(detect, "decode", watched)
    whole = detected(Scripted(), texts, LONG)
    made.clear()
    answers = detect.detect(Scripted(), tekken.load(), texts, LONG)
    first = next(answers)
    assert [next(first), next(first)] == whole[0][:2] and len(made) < 5 < len(whole[0]) // 10
    assert [list(spans) for spans in answers] == whole[1:]


# Pieces


@pytest.mark.parametrize("max_length", [16, LONG])
def test_pieces_cut_between_words_change_nothing(find, monkeypatch, max_length):
    texts = [sentence(seed, 60) for seed in range(4)]
    whole = find(texts, max_length)
    monkeypatch.setattr(detect, "PIECE", 40)
    cuts = [[start for start, _ in detect.cuts(text)][1:] for text in texts]
    crossed = [
        span
        for spans, at in zip(whole, cuts, strict=True)
        for span in spans
        for cut in at
        if span.start < cut < span.end
    ]
    assert len(crossed) > 3 and all(len(at) > 3 for at in cuts)
    for found, expected in zip(find(texts, max_length), whole, strict=True):
        assert_same(found, expected)


@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS)
@pytest.mark.parametrize("piece", [1, 2, 17, 40])
def test_pieces_cut_anywhere_give_the_spans_of_their_tokens_read_as_one_text(tagger, find, monkeypatch, piece, text):
    monkeypatch.setattr(detect, "PIECE", piece)
    pieces = [text[start:end] for start, end in detect.cuts(text)]
    assert borders(find(["Li", text, "Ann"])[1]) == borders(oracle(tagger, text, pieces=pieces))


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="ab \n\ré👩"), st.integers(1, 20))
def test_pieces_are_the_text_and_none_is_longer_than_allowed(text, piece):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detect, "PIECE", piece)
        pieces = list(detect.cuts(text))
    assert [start for start, _ in pieces] == [0, *(end for _, end in pieces[:-1])] and pieces[-1][1] == len(text)
    assert all(end - start <= piece for start, end in pieces) and (len(pieces) == 1 or all(a < b for a, b in pieces))


def test_a_piece_ends_before_a_space_where_there_is_one(monkeypatch):
    monkeypatch.setattr(detect, "PIECE", 40)
    text = sentence(5, 60)
    starts = [start for start, _ in detect.cuts(text)][1:]
    assert len(starts) > 3 and all(text[start] == " " for start in starts)


class Scripted:
    """In the place of a Tagger: label and probability of each token are drawn, whatever the token is, and its begin bit
    where the label leaves a choice."""

    calibration = None

    def __init__(self, draw: random.Random | None = None, labels: Sequence[int] = (), begins: bool = False) -> None:
        self.draw, self.labels, self.begins = draw, labels, begins

    def predict(self, token_ids, windows, offsets, bias) -> Tagged:
        count = len(token_ids)
        draw = self.draw or random.Random(0)
        probabilities = [draw.random() for _ in range(count)]
        labels = list(self.labels) or draw.choices([0, 1, 2], [1, 2, 1], k=count)
        assert len(labels) == count
        # as a path of begin-aware tags has them: another label always begins
        begins = [
            self.begins and label > 0 and (label != before or draw.random() < 0.4)
            for before, label in pairwise([0, *labels])
        ]
        self.columns = (labels, begins, probabilities)
        return Tagged(np.array(labels, np.uint16), np.array(begins, bool), np.array(probabilities, np.float32))


@pytest.fixture(scope="module", autouse=True)
def scripted_taggers_answer() -> Iterator[None]:
    """A Scripted tagger has no scores that could be decoded as they come: it is asked for its tags at once."""
    together = detect.predict_together

    def predicted(taggers, token_ids, windows, offsets) -> list[Tagged]:
        if isinstance(taggers[0][0], Scripted):
            return [tagger.predict(token_ids, windows, offsets, bias) for tagger, bias in taggers]
        return together(taggers, token_ids, windows, offsets)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detect, "predict_together", predicted)
        yield


def assert_pieces_are_decoded_as_one_text(text: str, piece: int, scripted: Scripted, scores: bool = True) -> None:
    """With the tags that `scripted` gives the tokens of the pieces."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detect, "PIECE", piece)
        pieces = [text[start:end] for start, end in detect.cuts(text)]
        [found] = detected(scripted, [text], LONG)
    _, starts, ends = tokens_of(text, pieces)
    expected = spans_by_loop(text, starts, ends, *scripted.columns)
    assert borders(found) == borders(expected)
    if scores:
        assert_same(found, expected)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(["Ann", "Li", "x", "4711", ".", "'s", "é"]), min_size=1),
    st.integers(3, 12),
    st.randoms(),
    st.booleans(),
)
def test_any_tags_on_words_with_one_space_between_give_the_spans_of_one_decode(words, piece, draw, begins):
    assert_pieces_are_decoded_as_one_text(" ".join(words), piece, Scripted(draw, begins=begins))


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab1 \n\r.,'/é👩", max_size=60), st.integers(1, 12), st.randoms(), st.booleans())
def test_any_tags_on_any_text_give_the_spans_of_one_decode(text, piece, draw, begins):
    assert_pieces_are_decoded_as_one_text(text, piece, Scripted(draw, begins=begins), scores=False)


def test_a_label_on_the_white_space_at_a_cut_joins_no_other_spans():
    """Before the cut Ann has label 1; after it the space alone has it too, 47 has none, and Bob has label 2."""
    text = "Ann 47 Bob"
    assert cut_at(text, 4) == [(0, 3), (3, 6), (6, 10)]
    assert_pieces_are_decoded_as_one_text(text, 4, Scripted(labels=[1, 1, 0, 0, 2]))


def cut_at(text: str, piece: int) -> list[tuple[int, int]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detect, "PIECE", piece)
        return list(detect.cuts(text))


def test_what_looks_like_plain_characters_is_found_where_it_stands(find):
    plain = "Ann Smith, ann@ex.com, 06 12 34, paypal 12/03"
    styled = "Ann Smith, ａｎｎ＠ｅｘ．ｃｏｍ, ０６ ١٢ 𝟑𝟒, pаypаl 12/03"
    assert len(styled) == len(plain) and styled != plain
    assert borders(find([styled])[0]) == borders(find([plain])[0]) != []
