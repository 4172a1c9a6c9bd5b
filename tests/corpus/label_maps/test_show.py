"""Shapes of values, and which labels rows have: nothing that is shown can be a value."""

import pytest

from pii.corpus.label_maps.show import print_labels, shape
from pii.corpus.sources.source import Source


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("Ann Lee", "Aaa Aaa"),
        ("O’Brien-Zoé", "A?Aaaaa-Aaa"),
        ("a.b@c.fr", "a.a@a.aa"),
        ("+33 6 12", "+99 9 99"),
        ("३½", "99"),
        ("日本\n🙂\x1b", "aa ??"),
        ("x" * 41, "a" * 40 + "…"),
    ],
)
def test_a_shape_has_no_letter_and_no_digit_of_the_value(value, told):
    assert shape(value) == told


def test_labels_are_shown_with_counts_shapes_and_what_a_map_calls_them(write_rows, capsys):
    rows = [{"unmasked_text": "Ann Lee, 7", "span_labels": [[0, 3, "N"], [4, 7, "N_2"], [9, 10, "AGE"]]}]
    path = write_rows([*rows, {"unmasked_text": "Ann", "span_labels": [[0, 9, "N"]]}, "broken"])
    print_labels([Source(path)], (), {"N": "NAME"})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["2", "N", "Aaa", "→", "NAME"] and lines[1].split() == ["1", "AGE", "9"]
    assert lines[2] == "3 spans of 2 labels in 3 rows"
    assert lines[3].startswith("2 rows refused (1 offsets out of range, 1 broken JSON; the first is ")
    assert lines[3].endswith("rows.jsonl line 2: offsets out of range)") and len(lines) == 4
