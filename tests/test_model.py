"""The frozen backbone, the head on it, and how a run is saved and loaded: promises of model.py."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import MistralConfig, MistralModel
from transformers.utils import logging

import model
from common import UserError
from dataset import make_windows
from model import MinistralTokenClassifier

ROOT = Path(__file__).parent.parent
BOS, NUM_LABELS, VOCAB = 1, 5, 300
TOKENIZER = {"name": "tekken-v3", "file": "tekken.json", "sha256": "a" * 64, "vocab_size": VOCAB}
TINY = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 64,
    "initializer_range": 0.2,  # large, so that a token's context weighs as much as the token
    "attention_dropout": 0.5,  # must never act: the backbone stays in eval mode
    "bos_token_id": BOS,
    "eos_token_id": 2,
    "pad_token_id": 11,
    "sliding_window": None,
}


def save_tiny_backbone(folder: Path, **changes) -> Path:
    """A random Mistral backbone in a folder, float32, always the same weights."""
    logging.disable_progress_bar()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        MistralModel(MistralConfig(**(TINY | changes))).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_backbone(tmp_path_factory.mktemp("model") / "backbone")


@pytest.fixture
def copied_backbone(backbone: Path, tmp_path: Path) -> Path:
    """The backbone again, to be damaged."""
    folder = tmp_path / "copied-backbone"
    folder.mkdir()
    for path in backbone.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def classifier(backbone: Path) -> MinistralTokenClassifier:
    """In float32 and eval mode, so that results can be compared closely."""
    torch.manual_seed(1)
    return MinistralTokenClassifier(str(backbone), NUM_LABELS, dtype=torch.float32).eval()


def some_ids(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(20, VOCAB, shape, generator=torch.Generator().manual_seed(seed))


# what is frozen and what trains


def test_the_backbone_is_bfloat16_unless_told_and_the_head_float32(backbone):
    made = MinistralTokenClassifier(str(backbone), NUM_LABELS)
    assert {p.dtype for p in made.backbone.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in made.classifier.parameters()} == {torch.float32}
    assert made(some_ids(1, 3))["logits"].dtype == torch.float32


def test_only_the_heads_weight_and_bias_can_train(backbone):
    made = MinistralTokenClassifier(str(backbone), NUM_LABELS)
    shapes = {name: tuple(p.shape) for name, p in made.named_parameters() if p.requires_grad}
    assert shapes == {"classifier.weight": (NUM_LABELS, 32), "classifier.bias": (NUM_LABELS,)}


def test_a_backward_pass_leaves_gradients_in_the_head_only(classifier):
    classifier.train()
    ids = some_ids(2, 4)
    classifier(ids, labels=ids % NUM_LABELS)["loss"].backward()
    assert {n for n, p in classifier.named_parameters() if p.grad is not None} == {
        "classifier.weight",
        "classifier.bias",
    }
    assert classifier.classifier.weight.grad.abs().sum() > 0


def test_train_reaches_the_dropout_but_never_the_backbone(classifier):
    ids = some_ids(2, 6)
    before = classifier.features(ids)
    assert classifier.train() is classifier
    assert classifier.training and classifier.dropout.training and classifier.classifier.training
    assert not any(module.training for module in classifier.backbone.modules())
    assert torch.equal(classifier.features(ids), before)  # attention_dropout is 0.5: it would show
    classifier.eval()
    assert not any(module.training for module in classifier.modules())


def test_dropout_acts_in_training_and_not_in_eval_mode(backbone):
    made = MinistralTokenClassifier(str(backbone), NUM_LABELS, dropout=0.5, dtype=torch.float32)
    ids = some_ids(2, 6)
    made.train()
    assert not torch.equal(made(ids)["logits"], made(ids)["logits"])
    made.eval()
    assert torch.equal(made(ids)["logits"], made(ids)["logits"])


# forward


def test_forward_gives_logits_and_with_labels_the_loss_too(classifier):
    ids = some_ids(3, 7)
    alone = classifier(ids)
    assert set(alone) == {"logits"}
    assert alone["logits"].shape == (3, 7, NUM_LABELS)
    both = classifier(ids, labels=ids % NUM_LABELS)
    assert set(both) == {"loss", "logits"}
    assert both["loss"].shape == ()
    assert torch.equal(both["logits"], alone["logits"])


def test_the_loss_is_the_mean_cross_entropy_of_the_labels_that_are_not_ignored(classifier):
    ids = some_ids(2, 5)
    labels = torch.tensor([[0, 1, -100, 4, -100], [2, -100, -100, 3, 1]])
    output = classifier(ids, labels=labels)
    losses = []
    for row, columns in zip(output["logits"].tolist(), labels.tolist(), strict=True):
        for logits, label in zip(row, columns, strict=True):
            if label != -100:
                losses.append(np.log(np.sum(np.exp(logits))) - logits[label])
    assert len(losses) == 6
    assert output["loss"].item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_bos_is_put_before_every_window_and_its_position_dropped(classifier):
    ids = some_ids(3, 6)
    features = classifier.features(ids)
    with torch.no_grad():
        by_hand = classifier.backbone(torch.cat([torch.full((3, 1), BOS), ids], dim=1)).last_hidden_state
        without = classifier.backbone(ids).last_hidden_state
    assert features.shape == (3, 6, 32)
    torch.testing.assert_close(features, by_hand[:, 1:], rtol=0, atol=1e-6)
    assert (features - without).abs().amax(dim=(1, 2)).min() > 0.01  # seen by every row


def test_the_backbones_own_bos_is_used_and_tekkens_where_it_names_none(tmp_path):
    assert MinistralTokenClassifier(str(save_tiny_backbone(tmp_path / "own", bos_token_id=7)), 2).bos_id == 7
    assert MinistralTokenClassifier(str(save_tiny_backbone(tmp_path / "zero", bos_token_id=0)), 2).bos_id == 0
    assert MinistralTokenClassifier(str(save_tiny_backbone(tmp_path / "none", bos_token_id=None)), 2).bos_id == BOS


@pytest.mark.parametrize("padding_id", [0, 11, 42])
@pytest.mark.parametrize("with_mask", [False, True])
def test_padding_on_the_right_changes_no_real_tokens_logits(classifier, padding_id, with_mask):
    lengths = [9, 1, 4]
    rows = [some_ids(length, seed=i) for i, length in enumerate(lengths)]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding_id)
    mask = torch.tensor([[int(i < length) for i in range(9)] for length in lengths]) if with_mask else None
    together = classifier(padded, attention_mask=mask)["logits"]
    for row, logits in zip(rows, together, strict=True):
        alone = classifier(row[None])["logits"][0]
        torch.testing.assert_close(logits[: len(row)], alone, rtol=0, atol=1e-5)


def test_a_tokens_logits_depend_on_its_left_context_only(classifier):
    ids = some_ids(1, 8)
    changed = ids.clone()
    changed[0, 4] = 3
    distance = (classifier(ids)["logits"] - classifier(changed)["logits"]).abs().amax(dim=2)[0]
    assert distance[:4].max() < 1e-5
    assert distance[4:].min() > 1e-3


# features of many windows


@pytest.mark.parametrize("token_budget", [1, 20, 4096])
def test_scored_features_equal_a_plain_loop_over_single_windows(classifier, monkeypatch, token_budget):
    monkeypatch.setitem(model.TOKENS_PER_FORWARD, "cpu", token_budget)
    lengths = [3, 30, 8, 1, 17, 8, 9]  # rows of 30, 17 and 9 tokens are longer than a window
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    token_ids = some_ids(sum(lengths)).numpy().astype(np.uint32)
    windows = make_windows(offsets, max_length=8)
    assert len(windows) > len(lengths) + 3
    chosen = np.random.default_rng(0).permutation(len(windows))[:-1]

    expected = []
    for window in chosen:
        start, scored_from, stop = (int(a[window]) for a in (windows.start, windows.scored_from, windows.stop))
        ids = torch.tensor([[BOS, *token_ids[start:stop].tolist()]])
        with torch.no_grad():
            expected.append(classifier.backbone(ids).last_hidden_state[0, 1 + scored_from - start :])
    expected = torch.cat(expected)

    heard = []
    features = model.scored_features(classifier, token_ids, windows, chosen, heard.append)
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-5)
    assert sum(heard) == len(expected)


def test_scored_features_come_in_the_backbones_precision(backbone):
    made = MinistralTokenClassifier(str(backbone), NUM_LABELS)
    windows = make_windows(np.array([0, 4]), max_length=8)
    features = model.scored_features(made, np.arange(20, 24, dtype=np.uint32), windows, np.array([0]))
    assert features.dtype == torch.bfloat16 and features.shape == (4, 32)


# saving and loading


def write_run(folder: Path, trained: MinistralTokenClassifier, backbone: Path, **changes) -> Path:
    """A run folder as train.py leaves it, as far as load_run reads it."""
    model.save_head(trained, folder / model.DOCUMENTED)
    config = {
        "run_version": model.RUN_VERSION,
        "backbone": {"name": str(backbone)},
        "labels": ["O", *(f"L{i}" for i in range(1, NUM_LABELS))],
        "tokenizer": TOKENIZER,
        "heads": {model.DOCUMENTED: {}},
        "max_length": 96,
    }
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


def test_a_saved_head_gives_identical_logits_when_it_is_loaded(classifier, backbone, tmp_path):
    run = write_run(tmp_path / "run", classifier, backbone)
    loaded, config = model.load_run(run, torch.device("cpu"))
    ids = some_ids(4, 9)
    assert torch.equal(loaded(ids)["logits"], classifier(ids)["logits"])
    assert not any(module.training for module in loaded.modules())
    assert config["labels"] == ["O", "L1", "L2", "L3", "L4"]


def test_a_head_is_saved_as_float32_tensors_and_nothing_else(classifier, tmp_path):
    model.save_head(classifier, tmp_path / "head")
    assert [path.name for path in (tmp_path / "head").rglob("*")] == ["head.safetensors"]
    saved = load_file(tmp_path / "head" / "head.safetensors")  # no pickle can be read as safetensors
    assert set(saved) == {"weight", "bias"}
    assert torch.equal(saved["weight"], classifier.classifier.weight) and saved["weight"].dtype == torch.float32
    assert torch.equal(saved["bias"], classifier.classifier.bias) and saved["bias"].dtype == torch.float32


class Bomb:
    """Unpickling it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def test_a_pickle_in_the_place_of_a_head_is_refused_unread(classifier, backbone, tmp_path):
    run = write_run(tmp_path / "run", classifier, backbone)
    (run / model.DOCUMENTED / "head.safetensors").write_bytes(pickle.dumps(Bomb(tmp_path / "trace")))
    with pytest.raises(UserError):
        model.load_run(run, torch.device("cpu"))
    assert not (tmp_path / "trace").exists()


