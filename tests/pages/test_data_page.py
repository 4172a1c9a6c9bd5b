"""The page of prepared data: rows, spans, charts and reasons are those of the data (test_browser.py opens it)."""

import html
import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import check_dataset
from dataset import PIITokenDataset
from pii.pages import data_page
from tests.corpus.test_invariants import CANARY, SENTENCES, check, prepare_to, row_of


def page_of(folder: Path, *flags: str) -> tuple[str, dict]:
    """The page that the check writes, and the data inside it."""
    path = folder.parent / "page.html"
    check(folder, "--html", str(path), *flags)
    page = path.read_text(encoding="utf-8")
    return page, json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])


@pytest.fixture
def elsewhere(sound: Path, tmp_path: Path) -> Path:
    """The sound folder again, where a page can be written beside it."""
    return Path(shutil.copytree(sound, tmp_path / "prepared"))


def without_markup(page: str) -> str:
    """The words of a page as they are read, without its data."""
    page = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.S)
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", page).split()))


def test_a_page_holds_each_row_whole_with_its_spans_and_tokens(elsewhere):
    _, data = page_of(elsewhere)
    dataset = PIITokenDataset(elsewhere, "train")
    assert [row["row"] for row in data["rows"]] == list(range(len(SENTENCES)))
    for row in data["rows"]:
        example, place, spans = dataset.example(row["row"]), 0, []
        borders = {place for place, _ in example["char_spans"]}
        for label, *tokens in row["pieces"]:
            if label:
                spans.append((place, place + len("".join(tokens)), data["labels"][label]))
            for i, token in enumerate(tokens):
                assert not i or place in borders
                place += len(token)
        assert "".join(token for _, *tokens in row["pieces"] for token in tokens) == example["text"]
        assert spans == example["spans"]
        assert (row["language"], row["tokens"]) == (example["language"], len(example["tokens"]))


def test_a_page_says_how_many_rows_of_how_many_it_shows(elsewhere, monkeypatch):
    monkeypatch.setattr(check_dataset, "PAGE_ROWS", 2)
    page, data = page_of(elsewhere)
    assert [row["row"] for row in data["rows"]] == [0, 1]
    assert "2 of 6 rows are on this page" in without_markup(page)


def test_a_page_names_the_rows_whose_tags_lose_a_span(tmp_path):
    short = {"unmasked_text": "write to john@example.com", "span_labels": [[9, 24, "EMAIL"]]}
    rows = [row_of(*SENTENCES[0]), short, row_of(*SENTENCES[2]), short | {"unmasked_text": "mail to: john@example.com"}]
    folder = prepare_to(tmp_path / "data", rows, "--validation-fraction", "0")
    _, data = page_of(folder)
    email = data["labels"].index("EMAIL")
    assert [row["lost"] for row in data["rows"]] == [[], [[9, 24, email]], [], [[9, 24, email]]]
    page, data = page_of(folder, "--index", "0", "1")
    assert "The tags of 2 of the 4 rows" in without_markup(page)
    assert "1 of them are not on this page: --index 3 ." in without_markup(page)


def test_a_page_counts_rejected_rows_by_reason_and_shows_none(tmp_path):
    rows = [row_of(*sentence) for sentence in SENTENCES]
    bad = [{"unmasked_text": f"{CANARY}{i} b", "span_labels": [[0, 99, "CITY"]]} for i in range(3)]
    folder = prepare_to(tmp_path / "data", [*rows, *bad, {"unmasked_text": 7}], "--max-rejected", "1")
    reasons = prepare_reasons(folder)
    assert sorted(reasons.values()) == [1, 3]
    page, _ = page_of(folder, "--index", "0")
    words = without_markup(page)
    assert "4 rows could not be right" in words and CANARY + "0" not in page
    for reason, count in reasons.items():
        assert f"{reason} {count}" in words
    with (folder / "rejected.jsonl").open("a") as file:
        file.write('{"broken"\n[]\n\n')
    assert "rejected.jsonl that cannot be read) 3" in without_markup(page_of(folder)[0])
    (folder / "rejected.jsonl").unlink()
    assert "Not known" in without_markup(page_of(folder)[0])


def prepare_reasons(folder: Path) -> dict[str, int]:
    return json.loads((folder / "meta.json").read_text())["statistics"]["rejected_rows"]


