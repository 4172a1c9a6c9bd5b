"""Synthetic rows: exact spans, all types, skeletons that never vary, checksums that hold, the same bytes for a seed."""

import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest

import synthesize
from pii.synthetic import sentences

FOLDER = sentences.SKELETON_FOLDER
TYPES = set(
    re.findall(
        r"\w+",
        """ACCOUNTNAME ACCOUNTNUMBER AGE AMOUNT BIC BITCOINADDRESS BUILDINGNUMBER CITY COMPANYNAME COUNTY CREDITCARDCVV
        CREDITCARDISSUER CREDITCARDNUMBER CURRENCY CURRENCYCODE CURRENCYNAME CURRENCYSYMBOL DATE DOB EMAIL
        ETHEREUMADDRESS EYECOLOR FIRSTNAME GENDER HEIGHT IBAN IP IPV4 IPV6 JOBAREA JOBTITLE JOBTYPE LASTNAME
        LITECOINADDRESS MAC MASKEDNUMBER MIDDLENAME NEARBYGPSCOORDINATE ORDINALDIRECTION PASSWORD PHONEIMEI
        PHONENUMBER PIN PREFIX SECONDARYADDRESS SEX SSN STATE STREET TIME URL USERAGENT USERNAME VEHICLEVIN
        VEHICLEVRM ZIPCODE""",
    )
)


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return list(sentences.synthesize(2000, seed=0))


@pytest.fixture(scope="module")
def values(rows: list[dict]) -> dict[str, list[tuple[str, str]]]:
    """label → (language, value) of every span."""
    found: dict[str, list[tuple[str, str]]] = {label: [] for label in TYPES}
    for row in rows:
        for start, end, label in row["span_labels"]:
            found[label].append((row["language"], row["unmasked_text"][start:end]))
    return found


def skeletons_of(language: str) -> list[str]:
    text = (FOLDER / f"{language}.txt").read_text(encoding="utf-8")
    return re.split(r"\n---\n", text)


def folded(text: str) -> str:
    """What two rows of one skeleton have in common: no digits, no white space, no case."""
    return re.sub(r"[\d\s]", "", text).casefold()


def luhn_holds(number: str) -> bool:
    digits = [int(d) for d in re.sub(r"\D", "", number)]
    return sum(digits[-1::-2] + [sum(divmod(2 * d, 10)) for d in digits[-2::-2]]) % 10 == 0


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


@pytest.mark.parametrize("language", ["en", "fr"])
def test_there_are_150_different_skeletons_of_which_20_hold_no_pii(language):
    skeletons = skeletons_of(language)
    assert len(skeletons) >= 150
    assert len({folded(skeleton) for skeleton in skeletons}) == len(skeletons)
    assert sum(not re.search(r"\{[A-Z]", skeleton) for skeleton in skeletons) >= 20


@pytest.mark.parametrize("language", ["en", "fr"])
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


# Values


def test_iban_leaves_one_modulo_97(values):
    numbers = [value.replace(" ", "") for _, value in values["IBAN"]]
    assert {"GB", "FR", "CH"} <= {number[:2] for number in numbers}
    assert {int("".join(str(int(c, 36)) for c in number[4:] + number[:4])) % 97 for number in numbers} == {1}


@pytest.mark.parametrize("label", ["CREDITCARDNUMBER", "PHONEIMEI"])
def test_luhn_check_digit_holds(values, label):
    assert [value for _, value in values[label] if not luhn_holds(value)] == []


def test_french_nir_ends_with_its_key_and_swiss_ahv_with_that_of_ean_13(values):
    numbers = [re.sub(r"[ .]", "", value) for language, value in values["SSN"] if language == "fr"]
    nir = [n.replace("2A", "19").replace("2B", "18") for n in numbers if len(n) == 15]
    ahv = [[int(d) for d in n] for n in numbers if len(n) == 13]
    assert nir
    assert ahv
    assert all((int(n[:13]) + int(n[13:])) % 97 == 0 for n in nir)
    assert all((sum(n[::2]) + 3 * sum(n[1::2])) % 10 == 0 for n in ahv)


