"""The frozen backbone and the head on it: promises of model.py."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model import MinistralTokenClassifier
from tests.decoder.test_backbone import BOS, run_python, save_tiny_backbone, some_ids

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


# imports


def test_what_works_on_prepared_data_imports_no_tokenizer_of_mistral():
    result = run_python(
        "import sys, model, train, evaluate, bench, pii.training.compare; print('mistral_common' in sys.modules)"
    )
    assert (result.returncode, result.stdout.strip()) == (0, "False"), result.stderr
