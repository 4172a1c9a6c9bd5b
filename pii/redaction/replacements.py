"""What stands in a text in the place of each span that a model found, and the vault that brings the text back."""

import hmac
import io
import random
import re
import threading
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from pii.common import UserError
from pii.redaction.vault import BRACKETED, NUMBERED, Vault, count_from_1
from pii.synthetic.sources import LOCALES
from pii.synthetic.values import Values

KINDS = ("label", "numbered", "mask", "hash", "fake", "keep", "remove")
MODEL = "model"  # the source of a span that no rule or list found
MASK_BUT_LAST = re.compile(r"mask:last([1-9][0-9]?)")
KEY_BYTES = 16  # of a key at least
HASH_DIGITS = 16  # hex digits of a hash that a placeholder shows
NO_LINE_BREAK = re.compile(r"[^\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")  # other than what str.splitlines breaks at

TYPES = """ACCOUNTNAME ACCOUNTNUMBER AGE AMOUNT BIC BITCOINADDRESS BUILDINGNUMBER CITY COMPANYNAME COUNTY CREDITCARDCVV
    CREDITCARDISSUER CREDITCARDNUMBER CURRENCY CURRENCYCODE CURRENCYNAME CURRENCYSYMBOL DATE DOB EMAIL ETHEREUMADDRESS
    EYECOLOR FIRSTNAME GENDER HEIGHT IBAN IP IPV4 IPV6 JOBAREA JOBTITLE JOBTYPE LASTNAME LITECOINADDRESS MAC
    MASKEDNUMBER MIDDLENAME NEARBYGPSCOORDINATE ORDINALDIRECTION PASSWORD PHONEIMEI PHONENUMBER PIN PREFIX
    SECONDARYADDRESS SEX SSN STATE STREET TIME URL USERAGENT USERNAME VEHICLEVIN VEHICLEVRM ZIPCODE"""
OTHER_LABELS = {  # what stands for the labels of other label sets, which are given without their underscores
    "{FIRSTNAME} {LASTNAME}": "PERSON PER NAME FULLNAME",
    "{FIRSTNAME}": "GIVENNAME",
    "{LASTNAME}": "SURNAME FAMILYNAME",
    "{PREFIX}": "TITLE",
    "{COMPANYNAME}": "ORGANIZATION ORG COMPANY",
    "{CITY}": "GPE LOCATION LOC",
    "{STREET}": "STREETADDRESS ADDRESS",
    "{EMAIL}": "EMAILADDRESS",
    "{PHONENUMBER}": "PHONE TELEPHONENUM TELEPHONENUMBER",
    "{URL}": "DOMAINNAME",
    "{IP}": "IPADDRESS",
    "{IBAN}": "IBANCODE",
    "{CREDITCARDNUMBER}": "CREDITCARD",
    "{BITCOINADDRESS}": "CRYPTO",
    "{SSN}": "USSSN SOCIALNUM",
    "{DATE}": "DATETIME",
    "{DOB}": "DATEOFBIRTH BIRTHDATE",
}
CASE_MATTERS = {"{BITCOINADDRESS}", "{LITECOINADDRESS}", "{CURRENCYSYMBOL}"}
FAKE_ATTEMPTS = 100  # draws that may equal the value before its label stands in its place
FAKES_KEPT = 1 << 16  # values whose fakes are remembered
VALUES_LOCK = threading.Lock()  # all threads draw from one Values


class Span(NamedTuple):
    """Characters of a text that a model gave a label."""

    start: int  # in code points
    end: int  # exclusive
    label: str
    score: float  # from 0 to 1
    source: str = MODEL  # or the rule or list that found it, as "rule:iban"


