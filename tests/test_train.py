"""The training loop: promises of train.py, kept with a tiny random backbone on real Tekken tokens."""

import copy
import hashlib
import json
import random
import re
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from test_model import save_tiny_backbone
from tqdm import tqdm

import common
import model
import prepare
import train
from dataset import PIITokenDataset, make_windows

CANARY = "Quibblethorpe"  # stands in every row, and must stand in nothing that training prints or writes
BOS, PAD, IGNORED = 1, 11, -100
MAX_LENGTH = 16
RARE = {5: "龍 ", 20: "鯨 ", 35: "梅 ", 50: "雪 ", 65: "橋 "}


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its final norm is enlarged, so that some gradients are longer than 1 and clipping shows."""
    folder = save_tiny_backbone(tmp_path_factory.mktemp("train") / "backbone", vocab_size=131072)
    return with_weights(folder, lambda weights: weights["norm.weight"].mul_(2))


def with_weights(folder: Path, change: Callable[[dict], object]) -> Path:
    """Change the weights of a backbone in place."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def copied_backbone(backbone: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(backbone, tmp_path / "copied-backbone"))


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


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prepared(tmp_path_factory.mktemp("train") / "small", 80, "--validation-fraction", "0.1")


@pytest.fixture
def copied_prepared(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "copied-prepared"))


class Command:
    """`python train.py ...` in this process. Call it with flags; `code`, `out` and `err` are what a shell would see."""

    def __init__(self, data: Path, backbone: Path, capfd: pytest.CaptureFixture) -> None:
        self.flags = {"--data": data, "--backbone": backbone, "--max-length": MAX_LENGTH, "--batch-size": 4}
        self.flags |= {"--device": "cpu"}
        self.capfd = capfd

    def __call__(self, output: Path, **flags) -> int:
        flags = self.flags | {"--" + name.replace("_", "-"): value for name, value in flags.items()}
        arguments = [str(text) for pair in flags.items() for text in pair]
        self.capfd.readouterr()
        try:
            common.run(lambda: train.main(["--output", str(output), *arguments]))
            self.code = 0
        except SystemExit as stop:
            self.code = stop.code
        self.out, self.err = self.capfd.readouterr()
        return self.code

    def error(self) -> str:
        """The error, which is the last line of standard error: a progress bar may stand before it."""
        *before, last = self.err.splitlines()
        assert ": error: " in last
        assert not any("error" in line.lower() or "Traceback" in line for line in before), self.err
        return last


@pytest.fixture
def command(prepared: Path, backbone: Path, capfd: pytest.CaptureFixture) -> Command:
    return Command(prepared, backbone, capfd)


@pytest.fixture
def older_run(tmp_path: Path) -> Path:
    """Something that stands where the run will go."""
    folder = tmp_path / "runs" / "mine"
    (folder / "documented").mkdir(parents=True)
    (folder / "config.json").write_text('{"run_version": 1}\n')
    (folder / "summary.json").write_text('{"steps": 7}\n')
    (folder / "documented" / "head.safetensors").write_bytes(b"older weights")
    return folder


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones too, with a hash of what it holds."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def metrics_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def row_lengths(data: PIITokenDataset) -> list[int]:
    return np.diff(data.split.example_offsets).tolist()


# the loop against the plain recipe


