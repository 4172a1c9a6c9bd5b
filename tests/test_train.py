"""The training loop: promises of train.py and trainer.py, kept with a tiny random backbone on real Tekken tokens."""

import argparse
import copy
import hashlib
import json
import math
import multiprocessing
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tqdm import tqdm
from transformers import MistralModel

import prepare
import train
from dataset import PIITokenDataset
from pii import common, outputs
from pii.decoder import features
from pii.heads.crf import Crf
from pii.training import runs
from pii.training.trainer import HeadTrainer
from tests.decoder.test_backbone import save_tiny_backbone
from tests.heads.test_crf import loss_by_textbook

CANARY = "Quibblethorpe"  # stands in every row, and must stand in nothing that training prints or writes
BOS, PAD, IGNORED = 1, 11, -100
MAX_LENGTH, DEPTH = 16, 3
RARE = {5: "龍 ", 20: "鯨 ", 35: "梅 ", 50: "雪 ", 65: "橋 "}
HEADS = ("documented", "strong")


def with_weights(folder: Path, change: Callable[[dict], object]) -> Path:
    """Change the weights of a backbone in place."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def raw_rows(count: int) -> list[dict]:
    """One sentence, or in every fourth row five; names after a greeting, numbers after `no.`. Some rows have a word
    to themselves."""
    choose = random.Random(0)
    rows = []
    for number in range(count):
        text, spans = RARE.get(number, ""), []
        for _ in range(choose.choice([1, 1, 1, 5])):
            for before, value, label in (
                (choose.choice(["Hello ", "Dear "]), choose.choice(["Anna", "John", "Zoé", "Li"]), "FIRSTNAME"),
                (" ", CANARY, "LASTNAME"),
                (choose.choice([", no. ", ", your parcel no. "]), str(choose.randrange(10, 9999)), "PIN"),
            ):
                text += before
                spans.append([len(text), len(text) + len(value), label])
                text += value
            text += choose.choice([" is here. ", " will come on Monday. "])
        rows.append({"unmasked_text": text, "span_labels": spans})
    return rows


def write_prepared(folder: Path, count: int, *flags: str) -> Path:
    folder.mkdir()
    source, prepared = folder / "rows.jsonl", folder / "prepared"
    source.write_text("".join(json.dumps(row) + "\n" for row in raw_rows(count)), encoding="utf-8")
    prepare.main(["--input", str(source), "--output", str(prepared), *flags])
    return prepared


@pytest.fixture
def copied_prepared(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "copied-prepared"))


def arguments_of(flags: dict) -> list[str]:
    """{"--epochs": 2, "--heads": ["a", "b"], "--resume": True} as on the command line."""
    arguments = []
    for name, value in flags.items():
        values = [] if isinstance(value, bool) else value if isinstance(value, list | tuple) else [value]
        arguments += [name, *map(str, values)] if value is not False else []
    return arguments


class Command:
    """`python train.py ...` in this process. Call it with flags; `code`, `out` and `err` are what a shell would see."""

    def __init__(self, data: Path, backbone: Path, capfd: pytest.CaptureFixture) -> None:
        self.flags = {"--data": data, "--backbone": backbone, "--max-length": MAX_LENGTH, "--batch-size": 4}
        self.flags |= {"--device": "cpu"}
        self.capfd = capfd

    def arguments(self, output: Path, **flags) -> list[str]:
        flags = self.flags | {"--" + name.replace("_", "-"): value for name, value in flags.items()}
        return ["--output", str(output), *arguments_of(flags)]

    def __call__(self, output: Path, **flags) -> int:
        self.capfd.readouterr()
        try:
            common.run(lambda: train.main(self.arguments(output, **flags)))
            self.code = 0
        except SystemExit as stop:
            self.code = stop.code
        self.out, self.err = self.capfd.readouterr()
        return self.code

    def fork(self, output: Path, before: Callable[[], object], **flags) -> int:
        """The command in a child process, that calls `before` first; its exit code, or minus the signal's number."""

        def child() -> None:
            before()
            common.run(lambda: train.main(self.arguments(output, **flags)))

        self.capfd.readouterr()
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(120)
        assert process.exitcode is not None
        self.code = process.exitcode
        self.out, self.err = self.capfd.readouterr()
        return self.code

    def error(self) -> str:
        """The error, which is the last line of standard error: a progress bar may stand before it."""
        *before, last = self.err.splitlines()
        assert ": error: " in last
        assert not any("error" in line.lower() or "Traceback" in line for line in before), self.err
        return last


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones too, with a hash of what it holds."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def metrics_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def summary_of(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text())


