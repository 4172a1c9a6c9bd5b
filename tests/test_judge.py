"""judge.py: the figures of predict.py's spans on raw files, a line a file."""

import json
from pathlib import Path

import pytest

import judge
import predict
from pii.common import UserError
from pii.heads.heads import DOCUMENTED
from pii.redaction.replacements import Span
from tests.test_evaluate import CANARY, leaked, raw_rows, train_to


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_to(tmp_path_factory.mktemp("judge"), 512)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two files of raw rows; the labels of the second one want a map."""
    names = {"first": lambda label, row: label, "second": lambda label, row: label.lower()}
    paths = [tmp_path / f"{name}.jsonl" for name in names]
    for path, rename in zip(paths, names.values(), strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in raw_rows("en", 12, rename)), encoding="utf-8")
    (tmp_path / "maps").mkdir()
    label_map = {"firstname": "FIRSTNAME", "city": "CITY", "pin": "PIN", "nearbygpscoordinate": None}
    (tmp_path / "maps" / "second.json").write_text(json.dumps(label_map))
    return paths


def judged(run: Path, files: list[Path], *flags: str) -> dict:
    table = files[0].parent / "table.json"
    words = [*map(str, files), "--run", str(run), "--device", "cpu", "--json", str(table), *flags, "--head", DOCUMENTED]
    judge.main([*words, "--maps", str(files[0].parent / "maps")])
    return json.loads(table.read_text())


def test_figures_are_those_of_the_spans_of_predict(run, files, capfd):
    entry = judged(run, files)["first"]
    rows = raw_rows("en", 12, lambda label, row: label)
    spans = list(
        predict.Redactor(run, device="cpu", head=DOCUMENTED, rules="none").spans([row["unmasked_text"] for row in rows])
    )
    gold = [[tuple(span) for span in row["span_labels"]] for row in rows]
    found = [[span[:3] for span in row] for row in spans]
    assert entry["leakage"] == pytest.approx(leaked(gold, found)) and 0 < entry["leakage"] < 1
    assert entry["precision"] == pytest.approx(1 - leaked(found, gold)) and 0 < entry["precision"] < 1
    hits = sum(len({*a} & {*b}) for a, b in zip(gold, found, strict=True))
    assert entry["strict"] == pytest.approx(2 * hits / sum(map(len, gold + found)))
    assert entry["rows"] == 12 and CANARY not in "".join(capfd.readouterr())


def test_each_file_has_its_own_label_map(run, files):
    table = judged(run, files)
    assert list(table) == ["first", "second"]
    assert table["second"]["strict"] > 0 and table["second"]["leakage"] != table["first"]["leakage"]


def test_a_file_without_rows_is_one_line(run, files):
    files[0].write_text('{"no": "row"}\n')
    with pytest.raises(UserError, match=r"first\.jsonl"):
        judged(run, files)


def test_an_operating_point_covers_more(run, files):
    (run / "operating_points.json").write_text(json.dumps({DOCUMENTED: {"0.9": {"bias": 3.0}}}))
    table = judged(run, files[:1], "--target-recall", "0.9")
    assert list(table) == ["first", "first, recall 0.9"]
    assert table["first, recall 0.9"]["leakage"] < table["first"]["leakage"]
    assert table["first, recall 0.9"]["precision"] < table["first"]["precision"]
    with pytest.raises(UserError, match="no operating point of recall"):
        judged(run, files, "--target-recall", "0.5")


def test_another_program_is_judged_on_the_same_gold(run, files, monkeypatch, capsys):
    rows = raw_rows("en", 12, lambda label, row: label)
    gold = {row["unmasked_text"]: [Span(*span, 1.0, "peer") for span in row["span_labels"]] for row in rows}
    monkeypatch.setattr(judge, "presidio", lambda: {"all": lambda texts, language: [gold[text] for text in texts]})
    table = judged(run, files, "--peers")
    assert table["first, all"] == {"rows": 12, "leakage": 0, "precision": 1}
    assert table["second, all"]["precision"] < 1  # its map leaves out one label

    def lacking(texts, language):
        raise LookupError(f"no model of {language}")

    monkeypatch.setattr(judge, "presidio", lambda: {"none": lacking})
    assert list(judged(run, files, "--peers")) == ["first", "second"]
    assert "no model of" in capsys.readouterr().out
