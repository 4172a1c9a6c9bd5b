"""A run exported to transformers finds what predict.py finds."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

import bench
import predict
import prepare
import train
from pii.common import UserError
from pii.corpus import tekken
from pii.corpus.store import PreparedSplit
from pii.redaction import export
from pii.training.run_config import read_config
from pii.training.runs import load_run
from tests.decoder.test_backbone import save_tiny_backbone
from tests.training.test_runs import seal

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
    flags += ["--heads", "documented", "strong", "--layers", "1", "--strong-epochs", "4", "--strong-dropout", "0"]
    train.main([*flags, "--learning-rate", "0.05", "--epochs", "10", "--batch-size", "4"])
    change_config(run, lambda config: config.update(best="strong"))
    return run, data


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("exported") / "model"
    predict.main(["--run", str(trained[0]), "--export", str(folder)])
    return folder


SPECIAL = ["<s>", "</s>", "<unk>", "<pad>", "[INST]", "[/INST]", "[TOOL_CALLS]", "<SPECIAL_20>", " ", "\n", "a"]


@pytest.fixture(scope="module")
def exported_tokenizer(exported):
    return AutoTokenizer.from_pretrained(exported)


def test_the_exported_tokenizer_gives_tekkens_ids_after_bos(exported):
    tokenizer = AutoTokenizer.from_pretrained(exported)
    for text in (sentence(3)[0], "12.50 €\n\n\tJohn's  e-mail", "naïve 👩‍👩‍👧 中文", "a" * 50):
        assert tokenizer(text)["input_ids"] == [1, *tekken.load().encode([text]).token_ids.tolist()]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(SPECIAL) | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)).map("".join))
def test_what_looks_like_a_special_token_is_text(exported_tokenizer, text):
    assert exported_tokenizer(text)["input_ids"] == [1, *tekken.load().encode([text]).token_ids.tolist()]


def test_transformers_finds_the_spans_that_predict_finds(trained, exported):
    classify = pipeline("token-classification", str(exported), aggregation_strategy="simple", device="cpu")
    texts = [sentence(number)[0] for number in range(40)] + ["My <s> Ann[INST]lives in <pad>Rome at number 7</s>"]
    expected = predict.Redactor(trained[0], head="documented", device="cpu").spans(texts)
    total = 0
    for text, spans in zip(texts, expected, strict=True):
        found = [(entity["start"], entity["end"], entity["entity_group"]) for entity in classify(text)]
        assert export.predicted(text, found) == [span[:3] for span in spans]
        total += len(found)
    assert total > len(texts)


MARKED = [
    "Ann (d'Angers), P.O. Box 12.\n\nSee www.x.org/. Zoé!",
    "  Li-Rivas, e-mail: li@x.fr;\r\n\tBob's flat\u2014Apt. 5).",
    "tel. 555-70-66 (home).  You're «Łukasz».",
]


def test_the_function_of_the_card_trims_entities_as_predict_does(trained, tmp_path):
    """With a head that labels anything, so that marks and white space stand at many edges."""
    run = Path(shutil.copytree(trained[0], tmp_path / "run"))
    weight = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    save_file({"weight": weight, "bias": torch.zeros(3)}, run / "documented" / "head.safetensors")
    seal(run)
    predict.main(["--run", str(run), "--head", "documented", "--export", str(tmp_path / "model")])
    code = (tmp_path / "model" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    expected = predict.Redactor(run, head="documented", device="cpu").spans(MARKED)
    changed = 0
    for text, spans in zip(MARKED, expected, strict=True):
        names = {"text": text}
        exec(code.replace("FOLDER", str(tmp_path / "model")), names)
        assert names["found"] == [span[:3] for span in spans]
        entities = [(entity["start"], entity["end"], entity["entity_group"]) for entity in names["classify"](text)]
        changed += len({*entities} - {*names["found"]})
    assert changed > 3


@pytest.mark.parametrize(
    ("text", "borders", "expected"),
    [
        (" Ann\n", (0, 5), (1, 4)),
        (" \n", (0, 2), None),
        ("x\n\n", (1, 1), None),
        ("d'Angers", (1, 8), (2, 8)),
        (" 'Angers", (1, 8), (1, 8)),
        ("6-70", (1, 4), (1, 4)),
        ("(Li).", (1, 5), (1, 4)),
        ("Li.", (0, 3), (0, 3)),
        ("P.O.", (1, 2), (1, 2)),
    ],
)
def test_borders_are_trimmed(text, borders, expected):
    assert export.trimmed(text, *borders) == expected


@pytest.mark.parametrize(
    ("text", "entities", "expected"),
    [
        ("to Ann\u0301e.", [(3, 5, "A")], [(3, 8, "A")]),
        ("Lefèvre", [(0, 2, "A"), (5, 7, "A")], [(0, 7, "A")]),
        ("Lefèvre", [(0, 2, "A"), (5, 7, "B")], [(0, 5, "A"), (5, 7, "B")]),
        ("12Main", [(0, 1, "A"), (3, 4, "A")], [(0, 2, "A"), (2, 6, "A")]),
        ("a b", [(1, 2, "A")], []),
    ],
)
def test_entities_are_widened_to_whole_words(text, entities, expected):
    assert export.predicted(text, entities) == expected


def test_labels_and_weights_are_the_runs_though_its_best_head_is_strong(trained, exported):
    classifier = AutoModelForTokenClassification.from_pretrained(exported)
    tagger, config = load_run(trained[0], torch.device("cpu"), "documented")
    assert config["best"] == "strong"
    assert [classifier.config.id2label[i] for i in range(3)] == config["labels"]
    assert torch.equal(classifier.score.weight, tagger.head.weight)


def test_the_card_has_the_figures_of_the_evaluation_of_its_head_where_there_are_some(trained, exported, tmp_path):
    assert "Not evaluated" in (exported / "README.md").read_text()
    figures = {"documents": 24, "strict": {"f1": 0.875}, "token": {"f1": 0.9375}, "leakage": 0.0625}
    run = Path(shutil.copytree(trained[0], tmp_path / "run"))

    def card_with(**more: str) -> str:
        (run / "evaluation.json").write_text(json.dumps(figures | more))
        return export.model_card(run, read_config(run), "documented")

    card = card_with(head="documented")
    assert all(figure in card for figure in ("24 documents", "0.875", "0.938", "0.062"))
    card = card_with(head="strong")  # the figures of another head are not this model's
    assert "Not evaluated" in card and "--head documented" in card and "0.875" not in card
    with pytest.raises(UserError, match="evaluation"):
        card_with()


def change_config(run: Path, change: Callable[[dict], object]) -> None:
    config = read_config(run)
    change(config)
    (run / "config.json").write_text(json.dumps(config))


def exported_weight(run: Path, folder: Path, *flags: str) -> torch.Tensor:
    predict.main(["--run", str(run), "--export", str(folder), *flags])
    return AutoModelForTokenClassification.from_pretrained(folder).score.weight


def test_of_several_documented_heads_the_best_is_exported_or_the_one_asked_for(trained, tmp_path):
    run = Path(shutil.copytree(trained[0], tmp_path / "run"))
    weights = load_file(run / "documented" / "head.safetensors")
    (run / "documented@1").mkdir()
    save_file(weights | {"weight": 2 * weights["weight"]}, run / "documented@1" / "head.safetensors")

    def add(config: dict) -> None:
        config["heads"]["documented@1"] = dict(config["heads"]["documented"])
        config["best"] = "documented@1"

    change_config(run, add)
    seal(run)
    moved = shutil.copytree(read_config(run)["backbone"]["name"], tmp_path / "moved")
    assert torch.equal(exported_weight(run, tmp_path / "best"), 2 * weights["weight"])
    flags = ("--head", "documented", "--backbone", str(moved))
    assert torch.equal(exported_weight(run, tmp_path / "other", *flags), weights["weight"])


CANNOT = {
    "no documented head": (lambda config: config["heads"].pop("documented"), [], "documented"),
    "a strong head": (lambda config: None, ["--head", "strong"], "--head documented"),
    "a head that is not there": (lambda config: None, ["--head", "nosuchhead"], "nosuchhead"),
    "a float8 backbone": (lambda config: config["backbone"].update(precision="fp8"), [], "--precision bf16"),
    "an int8 backbone": (lambda config: config["backbone"].update(precision="int8"), [], "--precision bf16"),
}


@pytest.mark.parametrize(("change", "flags", "word"), CANNOT.values(), ids=CANNOT)
def test_what_transformers_cannot_load_is_refused_in_one_line(trained, tmp_path, change, flags, word):
    run = Path(shutil.copytree(trained[0], tmp_path / "run"))
    change_config(run, change)
    with pytest.raises(UserError) as refused:
        predict.main(["--run", str(run), "--export", str(tmp_path / "model"), *flags])
    assert word in str(refused.value) and "\n" not in str(refused.value)
    assert not (tmp_path / "model").exists()


def test_an_export_replaces_only_an_export(trained, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(UserError):
        predict.main(["--run", str(trained[0]), "--export", str(tmp_path / "mine")])
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "notes.txt"]


def test_bench_measures_all_it_promises_and_keeps_the_figures(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench, "ENOUGH_ROWS", 50)
    monkeypatch.setattr(bench, "ROUNDS", 1)
    monkeypatch.setattr("pii.bench.training.MATMUL_SIZE", {"cpu": 64})
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)  # installed or not, it is not there
    run, data = trained
    flags = ["--run", str(run), "--data", str(data), "--split", "train", "--windows", "40", "--device", "cpu"]
    flags += ["--backbone", read_config(run)["backbone"]["name"]]
    bench.main([*flags, "--json", str(tmp_path / "bench.json")])
    report = json.loads((tmp_path / "bench.json").read_text())
    assert report["training"]["windows"] == 40 and len(report["training"]["ways"]) == 5
    assert all(way["tokens_per_second"] and way["peak_gib"] > 0 for way in report["training"]["ways"].values())
    assert report["training"]["strong_step"]["operations"] > 100 and report["training"]["strong_step"]["seconds"] > 0
    for pair in ("prepare", "predict"):
        assert report[pair]["ratio"] > 0 and all(value > 0 for value in report[pair]["seconds"].values())
    [peer] = report["predict"]["peers"].values()
    assert peer["speed"] > 0 and 0 <= peer["leakage"] <= 1 and 0 < peer["precision"] <= 1
    assert "presidio-analyzer: not measured" in capsys.readouterr().out


def test_the_random_rows_that_bench_writes_where_it_is_given_none_are_sound(tmp_path):
    split = PreparedSplit(bench.write_random_data(tmp_path / "random"), "train")
    assert len(split) == max(bench.WINDOWS.values()) and split.num_labels == 57


def test_a_backbone_with_joint_matrices_is_exported_with_transformers_own(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("pii.training.runs.backbone_dtype", lambda _: torch.bfloat16)
    run = Path(shutil.copytree(trained[0], tmp_path / "run"))
    change_config(run, lambda config: config["backbone"].update(dtype="bfloat16"))
    backbone = Path(read_config(run)["backbone"]["name"])
    joined = load_run(run, torch.device("cpu"), "documented", str(backbone))[0].reader.backbone
    assert hasattr(joined.layers[0].self_attn, "qkv_proj")
    predict.main(["--run", str(run), "--backbone", str(backbone), "--export", str(tmp_path / "model")])
    source = load_file(backbone / "model.safetensors")
    written = load_file(tmp_path / "model" / "model.safetensors")
    assert {f"model.{name}" for name in source} == {name for name in written if not name.startswith("score.")}
    for name, weight in source.items():
        assert torch.equal(written[f"model.{name}"], weight.bfloat16())