def head_of(run: Path, head: str = "documented") -> dict[str, torch.Tensor]:
    return load_file(run / head / "head.safetensors")


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """The same tensors, to the bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def siblings(run: Path) -> list[str]:
    """What stands beside a run folder, and it."""
    return sorted(path.name for path in run.parent.iterdir())


def row_lengths(data: PIITokenDataset) -> list[int]:
    return np.diff(data.split.example_offsets).tolist()


# the loop against the plain recipe


def plain_windows(row_lengths: list[int], max_length: int) -> list[tuple[int, int, int, int, int]]:
    """(row, start, stop, scored from, scored to), all within the row, as the documentation words it."""
    overlap = max_length // 4
    ahead = overlap // 3  # right context of the earlier window; the rest of the overlap is the later one's left context
    windows = []
    for row, length in enumerate(row_lengths):
        scored = 0
        while scored < length:
            start = 0 if scored == 0 else scored - (overlap - ahead)
            if start + max_length < length:
                windows.append((row, start, start + max_length, scored, start + max_length - ahead))
            else:  # the last one is moved left until it is full
                windows.append((row, max(0, length - max_length), length, scored, length))
            scored = windows[-1][4]
    return windows


def plain_backbone(folder: Path) -> MistralModel:
    return MistralModel.from_pretrained(folder, dtype=torch.float32).eval()


def plain_steps(windows: list, epochs: int, seed: int, size: int):
    """The windows of each optimizer step, epoch by epoch."""
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(windows)).tolist()
        while order:
            step, order = order[:size], order[size:]
            yield [windows[i] for i in step]


def plain_loop(
    classifier: torch.nn.Linear,
    backbone: torch.nn.Module,
    data: PIITokenDataset,
    learning_rate: float,
    epochs: int,
    seed: int,
) -> list[tuple[float, float]]:
    """Batches of 12 padded windows, three accumulated for a step; (loss, gradient norm) of each step."""
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=learning_rate)
    log = []
    for step in plain_steps(plain_windows(row_lengths(data), MAX_LENGTH), epochs, seed, 36):
        scored = sum(scored_to - scored_from for *_, scored_from, scored_to in step)
        total = 0.0
        while step:
            batch, step = step[:12], step[12:]
            ids = torch.full((len(batch), 1 + MAX_LENGTH), PAD)
            labels = torch.full((len(batch), 1 + MAX_LENGTH), IGNORED)
            ids[:, 0] = BOS
            for place, (row, start, stop, scored_from, scored_to) in enumerate(batch):
                ids[place, 1 : 1 + stop - start] = data[row]["input_ids"][start:stop]
                own = slice(1 + scored_from - start, 1 + scored_to - start)
                labels[place, own] = data[row]["labels"][scored_from:scored_to]
            with torch.no_grad():
                hidden = backbone(input_ids=ids, attention_mask=(ids != PAD).long()).last_hidden_state
            logits = classifier(hidden).flatten(0, 1)
            loss = F.cross_entropy(logits, labels.flatten(), ignore_index=IGNORED, reduction="sum") / scored
            loss.backward()
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(classifier.parameters(), 1.0).item()
        optimizer.step()
        optimizer.zero_grad()
        log.append((total, norm))
    return log


@pytest.fixture
def untrained(monkeypatch) -> list[torch.nn.Module]:
    """A copy of each head that a command starts from, in order."""
    heads, make = [], HeadTrainer.__init__

    def spy(self, *arguments):
        make(self, *arguments)
        heads.append(copy.deepcopy(self.head))

    monkeypatch.setattr(HeadTrainer, "__init__", spy)
    return heads


def test_training_equals_a_plain_loop_of_accumulated_batches(command, backbone, untrained, tmp_path):
    prepared = write_prepared(tmp_path / "large", 280, "--validation-fraction", "0")
    learning_rate, epochs, seed = 1e-3, 3, 5
    flags = {"batch_size": 12, "gradient_accumulation_steps": 3, "max_grad_norm": 1, "dropout": 0, "data": prepared}
    assert command(tmp_path / "run", **flags, learning_rate=learning_rate, epochs=epochs, seed=seed) == 0
    data = PIITokenDataset(prepared, "train")
    plain = torch.nn.Linear(32, data.num_labels)
    plain.load_state_dict(untrained[0].state_dict())
    before = plain.weight.detach().clone()
    log = plain_loop(plain, plain_backbone(backbone), data, learning_rate, epochs, seed)

    # what the comparison is worth: many steps, a partial one at each epoch's end, long rows, clipped and free gradients
    windows = len(plain_windows(row_lengths(data), MAX_LENGTH))
    assert len(log) == summary_of(tmp_path / "run")["steps"] >= 50
    assert windows % 36 and windows > 16 * 36
    assert max(row_lengths(data)) > 3 * MAX_LENGTH
    assert any(norm > 1 for _, norm in log) and any(norm < 1 for _, norm in log)
    assert (plain.weight - before).abs().max() > 1e-2

    torch.testing.assert_close(head_of(tmp_path / "run"), dict(plain.state_dict()), rtol=0, atol=1e-6)
    logged = [(record["loss"], record["gradient_norm"]) for record in metrics_of(tmp_path / "run")]
    np.testing.assert_allclose(logged, log, rtol=1e-4)


class PlainStrong(torch.nn.Module):
    """The strong head as a paper would write it, for one window at a time."""

    def __init__(self, width: int, num_labels: int) -> None:
        super().__init__()
        self.project = torch.nn.Linear(width, 192)
        self.gru = torch.nn.GRU(192, 192, bidirectional=True)
        self.classifier = torch.nn.Linear(384, 2 * num_labels - 1)
        self.transitions = Crf(2 * num_labels - 1)

    def forward(self, standardised: torch.Tensor) -> torch.Tensor:
        """[tokens, width] → [tokens, tags]."""
        return self.classifier(self.gru(self.project(standardised))[0])


def plain_bio(labels: list[int], begins: list[bool]) -> torch.Tensor:
    """O is 0; label n begins as 2n - 1 and goes on as 2n."""
    return torch.tensor([0 if not n else 2 * n - 1 if b else 2 * n for n, b in zip(labels, begins, strict=True)])


def plain_strong_loop(
    head: PlainStrong,
    backbone: torch.nn.Module,
    data: PIITokenDataset,
    layers: list[int],
    learning_rate: float,
    epochs: int,
    seed: int,
    size: int,
    first_steps: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Window by window; the mean and deviation of the features, measured on the first steps' windows."""
    examples = [data.example(row) for row in range(len(data))]
    windows = plain_windows(row_lengths(data), MAX_LENGTH)

    @torch.no_grad()
    def hidden_of(window: tuple) -> torch.Tensor:
        row, start, stop, *_ = window
        ids = torch.tensor([[BOS, *examples[row]["token_ids"][start:stop]]])
        states = backbone(ids, output_hidden_states=True).hidden_states
        return torch.cat([states[layer][0, 1:] for layer in layers], dim=1)

    hidden = {window: hidden_of(window) for window in windows}
    steps = list(plain_steps(windows, epochs, seed, size))
    sample = torch.cat([hidden[window] for step in steps[:first_steps] for window in step])
    mean, deviation = sample.mean(dim=0), sample.std(dim=0, correction=0)
    optimizer = torch.optim.AdamW(head.parameters(), lr=learning_rate)
    rising = max(1, round(0.1 * len(steps)))
    for number, step in enumerate(steps, 1):
        fallen = (number - rising) / (len(steps) - rising)
        share = number / rising if number <= rising else 0.5 + 0.5 * math.cos(math.pi * fallen)
        scored = sum(scored_to - scored_from for *_, scored_from, scored_to in step)
        for window in step:
            row, start, _, scored_from, scored_to = window
            own = slice(scored_from, scored_to)
            tags = plain_bio(examples[row]["label_ids"][own], examples[row]["begins"][own])
            logits = head((hidden[window] - mean) / deviation)[scored_from - start : scored_to - start]
            loss = loss_by_textbook(head.transitions, logits, tags, [len(tags)])
            ((loss + F.cross_entropy(logits, tags, reduction="sum")) / scored).backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = learning_rate * share
        optimizer.step()
        optimizer.zero_grad()
    return mean, deviation


