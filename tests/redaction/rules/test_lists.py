"""Lists of a user's own: whole words, as many as one likes, and patterns that cannot hang."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pii.common import UserError
from pii.redaction.rules import lists
from pii.redaction.rules.lists import LISTED, Patterns, ValueList, labelled_patterns, parted, read_list, read_patterns


def values_in(text: str, values: list[str], fold: bool = False) -> list[str]:
    found = ValueList(dict.fromkeys(values, "A"), fold).find(text)
    return [text[start:end] for start, end, _ in found]


@pytest.mark.parametrize(
    ("text", "values", "folded", "found"),
    [
        ("Ann Lee and Anna", ["Ann"], False, ["Ann"]),
        ("Ann Lee and Anna", ["Ann", "Ann Lee"], False, ["Ann Lee"]),  # the longest
        ("ann Ann ANN", ["Ann"], False, ["Ann"]),  # case counts
        ("ann Ann ANN", ["Ann"], True, ["ann", "Ann", "ANN"]),
        ("Élodie  Müller, elodie muller", ["Elodie Müller"], True, ["Élodie  Müller", "elodie muller"]),
        ("E\u0301lodie", ["Élodie"], True, ["E\u0301lodie"]),
        ("Andre\u0301 est", ["André"], True, ["Andre\u0301"]),
        ("Ann\u0301 Ann", ["Ann"], False, ["Ann"]),  # not half of an accented letter
        ("straße STRASSE", ["Strasse"], True, ["straße", "STRASSE"]),
        ("A1 A12 12", ["A1", "12"], False, ["A1", "12"]),
        ("@ann #7, x@ann", ["@ann", "#7"], False, ["@ann", "#7", "@ann"]),
        ("Mercury-X", ["Mercury"], False, ["Mercury"]),
        ("AnnAnn", ["Ann"], False, []),
        ("", ["Ann"], True, []),
        ("Ann", [], False, []),
        ("Jean Paul Jean Jean", ["Jean Jean", "Jean"], False, ["Jean", "Jean Jean", "Jean"]),
        ("Ann Lee Smith", ["Ann Lee", "Lee Smith"], False, ["Ann Lee", "Lee Smith"]),
        ("Andre\u0301, Andr\u00e9", ["Andr\u00e9"], False, ["Andre\u0301", "Andr\u00e9"]),
        ("Andre\u0301, Andr\u00e9", ["Andre\u0301"], False, ["Andre\u0301", "Andr\u00e9"]),
    ],
)
def test_values_are_found_as_whole_words(text, values, folded, found):
    assert values_in(text, values, folded) == found


@settings(max_examples=200, deadline=None)
@given(st.text("ab ,", max_size=20), st.lists(st.text("ab ,", min_size=1, max_size=5).filter(str.strip), max_size=6))
def test_found_values_are_those_of_a_plain_search(text, values):
    values = [value.strip() for value in values]

    def is_border(place: int) -> bool:
        return place in (0, len(text)) or not (text[place - 1].isalnum() and text[place].isalnum())

    expected = []
    for place in range(len(text)):
        fits = [v for v in values if text.startswith(v, place) and is_border(place) and is_border(place + len(v))]
        if fits:
            expected.append((place, place + len(max(fits, key=len)), "A"))
    assert list(ValueList(dict.fromkeys(values, "A")).find(text)) == expected


def test_a_hundred_thousand_values_are_looked_up_at_once():
    values = {f"Name{number} Lee": "A" for number in range(100_000)}
    text = "Name7 Lee met Name99999 Lee and Nobody. " * 1000
    assert sum(1 for _ in ValueList(values).find(text)) == 2000


def test_patterns_find_nothing_empty():
    patterns = Patterns([("ID", r"EMP-\d{6}"), ("LONG", r"EMP-\d{7}"), ("NOTHING", r"x*")])
    assert list(patterns.find("EMP-1234567")) == [(0, 10, "ID"), (0, 11, "LONG")]


@pytest.mark.parametrize("entry", [("Ann", ""), ("Ann", None), (7, "A"), ("Ann", "A\nB"), (b"Ann", "A")])
def test_what_is_no_value_or_no_label_is_one_line(entry):
    with pytest.raises(UserError, match="no text, or a label"):
        parted([entry])


def test_a_pattern_that_takes_too_long_ends_in_one_line(monkeypatch):
    monkeypatch.setattr(lists, "SECONDS", 0.05)
    with pytest.raises(UserError, match="make it simpler"):
        list(Patterns([("A", r"(?:a+)+\\1?$|(a|aa|a?)*b")]).find("a" * 5000 + "c"))


@pytest.mark.parametrize("pattern", ["(", "[a", "(?P<x>", "*"])
def test_what_is_no_pattern_is_refused(pattern):
    with pytest.raises(UserError, match="is none"):
        Patterns([("A", pattern)])


def test_files_hold_a_value_or_a_pattern_a_line(tmp_path):
    path = tmp_path / "list"
    path.write_bytes("\ufeff# staff\r\nAnn Lee\tSTAFF\r\n\r\n/EMP-\\d+/\tEMPLOYEEID\r\nBob\r\n".encode())
    assert read_list(path, labelled=True) == [("Ann Lee", "STAFF"), ("/EMP-\\d+/", "EMPLOYEEID"), ("Bob", LISTED)]
    path.write_text("Ann\tLee\n", encoding="utf-16")
    assert read_list(path, labelled=False) == [("Ann\tLee", LISTED)]
    assert parted([("Ann", "A"), ("/b+/", "B")]) == ({"Ann": "A"}, [("B", "b+")])


@pytest.mark.parametrize("held", ["[]", "7", '{"A": 7}', '{"A": [7]}', '{"A": ""}', '{"": "a"}', "{", "[" * 100_000])
def test_a_file_of_patterns_that_is_none_is_one_line(tmp_path, held):
    path = tmp_path / "patterns.json"
    path.write_text(held)
    with pytest.raises(UserError, match="label to pattern"):
        read_patterns(path)


def test_a_label_has_one_pattern_or_several(tmp_path):
    (tmp_path / "p.json").write_text('{"A": "a", "B": ["b", "c"]}')
    assert read_patterns(tmp_path / "p.json") == [("A", "a"), ("B", "b"), ("B", "c")]
    assert labelled_patterns({"A": "a"}, "patterns") == [("A", "a")]