def test_a_pickle_in_the_place_of_a_backbones_weights_is_never_run(copied_backbone, tmp_path):
    (copied_backbone / "model.safetensors").unlink()
    torch.save({"norm.weight": Bomb(tmp_path / "trace")}, copied_backbone / "pytorch_model.bin")
    with pytest.raises(UserError):
        MinistralTokenClassifier(str(copied_backbone), NUM_LABELS)
    assert not (tmp_path / "trace").exists()


def test_loading_a_run_names_what_is_wrong_with_it(classifier, backbone, copied_backbone, tmp_path):
    def refusal(run: Path, head: str = model.DOCUMENTED) -> str:
        with pytest.raises(UserError) as caught:
            model.load_run(run, torch.device("cpu"), head)
        assert len(str(caught.value).splitlines()) == 1
        return str(caught.value)

    assert "train.py" in refusal(tmp_path / "nowhere")
    run = write_run(tmp_path / "run", classifier, backbone)
    assert model.DOCUMENTED in refusal(run, head="nonsense")

    head = run / model.DOCUMENTED / "head.safetensors"
    head.write_bytes(head.read_bytes()[:-10])
    assert str(head) in refusal(run)
    head.unlink()
    assert str(head) in refusal(run)

    other = write_run(tmp_path / "other", classifier, backbone, labels=["O", "L1"])  # a head of five labels
    assert str(other) in refusal(other)
    for damaged in ("", "{", "[]", "{}", json.dumps({"run_version": 99})):
        (other / "config.json").write_text(damaged)
        assert str(other) in refusal(other)

    moved = write_run(tmp_path / "moved", classifier, tmp_path / "no-backbone")
    assert "no-backbone" in refusal(moved)
    (copied_backbone / "standin.json").write_text(json.dumps({"tokenizer": {"sha256": "b" * 64}}))
    assert "standin.py" in refusal(write_run(tmp_path / "built-for-another", classifier, copied_backbone))


