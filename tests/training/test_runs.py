"""The run folder, how it is written and read: promises of runs.py."""

import functools
import hashlib
import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from pii.corpus.windows import make_windows
from pii.decoder.backbone import DEFAULT_BACKBONE, PINNED_REVISIONS, load_backbone
from pii.decoder.features import Reader
from pii.heads.heads import KINDS
from pii.heads.viterbi import Transitions
from pii.processes import Processes
from pii.training import run_config, runs
from pii.training.plans import Plan
from pii.training.trainer import HeadTrainer
from tests.decoder.test_backbone import TOKENIZER, VOCAB, Bomb, loaded, refusal, save_tiny_backbone, some_ids
from tests.test_train import contents

DEPTH, NUM_LABELS = 2, 5
TAGS = 2 * NUM_LABELS - 1
CPU = torch.device("cpu")
LABELS = ["O", *(f"L{i}" for i in range(1, NUM_LABELS))]
LAYERS = {"documented": [DEPTH], "strong": [0, 1]}


@pytest.fixture(scope="session")
def run_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_backbone(tmp_path_factory.mktemp("runs") / "backbone", num_hidden_layers=DEPTH)


@pytest.fixture
def copied_backbone(run_backbone: Path, tmp_path: Path) -> Path:
    """The backbone again, to be damaged."""
    return Path(shutil.copytree(run_backbone, tmp_path / "copied-backbone"))


def some_transitions() -> Transitions:
    random = np.random.default_rng(0)
    leave, enter, stay = random.normal(size=(3, TAGS)).astype(np.float32)
    enter[2::2] = stay[0] = -np.inf
    return Transitions(leave, enter, stay)


def make_trainer(kind: str, backbone: Path, name: str | None = None) -> HeadTrainer:
    plan = Plan(name or kind, kind, LAYERS[kind], 1e-3, epochs=1, steps=1, dropout=0.1, scheduled=kind == "strong")
    reader = Reader(loaded(backbone), sorted({*LAYERS["documented"], *LAYERS["strong"]}))
    trainer = HeadTrainer(plan, reader, NUM_LABELS, 0, 1.0, Processes(0, 1, CPU))
    if kind == "strong":
        size = trainer.head.mean.shape
        trainer.head.standardise(torch.linspace(-1, 1, *size), torch.linspace(0.5, 2, *size))
        for part, given in zip(trainer.head.transitions.parameters(), some_transitions(), strict=True):
            part.data = torch.from_numpy(given).nan_to_num(neginf=0.0)
    return trainer


def write_run(folder: Path, backbone: Path, kinds: tuple = ("documented", "strong"), **changes) -> Path:
    """A run folder as train.py leaves it, as far as it is read again."""
    heads = {}
    for kind in kinds:
        sha256 = runs.save_head(make_trainer(kind, backbone), folder / kind)
        heads[kind] = {"kind": kind, "layers": LAYERS[kind], "sha256": sha256, "calibration": None}
    config = {
        "run_version": run_config.RUN_VERSION,
        "backbone": {"name": str(backbone), "precision": "bf16"},
        "labels": LABELS,
        "tokenizer": TOKENIZER,
        "heads": heads,
        "best": kinds[0],
        "max_length": 8,
    }
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


def seal(run: Path) -> Path:
    """Give config.json the checksums of the heads as they are now, as someone would who made them so."""

    def change(config: dict) -> None:
        for name, head in config["heads"].items():
            head["sha256"] = hashlib.sha256((run / name / "head.safetensors").read_bytes()).hexdigest()

    return edit_config(run, change)


