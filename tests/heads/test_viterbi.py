"""Viterbi over batches of texts against brute force and the textbook's Viterbi over a table of all moves. Scores are
multiples of 1/1024, so that sums are exact, in any order, and ties are ties."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pii.heads import viterbi


def moves(transitions: viterbi.Transitions) -> np.ndarray:
    """The whole table [tags, tags] float64 of log-probabilities from a tag to the next."""
    num_tags = len(transitions.leave)
    table = np.full((num_tags, num_tags), -np.inf)
    for before in range(num_tags):
        for after in range(num_tags):
            if after == 0 or after % 2 == 1:
                table[before, after] = float(transitions.leave[before]) + float(transitions.enter[after])
            elif before in (after - 1, after):
                table[before, after] = transitions.stay[before]
    return table


def path_score(path, scores: np.ndarray, transitions: viterbi.Transitions) -> float:
    """Of one text; -inf if the path is illegal."""
    table = moves(transitions)
    start = sum(float(transitions.enter[tag]) for tag in path[:1])
    return start + sum(table[i, j] for i, j in pairwise(path)) + sum(float(scores[t, i]) for t, i in enumerate(path))


def brute_force(scores: np.ndarray, transitions: viterbi.Transitions) -> list[int]:
    """The best of all paths, of those that tie the one with the lower tags, compared from the last token backwards."""
    paths = product(range(scores.shape[1]), repeat=len(scores))
    return list(min(paths, key=lambda path: (-path_score(path, scores, transitions), path[::-1])))


def dense_viterbi(scores: np.ndarray, transitions: viterbi.Transitions) -> list[int]:
    """The textbook's, of one text, in float64."""
    if len(scores) == 0:
        return []
    table, best, pointers = moves(transitions), transitions.enter + scores[0].astype(np.float64), []
    for row in scores[1:]:
        candidates = best[:, None] + table
        pointers.append(candidates.argmax(axis=0))
        best = candidates.max(axis=0) + row
    path = [int(best.argmax())]
    for pointer in reversed(pointers):
        path.append(int(pointer[path[-1]]))
    return path[::-1]


def is_legal(path: list[int]) -> bool:
    """Each tag that continues a span (2, 4, ...) follows one of its label."""
    return all(tag == 0 or tag % 2 == 1 or before in (tag - 1, tag) for before, tag in pairwise([0, *path]))


def as_transitions(leave, enter, stay) -> viterbi.Transitions:
    """With -inf where a move is illegal."""
    leave, enter, stay = (np.array(values, dtype=np.float32) for values in (leave, enter, stay))
    enter[2::2], stay[0] = -np.inf, -np.inf
    return viterbi.Transitions(leave, enter, stay)


def drawn_transitions(rng: np.random.Generator, num_labels: int, low: int, high: int, grid: int) -> viterbi.Transitions:
    return as_transitions(*(rng.integers(low * grid, high * grid, (3, 2 * num_labels - 1), endpoint=True) / grid))


def drawn_scores(rng: np.random.Generator, tokens: int, num_labels: int, low: int, high: int, grid: int) -> np.ndarray:
    drawn = rng.integers(low * grid, high * grid, (tokens, 2 * num_labels - 1), endpoint=True) / grid
    return drawn.astype(np.float32)


def uniform_transitions(num_labels: int) -> viterbi.Transitions:
    return as_transitions(*np.zeros((3, 2 * num_labels - 1)))


def decoded(scores: np.ndarray, token_counts: list[int], transitions: viterbi.Transitions) -> list[list[int]]:
    """viterbi, as one list of tags a text."""
    kept = scores.copy()
    tags = viterbi.viterbi(scores, np.array(token_counts, dtype=np.int64), transitions)
    assert tags.dtype == np.uint16 and tags.shape == (len(scores),) and np.array_equal(scores, kept)
    return [of_text.tolist() for of_text in texts_apart(tags, token_counts)]


def texts_apart(array: np.ndarray, token_counts: list[int]) -> list[np.ndarray]:
    return np.split(array, np.cumsum(token_counts, dtype=np.int64)[:-1]) if len(token_counts) else []


def random_legal_tags(rng: np.random.Generator, tokens: int, num_labels: int) -> list[int]:
    """Of one text: about half of the tokens that can continue a span do."""
    path = []
    for _ in range(tokens):
        label = (path[-1] + 1) // 2 if path else 0
        fresh = 2 * int(rng.integers(1, num_labels)) - 1 if rng.random() < 0.5 else 0
        path.append(2 * label if label and rng.random() < 0.5 else fresh)
    return path


@pytest.mark.parametrize("high", [1, 3])  # a tie in nearly every case, and in some
def test_no_path_is_better_than_the_decoded_one_and_ties_go_to_lower_tags(high):
    rng = np.random.default_rng(high)
    for tokens in [0, 1, 1, 2, 2, 2, *[3] * 30, *[4] * 12, *[5] * 2]:
        transitions = drawn_transitions(rng, num_labels=2, low=-high, high=0, grid=1)
        scores = drawn_scores(rng, tokens, num_labels=2, low=-high, high=high, grid=1)
        assert decoded(scores, [tokens], transitions) == [brute_force(scores, transitions)]


