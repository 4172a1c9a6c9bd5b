"""A page holds row text without letting it act."""

import json
import re
import stat
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pii.pages import pages

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
