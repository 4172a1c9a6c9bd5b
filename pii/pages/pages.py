"""Pages for a browser: one self-contained HTML file from a template beside this file, with its data inside.

Nothing is fetched, and nothing but our own script runs: the page's policy names the script's hash. Templates escape
what they are given, and the script sets row text as text, so that a row that holds HTML does no harm.
"""

import base64
import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from pii.outputs import atomic_path

FOLDER = Path(__file__).parent
NUM_COLOURS = 6  # of page.css; a label keeps its own, and its name is always written


def write_page(path: Path, name: str, title: str, data: dict, **values: object) -> None:
    """Write `name`.html, filled with `values`, to `path`, readable by its owner only. `data` goes to the page's
    script `name`.js as JSON; SVG is passed as `Markup`."""
    script = "".join((FOLDER / file).read_text(encoding="utf-8") for file in ("page.js", f"{name}.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    page = environment.get_template(f"{name}.html").render(
        title=title,
        style=Markup((FOLDER / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=Markup(f"'sha256-{digest}'"),
        data=data,
        **values,
    )
    with atomic_path(path) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_text(page, encoding="utf-8")


def colours_of(labels: Sequence[str]) -> list[int]:
    """[labels] the colour of each label on a page."""
    return [zlib.crc32(label.encode()) % NUM_COLOURS for label in labels]


def pieces_of(text: str, spans: Sequence[Sequence[int]], token_borders: Sequence[int]) -> list[list[int | str]]:
    """A text as page.js draws it: `[label id, token, token, ...]` for each part inside one span or between spans.

    `spans` are (start, end, label id) in code points, sorted, without overlaps; `token_borders` are places where a
    token starts, in any order.
    """
    borders = sorted({*token_borders, *(place for start, end, _ in spans for place in (start, end)), len(text)})
    pieces: list[list[int | str]] = []
    place, index = 0, 0
    opened = None  # the span that the last piece belongs to
    for border in borders:
        if border <= place:
            continue
        while index < len(spans) and spans[index][1] <= place:
            index += 1
        inside = index if index < len(spans) and spans[index][0] <= place else None
        if not pieces or inside != opened:
            pieces.append([int(spans[inside][2]) if inside is not None else 0])
            opened = inside
        pieces[-1].append(text[place:border])
        place = border
    return pieces