@pytest.fixture
def run(run_backbone: Path, tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", run_backbone)


def edit_config(run: Path, change: Callable[[dict], object]) -> Path:
    config = json.loads((run / "config.json").read_text())
    change(config)
    (run / "config.json").write_text(json.dumps(config))
    return run


# the backbone's revision


def test_a_hub_backbone_is_read_again_at_the_revision_that_training_read(run, run_backbone, monkeypatch):
    edit_config(run, lambda config: config["backbone"].update(revision="0123abc"))
    asked = []

    def spy(*arguments, revision, **options):
        asked.append(revision)
        return load_backbone(*arguments, **options)

    monkeypatch.setattr(runs, "load_backbone", spy)
    runs.load_run(run, CPU)
    runs.load_run(run, CPU, backbone=str(run_backbone))  # which may be another
    assert asked == ["0123abc", None]


def test_a_revision_reaches_the_hub_client_and_ministral_has_one_pinned(monkeypatch):
    asked = []

    def refuse(name, revision, **_):
        asked.append(revision)
        raise OSError

    monkeypatch.setattr(AutoConfig, "from_pretrained", refuse)
    for revision in ("0123abc", None):
        refusal(load_backbone, DEFAULT_BACKBONE, torch.float32, revision=revision)
    assert asked == ["0123abc", PINNED_REVISIONS[DEFAULT_BACKBONE]] and len(asked[1]) == 40


# saving


def test_a_head_is_saved_as_float32_tensors_and_nothing_else(run_backbone, tmp_path):
    trainer = make_trainer("documented", run_backbone)
    runs.save_head(trainer, tmp_path / "head")
    assert [path.name for path in (tmp_path / "head").rglob("*")] == ["head.safetensors"]
    saved = load_file(tmp_path / "head" / "head.safetensors")  # no pickle can be read as safetensors
    assert set(saved) == {"weight", "bias"}
    assert torch.equal(saved["weight"], trainer.head.weight) and saved["weight"].dtype == torch.float32
    assert torch.equal(saved["bias"], trainer.head.bias) and saved["bias"].dtype == torch.float32


def test_a_strong_head_is_saved_with_its_transitions(run_backbone, tmp_path):
    trainer = make_trainer("strong", run_backbone)
    runs.save_head(trainer, tmp_path / "head")
    saved = load_file(tmp_path / "head" / "head.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}
    for name, weight in trainer.head.state_dict().items():
        assert torch.equal(saved[name], weight)
    assert saved.keys() == trainer.head.state_dict().keys()
    for name, array in some_transitions()._asdict().items():
        possible = np.isfinite(array)
        assert saved[f"transitions.{name}"].numpy()[possible].tolist() == array[possible].tolist()


# loading


@pytest.mark.parametrize("kind", ["documented", "strong"])
def test_a_saved_head_scores_and_tags_the_same_when_it_is_loaded(run, run_backbone, kind):
    tagger, config = runs.load_run(run, CPU, kind)
    offsets = np.array([0, 5, 17, 20])
    ids, windows = some_ids(20).numpy().astype(np.uint32), make_windows(offsets, 8)
    trained = make_trainer(kind, run_backbone)
    states = Reader(loaded(run_backbone), LAYERS[kind])(ids, windows)
    with torch.no_grad():
        expected = trained.head.eval()(states, torch.from_numpy(windows.lengths)).log_softmax(dim=-1)
    own = torch.from_numpy(windows.scored_places())
    scores = tagger.scores(tagger.reader(ids, windows), windows)
    torch.testing.assert_close(torch.from_numpy(scores), expected[own], rtol=0, atol=1e-6)
    assert config["labels"] == LABELS and config["max_length"] == 8
    if kind == "strong":
        assert all(map(np.array_equal, tagger.transitions, some_transitions()))
    assert len(tagger.predict(ids, windows, offsets).label_ids) == 20
    assert not any(module.training for module in tagger.reader.backbone.modules())


def test_the_best_head_is_loaded_unless_another_is_asked_for(run):
    edit_config(run, lambda config: config.update(best="strong"))
    assert isinstance(runs.load_run(run, CPU)[0].head, KINDS["strong"])
    assert isinstance(runs.load_run(run, CPU, "documented")[0].head, KINDS["documented"])


def test_only_the_layers_that_the_head_reads_are_built(run):
    assert len(runs.load_run(run, CPU, "strong")[0].reader.backbone.layers) == 1
    assert len(runs.load_run(run, CPU, "documented")[0].reader.backbone.layers) == DEPTH


def test_a_backbone_that_has_moved_is_found_where_it_is_now(run_backbone, copied_backbone, tmp_path):
    run = write_run(tmp_path / "run", run_backbone)
    edit_config(run, lambda config: config["backbone"].update(name=str(tmp_path / "gone")))
    assert "gone" in refusal(runs.load_run, run, CPU)
    assert runs.load_run(run, CPU, backbone=str(copied_backbone))[0].reader.width == 32


def test_a_calibration_comes_back(run):
    edit_config(run, lambda config: config["heads"]["strong"].update(calibration=[0.5, -1.0]))
    assert runs.load_run(run, CPU, "strong")[0].calibration == [0.5, -1.0]
    assert runs.load_run(run, CPU, "documented")[0].calibration is None


# mistakes


def test_no_run_is_one_line_that_says_how_to_train_one(tmp_path):
    assert "train.py" in refusal(runs.load_run, tmp_path / "nowhere", CPU)


def test_a_head_that_a_run_has_not_is_one_line_that_names_those_it_has(run):
    message = refusal(runs.load_run, run, CPU, "nonsense")
    assert "nonsense" in message and "documented" in message and "strong" in message


@pytest.mark.parametrize("damaged", ["", "{", "[]", "{}", "null", "7", "[" * 10_000, '{"run_version": 99}', "\xff"])
def test_a_config_that_is_no_runs_is_one_line(run, damaged):
    (run / "config.json").write_bytes(damaged.encode("latin-1"))
    message = refusal(run_config.read_config, run)
    assert str(run / "config.json") in message and "train" in message


@pytest.mark.parametrize(
    "change",
    [
        {"run_version": 1},
        {"backbone": {"name": 7, "precision": "bf16"}},
        {"backbone": {"name": "x", "precision": "fp4"}},
        {"backbone": "x"},
        {"best": "nonsense"},
        {"heads": {}},
        {"heads": []},
        {"heads": {"documented": {}}},
        {"max_length": 0},
        {"max_length": "96"},
        {"tokenizer": {}},
        {"tokenizer": {"sha256": 1, "vocab_size": VOCAB}},
        {"labels": []},
        {"labels": ["O"]},
        {"labels": ["L1", "O"]},
        {"labels": ["O", "L1", "L1"]},
        {"labels": ["O", "L\x1b[2J"]},
        {"labels": ["O", 1]},
        {"labels": {"0": "O"}},
        {"labels": "OAB"},
        {"labels": ["O", *map(str, range(2**15))]},
        {"max_length": 2**31},
        {"max_length": True},
        {"backbone": {"name": "", "precision": "bf16"}},
        {"backbone": {"name": "\x1b[2J", "precision": "bf16"}},
        {"flags": "\ud800"},
        {"flags": functools.reduce(lambda inner, _: [inner], range(200), 1)},
    ],
)
def test_a_config_with_something_wrong_is_one_line(run, change):
    edit_config(run, lambda config: config.update(change))
    assert str(run / "config.json") in refusal(run_config.read_config, run)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "weak"},
        {"kind": "strong"},
        {"kind": ["documented"]},
        {"layers": []},
        {"layers": [-1]},
        {"layers": [1.0]},
        {"layers": [True]},
        {"layers": "1"},
        {"layers": 1},
        {"layers": [10**9]},
        {"layers": [0] * 1_000_000},
        {"layers": {"0": 1}},
        {"units": 0},
        {"units": 1.0},
        {"units": True},
        {"units": 10**9},
        {"calibration": [10**400, 1.0]},
        {"calibration": [1.0]},
        {"calibration": [1.0, 2.0, 3.0]},
        {"calibration": [1.0, "2"]},
        {"calibration": [1.0, float("nan")]},
        {"calibration": [float("inf"), 0.0]},
        {"calibration": "no"},
    ],
)
def test_an_entry_of_a_head_with_something_wrong_is_one_line(run, change):
    edit_config(run, lambda config: config["heads"]["documented"].update(change))
    assert str(run / "config.json") in refusal(run_config.read_config, run)