def plain_windows(row_lengths: list[int], max_length: int) -> list[tuple[int, int, int, int]]:
    """(row, start, stop, scored from), all within the row, as the documentation words it."""
    windows = []
    for row, length in enumerate(row_lengths):
        scored = 0
        while scored < length:
            start = 0 if scored == 0 else scored - max_length // 4
            stop = min(start + max_length, length)
            start = max(0, min(start, length - max_length))  # the last one is moved left until it is full
            windows.append((row, start, stop, scored))
            scored = stop
    return windows


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
    windows = plain_windows(row_lengths(data), MAX_LENGTH)
    log = []
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(windows)).tolist()
        while order:
            step, order = order[:36], order[36:]
            scored = sum(windows[i][2] - windows[i][3] for i in step)
            total = 0.0
            while step:
                batch, step = step[:12], step[12:]
                ids = torch.full((len(batch), 1 + MAX_LENGTH), PAD)
                labels = torch.full((len(batch), 1 + MAX_LENGTH), IGNORED)
                ids[:, 0] = BOS
                for place, i in enumerate(batch):
                    row, start, stop, scored_from = windows[i]
                    ids[place, 1 : 1 + stop - start] = data[row]["input_ids"][start:stop]
                    labels[place, 1 + scored_from - start : 1 + stop - start] = data[row]["labels"][scored_from:stop]
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


def test_training_equals_a_plain_loop_of_accumulated_batches(backbone, tmp_path):
    data = PIITokenDataset(write_prepared(tmp_path / "large", 280, "--validation-fraction", "0"), "train")
    windows = make_windows(data.split.example_offsets, MAX_LENGTH)
    learning_rate, epochs, seed = 1e-3, 3, 5
    torch.manual_seed(0)
    trained = model.MinistralTokenClassifier(str(backbone), data.num_labels, dropout=0.0, dtype=torch.float32)
    plain = copy.deepcopy(trained.classifier)
    before = plain.weight.detach().clone()
    arguments = train.parse_arguments(
        f"--batch-size 12 --gradient-accumulation-steps 3 --max-grad-norm 1 --max-length {MAX_LENGTH} --dropout 0 "
        f"--learning-rate {learning_rate} --epochs {epochs} --seed {seed}".split()
    )
    summary = train.train(trained, data, windows, arguments, tmp_path / "metrics.jsonl")
    log = plain_loop(plain, trained.backbone, data, learning_rate, epochs, seed)

    # what the comparison is worth: many steps, a partial one at each epoch's end, long rows, clipped and free gradients
    assert len(log) == summary["steps"] >= 50
    assert len(windows) % 36 and len(windows) > 16 * 36
    assert max(row_lengths(data)) > 3 * MAX_LENGTH
    assert any(norm > 1 for _, norm in log) and any(norm < 1 for _, norm in log)
    assert (plain.weight - before).abs().max() > 1e-2

    torch.testing.assert_close(trained.classifier.weight, plain.weight, rtol=0, atol=1e-6)
    torch.testing.assert_close(trained.classifier.bias, plain.bias, rtol=0, atol=1e-6)
    logged = [(record["loss"], record["gradient_norm"]) for record in metrics_of(tmp_path)]
    np.testing.assert_allclose(logged, log, rtol=1e-4)


def test_a_step_is_the_same_however_its_windows_are_split_into_batches(command, tmp_path):
    for name, batch_size, accumulated in (("one", 12, 3), ("two", 36, 1), ("three", 4, 9)):
        flags = {"batch_size": batch_size, "gradient_accumulation_steps": accumulated, "learning_rate": 0.01}
        assert command(tmp_path / name, dropout=0, **flags) == 0
    heads = [load_file(tmp_path / name / "documented/head.safetensors") for name in ("one", "two", "three")]
    assert len(metrics_of(tmp_path / "one")) > 1
    for head in heads[1:]:
        torch.testing.assert_close(head, heads[0], rtol=0, atol=1e-6)


# the run folder


def test_a_run_folder_holds_what_the_design_names_and_nothing_else(command, tmp_path):
    assert command(tmp_path / "runs" / "mine") == 0
    assert set(contents(tmp_path / "runs")) == {
        "mine/config.json",
        "mine/summary.json",
        "mine/metrics.jsonl",
        "mine/documented/head.safetensors",
    }


