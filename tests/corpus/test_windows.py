"""Windows and batches lose no token."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pii.corpus.windows import length_sorted_batches, make_windows

row_lengths = st.lists(st.integers(1, 40), max_size=12)


@settings(max_examples=150, deadline=None)
@given(row_lengths, st.integers(1, 30))
@example([1, 4, 5, 8, 97], 1)
@example([1, 4, 5, 8, 97], 4)
@example([], 96)
def test_every_token_is_scored_exactly_once_and_no_window_is_too_long(lengths, max_length):
    offsets = np.array([0, *np.cumsum(lengths)], dtype=np.int64)
    windows = make_windows(offsets, max_length)
    scored = [0] * sum(lengths)
    for row, start, stop, scored_from, scored_to in zip(*vars(windows).values(), strict=True):
        assert offsets[row] <= start <= scored_from < scored_to <= stop <= offsets[row + 1]
        assert stop - start <= max_length
        for token in range(scored_from, scored_to):
            scored[token] += 1
    assert scored == [1] * sum(lengths)
    assert sorted(windows.row.tolist()) == windows.row.tolist() and len(windows) == len(windows.row)


@settings(max_examples=100, deadline=None)
@given(row_lengths, st.integers(4, 30))
def test_every_window_but_a_rows_first_has_left_context(lengths, max_length):
    assert_left_context(lengths, max_length)


@pytest.mark.parametrize("max_length", [2, 3])
def test_even_the_shortest_windows_have_left_context(max_length):
    assert_left_context([1, 2, 3, 4, 5, 9, 10], max_length)


def assert_left_context(lengths: list[int], max_length: int) -> None:
    offsets = np.array([0, *np.cumsum(lengths)], dtype=np.int64)
    windows = make_windows(offsets, max_length)
    for row in range(len(lengths)):
        of_row = np.flatnonzero(windows.row == row)
        assert windows.start[of_row[0]] == windows.scored_from[of_row[0]] == offsets[row]
        for before, window in pairwise(of_row):
            assert windows.start[window] < windows.scored_from[window] == windows.scored_to[before]


@settings(max_examples=100, deadline=None)
@given(row_lengths, st.integers(1, 30))
def test_windows_overlap_by_a_quarter_two_thirds_left_context_and_one_third_right(lengths, max_length):
    offsets = np.array([0, *np.cumsum(lengths)], dtype=np.int64)
    windows = make_windows(offsets, max_length)
    overlap = min(max_length - 1, max(1, max_length // 4))
    for row, end in enumerate(offsets[1:]):
        of_row = np.flatnonzero(windows.row == row)
        assert windows.scored_to[of_row[-1]] == windows.stop[of_row[-1]] == end
        for number, (before, window) in enumerate(pairwise(of_row), start=2):
            shared = windows.stop[before] - windows.start[window]
            assert shared == overlap if number < len(of_row) else shared >= overlap
            assert windows.lengths[before] == windows.lengths[window] == max_length
            assert windows.stop[before] - windows.scored_to[before] == overlap // 3
            assert windows.scored_from[window] - windows.start[window] == shared - overlap // 3


@settings(max_examples=60, deadline=None)
@given(row_lengths, st.integers(1, 30), st.data())
def test_tokens_and_places_are_those_of_a_loop_over_the_windows(lengths, max_length, data):
    windows = make_windows(np.array([0, *np.cumsum(lengths)], dtype=np.int64), max_length)
    chosen = data.draw(st.permutations(range(len(windows))))
    windows = windows[np.array(chosen[: len(chosen) // 2 + 1], dtype=np.int64)]
    tokens, scored, places = [], [], []
    for _, start, stop, scored_from, scored_to in zip(*vars(windows).values(), strict=True):
        places += range(len(tokens) + scored_from - start, len(tokens) + scored_to - start)
        tokens += range(start, stop)
        scored += range(scored_from, scored_to)
    assert windows.tokens().tolist() == tokens and windows.scored_tokens().tolist() == scored
    assert windows.scored_places().tolist() == places
    assert [tokens[place] for place in places] == scored
    assert (windows.lengths.sum(), windows.scored_counts.sum()) == (len(tokens), len(scored))


@settings(max_examples=60, deadline=None)
@given(row_lengths, st.integers(0, 5))
def test_a_row_that_fits_is_one_window(lengths, room):
    offsets = np.array([0, *np.cumsum(lengths)], dtype=np.int64)
    windows = make_windows(offsets, max([*lengths, 1]) + room)
    assert windows.row.tolist() == list(range(len(lengths)))
    assert (windows.start.tolist(), windows.stop.tolist()) == (offsets[:-1].tolist(), offsets[1:].tolist())
    assert windows.scored_from.tolist() == windows.start.tolist()
    assert windows.scored_to.tolist() == windows.stop.tolist()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 200))
def test_batches_hold_every_window_once_within_the_budget(lengths, budget):
    batches = list(length_sorted_batches(np.array(lengths, dtype=np.int64), budget))
    assert sorted(i for batch in batches for i in batch.tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget
    in_order = [lengths[i] for batch in batches for i in batch]
    assert in_order == sorted(lengths, reverse=True)