@pytest.mark.parametrize(
    "name",
    [
        "documented/../../elsewhere",
        "documented@/etc",
        "documented@..\\..",
        "documented@\0",
        "documented@\n",
        "documented@\x1b[2J",
        "../documented",
        "..",
        "/documented",
        "",
        ".",
        "documentedly",
    ],
)
def test_a_heads_name_cannot_lead_out_of_the_run_folder_or_onto_the_screen(run, run_backbone, name):
    write_run(run.parent / "elsewhere", run_backbone)

    def rename(config: dict) -> None:
        config["heads"] = {name: config["heads"]["documented"]}
        config["best"] = name

    edit_config(run, rename)
    assert str(run / "config.json") in refusal(runs.load_run, run, CPU)


@pytest.mark.parametrize("damage", ["cut", "gone", "empty", "folder"])
def test_a_damaged_head_is_one_line(run, damage):
    head = run / "documented" / "head.safetensors"
    if damage == "cut":
        head.write_bytes(head.read_bytes()[:-10])
    elif damage == "empty":
        head.write_bytes(b"")
    else:
        head.unlink()
        if damage == "folder":
            head.mkdir()
    assert str(head) in refusal(runs.load_run, run, CPU)


def test_a_pickle_in_the_place_of_a_head_is_refused_unread(run, tmp_path):
    (run / "documented" / "head.safetensors").write_bytes(pickle.dumps(Bomb(tmp_path / "trace")))
    seal(run)
    refusal(runs.load_run, run, CPU)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop("classifier.weight"),
        lambda tensors: tensors.pop("mean"),
        lambda tensors: tensors.update(extra=torch.zeros(1)),
        lambda tensors: tensors.update(mean=torch.zeros(3)),
        lambda tensors: tensors["project.weight"][0].fill_(float("nan")),
        lambda tensors: tensors["deviation"].fill_(float("inf")),
        lambda tensors: tensors.pop("transitions.stay"),
        lambda tensors: tensors.update({"transitions.stay": torch.zeros(TAGS - 1)}),
        lambda tensors: tensors.update({"transitions.stay": torch.zeros(TAGS, dtype=torch.bfloat16)}),
        lambda tensors: tensors["transitions.leave"][3:4].fill_(float("nan")),
        lambda tensors: tensors["transitions.leave"][3:4].fill_(-float("inf")),
        lambda tensors: tensors["transitions.stay"][3:4].fill_(float("inf")),
        lambda tensors: tensors["transitions.enter"][:1].fill_(-float("inf")),
        lambda tensors: tensors.update({"transitions.stay": tensors["transitions.stay"].to(torch.complex64)}),
        lambda tensors: tensors.update({"transitions.stay": tensors["transitions.stay"].double()}),
        lambda tensors: tensors.update(mean=tensors["mean"].to(torch.float8_e4m3fn)),
    ],
)
def test_weights_that_do_not_fit_or_are_no_numbers_are_one_line(run, change):
    head = run / "strong" / "head.safetensors"
    tensors = load_file(head)
    change(tensors)
    save_file(tensors, head)
    seal(run)
    assert str(head) in refusal(runs.load_run, run, CPU, "strong")


