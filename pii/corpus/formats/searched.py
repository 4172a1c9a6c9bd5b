"""Values without offsets, as Gretel's data sets list them (`entity`, `types`): searched in the text as whole words, and
where one never stands as such, anywhere.

Each value must stand in the text as often as the row lists it. One that stands there more often is ambiguous, and so
is one with several types: which of them the row means cannot be told.
"""

import re
from collections import Counter

from pii.corpus.formats.fields import RowError


def found(text: str, entities: list) -> list:
    """The (start, end, label, value) of all values. Raises RowError."""
    labels: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for entity in entities:
        value, label = value_and_label(entity)
        if labels.setdefault(value, label) != label:
            raise RowError("a value with several types")
        counts[value] += 1
    spans: list[tuple[int, int, str, str]] = []
    for value in sorted(labels, key=len, reverse=True):  # so that "Ann" is not searched in "Ann Lee"
        places = [match.span() for match in whole(value).finditer(text)]
        places = places or [match.span() for match in re.finditer(re.escape(value), text)]
        free = [place for place in places if not any(s <= place[0] and place[1] <= e for s, e, *_ in spans)]
        if len(free) > counts[value]:
            raise RowError("a value that stands in the text more often than it is listed")
        if not places:
            raise RowError("a value that is not in the text")
        spans += [(start, end, labels[value], value) for start, end in free]
    return spans


def value_and_label(entity: object) -> tuple[str, str]:
    if not isinstance(entity, dict):
        raise RowError("spans that are no list of objects")
    value, types = entity.get("entity"), entity.get("types", entity.get("type"))
    types = [types] if isinstance(types, str) else types
    if not isinstance(value, str) or not value.strip() or not isinstance(types, list) or not types:
        raise RowError("an entity without a value or a type")
    if len(types) > 1:
        raise RowError("a value with several types")
    if not isinstance(types[0], str):
        raise RowError("a span without a label")
    return value.strip(), types[0]


def whole(value: str) -> re.Pattern:
    """The value where no word goes on at its edges."""
    before = r"(?<!\w)" if re.match(r"\w", value) else ""
    after = r"(?!\w)" if re.search(r"\w\Z", value) else ""
    return re.compile(before + re.escape(value) + after)