def test_the_strong_head_equals_a_plain_loop_over_single_windows(command, prepared, backbone, untrained, tmp_path):
    flags = {"heads": "strong", "layers": [1, 2], "strong_dropout": 0, "strong_epochs": 2, "seed": 3}
    assert command(tmp_path / "run", **flags, strong_learning_rate=2e-3) == 0
    data = PIITokenDataset(prepared, "train")
    plain = PlainStrong(64, data.num_labels)
    started = {name: tensor for name, tensor in untrained[0].state_dict().items() if name not in ("mean", "deviation")}
    plain.load_state_dict(started)
    before = copy.deepcopy(plain.state_dict())
    mean, deviation = plain_strong_loop(
        plain, plain_backbone(backbone), data, [1, 2], 2e-3, epochs=2, seed=3, size=12, first_steps=1
    )
    assert summary_of(tmp_path / "run")["steps"] >= 20
    assert min((plain.state_dict()[name] - before[name]).abs().max() for name in before) > 1e-3
    expected = dict(plain.state_dict()) | {"mean": mean, "deviation": deviation}
    torch.testing.assert_close(dict(head_of(tmp_path / "run", "strong")), expected, rtol=0, atol=1e-5)


def test_a_step_is_the_same_however_its_windows_are_split_into_batches(command, tmp_path):
    for name, batch_size, accumulated in (("one", 12, 3), ("two", 36, 1), ("three", 4, 9)):
        flags = {"batch_size": batch_size, "gradient_accumulation_steps": accumulated, "learning_rate": 0.01}
        assert command(tmp_path / name, dropout=0, **flags) == 0
    heads = [head_of(tmp_path / name) for name in ("one", "two", "three")]
    assert len(metrics_of(tmp_path / "one")) > 1
    for head in heads[1:]:
        torch.testing.assert_close(head, heads[0], rtol=0, atol=1e-6)


# heads side by side


BOTH = {"heads": HEADS, "epochs": 3, "learning_rate": 0.01, "strong_epochs": 2}


def test_a_head_comes_out_the_same_beside_others_to_the_bit(trained):
    both = trained(**BOTH)
    assert equal(head_of(both), head_of(trained(heads="documented", epochs=3, learning_rate=0.01)))
    assert equal(head_of(both, "strong"), head_of(trained(heads="strong", strong_epochs=2), "strong"))


def test_a_strong_head_alone_takes_the_general_flags_unless_it_has_its_own():
    def read(flags: dict) -> argparse.Namespace:
        return train.parse_arguments(arguments_of(flags))

    general = {"--learning-rate": [1e-3, 1e-4], "--epochs": 3, "--dropout": 0.5}
    alone = read(general | {"--heads": "strong", "--strong-dropout": 0.2})
    assert (alone.strong_learning_rate, alone.strong_epochs, alone.strong_dropout) == ([1e-3, 1e-4], 3, 0.2)
    both = read(general | {"--heads": HEADS})
    assert (both.strong_learning_rate, both.strong_epochs, both.strong_dropout) == ([2e-3], None, None)
    plain = read({})
    assert (plain.heads, plain.learning_rate, plain.epochs, plain.dropout) == (["documented"], [1e-5], 1, 0.1)


@pytest.mark.parametrize("flag", ["layers", "strong_learning_rate", "strong_epochs", "strong_dropout", "strong_units"])
def test_a_flag_of_a_head_that_is_not_trained_is_one_line(command, tmp_path, flag):
    assert command(tmp_path / "run", **{flag: 1}) == 2
    assert "--" + flag.replace("_", "-") in command.error() and "--heads" in command.error()
    assert not (tmp_path / "run").exists()


def test_a_strong_head_has_as_many_units_as_told_and_is_read_again(trained, command, prepared, tmp_path):
    run = trained(heads="strong", strong_epochs=1, strong_units=5)
    assert head_of(run, "strong")["gru.weight_hh_l0"].shape == (15, 5)
    assert json.loads((run / "config.json").read_text())["heads"]["strong"]["units"] == 5
    flags = {"heads": "strong", "strong_epochs": 1, "start_from": run}
    assert command(tmp_path / "run", **flags) == 0 and "5 units" in command.out, command.err
    assert command(tmp_path / "large", **flags | {"strong_units": 10**9}) == 2
    assert "--strong-units" in command.error()


def test_each_of_several_learning_rates_makes_the_head_that_it_makes_alone(trained):
    flags = {"heads": HEADS, "learning_rate": [1e-4, 0.01], "strong_learning_rate": [2e-3, 5e-4], "strong_epochs": 1}
    run = trained(**flags)
    names = {"documented@1e-4", "documented@1e-2", "strong@2e-3", "strong@5e-4"}
    assert {path.name for path in run.iterdir() if path.is_dir()} == names
    for name in names:
        kind, _, rate = name.partition("@")
        option = "learning_rate" if kind == "documented" else "strong_learning_rate"
        alone = trained(heads=kind, epochs=1, **{option: float(rate)})
        assert equal(head_of(run, name), head_of(alone, kind))


