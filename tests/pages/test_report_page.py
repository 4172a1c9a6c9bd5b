"""What the page of evaluate.py --html holds, without a browser: see test_browser_evaluate.py for what it does."""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pii.corpus.store import PreparedSplit
from pii.heads.tagging import Tagged
from pii.pages import report_page
from pii.pages.pages import FOLDER
from pii.scoring import judge
from tests.test_evaluate import CANARY, VALUES, prepare_to


def faulty(data: PreparedSplit, seed: int = 0) -> Tagged:
    """Gold tags, of which some tokens were given another label: every kind of error."""
    rng = np.random.default_rng(seed)
    label_ids = data.tokens["label_ids"].copy()
    span = np.cumsum(data.tokens["begins"])  # the tokens after a span that are O stay as they are
    other = rng.integers(data.num_labels, size=span[-1] + 1)
    wrong = (label_ids > 0) & (rng.random(span[-1] + 1) < 0.4)[span]
    label_ids[wrong] = other[span][wrong]
    changed = rng.random(len(label_ids)) < 0.08
    label_ids[changed] = rng.integers(data.num_labels, size=changed.sum())
    return Tagged(label_ids, np.zeros(len(label_ids), bool), rng.random(len(label_ids)).astype(np.float32))


def write(path: Path, data: PreparedSplit, tagged: Tagged, show_text: bool, chosen: float | None = None) -> dict:
    """Write the page of these tags; returns the report."""
    judged = judge.judge(data, tagged, data.labels, judge.label_map_of(None, data.labels))
    names = {"run": "runs/x", "head": "strong", "data": "data/x", "split": "validation"}
    report = names | judge.figures_of(judged, data.labels, None)

    def point_at(bias: float) -> dict:
        return judge.operating_point(0.0, judged.documents, len(judged.labels)) | {"bias": bias}

    points = judge.curve([], chosen, point_at)
    report_page.write_report_page(path, report, judged.documents, points, chosen, data if show_text else None)
    return report


def data_of(page: str) -> dict:
    """What the page's script reads."""
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    return PreparedSplit(prepare_to(tmp_path_factory.mktemp("page") / "data", "1"), "validation")


@pytest.fixture
def long_data(prepare_rows: Callable[..., Path]) -> PreparedSplit:
    """One row of 6,000 words, with a name each hundred words."""
    text, spans = "", []
    for i in range(60):
        text += "filler words " * 50
        spans.append([len(text), len(text) + 4, "FIRSTNAME"])
        text += f"Anna{' ' if i % 2 else ', '}"
    rows = [{"unmasked_text": text, "span_labels": spans}]
    return PreparedSplit(prepare_rows(rows, "--validation-fraction", "1"), "validation")


def test_a_page_without_text_holds_no_word_of_any_row(data, tmp_path):
    write(tmp_path / "page.html", data, faulty(data), show_text=False)
    page = (tmp_path / "page.html").read_text()
    ours = "".join((FOLDER / name).read_text() for name in ("base.html", "page.css", "page.js", "evaluate.html"))
    ours += (FOLDER / "evaluate.js").read_text() + str(report_page.MEANINGS) + str(report_page.KINDS) + str(data.labels)
    words = {word for i in range(len(data)) for word in re.findall(r"\w{3,}", data.example(i)["text"])}
    secret = {word for word in words if word not in ours}
    values = {word for of_label in VALUES.values() for value in of_label for word in re.findall(r"\w{3,}", value)}
    assert {CANARY, "Anna", "Zoé", "Bonjour", "Oslo", "Besançon", "4711"} <= secret and values <= secret
    page = re.sub(r"<svg.*?</svg>", drawn_text, page, flags=re.DOTALL)  # coordinates are digits as a PIN is
    assert not [word for word in secret if word in page or json.dumps(word)[1:-1] in page]


def drawn_text(svg: re.Match) -> str:
    return " ".join(re.findall(r">([^<]*)<", svg[0]))


def test_a_page_without_text_is_the_same_whatever_the_letters_of_the_rows(data, tmp_path):
    """The same tags over the same data with every ASCII letter moved by 13: not a byte of the page changes."""
    paths = [tmp_path / name for name in ("first.html", "second.html", "texts1.html", "texts2.html")]
    turned = PreparedSplit(data.folder)
    letters = turned.text.copy()
    for first in (ord("a"), ord("A")):
        chosen = (letters >= first) & (letters < first + 26)
        letters[chosen] = (letters[chosen] - first + 13) % 26 + first
    turned.text = letters
    for path, rows, show_text in zip(paths, (data, turned) * 2, (False, False, True, True), strict=True):
        write(path, rows, faulty(data), show_text)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[2].read_bytes() != paths[3].read_bytes()


