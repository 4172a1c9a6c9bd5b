"""Make the values of the 56 types, locale by locale.

The patterns of most stand in skeletons/values.txt; what a pattern cannot say, such as a checksum, is one of MAKERS.
The locales TARGETS have the values that ai4privacy's rows have, of skeletons/target_values.txt.
"""

import random
import re
import string
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial
from itertools import pairwise

from pii.synthetic.checksums import BASE58, base58, bech32, luhn_digit
from pii.synthetic.sources import LOCALES, PARENTS, TARGETS, Sources

WILDCARDS = {
    "#": string.digits,
    "%": "123456789",
    "^": "ABCDEFGHJKLMNPRSTVWXYZ",
    "~": "0123456789abcdef",
    "§": "0123456789ABCDEF",
    "↑": string.ascii_uppercase,
    "¤": string.ascii_uppercase + string.digits,
    "¬": BASE58,
    "¿": string.ascii_letters + string.digits + "_",
}
WILDCARD = re.compile(f"[{''.join(WILDCARDS)}]")
SEPARATORS = {  # of thousands (or none), then of decimals
    **dict.fromkeys(LOCALES["en"], [",."] * 4 + ["."]),
    "fr_FR": ["\u00a0,", "\u00a0,", "\u202f,", " ,", ","],
    "fr_CH": ["'.", "'.", "’.", "\u00a0."],
    "fr_CA": ["\u00a0,", "\u00a0,", " ,", ","],
}
SEPARATORS |= {locale: SEPARATORS[parent] for locale, parent in PARENTS.items()}


@dataclass
class Person:
    """Whom the names and the age within a row belong to."""

    sex: str  # F or M
    birth: date
    details: dict[str, str] = field(default_factory=dict)  # label → value, of those that the row already has


class Values:
    """The values of one row after another: `start_row("fr_CA")`, then `make("CITY")` for each span.

    Person, payment card and date format stay within a row.
    """

    def __init__(self, rng: random.Random, seed: int) -> None:
        self.rng, self.sources = rng, Sources(seed)

    def start_row(self, locale: str) -> None:
        """Forget the row before: another person, card and day."""
        self.locale = locale
        self.fields: dict[str, str | int] = {}  # what {first}, {month}, ... of a pattern stand for
        self.formats: dict[tuple[str, str], str] = {}  # (locale, key) → pattern of its dates or times
        if "CARD" in self.sources[locale]:
            card = self.rng.choice(self.sources[locale]["CARD"].patterns)
            self.card_issuer, _, self.card_pattern = card.partition(":")
        self.day = date(2012, 1, 1) + timedelta(days=self.rng.randrange(15 * 365))
        self.person = self.new_person()
        self.makers = TARGET_MAKERS if locale in TARGETS.values() else MAKERS

    def new_person(self) -> Person:
        """A person of 18 to 90 years, one in twenty of 3 to 18."""
        sex = self.rng.choice("FM")
        youngest, oldest = self.rng.choice([(18, 90)] * 19 + [(3, 18)])
        return Person(sex, self.day - timedelta(days=self.rng.randrange(youngest * 366, oldest * 365)))

    def person_without(self, label: str) -> Person:
        """The person of the row as long as the row has no `label` of that one yet, then a new one."""
        if label in self.person.details:
            self.person = self.new_person()
        return self.person

    def make(self, key: str) -> str:
        """A value of a type, or of a key that only the files of values know."""
        return self.makers[key](self) if key in self.makers else self.draw(key)

    def draw(self, key: str) -> str:
        """One of Faker's values or an expanded pattern."""
        source = self.sources[self.locale][key]
        if self.rng.random() < source.share:
            return self.rng.choice(source.pool)
        return self.expand(self.rng.choice(source.patterns))

    def expand(self, pattern: str) -> str:
        """Replace the wildcards of a pattern by random characters, then each `{KEY}` by a value."""
        text = WILDCARD.sub(lambda match: self.rng.choice(WILDCARDS[match[0]]), pattern)
        if text.endswith("!"):
            text = text[:-1] + luhn_digit(text)
        return text.format_map(self) if "{" in text else text

    def __getitem__(self, key: str) -> str | int:
        """What stands for `{key}` in a pattern."""
        return self.fields[key] if key in self.fields else self.make(key)


