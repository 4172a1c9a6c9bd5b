"""Characters as the model should read them: full-width and styled forms as plain ones, look-alikes of other alphabets
in Latin words as Latin letters. One character for one, so that offsets stay those of the original."""

import functools
import re
import sys
import unicodedata

# Cyrillic, Greek and Armenian letters that look as a Latin one does; chosen from Unicode's list of confusables (UTS 39)
LOOK_ALIKES = str.maketrans(
    "аеорсухіјѕһԁԛԝӏкмтвнгпАВЕКМНОРСТУХІЈЅԌԚԜҮαονιρυχΑΒΕΖΗΙΚΜΝΟΡΤΥΧոսօհցɡɑɩ",
    "aeopcyxijshdqwlkmtbhrnABEKMHOPCTYXIJSGQWYaovipuxABEZHIKMNOPTYXnuohggai",
)
LATIN = re.compile(r"[A-Za-z]")
ANY_LOOK_ALIKE = re.compile(f"[{''.join(map(chr, LOOK_ALIKES))}]")
UNUSUAL = re.compile("[^\0-\u02ff\u2010-\u206f\u20a0-\u20cf]")  # what is not used in English and French
WORD = re.compile(r"\w+")


def folded(text: str) -> str:
    """The text with as many characters, those that stand for plain ones replaced."""
    if text.isascii():
        return text
    if UNUSUAL.search(text):
        text = text.translate(plain_forms())
    return WORD.sub(as_latin, text) if ANY_LOOK_ALIKE.search(text) else text


def as_latin(word: re.Match) -> str:
    """A word that also has Latin letters in Latin letters; words of another alphabet stay as they are."""
    return word[0].translate(LOOK_ALIKES) if LATIN.search(word[0]) else word[0]


@functools.cache
def plain_forms() -> dict[int, str]:
    """Code point → the ASCII letter, digit or mark that it is a form of: full width, mathematical, circled, and the
    decimal digits of all scripts. Accented letters are none, and Latin-1 is left as the model knows it."""
    forms = {}
    for point in range(0x100, sys.maxunicode + 1):
        character = chr(point)
        plain = unicodedata.normalize("NFKC", character)
        if character.isdecimal():
            plain = str(unicodedata.decimal(character))
        if UNUSUAL.match(character) and len(plain) == 1 and plain.isascii() and plain.isprintable() and plain != " ":
            forms[point] = plain
    return forms
