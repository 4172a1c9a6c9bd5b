"""Synthetic rows: exact spans, all types, skeletons that never vary."""

import random
import re
from collections import Counter
from itertools import pairwise

import pytest

from pii.synthetic import sentences
from pii.synthetic.sources import DOCUMENT_LOCALES
from pii.synthetic.values import Values
from tests.synthetic.conftest import TYPES

FOLDER = sentences.SKELETON_FOLDER


def skeletons_of(language: str) -> list[str]:
    text = (FOLDER / f"{language}.txt").read_text(encoding="utf-8")
    return re.split(r"\n---\n", text)


def folded(text: str) -> str:
    """What two rows of one skeleton have in common: no digits, no white space, no case."""
    return re.sub(r"[\d\s]", "", text).casefold()


# Spans


def test_spans_lie_in_range_in_order_apart_and_without_white_space_at_their_edges(rows):
    for row in rows:
        text, spans = row["unmasked_text"], row["span_labels"]
        assert all(0 <= start < end <= len(text) for start, end, _ in spans)
        assert all(first[1] <= second[0] for first, second in pairwise(spans))
        assert all(text[start:end] == text[start:end].strip() for start, end, _ in spans)


def test_text_around_the_spans_is_a_whole_skeleton(rows):
    """Were an offset one off, a letter of a value would stay in the text or a letter of the skeleton would go."""
    known = {
        folded(re.sub(r"\{#+\}", "", skeleton)) for language in ("en", "fr") for skeleton in skeletons_of(language)
    }
    seen = set()
    for row in rows:
        text = row["unmasked_text"]
        for start, end, label in reversed(row["span_labels"]):
            text = f"{text[:start]}{{{label}}}{text[end:]}"
        seen.add(folded(text))
    # Digits of labels (IPV4) are folded on both sides.
    assert seen <= known
    assert len(seen) > 300


def test_every_type_occurs_eight_times_in_both_languages(values):
    for language in ("en", "fr"):
        counts = {label: sum(found == language for found, _ in pairs) for label, pairs in values.items()}
        assert {label: count for label, count in counts.items() if count < 8} == {}


def test_half_of_the_rows_are_french_in_mixed_order(rows):
    languages = [row["language"] for row in rows]
    assert Counter(languages) == {"en": 1000, "fr": 1000}
    assert 900 < sum(a != b for a, b in pairwise(languages)) < 1100


def test_eight_percent_of_the_rows_hold_no_pii(rows):
    assert 0.07 <= sum(not row["span_labels"] for row in rows) / len(rows) <= 0.09


def test_some_spans_touch_and_some_hold_a_line_break(rows, values):
    touching = sum(a[1] == b[0] for row in rows for a, b in pairwise(row["span_labels"]))
    assert touching > 50
    assert sum("\n" in value for pairs in values.values() for _, value in pairs) > 10


# Skeletons


@pytest.mark.parametrize("language", ["en", "fr", "target_en", "target_fr"])
def test_there_are_150_different_skeletons_of_which_20_hold_no_pii(language):
    skeletons = skeletons_of(language)
    assert len(skeletons) >= 150
    assert len({folded(skeleton) for skeleton in skeletons}) == len(skeletons)
    assert sum(not re.search(r"\{[A-Z]", skeleton) for skeleton in skeletons) >= 20


@pytest.mark.parametrize("language", ["en", "fr", "target_en", "target_fr"])
def test_placeholders_are_types_or_digits_and_each_type_stands_in_four_skeletons(language):
    stands_in: Counter = Counter()
    for skeleton in skeletons_of(language):
        keys = set(re.findall(r"\{([^{}\s\"]+)\}", skeleton))
        stands_in.update(key for key in keys if set(key) != {"#"})
    assert set(stands_in) == TYPES
    assert min(stands_in.values()) >= 4


def test_french_rows_hold_no_break_spaces_before_double_punctuation_but_not_in_values(rows):
    signs: Counter = Counter()
    for row in rows:
        if row["language"] == "fr":
            signs.update(re.findall(r"(.)[:;!?»](?=\s|$)", row["unmasked_text"]))
            for start, end, label in row["span_labels"]:
                assert label not in ("URL", "EMAIL", "IPV6", "MAC") or not re.search(
                    r"\s", row["unmasked_text"][start:end]
                )
    assert signs["\u00a0"] > signs["\u202f"] > 0
    assert signs[" "] > 0


@pytest.mark.parametrize("language", ["en", "fr"])
def test_documents_are_different_skeletons_of_types_and_digits(language):
    skeletons = skeletons_of(f"documents_{language}")
    assert len({folded(skeleton) for skeleton in skeletons}) == len(skeletons) > 140
    keys = {key for skeleton in skeletons for key in re.findall(r"\{([^{}\s\"]+)\}", skeleton)}
    assert {key.partition(":")[0] for key in keys if set(key) != {"#"}} <= TYPES


@pytest.mark.parametrize("language", ["en", "fr"])
def test_every_key_of_documents_has_values_in_each_of_their_locales(language):
    keys = {
        key for text in skeletons_of(f"documents_{language}") for key in re.findall(r"\{(?:\w+:)?([A-Z]\w+)\}", text)
    }
    assert {"en": "COUNTRY", "fr": "HOSPITAL"}[language] in keys
    values = Values(random.Random(0), 0)
    for locale in sorted(set(DOCUMENT_LOCALES[language])):
        values.start_row(locale)
        for key in sorted(keys) * 5:
            value = values.make(key)
            assert value == value.strip() != "" and "{" not in value, key


def test_a_key_after_a_colon_says_how_a_value_of_the_type_before_it_is_made():
    values = Values(random.Random(0), 0)
    row = sentences.make_document_row("Vu en {DATE:YEAR} à {COMPANYNAME:HOSPITAL}.", "fr", values)
    (start, end, year), (_, _, hospital) = row["span_labels"]
    assert (year, hospital) == ("DATE", "COMPANYNAME") and re.fullmatch(r"\d( ?\d){3}", row["unmasked_text"][start:end])


def test_some_french_documents_have_their_dates_and_numbers_in_cells():
    values = Values(random.Random(0), 0)
    texts = [
        sentences.make_document_row("{DOB} {ACCOUNTNUMBER:IPP} {CITY}", "fr", values)["unmasked_text"]
        for _ in range(500)
    ]
    assert 5 < sum(bool(re.match(r"(\d ){8,}", text)) for text in texts) < 60


def test_rows_of_documents_are_of_their_skeletons_alone():
    for row in sentences.synthesize(60, seed=0, style="documents"):
        assert row["span_labels"] or row["language"] == "en"  # the French ones all hold personal data
        assert all(row["unmasked_text"][start:end].strip() for start, end, _ in row["span_labels"])
