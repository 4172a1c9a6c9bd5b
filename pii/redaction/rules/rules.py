"""Values that a rule finds: a candidate by its form, then its checksum where it has one.

A value with a right checksum is *proven*; one that only has the form is not. Everything is linear in the text: what a
candidate may be is bounded, and each starts where a word does.
"""

import ipaddress
import re
import unicodedata
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice, zip_longest
from typing import NamedTuple

from pii.common import UserError
from pii.redaction.folding import folded
from pii.redaction.rules import checks
from pii.redaction.rules.checks import by_stdnum

MODES = ("none", "proven", "all")
PROVEN_SCORE, FORM_SCORE = 1.0, 0.5
WORD = re.compile(r"[^\W_]+")
SEPARATORS = {*"./\u2212"} | {c for c in map(chr, range(0x3001)) if unicodedata.category(c) in ("Zs", "Pd")}
MOST, MOST_WORDS = 34, 12  # characters of a number, and words that they are written in: an IBAN's
FEWEST = 9  # characters
CONTEXT = 40  # characters before a number that may say what it is
ADDRESS_START = r"(?<![^\W_])"
ADDRESS_END = r"(?![^\W_])"


Word = tuple[int, int]  # where it starts and ends


class Found(NamedTuple):
    """A value that a rule found: offsets in code points, end exclusive."""

    start: int
    end: int
    label: str
    rule: str
    proven: bool


class Number(NamedTuple):
    """A number that is written with separators or without."""

    name: str
    label: str
    form: re.Pattern  # of the compact value, in capitals
    check: Callable[[str], bool]
    groups: tuple[tuple[int, ...], ...] = ()  # how many characters stand together in its usual spellings
    word: re.Pattern | None = None  # must stand shortly before it
    most_words: int = MOST_WORDS
    capitals: bool = False  # its first two letters must be: else `de 136695976` would be a German one


class Address(NamedTuple):
    """A value without separators of its own."""

    name: str
    label: str
    form: re.Pattern
    check: Callable[[str], bool]  # is it proven?
    valid: Callable[[str], bool] = lambda value: True  # may it be one at all?


def number(form: str) -> re.Pattern:
    return re.compile(form, re.ASCII)