class Replacer:
    """Replaces the values in texts, all in one way:

    label      [EMAIL]
    numbered   [EMAIL_1]: the same value has the same number within a document; a vault keeps what stood there, and
               its numbers go on from document to document
    mask       a `*` for each code point of the value; its line breaks stay
    hash       [EMAIL_0123456789abcdef]: the same value has the same hash in all documents of one key
    fake       a made-up value of the same type, the same one wherever the value occurs; see `Fakes`
    keep       the value itself
    remove     nothing
    mask:last4 `*` for each letter and digit but the last four, or as many as are said; all else stays

    or each label in a way of its own.
    """

    def __init__(
        self,
        kind: str = "label",
        key: bytes | None = None,
        vault: Vault | None = None,
        seed: int = 0,
        kinds: Mapping[str, str] | None = None,
    ) -> None:
        """`kinds`: label → kind, where it is another than `kind`. A key of 16 bytes or more is needed by hash and makes
        fakes secret; a vault is for numbered alone, beside values that are kept. UserError if something is missing: the
        key, or Faker for fakes."""
        self.kinds = dict(kinds or {})
        used = {kind, *self.kinds.values()}
        for name in used:
            check_kind(name)
        if "hash" in used and len(key or b"") < KEY_BYTES:
            source = "give it with --hash-key-file FILE or the environment variable PII_HASH_KEY"
            raise UserError(f"hashes need a key of at least {KEY_BYTES} bytes: {source}")
        if vault is not None and not used <= {"numbered", "keep"}:
            raise UserError("only numbered placeholders can be kept in a vault")
        self.kind, self.key, self.vault = kind, key or b"", vault
        self.fakes = Fakes(self.key, seed) if "fake" in used else None

    def redact(self, text: str, spans: Iterable[Span], language: str = "und") -> str:
        """`text` with each span replaced and all else unchanged. `language` ("fr", "en-GB") matters to fakes alone.

        ValueError if spans are empty, out of range, unsorted or overlap.
        """
        numbering, position = Numbering(text, self.vault.numbers if self.vault else None), 0
        redacted = io.StringIO(newline="")  # millions of strings are not kept
        for start, end, label, *_ in spans:
            if not position <= start < end <= len(text):
                raise ValueError("spans must be sorted, in range, not empty and without overlaps")
            redacted.write(text[position:start])
            redacted.write(self._replacement(label, text[start:end], language, numbering))
            position = end
        redacted.write(text[position:])
        whole = redacted.getvalue()
        if self.vault is not None:
            self.vault.add(whole, numbering.values() | numbering.literals())
        return whole

    def _replacement(self, label: str, value: str, language: str, numbering: "Numbering") -> str:
        kind = self.kinds.get(label, self.kind)
        match kind:
            case "keep":
                return value
            case "remove":
                return ""
            case "numbered":
                return numbering.placeholder_of(label, value)
            case "mask":
                return NO_LINE_BREAK.sub("*", value)
            case "hash":
                return placeholder(label, keyed_hash(self.key, label, value).hex()[:HASH_DIGITS])
            case "fake":
                assert self.fakes is not None
                return self.fakes.fake_of(label, value, language)
        if last := MASK_BUT_LAST.fullmatch(kind):
            return masked(value, int(last[1]))
        return placeholder(label)


def check_kind(kind: object, where: str = "") -> None:
    """Raise UserError at what is no kind of replacement."""
    if not isinstance(kind, str) or (kind not in KINDS and not MASK_BUT_LAST.fullmatch(kind)):
        before = f"{where}: " if where else ""
        raise UserError(f"{before}no such kind of replacement; choose from {', '.join(KINDS)}, mask:last4")


