"""The frozen backbone, the head on it, and how a run is saved and loaded: promises of model.py."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_backbone import BOS, TOKENIZER, Bomb, run_python, save_tiny_backbone, some_ids

import model
from common import UserError
from dataset import make_windows
from model import MinistralTokenClassifier

NUM_LABELS = 5


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_backbone(tmp_path_factory.mktemp("model") / "backbone")


@pytest.fixture
def classifier(backbone: Path) -> MinistralTokenClassifier:
    """In float32 and eval mode, so that results can be compared closely."""
    torch.manual_seed(1)
    return MinistralTokenClassifier(str(backbone), NUM_LABELS, dtype=torch.float32).eval()


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


def test_a_pickle_in_the_place_of_a_head_is_refused_unread(classifier, backbone, tmp_path):
    run = write_run(tmp_path / "run", classifier, backbone)
    (run / model.DOCUMENTED / "head.safetensors").write_bytes(pickle.dumps(Bomb(tmp_path / "trace")))
    with pytest.raises(UserError):
        model.load_run(run, torch.device("cpu"))
    assert not (tmp_path / "trace").exists()


def test_loading_a_run_names_what_is_wrong_with_it(classifier, backbone, tmp_path):
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
    marked = save_tiny_backbone(tmp_path / "marked")
    (marked / "standin.json").write_text(json.dumps({"tokenizer": {"sha256": "b" * 64}}))
    assert "standin.py" in refusal(write_run(tmp_path / "built-for-another", classifier, marked))


# imports


def test_training_and_evaluation_import_no_tokenizer_of_mistral():
    result = run_python("import sys, model, train, evaluate; print('mistral_common' in sys.modules)")
    assert (result.returncode, result.stdout.strip()) == (0, "False"), result.stderr
