"""evaluate.py from end to end: a tiny random backbone, a head that train.py fitted, and plain loops to compare with."""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from nervaluate.evaluator import Evaluator
from safetensors.torch import load_file, save_file

import evaluate
import predict
import prepare
import train
from dataset import PIITokenDataset
from model import MinistralTokenClassifier
from pii import common
from pii.corpus.spans import JoinedText, spans_of_tags
from pii.heads.heads import DOCUMENTED, STRONG
from pii.heads.viterbi import viterbi
from pii.training.run_config import read_config
from pii.training.runs import load_run
from tests.corpus.test_spans import widened
from tests.decoder.test_backbone import save_tiny_backbone
from tests.training.test_runs import seal

SCRIPT = Path(evaluate.__file__)
CANARY = "Quibblethorpe"  # stands in every row, and must stand in nothing that is printed or written
VALUES = {
    "FIRSTNAME": ["Anna", "John", "Zoé", "Li"],
    "CITY": ["Oslo", "New York", "Besançon"],
    "PIN": ["4711", "90210", "08/15"],
    "NEARBYGPSCOORDINATE": ["[48.1,-1.6]", "[0.5,12.9]"],  # the longest name of a label
}
SENTENCES = {
    "en": ["Hello {FIRSTNAME} of {CITY}, ", "the PIN is {PIN}. ", "meet me at {NEARBYGPSCOORDINATE} soon ", "nothing "],
    "fr": ["Bonjour {FIRSTNAME}{FIRSTNAME} ! ", "le code {PIN} à {CITY} ; ", "rien du tout "],
}


def raw_rows(language: str, count: int, rename: Callable[[str, int], str | None]) -> list[dict]:
    """Rows of one to seven sentences. `rename(label, row)` gives a label another name, or None to leave it out."""
    choose = random.Random(language)
    rows = []
    for number in range(count):
        text, spans = CANARY + " ", []
        for _ in range(choose.choice([1, 1, 2, 7])):
            for part in choose.choice(SENTENCES[language]).replace("}", "{").split("{"):
                if part in VALUES:
                    value = choose.choice(VALUES[part])
                    if label := rename(part, number):
                        spans.append([len(text), len(text) + len(value), label])
                    part = value
                text += part
        rows.append({"unmasked_text": text, "span_labels": spans})
    return rows


def prepare_to(folder: Path, share: str, rename: Callable[[str, int], str | None] = lambda label, row: label) -> Path:
    """24 English and 12 French rows, all in the train split (share 0) or all in the validation split (share 1)."""
    folder.mkdir(parents=True)
    sources = []
    for name, language, count in (("english", "en", 24), ("french", "fr", 12)):
        sources.append(folder / f"{name}.jsonl")
        lines = [json.dumps(row) + "\n" for row in raw_rows(language, count, rename)]
        sources[-1].write_text("".join(lines), encoding="utf-8")
    prepared = folder / "prepared"
    prepare.main(["--input", *map(str, sources), "--output", str(prepared), "--validation-fraction", share])
    return prepared


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluate")


@pytest.fixture(scope="session")
def data(session_folder: Path) -> Path:
    return prepare_to(session_folder / "data", "1")


def train_to(folder: Path, max_length: int) -> Path:
    """A run folder whose head finds some spans, but not all, and invents others."""
    backbone = save_tiny_backbone(folder / "backbone", vocab_size=131072, initializer_range=0.05)
    source = prepare_to(folder / "training", "0")
    flags = {"data": source, "backbone": backbone, "output": folder / "run", "max-length": max_length}
    flags |= {"learning-rate": 0.05, "epochs": 30, "dropout": 0, "gradient-accumulation-steps": 1}
    strong = ["--heads", DOCUMENTED, STRONG, "--strong-epochs=6", "--strong-dropout=0"]
    heads = strong if max_length == 512 else []
    train.main([f"--{name}={value}" for name, value in flags.items()] + ["--device=cpu", *heads])
    return folder / "run"


@pytest.fixture(scope="session")
def train_run(session_folder: Path) -> Callable[[int], Path]:
    """train_run(max_length) → the run folder of `train_to`, trained once."""
    made: dict[int, Path] = {}

    def run_with(max_length: int) -> Path:
        if max_length not in made:
            made[max_length] = train_to(session_folder / f"windows-{max_length}", max_length)
        return made[max_length]

    return run_with