@pytest.mark.parametrize("show_text", [False, True])
def test_a_page_fetches_nothing_and_only_its_owner_may_read_it(data, tmp_path, show_text):
    path = tmp_path / "page.html"
    write(path, data, faulty(data), show_text)
    page = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert not re.search(r"""(src|href)\s*=|@import|url\(|https?://(?!www\.w3\.org)""", page.split('id="data"')[0])
    assert page.count("<script") == 2 and "default-src 'none'" in page


def test_the_page_lists_every_error_with_its_row_its_spans_and_the_texts_around_them(data, tmp_path):
    report = write(tmp_path / "page.html", data, faulty(data), show_text=True)
    told = data_of((tmp_path / "page.html").read_text())
    counts = {kind: [error[1] for error in told["errors"]].count(i) for i, kind in enumerate(told["kinds"])}
    keys = ("wrong_label", "border", "border_and_label", "missed", "invented")
    assert list(counts.values()) == [report["errors"][key] for key in keys] and min(counts.values()) > 0
    for row, kind, language, gold, predicted, place, *marks in told["errors"]:
        example = data.example(row)
        assert language == example["language"]
        assert (gold is None, predicted is None) == (told["kinds"][kind] == "invented", told["kinds"][kind] == "missed")
        if gold:
            assert (*gold[:2], told["labels"][gold[2]]) in example["spans"]
        for pieces, span, mark in zip(told["texts"][place], (gold, predicted), marks, strict=False):
            assert "".join(piece[1] for piece in pieces) == example["text"]
            if span:
                label, text = [piece for piece in pieces if piece[0]][mark]
                assert (label, text) == (span[2], example["text"][span[0] : span[1]])
            else:
                assert mark == -1


def test_of_a_long_row_only_what_stands_around_the_error_is_in_the_page(long_data, tmp_path):
    nothing = np.zeros(len(long_data.tokens["label_ids"]), np.uint16)
    tagged = Tagged(nothing, nothing.astype(bool), nothing.astype(np.float32))
    write(tmp_path / "page.html", long_data, tagged, show_text=True)
    told, example = data_of((tmp_path / "page.html").read_text()), long_data.example(0)
    assert len(told["errors"]) == 60 and len(example["text"]) > 30_000
    for _, _, _, gold, _, place, mark, _ in told["errors"]:
        pieces, predicted, cut_left, cut_right = told["texts"][place]
        shown = "".join(piece[1] for piece in pieces)
        assert shown in example["text"] and len(shown) <= 2 * report_page.AROUND + 4
        assert [piece for piece in pieces if piece[0]][mark] == [gold[2], "Anna"]
        assert predicted == [[0, shown]] and cut_left and cut_right == (gold[1] + report_page.AROUND < 39_000 + 330)


def test_a_span_longer_than_a_page_can_show_is_cut_too(long_data, tmp_path):
    everything = np.ones(len(long_data.tokens["label_ids"]), np.uint16)
    tagged = Tagged(everything, np.zeros(len(everything), bool), everything.astype(np.float32))
    write(tmp_path / "page.html", long_data, tagged, show_text=True)
    told = data_of((tmp_path / "page.html").read_text())
    for *_, place, gold_mark, predicted_mark in told["errors"]:
        gold, predicted, *_ = told["texts"][place]
        assert gold_mark == predicted_mark == 0 and predicted[0][0] and len(predicted[0][1]) < 700
        assert "".join(piece[1] for piece in gold) == "".join(piece[1] for piece in predicted)
    assert report_page.excerpt(100_000, 10_000, 90_000) == (9_700, 11_100)


def test_more_errors_than_a_page_can_bear_are_spread_over_the_rows_and_it_says_so(data, tmp_path, monkeypatch):
    report = write(tmp_path / "all.html", data, faulty(data), show_text=False)
    assert "are on this page" not in (tmp_path / "all.html").read_text()
    total = report["gold"] - report["errors"]["correct"] + report["errors"]["invented"]
    monkeypatch.setattr(report_page, "MOST_ERRORS", 7)
    write(tmp_path / "few.html", data, faulty(data), show_text=False)
    page = (tmp_path / "few.html").read_text()
    everything, few = (data_of((tmp_path / name).read_text())["errors"] for name in ("all.html", "few.html"))
    assert len(everything) == total > 7 == len(few)
    assert few[0] == everything[0] and few[-1] == everything[-1] and all(error in everything for error in few)
    assert f"Of {total} errors, 7 are on this page" in page


