"""Values without offsets, as Gretel's data sets list them (`entity`, `types`): searched in the text as whole words, and
where one never stands as such, anywhere.

Each value must stand in the text as often as the row lists it. One that stands there more often is ambiguous, and so
is one with several types: which of them the row means cannot be told.
"""

from pii.corpus.formats.fields import RowError

SEARCH_LIMIT = 10**9  # characters that are read for one row


def found(text: str, entities: list) -> list:
    """The (start, end, label, value) of all values. Raises RowError."""
    labels: dict[str, str] = {}
    counts: dict[str, int] = {}
    for entity in entities:
        value, label = value_and_label(entity)
        if labels.setdefault(value, label) != label:
            raise RowError("a value with several types")
        counts[value] = counts.get(value, 0) + 1
    if len(labels) * len(text) > SEARCH_LIMIT:
        raise RowError("too many values to search in so long a text")
    spans: list[tuple[int, int, str, str]] = []
    owner = [""] * len(text)  # of each character: the value that was found there
    for value in sorted(labels, key=len, reverse=True):  # so that "Ann" is not searched in "Ann Lee"
        places = places_of(text, value)
        free = [(s, e) for s, e in places if not owner[s] or owner[s] != owner[e - 1]]
        if len(free) > counts[value]:
            raise RowError("a value that stands in the text more often than it is listed")
        if not places:
            raise RowError("a value that is not in the text")
        for start, end in free:
            spans.append((start, end, labels[value], value))
            owner[start:end] = [value] * (end - start)
    return spans


def value_and_label(entity: object) -> tuple[str, str]:
    if not isinstance(entity, dict):
        raise RowError("spans that are no list of objects")
    value, types = entity.get("entity"), entity.get("types", entity.get("type"))
    types = [types] if isinstance(types, str) else types
    if not isinstance(value, str) or not (value := value.strip()) or not isinstance(types, list) or not types:
        raise RowError("an entity without a value or a type")
    if len(types) > 1:
        raise RowError("a value with several types")
    if not isinstance(types[0], str):
        raise RowError("a span without a label")
    return value, types[0]


def places_of(text: str, value: str) -> list[tuple[int, int]]:
    """Where the value stands as whole words; else where it stands."""
    places = []
    start = text.find(value)
    while start >= 0:
        end = start + len(value)
        places.append((start, end))
        start = text.find(value, end)
    return places if len(places) == 1 else [place for place in places if is_whole(text, *place)] or places


def is_whole(text: str, start: int, end: int) -> bool:
    """Whether no word goes on at a place's edges."""
    before, after = text[max(0, start - 1) : start], text[end : end + 1]
    return not (before.isalnum() and text[start].isalnum()) and not (after.isalnum() and text[end - 1].isalnum())