def test_heads_are_compared_on_validation_and_the_best_is_named(trained):
    run = trained(**BOTH)
    validation, config = summary_of(run)["validation"], json.loads((run / "config.json").read_text())
    assert list(validation) == list(HEADS) == list(config["heads"])
    assert config["best"] == max(validation, key=lambda name: validation[name]["strict"])
    assert validation["strong"]["strict"] > validation["documented"]["strict"]  # else the choice shows nothing
    assert set(summary_of(run)["heads"]) == set(HEADS)


def test_dropout_acts_in_training(trained):
    plain, dropped = (trained(learning_rate=0.01, epochs=2, dropout=dropout) for dropout in (0, 0.5))
    assert not torch.allclose(head_of(plain)["weight"], head_of(dropped)["weight"], atol=1e-3)


# features of later epochs


@pytest.mark.parametrize("cache", ["ram", "disk", "auto"])
def test_features_from_a_cache_make_the_same_heads_to_the_bit(trained, cache):
    again = trained(**BOTH, cache=cache)
    assert all(equal(head_of(again, head), head_of(trained(**BOTH, cache="ram"), head)) for head in HEADS)
    assert not [name for name in siblings(again) if name.startswith(".")]


def test_without_a_cache_the_heads_are_the_same_but_for_rounding(trained):
    for head in HEADS:
        none, ram = (head_of(trained(**BOTH, cache=cache), head) for cache in ("none", "ram"))
        torch.testing.assert_close(none, ram, rtol=0, atol=1e-5)


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_a_cache_spares_the_backbone_every_epoch_but_the_first(command, prepared, tmp_path, monkeypatch, cache):
    read, call = [], features.Reader.__call__

    def spy(self, token_ids, windows, *others):
        read.append(int(windows.lengths.sum()))
        return call(self, token_ids, windows, *others)

    monkeypatch.setattr(features.Reader, "__call__", spy)
    monkeypatch.setattr(train, "compare_heads", lambda *_: ({}, "documented"))
    monkeypatch.setattr(train, "Validation", lambda *_: None)
    assert command(tmp_path / "run", epochs=3, cache=cache) == 0
    windows = plain_windows(row_lengths(PIITokenDataset(prepared, "train")), MAX_LENGTH)
    assert sum(read) == sum(stop - start for _, start, stop, *_ in windows)


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_a_cache_that_does_not_fit_is_refused_in_one_line(command, older_run, monkeypatch, cache):
    monkeypatch.setattr(features, "free_memory", lambda: 1000)
    monkeypatch.setattr(features.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6 - 1000, 1000))
    before = contents(older_run.parent)
    command(older_run, epochs=2, cache=cache)
    assert command.code == 2 and "--cache" in command.error() and "GiB" in command.error()
    assert contents(older_run.parent) == before
    assert command(older_run, epochs=1, cache=cache) == 0  # one epoch needs none


