"""Where values come from: patterns of skeletons/values.txt and target_values.txt, and pools of Faker's values."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pii.common import UserError

VALUES_FILES = [Path(__file__).parent / "skeletons" / name for name in ("values.txt", "target_values.txt")]
LOCALES = {"en": ["en_US", "en_GB"], "fr": ["fr_FR"] * 3 + ["fr_CH", "fr_CA"]}  # what stands more often is likelier
DOCUMENT_LOCALES = {  # of the documents style: people of all countries, and what hospitals write
    "en": ["en_US", "en_GB", "en_WORLD", "en_WORLD"],
    "fr": ["fr_FR", "fr_CH", "fr_CA", "fr_CLINIC", "fr_CLINIC", "fr_CLINIC"],
}
PARENTS = {"en_WORLD": "en_US", "fr_CLINIC": "fr_FR"}  # whose values a locale has where it has none of its own
TARGETS = {"en": "target_en", "fr": "target_fr"}  # the target style: values as faker.js makes them
WORLD = "de_DE es_ES es_MX it_IT pl_PL nl_NL sv_SE fi_FI no_NO da_DK cs_CZ hu_HU pt_BR pt_PT hr_HR ro_RO sl_SI sk_SK"
WORLD += " tr_TR et_EE lt_LT lv_LV el_GR en_IN id_ID vi_VN de_CH de_AT en_AU en_NZ en_IE en_CA en_GB en_US"
POOL_SIZE = 1500  # draws for a pool of Faker values
CORRECTIONS = [  # of slips of Faker's French locales
    (re.compile(r"^allé "), "allée "),
    (re.compile(r"\bde (?=[AEIOUÀÂÉÈÊÎÔ])"), "d'"),
    (re.compile(r" and Sons$"), " et Fils"),
    (re.compile(r" and "), " et "),
    (re.compile(r" (LLC|PLC|Inc|Ltd|Group)$"), " inc."),
    (re.compile(r"Sàrl\."), "Sàrl"),
]
REJECTED = {  # what Faker's methods return and no person writes
    "job": re.compile(r"[,(/]|.{45}|(\w{4})\w* \1|NDS|^(Land|Make|Copy|Sub)$"),
    "user_agent": re.compile(r"Gecko/\d{4}-|MSIE|Opera|Windows 9|\dl\d"),
}
WITH_YEAR = re.compile(r"(?=.*\{(y|YEARWORD))(?!.*(\{weekday|\{WEEKDAYC| \{h))")  # dates that births have, too


class Source(NamedTuple):
    """Where the values of one key come from in one locale."""

    patterns: list[str]
    pool: Sequence[str] = ()  # of Faker
    share: float = 0.0  # of draws from the pool


class Sources(dict[str, dict[str, Source]]):
    """locale → key → source: the patterns of the narrowest scope of values.txt and the pool of Faker they name. Those
    of LOCALES are there at once, so that it shows if Faker is not; the others are read when they are first asked for:
    pools of 34 countries take a second. Raises UserError."""

    def __init__(self, seed: int) -> None:
        self.seed, self.scopes = seed, read_patterns()
        self.update({locale: self.read(locale) for locales in LOCALES.values() for locale in dict.fromkeys(locales)})

    def __missing__(self, locale: str) -> dict[str, Source]:
        self[locale] = self.read(locale)
        return self[locale]

    def read(self, locale: str) -> dict[str, Source]:
        """key → source of one locale. Raises UserError."""
        scopes = self.scopes
        if locale in TARGETS.values():
            return {key: Source(patterns) for key, patterns in (scopes["target"] | scopes[locale]).items()}
        patterns = scopes["all"] | scopes[locale[:2]] | scopes[PARENTS.get(locale, locale)] | scopes[locale]
        patterns["DOB"] = [pattern for pattern in patterns["DATE"] if WITH_YEAR.match(pattern)]
        return {key: source_of(patterns[key], locale, self.seed) for key in patterns}


def read_patterns() -> dict[str, dict[str, list[str]]]:
    """scope → key → patterns, as the head of skeletons/values.txt explains."""
    scopes: defaultdict[str, dict[str, list[str]]] = defaultdict(dict)
    for line in (line for file in VALUES_FILES for line in file.read_text(encoding="utf-8").splitlines()):
        if line and not line.startswith("#"):
            if not line.startswith(" |"):
                scope, key, line = line.split(" ", 2)
            scopes[scope].setdefault(key, []).extend(line.removeprefix(" |").split("|"))
    return scopes


def source_of(patterns: list[str], locale: str, seed: int) -> Source:
    """The source that a list of patterns describes: a first `@method:60` is a pool for 60% of the draws."""
    if not patterns[0].startswith("@"):
        return Source(patterns)
    method, _, percent = patterns[0][1:].partition(":")
    return Source(patterns[1:], faker_pool(method, locale, seed), float(percent or 100) / 100)


def faker_pool(method: str, locale: str, seed: int) -> list[str]:
    """Distinct values of a Faker method, corrected, without those that no person writes."""
    try:
        from faker import Faker  # here, so that --help and an import of this module do without it
    except ImportError:
        raise UserError("Faker is not installed; run: pip install Faker") from None
    # without weights: rare names are as good as common ones, and faster
    fake = Faker(faker_locales(method, locale), use_weighting=False)
    fake.seed_instance(f"{seed} {locale} {method}")
    values = dict.fromkeys(getattr(fake, method)() for _ in range(POOL_SIZE))
    for pattern, replacement in CORRECTIONS if locale.startswith("fr") else []:
        values = dict.fromkeys(pattern.sub(replacement, value) for value in values)
    return [value for value in values if method not in REJECTED or not REJECTED[method].search(value)]


def faker_locales(method: str, locale: str) -> str | list[str]:
    """Which of Faker's locales a pool is drawn from."""
    if method == "job":
        return {"fr_CA": "fr_FR", "fr_CLINIC": "fr_FR", "en_WORLD": "en_US"}.get(locale, locale)  # else not translated
    if locale == "en_WORLD":  # Faker has Italian cities in a set, in another order in each process
        return [country for country in WORLD.split() if (method, country) != ("city", "it_IT")]
    return PARENTS.get(locale, locale)
