"""The page of evaluate.py --html in a browser: what a reader sees and can do there."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pii.corpus.store import PreparedSplit
from pii.heads.tagging import Tagged
from tests.pages.test_report_page import write

pytest.importorskip("selenium")
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"
BIDI = "\u202egnp.exe\u2066"


@pytest.fixture
def data(prepare_rows: Callable[..., Path]) -> PreparedSplit:
    """70 rows; a name in each, a city in every second one, and one whose text is hostile."""
    rows = []
    for i in range(69):
        text = f"Row {i}: Anna" + (" of Oslo is here." if i % 2 else " is here.")
        start = text.index("Anna")
        spans = [[start, start + 4, "FIRSTNAME"]]
        spans += [[start + 8, start + 12, "CITY"]] if i % 2 else []
        rows.append({"unmasked_text": text, "span_labels": spans, "language": "fr" if i % 3 else "en"})
    text = f"{HOSTILE} {BIDI} Anna"
    rows.append({"unmasked_text": text, "span_labels": [[len(text) - 4, len(text), "FIRSTNAME"]], "language": "en"})
    return PreparedSplit(prepare_rows(rows, "--validation-fraction", "1"), "validation")


def tagged_of(data: PreparedSplit) -> Tagged:
    """Every name is missed, but for that of row 1, which is taken for a city; in row 2 the first word is invented."""
    label_ids = data.tokens["label_ids"].copy()
    name, city = data.labels.index("FIRSTNAME"), data.labels.index("CITY")
    starts = data.example_offsets
    of_row_1 = np.arange(len(label_ids)) < starts[2]
    of_row_1 &= np.arange(len(label_ids)) >= starts[1]
    label_ids[label_ids == name] = np.where(of_row_1, city, 0)[label_ids == name]
    label_ids[starts[2]] = city
    return Tagged(label_ids, np.zeros(len(label_ids), bool), np.full(len(label_ids), 0.5, np.float32))


@pytest.fixture
def page(data, tmp_path, open_page):
    """page(show_text, width=1280, dark=False) → the browser with the page of these errors."""

    def open_it(show_text: bool, **how: object):
        write(tmp_path / "page.html", data, tagged_of(data), show_text)
        return open_page(tmp_path / "page.html", **how)

    return open_it


def texts(browser, selector: str) -> list[str]:
    return [found.text for found in browser.find_elements(By.CSS_SELECTOR, selector)]


def choose(browser, name: str, value: str) -> None:
    Select(browser.find_element(By.ID, name)).select_by_value(value)


def shown(browser) -> tuple[str, int]:
    """What the page says of its errors, and how many it draws."""
    return browser.find_element(By.ID, "count").text, len(browser.find_elements(By.CSS_SELECTOR, "#errors .row"))


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_a_phone_and_a_screen_in_light_and_dark(page, width, dark):
    browser = page(True, width=width, dark=dark)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    ink, paper = browser.execute_script(
        "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
    )
    light = sum(map(int, paper[4:-1].split(","))) > sum(map(int, ink[4:-1].split(",")))
    assert light != dark
    wide = browser.find_element(By.ID, "confusion")
    assert wide.size["width"] <= width


def test_print_is_dark_on_white_also_where_the_screen_is_dark(page):
    browser = page(False, dark=True)
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": features})
    assert browser.execute_script("return getComputedStyle(document.body).color") == "rgb(28, 28, 28)"
    assert not browser.find_element(By.CSS_SELECTOR, ".filters").is_displayed()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_click_on_a_head_sorts_the_labels_by_it_and_another_one_turns_the_order(page):
    browser = page(False)
    heads = browser.find_elements(By.CSS_SELECTOR, "table.labels th")
    names = [head.text for head in heads]
    assert names == ["label", "strict F1", "precision", "recall", "gold", "predicted", "leakage"]
    column = f"table.labels tbody td:nth-child({names.index('gold') + 1})"
    button = heads[names.index("gold")].find_element(By.TAG_NAME, "button")
    button.click()
    assert texts(browser, column) == ["70", "34"] and texts(browser, "table.labels td:first-child")[0] == "FIRSTNAME"
    button.click()
    assert texts(browser, column) == ["34", "70"]
    heads[0].find_element(By.TAG_NAME, "button").click()
    assert texts(browser, "table.labels td:first-child") == ["CITY", "FIRSTNAME"]


def test_fifty_errors_are_drawn_and_the_others_when_asked_for(page):
    browser = page(False)
    assert shown(browser) == ("71 of 71 errors", 50)
    browser.find_element(By.CSS_SELECTOR, "#errors .more").click()
    assert shown(browser) == ("71 of 71 errors", 71)


def test_errors_are_filtered_by_kind_label_and_language_together(page):
    browser = page(False)
    choose(browser, "kind", "wrong label")
    [row] = texts(browser, "#errors .row")
    assert shown(browser) == ("1 of 71 errors", 1)
    assert "row 1, fr" in row and "FIRSTNAME 7 to 11 (4)" in row and "CITY 7 to 11 (4)" in row
    choose(browser, "language", "en")
    assert shown(browser) == ("0 of 71 errors", 0)
    choose(browser, "language", "")
    choose(browser, "gold", "FIRSTNAME")
    assert shown(browser) == ("1 of 71 errors", 1)
    choose(browser, "gold", "")
    choose(browser, "kind", "invented")
    [row] = texts(browser, "#errors .row")
    assert "row 2" in row and "gold: none" in row and "predicted: CITY" in row
    choose(browser, "kind", "missed")
    choose(browser, "language", "en")
    assert shown(browser) == ("24 of 71 errors", 24)
    choose(browser, "predicted", "CITY")  # what is missed has no predicted label
    assert shown(browser)[1] == 0


def test_an_error_shows_gold_above_prediction_with_the_span_outlined(page):
    browser = page(True)
    choose(browser, "kind", "wrong label")
    gold, predicted = browser.find_elements(By.CSS_SELECTOR, "#errors .row .line")
    assert " ".join(gold.text.split()) == "gold Row 1: AnnaFIRSTNAME of OsloCITY is here."
    assert " ".join(predicted.text.split()) == "predicted Row 1: AnnaCITY of OsloCITY is here."
    assert gold.location["y"] < predicted.location["y"]
    for line, outlined in ((gold, "AnnaFIRSTNAME"), (predicted, "AnnaCITY")):
        [mark] = line.find_elements(By.CSS_SELECTOR, "mark.outlined")
        assert mark.text == outlined


def test_the_text_search_keeps_errors_whose_text_has_the_words(page):
    browser = page(True)
    browser.find_element(By.ID, "text").send_keys("ROW 13: anna")
    assert shown(browser) == ("1 of 71 errors", 1)
    assert "row 13," in texts(browser, "#errors .row")[0]


def test_without_text_there_are_no_lines_and_no_text_search(page):
    browser = page(False)
    assert not browser.find_elements(By.CSS_SELECTOR, "#text, #errors .line, #errors mark")
    assert "Anna" not in browser.page_source and "Oslo" not in browser.page_source


def test_hostile_text_of_a_row_is_shown_and_does_nothing(page):
    browser = page(True)
    browser.find_element(By.ID, "text").send_keys("alert(1)")
    [row] = texts(browser, "#errors .row")
    assert HOSTILE in row.replace("\n", "") and "U+202E" in row and "U+2066" in row and "\u202e" not in row
    assert not browser.find_elements(By.CSS_SELECTOR, "#errors script, #errors img")
    assert browser.execute_script("return document.scripts.length") == 2