def masked(value: str, shown: int) -> str:
    """A `*` for each letter and digit but the last ones, of which no more than half are shown; punctuation and white
    space stay."""
    places = [place for place, character in enumerate(value) if character.isalnum()]
    hidden = {*places[: len(places) - min(shown, len(places) // 2)]}
    return "".join("*" if place in hidden or unicodedata.combining(c) else c for place, c in enumerate(value))


def placeholder(label: str, suffix: str | int = "") -> str:
    """[EMAIL], or [EMAIL_suffix]. There are no brackets within, so that placeholders can be told from their text."""
    name = label.replace("[", "_").replace("]", "_")
    return f"[{name}_{suffix}]" if suffix else f"[{name}]"


def keyed_hash(key: bytes, *parts: str) -> bytes:
    """HMAC-SHA256 of the parts in UTF-8 with a NUL between them."""
    return hmac.digest(key, "\0".join(parts).encode("utf-8", "surrogatepass"), "sha256")


class Numbering:
    """The numbered placeholders of one document: by first appearance, one a value, none that stands in the text itself.

    So restoring is exact: what stands in brackets in a redacted text is a placeholder or stood so in the original.
    `numbers`, [LABEL] → the next ones, go on from an earlier document; without them each label begins at 1.
    """

    def __init__(self, text: str, numbers: defaultdict[str, Iterator[int]] | None = None) -> None:
        self.in_text = set(BRACKETED.findall(text))
        self.placeholders: dict[tuple[str, str], str] = {}  # (label, value) → placeholder
        self.numbers = count_from_1() if numbers is None else numbers

    def placeholder_of(self, label: str, value: str) -> str:
        """The placeholder of a value, a new one at its first appearance."""
        if (label, value) not in self.placeholders:
            new = (placeholder(label, number) for number in self.numbers[placeholder(label)])
            self.placeholders[label, value] = next(text for text in new if text not in self.in_text)
        return self.placeholders[label, value]

    def values(self) -> dict[str, str]:
        """placeholder → value."""
        return {text: value for (_, value), text in self.placeholders.items()}

    def literals(self) -> dict[str, str]:
        """What looks like a placeholder in the text itself, standing for itself."""
        return {text: text for text in sorted(self.in_text) if NUMBERED.fullmatch(text)}


# Fakes


class Fakes:
    """Made-up values. A fake depends on key, seed, language, label and value (and the versions of Python and Faker),
    never on what was asked before. It differs from its value by more than case, accents, spaces and punctuation.

    Two values can have the same fake. Without a key, who guesses a value and the seed can check the guess.
    """

    def __init__(self, key: bytes, seed: int) -> None:
        self.key, self.values = b"%d\0" % seed + key, shared_values()
        self.patterns = {label: f"{{{label}}}" for label in TYPES.split()}
        self.patterns |= {label: pattern for pattern, labels in OTHER_LABELS.items() for label in labels.split()}
        self._cached = lru_cache(maxsize=FAKES_KEPT)(self._make)

    def fake_of(self, label: str, value: str, language: str) -> str:
        """A value of the label's type, English unless `language` begins with another that values.py has; [LABEL] if the
        label means nothing to us."""
        language = language[:2].lower()
        with VALUES_LOCK:
            return self._cached(label, value, language if language in LOCALES else "en")

    def _make(self, label: str, value: str, language: str) -> str:
        pattern = self.patterns.get(re.sub("[^A-Z0-9]", "", label.upper()))
        if pattern is None:
            return placeholder(label)
        self.values.rng = rng = random.Random(keyed_hash(self.key, language, label, value))
        for _ in range(FAKE_ATTEMPTS):
            self.values.start_row(rng.choice(LOCALES[language]))
            fake = self.values.expand(pattern)
            fake = fake if pattern in CASE_MATTERS else in_case_of(value, fake)
            if essence(fake) != essence(value):
                return fake
        return placeholder(label)


@lru_cache(maxsize=1)
def shared_values() -> Values:
    """Seconds of work, and no state stays from one fake to the next."""
    return Values(random.Random(), seed=0)


def in_case_of(value: str, fake: str) -> str:
    """`fake` in capital or small letters if `value` is; one or two capitals ("M.", "NY") say nothing."""
    if value.isupper() and len(value) > 2:
        return fake.upper()
    return fake.lower() if value.islower() else fake


def essence(value: str) -> str:
    """What is left of a value without case, accents, spaces and punctuation; if nothing is, the value."""
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKD", value.casefold())) or value
