"""A page holds row text without letting it act, and its charts are XML that shows the numbers it was given."""

import json
import re
import stat
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pii.pages import charts, pages

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</script><script>alert(1)</script><!--<script>]]>&lt;'\"\u2028\u202e\x00\x1b\r\ufffe é🙂"


class Tags(HTMLParser):
    """The elements of a page, as a browser's parser finds them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.found.append(tag)


# Pages


def data_of(page: str) -> dict:
    """What the page's script reads."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


@pytest.fixture
def template(tmp_path, monkeypatch) -> Path:
    """pages/ with a template and a script of our own beside the shared files."""
    folder = tmp_path / "pages"
    folder.mkdir()
    for name in ("base.html", "page.css", "page.js"):
        (folder / name).write_text((pages.FOLDER / name).read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "some.html").write_text(
        '{% extends "base.html" %}{% block content %}<p title="{{ note }}">{{ note }}</p>{% endblock %}'
    )
    (folder / "some.js").write_text("")
    monkeypatch.setattr(pages, "FOLDER", folder)
    return folder


def test_what_a_page_is_given_never_becomes_an_element(template, tmp_path):
    def written(text: str) -> str:
        pages.write_page(tmp_path / "page.html", "some", text, {"rows": [text], text: 1}, note=text)
        return (tmp_path / "page.html").read_text(encoding="utf-8")

    harmless, hostile = written("harmless"), written(HOSTILE)
    assert Tags(hostile).found == Tags(harmless).found
    assert data_of(hostile) == {"rows": [HOSTILE], HOSTILE: 1}
    assert "\u2028" not in hostile.split('id="data">')[1]


def test_a_page_is_for_its_owner_only_and_fetches_nothing(template, tmp_path):
    path = tmp_path / "folder" / "page.html"
    pages.write_page(path, "some", "a title", {}, note="")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    page = path.read_text(encoding="utf-8")
    assert "default-src 'none'" in page and not re.search(r"(?:src|href)=|url\(|@import|https?:", page)
    assert [child.name for child in path.parent.iterdir()] == ["page.html"]


def test_a_value_that_a_template_lacks_is_an_error_and_leaves_no_page(template, tmp_path):
    with pytest.raises(Exception, match="note"):
        pages.write_page(tmp_path / "page.html", "some", "a title", {})
    assert not (tmp_path / "page.html").exists()


def test_a_label_keeps_its_colour_whatever_labels_are_beside_it():
    labels = ["O", "EMAIL", "CITY", "PIN"]
    assert dict(zip(labels, pages.colours_of(labels), strict=True)) == dict(
        zip(labels[::-1], pages.colours_of(labels[::-1]), strict=True)
    )
    assert set(pages.colours_of([f"L{i}" for i in range(200)])) == set(range(pages.NUM_COLOURS))
    style = (pages.FOLDER / "page.css").read_text(encoding="utf-8")
    assert all(f"mark.label{i} " in style for i in range(pages.NUM_COLOURS))


# Pieces of a text


def pieces_by_character(text: str, spans: list, token_borders: list[int]) -> list[list[int | str]]:
    """`pages.pieces_of` by a plain loop over characters."""
    pieces, before = [], "start"
    for place, character in enumerate(text):
        span = next((span for span in spans if span[0] <= place < span[1]), None)
        if not pieces or span != before:
            pieces.append([span[2] if span else 0, character])
        elif place in token_borders:
            pieces[-1].append(character)
        else:
            pieces[-1][-1] += character
        before = span
    return pieces


@st.composite
def texts_with_spans(draw) -> tuple[str, list, list[int]]:
    text = draw(st.text(alphabet="ab é🙂\n<", max_size=20))
    places = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)))
    spans, at = [], 0
    while at + 1 < len(places):
        if draw(st.booleans()):
            spans.append((places[at], places[at + 1], draw(st.integers(1, 3))))
        at += 1  # so that spans touch now and then
    return text, spans, draw(st.lists(st.integers(0, max(0, len(text) - 1)), max_size=10))


@given(texts_with_spans())
def test_pieces_are_those_of_a_loop_over_characters(case):
    assert pages.pieces_of(*case) == pieces_by_character(*case)


def test_pieces_of_touching_spans_of_one_label_stay_apart():
    assert pages.pieces_of("abcd", [(0, 2, 7), (2, 3, 7)], [0, 1]) == [[7, "a", "b"], [7, "c"], [0, "d"]]


# Charts


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
