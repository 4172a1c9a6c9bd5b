"""Words with tags: Hugging Face token rows and CoNLL columns.

Where the row has its text (`full_text`, `text`; in CoNLL a line `# text = ...`), the tokens are found in it one after
another. Else the text is the tokens, one space between two, or what `trailing_whitespace` says.

Tags are read alike in every scheme (IO, IOB1, IOB2, IOE, BIOES, BILOU): a span begins at B, S or U, after E, S, L or
O, and where the type changes. A tag without such a prefix is a type.
"""

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

from pii.common import UserError
from pii.corpus.formats.fields import Found, RowError, string_of
from pii.inputs import decoded
from pii.untrusted import read_json

TagNames = Sequence[str]
TAGS = ("ner_tags", "tags", "labels", "ner", "ner_labels", "bio_labels")
TEXTS = ("full_text", "text", "source_text")
PREFIXED = re.compile(r"([BIESLUM])-(.+)", re.DOTALL)
NO_TAGS = ("O", "", "_")
TAGGED = re.compile(r"[ \t](?:O|[BIESLUM]-\S+)[ \t]*$")  # a line of columns
UNEVEN = re.compile(r"  |^[ \t]|[ \t]$", re.MULTILINE)  # blanks that are no border of one column
COLUMNS, CONLL_TEXT = re.compile(r"[ \t]+"), re.compile(r"#\s*text\s*=\s?", re.IGNORECASE)
NUMBERED = "tags that are numbers: give their names with --tag-names"


def read(fields: dict) -> Found | None:
    if isinstance(fields.get("conll"), str):
        return read_columns(fields["conll"])
    words, name = fields.get("tokens"), tag_field(fields)
    if name is None or not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return None
    tags = fields[name]
    if len(tags) != len(words):
        raise RowError("not as many tags as tokens")
    if any(type(tag) is int for tag in tags):
        raise RowError(NUMBERED)
    return tagged(words, tags, string_of(fields, TEXTS), fields.get("trailing_whitespace"))


def tag_field(fields: dict) -> str | None:
    """The name of the field that holds the tags of its `tokens`."""
    if not isinstance(fields.get("tokens"), list):
        return None
    lists = [name for name in TAGS if isinstance(fields.get(name), list)]
    return next((name for name in lists if all(isinstance(tag, (str, int)) for tag in fields[name])), None)


def read_columns(block: str) -> Found:
    """Lines of CoNLL columns: the first is the word (the second, where the first counts the words), the last its tag.

    Raises RowError."""
    lines, text = block.split("\n"), None
    while lines and lines[0].startswith("#") and not TAGGED.search(lines[0]):
        if comment := CONLL_TEXT.match(lines[0]):
            text = lines[0][comment.end() :]
        del lines[0]
    if UNEVEN.search("\n".join(lines)):
        columns = [COLUMNS.split(line.strip(" \t")) for line in lines]
    else:
        columns = [line.split("\t") if "\t" in line else line.split(" ") for line in lines]
    count = len(columns[0]) if columns else 0
    if count < 2 or {*map(len, columns)} != {count}:
        raise RowError("lines with too few columns, or with other numbers of them")
    cells = [*zip(*columns, strict=True)]
    is_counted = count > 2 and all(cell == str(number) for number, cell in enumerate(cells[0], start=1))
    return tagged(cells[1 if is_counted else 0], cells[-1], text, None)


def tagged(words: Sequence[str], tags: Sequence[str], text: str | None, gaps: object) -> Found:
    """The text and its spans, with their values: they stand where they stand."""
    text, starts = located(words, text) if text is not None else joined(words, gaps)
    spans = [(starts[first], starts[last] + len(words[last]), kind) for first, last, kind in spans_of_tags(tags)]
    return text, [(start, end, kind, text[start:end]) for start, end, kind in spans]


def joined(words: Sequence[str], gaps: object) -> tuple[str, list[int]]:
    """The words as a text, and where each starts."""
    if isinstance(gaps, list) and len(gaps) == len(words):
        pieces = [word + " " if gap else word for word, gap in zip(words, gaps, strict=True)]
        return "".join(pieces), [*accumulate(map(len, pieces), initial=0)]
    return " ".join(words), [*accumulate([len(word) + 1 for word in words], initial=0)]


def located(words: Sequence[str], text: str) -> tuple[str, list[int]]:
    starts, position = [], 0
    for word in words:
        start = text.find(word, position)
        if start < 0:
            raise RowError("a token that is not in the text where it should be")
        position = start + len(word)
        starts.append(start)
    return text, starts


def spans_of_tags(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """The first and the last token of each span, and its type."""
    spans: list[tuple[int, int, str]] = []
    is_open = False  # whether the last span may go on
    for i, tag in enumerate(tags):
        if tag in NO_TAGS:
            is_open = False
            continue
        prefix, kind = prefix_and_type(tag)
        if is_open and prefix not in "BSU" and spans[-1][2] == kind:
            spans[-1] = (spans[-1][0], i, kind)
        else:
            spans.append((i, i, kind))
        is_open = prefix not in "ESLU"
    return spans


@lru_cache(maxsize=65536)
def prefix_and_type(tag: str) -> tuple[str, str]:
    match = PREFIXED.fullmatch(tag)
    return (match[1], match[2]) if match else ("I", tag)


def named(fields: dict, names: TagNames) -> dict:
    """The row with the names of its tags, where they are numbers and names are given."""
    name = tag_field(fields) if names and "tokens" in fields else None
    if name is None or not all(type(tag) is int for tag in fields[name]):
        return fields
    if not all(0 <= tag < len(names) for tag in fields[name]):
        raise RowError("a tag's number that has no name")
    return {**fields, name: [names[tag] for tag in fields[name]]}


def read_tag_names(path: Path) -> list[str]:
    """Names of tags by number: a JSON list, a JSON object of numbers to names or names to numbers, or one name a line.

    Raises UserError."""
    try:
        names = read_json(path)
    except UserError:
        raise
    except json.JSONDecodeError:
        names = decoded(path.read_bytes(), str(path)).split()
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the tag names {path}: {type(error).__name__}") from None
    if isinstance(names, dict):
        numbers = {str(n): name for name, n in names.items()} if 0 in names.values() else names
        names = [numbers.get(str(number)) for number in range(len(numbers))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise UserError(f"{path} must hold the names of the tags from number 0 on: a JSON list, or one a line")
    return names