@pytest.mark.parametrize(("num_labels", "grid"), [(1, 2), (2, 1), (3, 2), (57, 2), (57, 1024)])
def test_batches_with_empty_texts_are_decoded_as_the_textbook_decodes_each_text(num_labels, grid):
    rng = np.random.default_rng(num_labels)
    counts = [0, 3, 1, 0, 0, 20, 7, 20, 1, 96, 2, 0, *rng.integers(0, 40, 10).tolist(), 0]
    scores = drawn_scores(rng, sum(counts), num_labels, low=-4, high=0, grid=grid)
    transitions = drawn_transitions(rng, num_labels, low=-3, high=0, grid=grid)
    paths = decoded(scores, counts, transitions)
    assert paths == [dense_viterbi(part, transitions) for part in texts_apart(scores, counts)]
    assert all(is_legal(path) for path in paths)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.lists(st.integers(0, 8), max_size=6), st.sampled_from([0, 1, 1024]), st.integers(0, 2**32))
def test_any_batch_is_decoded_as_the_textbook_decodes_each_text(num_labels, counts, grid, seed):
    rng = np.random.default_rng(seed)
    scores = drawn_scores(rng, sum(counts), num_labels, low=-3, high=0, grid=max(grid, 1)) * (grid > 0)  # 0: all tie
    transitions = drawn_transitions(rng, num_labels, low=-2, high=0, grid=max(grid, 1))
    paths = decoded(scores, counts, transitions)
    assert paths == [dense_viterbi(part, transitions) for part in texts_apart(scores, counts)]


def test_scores_and_transitions_as_a_model_gives_them_are_decoded_as_well_as_by_the_textbook():
    """Here sums are rounded, so that the best two paths may change places: compared by score."""
    rng = np.random.default_rng(5)
    counts = [60, 1, 0, 96, 33]
    gold = [random_legal_tags(rng, count, num_labels=57) for count in counts]
    tags = np.array([tag for path in gold for tag in path], dtype=np.uint16)
    transitions = as_transitions(*rng.normal(scale=2, size=(3, 113)))
    logits = rng.normal(scale=2, size=(len(tags), 113)) + 4 * (tags[:, None] == np.arange(113))
    scores = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    paths = decoded(scores, counts, transitions)
    for path, part in zip(paths, texts_apart(scores, counts), strict=True):
        best = path_score(dense_viterbi(part, transitions), part, transitions)
        assert path_score(path, part, transitions) == pytest.approx(best, abs=1e-3) and is_legal(path)


def test_a_legal_path_of_best_tags_is_decoded_as_it_is_if_all_moves_are_alike():
    rng = np.random.default_rng(6)
    counts = [0, 50, 1, 96, 0]
    expected = [random_legal_tags(rng, count, num_labels=57) for count in counts]
    scores = drawn_scores(rng, sum(counts), num_labels=57, low=-9, high=-1, grid=1024)
    scores[np.arange(len(scores)), [tag for path in expected for tag in path]] = 0
    assert decoded(scores, counts, uniform_transitions(57)) == expected


def test_no_text_starts_with_a_continuation_however_likely_and_none_goes_on_over_the_end_of_a_text():
    scores = np.full((4, 5), -9, dtype=np.float32)
    scores[:, 2] = 0  # every token looks like a continuation of label 1
    scores[:, 1] = -8
    assert decoded(scores, [1, 1, 2], uniform_transitions(3)) == [[1], [1], [1, 2]]


def test_a_continuation_of_another_label_is_not_decoded():
    scores = np.full((3, 5), -9, dtype=np.float32)
    scores[0, 1] = scores[1, 4] = scores[2, 4] = 0  # begin of label 1, then continuations of label 2
    scores[0, 3] = -2
    assert decoded(scores, [3], uniform_transitions(3)) == [[3, 4, 4]]


def test_a_tie_goes_to_the_lower_tag():
    assert decoded(np.zeros((3, 5), dtype=np.float32), [3], uniform_transitions(3)) == [[0, 0, 0]]
    scores = np.full((2, 5), -1, dtype=np.float32)
    scores[1, 2] = scores[1, 4] = 1
    assert decoded(scores, [2], uniform_transitions(3)) == [[1, 2]]


def test_no_texts_give_no_tags():
    scores, transitions = np.zeros((0, 5), dtype=np.float32), uniform_transitions(3)
    assert decoded(scores, [], transitions) == []
    assert decoded(scores, [0, 0], transitions) == [[], []]


def test_a_very_long_text_is_decoded_to_the_last_digit():
    """Its sums, about -100,000, leave a float32 no digits for steps of 1/1024."""
    rng = np.random.default_rng(7)
    scores = drawn_scores(rng, 10_000, num_labels=3, low=-18, high=-10, grid=1024)
    transitions = drawn_transitions(rng, num_labels=3, low=-4, high=0, grid=1024)
    assert decoded(scores, [10_000], transitions) == [dense_viterbi(scores, transitions)]
