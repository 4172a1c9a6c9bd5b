"""Rows of the target style: the values of faker.js in the manner of ai4privacy's rows."""

import random
import re
from collections import Counter, defaultdict

import pytest

from pii.synthetic import sentences
from pii.synthetic.sources import TARGETS
from pii.synthetic.values import Values
from pii.synthetic.variations import GREETINGS, vary
from tests.synthetic.conftest import TYPES

ROWS = 3000
FORMS = {  # of all values of a type
    "ACCOUNTNUMBER": r"\d{8}",
    "BIC": r"[A-Z]{6}[A-Z\d]{2}([A-Z\d]{3})?",
    "BITCOINADDRESS": r"[13][1-9A-HJ-NP-Za-km-z]{24,39}",
    "BUILDINGNUMBER": r"\d{3,5}",
    "CREDITCARDCVV": r"\d{3}",
    "CREDITCARDNUMBER": r"\d{16}",
    "CURRENCYCODE": r"[A-Z]{3}",
    "EMAIL": r"[\w.'-]+@(gmail|yahoo|hotmail)\.com",
    "ETHEREUMADDRESS": r"0x[\da-f]{40}",
    "IBAN": r"[A-Z]{2}\d{2}[A-Z\d]{11,30}",
    "IPV4": r"(\d{1,3}\.){3}\d{1,3}",
    "IPV6": r"([\da-f]{4}:){7}[\da-f]{4}",
    "LITECOINADDRESS": r"[LM3][1-9A-HJ-NP-Za-km-z]{24,39}",
    "MAC": r"([\da-f]{2}:){5}[\da-f]{2}",
    "MASKEDNUMBER": r"\d{16}",
    "NEARBYGPSCOORDINATE": r"\[-?\d{1,2}\.\d+,-?\d{1,3}\.\d+\]",
    "PASSWORD": r"\w{12}",
    "PHONEIMEI": r"\d{2}-\d{6}-\d{6}-\d",
    "PIN": r"\d{4}",
    "PREFIX": r"(Mr|Mrs|Ms|Dr)\.|Miss",
    "SECONDARYADDRESS": r"(Apt\.|Suite) \d{3}",
    "URL": r"https://[a-z-]+\.[a-z]+/?",
    "VEHICLEVIN": r"[A-Z\d]{17}",
    "VEHICLEVRM": r"[A-Z]{2}\d{2}[A-Z]{3}",
    "ZIPCODE": r"\d{5}(-\d{4})?",
}


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return list(sentences.synthesize(ROWS, seed=0, style="target"))


@pytest.fixture(scope="module")
def values(rows) -> dict[str, set[str]]:
    found = defaultdict(set)
    for row in rows:
        for start, end, label in row["span_labels"]:
            found[label].add(row["unmasked_text"][start:end])
    return found


def test_every_type_occurs_and_no_wildcard_is_left(values):
    assert set(values) == TYPES
    assert not [value for own in values.values() for value in own if set(value) & set("↑¤¬¿{}|\n") or "##" in value]
    assert not [value for own in values.values() for value in own if value != value.strip()]


@pytest.mark.parametrize("label", FORMS)
def test_values_have_the_forms_of_the_target_data(values, label):
    assert values[label] and not [value for value in values[label] if not re.fullmatch(FORMS[label], value)]


def test_ibans_hold_their_check_digits(values):
    for value in values["IBAN"]:
        assert int("".join(str(int(character, 36)) for character in value[4:] + value[:4])) % 97 == 1


def test_values_are_the_same_in_french_rows(rows):
    titles = {
        language: {
            row["unmasked_text"][start:end]
            for row in rows
            if row["language"] == language
            for start, end, label in row["span_labels"]
            if label == "JOBTYPE"
        }
        for language in ("en", "fr")
    }
    assert len(titles["en"] & titles["fr"]) > 15


def test_mixed_rows_are_a_fifth_documents_and_half_of_the_rest_of_each_other_style_in_both_languages(monkeypatch):
    made: Counter = Counter()

    def make_counted(style: str, name: str) -> None:
        make = getattr(sentences, name)

        def make_one(*row):
            made[style, row[1]] += 1
            return make(*row)

        monkeypatch.setattr(sentences, name, make_one)

    make_counted("own", "make_row")
    make_counted("target", "make_target_row")
    make_counted("documents", "make_document_row")
    mixed = list(sentences.synthesize(400, seed=3))
    rows_of = {"own": 80, "target": 80, "documents": 40}
    assert made == {(style, language): count for style, count in rows_of.items() for language in ("en", "fr")}
    assert mixed == list(sentences.synthesize(400, seed=3, style="mixed"))


def test_a_row_of_the_target_style_forgets_what_the_row_before_was():
    values = Values(random.Random(0), 0)
    values.start_row("en_US")
    own = values.make("PREFIX")
    values.start_row(TARGETS["fr"])
    assert own and values.make("PREFIX") in {"Mr.", "Mrs.", "Ms.", "Miss", "Dr."}


DRAWS = 80_000  # so many that the rarest variation is among them


def test_variations_change_names_and_places_and_nothing_between():
    skeleton = "Dear {FIRSTNAME}, call {PHONENUMBER} before {TIME}."
    rng = random.Random(0)
    varied = Counter(vary(skeleton, ["Bye."], "en", rng) for _ in range(DRAWS))
    assert varied[skeleton] > DRAWS * 0.1
    assert 0.15 < sum(count for text, count in varied.items() if text.endswith(" Bye.")) / DRAWS < 0.25
    assert 0.35 < sum(count for text, count in varied.items() if text.startswith("{")) / DRAWS < 0.45
    frames = {re.sub(r"\{[A-Z0-9]+\}", "{}", text).removesuffix(" Bye.") for text in varied}
    greetings = ["", *(f"{greeting} " for greeting in GREETINGS["en"])]
    names, calls = ("{}", "{} {}", "{} {} {}"), ("call", "Call")
    right = {f"{hello}{n}, {call} {{}} before {{}}." for hello in greetings for n in names for call in calls}
    assert frames == right


def test_what_the_target_data_calls_by_two_names_is_called_by_both():
    rng = random.Random(0)
    french = Counter(vary("The IP {IP} of {AGE}.", ["Fin."], "fr", rng) for _ in range(1000))
    assert french["The IP {IP} of {AGE}."] > 100 and french["The IP {IPV4} of {AGE}."] > 200
    english = Counter(vary("{AGE}.", ["End."], "en", rng) for _ in range(1000))
    assert 100 < english["{AGE} old."] < 400 < english["{AGE}."]
