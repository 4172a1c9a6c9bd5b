"""Other skeletons out of one of the target style: other forms of a name, a value where none is expected, two joined."""

import random
import re

NAME = re.compile(r"\{FIRSTNAME\}(?! ?\{)")  # alone: not the first part of a longer name
NAME_FORMS = [
    "{FIRSTNAME} {LASTNAME}",
    "{PREFIX} {LASTNAME}",
    "{PREFIX} {FIRSTNAME}",
    "{PREFIX} {FIRSTNAME} {LASTNAME}",
    "{FIRSTNAME} {MIDDLENAME} {LASTNAME}",
    "{LASTNAME}",
    "{MIDDLENAME}",
    "{MIDDLENAME}",
    "{PREFIX}",
    "{USERNAME}",
    "{SEX}",
    "{GENDER}",
    "{JOBTITLE}",
    "{JOBTITLE} {FIRSTNAME}",
]
OTHER_NAME = 0.25  # share of the names that take another form
PLACE = re.compile(r"\{([A-Z][A-Z0-9]+)\}")
STRANGE = 0.05  # share of the places that take a value of any type that shows what it is
TELLING = [
    "ACCOUNTNAME",
    "BITCOINADDRESS",
    "BIC",
    "COMPANYNAME",
    "CREDITCARDISSUER",
    "CURRENCYNAME",
    "EMAIL",
    "ETHEREUMADDRESS",
    "GENDER",
    "IBAN",
    "IPV4",
    "IPV6",
    "JOBAREA",
    "JOBTITLE",
    "JOBTYPE",
    "MAC",
    "NEARBYGPSCOORDINATE",
    "ORDINALDIRECTION",
    "PHONEIMEI",
    "SECONDARYADDRESS",
    "SEX",
    "SSN",
    "STATE",
    "STREET",
    "URL",
    "USERAGENT",
    "USERNAME",
    "VEHICLEVIN",
    "VEHICLEVRM",
]
JOINED = 0.2  # share of the skeletons that another one follows


def vary(skeleton: str, others: list[str], rng: random.Random) -> str:
    """`skeleton`, often changed in one of these ways, so that a head learns values rather than sentences."""

    def other_name(match: re.Match[str]) -> str:
        return rng.choice(NAME_FORMS) if rng.random() < OTHER_NAME else match[0]

    def strange_value(match: re.Match[str]) -> str:
        return f"{{{rng.choice(TELLING)}}}" if rng.random() < STRANGE else match[0]

    if rng.random() < JOINED:
        skeleton = f"{skeleton} {rng.choice(others)}"
    return PLACE.sub(strange_value, NAME.sub(other_name, skeleton))
