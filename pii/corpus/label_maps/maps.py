"""Label maps: label → the label that another set has for it. Three ship with the package, and users write their own."""

import sys
from collections.abc import Collection
from pathlib import Path

from pii.common import UserError
from pii.corpus.rows import OUTSIDE
from pii.untrusted import read_json

SHIPPED = Path(__file__).parent
SETS = ("conll", "i2b2", "presidio")
MOST_NAMED = 10  # labels in a warning


def label_map_path(text: str) -> Path:
    """An argparse type: a file, or the name of a label set, which has a map here whatever the current folder holds."""
    return SHIPPED / f"{text}.json" if text in SETS else Path(text)


class ShippedMap(dict[str, str]):
    """The map of a label set: it names the labels of many sets, of which no data has all."""


def read_label_map(path: Path) -> dict[str, str]:
    """A label map from JSON: label → new label; null, which leaves the label out, becomes `O`. Raises UserError."""
    try:
        given = read_json(path)
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the label map {path}: {type(error).__name__}") from None
    if not isinstance(given, dict) or not all(new is None or is_label(new) for new in given.values()):
        raise UserError(f"{path} must hold a JSON object of labels to labels or null")
    label_map = {old: OUTSIDE if new is None else new for old, new in given.items()}
    return ShippedMap(label_map) if path.parent == SHIPPED else label_map


def warn_unused(label_map: dict[str, str], labels: Collection[str], whose: str) -> None:
    """Name the labels of a label map that are none of these, or `O`, on standard error: most are misspelt. Of a label
    set's own map name instead the labels that it does not know."""
    if isinstance(label_map, ShippedMap):
        unknown = set(labels) - {*label_map, *label_map.values(), OUTSIDE}
        warn_of(unknown, "the label set has no place for these labels, which stay as they are")
    else:
        unused = set(label_map) - set(labels) | set(label_map) & {OUTSIDE}
        warn_of(unused, f"the label map names labels that {whose}")


def warn_of(labels: Collection[str], what: str) -> None:
    if labels:
        named = [label if is_label(label) else ascii(label) for label in sorted(labels)]
        more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
        print(f"warning: {what}: {', '.join(named[:MOST_NAMED])}{more}", file=sys.stderr)


def is_label(label: object) -> bool:
    """Whether it can stand in a text or a terminal as a label: no control characters, no lone surrogates."""
    return isinstance(label, str) and label != "" and label.isprintable()