# Makers, in the order of MAKERS


def person_detail(values: Values, label: str) -> str:
    """PREFIX, FIRSTNAME, MIDDLENAME or LASTNAME; all agree with the sex of the person."""
    person = values.person_without(label)
    person.details[label] = values.draw("SURNAME" if label == "LASTNAME" else f"{label}_{person.sex}")
    return person.details[label]


def contact(values: Values, label: str) -> str:
    """EMAIL, USERNAME or URL out of the name of the row's person, in ASCII as addresses are."""
    person = values.person
    first = ascii_name(person.details.get("FIRSTNAME") or values.draw(f"FIRSTNAME_{person.sex}"))
    last = ascii_name(person.details.get("LASTNAME") or values.draw("SURNAME"))
    values.fields = {"first": first, "last": last, "f": first[0], "site": ascii_name(values.draw("SURNAME"))}
    return values.draw(label)


def ascii_name(name: str) -> str:
    """Small letters without accents, and hyphens; `name` where none is left, as of Greek ones."""
    return re.sub("[^a-z-]", "", unicodedata.normalize("NFKD", name.lower().replace("ø", "o"))) or "name"


def age(values: Values) -> str:
    """Full years of the person on the day of the row."""
    person = values.person_without("AGE")
    person.details["AGE"] = str((values.day - person.birth).days * 100 // 36525)
    return person.details["AGE"]


def french_nir(values: Values) -> str:
    """Sex, year, month, department, commune, order and 97 less that number modulo 97; 2A counts as 19, 2B as 18."""
    rng, person = values.rng, values.person
    department = rng.choice([*(f"{n:02}" for n in range(1, 96) if n != 20), "2A", "2B"])
    number = f"{'12'[person.sex == 'F']}{person.birth:%y%m}{department}{rng.randint(1, 500):03}{rng.randint(1, 600):03}"
    key = 97 - int(number.replace("2A", "19").replace("2B", "18")) % 97
    return rng.choice(["", " "]).join(groups(f"{number}{key:02}", 1, 3, 5, 7, 10, 13))


def street(values: Values) -> str:
    """A street, small at its start within a French sentence, often with a capital in an address."""
    name = values.draw("STREET")
    return name[0].upper() + name[1:] if values.rng.random() < 0.35 else name


def next_date(values: Values) -> str:
    """A date up to 39 days after the one before in the row."""
    values.day += timedelta(days=values.rng.randrange(40))
    return date_and_time(values, "DATE", values.day)


def date_and_time(values: Values, key: str, day: date) -> str:
    """`day` and a time of day, as one pattern of `key` writes them, the same one throughout a row."""
    rng, sources = values.rng, values.sources[values.locale]
    ordinal = "th" if day.day in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
    month, weekday = sources["MONTHS"].patterns[day.month - 1], sources["WEEKDAYS"].patterns[day.weekday()]
    hour = rng.choice([0, *range(6, 24), *range(8, 20)])
    values.fields = {"d": day.day, "th": ordinal, "day": "1er" if day.day == 1 else day.day, "weekday": weekday}
    values.fields |= {"m": day.month, "month": month, "mon": month[:3], "y": day.year, "yy": day.year % 100}
    values.fields |= {"h": hour, "h12": hour % 12 or 12, "half": "pm" if hour > 11 else "am"}
    values.fields |= {"min": rng.randrange(60), "sec": rng.randrange(60)}
    return values.expand(values.formats.setdefault((values.locale, key), rng.choice(sources[key].patterns)))


def amount(values: Values) -> str:
    """Money from 5 to 900,000, its thousands and decimals separated as the locale does."""
    separators = values.rng.choice(SEPARATORS[values.locale])
    thousands, decimal = separators[:-1], separators[-1]
    text = f"{int(10 ** values.rng.uniform(0.7, 5.95)):,}".replace(",", thousands)
    return text if values.rng.random() < 0.3 else text + decimal + values.expand("##")


def password(values: Values) -> str:
    """A surname with a tail, or 8 to 14 random characters."""
    rng = values.rng
    if rng.random() < 0.4:
        tail = values.expand(rng.choice(["####", "##$", "_%#", "@20##", "*%#?", "-#-^"]))
        return values.draw("SURNAME").replace(" ", "") + tail
    return "".join(rng.choices(string.ascii_letters + string.digits * 2 + "!#$%&*+-=?@_", k=rng.randint(8, 14)))


def card_number(values: Values) -> str:
    """The number of the row's card, in one piece or in groups."""
    number = values.expand(values.card_pattern)
    cuts = (4, 8, 12) if len(number) == 16 else (4, 10)
    return values.rng.choice(["", "", " ", " ", "-"]).join(groups(number, *cuts))


def iban(values: Values) -> str:
    """An IBAN in one piece or in groups of four. French accounts end with a key of their own."""
    pattern = values.draw("IBAN")
    country, account = pattern[:2], pattern[2:]
    if country == "FR":
        bank, branch, number = (int(part) for part in groups(account, 5, 10))
        account += f"{97 - (89 * bank + 15 * branch + 3 * number) % 97:02}"
    text = with_check_digits(country, account)
    return text if values.rng.random() < 0.5 else " ".join(re.findall(".{1,4}", text))


def with_check_digits(country: str, account: str) -> str:
    """ISO 13616: country, check digits modulo 97, national number."""
    check = 98 - int("".join(str(int(c, 36)) for c in f"{account}{country}00")) % 97
    return f"{country}{check:02}{account}"


def iban_of_target(values: Values) -> str:
    """An IBAN in one piece; faker.js knows of no key of the account."""
    pattern = values.draw("IBAN")
    return with_check_digits(pattern[:2], pattern[2:])


def swiss_ahv(values: Values) -> str:
    """Twelve digits from 756 and the check digit of EAN-13."""
    number = values.expand("756#########")
    check = -sum(int(d) * (1 + 2 * (i % 2)) for i, d in enumerate(number)) % 10
    return values.rng.choice([".", ".", ""]).join(groups(f"{number}{check}", 3, 7, 11))


def coin_address(values: Values, versions: list[int], prefix: str) -> str:
    """A Bitcoin or Litecoin address: Base58Check mostly, Bech32 sometimes."""
    rng = values.rng
    return bech32(prefix, rng) if rng.random() < 0.3 else base58(rng.choice(versions), rng)


def groups(text: str, *cuts: int) -> list[str]:
    """The parts of `text` between the positions of `cuts`."""
    return [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]


MAKERS: dict[str, Callable[[Values], str]] = {  # of what patterns alone cannot make
    **{label: partial(person_detail, label=label) for label in ("PREFIX", "FIRSTNAME", "MIDDLENAME", "LASTNAME")},
    **{label: partial(contact, label=label) for label in ("EMAIL", "USERNAME", "URL")},
    "AGE": age,
    "SEX": lambda values: values.draw(f"SEX_{values.person.sex}"),
    "NIR": french_nir,
    "STREET": street,
    "DATE": next_date,
    "DOB": lambda values: date_and_time(values, "DOB", values.person.birth),
    "TIME": lambda values: date_and_time(values, "TIME", values.day),
    "AMOUNT": amount,
    "PASSWORD": password,
    "CREDITCARDISSUER": lambda values: values.card_issuer,
    "CREDITCARDNUMBER": card_number,
    "CREDITCARDCVV": lambda values: values.expand("####" if values.card_issuer == "American Express" else "###"),
    "IBAN": iban,
    "AHV": swiss_ahv,
    "BITCOINADDRESS": partial(coin_address, versions=[0, 0, 5], prefix="bc"),
    "LITECOINADDRESS": partial(coin_address, versions=[48, 48, 50], prefix="ltc"),
}
TARGET_MAKERS = {"IBAN": iban_of_target}  # all else is a pattern