COMPANY = re.compile(r"\b(?:siren|siret|rcs|r\.c\.s\.?)\b", re.I)
VIN = number(r"(?=\d*[A-Z])[A-HJ-NPR-Z0-9]{8}[0-9X][A-HJ-NPR-Z0-9]{8}")
VAT = number(r"[A-Z]{2}[A-Z0-9]{8,12}|CHE\d{9}[A-Z]{2,4}")
CARD = number(
    r"4\d{12}(?:\d{3}){0,2}"  # Visa
    r"|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|6011\d{12}(?:\d{3})?|6(?:4[4-9]|5\d)\d{13,16}"  # Discover
    r"|(?:3(?:0[0-5]|8\d|9\d)\d|3095)\d{10}(?:\d\d)?|36\d{12,17}"  # Diners Club
    r"|35\d{14}|35(?:2[89]|[3-8]\d)\d{12,15}|(?:2131|1800)\d{11}"  # JCB
    r"|(?:5[0678]|67)\d{10,17}|(?:0604|63(?:0[4-9]|[1-8]\d|90))\d{8,15}"  # Maestro
    r"|62\d{14,17}"  # UnionPay
    r"|220[0-4]\d{12}"  # Mir
)
FOURS = tuple(
    (4,) * whole + rest for whole, rest in ((3, (1,)), (3, (2,)), (3, (3,)), (4, ()), (4, (1,)), (4, (2,)), (4, (3,)))
)
# those that prove most come first: a value belongs to the first rule that takes it
NUMBERS = (
    Number("iban", "IBAN", number(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}"), checks.iban),
    Number("nir", "SSN", number(r"[1-478]\d{4}(?:\d\d|2[AB])\d{8}"), by_stdnum("fr.nir"), ((1, 2, 2, 2, 3, 3, 2),)),
    Number("ahv", "SSN", number(r"756\d{10}"), by_stdnum("ch.ssn"), ((3, 4, 4, 2),)),
    Number("vat", "VATNUMBER", VAT, checks.vat, most_words=5, capitals=True),
    Number("card", "CREDITCARDNUMBER", CARD, checks.card, (*FOURS, (4, 6, 5), (4, 6, 4), (4, 4, 5))),
    Number("imei", "PHONEIMEI", number(r"\d{15}"), checks.card, ((2, 6, 6, 1), (6, 2, 6, 1), (8, 6, 1))),
    Number("siret", "COMPANYNUMBER", number(r"\d{14}"), by_stdnum("fr.siret"), ((3, 3, 3, 5), (9, 5)), COMPANY),
    Number("siren", "COMPANYNUMBER", number(r"\d{9}"), by_stdnum("fr.siren"), ((3, 3, 3),), COMPANY),
    Number("vin", "VEHICLEVIN", VIN, checks.vin, most_words=1),
)
SPELLINGS = {groups for rule in NUMBERS for groups in rule.groups}


def never(value: str) -> bool:
    """Of what has no checksum."""
    return False


def is_ip(value: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(value).version == version and any(character.isalnum() for character in value)
    except ValueError:
        return False


def address(form: str) -> re.Pattern:
    return re.compile(ADDRESS_START + form + ADDRESS_END, re.ASCII)


HEX = "[0-9A-Fa-f]"
ADDRESSES = (
    Address("bitcoin", "BITCOINADDRESS", address(r"[13][1-9A-HJ-NP-Za-km-z]{25,34}"), checks.bitcoin),
    Address(
        "bitcoin",
        "BITCOINADDRESS",
        address(r"(?:bc1[02-9ac-hj-np-z]{11,71}|BC1[02-9AC-HJ-NP-Z]{11,71})"),
        checks.bitcoin,
    ),
    Address("litecoin", "LITECOINADDRESS", address(r"[LM][1-9A-HJ-NP-Za-km-z]{25,34}"), checks.litecoin),
    Address(
        "litecoin",
        "LITECOINADDRESS",
        address(r"(?:ltc1[02-9ac-hj-np-z]{11,71}|LTC1[02-9AC-HJ-NP-Z]{11,71})"),
        checks.litecoin,
    ),
    Address("ethereum", "ETHEREUMADDRESS", address(rf"0x{HEX}{{40}}"), checks.ethereum),
    Address(
        "email",
        "EMAIL",
        re.compile(
            r"(?<![\w.%+-])[\w%+-]{1,64}(?:\.[\w%+-]{1,64}){0,8}@(?:[^\W_][\w-]{0,62}\.){1,8}[^\W\d_]{2,24}"
            + ADDRESS_END
        ),
        never,
    ),
    Address("url", "URL", re.compile(r"\b(?:https?://|www\.)[^\s<>\"'«»]{0,2000}[^\s<>\"'«».,;:!?)\]}]", re.I), never),
    Address("mac", "MAC", address(rf"{HEX}{{2}}(?:([:-]){HEX}{{2}})(?:\1{HEX}{{2}}){{4}}"), never),
    Address("ipv4", "IPV4", address(r"(?<!\d\.)\d{1,3}(?:\.\d{1,3}){3}(?!\.\d)"), never, partial(is_ip, version=4)),
    Address(
        "ipv6",
        "IPV6",
        re.compile(rf"(?<![\w:]){HEX}{{0,4}}(?::{HEX}{{0,4}}){{2,7}}(?![\w:])"),
        never,
        partial(is_ip, version=6),
    ),
    Address("us-ssn", "SSN", address(r"(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}"), never),
    Address(
        "bic",
        "BIC",
        address(r"[A-Z]{4}[A-Z]{2}[A-Z0-9]{2}(?:[A-Z0-9]{3})?"),
        never,
        lambda value: any(c.isdigit() for c in value) and by_stdnum("bic")(value),
    ),
)


def find(text: str, mode: str = "proven") -> list[Found]:
    """The values in a text, sorted, without overlaps: those that are `proven`, or `all` that have a form. Full-width
    digits and the like are read as plain ones. Raises UserError where a package is missing."""
    check_mode(mode)
    if mode == "none":
        return []
    read = folded(text)
    found = [*numbers(read), *addresses(read, mode)]
    if mode == "all":
        found += phones(read)
    return without_overlaps(found)


def check_mode(mode: str) -> None:
    """Raise UserError at a mode that is none, or whose packages are missing."""
    if mode not in MODES:
        raise UserError(f"no rules {mode}: choose among {', '.join(MODES)}")
    missing = [] if mode == "none" or checks.STDNUM else ["python-stdnum"]
    missing += ["phonenumbers"] if mode == "all" and not checks.PHONES else []
    if missing:
        raise UserError(f"--rules {mode} needs {' and '.join(missing)}: pip install '.[rules]', or --rules none")


def without_overlaps(found: list[Found]) -> list[Found]:
    """Proven values first, then longer ones, then in the order of the rules."""
    kept: list[Found] = []
    taken: set[int] = set()
    for value in sorted(found, key=lambda value: (not value.proven, value.start - value.end)):
        if taken.isdisjoint(range(value.start, value.end)):
            taken.update(range(value.start, value.end))
            kept.append(value)
    return sorted(kept)


def numbers(text: str) -> Iterator[Found]:
    """Proven numbers: words that single separators join to the right form. Where digits stand beside digits, only the
    whole and what is one word or grouped as usual is tried: of any window one in ten would have a check digit."""
    rest = (match.span() for match in WORD.finditer(text))
    words = deque(islice(rest, MOST_WORDS + 1))
    before = None
    while words:
        if could_start(text, words) and (found := number_at(text, words, before)):
            yield found
        before = words.popleft()
        words.extend(islice(rest, 1))


def number_at(text: str, words: Sequence[Word], before: Word | None) -> Found | None:
    """The longest proven number that begins with the first of these words; `before` is the word before it."""
    compact, start, found = "", words[0][0], None
    groups: tuple[int, ...] = ()
    mark = ""  # the separator between its digits: one throughout; words of letters alone may have another
    for word, after in zip_longest(islice(words, MOST_WORDS), islice(words, 1, MOST_WORDS + 1)):
        compact += text[slice(*word)]
        groups += (word[1] - word[0],)
        if len(compact) > MOST or not compact.isascii():
            break
        whole = (start, word[1])
        complete = len(compact) >= FEWEST and is_whole(text, whole, compact, groups, mark, before, after)
        if complete and (rule := proving(text, start, compact, groups)):
            found = Found(*whole, rule.label, f"rule:{rule.name}", True)
        if after is None or not is_joined(text, word, after):
            break
        if has_digit(text[slice(*word)]) and has_digit(text[slice(*after)]):
            if mark not in ("", plain(text[word[1]])):
                break
            mark = plain(text[word[1]])
    return found


def is_whole(
    text: str, place: Word, compact: str, groups: tuple[int, ...], mark: str, before: Word | None, after: Word | None
) -> bool:
    """Whether words are all of a number: those in usual groups are, unless such a group goes on before or after them;
    others where no digits are joined to them."""
    if len(groups) == 1 or not compact.isdecimal():
        return True
    sooner, later = more(text, place, before, mark), more(text, place, after, mark)
    if groups not in SPELLINGS:
        return not sooner and not later
    longer = (*groups, len(later))
    could_be = any(longer in rule.groups and rule.form.fullmatch(compact + later) for rule in NUMBERS)
    return len(sooner) != groups[0] and {*groups} != {len(later)} and not could_be


def more(text: str, place: Word, word: Word | None, mark: str) -> str:
    """The word beside a number if it may be more of it: if it has digits, the number's own separator joins it, and no
    other joins it to digits further on, as in a date. Else nothing."""
    if word is None or not is_joined(text, *sorted((place, word))) or not has_digit(text[slice(*word)]):
        return ""
    follows = word > place
    between = text[place[1] if follows else word[1]]
    beyond = text[word[1] : word[1] + 2] if follows else text[max(0, word[0] - 2) : word[0]][::-1]
    elsewhere = has_digit(beyond[1:]) and beyond[0] in SEPARATORS and plain(beyond[0]) != mark
    return text[slice(*word)] if plain(between) == mark and not elsewhere else ""


def plain(separator: str) -> str:
    """All spaces are the same."""
    return " " if separator.isspace() else separator


def is_joined(text: str, word: Word, after: Word) -> bool:
    """Whether one separator stands between two words."""
    return after[0] - word[1] == 1 and text[word[1]] in SEPARATORS


def could_start(text: str, words: Sequence[Word]) -> bool:
    """Whether a number may begin with the first word: it has digits, or is the letters of a country before some."""
    word = text[slice(*words[0])]
    if len(word) in (2, 3) and word.isalpha():
        return len(words) > 1 and is_joined(text, *islice(words, 2)) and has_digit(text[slice(*words[1])])
    return has_digit(word)


def has_digit(word: str) -> bool:
    return any("0" <= character <= "9" for character in word)


def proving(text: str, start: int, compact: str, groups: tuple[int, ...]) -> Number | None:
    """The rule whose checksum a compact value has; what is grouped as one kind of number is none of another."""
    value = compact.upper()
    for rule in NUMBERS:
        if (
            rule.form.fullmatch(value)
            and len(groups) <= rule.most_words
            and (groups in rule.groups or groups not in SPELLINGS or not rule.groups)
            and (not rule.capitals or compact[:2].isupper())
            and (rule.word is None or rule.word.search(text, max(0, start - CONTEXT), start))
            and rule.check(value)
        ):
            return rule
    return None


def addresses(text: str, mode: str) -> Iterator[Found]:
    """Addresses and other values of one piece."""
    for rule in ADDRESSES:
        if rule.check is never and mode != "all":
            continue
        for match in rule.form.finditer(text):
            proven = rule.check(match[0])
            if proven or (mode == "all" and rule.valid(match[0])):
                yield Found(*match.span(), rule.label, f"rule:{rule.name}", proven)


def phones(text: str) -> Iterator[Found]:
    """Phone numbers as Google's library finds them, of France, Britain and the United States where no country is
    named."""
    import phonenumbers

    seen = set()
    for region in ("FR", "GB", "US"):
        for match in phonenumbers.PhoneNumberMatcher(text, region, max_tries=len(text) + 1):
            if (match.start, match.end) not in seen:
                seen.add((match.start, match.end))
                yield Found(match.start, match.end, "PHONENUMBER", "rule:phone", False)