def test_the_page_holds_the_figures_of_the_report(data, tmp_path):
    report = write(tmp_path / "page.html", data, faulty(data), show_text=False)
    page = (tmp_path / "page.html").read_text()
    for label, entry in report["per_label"].items():
        cells = [f"{entry['strict'][name]:.3f}" for name in ("f1", "precision", "recall")]
        cells += [str(entry["gold"]), str(entry["predicted"]), f"{entry['leakage']:.3f}"]
        assert "".join(f"<td>{cell}</td>" for cell in [label, *cells]) in page
    for name in ("strict", "exact", "partial", "type", "token"):
        low, high = report[name]["interval"]["f1"]
        assert f"{report[name]['f1']:.3f}</p><p>{low:.3f} to {high:.3f} (95% interval)" in page
    assert f"error: {report['calibration']['ece']:.3f} over {report['predicted']}" in page
    counts = np.array(report["confusion"]["counts"])
    count, gold, predicted = report_page.commonest_confusions(report["confusion"])[0]
    names = report["confusion"]["labels"]
    assert gold != predicted and count == (counts - np.diag(np.diag(counts))).max()
    assert count == counts[names.index(gold), names.index(predicted)]


def test_the_heat_map_shows_the_labels_that_occur_and_o():
    labels = ["O", "A", "NEVER", "B"]
    counts = [[9, 0, 0, 0], [1, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    drawn = report_page.confusion_map({"labels": labels, "counts": counts})
    assert ">A<" in drawn and ">O<" in drawn and "NEVER" not in drawn and ">B<" not in drawn
    assert "A &gt; O: 1 (33.3%)" in drawn


@pytest.mark.parametrize("chosen", [None, 1.5, 3.0, -0.5])
def test_the_ring_is_at_the_chosen_bias_and_without_one_at_0(data, tmp_path, chosen):
    write(tmp_path / "page.html", data, faulty(data), show_text=False, chosen=chosen)
    page = (tmp_path / "page.html").read_text()
    assert page.count('class="ring"') == 2
    assert re.findall(r'<tr class="chosen"><td>([^<]*)', page) == [f"{chosen or 0:.3f}"]
    assert ("has no stored operating point" in page) == (chosen is None)
    biases = [float(bias) for bias in re.findall(r'<tr(?: class="chosen")?><td>(-?[\d.]+)</td>', page)]
    assert biases == sorted(biases) and set(biases) == {*judge.CURVE_BIASES, chosen or 0.0}


def test_data_without_any_span_gives_a_page_too(prepare_rows, tmp_path):
    rows = [{"unmasked_text": f"nothing {'x' * i}", "span_labels": []} for i in range(1, 4)]
    rows.append({"unmasked_text": "Ann", "span_labels": [[0, 3, "FIRSTNAME"]]})
    folder = prepare_rows(rows, "--validation-fraction", "1")
    data = PreparedSplit(folder, "validation")
    nothing = np.zeros(len(data.tokens["label_ids"]), np.uint16)
    report = write(tmp_path / "page.html", data, Tagged(nothing, nothing > 0, nothing.astype(np.float32)), True)
    assert report["predicted"] == 0 and report["calibration"]["bins"] == []
    assert len(data_of((tmp_path / "page.html").read_text())["errors"]) == 1


def test_names_that_are_html_are_escaped(data, tmp_path):
    tagged = faulty(data)
    hostile = "<img src=x onerror=alert(1)>"
    data = PreparedSplit(data.folder)
    data.labels = ["O", hostile, *data.labels[2:]]
    data.language = np.array(["<b>"] * len(data))
    write(tmp_path / "page.html", data, tagged, show_text=True)
    page = (tmp_path / "page.html").read_text()
    assert "<img" not in page and "<b>" not in page and "&lt;img" in page and "&lt;b&gt;" in page


def test_random_cuts_keep_each_span_where_it_stands():
    choose = random.Random(0)
    for _ in range(200):
        borders = sorted(choose.sample(range(100), 8))
        spans = np.array([[*pair, 1] for pair in zip(borders[::2], borders[1::2], strict=True)])
        start, stop = sorted(choose.sample(range(101), 2))
        cut, first = report_page.cut_spans(spans, start, stop)
        chars = [{*range(s, e)} & {*range(start, stop)} for s, e, _ in spans]
        assert [{*range(s + start, e + start)} for s, e, _ in cut] == [each for each in chars if each]
        assert not cut or first == [bool(each) for each in chars].index(True)
