"""Rows of one sentence or one text are one group, and the others' groups are as they were."""

import unicodedata
from hashlib import blake2b

import numpy as np
import pytest

from pii.corpus.doubts.grouping import contradicting, keys_of, merged, quick_span_hashes, span_hashes
from pii.corpus.rows import Row, skeleton


def row(text: str, *spans: tuple[int, int, str]) -> Row:
    return Row(text, "en", list(spans), 0, 0)


BASE = row("Ask Zoé about 17", (4, 7, "NAME"))


@pytest.mark.parametrize(
    ("other", "same_group", "contradicts"),
    [
        (BASE, True, False),
        (row("Ask Zoé about 17"), True, True),
        (row("Ask Zoé about 17", (4, 7, "FRIEND")), True, True),
        (row("Ask Zoé about 17", (4, 7, "NAME"), (14, 16, "AGE")), True, True),
        (row("Ask Zoé about 17", (4, 13, "NAME")), True, True),
        (row(" Ask  Zoé\nabout 17\n"), True, True),
        (row(" Ask  Zoé\nabout 17\n", (6, 9, "NAME")), True, False),
        (row("ASK ZOÉ about 17"), True, True),
        (row(unicodedata.normalize("NFD", BASE.text)), True, True),
        (row(unicodedata.normalize("NFD", BASE.text), (4, 8, "NAME")), True, False),
        (row("Ask Bob about 18", (4, 7, "NAME")), True, False),
        (row("Ask Zoé about 18"), False, False),  # another text: only the sentence around other spans is like
        (row("Ask Bob about 17", (4, 7, "FRIEND")), False, False),
    ],
)
def test_rows_of_one_text_are_one_group_whatever_their_spans_are(other, same_group, contradicts):
    rows = [BASE, other]
    groups = keys_of(rows).groups()
    assert (groups[0] == groups[1]) == same_group
    assert contradicting(keys_of(rows).texts, span_hashes(rows)).tolist() == [contradicts] * 2


def test_accents_written_otherwise_are_the_same_sentence_with_other_values_too():
    rows = [row("Hé Ann", (3, 6, "NAME")), row(unicodedata.normalize("NFD", "Hé Bob"), (4, 7, "NAME"))]
    groups = keys_of(rows).groups()
    assert groups[0] == groups[1]


def test_digits_that_one_row_calls_a_value_and_another_does_not_contradict_in_one_skeleton():
    rows = [row("Call 06 12", (5, 10, "PHONE")), row("Call 06 12", (5, 7, "PHONE"))]
    assert skeleton(rows[0]) == skeleton(rows[1])
    assert contradicting(keys_of(rows).texts, span_hashes(rows)).all()
    counts = np.array([1, 1])
    assert len(set(quick_span_hashes(np.array([[5, 10, 1], [5, 7, 1]]), counts).tolist())) == 2


def test_groups_that_share_no_key_keep_their_names():
    rows = [row(f"word {chr(97 + i)} Zoé", (7, 10, "NAME")) for i in range(20)] * 2
    keys = keys_of(rows)
    assert keys.groups().tolist() == keys.skeletons.tolist() and len(set(keys.skeletons.tolist())) == 20


def test_groups_are_merged_through_others():
    groups = np.array([9, 7, 7, 5, 5, 3, 1, 8], dtype=np.uint64)
    keys = np.array([1, 1, 2, 2, 3, 3, 4, 5], dtype=np.uint64)
    assert merged(groups, keys).tolist() == [3, 3, 3, 3, 3, 3, 1, 8]
    assert merged(groups, np.arange(8), keys).tolist() == [3, 3, 3, 3, 3, 3, 1, 8]
    assert merged(groups, np.arange(8)).tolist() == groups.tolist()


def test_a_long_chain_of_groups_is_one_in_reasonable_time():
    n = 200_000
    groups = np.repeat(np.arange(n), 2)
    keys = np.append(np.arange(1, 2 * n) // 2, n)
    assert not merged(groups, keys).any()
    assert not merged(groups[::-1], keys[::-1]).any()


def test_hashes_of_bytes_are_those_of_the_skeleton():
    """ASCII goes another way than the rest, to the same bytes."""
    text = "Order 17\t of\x1cAnn\x85 LEE " + "".join(map(chr, range(1, 128)))
    rows = [row(text, (14, 17, "NAME")), row(text + "é", (14, 17, "NAME"))]
    expected = [int.from_bytes(blake2b(skeleton(r).encode(), digest_size=8).digest()) for r in rows]
    assert keys_of(rows).skeletons.tolist() == expected
    ascii_row = row(text.replace("\x85", ""), (13, 16, "NAME"))
    expected = int.from_bytes(blake2b(skeleton(ascii_row).encode(), digest_size=8).digest())
    assert keys_of([ascii_row]).skeletons.tolist() == [expected]


def test_no_rows_have_no_groups():
    assert len(keys_of([]).groups()) == 0 and len(span_hashes([])) == 0
