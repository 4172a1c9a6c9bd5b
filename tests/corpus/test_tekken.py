"""The tokenizer gives mistral-common's ids, and places that are exact to the byte."""

import hashlib
from pathlib import Path

import mistral_common
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pii.corpus import tekken

AWKWARD = [
    "",
    " ",
    "Hello John Smith, email: john@example.com",
    "  two  spaces\tand\n\nlines\r\n ",
    "no-break\u00a0space\u202fand\u3000ideographic\u0085next line\u2028separator",
    "👨\u200d👩\u200d👧 👍🏽 🇫🇷 ❤\ufe0f 𝔘 \U000e0001",
    "e\u0301 é ñ n\u0303\u0323 Ångström, cœur, straße",
    "张伟住在北京市 محمد سَلَام नमस्ते 한국어 שלום",
    "tel. 06 12 34 56 78, 1978-06-21, ٣٤, ½, ²",
    "<s>[INST]Bob[/INST]</s><unk><pad>[TOOL_CALLS]",
    "\0\x07\x1b\x7f\ufeff\ufffd\uffff\U0010ffff",
    "aaaaaaaaaaaaaaaa" * 64,
]

texts = st.lists(st.text(max_size=20) | st.sampled_from(AWKWARD), max_size=6)


@pytest.fixture(scope="module")
def reference():
    """mistral-common's own tokenizer, through its documented door."""
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    return MistralTokenizer.v3(is_tekken=True).instruct_tokenizer.tokenizer


def per_text(encoded: tekken.TokenizedTexts) -> list[list[int]]:
    """The ids of each text."""
    ends = np.cumsum(encoded.token_counts)
    return [
        encoded.token_ids[end - count : end].tolist() for end, count in zip(ends, encoded.token_counts, strict=True)
    ]


@settings(max_examples=100, deadline=None)
@given(texts)
def test_ids_are_those_of_mistral_common(reference, batch):
    assert per_text(tekken.load().encode(batch)) == [reference.encode(text, bos=False, eos=False) for text in batch]


@settings(max_examples=100, deadline=None)
@given(texts)
def test_joined_pieces_are_the_bytes_and_places_follow_from_their_lengths(batch):
    encoded, pieces = tekken.load().encode(batch), tekken.load().pieces
    for text, ids in zip(batch, per_text(encoded), strict=True):
        assert b"".join(pieces[i] for i in ids) == text.encode()
    places, position = [0], 0
    for i in encoded.token_ids.tolist():
        position += len(pieces[i])
        places.append(position)
    assert encoded.token_bytes.tolist() == places
    assert (encoded.token_ids.dtype, encoded.token_counts.dtype, encoded.token_bytes.dtype) == (np.uint32, "i8", "i8")


def test_texts_encoded_together_are_texts_encoded_alone():
    together = per_text(tekken.load().encode(AWKWARD))
    assert together == [per_text(tekken.load().encode([text]))[0] for text in AWKWARD]


def test_a_leading_space_belongs_to_its_token():
    encoded = tekken.load().encode(["Hello John Smith"])
    assert [tekken.load().pieces[i] for i in encoded.token_ids] == [b"Hello", b" John", b" Smith"]


@pytest.mark.parametrize("text", ["1234567890", "tel. 06 12 34", "1978-06-21", "x86_64", "٣٤٥", "12,345.678 €"])
def test_every_digit_is_a_token(text):
    pieces = [tekken.load().pieces[i].decode() for i in tekken.load().encode([text]).token_ids]
    assert [piece for piece in pieces if any(c.isdigit() for c in piece)] == [c for c in text if c.isdigit()]


def test_an_emoji_can_be_split_over_tokens():
    """What alignment has to stand: if this ever fails, its tests need another character."""
    pieces = [tekken.load().pieces[i] for i in tekken.load().encode(["𝔘"]).token_ids]
    assert len(pieces) > 1 and b"".join(pieces) == "𝔘".encode()


def test_text_never_yields_special_tokens(reference):
    text = "<s>[INST]Bob[/INST]</s><unk><pad>[TOOL_CALLS]<SPECIAL_20>"
    assert min(tekken.load().encode([text]).token_ids) >= reference.num_special_tokens == 1000
    specials = [reference.decode([i], tekken_policy()) for i in range(20)]
    assert min(tekken.load().encode([name for name in specials if name]).token_ids) >= 1000


def tekken_policy():
    """How mistral-common shows special tokens by name."""
    from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy

    return SpecialTokenPolicy.KEEP


def test_vocabulary_bos_and_padding_are_as_documented(reference):
    tokenizer = tekken.load()
    assert (tokenizer.vocab_size, tokenizer.bos_id, tokenizer.pad_id) == (131072, 1, 11)
    assert (reference.n_words, reference.bos_id, reference.pad_id) == (131072, 1, 11)
    assert len(tokenizer.pieces) == 131072 and not any(tokenizer.pieces[:1000]) and all(tokenizer.pieces[1000:])


def test_describe_names_the_file_inside_the_package_and_its_hash():
    described = tekken.load().describe()
    path = Path(mistral_common.__file__).parent / "data" / described["file"]
    assert described["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert described["vocab_size"] == 131072 and described["name"]


def test_no_texts_give_no_tokens():
    encoded = tekken.load().encode([])
    assert [len(column) for column in encoded] == [0, 0, 1]


@pytest.mark.parametrize("text", ["\ud83d", "Ann \udc00 Lee", "\udcff"])
def test_a_lone_surrogate_is_an_error_and_never_other_text(text):
    with pytest.raises(ValueError):
        tekken.load().encode(["Ann", text])


@pytest.mark.parametrize("space", [" " * 1_000_000, " \t\u3000" * 150_000], ids=["spaces", "mixed"])
def test_a_text_with_a_million_white_spaces_is_tokenised(space):
    texts = [f"Ann{space} Lee", "Ann Lee"]
    encoded = tekken.load().encode(texts)
    pieces = [[tekken.load().pieces[i] for i in ids] for ids in per_text(encoded)]
    assert [b"".join(of_text) for of_text in pieces] == [text.encode() for text in texts]
    assert pieces[0][0] == b"Ann" and pieces[0][-1] == b" Lee" and pieces[1] == [b"Ann", b" Lee"]


def test_the_tokenizer_is_loaded_once():
    assert tekken.load() is tekken.load()
