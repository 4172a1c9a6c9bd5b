"""What stands in the place of values: nothing else changes, numbers go by first appearance, fakes are stable."""

import hashlib
import hmac
import itertools
import os
import random
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pii.common import UserError
from pii.redaction import replacements
from pii.redaction.replacements import Replacer, Span
from pii.redaction.vault import Vault
from pii.synthetic import sentences
from pii.synthetic.sources import LOCALES

ROOT = Path(__file__).parents[2]
CANARY = "xylophonecanary"
KEY = b"sixteen bytes or more"
KEYS = {"hash": KEY}
POOL_SIZE = 100
LABELS = ["EMAIL", "FIRSTNAME", "NRP", "A", "A_1", "X[", "X]", "["]
FRAGMENTS = [
    *("[EMAIL_1]", "[EMAIL_2]", "[EMAIL_10]", "[EMAIL_01]", "[EMAIL]", "[A_1]", "[A_1_1]", "[X__1]", "[__1]", "[[_1]"),
    *("[", "]", "[EMAIL", "_1]", "1]", "[EMAIL_1", "[[EMAIL_1]]", "[]", "\\1", "\\g<0>", "{}", "%s"),
    *("\0", "\r\n", "\n", "\r", "\u2028", "\u0085", "\x1c", "\ufeff", "\uffff", "e\u0301", "👨\u200d👩\u200d👧", "𝔘"),
    *("john@example.com", "John", "JOHN", "Zoé", " ", "a"),
]

pieces_of = st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=4))
Document = list[tuple[str, str | None]]  # the text in parts, each with its label if it is a span


def documents(max_size: int = 10) -> st.SearchStrategy[Document]:
    outside = st.tuples(pieces_of, st.none())
    inside = st.tuples(pieces_of.filter(bool), st.sampled_from(LABELS))
    return st.lists(st.one_of(outside, inside), max_size=max_size)


def text_of(document: Document) -> str:
    return "".join(part for part, _ in document)


def spans_of(document: Document) -> list[Span]:
    spans, position = [], 0
    for part, label in document:
        if label is not None:
            spans.append(Span(position, position + len(part), label, 0.9))
        position += len(part)
    return spans


def redacted(replacer: Replacer, document: Document, language: str = "und") -> str:
    return replacer.redact(text_of(document), spans_of(document), language)


def one_value(replacer: Replacer, label: str, value: str, language: str = "und") -> str:
    return redacted(replacer, [(value, label)], language)


def shown(label: str) -> str:
    return label.replace("[", "_").replace("]", "_")


def assert_one_line_without_canary(error: pytest.ExceptionInfo) -> None:
    message = str(error.value)
    assert message and len(message.splitlines()) == 1 and CANARY not in message
    assert error.value.__cause__ is None and (error.value.__context__ is None or error.value.__suppress_context__)