def test_a_head_that_is_not_the_one_of_its_config_is_refused(run, run_backbone):
    """As where files of two runs were mixed, or a copy broke off."""
    head = run / "documented" / "head.safetensors"
    torch.nn.init.zeros_((other := make_trainer("documented", run_backbone)).head.bias)
    sha256 = runs.save_head(other, head.parent)
    assert hashlib.sha256(head.read_bytes()).hexdigest() == sha256
    assert str(head) in refusal(runs.load_run, run, CPU)
    assert runs.load_run(seal(run), CPU)[0].head.bias.eq(0).all()


def test_a_run_without_checksums_is_refused_and_says_how_to_vouch_for_it(run):
    edit_config(run, lambda config: config["heads"]["documented"].pop("sha256"))
    message = refusal(runs.load_run, run, CPU, "documented")
    (sha256,) = re.findall("[0-9a-f]{64}", message)
    edit_config(run, lambda config: config["heads"]["documented"].update(sha256=sha256))
    assert runs.load_run(run, CPU, "documented")


def test_a_config_of_many_labels_allocates_nothing_that_the_head_does_not_hold(run, monkeypatch):
    """Counted in the numbers that modules are built with: 32,000 labels, thousands of features."""
    edit_config(run, lambda config: config.update(labels=["O", *map(str, range(32_000))]))
    config = run_config.read_config(run)
    built = []
    build = runs.build_head
    monkeypatch.setattr(
        runs, "build_head", lambda *arguments, **units: built.append(build(*arguments, **units)) or built[-1]
    )
    assert "head.safetensors" in refusal(runs.read_head, run, config, "documented", 100_000)
    assert all(weight.is_meta for weight in built[0].parameters())


