"""Charts as SVG text: bars, histograms, lines and heat maps that follow a page's colours, in light and in dark.

Drawn by hand because a page needs five simple pictures, and plain SVG scales, prints, searches and takes the reader's
colours, which an image does not. Every function returns one `<svg>` element; names and numbers are escaped.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from pii.outputs import atomic_path

WIDTH = 400  # of the drawing's own units, which a page stretches: letters stay legible on a phone
LEGEND_LINE = 14  # from one line of a legend to the next
LETTER, CAPITAL = 6.2, 7.8  # about the width of a letter of 11 units
# Okabe and Ito (2008): eight colours that colour-blind people tell apart, without black and yellow
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
STYLE = (
    "text{font:11px system-ui,sans-serif;fill:var(--ink,#1c1c1c)}.axis{stroke:var(--line,#999);fill:none}"
    ".mark{stroke:var(--ink,#1c1c1c);stroke-dasharray:4 3}.faint{fill:var(--muted,#666)}"
    ".ring{stroke:var(--ink,#1c1c1c);stroke-width:2;fill:none}"
    ".alone{background:#fff}"
    "@media(prefers-color-scheme:dark){.alone{background:#161616}.alone text{fill:#eee}.alone .axis{stroke:#777}"
    ".alone .mark,.alone .ring{stroke:#eee}}"
)

Element = ElementTree.Element


def bars(
    names: Sequence[str],
    series: Mapping[str, Sequence[float]],
    texts: Mapping[str, Sequence[str]],
    part: slice = slice(None),
) -> str:
    """A group of horizontal bars for each name, one for each of `series` (name → [names] values of 0 or more), with
    `texts` (name → [names]) written at their ends; `part` draws some of the names only, on the scale of all."""
    thick, gap, top = 11, 6, 20
    left = max(map(width_of, names), default=0) + 8
    room = WIDTH - left - LETTER * max((len(text) for column in texts.values() for text in column), default=0) - 12
    largest = max((value for values in series.values() for value in values), default=0) or 1
    chosen = range(len(names))[part]
    svg = drawing(WIDTH, top + len(chosen) * (thick * len(series) + gap))
    legend(svg, legend_places(list(series), left))
    for i, row in enumerate(chosen):
        y = top + i * (thick * len(series) + gap)
        write(svg, left - 6, y + (thick * len(series) + 8) / 2, names[row], anchor="end")
        for j, (key, values) in enumerate(series.items()):
            length = room * values[row] / largest
            add(svg, "rect", x=left, y=y + j * thick, width=length, height=thick - 1, fill=COLOURS[j])
            write(svg, left + length + 4, y + j * thick + 9, texts[key][row], kind="faint")
    return text_of(svg)


def histogram(
    counts: Sequence[int], edges: Sequence[float], x_title: str, mark: float | None = None, y_title: str = "rows"
) -> str:
    """Bars of `counts` [bins] between `edges` [bins + 1]; bins from `mark` on have another colour."""
    height, left, bottom, top = 170, 44, 34, 16
    svg = drawing(WIDTH, height)
    scale_x = scale(edges[0], edges[-1], left, WIDTH - 12)
    scale_y = scale(0, max([*counts, 1]), height - bottom, top)
    axes(svg, scale_x, scale_y, (edges[0], edges[-1]), (0, max([*counts, 1])), x_title, y_title)
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        colour = COLOURS[1] if mark is not None and low >= mark else COLOURS[0]
        x, y = scale_x(low), scale_y(count)
        bar = add(svg, "rect", x=x, y=y, width=max(scale_x(high) - x - 0.5, 0.5), height=scale_y(0) - y, fill=colour)
        add(bar, "title").text = f"{low:g} to {high:g}: {count}"
    if mark is not None and edges[0] <= mark <= edges[-1]:
        add(svg, "line", x1=scale_x(mark), x2=scale_x(mark), y1=top - 4, y2=scale_y(0), **{"class": "mark"})
        write(svg, scale_x(mark) + 4, top + 4, f"{mark:g}", kind="faint")
    return text_of(svg)


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x_title: str,
    y_title: str,
    *,
    unit_square: bool = False,
    dots: bool = False,
    chosen: tuple[float, float] | None = None,
) -> str:
    """A line for each of `series` (name → x [n], y [n]); points that are no finite number break it.

    `unit_square` shows 0 to 1 on both axes, with the diagonal; `dots` marks the points; `chosen` rings one place.
    """
    return text_of(line_chart(series, x_title, y_title, unit_square=unit_square, dots=dots, chosen=chosen))


def line_chart(series, x_title, y_title, *, unit_square=False, dots=False, chosen=None) -> Element:
    """`lines` as an element, for drawings of several charts."""
    left, bottom = 48, 34
    entries = legend_places(list(series), left) if len(series) > 1 else []
    top = 18 + (entries[-1][2] - entries[0][2] if entries else 0)
    height = top + 212
    svg = drawing(WIDTH, height)
    xs = [x for column, _ in series.values() for x in column if math.isfinite(x)]
    ys = [y for _, column in series.values() for y in column if math.isfinite(y)]
    x_range: tuple[float, float] = (0, 1) if unit_square else (min(xs, default=0), max(xs, default=1))
    y_range: tuple[float, float] = (0, 1) if unit_square else (min([0, *ys]), max([0, *ys]) or 1)
    scale_x, scale_y = scale(*x_range, left, WIDTH - 14), scale(*y_range, height - bottom, top)
    axes(svg, scale_x, scale_y, x_range, y_range, x_title, y_title)
    if unit_square:
        add(svg, "line", x1=scale_x(0), y1=scale_y(0), x2=scale_x(1), y2=scale_y(1), **{"class": "mark"})
    for i, (name, (x_column, y_column)) in enumerate(series.items()):
        colour, pen = COLOURS[i % len(COLOURS)], "M"
        path = []
        for x, y in zip(x_column, y_column, strict=True):
            if not (math.isfinite(x) and math.isfinite(y)):
                pen = "M"
                continue
            path.append(f"{pen}{scale_x(x):.1f} {scale_y(y):.1f}")
            pen = "L"
            if dots:
                dot = add(svg, "circle", cx=scale_x(x), cy=scale_y(y), r=3, fill=colour)
                add(dot, "title").text = f"{name}: {x:.4g}, {y:.4g}"
        add(svg, "path", d=" ".join(path), fill="none", stroke=colour, **{"stroke-width": 1.8})
    if chosen:
        add(svg, "circle", cx=scale_x(chosen[0]), cy=scale_y(chosen[1]), r=6, **{"class": "ring"})
    legend(svg, entries)
    return svg


def heat_map(names: Sequence[str], counts: Sequence[Sequence[int]], row_title: str, column_title: str) -> str:
    """Cells of `counts` [rows, columns], darker with their share of the row; each tells its numbers when pointed at."""
    side, letters = 13, max(map(width_of, names), default=0) + 10
    svg = drawing(letters + side * len(names) + 4, letters + side * len(names) + 20)
    write(svg, 4, 12, f"{row_title} (rows) > {column_title} (columns)", kind="faint")
    top = letters + 16
    for i, name in enumerate(names):
        write(svg, letters - 5, top + i * side + 10, name, anchor="end")
        x = letters + i * side + 10
        write(svg, x, top - 5, name, transform=f"rotate(-90 {x:.1f} {top - 5:.1f})")
        total = sum(counts[i]) or 1
        add(
            svg, "line", x1=letters, x2=letters + side * len(names), y1=top + i * side, y2=top + i * side,
            **{"class": "axis", "stroke-width": 0.2},
        )  # fmt: skip
        for j, count in enumerate(counts[i]):
            if count:
                place = {"x": letters + j * side, "y": top + i * side, "width": side - 1, "height": side - 1}
                opacity = f"{0.12 + 0.88 * count / total:.2f}"
                cell = add(svg, "rect", **place, fill=COLOURS[0 if i == j else 1], **{"fill-opacity": opacity})
                add(cell, "title").text = f"{name} > {names[j]}: {count} ({count / total:.1%})"
    return text_of(svg)


def write_stacked(path: Path, charts: Mapping[str, Element]) -> None:
    """An SVG file of charts one below the other, each under its title; it stands for itself, in light and in dark."""
    heights = [float(chart.attrib["height"]) + 22 for chart in charts.values()]
    svg = drawing(WIDTH, sum(heights))
    svg.set("class", "alone")
    svg.set("width", f"{1.6 * WIDTH:.0f}")
    svg.set("height", f"{1.6 * sum(heights):.0f}")
    svg.set("xmlns", "http://www.w3.org/2000/svg")
    y = 0.0
    for (title, chart), height in zip(charts.items(), heights, strict=True):
        write(svg, 6, y + 14, title)
        chart.set("y", f"{y + 22:.1f}")
        svg.append(chart)
        y += height
    with atomic_path(path) as temporary:
        temporary.write_text(text_of(svg) + "\n", encoding="utf-8")


def drawing(width: float, height: float) -> Element:
    box = {"viewBox": f"0 0 {width:.0f} {height:.0f}", "role": "img"}
    svg = ElementTree.Element("svg", box | {"width": f"{width:.0f}", "height": f"{height:.0f}"})
    add(svg, "style").text = STYLE
    return svg


def width_of(text: str) -> float:
    return sum(CAPITAL if letter.isupper() else LETTER for letter in text)


def text_of(svg: Element) -> str:
    return ElementTree.tostring(svg, encoding="unicode")


def add(parent: Element, name: str, **attributes: object) -> Element:
    written = {key: f"{value:.1f}" if isinstance(value, float) else str(value) for key, value in attributes.items()}
    return ElementTree.SubElement(parent, name, written)


def write(svg: Element, x: float, y: float, text: str, anchor: str = "start", kind: str = "", **more: str) -> None:
    add(svg, "text", x=float(x), y=float(y), **{"text-anchor": anchor, "class": kind}, **more).text = text


def legend(svg: Element, places: Sequence[tuple[str, float, float]]) -> None:
    for i, (name, x, y) in enumerate(places):
        add(svg, "rect", x=x, y=y, width=9, height=9, fill=COLOURS[i % len(COLOURS)])
        write(svg, x + 13, y + 8, name)


def legend_places(names: Sequence[str], left: float) -> list[tuple[str, float, float]]:
    """(name, x, y) of each entry, from left to right in as many lines as it takes."""
    places, x, y = [], left, 4.0
    for name in names:
        wide = width_of(name) + 28
        if x > left and x + wide > WIDTH:
            x, y = left, y + LEGEND_LINE
        places.append((name, x, y))
        x += wide
    return places


def scale(low: float, high: float, start: float, end: float):
    """The linear map of [low, high] to [start, end]."""
    span = (high - low) or 1
    return lambda value: start + (end - start) * (value - low) / span


def axes(svg: Element, scale_x, scale_y, x_range, y_range, x_title: str, y_title: str) -> None:
    (x0, x1), (y0, y1) = map(scale_x, x_range), map(scale_y, y_range)
    add(svg, "path", d=f"M{x0:.1f} {y1:.1f}V{y0:.1f}H{x1:.1f}", **{"class": "axis"})
    for value in ticks(*x_range):
        write(svg, scale_x(value), y0 + 14, f"{value:g}", anchor="middle", kind="faint")
    for value in ticks(*y_range):
        write(svg, x0 - 5, scale_y(value) + 4, f"{value:g}", anchor="end", kind="faint")
    write(svg, (x0 + x1) / 2, y0 + 29, x_title, anchor="middle")
    write(svg, 2, y1 - 8, y_title)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from low to high."""
    if high <= low:
        return [low]
    rough = (high - low) / about
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]