# the vocabulary


def test_a_backbone_that_reads_the_tokenizers_ids_is_accepted(classifier):
    model.check_vocabulary(classifier, TOKENIZER)
    model.check_vocabulary(classifier, TOKENIZER | {"vocab_size": VOCAB - 1})


def test_a_backbone_with_a_smaller_vocabulary_is_refused(classifier):
    with pytest.raises(UserError, match=rf"{VOCAB + 1}.*{VOCAB}"):
        model.check_vocabulary(classifier, TOKENIZER | {"vocab_size": VOCAB + 1})


def test_a_stand_in_is_accepted_for_its_own_tokenizer_file_and_refused_for_another(copied_backbone):
    (copied_backbone / "standin.json").write_text(json.dumps({"source": "x", "tokenizer": TOKENIZER}))
    made = MinistralTokenClassifier(str(copied_backbone), NUM_LABELS)
    model.check_vocabulary(made, TOKENIZER)
    with pytest.raises(UserError, match=r"standin\.py"):
        model.check_vocabulary(made, TOKENIZER | {"sha256": "b" * 64})


@pytest.mark.parametrize("damaged", ["", "{", "{}", "[]"])
def test_a_damaged_stand_in_mark_is_a_users_error(copied_backbone, damaged):
    (copied_backbone / "standin.json").write_text(damaged)
    made = MinistralTokenClassifier(str(copied_backbone), NUM_LABELS)
    with pytest.raises(UserError, match=r"standin\.py"):
        model.check_vocabulary(made, TOKENIZER)