@pytest.mark.parametrize(
    "name",
    ["config.json", "documented", "documented/head.safetensors", "operating_points.json", "resume.safetensors"],
)
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_link_that_leads_out_of_a_run_folder_or_a_pipe_is_refused(run, run_backbone, tmp_path, name, kind):
    runs.save_state(run, 0, [trainer := make_trainer("documented", run_backbone)], "mine")
    (run / "operating_points.json").write_text('{"documented": {"0.9": {"bias": 1.0}}}')
    (run / name).rename(tmp_path / "outside")
    if kind == "link":
        (run / name).symlink_to(tmp_path / "outside")
    else:
        os.mkfifo(run / name)

    def read_all() -> None:
        runs.load_run(run, CPU)
        run_config.stored_bias(run, "documented")
        runs.load_state(run, [trainer], "mine")

    assert name.partition("/")[0] in refusal(read_all)


def test_a_run_folder_may_be_a_link_itself(run, tmp_path):
    (tmp_path / "link").symlink_to(run, target_is_directory=True)
    assert runs.load_run(tmp_path / "link", CPU)


def test_a_head_of_other_labels_or_layers_is_one_line(run):
    edit_config(run, lambda config: config.update(labels=["O", "L1"]))
    for head in ("documented", "strong"):
        assert str(run / head / "head.safetensors") in refusal(runs.load_run, run, CPU, head)
    edit_config(run, lambda config: config.update(labels=LABELS))
    edit_config(run, lambda config: config["heads"]["strong"].update(layers=[1]))
    assert str(run / "strong" / "head.safetensors") in refusal(runs.load_run, run, CPU, "strong")
    edit_config(run, lambda config: config["heads"]["strong"].update(layers=[1, 7]))
    assert "7" in refusal(runs.load_run, run, CPU, "strong")


def test_a_backbone_of_another_tokenizer_is_one_line(run, copied_backbone):
    (copied_backbone / "standin.json").write_text(json.dumps({"tokenizer": {"sha256": "b" * 64}}))
    assert "standin.py" in refusal(runs.load_run, run, CPU, None, str(copied_backbone))
    edit_config(run, lambda config: config["tokenizer"].update(vocab_size=VOCAB + 1))
    assert str(VOCAB + 1) in refusal(runs.load_run, run, CPU)


# operating points


def test_a_stored_bias_comes_back_for_its_own_head(tmp_path):
    stored = {"strong": {"0.99": {"bias": 3}, "0.95": {"bias": 1.5}}, "documented": {"0.5": {"bias": 2}}}
    (tmp_path / "operating_points.json").write_text(json.dumps(stored))
    assert run_config.stored_bias(tmp_path, "documented") == 2.0
    assert run_config.stored_bias(tmp_path, "strong") == run_config.stored_bias(tmp_path, "strong", 0.95) == 1.5
    assert run_config.stored_bias(tmp_path, "strong", 0.99) == 3.0
    assert "0.99, 0.95" in refusal(run_config.stored_bias, tmp_path, "strong", 0.9)


@pytest.mark.parametrize(
    "held",
    [
        "[" * 150 + "]" * 150,
        None,
        "",
        "[]",
        "{}",
        '{"strong": {}}',
        '{"strong": 1}',
        '{"strong": {"0.9": 1}}',
        '{"strong": {"x": {"bias": 1}}}',
        '{"documented": {"0.9": {"bias": 1}}}',
    ],
)
def test_a_bias_that_was_not_stored_is_one_line_with_the_way_to_store_one(tmp_path, held):
    if held is not None:
        (tmp_path / "operating_points.json").write_text(held)
    assert "evaluate.py" in refusal(run_config.stored_bias, tmp_path, "strong")


@pytest.mark.parametrize(
    "bias", ["1e300", "-1001", "NaN", "Infinity", "-Infinity", "1e999", "null", '"x"', "[]", "1" + 400 * "0"]
)
def test_a_bias_that_is_no_number_is_refused(tmp_path, bias):
    """Else every token would be O, or none."""
    (tmp_path / "operating_points.json").write_text(f'{{"strong": {{"0.9": {{"bias": {bias}}}}}}}')
    assert "evaluate.py" in refusal(run_config.stored_bias, tmp_path, "strong")


# the state