def test_auto_goes_without_a_cache_where_none_fits(command, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "free_memory", lambda: 0)
    monkeypatch.setattr(features.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    assert command(tmp_path / "run", **BOTH) == 0
    assert equal(head_of(tmp_path / "run"), head_of(trained(**BOTH, cache="none")))


@pytest.mark.parametrize("failure", [signal.SIGINT, signal.SIGKILL])
def test_a_cache_on_the_disk_leaves_no_file_behind(command, tmp_path, failure):
    def fail_in_the_second_epoch() -> None:
        features.Cache.read = lambda *_: os.kill(os.getpid(), failure)

    command.fork(tmp_path / "runs/mine", fail_in_the_second_epoch, epochs=2, cache="disk")
    assert command.code == (130 if failure == signal.SIGINT else -9)
    left = {".mine.writing/lock"} if failure == signal.SIGKILL else set()  # until the next command
    assert set(contents(tmp_path / "runs")) == left


# the run folder


def test_a_run_folder_holds_what_the_design_names_and_nothing_else(command, tmp_path):
    assert command(tmp_path / "runs" / "mine") == 0
    assert set(contents(tmp_path / "runs")) == {
        "mine/config.json",
        "mine/summary.json",
        "mine/metrics.jsonl",
        "mine/curves.svg",
        "mine/documented/head.safetensors",
    }


def test_every_step_is_one_line_of_metrics(command, prepared, tmp_path):
    assert command(tmp_path / "run", heads=HEADS, epochs=2, learning_rate=0.003, strong_epochs=1) == 0
    records = metrics_of(tmp_path / "run")
    windows = len(plain_windows(row_lengths(PIITokenDataset(prepared, "train")), MAX_LENGTH))
    steps_an_epoch = -(-windows // 12)  # batches of 4, three a step
    both = [(step, head) for step in range(1, steps_an_epoch + 1) for head in HEADS]
    alone = [(step, "documented") for step in range(steps_an_epoch + 1, 2 * steps_an_epoch + 1)]
    assert [(record["step"], record["head"]) for record in records] == both + alone
    assert [record["epoch"] for record in records] == [0] * 2 * steps_an_epoch + [1] * steps_an_epoch
    assert {record["learning_rate"] for record in records if record["head"] == "documented"} == {0.003}
    assert all(record["loss"] > 0 and record["gradient_norm"] > 0 for record in records)


def test_the_curves_hold_every_head(command, tmp_path):
    assert command(tmp_path / "run", heads=HEADS, epochs=2, strong_epochs=1) == 0
    svg = ElementTree.parse(tmp_path / "run" / "curves.svg").getroot()
    texts = [element.text for element in svg.iter() if element.tag.endswith("text")]
    for words in ("training loss", "gradient norm before clipping", "strict span F1 on some validation rows"):
        assert words in texts
    assert [texts.count(head) for head in HEADS] == [3, 3]
    drawn = [element.get("d") for element in svg.iter() if element.get("stroke-width") == "1.8"]
    assert len(drawn) == 6 and all(path.startswith("M") and "nan" not in path for path in drawn)


def test_a_run_can_be_loaded_and_remembers_how_it_was_made(command, prepared, backbone, tmp_path):
    assert command(tmp_path / "run", seed=3, learning_rate=0.01) == 0
    loaded, config = runs.load_run(tmp_path / "run", torch.device("cpu"))
    meta = json.loads((prepared / "meta.json").read_text())
    assert config["labels"] == meta["labels"] == ["O", "FIRSTNAME", "LASTNAME", "PIN"]
    assert config["tokenizer"] == meta["tokenizer"]
    assert config["backbone"]["name"] == str(backbone)
    assert config["max_length"] == MAX_LENGTH and config["seed"] == 3
    assert config["flags"]["learning_rate"] == [0.01] and config["flags"]["batch_size"] == 4
    assert config["versions"]["torch"] == torch.__version__
    assert config["heads"]["documented"]["layers"] == [DEPTH] and config["best"] == "documented"
    assert equal(dict(loaded.head.state_dict()), head_of(tmp_path / "run"))


def test_the_summary_counts_tokens_without_a_progress_bar_too(command, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "progress", lambda *_, **__: tqdm(disable=True))  # as TQDM_DISABLE=1 does
    assert command(tmp_path / "run") == 0
    assert summary_of(tmp_path / "run")["tokens"] == len(np.load(prepared / "train/token_ids.npy"))


def test_the_summary_agrees_with_the_data_and_the_metrics(command, prepared, tmp_path):
    assert command(tmp_path / "run") == 0
    summary, records = summary_of(tmp_path / "run"), metrics_of(tmp_path / "run")
    data = PIITokenDataset(prepared, "train")
    assert summary["examples"] == len(data)
    assert summary["windows"] == len(plain_windows(row_lengths(data), MAX_LENGTH)) > len(data)
    assert (summary["steps"], summary["final_loss"]) == (records[-1]["step"], records[-1]["loss"])


def test_the_same_command_gives_the_same_bytes_and_another_seed_others(command, tmp_path):
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        assert command(tmp_path / name, heads=HEADS, seed=seed, epochs=2, strong_epochs=2) == 0
    first, again, other = (contents(tmp_path / name) for name in ("first", "again", "other"))
    for name in ("documented/head.safetensors", "strong/head.safetensors", "metrics.jsonl"):
        assert first[name] == again[name] != other[name]


def test_learning_lowers_the_loss_below_what_the_labels_frequencies_alone_allow(command, prepared, tmp_path):
    assert command(tmp_path / "run", epochs=8, learning_rate=0.01, dropout=0) == 0
    losses = {}
    for record in metrics_of(tmp_path / "run"):
        losses.setdefault(record["epoch"], []).append(record["loss"])
    shares = np.bincount(np.load(prepared / "train/label_ids.npy"))
    shares = shares / shares.sum()
    entropy = -(shares * np.log(shares)).sum()  # the loss of the best head that does not look at the token
    assert np.mean(losses[7]) < 0.7 * entropy < 0.7 * losses[0][0]


def test_a_new_run_replaces_the_older_one_whole(command, older_run):
    (older_run / "left-over.txt").write_text("of the older run")
    assert command(older_run) == 0
    assert "left-over.txt" not in contents(older_run)
    assert json.loads((older_run / "config.json").read_text())["labels"][0] == "O"
    assert siblings(older_run) == ["mine"]


def test_no_text_of_a_row_is_printed_or_written(command, prepared, copied_backbone, tmp_path):
    assert any(CANARY in text for text in PIITokenDataset(prepared, "train").to_dict()["texts"])
    assert command(tmp_path / "runs/good", heads=HEADS, epochs=2, strong_epochs=1, cache="disk") == 0
    printed = [command.out + command.err]
    assert command.fork(tmp_path / "runs/killed", at(1, runs, "save_state"), heads=HEADS, save_every=1) == -9
    printed.append(command.out + command.err)
    with_weights(copied_backbone, lambda weights: weights["norm.weight"].fill_(float("nan")))
    assert command(tmp_path / "runs/bad", backbone=copied_backbone) == 1
    printed.append(command.out + command.err)
    files = {str(path.relative_to(tmp_path / "runs")): path for path in (tmp_path / "runs").rglob("*.*")}
    assert {"killed/resume.safetensors", "good/metrics.jsonl", "good/strong/head.safetensors"} <= set(files)
    written = [path.read_bytes().decode("utf-8", "replace") for path in files.values() if path.is_file()]
    for text in printed + written:
        assert CANARY not in text and CANARY[:5] not in text and "parcel" not in text


@pytest.mark.parametrize("head", HEADS)
def test_a_head_that_was_saved_and_loaded_gives_the_same_logits_to_the_bit(command, tmp_path, monkeypatch, head):
    kept, save = [], runs.save_head
    monkeypatch.setattr(runs, "save_head", lambda trainer, folder: kept.append(trainer.head) or save(trainer, folder))
    flags = {"strong_epochs": 1} if head == "strong" else {}
    assert command(tmp_path / "run", heads=head, learning_rate=0.01, **flags) == 0
    loaded, _ = runs.load_run(tmp_path / "run", torch.device("cpu"))
    features = torch.randn(50, kept[0].state_dict()["mean"].numel() if head == "strong" else 32)
    lengths = torch.tensor([30, 20])
    with torch.no_grad():
        assert torch.equal(kept[0].eval()(features, lengths), loaded.head.eval()(features, lengths))


# interruption


@pytest.mark.parametrize(
    ("owner", "moment"),
    [
        (train, "take_step"),
        (features.Reader, "__call__"),
        (features.Cache, "read"),
        (runs, "save_state"),
        (runs, "save_head"),
        (runs, "write"),
    ],
)
def test_ctrl_c_leaves_an_older_run_whole_and_no_temporary_folder(command, older_run, monkeypatch, owner, moment):
    original = getattr(owner, moment)

    def interrupted(*arguments):
        result = original(*arguments)
        signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(owner, moment, interrupted)
    before = contents(older_run.parent)
    assert command(older_run, epochs=2, save_every=1) == 130
    assert "interrupted" in command.error()
    after = contents(older_run.parent)
    assert "mine/resume.safetensors" in after or moment in ("take_step", "__call__")
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) <= {"mine/resume.safetensors"} and siblings(older_run) == ["mine"]


def test_ctrl_c_while_the_new_run_takes_the_older_ones_place_leaves_one_of_them_whole(command, older_run, monkeypatch):
    monkeypatch.setattr(outputs, "exchanged", lambda *_: False)  # as where folders cannot be exchanged in one step
    rename = Path.rename

    def interrupted(self, target):
        if self.name == "new":
            signal.raise_signal(signal.SIGINT)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    before = contents(older_run.parent)
    assert command(older_run) == 130
    assert contents(older_run.parent) == before
    assert siblings(older_run) == ["mine"]


# resuming


def at(count: int, owner: object, name: str, signal_number: int = signal.SIGKILL) -> Callable[[], None]:
    """What makes a process kill itself when `owner.name` was called `count` times."""

    def arm() -> None:
        original, calls = getattr(owner, name), 0

        def counted(*arguments, **named):
            nonlocal calls
            result = original(*arguments, **named)
            if (calls := calls + 1) == count:
                os.kill(os.getpid(), signal_number)
            return result

        setattr(owner, name, counted)

    return arm


def half_a_state() -> None:
    """The second state is only half written when the process is killed."""
    save, calls = runs.save_file, 0

    def save_half(tensors, path, metadata=None):
        nonlocal calls
        save(tensors, path, metadata)
        if metadata and (calls := calls + 1) == 2:
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    runs.save_file = save_half


@pytest.fixture(scope="session")
def in_short_stretches(trained) -> Callable[..., Path]:
    """`trained` with the groups of steps of the fixture above: the strong head is standardised on the first one."""

    def train_it(**flags) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(train.STEPS_AHEAD, "cpu", 3)
            return trained(**flags, save_every=3)

    return train_it


def dropped_out(**flags) -> dict:
    """Dropout is on, so that random numbers must be the same too."""
    return {"learning_rate": 0.01, "dropout": 0.3, **flags}


@pytest.mark.usefixtures("short_stretches")
@pytest.mark.parametrize(
    ("moment", "flags"),
    [
        (at(1, runs, "save_state"), dropped_out(epochs=2)),
        (at(3, runs, "save_state"), dropped_out(heads=HEADS, epochs=3, strong_epochs=2)),
        (at(11, train, "take_step"), dropped_out(epochs=2)),  # in the middle of a group of the first epoch
        (at(55, train, "take_step"), dropped_out(heads=HEADS, epochs=3, strong_epochs=2)),  # of a later epoch
        (at(2, features.Cache, "read"), dropped_out(heads="strong", strong_epochs=2, cache="disk")),
        (at(10, runs, "save_state"), dropped_out(heads="strong", strong_epochs=2, cache="none")),
        (half_a_state, dropped_out(heads=HEADS, epochs=3, strong_epochs=2)),
        (at(1, runs, "save_head"), dropped_out(heads=HEADS, epochs=3, strong_epochs=2)),
    ],
)
def test_a_killed_run_that_is_resumed_ends_with_the_same_bytes(
    command, in_short_stretches, older_run, monkeypatch, moment, flags
):
    before = contents(older_run)
    assert command.fork(older_run, moment, **flags, save_every=3) == -9
    after = contents(older_run)
    assert "resume.safetensors" in after
    assert {name: after[name] for name in before} == before  # the older run is whole
    whole, done, step = in_short_stretches(**flags), [], train.take_step
    monkeypatch.setattr(train, "take_step", lambda self, *rest: done.append(self) or step(self, *rest))
    assert command(older_run, **flags, save_every=3, resume=True) == 0, command.err
    heads = flags.get("heads", "documented")
    for head in [heads] if isinstance(heads, str) else heads:
        assert equal(head_of(older_run, head), head_of(whole, head))
    assert metrics_of(older_run) == metrics_of(whole)
    assert len(done) < len(metrics_of(whole))  # what was saved was not done again
    assert set(contents(older_run)) == set(contents(whole))  # the state is gone
    assert siblings(older_run) == ["mine"]


@pytest.mark.usefixtures("short_stretches")
def test_a_run_that_is_killed_again_and_again_gets_there_and_leaves_nothing(command, in_short_stretches, tmp_path):
    flags, run = dropped_out(heads=HEADS, epochs=2, strong_epochs=2), tmp_path / "runs/mine"
    for number in range(4):
        assert command.fork(run, at(2, runs, "save_state"), **flags, save_every=3, resume=number > 0) == -9
        assert siblings(run) == [".mine.writing", "mine"]
        assert set(contents(run.parent)) == {".mine.writing/lock", "mine/resume.safetensors"}
    assert command(run, **flags, save_every=3, resume=True) == 0
    whole = in_short_stretches(**flags)
    assert all(equal(head_of(run, head), head_of(whole, head)) for head in HEADS)
    assert siblings(run) == ["mine"] and set(contents(run)) == set(contents(whole))


@pytest.mark.usefixtures("short_stretches")
def test_a_state_that_was_never_whole_stops_no_later_run(command, tmp_path):
    def kill_in_the_first_save() -> None:
        runs.save_file = lambda tensors, path, metadata: (path.write_bytes(b"half"), os.kill(os.getpid(), 9))

    run = tmp_path / "runs/mine"
    assert command.fork(run, kill_in_the_first_save, save_every=1) == -9
    assert list(contents(run)) and not (run / "resume.safetensors").exists()
    assert command(run) == 0, command.err
    assert len(contents(run)) == 5 and siblings(run) == ["mine"]


def test_a_state_is_gone_on_from_where_stretches_end_elsewhere(command, trained, tmp_path, monkeypatch):
    """As on another device, which runs further ahead."""
    monkeypatch.setitem(train.STEPS_AHEAD, "cpu", 5)
    run = tmp_path / "run"
    assert command.fork(run, at(1, runs, "save_state"), learning_rate=0.01, epochs=2, save_every=1) == -9
    monkeypatch.setitem(train.STEPS_AHEAD, "cpu", 16)
    assert command(run, learning_rate=0.01, epochs=2, resume=True) == 0
    whole = trained(learning_rate=0.01, epochs=2)
    assert [record["step"] for record in metrics_of(run)] == [record["step"] for record in metrics_of(whole)]
    torch.testing.assert_close(head_of(run), head_of(whole), rtol=0, atol=1e-6)


def test_resuming_without_a_state_starts_from_scratch(command, trained, tmp_path):
    assert command(tmp_path / "run", learning_rate=0.01, epochs=2, resume=True) == 0
    assert equal(head_of(tmp_path / "run"), head_of(trained(learning_rate=0.01, epochs=2)))


def test_resuming_a_finished_run_says_so_and_changes_nothing(command, tmp_path):
    assert command(tmp_path / "runs/mine") == 0
    before = contents(tmp_path / "runs")
    assert command(tmp_path / "runs/mine", resume=True) == 0
    assert "complete" in command.out and len(command.out.splitlines()) == 1
    assert contents(tmp_path / "runs") == before and siblings(tmp_path / "runs/mine") == ["mine"]
    assert command(tmp_path / "runs/mine", resume=True, seed=1) == 0  # another run is not complete
    assert contents(tmp_path / "runs") != before


@pytest.fixture
def killed(command, older_run) -> Path:
    assert command.fork(older_run, at(1, runs, "save_state"), save_every=1) == -9
    return older_run


@pytest.mark.parametrize(
    "flags",
    [
        {"learning_rate": 0.02},
        {"epochs": 2},
        {"dropout": 0.2},
        {"seed": 1},
        {"batch_size": 3},
        {"max_length": 12},
        {"max_grad_norm": 2},
        {"heads": HEADS},
        {"precision": "fp8"},
        {"precision": "int8"},
        {"precision": "fp32"},
    ],
)
def test_a_state_of_other_flags_is_refused_in_one_line(command, killed, flags):
    before = contents(killed)
    command(killed, resume=True, **flags)
    assert command.code == 2 and "--resume" in command.error() and "resume.safetensors" in command.error()
    assert contents(killed) == before


def test_a_state_of_other_data_is_refused_in_one_line(command, older_run, copied_prepared, tmp_path):
    killed = older_run
    assert command.fork(killed, at(1, runs, "save_state"), save_every=1, data=copied_prepared) == -9
    other = write_prepared(tmp_path / "other", 70, "--validation-fraction", "0.1")
    shutil.rmtree(copied_prepared)
    other.rename(copied_prepared)  # where the first data was
    command(killed, data=copied_prepared, resume=True)
    assert command.code == 2 and "--resume" in command.error()


@pytest.mark.parametrize("damage", ["empty", "truncated", "text", "no metadata", "another head", "no log", "shapes"])
def test_a_damaged_state_is_refused_in_one_line(command, killed, damage):
    path = killed / "resume.safetensors"
    tensors = load_file(path)
    with runs.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-20])
    elif damage == "text":
        path.write_text("{}" * 50)
    elif damage == "no metadata":
        save_file(tensors, path)
    elif damage == "another head":
        save_file({name.replace("documented", "strong"): tensor for name, tensor in tensors.items()}, path, metadata)
    elif damage == "no log":
        save_file({name: tensor for name, tensor in tensors.items() if "log" not in name}, path, metadata)
    else:
        save_file({name: tensor[:1] if tensor.dim() else tensor for name, tensor in tensors.items()}, path, metadata)
    before = contents(killed)
    command(killed, resume=True)
    assert command.code == 2 and "resume.safetensors" in command.error() and "damaged" in command.error()
    assert contents(killed) == before


