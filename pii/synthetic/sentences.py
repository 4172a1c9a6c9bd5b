"""Skeletons → rows: a sentence with places for values becomes a text with labelled spans.

Styles: `own`, letters, forms and messages as people write them, with the values of their country; `documents`, the same
for everyday English and for passages of French hospital documents; `target`, the manner of ai4privacy's rows, short
sentences of a language model around the English values of faker.js.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from pii.synthetic.sources import DOCUMENT_LOCALES, LOCALES, TARGETS
from pii.synthetic.values import Values
from pii.synthetic.variations import vary

STYLES = ("mixed", "own", "target", "documents")  # mixed: a fifth documents, half of the rest own, half target
SKELETON_FOLDER = Path(__file__).parent / "skeletons"
PLACEHOLDER = re.compile(r"\{([A-Z][A-Z0-9]+(?::[A-Z]+)?|#+)\}")  # {DATE}, {DATE:YEAR} a date made as YEAR is, {##}
WITHOUT_PII = 0.08  # share of all rows
ENGLISH_VALUE = 0.05  # share of French rows in which one value is of an English locale
WRAPPED = 0.03  # share of the values of more than one word, of these types, that go over two lines
WRAPPABLE = {"STREET", "COMPANYNAME", "JOBTITLE", "ACCOUNTNAME", "SECONDARYADDRESS", "CITY", "USERAGENT"}
SPACED = 0.06  # share of the rows of French documents whose dates and numbers are written in cells
IN_CELLS = {"DATE", "DOB", "ACCOUNTNUMBER"}
NAMES = {"FIRSTNAME", "MIDDLENAME", "LASTNAME"}
FRENCH_SPACE = re.compile(r" (?=[:;!?»%])|(?<=«) ")
FRENCH_SPACES = ["\u00a0"] * 6 + ["\u202f"] * 2 + [" ", ""]  # what people type there


def synthesize(rows: int, seed: int, style: str = "mixed") -> Iterator[dict]:
    """Yield `rows` rows, half English and half French in mixed order; the same arguments give the same rows.

    `style` is one of STYLES.
    """
    rng = random.Random(seed)
    values = Values(rng, seed)
    plan = []
    for language, count in (("en", rows - rows // 2), ("fr", rows // 2)):
        counts = rows_of_styles(style, count)
        for own, name, make in (("own", language, make_row), ("documents", f"documents_{language}", make_document_row)):
            plan += [(make, skeleton, language) for skeleton in choose_skeletons(name, counts[own], rng)]
        target = read_skeletons(f"target_{language}")
        chosen = sample_evenly(target, counts["target"], rng)
        plan += [(make_target_row, vary(skeleton, target, language, rng), language) for skeleton in chosen]
    rng.shuffle(plan)
    for make, skeleton, language in plan:
        yield make(skeleton, language, values)


def rows_of_styles(style: str, count: int) -> Counter[str]:
    """How many of `count` rows are of each style."""
    if style != "mixed":
        return Counter({style: count})
    documents = count // 5
    target = (count - documents) // 2
    return Counter(documents=documents, target=target, own=count - documents - target)


def choose_skeletons(name: str, count: int, rng: random.Random) -> list[str]:
    """`count` skeletons of a file, of which the share WITHOUT_PII holds none, if there are such."""
    with_pii: list[str] = []
    without_pii: list[str] = []
    for skeleton in read_skeletons(name):
        (with_pii if re.search(r"\{[A-Z]", skeleton) else without_pii).append(skeleton)
    rare = round(count * WITHOUT_PII) if without_pii else 0
    return sample_evenly(without_pii, rare, rng) + sample_evenly(with_pii, count - rare, rng)


def read_skeletons(name: str) -> list[str]:
    """The blocks of skeletons/<name>.txt; a French space that may not break is U+00A0 in what is returned."""
    text = (SKELETON_FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    skeletons = [block.strip("\n") for block in text.split("\n---\n")]
    return [FRENCH_SPACE.sub("\u00a0", skeleton) for skeleton in skeletons] if name.endswith("fr") else skeletons


def sample_evenly(skeletons: list[str], count: int, rng: random.Random) -> list[str]:
    """`count` skeletons, each as often as the others, so that rare types are certain to occur."""
    rounds, rest = divmod(count, max(1, len(skeletons)))
    return skeletons * rounds + rng.sample(skeletons, rest)


class Style(NamedTuple):
    """How a row is typed."""

    case: Callable[[str], str]  # of the text and of names
    capitals: set[str]  # labels whose values are in capital letters
    french_space: str  # stands for U+00A0
    by_hand: bool = True  # with values over two lines, and English ones in French rows
    spaced: bool = False  # dates and numbers stand in the cells of a form: `0 5 0 8 2 0 1 4`


def draw_style(rng: random.Random) -> Style:
    """Mostly as the skeleton is, sometimes all in one case or with capital names."""
    cases: list[Callable[[str], str]] = [str, str.upper, str.lower]
    return Style(
        case=rng.choices(cases, [96.5, 1.5, 2])[0],
        capitals=rng.choices([set(), NAMES, {"LASTNAME"}], [93, 4, 3])[0],
        french_space=rng.choice(FRENCH_SPACES),
    )


def make_row(skeleton: str, language: str, values: Values) -> dict:
    """Fill one skeleton: `{"unmasked_text", "span_labels": [[start, end, label], ...], "language"}`."""
    values.start_row(values.rng.choice(LOCALES[language]))
    return fill(skeleton, language, draw_style(values.rng), values)


def make_document_row(skeleton: str, language: str, values: Values) -> dict:
    """Fill one skeleton of the documents style, whose French rows are hospitals': many surnames in capitals."""
    values.start_row(values.rng.choice(DOCUMENT_LOCALES[language]))
    style = draw_style(values.rng)
    if language == "fr":
        capitals = values.rng.choices([set(), {"LASTNAME"}, NAMES], [50, 40, 10])[0]
        style = style._replace(capitals=capitals, spaced=values.rng.random() < SPACED)
    return fill(skeleton, language, style, values)