@pytest.fixture(scope="session")
def trained(train_run: Callable[[int], Path]) -> Path:
    """A run of both heads whose windows hold every row whole. The strong one is best: there were no validation rows."""
    return train_run(512)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def copied_run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "copied-run"))


@pytest.fixture
def copied_data(data: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(data, tmp_path / "copied-data"))


def flags_for(run: Path, data: Path, **flags: object) -> list[str]:
    flags = {"run": run, "data": data, "head": DOCUMENTED, "device": "cpu"} | flags
    values = {
        name: [] if value is True else value if isinstance(value, list) else [value] for name, value in flags.items()
    }
    return [str(word) for name, own in values.items() for word in ("--" + name.replace("_", "-"), *own)]


def report_of(run: Path, data: Path, tmp_path: Path, **flags: object) -> dict:
    """What `--json` writes."""
    path = tmp_path / "report.json"
    evaluate.main([*flags_for(run, data, **flags), "--json", str(path)])
    return json.loads(path.read_text(encoding="utf-8"))


# What the model predicts, by a plain loop


def load_classifier(run: Path) -> tuple[MinistralTokenClassifier, dict]:
    config = json.loads((run / "config.json").read_text())
    name, labels = config["backbone"]["name"], config["labels"]
    classifier = MinistralTokenClassifier(name, len(labels), dtype=torch.float32).eval()
    classifier.classifier.load_state_dict(load_file(run / DOCUMENTED / "head.safetensors"))
    return classifier, config


