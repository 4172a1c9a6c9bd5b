"""A document of WebAnno TSV 3.1 to 3.3: its text, and the spans of the one layer that has labels.

After the user guide of INCEpTION, "WebAnno TSV 3.3 File format", and what its own reader does where that is silent.
Offsets count UTF-16 units; here they become code points, and every token must be the text at its offsets. The file does
not say what stood between two sentences: it is taken to be a line break, then spaces as far as the offsets go.
"""

import re
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from pii.corpus.formats.fields import Found, RowError

LAYER = re.compile(r"#T_(SP|CH|RL)=([^|]*)\|?(.*)")  # spans, chains, relations
SENTENCE = "#Text="
UNITS = re.compile(r"^\d+-\d+(?:\.\d+)?\t(\d{1,18})-(\d{1,18})\t(.*)$", re.MULTILINE)
STACKED, VALUE = re.compile(r"(?:\\.|[^\\|])+"), re.compile(r"(.*?)(?:\[(\d+)\])?")
ESCAPED = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.))")  # the former in version 3.1
CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "b": "\b"}
NO_SPAN, NO_LABEL = "_", "*"
# layers that every project has, as parts of speech and lemmas; of these only named entities have labels of ours
BUILT_IN, ENTITIES = "de.tudarmstadt.ukp.dkpro.core.api.", "de.tudarmstadt.ukp.dkpro.core.api.ner."
MAIN_FEATURE = "value"
LAYERS = "several layers with labels: in the header write #T_RL= for #T_SP= before those that do not count"
FEATURES = f"several features with labels: in the header call the one that counts {MAIN_FEATURE}"


class Column(NamedTuple):
    layer: str
    feature: str
    counts: bool  # whether it can hold labels: not that of a relation, a chain, a slot or a built-in layer


class Unit(NamedTuple):
    """A token, or the part of one that a span cuts out."""

    start: int  # in UTF-16 units
    end: int
    text: str
    cells: list[str]  # one a column


class Sentence(NamedTuple):
    lines: list[str]  # of its text
    units: list[Unit]


def read(fields: dict) -> Found | None:
    if not isinstance(document := fields.get("webanno"), str):
        return None
    lines = document.split("\n")
    columns = columns_of(lines)
    sentences = sentences_of(lines, len(columns))
    text = joined(sentences, len(document))
    units = [unit for sentence in sentences for unit in sentence.units]
    if not text.isascii() and max(text) > "\uffff":
        places = array("q", accumulate((1 + (character > "\uffff") for character in text), initial=0))
        units = [in_code_points(unit, places) for unit in units]
    if not all(text[start:end] == token or text[start:end] == unescaped(token) for start, end, token, _ in units):
        raise RowError("a token that differs from the text at its offsets in UTF-16 units")
    return text, [(start, end, label, text[start:end]) for start, end, label in labelled(columns, units)]


def columns_of(lines: list[str]) -> list[Column]:
    """The columns behind the token, by the header."""
    columns: list[Column] = []
    for match in filter(None, [LAYER.fullmatch(line) for line in lines if line.startswith("#T_")]):
        kind, layer, features = match.groups()
        is_ours = kind == "SP" and (not layer.startswith(BUILT_IN) or layer.startswith(ENTITIES))
        for feature in [name for name in features.split("|") if name] or [""]:  # a layer without features has a column
            is_slot = "." in feature  # the name of a type, which a feature's cannot be
            columns.append(Column(layer, feature, is_ours and not is_slot))
    return columns


def sentences_of(lines: list[str], columns: int) -> list[Sentence]:
    """Raises RowError for a line that is cut."""
    sentences: list[tuple[list[str], list[str]]] = []  # lines of text, of units
    for line in lines:
        if line.startswith(SENTENCE):
            if not sentences or sentences[-1][1]:
                sentences.append(([], []))
            sentences[-1][0].append(unescaped(line.removeprefix(SENTENCE)))
        elif line and not line.startswith("#"):
            if not sentences:
                raise RowError("tokens without a line #Text=")
            sentences[-1][1].append(line)
    return [Sentence(text, units_of(units, columns)) for text, units in sentences]


def units_of(lines: list[str], columns: int) -> list[Unit]:
    units = []
    for start, end, rest in UNITS.findall("\n".join(lines)):
        token, *cells = rest.removesuffix("\t").rsplit("\t", columns)
        if len(cells) == columns:
            units.append(Unit(int(start), int(end), token, cells))
    if len(units) < len(lines):
        raise RowError("a line that is no token with a cell for each column of the header")
    return units


def joined(sentences: list[Sentence], limit: int) -> str:
    """The text of a document, each sentence where its first token starts: `limit` UTF-16 units at most. Raises
    RowError."""
    length = 0  # so far, in UTF-16 units
    parts: list[str] = []
    for lines, units in sentences:
        if not units:
            raise RowError("a sentence without tokens: is the file whole?")
        text, start = "\n".join(lines), units[0].start
        if not length <= start <= limit:
            raise RowError("a sentence that does not start where its text does, in UTF-16 units")
        gap = " " * (start - length)
        parts += ["\n" + gap[1:] if gap and parts else gap, text]
        raw = text.encode("utf-16-le", "surrogatepass")
        length = start + len(raw) // 2
        rest = raw[2 * (max(unit.end for unit in units) - start) :].decode("utf-16-le", "replace")
        if any(map(str.isalnum, rest)):
            raise RowError("a sentence that goes on behind its last token: is the file whole?")
    return "".join(parts)


def in_code_points(unit: Unit, places: Sequence[int]) -> Unit:
    """The unit, where code points start at `places` in UTF-16 units. Raises RowError."""
    start, end = (bisect_left(places, offset) for offset in unit[:2])
    if max(start, end) >= len(places) or (places[start], places[end]) != unit[:2]:
        raise RowError("an offset beyond the text or inside a character, in UTF-16 units")
    return unit._replace(start=start, end=end)


def labelled(columns: list[Column], units: list[Unit]) -> list[tuple[int, int, str | None]]:
    """The spans of the column that holds the labels. Raises RowError where that may be several."""
    spans = {i: spans_of(units, i) for i, column in enumerate(columns) if column.counts}
    found = [i for i in spans if any(label is not None for _, _, label in spans[i])]
    if len({columns[i].layer for i in found}) > 1:
        raise RowError(LAYERS)
    if len(found) > 1:
        found = [i for i in found if columns[i].feature == MAIN_FEATURE]
        if len(found) != 1:
            raise RowError(FEATURES)
    return spans[found[0]] if found else [span for i in spans for span in spans[i]]


def spans_of(units: list[Unit], column: int) -> list[tuple[int, int, str | None]]:
    """The start, the end and the label of what a column marks; values with one number are one span over many units."""
    spans: dict[object, tuple[int, int, str | None]] = {}
    for start, end, _, cells in units:
        if cells[column] == NO_SPAN:
            continue
        for part in STACKED.findall(cells[column]) or [""]:
            match = VALUE.fullmatch(part)
            value, number = match.groups() if match else (part, None)
            key = number or (start, end, len(spans))
            first, _, label = spans.get(key, (start, end, None if value == NO_LABEL else unescaped(value)))
            spans[key] = (first, end, label)  # the last unit's end: some versions list the token of a part before it
    return [*spans.values()]


def unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    plain = ESCAPED.sub(lambda match: chr(int(match[1], 16)) if match[1] else CONTROLS.get(match[2], match[2]), text)
    return plain.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")  # two halves become one
