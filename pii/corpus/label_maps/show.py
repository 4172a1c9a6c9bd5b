"""Which labels raw rows have, how often, and what an example looks like, without its letters and digits."""

import unicodedata
from collections import Counter
from collections.abc import Sequence

from pii.corpus.formats.fields import RowError
from pii.corpus.formats.tokens import TagNames
from pii.corpus.rows import parse_row
from pii.corpus.sources.source import Source, where
from pii.progress import progress

LONGEST = 40  # characters of a shape


def labels_of(sources: Sequence[Source], tag_names: TagNames) -> tuple[Counter, dict[str, str], Counter, str]:
    """The spans of each label, the shape of its first one, the refused rows by reason, and the first of these."""
    counts: Counter[str] = Counter()
    shapes: dict[str, str] = {}
    rejected: Counter[str] = Counter()
    first = ""
    with progress("read", unit="rows") as bar:
        for source in sources:
            for place, line in source.lines():
                bar.update(1)
                try:
                    row = parse_row(line, source.language, tag_names)
                except RowError as error:
                    rejected[str(error)] += 1
                    first = first or f"{where(source.name, place)}: {error}"
                    continue
                for start, end, label in row.spans:
                    counts[label] += 1
                    if label not in shapes:
                        shapes[label] = shape(row.text[start:end])
    return counts, shapes, rejected, first


def print_labels(sources: Sequence[Source], tag_names: TagNames, label_map: dict[str, str]) -> None:
    """A line a label, most spans first: its count, what the map calls it, and a shape."""
    counts, shapes, rejected, first = labels_of(sources, tag_names)
    wide = max((len(label) for label in counts), default=0)
    for label, count in counts.most_common():
        new = f"  → {label_map[label]}" if label_map.get(label, label) != label else ""
        print(f"{count:>9}  {label:<{wide}}  {shapes[label]}{new}")
    print(f"{sum(counts.values())} spans of {len(counts)} labels in {sum(s.rows for s in sources)} rows")
    if rejected:
        reasons = ", ".join(f"{count} {reason}" for reason, count in rejected.most_common())
        print(f"{sum(rejected.values())} rows refused ({reasons}; the first is {first})")


def shape(value: str) -> str:
    """`Ann Lee` as `Aaa Aaa`, `12:30` as `99:99`: letters as a or A, digits as 9, ASCII punctuation as it is, and ? for
    all others."""
    signs = "".join(sign(character) for character in value[:LONGEST])
    return signs + "…" if len(value) > LONGEST else signs


def sign(character: str) -> str:
    if character.isspace():
        return " "
    if character.isnumeric():
        return "9"
    if character.isalpha():
        return "A" if character.isupper() else "a"
    return character if character.isascii() and unicodedata.category(character)[0] in "PS" else "?"