def test_a_state_is_ignored_without_resume_and_gone_afterwards(command, trained, killed):
    (killed / "resume.safetensors").write_bytes(b"damaged")
    assert command(killed, learning_rate=0.01, epochs=2) == 0
    assert equal(head_of(killed), head_of(trained(learning_rate=0.01, epochs=2)))
    assert "resume.safetensors" not in contents(killed)


# mistakes of the user


def assert_one_line(command: Command, code: int = 2) -> None:
    assert command.code == code, command.err
    assert len(command.err.splitlines()) == 1, command.err


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--batch-size", "0"),
        ("--batch-size", "-3"),
        ("--batch-size", "many"),
        ("--gradient-accumulation-steps", "0"),
        ("--max-length", "0"),
        ("--epochs", "0"),
        ("--dropout", "2"),
        ("--dropout", "nan"),
        ("--learning-rate", "nan"),
        ("--learning-rate", "inf"),
        ("--learning-rate", "0"),
        ("--learning-rate", "1e300"),
        ("--max-grad-norm", "-1"),
        ("--device", "nonsense"),
        ("--seed", "-1"),
        ("--seed", "1" + 30 * "0"),
        ("--seed", "x"),
        ("--nonsense", "1"),
        ("--heads", "weak"),
        ("--layers", "x"),
        ("--layers", "-1"),
        ("--layers", "4"),
        ("--strong-learning-rate", "0"),
        ("--strong-epochs", "0"),
        ("--cache", "tape"),
        ("--save-every", "0"),
        ("--precision", "fp4"),
        ("--tokens-per-forward", "0"),
        ("--data", "nowhere"),
        ("--backbone", "./nowhere"),
    ],
)
def test_a_bad_flag_is_one_line_and_exit_code_2(command, older_run, flag, value):
    before = contents(older_run.parent)
    command(older_run, **{flag.removeprefix("--"): value})
    assert_one_line(command)
    assert value in command.err or flag in command.err
    assert contents(older_run.parent) == before


