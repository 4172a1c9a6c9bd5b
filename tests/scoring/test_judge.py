"""Predictions beside gold in one label set: a subset of rows, label sets that differ, and the points of a curve."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import evaluate
from dataset import PIITokenDataset
from pii import common
from pii.heads.heads import STRONG
from pii.scoring import judge, metrics
from pii.training.runs import load_run
from tests.test_evaluate import flags_for, prepare_to, report_of, train_to


def figures_only(report: dict) -> dict:
    return {key: value for key, value in report.items() if key not in ("run", "data", "confusion")}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_to(tmp_path_factory.mktemp("judge") / "data", "1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_to(tmp_path_factory.mktemp("judge"), 512)


def test_a_subset_of_the_rows_is_judged_as_data_of_those_rows(trained, data):
    split = PIITokenDataset(data, "validation").split
    tagger, config = load_run(trained, torch.device("cpu"), STRONG)
    (scores,) = judge.read_scores([tagger], split, 512, evaluate.Processes(0, 1, torch.device("cpu")))
    counts, same = np.diff(split.example_offsets), {label: label for label in split.labels}
    whole = judge.judge(split, tagger.decode(scores, counts), config["labels"], same)
    rows = np.array([1, 4, 5, 20, 35])
    wanted = np.isin(np.arange(len(split)), rows)
    tagged = tagger.decode(scores[np.repeat(wanted, counts)], counts[rows])
    part = judge.judge(split, tagged, config["labels"], same, rows)
    for found, expected in zip(part.documents, whole.documents.select(wanted), strict=True):
        assert np.array_equal(found, expected)
    assert len(part.documents.gold) > 5 and part.labels == whole.labels
    of_part = np.repeat(wanted, whole.documents.predicted_counts)
    assert np.allclose(part.scores, whole.scores[of_part])
    assert np.array_equal(metrics.strict_hits(part.documents), metrics.strict_hits(whole.documents)[of_part])


# Label sets that differ


def test_a_label_map_renames_merges_and_leaves_out_labels(trained, tmp_path):
    """Data with other labels, mapped, gives the figures of the data with the run's own labels."""

    def other_names(label: str, row: int) -> str:
        return {"FIRSTNAME": ["GIVEN", "NICKNAME"][row % 2], "CITY": "TOWN"}.get(label, label)

    label_map = tmp_path / "map.json"
    given = {"GIVEN": "FIRSTNAME", "NICKNAME": "FIRSTNAME", "TOWN": "CITY", "PIN": None, "NOT_IN_THE_DATA": "PIN"}
    label_map.write_text(json.dumps(given), encoding="utf-8")
    mapped = report_of(trained, prepare_to(tmp_path / "other", "1", other_names), tmp_path, label_map=label_map)
    without_pin = prepare_to(tmp_path / "same", "1", lambda label, row: None if label == "PIN" else label)
    expected = report_of(trained, without_pin, tmp_path)
    assert figures_only(mapped) == figures_only(expected)
    assert mapped["unknown_labels"] == [] and mapped["per_label"]["PIN"]["gold"] == 0
    assert mapped["confusion"] == expected["confusion"]


def test_labels_the_run_does_not_know_are_listed_and_count_as_misses(trained, data, tmp_path, capsys):
    other = prepare_to(tmp_path / "other", "1", lambda label, row: "BOURG" if label == "CITY" else label)
    # a new name that sorts before those of the run, so that every label has another id
    report, known = report_of(trained, other, tmp_path), report_of(trained, data, tmp_path)
    assert report["unknown_labels"] == ["BOURG"] and known["unknown_labels"] == []
    bourg, city = report["per_label"]["BOURG"], known["per_label"]["CITY"]
    assert bourg["gold"] == bourg["strict"]["missed"] == city["gold"] > 0 and bourg["strict"]["recall"] == 0
    assert report["gold"] == known["gold"] and report["predicted"] == known["predicted"]
    assert report["strict"]["correct"] == known["strict"]["correct"] - city["strict"]["correct"]
    assert report["exact"]["f1"] == known["exact"]["f1"] and report["leakage"] == known["leakage"]
    capsys.readouterr()
    evaluate.main(flags_for(trained, other))
    assert "BOURG" in capsys.readouterr().out


def test_a_label_mapped_to_one_the_run_does_not_know_is_unknown(trained, data, tmp_path):
    (tmp_path / "map.json").write_text('{"CITY": "ABODE", "PIN": "ABODE"}')
    report = report_of(trained, data, tmp_path, label_map=tmp_path / "map.json")
    counts = [PIITokenDataset(data, "validation").split.spans[:, 2].tolist().count(i) for i in (1, 4)]
    assert report["unknown_labels"] == ["ABODE"] and report["per_label"]["ABODE"]["gold"] == sum(counts) > 0


def test_a_label_map_never_makes_gold_of_what_is_outside_all_spans(trained, data, tmp_path):
    (tmp_path / "map.json").write_text('{"O": "CITY"}')
    try:
        report = report_of(trained, data, tmp_path, label_map=tmp_path / "map.json")
    except common.UserError:
        return
    assert report["confusion"] == report_of(trained, data, tmp_path)["confusion"]


# The points of a curve


def test_points_that_are_known_are_not_worked_out_again():
    known = [{"bias": 0.0, "from": "before"}, {"bias": 0.25, "from": "before"}]
    asked = []
    points = judge.curve(known, 0.25, lambda bias: asked.append(bias) or {"bias": bias, "from": "now"})
    assert {point["bias"] for point in points if point["from"] == "before"} == {0.0, 0.25}
    assert asked == [bias for bias in judge.CURVE_BIASES if bias]