@torch.no_grad()
def plain_predictions(run: Path, data: PIITokenDataset, max_length: int) -> list[list[str]]:
    """The label of every token of every row: each window goes through `forward` alone. Windows share a quarter of their
    length, of which the earlier one scores a third; the last one of a row is moved left until it is full."""
    classifier, config = load_classifier(run)
    shared = max_length // 4
    rows = []
    for index in range(len(data)):
        ids = data[index]["input_ids"]
        labels: list[int] = []
        while len(labels) < len(ids):
            start = max(0, min(max(0, len(labels) - (shared - shared // 3)), len(ids) - max_length))
            found = classifier(ids[None, start : start + max_length])["logits"][0].argmax(-1).tolist()
            stop = len(found) if start + max_length >= len(ids) else len(found) - shared // 3
            labels += found[len(labels) - start : stop]
        rows.append([config["labels"][i] for i in labels])
    return rows


def spans_of_labels(example: dict, labels: list[str], names: list[str]) -> list[tuple[int, int, str]]:
    """The predicted spans of one row (spans.py has tests of its own)."""
    starts, ends = np.array(example["char_spans"], dtype=np.uint32).T
    ids = np.array([names.index(label) for label in labels])
    found, _ = spans_of_tags(JoinedText.of([example["text"]]), np.array([len(ids)]), ids, starts, ends)
    return [(start, end, names[label]) for start, end, label in found.tolist()]


def assert_report_is_of(report: dict, data: PIITokenDataset, predictions: list[list[str]]) -> None:
    """The report's figures are those of these predictions: nervaluate for spans, plain loops for the rest."""
    examples = [data.example(i) for i in range(len(data))]
    names = report["confusion"]["labels"]
    table = np.zeros((len(names), len(names)), dtype=int)
    for example, labels in zip(examples, predictions, strict=True):
        for gold, predicted in zip(example["labels"], labels, strict=True):
            table[names.index(gold), names.index(predicted)] += 1
    assert report["confusion"]["counts"] == table.tolist()
    true_tokens = int(np.trace(table)) - int(table[0, 0])
    assert report["token"]["precision"] == pytest.approx(true_tokens / table[:, 1:].sum())
    assert report["token"]["recall"] == pytest.approx(true_tokens / table[1:].sum())
    assert report["token"]["accuracy"] == pytest.approx(np.trace(table) / table.sum())

    gold = [example["spans"] for example in examples]
    found = [spans_of_labels(*row, names) for row in zip(examples, predictions, strict=True)]
    assert report["documents"] == len(examples)
    assert report["gold"] == sum(map(len, gold)) and report["predicted"] == sum(map(len, found))
    assert report["leakage"] == pytest.approx(leaked(gold, found))
    as_dicts = [[[{"label": w, "start": s, "end": e - 1} for s, e, w in row] for row in side] for side in (gold, found)]
    theirs = Evaluator(*as_dicts, tags=names[1:], loader="dict").evaluate()
    for ours, name in (("strict", "strict"), ("exact", "exact"), ("partial", "partial"), ("type", "ent_type")):
        for figure in ("precision", "recall", "f1", "correct", "incorrect", "partial", "missed", "spurious"):
            assert report[ours][figure] == pytest.approx(getattr(theirs["overall"][name], figure)), (ours, figure)
            for label, entry in theirs["entities"].items():
                assert report["per_label"][label][ours][figure] == pytest.approx(getattr(entry[name], figure))


def leaked(gold: list[list[tuple]], found: list[list[tuple]]) -> float:
    covered = [
        any(start <= position < end for start, end, _ in predicted)
        for wanted, predicted in zip(gold, found, strict=True)
        for first, last, _ in wanted
        for position in range(first, last)
    ]
    return 1 - sum(covered) / len(covered)


def test_figures_are_those_of_a_loop_over_rows_that_runs_each_alone(trained, data, tmp_path):
    split = PIITokenDataset(data, "validation")
    report = report_of(trained, data, tmp_path)
    assert_report_is_of(report, split, plain_predictions(trained, split, max_length=512))
    assert 0.3 < report["strict"]["f1"] < 0.95 and 0 < report["leakage"] < 0.5  # the head finds some, but not all


@pytest.mark.parametrize("max_length", [6, 17])
def test_every_token_of_rows_longer_than_a_window_is_scored_once_and_figures_are_of_whole_documents(
    train_run, data, tmp_path, max_length
):
    split = PIITokenDataset(data, "validation")
    lengths = np.diff(split.split.example_offsets)
    assert (lengths > 3 * max_length).any() and (lengths <= 17).any()
    run = train_run(max_length)
    report = report_of(run, data, tmp_path)
    assert_report_is_of(report, split, plain_predictions(run, split, max_length))
    assert np.sum(report["confusion"]["counts"]) == lengths.sum()


def test_figures_of_a_language_are_those_of_its_rows_alone(trained, data, tmp_path):
    split = PIITokenDataset(data, "validation")
    names = split.labels
    per_language = report_of(trained, data, tmp_path)["per_language"]
    predictions = plain_predictions(trained, split, max_length=512)
    assert set(per_language) == {"en", "fr"}
    for language, entry in per_language.items():
        chosen = [i for i in range(len(split)) if split.example(i)["language"] == language]
        gold = [set(split.example(i)["spans"]) for i in chosen]
        found = [set(spans_of_labels(split.example(i), predictions[i], names)) for i in chosen]
        hits = sum(len(g & f) for g, f in zip(gold, found, strict=True))
        assert entry["strict"]["f1"] == pytest.approx(2 * hits / (sum(map(len, gold)) + sum(map(len, found))))
        assert entry["documents"] == len(chosen) and entry["gold"] == sum(map(len, gold))


def test_the_report_has_the_documented_keys(trained, data, tmp_path):
    report = report_of(trained, data, tmp_path)

    def at(path: str) -> object:
        value = report
        for key in path.split("."):
            value = value[key]
        return value

    schemes = ("strict", "exact", "partial", "type")
    figures = [f"{scheme}.{name}" for scheme in (*schemes, "token") for name in ("precision", "recall", "f1")]
    figures += [f"{scheme}.macro.f1" for scheme in schemes]
    figures += [f"per_language.fr.{scheme}.f1" for scheme in schemes] + ["per_language.en.leakage"]
    figures += [f"per_label.{label}.{scheme}.f1" for label in VALUES for scheme in schemes]
    for path in [*figures, "leakage", "token.accuracy"]:
        assert type(at(path)) is float and 0 <= at(path) <= 1, path
    for path in [*(f"{name}.interval.f1" for name in (*schemes, "token")), "leakage_interval"]:
        low, high = at(path)
        value = at(path.replace(".interval", "").replace("_interval", ""))
        assert 0 <= low <= value <= high <= 1 and low < high, path
    assert report["unknown_labels"] == []
    assert (report["run"], report["head"], report["data"]) == (str(trained), DOCUMENTED, str(data))
    assert report["split"] == "validation" and report["documents"] == 36
    assert report["confusion"]["labels"] == ["O", *sorted(VALUES)]
    for kind in ("correct", "wrong_label", "border", "border_and_label", "missed", "invented", "border_kinds.split"):
        assert type(at(f"errors.{kind}")) is int and type(at(f"errors.per_label.PIN.{kind}")) is int
        assert type(at(f"errors.per_language.fr.{kind}")) is int
    assert report["errors"]["gold"] == report["gold"] and report["errors"]["correct"] == report["strict"]["correct"]
    assert 0 <= at("calibration.ece") <= 1 and at("calibration.spans") == report["predicted"]
    assert sum(entry["count"] for entry in at("calibration.bins")) == report["predicted"]


def test_the_split_that_was_asked_for_is_scored(trained, session_folder, tmp_path):
    other = prepare_to(tmp_path / "other", "0", lambda label, row: label if label == "PIN" else None)
    report = report_of(trained, other, tmp_path, split="train")
    assert report["split"] == "train" and set(report["per_label"]) >= {"PIN"}
    assert report["gold"] == report["per_label"]["PIN"]["gold"] == len(PIITokenDataset(other, "train").split.spans)


def set_head(run: Path, change: Callable[[torch.Tensor, torch.Tensor], None]) -> None:
    """Change a run's weight [labels, hidden_size] and bias [labels] in place."""
    path = run / DOCUMENTED / "head.safetensors"
    weights = load_file(path)
    change(weights["weight"], weights["bias"])
    save_file(weights, path)
    seal(run)


def test_a_head_that_finds_nothing_scores_zero_and_leaks_everything(copied_run, data, tmp_path):
    set_head(copied_run, lambda weight, bias: (weight.zero_(), bias.zero_(), bias[:1].fill_(1)))
    report = report_of(copied_run, data, tmp_path)
    assert report["leakage"] == 1 and report["leakage_interval"] == [1, 1] and report["predicted"] == 0
    assert all(report[scheme]["f1"] == 0 for scheme in ("strict", "exact", "partial", "type", "token"))


def test_a_head_that_marks_everything_leaks_nothing_and_has_one_span_a_row(copied_run, data, tmp_path):
    set_head(copied_run, lambda weight, bias: (weight.zero_(), bias.zero_(), bias[1:2].fill_(1)))
    report = report_of(copied_run, data, tmp_path)
    assert report["leakage"] == 0 and report["predicted"] == report["documents"] == 36
    assert report["strict"]["f1"] == 0 and report["token"]["recall"] > 0


# A begin-aware head


def test_the_head_is_the_best_one_unless_told(trained, data, tmp_path):
    assert read_config(trained)["best"] == STRONG
    path = tmp_path / "report.json"
    evaluate.main(["--run", str(trained), "--data", str(data), "--device", "cpu", "--json", str(path)])
    assert json.loads(path.read_text()) == report_of(trained, data, tmp_path, head=STRONG)
    assert json.loads(path.read_text())["head"] == STRONG


@torch.no_grad()
def strong_spans(run: Path, data: PIITokenDataset, bias: float = 0.0) -> list[list[tuple[int, int, str]]]:
    """The spans of each row alone: hidden states of transformers, the head on one window, Viterbi."""
    tagger, config = load_run(run, torch.device("cpu"), STRONG)
    whole = MinistralTokenClassifier(config["backbone"]["name"], 2, dtype=torch.float32).backbone
    found = []
    for index in range(len(data)):
        example = data.example(index)
        ids = torch.tensor([[1, *example["token_ids"]]])
        states = whole(ids, output_hidden_states=True)
        layers = [*states.hidden_states[:-1], states.last_hidden_state]
        features = torch.cat([layers[layer][0, 1:] for layer in tagger.layers], dim=-1)
        scores = tagger.head(features, torch.tensor([len(features)])).log_softmax(-1).numpy()
        scores[:, 0] -= bias
        tags = viterbi(scores, np.array([len(scores)]), tagger.transitions)
        starts, ends = np.array(example["char_spans"], dtype=np.uint32).T
        columns = (np.array([len(tags)]), (tags + 1) // 2, starts, ends, tags % 2 == 1)
        spans, _ = spans_of_tags(JoinedText.of([example["text"]]), *columns)
        words = widened(example["text"], spans.tolist())
        found.append([(start, end, config["labels"][label]) for start, end, label in words])
    return found


def test_figures_of_a_begin_aware_head_are_those_of_a_loop_over_rows(trained, data, tmp_path):
    split = PIITokenDataset(data, "validation")
    report = report_of(trained, data, tmp_path, head=STRONG)
    found, gold = strong_spans(trained, split), [split.example(i)["spans"] for i in range(len(split))]
    hits = sum(len({*g} & {*f}) for g, f in zip(gold, found, strict=True))
    assert report["predicted"] == sum(map(len, found)) and report["strict"]["correct"] == hits > 20
    assert report["leakage"] == pytest.approx(leaked(gold, found))


def test_the_documented_spans_are_judged_as_documented_or_as_predict_gives_them(trained, data, tmp_path, capfd):
    redactor, split = predict.Redactor(trained, head=DOCUMENTED, device="cpu"), PIITokenDataset(data, "validation")
    examples = [split.example(i) for i in range(len(split))]
    found = [[tuple(span)[:3] for span in redactor.spans(example["text"])] for example in examples]
    hits = sum(len({*example["spans"]} & {*own}) for example, own in zip(examples, found, strict=True))
    documented = report_of(trained, data, tmp_path, head=DOCUMENTED)
    assert documented["spans"] == "documented" and "--whole-words" in capfd.readouterr().out
    whole = report_of(trained, data, tmp_path, head=DOCUMENTED, whole_words=True)
    assert whole["spans"] == "whole words" and "--whole-words" not in capfd.readouterr().out
    assert whole["predicted"] == sum(map(len, found)) and whole["strict"]["correct"] == hits
    assert whole["leakage"] == pytest.approx(leaked([example["spans"] for example in examples], found))
    assert whole["leakage"] < documented["leakage"]
    assert report_of(trained, data, tmp_path, head=STRONG)["spans"] == "whole words"


@pytest.mark.parametrize("held", ["null", "[]", "7", "[" * 100_000, '{"strong": ', "\\ud800"])
def test_an_operating_point_is_stored_over_what_is_none(copied_run, data, tmp_path, held):
    (copied_run / "operating_points.json").write_text(held)
    report_of(copied_run, data, tmp_path, head=DOCUMENTED, target_recall=0.5)
    assert set(json.loads((copied_run / "operating_points.json").read_text())) == {DOCUMENTED}


def test_the_operating_point_of_a_begin_aware_head_is_what_predict_uses(trained, data, tmp_path):
    run = Path(shutil.copytree(trained, tmp_path / "copied-run"))
    split = PIITokenDataset(data, "validation")
    before = 1 - report_of(run, data, tmp_path, head=STRONG)["leakage"]
    target = (1 + before) / 2
    assert before < 1
    report_of(run, data, tmp_path, head=STRONG, target_recall=[before, target])
    (_, below), (stored_target, point) = json.loads((run / "operating_points.json").read_text())[STRONG].items()
    assert float(stored_target) == target <= point["recall"] and point["bias"] > below["bias"] == 0
    found, gold = strong_spans(run, split, point["bias"]), [split.example(i)["spans"] for i in range(len(split))]
    assert leaked(gold, found) == pytest.approx(point["leakage"]) == pytest.approx(1 - point["recall"])
    assert predict.Redactor(run, device="cpu", target_recall=before).bias == 0
    for recall in (True, target):
        redactor = predict.Redactor(run, device="cpu", target_recall=recall)
        assert redactor.bias == point["bias"]
    spans = redactor.spans([split.example(i)["text"] for i in range(len(split))])
    assert [[span[:3] for span in row] for row in spans] == found


SHARED = """if True:
    import json, sys
    from evaluate import Processes, evaluate_run, parse_arguments
    with Processes.join("cpu") as processes:
        for flags in json.loads(sys.argv[1]):
            evaluate_run(parse_arguments(flags), processes)
"""


def test_two_processes_give_the_figures_of_one(trained, data, tmp_path):
    """Also where there is one row, so that a process has none."""
    first_line = (data.parent / "english.jsonl").read_text().splitlines()[0]
    (tmp_path / "row.jsonl").write_text(first_line)
    few = ["--input", str(tmp_path / "row.jsonl"), "--output", str(tmp_path / "few"), "--validation-fraction", "1"]
    prepare.main(few)
    folders = [data, tmp_path / "few"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    paths = [tmp_path / f"{i}.json" for i in range(2)]
    flags = [
        [*flags_for(trained, folder, head=STRONG), "--json", str(path)]
        for folder, path in zip(folders, paths, strict=True)
    ]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SHARED, json.dumps(flags)],
            cwd=SCRIPT.parent,
            env=os.environ | shared | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        expected = [report_of(trained, folder, tmp_path, head=STRONG) for folder in folders]
        outputs = [process.communicate(timeout=120) for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], outputs
    assert outputs[1][0] == ""
    for path, alone in zip(paths, expected, strict=True):
        report = json.loads(path.read_text())
        calibrations = [entry.pop("calibration") for entry in (report, alone)]
        assert report == alone
        assert calibrations[0]["ece"] == pytest.approx(calibrations[1]["ece"], abs=1e-5)


# Mistakes of the user: one line, exit code 2, nothing of a row


def refusal(capfd: pytest.CaptureFixture, flags: list[str], code: int = 2) -> str:
    """The one line that the command ends with."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as stopped:
        common.run(lambda: evaluate.main(flags))
    out, err = capfd.readouterr()
    lines = [line for line in err.splitlines() if line.strip() and "evaluate: " not in line]  # but for a progress bar
    assert len(lines) == 1 and ": error: " in lines[0], err
    assert stopped.value.code == code and CANARY not in out + err
    return lines[0]


def test_the_command_without_a_run_ends_with_one_line_and_exit_code_2(data, tmp_path):
    command = [sys.executable, str(SCRIPT), *flags_for(tmp_path / "none", data)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2 and result.stdout == ""
    [line] = result.stderr.splitlines()
    assert "holds no run" in line and "train.py" in line


def test_data_of_another_tokenizer_file_is_refused(trained, copied_data, capfd):
    meta = json.loads((copied_data / "meta.json").read_text())
    meta["tokenizer"]["sha256"] = "0" * 64
    (copied_data / "meta.json").write_text(json.dumps(meta))
    assert "tokenizer" in refusal(capfd, flags_for(trained, copied_data))


def without(key: str) -> Callable[[dict], dict]:
    return lambda config: {name: value for name, value in config.items() if name != key}


def changed(**changes: object) -> Callable[[dict], dict]:
    return lambda config: config | changes


CONFIG_FAULTS = {
    "cut": lambda config: "{",
    "no object": lambda config: [],
    "nothing": lambda config: None,
    "deeply nested": lambda config: "[" * 100_000,
    "another version": changed(run_version=99),
    "no version": without("run_version"),
    "no labels": without("labels"),
    "labels null": changed(labels=None),
    "labels of numbers": changed(labels=[0, 1, 2, 3, 4]),
    "a label too few": lambda config: config | {"labels": config["labels"][:-1]},
    "no tokenizer": without("tokenizer"),
    "a tokenizer of another size": lambda config: config | {"tokenizer": config["tokenizer"] | {"vocab_size": "many"}},
    "a tokenizer without its size": lambda config: config | {"tokenizer": {"sha256": config["tokenizer"]["sha256"]}},
    "no heads": without("heads"),
    "heads null": changed(heads=None),
    "no backbone": without("backbone"),
    "backbone null": changed(backbone={"name": None}),
    "backbone that is gone": changed(backbone={"name": "no/such/folder/anywhere"}),
    "no window length": without("max_length"),
    "window length 0": changed(max_length=0),
    "window length as text": changed(max_length="96"),
}


@pytest.mark.parametrize("damage", CONFIG_FAULTS.values(), ids=CONFIG_FAULTS)
def test_a_damaged_config_of_a_run_ends_with_one_line(copied_run, data, capfd, damage):
    path = copied_run / "config.json"
    broken = damage(json.loads(path.read_text()))
    path.write_text(broken if isinstance(broken, str) else json.dumps(broken))
    assert refusal(capfd, flags_for(copied_run, data))


def resize(path: Path) -> None:
    save_file({"weight": torch.zeros(2, 32), "bias": torch.zeros(2)}, path)


HEAD_FAULTS = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"garbage" * 100),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-10]),
    "of other labels": resize,
    "without a bias": lambda path: save_file({"weight": torch.zeros(5, 32)}, path),
    "not a number": lambda path: save_file({"weight": torch.full((5, 32), torch.nan), "bias": torch.zeros(5)}, path),
}


@pytest.mark.parametrize("damage", HEAD_FAULTS.values(), ids=HEAD_FAULTS)
def test_a_damaged_head_ends_with_one_line(copied_run, data, capfd, damage):
    damage(copied_run / DOCUMENTED / "head.safetensors")
    if (copied_run / DOCUMENTED / "head.safetensors").exists():
        seal(copied_run)
    assert "head.safetensors" in refusal(capfd, flags_for(copied_run, data))


def test_a_head_that_is_not_there_is_refused_and_the_others_named(trained, data, capfd):
    line = refusal(capfd, flags_for(trained, data, head="nosuchhead"))
    assert "nosuchhead" in line and DOCUMENTED in line


def test_an_empty_split_is_refused(trained, data, capfd):
    assert "train" in refusal(capfd, flags_for(trained, data, split="train"))


def test_a_folder_without_data_is_refused(trained, tmp_path, capfd):
    assert "prepare.py" in refusal(capfd, flags_for(trained, tmp_path / "none"))


@pytest.mark.parametrize("column", ["label_ids", "token_ids"])
def test_data_out_of_range_is_refused(trained, copied_data, capfd, column):
    path = copied_data / "validation" / f"{column}.npy"
    array = np.load(path)
    array[7] = np.iinfo(array.dtype).max
    np.save(path, array)
    refusal(capfd, flags_for(trained, copied_data))


LABEL_MAPS = {
    "missing": None,
    "no JSON": "{",
    "no text": b"\xff\xfe\x00",
    "a list": "[]",
    "a number for a label": '{"CITY": 1}',
    "a list for a label": '{"CITY": ["A", "B"]}',
    "an empty label": '{"CITY": ""}',
    "deeply nested": "[" * 100_000,
}


@pytest.mark.parametrize("content", LABEL_MAPS.values(), ids=LABEL_MAPS)
def test_a_bad_label_map_is_refused(trained, data, tmp_path, capfd, content):
    path = tmp_path / "map.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert "map.json" in refusal(capfd, flags_for(trained, data, label_map=path))


def test_a_label_map_that_is_a_folder_is_refused(trained, data, tmp_path, capfd):
    assert str(tmp_path) in refusal(capfd, flags_for(trained, data, label_map=tmp_path))


def test_a_report_that_cannot_be_written_ends_with_one_line(trained, data, tmp_path, capfd):
    refusal(capfd, flags_for(trained, data, json=tmp_path))
    (tmp_path / "file").write_text("")
    refusal(capfd, flags_for(trained, data, json=tmp_path / "file" / "report.json"))


# What is printed


def test_tables_fit_80_columns_and_no_text_of_a_row_is_printed_or_written(trained, data, tmp_path, capfd):
    capfd.readouterr()
    report = report_of(trained, data, tmp_path)
    out, err = capfd.readouterr()
    everything = out + err + json.dumps(report, ensure_ascii=False)
    assert "NEARBYGPSCOORDINATE" in out and "(fr)" in out
    assert max(map(len, out.splitlines())) <= 80
    for piece in (CANARY, "Hello", "Bonjour", "Anna", "Zoé", "New York", "Besançon", "08/15", "[48.1,-1.6]"):
        assert piece not in everything


def test_what_is_printed_is_plain_text_of_80_columns_with_no_color_and_without(trained, data):
    command = [sys.executable, str(SCRIPT), *flags_for(trained, data), "--errors"]
    for change in ({"NO_COLOR": "1"}, {"FORCE_COLOR": "1", "COLUMNS": "200"}):
        environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | change
        out = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment).stdout
        lines = [line for line in out.splitlines() if not line.startswith("scored in")]
        assert len(lines) > 20 and max(map(len, lines)) <= 80 and "\x1b" not in out


@pytest.mark.parametrize("head", [DOCUMENTED, STRONG])
def test_the_kinds_of_errors_are_told_in_80_columns_without_text(trained, data, capfd, head):
    capfd.readouterr()
    evaluate.main(flags_for(trained, data, head=head))
    plain, _ = capfd.readouterr()
    evaluate.main([*flags_for(trained, data, head=head), "--errors"])
    out, err = capfd.readouterr()
    for heading in ("wrong label", "missed", "invented", "border"):
        assert heading in out and heading not in plain
    assert max(map(len, out.splitlines())) <= 80
    for piece in (CANARY, "Hello", "Bonjour", "Anna", "Zoé", "New York", "Besançon", "08/15", "[48.1,-1.6]"):
        assert piece not in out + err


def test_tables_fit_80_columns_with_long_labels_too(trained, tmp_path, capfd):
    long = "A_LABEL_THAT_SOMEBODY_THOUGHT_HAD_TO_SAY_IT_ALL"
    other = prepare_to(tmp_path / "other", "1", lambda label, row: f"{label}_{long}")
    capfd.readouterr()
    evaluate.main(flags_for(trained, other))
    lines = [line for line in capfd.readouterr().out.splitlines() if not line.startswith("labels the run does not")]
    assert max(map(len, lines)) <= 80


def test_printed_figures_are_those_of_the_json_file(trained, data, tmp_path, capfd):
    capfd.readouterr()
    report = report_of(trained, data, tmp_path)
    lines = capfd.readouterr().out.splitlines()
    for label, entry in report["per_label"].items():
        [line] = [line for line in lines if line.split()[:1] == [label]]
        strict = [entry["strict"][name] for name in ("f1", "precision", "recall")]
        counts = [entry["gold"], entry["predicted"]]
        assert line.split()[1:] == [*(f"{value:.3f}" for value in strict), *map(str, counts), f"{entry['leakage']:.3f}"]
    assert any("leakage" in line and f"{report['leakage']:.3f}" in line for line in lines)


def test_the_same_evaluation_gives_the_same_file(trained, data, tmp_path):
    first = report_of(trained, data, tmp_path)
    assert report_of(trained, data, tmp_path) == first


# The page (test_report_page.py and test_browser_evaluate.py have more)


def page_of(run: Path, data: Path, tmp_path: Path, *more: str, **flags: object) -> str:
    """What `--html` writes."""
    evaluate.main([*flags_for(run, data, html=tmp_path / "page.html", **flags), *more])
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_page_holds_text_only_where_show_text_asks_for_it(trained, data, tmp_path, capfd):
    capfd.readouterr()
    page = page_of(trained, data, tmp_path)
    assert not [value for value in (CANARY, "Hello", "Bonjour", "Anna", "Besan", "New York", "90210") if value in page]
    with_text = page_of(trained, data, tmp_path, "--show-text")
    assert CANARY in with_text and "New York" in with_text
    out, err = capfd.readouterr()
    assert CANARY not in out + err and f"wrote {tmp_path / 'page.html'}" in out


def test_the_page_changes_nothing_of_the_json_file(trained, data, tmp_path):
    alone = report_of(trained, data, tmp_path)
    assert report_of(trained, data, tmp_path, html=tmp_path / "page.html") == alone


@pytest.mark.parametrize("head", [DOCUMENTED, STRONG])
def test_the_page_rings_the_operating_point_of_its_head_just_found_or_stored(trained, data, tmp_path, head):
    run = Path(shutil.copytree(trained, tmp_path / "copied-run"))
    assert "has no stored operating point" in page_of(run, data, tmp_path, head=head)
    found = page_of(run, data, tmp_path, head=head, target_recall=0.99)
    bias = json.loads((run / "operating_points.json").read_text())[head]["0.99"]["bias"]
    for page in (found, page_of(run, data, tmp_path, head=head)):
        assert f'<tr class="chosen"><td>{bias:.3f}</td>' in page and "has no stored operating point" not in page
    other = STRONG if head == DOCUMENTED else DOCUMENTED
    assert "has no stored operating point" in page_of(run, data, tmp_path, head=other)


def test_the_page_says_which_labels_the_run_does_not_know(trained, data, tmp_path):
    other = prepare_to(tmp_path / "other", "1", lambda label, row: "BOURG" if label == "CITY" else label)
    assert "counted as misses: BOURG" in page_of(trained, other, tmp_path)
    assert "counted as misses" not in page_of(trained, data, tmp_path)


def test_show_text_without_a_page_is_refused(trained, data, capfd):
    assert "--html" in refusal(capfd, [*flags_for(trained, data), "--show-text"])


def test_a_page_that_cannot_be_written_ends_with_one_line(trained, data, tmp_path, capfd):
    refusal(capfd, flags_for(trained, data, html=tmp_path))


def test_labels_of_a_label_map_that_the_data_does_not_have_are_named(trained, data, tmp_path, capsys):
    (tmp_path / "map.json").write_text('{"CITTY": "CITY", "CITY": "CITY"}')
    capsys.readouterr()
    report_of(trained, data, tmp_path, label_map=tmp_path / "map.json")
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert lines == ["warning: the label map names labels that the data does not have: CITTY"]