def make_target_row(skeleton: str, language: str, values: Values) -> dict:
    """Fill one skeleton with values of the target style, as it stands: such rows are typed by no person."""
    values.start_row(TARGETS[language])
    return fill(skeleton, language, Style(str, set(), values.rng.choice([" ", ""]), by_hand=False), values)


def fill(skeleton: str, language: str, style: Style, values: Values) -> dict:
    """A row in the locale that `values` are in."""
    rng, locale = values.rng, values.locale
    parts = PLACEHOLDER.split(skeleton)  # text, key, text, key, ..., text
    places = [i for i in range(1, len(parts), 2) if not parts[i].startswith("#")]
    plain = [i for i in places if ":" not in parts[i]]
    french = language == "fr" and style.by_hand
    english = rng.choice(plain) if plain and french and rng.random() < ENGLISH_VALUE else None
    text, spans = "", []
    for i, part in enumerate(parts):
        if i % 2 == 0:
            text += style.case(part).replace("\u00a0", style.french_space)
        elif i not in places:
            text += values.expand("%" + part[1:])
        else:
            values.locale = rng.choice(LOCALES["en"]) if i == english else locale
            label, _, key = part.partition(":")
            value = make_value(label, key or label, style, values)
            spans.append([len(text), len(text) + len(value), label])
            text += value
    return {"unmasked_text": text, "span_labels": spans, "language": language}


def make_value(label: str, key: str, style: Style, values: Values) -> str:
    """A value as it stands in the row: over two lines, in another case or in the cells of a form, some of them."""
    value = values.make(key)
    if style.spaced and label in IN_CELLS and not re.search("[^\\W\\d]", value):
        value = " ".join(re.sub(r"\D", "", value))
    value = wrap(value, values.rng) if style.by_hand and label in WRAPPABLE else value
    value = style.case(value) if label in NAMES else value
    return value.upper() if label in style.capitals else value


def wrap(value: str, rng: random.Random) -> str:
    """Break the line at one of the spaces, as letters and copied PDF text do."""
    spaces = [i for i, character in enumerate(value) if character == " "]
    if not spaces or rng.random() >= WRAPPED:
        return value
    place = rng.choice(spaces)
    return f"{value[:place]}\n{value[place + 1 :]}"