def test_a_state_brings_heads_optimizers_and_logs_back_to_the_bit(run_backbone, tmp_path):
    def stepped(trainer: HeadTrainer, steps: int) -> HeadTrainer:
        for _ in range(steps):
            for i, parameter in enumerate(trainer.parameters):
                parameter.grad = torch.linspace(-1, 1 + i, parameter.numel()).view_as(parameter)
            trainer.optimizer.step()
            trainer.log.append([1 / 3, 2 / 7, 1e-5])
        return trainer

    saved = [stepped(make_trainer(kind, run_backbone), 3) for kind in LAYERS]
    runs.save_state(tmp_path / "output", 3, saved, "mine")
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["resume.safetensors"]
    found = [make_trainer(kind, run_backbone) for kind in LAYERS]
    assert runs.load_state(tmp_path / "output", found, "mine") == 3
    for trainer, other in zip(stepped(saved[0], 2).parameters, stepped(found[0], 2).parameters, strict=True):
        assert torch.equal(trainer, other)
    for trainer, other in zip(saved, found, strict=True):
        states = trainer.state(), other.state()
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
        assert trainer.log == other.log


def test_heads_whose_names_begin_alike_keep_their_own_states(run_backbone, tmp_path):
    names = ["documented@1e-4", "documented@1e-45"]
    saved = [make_trainer("documented", run_backbone, name) for name in names]
    for number, trainer in enumerate(saved, 1):
        torch.nn.init.constant_(trainer.head.weight, number)
    runs.save_state(tmp_path, 0, saved, "mine")
    found = [make_trainer("documented", run_backbone, name) for name in names]
    runs.load_state(tmp_path, found, "mine")
    assert [trainer.head.weight.unique().tolist() for trainer in found] == [[1.0], [2.0]]


def test_no_state_is_step_0_and_one_of_another_run_is_refused(run_backbone, tmp_path):
    trainer = make_trainer("documented", run_backbone)
    assert runs.load_state(tmp_path, [trainer], "mine") == 0
    runs.save_state(tmp_path, 7, [trainer], "another's")
    assert "--resume" in refusal(runs.load_state, tmp_path, [trainer], "mine")


STATE_FAULTS = {
    "a moment of another shape": lambda tensors: tensors.update({"documented/optimizer/0/exp_avg": torch.zeros(3)}),
    "a moment too many": lambda tensors: tensors.update({"documented/optimizer/0/more": torch.zeros(3)}),
    "a parameter too many": lambda tensors: tensors.update({"documented/optimizer/7/step": torch.zeros(())}),
    "a log of fewer steps": lambda tensors: tensors.update({"documented/log": torch.zeros(1, 3)}),
    "a log of other figures": lambda tensors: tensors.update({"documented/log": torch.zeros(2, 2)}),
    "a log that is none": lambda tensors: tensors.update({"documented/log": torch.zeros(())}),
}


@pytest.mark.parametrize("change", STATE_FAULTS.values(), ids=STATE_FAULTS)
def test_a_state_that_would_fail_at_the_next_step_is_refused(run_backbone, tmp_path, change):
    trainer = make_trainer("documented", run_backbone)
    for parameter in trainer.parameters:
        parameter.grad = torch.ones_like(parameter)
    trainer.optimizer.step()
    trainer.log = [[1.0, 1.0, 1e-3]] * 2
    runs.save_state(tmp_path, 2, [trainer], "mine")
    assert runs.load_state(tmp_path, [make_trainer("documented", run_backbone)], "mine") == 2
    tensors = load_file(tmp_path / "resume.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "resume.safetensors", metadata={"step": "2", "belongs_to": "mine"})
    found = make_trainer("documented", run_backbone)
    assert "resume.safetensors" in refusal(runs.load_state, tmp_path, [found], "mine")


@pytest.mark.parametrize("held", [None, "", "[]", "null", "{}", '{"belongs_to": "another"}', "[" * 100_000])
def test_a_run_is_complete_only_with_its_own_summary_and_no_state(tmp_path, held):
    if held is not None:
        (tmp_path / "summary.json").write_text(held)
    assert not runs.is_complete(tmp_path, "mine")
    (tmp_path / "summary.json").write_text('{"belongs_to": "mine"}')
    assert runs.is_complete(tmp_path, "mine")
    (tmp_path / "resume.safetensors").write_bytes(b"of a run that goes on")
    assert not runs.is_complete(tmp_path, "mine")


# the run folder


def test_other_processes_than_the_first_write_no_folder(tmp_path):
    with runs.run_folder(tmp_path / "run", Processes(1, 1, CPU)) as folder:
        assert folder == tmp_path / "run"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_else_is_refused_and_stays(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(runs.UserError, match="--output"), runs.run_folder(tmp_path, Processes(0, 1, CPU)):
        raise AssertionError("not reached")
    assert set(contents(tmp_path)) == {"precious.txt"}
