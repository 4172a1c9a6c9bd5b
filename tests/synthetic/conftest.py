"""Rows that the tests of this room look at."""

import re

import pytest

from pii.synthetic import sentences

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


@pytest.fixture(scope="session")
def rows() -> list[dict]:
    return list(sentences.synthesize(2000, seed=0, style="own"))


@pytest.fixture(scope="session")
def values(rows: list[dict]) -> dict[str, list[tuple[str, str]]]:
    """label → (language, value) of every span."""
    found: dict[str, list[tuple[str, str]]] = {label: [] for label in TYPES}
    for row in rows:
        for start, end, label in row["span_labels"]:
            found[label].append((row["language"], row["unmasked_text"][start:end]))
    return found