def test_coin_addresses_carry_their_checksum(values):
    addresses = [value for label in ("BITCOINADDRESS", "LITECOINADDRESS") for _, value in values[label]]
    bech32 = [address for address in addresses if "1q" in address and address.islower()]
    assert 0 < len(bech32) < len(addresses)
    for address in bech32:
        assert bech32_remainder(address) == 1  # BIP 173
    for address in set(addresses) - set(bech32):
        number = 0
        for character in address:
            number = number * 58 + "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz".index(character)
        payload = number.to_bytes(25, "big")
        assert hashlib.sha256(hashlib.sha256(payload[:21]).digest()).digest()[:4] == payload[21:]


def bech32_remainder(address: str) -> int:
    """The polynomial over GF(32) of the address modulo the generator of BIP 173, by plain long division."""
    generator = [29, 22, 20, 21, 29, 18]
    prefix, _, data = address.partition("1")
    terms = [1, *(ord(c) >> 5 for c in prefix), 0, *(ord(c) & 31 for c in prefix)]
    terms += ["qpzry9x8gf2tvdw0s3jn54khce6mua7l".index(c) for c in data]
    for i in range(len(terms) - 6):
        for j, factor in enumerate(generator, 1):
            terms[i + j] ^= gf32_product(terms[i], factor)
    remainder = 0
    for term in terms[-6:]:
        remainder = remainder << 5 | term
    return remainder


def gf32_product(a: int, b: int) -> int:
    product = 0
    for bit in range(5):
        product ^= (a << bit) if b >> bit & 1 else 0
    for bit in (8, 7, 6, 5):
        product ^= (0b101001 << bit - 5) if product >> bit & 1 else 0
    return product


# Runs


def run_script(*flags: str, hash_seed: str = "0") -> subprocess.Popen:
    command = [sys.executable, synthesize.__file__, *flags]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_one_seed_gives_the_same_bytes_in_every_process_and_another_seed_others(tmp_path, rows):
    paths = [tmp_path / "first.jsonl.gz", tmp_path / "again.jsonl.gz"]
    runs = [
        run_script("--rows", "200", "--seed", "1", "--output", str(path), hash_seed=str(i))
        for i, path in enumerate(paths)
    ]
    assert [run.communicate() and run.returncode for run in runs] == [0, 0]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].read_bytes()[4:8] == bytes(4)  # no time of writing in the gzip header
    texts = {json.loads(line)["unmasked_text"] for line in gzip.decompress(paths[0].read_bytes()).splitlines()}
    assert len(texts - {row["unmasked_text"] for row in rows}) > 180


def test_interrupted_run_leaves_the_old_file_whole_and_no_other(tmp_path, monkeypatch):
    def interrupted(rows: int, seed: int):
        yield {"unmasked_text": "half", "span_labels": [], "language": "en"}
        raise KeyboardInterrupt

    output = tmp_path / "rows.jsonl"
    output.write_text("old\n")
    monkeypatch.setattr(synthesize, "synthesize", interrupted)
    with pytest.raises(KeyboardInterrupt):
        synthesize.main(["--output", str(output)])
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"rows.jsonl": "old\n"}


@pytest.mark.parametrize("flags", [["--rows", "0"], ["--rows", "many"], ["--output", "."], ["--colour", "red"]])
def test_mistake_ends_with_one_line_and_exit_code_2(flags):
    run = run_script(*flags)
    output, errors = run.communicate()
    assert run.returncode == 2
    assert output == ""
    assert errors.startswith("synthesize.py: error: ")
    assert errors.count("\n") == 1
    assert "Traceback" not in errors


def test_missing_faker_is_told_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "faker", None)
    with pytest.raises(synthesize.UserError, match="pip install Faker"):
        synthesize.main(["--rows", "2", "--output", str(tmp_path / "rows.jsonl")])
    assert list(tmp_path.iterdir()) == []


def test_end_of_a_run_counts_rows_and_spans_and_shows_no_text(tmp_path, capsys, monkeypatch):
    row = {"unmasked_text": "Call Aurelius.", "span_labels": [[5, 13, "FIRSTNAME"]], "language": "en"}
    monkeypatch.setattr(synthesize, "synthesize", lambda rows, seed: iter([row] * rows))
    output = tmp_path / "new" / "rows.jsonl"
    synthesize.main(["--rows", "3", "--output", str(output)])
    printed = capsys.readouterr().out
    assert "3 rows with 3 spans of 1 types" in printed
    assert f"python prepare.py --input {output}" in printed
    assert "Aurelius" not in printed
    assert [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()] == [row] * 3