@pytest.fixture(scope="module")
def faker() -> Iterator[Replacer]:
    """With small pools, which are soon full and make a fake that equals its value likelier."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pii.synthetic.sources.POOL_SIZE", POOL_SIZE)
        replacements.shared_values.cache_clear()
        yield Replacer("fake")
    replacements.shared_values.cache_clear()


# Every kind


def by_hand(kind: str, label: str, value: str) -> str:
    """What stands for a value, worked out another way."""
    if kind == "mask":
        return "".join(c if len(f"a{c}b".splitlines()) == 2 else "*" for c in value)
    if kind == "hash":
        digest = hmac.new(KEY, label.encode() + b"\0" + value.encode(), hashlib.sha256).hexdigest()
        return f"[{shown(label)}_{digest[:16]}]"
    return f"[{shown(label)}]"


@pytest.mark.parametrize("kind", ["label", "mask", "hash"])
@settings(max_examples=60, deadline=None)
@given(document=documents())
def test_values_are_replaced_and_all_else_stays(kind, document):
    expected = [part if label is None else by_hand(kind, label, part) for part, label in document]
    assert redacted(Replacer(kind, KEYS.get(kind)), document) == "".join(expected)


@settings(max_examples=60, deadline=None)
@given(document=documents())
def test_fakes_are_those_of_the_values_alone_and_all_else_stays(faker, document):
    expected = [part if label is None else one_value(faker, label, part) for part, label in document]
    assert redacted(faker, document) == "".join(expected)


def numbered_by_hand(document: Document) -> str:
    """Numbers by first appearance; every candidate is searched for in the text and among those in use."""
    given_out: dict[tuple[str, str], str] = {}
    parts = []
    for part, label in document:
        if label is not None and (label, part) not in given_out:
            candidates = (f"[{shown(label)}_{number}]" for number in itertools.count(1))
            free = (c for c in candidates if c not in text_of(document) and c not in given_out.values())
            given_out[label, part] = next(free)
        parts.append(part if label is None else given_out[label, part])
    return "".join(parts)


@settings(max_examples=100, deadline=None)
@given(documents())
@example([("a", "EMAIL"), ("[EMAIL_2]", None), ("b", "EMAIL"), ("a", "EMAIL"), ("a", "A"), ("b", "EMAIL")])
@example([("a", "X["), ("b", "X]"), ("a", "X]")])
@example([("[EMAIL_", None), ("1]", "EMAIL")])
def test_numbers_go_by_first_appearance_and_skip_what_the_text_holds(document):
    assert redacted(Replacer("numbered"), document) == numbered_by_hand(document)


def test_numbers_start_again_with_each_document_and_each_label():
    replacer = Replacer("numbered")
    document = [("a", "EMAIL"), (" ", None), ("b", "EMAIL"), (" ", None), ("a", "CITY"), (" ", None), ("a", "EMAIL")]
    for _ in range(2):
        assert redacted(replacer, document) == "[EMAIL_1] [EMAIL_2] [CITY_1] [EMAIL_1]"


def test_a_mask_has_a_star_a_code_point_and_keeps_its_lines():
    value = "1 rue Zoé\r\n75001 👨\u200d👩\nFrance\u2028"
    masked = one_value(Replacer("mask"), "STREET", value)
    assert len(masked) == len(value) and set(masked) == {"*", "\r", "\n", "\u2028"}
    assert [len(line) for line in masked.splitlines()] == [len(line) for line in value.splitlines()]


def test_a_hash_depends_on_key_label_and_value_alone():
    first, second, other = Replacer("hash", KEY), Replacer("hash", KEY), Replacer("hash", KEY[::-1])
    assert re.fullmatch(r"\[EMAIL_[0-9a-f]{16}\]", one_value(first, "EMAIL", "a@b.c"))
    assert one_value(second, "EMAIL", "a@b.c", "fr") == one_value(first, "EMAIL", "a@b.c")
    suffixes = [one_value(first, "EMAIL", "a@b.c"), one_value(first, "URL", "a@b.c"), one_value(first, "EMAIL", "a@b")]
    suffixes.append(one_value(other, "EMAIL", "a@b.c"))
    assert len({text.rpartition("_")[2] for text in suffixes}) == 4


@pytest.mark.parametrize("kind", replacements.KINDS)
@pytest.mark.parametrize(
    "places", [[(3, 5), (0, 2)], [(0, 3), (2, 5)], [(0, 3), (0, 3)], [(2, 2)], [(3, 2)], [(-2, 3)], [(3, 99)]]
)
def test_spans_that_cannot_be_right_are_refused(kind, places, faker):
    replacer = faker if kind == "fake" else Replacer(kind, KEYS.get(kind))
    with pytest.raises(ValueError) as error:
        replacer.redact(CANARY, [Span(start, end, "EMAIL", 0.9) for start, end in places])
    assert_one_line_without_canary(error)


@pytest.mark.parametrize("key", [None, b"", CANARY.encode()])
def test_hashes_without_a_long_key_say_where_to_give_one(key):
    with pytest.raises(UserError) as error:
        Replacer("hash", key)
    assert_one_line_without_canary(error)
    assert "--hash-key-file FILE" in str(error.value) and "PII_HASH_KEY" in str(error.value)


def test_other_mistakes_end_with_one_line(tmp_path, monkeypatch):
    with pytest.raises(UserError) as error:
        Replacer(CANARY)
    assert_one_line_without_canary(error)
    with Vault.create(tmp_path / "vault") as vault, pytest.raises(UserError) as error:
        Replacer("mask", vault=vault)
    assert_one_line_without_canary(error)
    monkeypatch.setattr(replacements, "shared_values", replacements.shared_values.__wrapped__)
    monkeypatch.setitem(sys.modules, "faker", None)
    with pytest.raises(UserError, match="pip install Faker") as error:
        Replacer("fake")
    assert_one_line_without_canary(error)


# Fakes

values_to_fake = st.lists(
    st.tuples(
        st.sampled_from(replacements.TYPES.split()), pieces_of.filter(bool), st.sampled_from(["en", "fr", "und"])
    ),
    max_size=8,
)


def bare(value: str) -> str:
    """Letters and digits, without case and accents; the value itself if it has none."""
    return "".join(c for c in unicodedata.normalize("NFKD", value.casefold()) if c.isalnum()) or value


@settings(max_examples=40, deadline=None)
@given(values_to_fake, st.randoms(use_true_random=False))
def test_a_fake_does_not_depend_on_what_came_before(faker, values, shuffler):
    here = {value: one_value(faker, *value) for value in values}
    shuffler.shuffle(values)
    fresh = Replacer("fake")  # remembers nothing
    random.seed(shuffler.random())
    assert {value: one_value(fresh, *value) for value in values} == here
    assert all(bare(fake) != bare(value) for (_, value, _), fake in here.items())


def test_fakes_are_the_same_in_another_process_and_importing_does_no_work(faker):
    cases = [(label, CANARY, language) for label in replacements.TYPES.split() for language in LOCALES]
    program = f"""
