"""Values that rules prove: all of each kind, in every usual spelling and sentence; none with a wrong check digit."""

import os
import random
import string
from collections.abc import Callable
from itertools import count

import pytest

pytest.importorskip("stdnum")
pytest.importorskip("faker")

from faker import Faker
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum import ean, luhn, vatin
from stdnum.fr import nir, siren

from pii.common import UserError
from pii.redaction.rules import checks
from pii.redaction.rules.rules import MODES, find

FRAMES = [
    "{}",
    "My number is {}.",
    "It is {}, please note it.",
    "({})",
    "number:{}",
    "« {} »",
    "Send it to {} before 12/05/2024 at 10:30.",
    "The values {} and 42 were given.",
    'He wrote "{}" on 3 forms.',
    "{} is what she told us.\nThen she left.",
    "Voici le numéro {}.",
    "Le client a donné {} ; merci de vérifier.",
    "Merci d'utiliser n°{} pour le dossier.",
    "Référence : {}\nDate : 03/04/2023",
    "L'identifiant {} est à l'entrée de l'été.",
    "Il a répété « {} » deux fois.",
    "Numéro={};",
    "- {}\n- autre",
    "J'ai reçu {}, puis plus rien.",
    "Où est {} ?",
]


def grouped(value: str, sizes: tuple[int, ...], separator: str) -> str:
    parts, place = [], 0
    for size in sizes:
        parts.append(value[place : place + size])
        place += size
    return separator.join([*parts, value[place:]] if place < len(value) else parts)


def digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice(string.digits) for _ in range(count))


def base58(raw: bytes) -> str:
    import hashlib

    raw += hashlib.sha256(hashlib.sha256(raw).digest()).digest()[:4]
    number, text = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = checks.BASE58[digit] + text
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + text


def an_iban(rng: random.Random, fake: Faker) -> str:
    return fake.iban()


def a_card(rng: random.Random, fake: Faker) -> str:
    return fake.credit_card_number()


def a_nir(rng: random.Random, fake: Faker) -> str:
    department = rng.choice([f"{rng.randint(1, 95):02}".replace("20", "21"), "2A", "2B"])
    born = f"{rng.choice('12')}{rng.randint(0, 99):02}{rng.randint(1, 12):02}"
    value = f"{born}{department}{rng.randint(1, 989):03}{digits(rng, 3)}"
    return value + nir.calc_check_digits(value)


def an_imei(rng: random.Random, fake: Faker) -> str:
    value = rng.choice(["01", "35", "86", "99"]) + digits(rng, 12)
    return value + luhn.calc_check_digit(value)


def a_vat(rng: random.Random, fake: Faker) -> str:
    number = digits(rng, 8)
    number += luhn.calc_check_digit(number)
    return f"FR{(12 + 3 * (int(number) % 97)) % 97:02}{number}"


def a_bitcoin(rng: random.Random, fake: Faker) -> str:
    return base58(bytes([rng.choice([0, 5])]) + rng.randbytes(20))


def a_litecoin(rng: random.Random, fake: Faker) -> str:
    return base58(bytes([rng.choice([0x30, 0x32])]) + rng.randbytes(20))


def an_ethereum(rng: random.Random, fake: Faker) -> str:
    from Crypto.Hash import keccak

    address = rng.randbytes(20).hex()
    bits = keccak.new(digest_bits=256, data=address.encode()).hexdigest()
    return "0x" + "".join(c.upper() if int(bit, 16) >= 8 else c for c, bit in zip(address, bits, strict=False))


def a_vin(rng: random.Random, fake: Faker) -> str:
    letters = "ABCDEFGHJKLMNPRSTUVWXYZ"
    vin = "".join(rng.choice(letters) for _ in range(3)) + "".join(
        rng.choice(letters + string.digits) for _ in range(14)
    )
    vin = vin[:13] + digits(rng, 4)  # as all are numbered
    return next(whole for check in "0123456789X" if checks.vin(whole := vin[:8] + check + vin[9:]))


def bare(value: str) -> str:
    return "".join(filter(str.isalnum, value))


def a_foreign_vat(rng: random.Random, fake: Faker) -> str:
    """A number of another country than France, as that writes it: L is a letter, 0 a digit, all else as it is."""
    form = rng.choice(FOREIGN_VATS)
    while True:
        drawn = {"L": string.ascii_uppercase, "0": string.digits}
        value = form[:2] + "".join(rng.choice(drawn.get(c, c)) for c in form[2:])
        if vatin.is_valid(bare(value)):
            return value


def an_ahv(rng: random.Random, fake: Faker) -> str:
    value = "756" + digits(rng, 9)
    return value + ean.calc_check_digit(value)