def test_the_charts_of_a_page_show_the_numbers_of_the_data(tmp_path):
    rows = [row_of(*sentence) for sentence in SENTENCES] * 2
    folder = prepare_to(tmp_path / "data", rows, "--validation-fraction", "0.4")
    page, _ = page_of(folder, "--max-length", "10")
    *labels, tokens, pii = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.S)]
    lengths = {"tokens": [], "pii": []}
    spans = {}
    for split in ("train", "validation"):
        data = PIITokenDataset(folder, split)
        for i in range(len(data)):
            example = data.example(i)
            lengths["tokens"].append(len(example["tokens"]))
            lengths["pii"].append(sum(label != "O" for label in example["labels"]))
            for _, _, label in example["spans"]:
                spans.setdefault(label, {}).setdefault(split, 0)
                spans[label][split] += 1
    for chart, name in ((tokens, "tokens"), (pii, "pii")):
        bars = [re.fullmatch(r"(\d+) to (\d+): (\d+)", title.text) for title in chart.iter("title")]
        counts = [int(bar[3]) for bar in bars]
        assert sum(counts) == len(rows)
        beyond = [int(bar[3]) for bar in bars if int(bar[1]) >= 10]
        assert sum(beyond) == sum(length > 10 for length in lengths[name])
    longer = [length for length in lengths["tokens"] if length > 10]
    words = without_markup(page)
    assert f"{len(longer)} of {len(rows)} rows are longer than 10 tokens" in words
    assert f"with {sum(length - 10 for length in longer)} of {sum(lengths['tokens'])} tokens" in words
    written = [text.text for chart in labels for text in chart.iter("text")]
    for label, counts in spans.items():
        place = written.index(label)
        assert written[place + 1 : place + 3] == [str(counts.get(split, 0)) for split in ("train", "validation")]


@pytest.mark.parametrize("max_length", [1, 7, 96, 97, 10**6])
@pytest.mark.parametrize("longest", [0, 1, 50, 5000])
def test_bars_of_lengths_are_of_one_width_and_none_straddles_the_maximum(max_length, longest):
    lengths = np.append(np.arange(200) % 40, longest)
    edges, reach = data_page.length_edges(lengths, max_length)
    widths = np.diff(edges)
    assert 0 < widths[0] <= widths[1:].max(initial=widths[0]) and len(set(widths[1:].tolist())) <= 1
    assert max_length in edges or max_length > edges[-1]
    assert len(edges) <= 2 * data_page.BARS + 2
    assert (longest > edges[-1]) == bool(reach) and reach in (0, edges[-2])


@pytest.mark.parametrize("sources", [None, "none", [1, None], [{"file": "<b>x</b>"}]])
def test_sources_of_a_foreign_meta_json_do_no_harm_to_a_page(elsewhere, sources):
    path = elsewhere / "meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sources": sources}))
    assert "<b>" not in page_of(elsewhere)[0]


def test_data_without_spans_and_an_empty_split_have_a_page(tmp_path):
    rows = [{"unmasked_text": "no spans at all", "span_labels": []}]
    for share in ("0", "1"):
        page, _ = page_of(prepare_to(tmp_path / share, rows, "--validation-fraction", share))
        assert "No row has a span." in without_markup(page)


def test_a_page_names_doubtful_rows_by_reason(tmp_path):
    rows = [row_of("ask {NAME} 12", ["Ann Bell"]), row_of("or Ann Bell 34", []), row_of("see ({NAME} 56", ["Bob)"])]
    page, _ = page_of(prepare_to(tmp_path, rows, "--validation-fraction", "0"))
    table = re.search(r'<h2 id="doubts">.*?</table>', page, re.S).group()
    cells = [re.findall(r"<td>(.*?)</td>", line) for line in table.splitlines() if "<td>" in line]
    assert cells == [
        ["a span that takes in white space, a bracket or a quote", "train", "1", "1", "2"],
        ["a value without a span that has one elsewhere", "train", "1", "1", "1"],
    ]


def test_a_page_of_sound_rows_names_none(sound):
    page, _ = page_of(sound)
    assert re.search(r'<h2 id="doubts">Doubts</h2>\s*<p>None.</p>', page)
