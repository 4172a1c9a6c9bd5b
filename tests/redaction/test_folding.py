"""Characters as the model should read them: promises of folding.py."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pii.redaction.folding import LOOK_ALIKES, folded, plain_forms


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("ｊｏｈｎ＠ｅｘ．ｃｏｍ", "john@ex.com"),
        ("０６ １２ ３４", "06 12 34"),
        ("٠٦ ١٢ and ०६", "06 12 and 06"),
        ("𝐀𝐧𝐧𝐚 𝟙𝟚, Ⓑⓞⓑ ①", "Anna 12, Bob 1"),
        ("pаypаl.com, Реtеr, Αnna Ѕmith", "paypal.com, Peter, Anna Smith"),  # with Cyrillic or Greek letters
        ("Иван Петров, Москва", "Иван Петров, Москва"),  # words of another alphabet stay
        ("α-tocopherol, 12 µm, 5 °C, 3 m²", "α-tocopherol, 12 µm, 5 °C, 3 m²"),
        ("François paye 12,50 € … « oui » – l’été, 1\u202f234", "François paye 12,50 € … « oui » – l’été, 1\u202f234"),
        ("e\u0301 ½ ﬁ 北京 👩‍👩‍👧", "e\u0301 ½ ﬁ 北京 👩‍👩‍👧"),
        ("", ""),
    ],
)
def test_characters_are_read_as_what_they_look_like(text, read):
    assert folded(text) == read


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_each_character_is_read_as_one_and_reading_twice_changes_nothing(text):
    assert len(folded(text)) == len(text) and folded(folded(text)) == folded(text)


def test_latin_1_and_white_space_are_read_as_they_are():
    assert folded("".join(map(chr, range(256)))) == "".join(map(chr, range(256)))
    assert not any(chr(point).isspace() for point in plain_forms())


def test_look_alikes_are_letters_of_other_alphabets_for_latin_ones():
    for point, latin in LOOK_ALIKES.items():
        assert chr(latin).isascii() and chr(latin).isalpha()
        assert unicodedata.name(chr(point)).split()[0] in ("CYRILLIC", "GREEK", "ARMENIAN", "LATIN")
        assert chr(point).isupper() == chr(latin).isupper()