@pytest.mark.parametrize("option", ["heads", "learning_rate", "strong_learning_rate"])
def test_the_same_thing_twice_is_one_line(command, tmp_path, option):
    value = ["strong"] * 2 if option == "heads" else [1e-3, 0.001]
    command(tmp_path / "run", **{option: value})
    assert_one_line(command)
    assert "--" + option.replace("_", "-") in command.err and not (tmp_path / "run").exists()


def test_data_without_training_rows_is_one_line(command, tmp_path):
    empty = write_prepared(tmp_path / "all-validation", 6, "--validation-fraction", "1")
    command(tmp_path / "run", data=empty)
    assert_one_line(command)
    assert "--validation-fraction" in command.err
    assert not (tmp_path / "run").exists()


def test_an_output_that_is_a_file_is_one_line_and_stays(command, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    command(tmp_path / "precious.txt")
    assert_one_line(command)
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_an_output_that_cannot_be_made_is_one_line(command, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    command(tmp_path / "precious.txt" / "run")
    assert_one_line(command)


def overwrite(path: Path, index: int, value: int) -> None:
    np.load(path, mmap_mode="r+")[index] = value


@pytest.mark.parametrize(("column", "value"), [("label_ids", 4), ("label_ids", 65535), ("token_ids", 131072)])
def test_ids_out_of_range_are_one_line(command, copied_prepared, tmp_path, column, value):
    overwrite(copied_prepared / "train" / f"{column}.npy", 7, value)
    command(tmp_path / "run", data=copied_prepared)
    assert command.code in (1, 2)
    assert_one_line(command, command.code)
    assert column in command.err and "prepare.py" in command.err
    assert not (tmp_path / "run").exists()


def test_a_backbone_with_a_smaller_vocabulary_is_one_line(command, tmp_path):
    small = save_tiny_backbone(tmp_path / "small-backbone", vocab_size=1000)
    command(tmp_path / "run", backbone=small)
    assert_one_line(command)
    assert "131072" in command.err and "1000" in command.err
    assert not (tmp_path / "run").exists()


def test_a_stand_in_of_another_tokenizer_file_is_one_line(command, copied_backbone, tmp_path):
    (copied_backbone / "standin.json").write_text(json.dumps({"tokenizer": {"sha256": "b" * 64}}))
    command(tmp_path / "run", backbone=copied_backbone)
    assert_one_line(command)
    assert "standin.py" in command.err
    assert not (tmp_path / "run").exists()


# names that are not UTF-8, and what is kept


def test_data_and_a_run_may_lie_in_folders_whose_names_are_not_utf_8(command, tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    shutil.copytree(command.flags["--data"], folder / "data")
    assert command(folder / "run", data=folder / "data", epochs=2, cache="disk") == 0, command.err
    assert json.loads((folder / "run" / "config.json").read_text())["flags"]["output"].endswith("caf\\xe9/run")
    assert runs.load_run(folder / "run", torch.device("cpu"))


@pytest.mark.parametrize("name", [b"caf\xe9", b"two\nlines", b""], ids=str)
def test_a_backbone_whose_name_config_json_cannot_hold_is_refused_first(command, tmp_path, name):
    assert command(tmp_path / "run", backbone=os.fsdecode(name), data="nowhere") == 2
    assert "--backbone" in command.error()


def diverges_at(number: int, monkeypatch: pytest.MonkeyPatch, stop: Callable[[], None] | None = None) -> None:
    """The loss of this step is no number, or `stop` ends it."""
    loss = HeadTrainer.loss

    def changed(self, step, *rest):
        if step.number == number and stop:
            stop()
        return loss(self, step, *rest) * (float("nan") if step.number == number else 1.0)

    monkeypatch.setattr(HeadTrainer, "loss", changed)
    monkeypatch.setitem(train.STEPS_AHEAD, "cpu", 1)


@pytest.mark.parametrize(("save_every", "kept"), [(1, "the state after step 2 is kept"), (100, "nothing was saved")])
def test_a_training_that_diverges_says_what_is_kept(command, tmp_path, monkeypatch, save_every, kept):
    diverges_at(3, monkeypatch)
    assert command(tmp_path / "run", save_every=save_every) == 1
    assert kept in command.error() and "step 3" in command.err
    assert (tmp_path / "run" / runs.STATE).exists() == (save_every == 1)


def test_an_interrupted_training_says_what_is_kept_and_can_be_resumed(command, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        diverges_at(3, patch, lambda: signal.raise_signal(signal.SIGINT))
        assert command(tmp_path / "run", save_every=1) == 130
        assert "interrupted; the state after step 2 is kept" in command.error()
        assert command(tmp_path / "run", save_every=1, seed=1) == 130
        assert "the state after step 2" in command.error()
        (tmp_path / "run" / runs.STATE).unlink()
        assert command(tmp_path / "run") == 130
        assert "nothing was saved" in command.error()
    assert command(tmp_path / "run", resume=True) == 0


def test_a_state_of_another_training_is_told_apart(command, tmp_path, monkeypatch):
    diverges_at(3, monkeypatch, lambda: signal.raise_signal(signal.SIGINT))
    assert command(tmp_path / "run", save_every=1) == 130
    assert command(tmp_path / "run", seed=1) == 130
    assert "of this training nothing was saved" in command.error() and "of an earlier one is kept" in command.err
