"""A run exported to transformers finds what predict.py finds."""

import json

import pytest
import torch
from test_model import save_tiny_backbone
from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

import bench
import model
import predict
import prepare
import tekken
import train
from common import UserError

NAMES = ["Ann", "Zoé", "Bob", "Łukasz", "Mary", "Li"]
PLACES = ["Paris", "New York", "Besançon", "Rome"]


def sentence(number: int) -> tuple[str, list]:
    name, place = NAMES[number % len(NAMES)], PLACES[number % len(PLACES)]
    before = ["My friend ", "Dear ", "Bonjour "][number % 3]
    text = f"{before}{name}{' lives in ' if number % 2 else ' habite à '}{place} at number {number}"
    start = text.index(place)
    return text, [[len(before), len(before) + len(name), "FIRSTNAME"], [start, start + len(place), "CITY"]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
    """(run folder, prepared folder) of a head fitted on a tiny random backbone."""
    folder = tmp_path_factory.mktemp("export")
    backbone = save_tiny_backbone(folder / "backbone", vocab_size=131072)
    rows = [dict(zip(("unmasked_text", "span_labels"), sentence(i), strict=True)) for i in range(120)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data, run = folder / "prepared", folder / "run"
    prepare.main(["--input", str(folder / "rows.jsonl"), "--output", str(data), "--validation-fraction", "0.2"])
    flags = ["--data", str(data), "--backbone", str(backbone), "--output", str(run), "--device", "cpu"]
    train.main([*flags, "--learning-rate", "0.05", "--epochs", "10", "--batch-size", "4"])
    return run, data


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("exported") / "model"
    predict.main(["--run", str(trained[0]), "--export", str(folder)])
    return folder


def test_the_exported_tokenizer_gives_tekkens_ids_after_bos(exported):
    tokenizer = AutoTokenizer.from_pretrained(exported)
    for text in (sentence(3)[0], "12.50 €\n\n\tJohn's  e-mail", "naïve 👩‍👩‍👧 中文", "a" * 50):
        assert tokenizer(text)["input_ids"] == [1, *tekken.load().encode([text]).token_ids.tolist()]


def test_transformers_finds_the_spans_that_predict_finds(trained, exported):
    classify = pipeline("token-classification", str(exported), aggregation_strategy="simple", device="cpu")
    texts = [sentence(number)[0] for number in range(40)]
    expected = predict.Redactor(trained[0], device="cpu").spans(texts)
    total = 0
    for text, spans in zip(texts, expected, strict=True):
        found = [(entity["start"], entity["end"], entity["entity_group"]) for entity in classify(text)]
        assert found == [span[:3] for span in spans]
        total += len(found)
    assert total > len(texts)


def test_labels_and_weights_are_the_runs(trained, exported):
    classifier = AutoModelForTokenClassification.from_pretrained(exported)
    run, config = model.load_run(trained[0], torch.device("cpu"))
    assert [classifier.config.id2label[i] for i in range(3)] == config["labels"]
    assert torch.equal(classifier.score.weight, run.classifier.weight)


def test_the_card_has_the_figures_of_the_evaluation_where_there_are_some(trained, exported, tmp_path):
    assert "Not evaluated" in (exported / "README.md").read_text()
    figures = {"documents": 24, "strict": {"f1": 0.875}, "token": {"f1": 0.9375}, "leakage": 0.0625}
    (trained[0] / "evaluation.json").write_text(json.dumps(figures))
    predict.main(["--run", str(trained[0]), "--export", str(tmp_path / "model")])
    card = (tmp_path / "model" / "README.md").read_text()
    assert all(figure in card for figure in ("24 documents", "0.875", "0.938", "0.062"))


def test_an_export_replaces_only_an_export(trained, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(UserError):
        predict.main(["--run", str(trained[0]), "--export", str(tmp_path / "mine")])
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "notes.txt"]


def test_bench_measures_each_pair_and_keeps_the_figures(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench, "ENOUGH_ROWS", 50)
    run, data = trained
    flags = ["--run", str(run), "--data", str(data), "--split", "train", "--rows", "20", "--device", "cpu"]
    bench.main([*flags, "--json", str(tmp_path / "bench.json")])
    report = json.loads((tmp_path / "bench.json").read_text())
    assert report["rows"] == 20
    for pair in ("prepare", "predict"):
        assert report[pair]["ratio"] > 0 and all(value > 0 for value in report[pair]["seconds"].values())
    assert "presidio-analyzer" in capsys.readouterr().out