# errors of the backbone


def remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def truncate_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def remove_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def remove_folder(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


@pytest.mark.parametrize("damage", [remove_weights, truncate_weights, remove_config, remove_folder])
def test_a_backbone_that_cannot_be_loaded_is_one_line_with_the_way_out(copied_backbone, damage):
    damage(copied_backbone)
    with pytest.raises(UserError) as caught:
        MinistralTokenClassifier(str(copied_backbone), NUM_LABELS)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert str(copied_backbone) in message
    assert "--backbone" in message or "https://huggingface.co/" in message


def test_a_backbone_that_lacks_some_of_its_weights_is_refused(copied_backbone):
    """Else transformers fills them with random numbers, other ones in each process."""
    path = copied_backbone / "model.safetensors"
    weights = load_file(path)
    del weights["layers.1.mlp.up_proj.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(UserError):
        MinistralTokenClassifier(str(copied_backbone), NUM_LABELS)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | environment
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def test_offline_a_backbone_of_the_hub_is_one_line_with_its_licence_page(tmp_path):
    code = "import common, model; common.run(lambda: model.MinistralTokenClassifier())"
    result = run_python(code, HF_HOME=str(tmp_path))
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert f"https://huggingface.co/{model.DEFAULT_BACKBONE}" in result.stderr and "--backbone" in result.stderr


def test_training_and_evaluation_import_no_tokenizer_of_mistral():
    result = run_python("import sys, model, train, evaluate; print('mistral_common' in sys.modules)")
    assert (result.returncode, result.stdout.strip()) == (0, "False"), result.stderr


# devices


def test_the_cpu_is_a_device_and_auto_is_one():
    assert model.choose_device("cpu") == torch.device("cpu")
    model.choose_device("auto")


@pytest.mark.parametrize("name", ["nonsense", "", "cuda:999", "cpu:-1", "meta"])
def test_a_device_that_cannot_be_used_is_one_line_with_the_way_out(name):
    with pytest.raises(UserError, match="--device cpu") as caught:
        model.choose_device(name)
    assert len(str(caught.value).splitlines()) == 1


def test_on_a_cpu_the_backbone_computes_in_float32_and_elsewhere_in_bfloat16():
    assert model.backbone_dtype(torch.device("cpu")) == torch.float32
    assert model.backbone_dtype(torch.device("cuda")) == torch.bfloat16
