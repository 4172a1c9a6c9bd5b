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
GREETING = re.compile(
    r"^(?:Dear|Hi|Hello|Hey|Greetings|Good \w+|Bonjour|Bonsoir|Salut|Chers?|Chère|Cher\(e\)),? (?=\{)"
)
BLUNT = 0.4  # share of the greetings that are left out, so that a value is the first word
OTHER_GREETING = 0.5  # share of the others that become one of these
GREETINGS = {
    language: words.split("|")
    for language, words in {
        "en": "Dear|Dear|Hi|Hello|Hey|Greetings,|Greetings|Good day|Good morning|Welcome|Attention|Congratulations"
        "|Thanks|Attn:|Good evening,|To|Notice to|Esteemed|Reminder for|Hello there,",
        "fr": "Cher|Chère|Cher(e)|Cher/Chère|Cher[e]|Chèr(e)|Bonjour|Bonjour,|Bonsoir|Salut|Salutations|Salutations,"
        "|Attention|Bonne journée|Bienvenue|Félicitations|Merci|Hé|Coucou|À|Avis à|Rappel pour|Cher/chère|Très cher",
    }.items()
}
GREETED = r"\{(?:PREFIX|FIRSTNAME|MIDDLENAME|LASTNAME|USERNAME|GENDER|SEX|JOBTITLE|JOBTYPE)\}"
AFTER_GREETING = {  # and the letter that follows the comma
    language: re.compile(rf"^((?:(?:{'|'.join(map(re.escape, words))}) )?{GREETED}(?: {GREETED})*, )([a-zà-ÿ])")
    for language, words in GREETINGS.items()
}
CAPITAL = 0.3  # share of the greetings after whose comma a capital follows
SAME_FORM = {  # a type → what the target data calls such a value too, whatever the sentence says
    "IP": ["IP", "IPV4", "IPV4", "IPV6"],
    "IPV4": ["IPV4", "IPV4", "IPV4", "IP"],
    "CURRENCYNAME": ["CURRENCYNAME", "CURRENCY", "CURRENCY"],
    "CURRENCY": ["CURRENCY", "CURRENCY", "CURRENCY", "CURRENCYNAME"],
}
OLD = re.compile(r"(\{AGE\})(?! ?(?:-|ans|old|year))")
SAID_OLD = 0.25  # share of the English ages that `old` follows


def vary(skeleton: str, others: list[str], language: str, rng: random.Random) -> str:
    """`skeleton`, often changed in one of these ways, so that a head learns values rather than sentences."""

    def other_name(match: re.Match[str]) -> str:
        return rng.choice(NAME_FORMS) if rng.random() < OTHER_NAME else match[0]

    def other_value(match: re.Match[str]) -> str:
        return f"{{{rng.choice(TELLING if rng.random() < STRANGE else SAME_FORM.get(match[1], [match[1]]))}}}"

    if rng.random() < JOINED:
        skeleton = f"{skeleton} {rng.choice(others)}"
    if rng.random() < BLUNT:
        skeleton = GREETING.sub("", skeleton)
    elif rng.random() < OTHER_GREETING:
        skeleton = GREETING.sub(f"{rng.choice(GREETINGS[language])} ", skeleton)
    if rng.random() < CAPITAL:
        skeleton = AFTER_GREETING[language].sub(lambda match: match[1] + match[2].upper(), skeleton)
    if language == "en" and rng.random() < SAID_OLD:
        skeleton = OLD.sub(r"\1 old", skeleton)
    return PLACE.sub(other_value, NAME.sub(other_name, skeleton))