def a_siren(rng: random.Random, fake: Faker) -> str:
    value = rng.choice("3456789") + digits(rng, 7)
    return value + luhn.calc_check_digit(value)


def a_siret(rng: random.Random, fake: Faker) -> str:
    value = a_siren(rng, fake) + "0" + digits(rng, 3)
    return value + luhn.calc_check_digit(value)


def bech32(prefix: str, rng: random.Random) -> str:
    """A pay-to-witness-public-key-hash address, its checksum found by BIP 173's own sum."""
    values = [0, *(rng.randrange(32) for _ in range(32))]
    known = [*(ord(c) >> 5 for c in prefix), 0, *(ord(c) & 31 for c in prefix), *values, *[0] * 6]
    total = 1
    for value in known:
        top, total = total >> 25, (total & 0x1FFFFFF) << 5 ^ value
        for bit, term in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            total ^= term if top >> bit & 1 else 0
    values += [(total ^ 1) >> 5 * (5 - i) & 31 for i in range(6)]
    return f"{prefix}1" + "".join(checks.BECH32[value] for value in values)


def a_segwit(rng: random.Random, fake: Faker) -> str:
    return bech32("bc", rng)


def a_litecoin_segwit(rng: random.Random, fake: Faker) -> str:
    return bech32("ltc", rng)


FOREIGN_VATS = """ATU00000000|ATU 00000000|BE 0000.000.000|BE0000 000 000|BG 000 000 000|CHE-000.000.000 MWST
    CY 00000000L|CHE-000.000.000 TVA|CZ 00000000|CZ00000000|DE 000 000 000|DE-000000000|DK 00 00 00 00|EE 000 000 000
    EL 000 000 000|ES L00000000|ES-L0000000L|FI 0000000-0|FI00000000|GB 000 0000 00|GB000 0000 00
    HR 00000000000|HU-00000000|IE 0000000L|IE0000000LL|IT 000 000 00000|IT00000000000|LT 000 000 000
    LT 000000000000|LU 000 000 00|LV 000 0000 0000|MT 0000 0000|NL 000000000B01|NL0000.00.000.B01
    NO 000 000 000 MVA|PL 000-000-00-00|PL 0000000000|PT 000 000 000|RO 00000000|RS 000000000|RU 0000000000
    SE 000000000001|SI 0000 0000|XI 000 0000 00"""
