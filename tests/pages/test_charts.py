"""Charts as SVG: what is drawn has the size of its numbers, and stays inside its drawing."""

from itertools import pairwise
from xml.etree import ElementTree

import pytest

from pii.pages import charts

SVG = "{http://www.w3.org/2000/svg}"


def drawn(svg: str) -> ElementTree.Element:
    """A chart as a browser or an XML reader takes it."""
    return ElementTree.fromstring(svg)


def rectangles(svg: str) -> list[ElementTree.Element]:
    """The bars of a chart, without the legend's squares."""
    squares = {"9"}
    return [r for r in drawn(svg).iter("rect") if {r.get("width"), r.get("height")} != squares]


def texts_of(svg: str) -> list[str]:
    return [element.text for element in drawn(svg).iter("text")]


def test_bars_have_the_length_of_their_values_and_their_texts():
    series = {"train": [0.5, 0.25, 0.0], "validation": [1.0, 0.125, 0.25]}
    texts = {"train": ["500", "250", "0"], "validation": ["10", "1", "2"]}
    svg = charts.bars(["A", "B<&", "C"], series, texts)
    lengths = [float(bar.get("width")) for bar in rectangles(svg)]
    values = [series[split][i] for i in range(3) for split in series]
    assert lengths == pytest.approx([value * max(lengths) for value in values], abs=0.1)
    written = texts_of(svg)
    assert written[:2] == ["train", "validation"] and written[2:5] == ["A", "500", "10"] and "B<&" in written


def test_parts_of_a_bar_chart_have_the_scale_of_the_whole():
    names, series = ["LONGER", "B", "C"], {"train": [4.0, 2.0, 1.0]}
    texts = {"train": ["4", "2", "1"]}
    whole, first, second = (
        [(bar.get("x"), bar.get("width")) for bar in rectangles(charts.bars(names, series, texts, part))]
        for part in (slice(None), slice(1), slice(1, None))
    )
    assert first + second == whole


def test_a_bar_chart_keeps_names_and_texts_inside_its_drawing():
    names = ["NEARBYGPSCOORDINATE", "AGE"]
    svg = charts.bars(names, {"train": [0.2, 0.1]}, {"train": ["107720", "1"]})
    width = float(drawn(svg).get("width"))
    for text in drawn(svg).iter("text"):
        reach = charts.width_of(text.text) * (-1 if text.get("text-anchor") == "end" else 1)
        assert 0 <= float(text.get("x")) + reach <= width


def test_bars_of_a_histogram_are_as_high_as_their_counts_and_tell_them():
    counts, edges = [4, 0, 2, 1], [0, 8, 16, 24, 32]
    svg = charts.histogram(counts, edges, "tokens <a row>", mark=16)
    bars = rectangles(svg)
    heights = [float(bar.get("height")) for bar in bars]
    assert heights == pytest.approx([count * heights[0] / 4 for count in counts], abs=0.1)
    assert [bar.find("title").text for bar in bars] == ["0 to 8: 4", "8 to 16: 0", "16 to 24: 2", "24 to 32: 1"]
    assert "tokens <a row>" in texts_of(svg) and "16" in texts_of(svg)
    colours = [bar.get("fill") for bar in bars]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    [mark] = drawn(svg).iter("line")
    assert float(mark.get("x1")) == pytest.approx(float(bars[2].get("x")), abs=0.1)


def test_the_mark_of_a_histogram_is_left_out_where_it_lies_beyond_all_bars():
    assert not list(drawn(charts.histogram([1, 2], [0, 1, 2], "tokens", mark=96)).iter("line"))


def test_cells_of_a_heat_map_tell_their_numbers():
    svg = charts.heat_map(["A", "B"], [[3, 1], [0, 0]], "gold", "predicted")
    assert [cell.find("title").text for cell in rectangles(svg)] == ["A > A: 3 (75.0%)", "A > B: 1 (25.0%)"]


def test_lines_break_where_a_value_is_no_number():
    nan, infinity = float("nan"), float("inf")
    svg = charts.lines({"a": ([1, 2, 3, 4, 5], [0.1, nan, 0.3, infinity, 0.5])}, "x", "y", dots=True)
    [path] = [path for path in drawn(svg).iter("path") if not path.get("class")]
    assert path.get("d").count("M") == 3 and "nan" not in svg and "inf" not in svg.replace("info", "")
    assert len(list(drawn(svg).iter("circle"))) == 3


@pytest.mark.parametrize("draw", ["bars", "histogram", "lines", "heat_map"])
def test_a_chart_of_nothing_is_still_a_chart(draw):
    empty = {
        "bars": ([], {}, {}),
        "histogram": ([0], [0, 1], "x"),
        "lines": ({}, "x", "y"),
        "heat_map": ([], [], "", ""),
    }
    assert drawn(getattr(charts, draw)(*empty[draw])).tag == "svg"


def test_stacked_charts_are_a_file_that_stands_for_itself(tmp_path):
    pictures = {f"chart {i} <&>": charts.line_chart({"a": ([0, 1], [0, i])}, "x", "y") for i in (1, 2)}
    charts.write_stacked(tmp_path / "curves.svg", pictures)
    root = ElementTree.parse(tmp_path / "curves.svg").getroot()
    assert root.tag == f"{SVG}svg" and [text.text for text in root.findall(f"{SVG}text")] == list(pictures)
    tops = [float(chart.get("y")) for chart in root.findall(f"{SVG}svg")]
    assert tops == sorted(tops) and tops[1] - tops[0] >= 230


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 470), (-3, 7), (0, 1e-4), (5, 5), (12, 12.5)])
def test_ticks_are_round_numbers_inside_the_range(low, high):
    ticks = charts.ticks(low, high)
    assert ticks and all(low <= tick <= high for tick in ticks) and len(ticks) <= 7
    steps = {f"{b - a:.3g}" for a, b in pairwise(ticks)}
    assert len(steps) <= 1 and all(f"{float(step):.0e}"[0] in "125" for step in steps)


def test_a_legend_of_many_heads_stays_inside_its_chart():
    names = [f"documented@1e-{digit}" for digit in range(1, 6)]
    svg = ElementTree.fromstring(charts.lines({name: ([1, 2], [3, 4]) for name in names}, "step", ""))
    found = {text.text: text for text in svg.iter() if text.tag.endswith("text") and text.text in names}
    assert list(found) == names
    assert all(float(text.get("x")) + charts.width_of(text.text) <= charts.WIDTH for text in found.values())
    assert len({(text.get("x"), text.get("y")) for text in found.values()}) == 5