import sys
from pii.redaction import replacements
from pii.synthetic import sources
sources.POOL_SIZE = {POOL_SIZE}
assert not {{"faker", "torch", "transformers"}} & set(sys.modules)
replacer = replacements.Replacer("fake")
for label, value, language in {cases[::-1]}:
    print(ascii(replacer.redact(value, [replacements.Span(0, len(value), label, 1.0)], language)))
"""
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [ascii(one_value(faker, *case)) for case in cases[::-1]]


@pytest.mark.parametrize("language", LOCALES)
def test_no_fake_is_its_value_even_where_a_type_has_few(faker, language):
    """The values are those that values.py makes, so that small types often draw what they must not."""
    for label in replacements.TYPES.split():
        for i in range(15):
            value = one_value(faker, label, f"{CANARY}{i}", language)
            for text in (value, value.upper(), f"{value}."):
                fake = one_value(faker, label, text, language)
                assert bare(fake) != bare(text) and fake != f"[{label}]", label


def test_a_type_without_another_value_gets_its_label(faker, monkeypatch):
    monkeypatch.setattr(replacements.Values, "expand", lambda self, pattern: "0000")
    assert one_value(faker, "PIN", "0000") == "[PIN]"
    assert one_value(faker, "PIN", "00 00") == "[PIN]"


def remainder_97(iban: str) -> int:
    compact = iban.replace(" ", "")
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97


def luhn_holds(number: str) -> bool:
    digits = [int(d) for d in re.sub(r"\D", "", number)]
    return sum(digits[-1::-2] + [sum(divmod(2 * d, 10)) for d in digits[-2::-2]]) % 10 == 0


def looks_like(pattern: str) -> Callable[[str], bool]:
    return lambda text: re.fullmatch(pattern, text) is not None


SHAPES = {
    ("EMAIL", "EMAIL_ADDRESS", "email"): looks_like(r"[a-z0-9._-]+@[a-z0-9.-]+\.[a-z]+"),
    ("IBAN", "IBAN_CODE"): lambda text: remainder_97(text) == 1,
    ("CREDITCARDNUMBER", "CREDIT_CARD", "credit_card"): luhn_holds,
    ("IPV4",): looks_like(r"(\d{1,3}\.){3}\d{1,3}"),
    ("IP", "IP_ADDRESS"): looks_like(r"(\d{1,3}\.){3}\d{1,3}|[0-9a-f:]+"),
    ("SSN", "US_SSN", "PHONE_NUMBER", "DATE_TIME", "DATE", "DOB"): looks_like(r".*\d.*"),
    ("PERSON", "PER"): looks_like(r"[^\W\d].* [^\W\d].*"),
    ("GPE", "CITY", "ORGANIZATION", "COMPANYNAME", "STREET_ADDRESS", "first_name", "GIVENNAME"): looks_like(
        r"[^\W\d].+"
    ),
}


@pytest.mark.parametrize(("labels", "holds"), SHAPES.items())
def test_a_fake_is_of_the_type_that_its_label_means(faker, labels, holds):
    for label, language, i in itertools.product(labels, ["en", "fr"], range(10)):
        assert holds(one_value(faker, label, f"Value {i}", language)), label


@pytest.mark.parametrize("label", ["NRP", "MISC", "CARD", "SURNAME_F", "MONTHS", "NIR", "first", "é"])
def test_a_label_that_means_nothing_stays_a_label(faker, label):
    assert one_value(faker, label, CANARY) == f"[{label}]"


def test_the_types_are_those_of_the_synthetic_data():
    keys = {key for language in LOCALES for text in sentences.read_skeletons(language) for key in find_keys(text)}
    assert set(replacements.TYPES.split()) == keys and len(keys) == 56


def find_keys(skeleton: str) -> list[str]:
    return re.findall(r"\{([A-Z][A-Z0-9]+)\}", skeleton)


def test_capital_and_small_letters_stay_so(faker):
    for label, i in itertools.product(["FIRSTNAME", "CITY", "PERSON", "COMPANYNAME"], range(10)):
        assert one_value(faker, label, f"MARIE {i}", "fr").isupper()
        assert one_value(faker, label, f"marie {i}", "fr").islower()
        assert not one_value(faker, label, f"Marie {i}").islower()


def test_fakes_follow_language_seed_and_key(faker):
    emails = [f"john{i}@example.com" for i in range(8)]

    def fakes(language: str = "en", **options: object) -> list[str]:
        return [one_value(Replacer("fake", **options), "EMAIL", email, language) for email in emails]

    assert fakes() == fakes("und") == fakes("en-GB") == fakes("de") == fakes("EN", seed=0)
    assert fakes("fr") == fakes("fr_CA") and fakes(key=KEY) == fakes(key=KEY)
    different = [fakes(), fakes("fr"), fakes(seed=1), fakes(seed=-1), fakes(key=KEY), fakes(key=KEY, seed=1)]
    assert all(not set(left) & set(right) for left, right in itertools.combinations(different, 2))