FOREIGN_VATS = [form.strip() for line in FOREIGN_VATS.splitlines() for form in line.split("|")]
FOUR = (4,) * 9
SPELLINGS: dict[str, tuple[Callable, list[Callable[[str], str]]]] = {
    "iban": (
        an_iban,
        [str, str.lower, *(lambda v, s=s: grouped(v, FOUR[: (len(v) - 1) // 4], s) for s in " -.\u00a0\u202f")],
    ),
    "card": (
        a_card,
        [
            str,
            *(
                lambda v, s=s: grouped(v, {15: (4, 6), 14: (4, 6)}.get(len(v), FOUR[: (len(v) - 1) // 4]), s)
                for s in " -.\u00a0"
            ),
        ],
    ),
    "nir": (a_nir, [str, *(lambda v, s=s: grouped(v, (1, 2, 2, 2, 3, 3), s) for s in " .-\u202f")]),
    "imei": (an_imei, [str, *(lambda v, s=s: grouped(v, (2, 6, 6), s) for s in " -")]),
    "vat": (
        a_vat,
        [
            str,
            lambda v: grouped(v, (2, 2, 3, 3), " "),
            lambda v: grouped(v, (4,), " "),
            lambda v: grouped(v, (2, 2), " "),
        ],
    ),
    "vat: foreign": (
        a_foreign_vat,
        [str, bare, lambda v: v.replace(" ", "\u00a0"), lambda v: v.replace("-", "\u2011")],
    ),
    "ahv": (an_ahv, [str, *(lambda v, s=s: grouped(v, (3, 4, 4), s) for s in ". -")]),
    "siren": (a_siren, [str, *(lambda v, s=s: grouped(v, (3, 3), s) for s in " .-\u00a0")]),
    "siret": (
        a_siret,
        [str, *(lambda v, s=s, g=g: grouped(v, g, s) for s in " .-\u202f" for g in ((3, 3, 3), (9,)))],
    ),
    "bitcoin": (a_bitcoin, [str]),
    "bitcoin: bech32": (a_segwit, [str, str.upper]),
    "litecoin: bech32": (a_litecoin_segwit, [str, str.upper]),
    "litecoin": (a_litecoin, [str]),
    "ethereum": (an_ethereum, [str]),
    "vin": (a_vin, [str, str.lower]),
}
WORDS_BEFORE = {"siren": "SIREN ", "siret": "SIRET n° "}  # without which they are not looked for
HOW_MANY = int(os.environ.get("VALUES", "300"))  # of each kind; run it with VALUES=10000 after a change of the rules


@pytest.mark.parametrize("kind", SPELLINGS)
def test_every_value_with_a_right_checksum_is_proven_in_every_spelling_and_sentence(kind):
    make, spellings = SPELLINGS[kind]
    rng, fake = random.Random(kind), Faker(["fr_FR", "en_GB", "de_DE"])
    Faker.seed(0)
    missed = []
    for i in range(HOW_MANY):
        value = rng.choice(spellings)(make(rng, fake))
        frame = FRAMES[i % len(FRAMES)]
        before = WORDS_BEFORE.get(kind, "")
        text, start = frame.format(before + value), frame.index("{") + len(before)
        found = [(f.start, f.end) for f in find(text) if (f.proven and f.rule != "rule:vin") or kind == "vin"]
        if (start, start + len(value)) not in found:
            missed.append(text)
    assert missed == []


def wrong(value: str, kind: str, rng: random.Random) -> str:
    """The value with one character changed that its checksum is about."""
    if kind == "ethereum":
        place = next(i for i in range(41, 1, -1) if value[i].isalpha())
        return value[:place] + value[place].swapcase() + value[place + 1 :]
    if kind == "vat: foreign":
        others = (one_digit_changed(value, rng) for _ in count())
        return next(other for other in others if not vatin.is_valid(bare(other)))
    place = 8 if kind == "vin" else len(value) - 1
    alphabets = {"bitcoin": checks.BASE58, "litecoin": checks.BASE58}
    others = checks.BECH32 if kind.endswith("bech32") else alphabets.get(kind, string.digits)
    return value[:place] + rng.choice([c for c in others if c != value[place]]) + value[place + 1 :]


def one_digit_changed(value: str, rng: random.Random) -> str:
    place = rng.choice([i for i, character in enumerate(value) if character.isdigit()])
    return value[:place] + rng.choice([c for c in string.digits if c != value[place]]) + value[place + 1 :]


@pytest.mark.parametrize("kind", SPELLINGS)
def test_no_value_with_a_wrong_character_is_proven(kind):
    make, spellings = SPELLINGS[kind]
    rng, fake = random.Random(kind), Faker(["fr_FR", "en_GB", "de_DE"])
    Faker.seed(1)
    for i in range(HOW_MANY):
        value = rng.choice(spellings)(wrong(make(rng, fake), kind, rng))
        text = FRAMES[i % len(FRAMES)].format(WORDS_BEFORE.get(kind, "") + value)
        assert f"rule:{kind.split(':')[0]}" not in {f.rule for f in find(text)}, value


def test_siren_and_siret_are_proven_where_the_text_says_what_they_are():
    number = "732829320"
    assert siren.is_valid(number)
    assert [f.rule for f in find(f"SIREN : {number}")] == ["rule:siren"]
    assert [f.rule for f in find("RCS Paris 732 829 320, SIRET 732 829 320 00074")] == ["rule:siren", "rule:siret"]
    assert find(f"call {number}") == []


SEGWIT = "BC1QAR0SRRR7XFKVY5L643LYDNW9RE59GTZZWF5MDQ"
TAPROOT = "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr"
TEXTS = {
    "a card before its date and code": ("4539 1488 0343 6467 12/27 123", ["4539 1488 0343 6467"]),
    "two cards": ("4539148803436467, 4539 1488 0343 6467", ["4539148803436467", "4539 1488 0343 6467"]),
    "full width": ("４５３９１４８８０３４３６４６７", ["４５３９１４８８０３４３６４６７"]),
    "within a longer number": ("94539148803436467", []),
    "a word of another language before digits": ("de 136695976", []),
    "digits and an address side by side": ("50 204.8.203.215", []),
    "taproot": (f"{TAPROOT}.", [TAPROOT]),
    "segwit in capitals": (SEGWIT, [SEGWIT]),
    "a card after digits": ("on 12 4539 1488 0343 6467", ["4539 1488 0343 6467"]),
    "one digit alone": ("0000 0000 0000 0000", []),
    "card, month and year": ("4539 1488 0343 6467 12 27", ["4539 1488 0343 6467"]),
    "a card of an issuer without longer ones, and its code": ("5555 5555 5555 4444 123", ["5555 5555 5555 4444"]),
    "a card with dashes and its code": ("4539-1488-0343-6467 123", ["4539-1488-0343-6467"]),
    "a card beside dates": ("3.4.2024 4539 1488 0343 6467 12-04-2024", ["4539 1488 0343 6467"]),
    "more groups of the same size": ("4539 1488 0343 6467 4539", []),
    "a wrong IBAN that holds what could be a card": ("DE88 4539 1488 0343 6467 00", []),
    "an address behind": ("SIRET 732 829 320 00074 75008 Paris", ["732 829 320 00074"]),
    "a telephone number behind": ("NIR 1 85 05 78 006 084 91 06 12 34 56 78", ["1 85 05 78 006 084 91"]),
    "dashes of a word processor": ("4539\u20131488\u20130343\u20136467", ["4539\u20131488\u20130343\u20136467"]),
    "two kinds of separators": ("4539 1488-0343 6467", []),
    "a country before dots": ("BE 0428.759.497", ["BE 0428.759.497"]),
    "VAT numbers of countries without checksums": (
        "EG123456789 KR1234567890 TN1234567A ALK12345678L MXABC680524P76",
        [],
    ),
    "an address without letters": ("0x" + 40 * "0", []),
    "an English company": ("VAT GB 980 7806 84", ["GB 980 7806 84"]),
    "an Austrian one": ("UID ATU13585627.", ["ATU13585627"]),
}


@pytest.mark.parametrize("text, values", TEXTS.values(), ids=TEXTS)
def test_what_is_proven(text, values):
    assert [text[f.start : f.end] for f in find(text) if f.proven] == values


FORMS = {
    "EMAIL": ["ann.lee+x@mail.example.co.uk", "élodie@exemple.fr"],
    "URL": ["https://example.com/a?b=c&d=(e", "www.exemple.fr/é"],
    "IPV4": ["192.168.0.1"],
    "IPV6": ["2001:db8::8a2e:370:7334", "fe80::1"],
    "MAC": ["00:1A:2b:3C:4d:5E", "00-1a-2b-3c-4d-5e"],
    "SSN": ["123-45-6789"],
    "BIC": ["BNPAFRPP8XX"],
    "PHONENUMBER": ["+33 6 12 34 56 78", "06 12 34 56 78", "+44 20 7946 0018", "(212) 555-2368"],
}


@pytest.mark.parametrize(("label", "value"), [(label, value) for label, values in FORMS.items() for value in values])
def test_forms_are_found_with_all_rules_alone_and_prove_nothing(label, value):
    text = f"Voici {value}, merci."
    assert ("Voici ", value) not in [(text[: f.start], text[f.start : f.end]) for f in find(text)]
    (found,) = [f for f in find(text, "all") if f.label == label]
    assert text[found.start : found.end] == value and not found.proven


@pytest.mark.parametrize(
    "text", ["12:34:56", "::", "std::vector", "1.2.3", "256.1.1.1", "1.2.3.4.5", "a@b", "@ann", "000-12-3456"]
)
def test_what_only_resembles_a_form_is_not_found(text):
    assert [f for f in find(text, "all") if f.label not in ("PHONENUMBER", "URL")] == []


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from("0123456789 .-ABFRGTX4:@/wé\n"), max_size=60), st.sampled_from(MODES))
def test_found_values_are_sorted_and_do_not_overlap(text, mode):
    end = 0
    for found in find(text, mode):
        assert end <= found.start < found.end <= len(text) and (found.proven or mode == "all")
        end = found.end


WORST = [
    "1",
    "1 ",
    "12 ",
    "4539 ",
    "FR76",
    "FR 1",
    "1A",
    "bc1q",
    "a@",
    "a.",
    "http://",
    "www.",
    ":",
    "1.",
    "ab:",
    "@",
    "0x",
    "a-",
]


@pytest.mark.parametrize("characters", WORST)
def test_no_text_takes_more_than_linear_time(characters):
    """A rule whose time grew with the square of the text would not come back: 100,000 characters."""
    assert isinstance(find(characters * (100_000 // len(characters)), "all"), list)


@pytest.mark.parametrize(("missing", "mode"), [("STDNUM", "proven"), ("PHONES", "all")])
def test_a_missing_package_is_said_in_one_line(monkeypatch, missing, mode):
    monkeypatch.setattr(checks, missing, False)
    with pytest.raises(UserError, match=r"pip install '\.\[rules\]'"):
        find("text", mode)
    assert find("text", "none") == []


def test_without_keccak_a_mixed_case_address_is_a_form(monkeypatch):
    address = an_ethereum(random.Random(0), Faker())
    monkeypatch.setattr(checks, "KECCAK", False)
    assert find(address) == [] and [f.proven for f in find(address, "all")] == [False]


def test_luhn_is_stdnums():
    assert all(checks.luhn(f"{i:06}") == luhn.is_valid(f"{i:06}") for i in range(0, 10**6, 37))
