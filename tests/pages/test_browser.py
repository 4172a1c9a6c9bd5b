"""check_dataset.py's page in a browser: what it shows, how it filters, and that a hostile row does nothing."""

import json
from pathlib import Path

import pytest

import check_dataset
import prepare

pytest.importorskip("selenium")
from selenium.webdriver.common.by import By

HOSTILE = [
    "<script>document.title='bad'</script> ends",
    "</script><script>document.title='bad'</script> ends",
    "<!--<script> ends",
    "<img src=x onerror=\"document.title='bad'\"> ends",
    "'\" onmouseover=alert(1) x=' ends",
    "{{ 7 * 7 }} ${7*7} ends",
    "a\u2028b\u2029c\u202ed\u2066e\u0000f\u001bg\u200bh\ufeffi ends",
    "w" * 3000 + " ends",
    "e" + "\u0301" * 200 + " ends",
]
UNSEEN = "\u2028\u2029\u202e\u2066\0\x1b\u200b\ufeff"  # what the page writes as a number


def prepare_to(folder: Path, rows: list[dict]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    prepare.main(["--input", str(source), "--output", str(folder / "prepared"), "--validation-fraction", "0"])
    check_dataset.main(["--data", str(folder / "prepared"), "--html", str(folder / "page.html")])
    return folder / "page.html"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows 0 to 129: names in English, towns in French at every third, and a span that ends inside a token at last."""
    rows = []
    for i in range(129):
        if i % 3:
            rows.append(
                {"unmasked_text": f"Hello Ann, row {i}", "span_labels": [[6, 9, "FIRSTNAME"]], "language": "en"}
            )
        else:
            rows.append({"unmasked_text": f"Zoé à Paris, n° {i}", "span_labels": [[6, 11, "CITY"]], "language": "fr"})
    rows.append({"unmasked_text": "write to john@example.com", "span_labels": [[9, 24, "EMAIL"]], "language": "en"})
    return prepare_to(tmp_path_factory.mktemp("page"), rows)


def rows_of(browser) -> list:
    return browser.find_elements(By.CSS_SELECTOR, "#list .row")


def text_of(element) -> str:
    """The text inside, as it stands in the page."""
    return element.get_attribute("textContent")


def counted(browser) -> str:
    return text_of(browser.find_element(By.ID, "count"))


def choose(browser, name: str, value: str) -> None:
    select = browser.find_element(By.NAME, name)
    select.find_element(By.CSS_SELECTOR, f"option[value='{value}']").click()


def test_a_row_shows_its_text_its_spans_and_the_names_of_their_labels(open_page, page):
    browser = open_page(page)
    first = rows_of(browser)[0]
    [mark] = first.find_elements(By.TAG_NAME, "mark")
    assert text_of(mark) == "ParisCITY" and text_of(mark.find_element(By.TAG_NAME, "b")) == "CITY"
    assert text_of(first.find_element(By.CLASS_NAME, "text")).replace("CITY", "") == "Zoé à Paris, n° 0"
    assert text_of(first.find_element(By.TAG_NAME, "header")).startswith("row 0, fr, ")


def test_rows_come_fifty_at_a_time_and_the_others_on_demand(open_page, page):
    browser = open_page(page)
    assert len(rows_of(browser)) == 50 and counted(browser) == "130 of 130 rows"
    for shown in (100, 130):
        browser.find_element(By.CLASS_NAME, "more").click()
        assert len(rows_of(browser)) == shown
    assert not browser.find_elements(By.CLASS_NAME, "more")


def test_rows_are_filtered_by_label_language_and_text_together(open_page, page):
    browser = open_page(page)
    choose(browser, "label", "CITY")
    assert counted(browser) == "43 of 130 rows" and len(rows_of(browser)) == 43
    assert {text_of(mark) for mark in browser.find_elements(By.TAG_NAME, "mark")} == {"ParisCITY"}
    choose(browser, "label", "")
    choose(browser, "language", "en")
    assert counted(browser) == "87 of 130 rows"
    browser.find_element(By.NAME, "text").send_keys("ROW 12")  # 12 itself is French; 121, 122, 124, 125, 127, 128
    assert counted(browser) == "6 of 130 rows" and all("row 12" in text_of(row) for row in rows_of(browser))
    choose(browser, "label", "CITY")
    assert counted(browser) == "0 of 130 rows" and not rows_of(browser)


def test_the_filters_offer_what_the_rows_have(open_page, page):
    browser = open_page(page)
    offered = {
        name: [
            option.get_attribute("value") for option in browser.find_elements(By.CSS_SELECTOR, f"[name={name}] option")
        ]
        for name in ("label", "language")
    }
    assert offered == {"label": ["", "CITY", "EMAIL", "FIRSTNAME"], "language": ["", "en", "fr"]}


def test_rows_whose_tags_lose_a_span_are_found_and_say_which(open_page, page):
    browser = open_page(page)
    browser.find_element(By.NAME, "lost").click()
    [row] = rows_of(browser)
    assert text_of(row.find_element(By.CLASS_NAME, "note")) == "the tags do not give back 9:24 EMAIL"
    assert text_of(row.find_element(By.TAG_NAME, "header")).startswith("row 129, ")


def test_token_borders_show_on_demand_and_leave_the_list_as_it_is(open_page, page):
    browser = open_page(page)
    browser.find_element(By.CLASS_NAME, "more").click()
    tokens = rows_of(browser)[1].find_elements(By.CLASS_NAME, "token")

    def bordered() -> list[bool]:
        return [token.value_of_css_property("box-shadow") != "none" for token in tokens]

    assert not any(bordered())
    browser.find_element(By.NAME, "borders").click()
    assert any(bordered()) and len(rows_of(browser)) == 100
    browser.find_element(By.NAME, "borders").click()
    assert not any(bordered())


def test_enter_in_a_filter_does_not_load_the_page_again(open_page, page):
    browser = open_page(page)
    browser.find_element(By.NAME, "text").send_keys("row 100\n")
    assert counted(browser) == "1 of 130 rows" and browser.current_url == page.resolve().as_uri()


def test_the_table_of_labels_sorts_by_its_heads(open_page, page):
    browser = open_page(page)
    browser.find_element(By.TAG_NAME, "summary").click()
    table = browser.find_element(By.CSS_SELECTOR, "table.sortable")

    def column(number: int) -> list[str]:
        return [text_of(cell) for cell in table.find_elements(By.CSS_SELECTOR, f"tbody td:nth-child({number})")]

    assert column(2) == ["86", "43", "1"]
    name, _ = table.find_elements(By.CSS_SELECTOR, "th button")
    name.click()
    assert column(1) == ["CITY", "EMAIL", "FIRSTNAME"]


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_the_screen_and_its_colours_are_the_readers(open_page, page, width, dark):
    browser = open_page(page, width, dark)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    paper = browser.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
    assert ("255, 255, 255" in paper) != dark


# Rows that would like to act


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [{"unmasked_text": text, "span_labels": [[0, len(text) - 5, "CITY"]]} for text in HOSTILE]
    return prepare_to(tmp_path_factory.mktemp("hostile"), rows)


def elements_of(browser, selector: str) -> list[str]:
    """The kinds of elements that a selector finds."""
    script = "return [...document.querySelectorAll(arguments[0])].map((element) => element.localName)"
    return browser.execute_script(script, selector)


def test_a_hostile_row_is_only_text(open_page, hostile_page):
    browser = open_page(hostile_page, width=390)
    assert browser.title.startswith("Prepared data")
    assert set(elements_of(browser, "#list *")) == {"article", "header", "div", "mark", "span", "b", "i"}
    assert elements_of(browser, "script, img, [onerror], [onmouseover]") == ["script", "script"]  # data, and our own
    shown = [text_of(row.find_element(By.CLASS_NAME, "text")).replace("CITY", "") for row in rows_of(browser)]
    wanted = ["".join(f"U+{ord(c):04X}" if c in UNSEEN else c for c in text) for text in HOSTILE]
    assert shown == wanted
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    browser.find_element(By.NAME, "text").send_keys("</script>")
    assert counted(browser) == f"2 of {len(HOSTILE)} rows"


def test_nothing_but_the_pages_own_script_runs(open_page, page):
    """Were a row's text set as HTML after all, the page's policy would still stop it."""
    browser = open_page(page)
    browser.execute_script(
        "const s = document.createElement('script'); s.textContent = 'document.title = 1'; document.body.append(s)"
    )
    assert browser.title.startswith("Prepared data")
    [refused] = browser.get_log("browser")
    assert "Content Security Policy" in refused["message"]