def test_every_step_is_one_line_of_metrics(command, prepared, tmp_path):
    assert command(tmp_path / "run", epochs=2, learning_rate=0.003) == 0
    records = metrics_of(tmp_path / "run")
    windows = len(plain_windows(row_lengths(PIITokenDataset(prepared, "train")), MAX_LENGTH))
    steps_an_epoch = -(-windows // 12)  # batches of 4, three a step
    assert [record["step"] for record in records] == list(range(1, 2 * steps_an_epoch + 1))
    assert [record["epoch"] for record in records] == [0] * steps_an_epoch + [1] * steps_an_epoch
    assert {record["learning_rate"] for record in records} == {0.003}
    assert all(record["loss"] > 0 and record["gradient_norm"] > 0 for record in records)


def test_a_run_can_be_loaded_and_remembers_how_it_was_made(command, prepared, backbone, tmp_path):
    assert command(tmp_path / "run", seed=3, learning_rate=0.01) == 0
    loaded, config = model.load_run(tmp_path / "run", torch.device("cpu"))
    meta = json.loads((prepared / "meta.json").read_text())
    assert config["labels"] == meta["labels"] == ["O", "FIRSTNAME", "LASTNAME", "PIN"]
    assert config["tokenizer"] == meta["tokenizer"]
    assert config["backbone"]["name"] == str(backbone)
    assert config["max_length"] == MAX_LENGTH and config["seed"] == 3
    assert config["flags"]["learning_rate"] == 0.01 and config["flags"]["batch_size"] == 4
    assert config["versions"]["torch"] == torch.__version__
    saved = load_file(tmp_path / "run" / "documented/head.safetensors")
    assert torch.equal(loaded.classifier.weight, saved["weight"])


def test_every_token_is_scored_exactly_once_an_epoch(command, prepared, tmp_path, monkeypatch):
    seen, step = [], train.optimizer_step

    def spy(model, optimizer, features, labels, *others):
        assert len(features) == len(labels)
        seen.append(labels)
        return step(model, optimizer, features, labels, *others)

    monkeypatch.setattr(train, "optimizer_step", spy)
    assert command(tmp_path / "run", epochs=2) == 0
    labels = np.load(prepared / "train/label_ids.npy")
    assert torch.cat(seen).bincount().tolist() == (2 * np.bincount(labels)).tolist()
    assert json.loads((tmp_path / "run/summary.json").read_text())["tokens"] == 2 * len(labels)


def test_the_summary_counts_tokens_without_a_progress_bar_too(command, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "tqdm", partial(tqdm, disable=True))  # as TQDM_DISABLE=1 does
    assert command(tmp_path / "run") == 0
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["tokens"] == len(np.load(prepared / "train/token_ids.npy"))


def test_the_summary_agrees_with_the_data_and_the_metrics(command, prepared, tmp_path):
    assert command(tmp_path / "run") == 0
    summary, records = json.loads((tmp_path / "run/summary.json").read_text()), metrics_of(tmp_path / "run")
    data = PIITokenDataset(prepared, "train")
    assert summary["examples"] == len(data)
    assert summary["windows"] == len(plain_windows(row_lengths(data), MAX_LENGTH)) > len(data)
    assert (summary["steps"], summary["final_loss"]) == (records[-1]["step"], records[-1]["loss"])


def test_the_same_command_gives_the_same_bytes_and_another_seed_others(command, tmp_path):
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        assert command(tmp_path / name, seed=seed, epochs=2) == 0
    first, again, other = (contents(tmp_path / name) for name in ("first", "again", "other"))
    for name in ("documented/head.safetensors", "metrics.jsonl"):
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
    assert [path.name for path in older_run.parent.iterdir()] == ["mine"]


def test_no_text_of_a_row_is_printed_or_written(command, prepared, copied_backbone, tmp_path):
    assert any(CANARY in text for text in PIITokenDataset(prepared, "train").to_dict()["texts"])
    assert command(tmp_path / "runs/good") == 0
    printed = [command.out + command.err]
    with_weights(copied_backbone, lambda weights: weights["norm.weight"].fill_(float("nan")))
    assert command(tmp_path / "runs/bad", backbone=copied_backbone) == 1
    printed.append(command.out + command.err)
    written = [path.read_bytes().decode("utf-8", "replace") for path in (tmp_path / "runs").rglob("*.json*")]
    assert len(written) == 3
    for text in printed + written:
        assert CANARY not in text and CANARY[:5] not in text and "parcel" not in text


# numbers that are not finite


def test_a_broken_weight_stops_at_the_step_that_meets_it(command, prepared, copied_backbone, older_run):
    data = PIITokenDataset(prepared, "train")
    windows = plain_windows(row_lengths(data), MAX_LENGTH)
    order = np.random.default_rng([0, 0]).permutation(len(windows)).tolist()
    steps = [order[i : i + 12] for i in range(0, len(order), 12)]
    holders_of = {}  # token id → the windows that hold it
    for number, (row, start, stop, _) in enumerate(windows):
        for token in data[row]["input_ids"][start:stop].tolist():
            holders_of.setdefault(token, set()).add(number)
    token, step = next(
        (token, step)
        for token, holders in holders_of.items()
        for step in range(2, len(steps))
        if holders <= set(steps[step])
    )
    with_weights(copied_backbone, lambda weights: weights["embed_tokens.weight"][token].fill_(float("nan")))

    before = contents(older_run.parent)
    assert command(older_run, backbone=copied_backbone) == 1
    message = command.error()
    assert re.search(rf"\bstep {step + 1}\b", message)
    named = re.search(r"rows ((?:\d+ ?)+)", message).group(1).split()
    assert set(map(int, named)) == {windows[i][0] for i in steps[step]}
    assert contents(older_run.parent) == before
    assert [path.name for path in older_run.parent.iterdir()] == ["mine"]


def test_a_nan_in_all_features_names_the_backbone_and_writes_nothing(command, copied_backbone, tmp_path):
    with_weights(copied_backbone, lambda weights: weights["norm.weight"].fill_(float("nan")))
    assert command(tmp_path / "runs/mine", backbone=copied_backbone) == 1
    assert "step 1" in command.error() and "backbone" in command.error()
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize("steps", [2, 3, 8])
def test_an_absurd_learning_rate_stops_and_writes_nothing(command, prepared, older_run, steps):
    windows = len(plain_windows(row_lengths(PIITokenDataset(prepared, "train")), MAX_LENGTH))
    before = contents(older_run.parent)
    assert command(older_run, learning_rate=1e30, batch_size=-(-windows // (3 * steps))) == 1
    assert re.search(r"\bstep \d+\b.*\brows \d+\b", command.error()) and "--learning-rate" in command.error()
    assert contents(older_run.parent) == before
    assert [path.name for path in older_run.parent.iterdir()] == ["mine"]


# interruption


@pytest.mark.parametrize("moment", ["optimizer_step", "scored_features", "save_head", "run_config"])
def test_ctrl_c_leaves_an_older_run_whole_and_no_temporary_folder(command, older_run, monkeypatch, moment):
    original = getattr(train, moment)

    def interrupted(*arguments):
        result = original(*arguments)
        signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(train, moment, interrupted)
    before = contents(older_run.parent)
    assert command(older_run) == 130
    assert "interrupted" in command.error()
    assert contents(older_run.parent) == before
    assert [path.name for path in older_run.parent.iterdir()] == ["mine"]


def test_ctrl_c_while_the_new_run_takes_the_older_ones_place_leaves_one_of_them_whole(command, older_run, monkeypatch):
    rename = Path.rename

    def interrupted(self, target):
        if self.name == "new":
            signal.raise_signal(signal.SIGINT)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    before = contents(older_run.parent)
    assert command(older_run) == 130
    assert contents(older_run.parent) == before
    assert [path.name for path in older_run.parent.iterdir()] == ["mine"]


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
