"""The engine on each device that is there, held against the plain ways on the CPU."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import train
from pii.decoder.backbone import load_backbone
from pii.decoder.features import Cache, Reader
from pii.heads.heads import DOCUMENTED, KINDS, STRONG
from tests.decoder.test_backbone import save_tiny_backbone, some_ids
from tests.decoder.test_features import plain_features, some_windows
from tests.heads import test_crf, test_heads
from tests.test_train import Command

CPU = torch.device("cpu")
LENGTHS = [9, 1, 30, 4]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_heads_logits_loss_and_gradients_are_those_of_the_cpu(device, kind, dtype):
    lengths, found = torch.tensor(LENGTHS), []
    tags = torch.arange(sum(LENGTHS)) % test_heads.LABELS
    for place in (CPU, device):
        head = test_heads.head_of(kind, dropout=0.0).to(place).train()
        logits = head(test_heads.features_of(LENGTHS, dtype=dtype).to(place), lengths)
        head.loss(logits, tags.to(place), lengths).backward()
        assert logits.device.type == place.type
        found.append([logits, *(parameter.grad for parameter in head.parameters())])
    for own, cpus in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(own.cpu(), cpus, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("spread", [0.5, 8.0])
def test_a_crfs_loss_and_gradients_are_those_of_the_textbook(device, spread):
    counts, num_tags, generator = [96, 1, 40], 21, torch.Generator().manual_seed(1)
    scores = (spread * torch.randn(sum(counts), num_tags, generator=generator)).requires_grad_()
    tags, crf = test_crf.legal_tags(counts, num_tags, generator), test_crf.crf_of(num_tags, spread=2.0)
    expected = test_crf.loss_by_textbook(crf, scores, tags, counts)
    gradients = test_crf.gradients(expected, crf, scores)
    crf, scores = crf.to(device), scores.detach().to(device).requires_grad_()
    found = crf.loss(scores, tags.to(device), torch.tensor(counts))
    torch.testing.assert_close(found.cpu().double(), expected, rtol=1e-5, atol=1e-3)
    for own, textbooks in zip(test_crf.gradients(found, crf, scores), gradients, strict=True):
        torch.testing.assert_close(own.cpu(), textbooks, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("on_disk", [False, True])
def test_features_are_those_of_a_plain_loop_on_the_cpu_and_come_back_from_a_cache(device, tmp_path, on_disk):
    folder, windows = save_tiny_backbone(tmp_path / "backbone", num_hidden_layers=3), some_windows()
    token_ids = some_ids(int(windows.stop.max())).numpy().astype(np.uint32)
    expected = plain_features(load_backbone(str(folder), torch.float32), token_ids, windows, [1, 3])
    found = Reader(load_backbone(str(folder), torch.float32, device=device), [1, 3])(token_ids, windows)
    assert found.device.type == device.type
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-4)
    cache = Cache(windows, found.shape[1], found.dtype, tmp_path if on_disk else None)
    cache.write(np.arange(len(windows)), found)
    assert torch.equal(cache.read(np.arange(len(windows)), device), found)


def test_a_training_learns_what_it_learns_on_the_cpu_and_predicts(
    device, prepared: Path, backbone: Path, tmp_path: Path
):
    from predict import Redactor

    command, losses = Command(prepared, backbone, None), {}
    heads = {"heads": [DOCUMENTED, STRONG], "strong_epochs": 2, "dropout": 0, "strong_dropout": 0}
    for place in {CPU, device}:
        output = tmp_path / place.type
        train.main(command.arguments(output, device=place.type, **heads))
        summary = json.loads((output / "summary.json").read_text())
        losses[place] = [head["final_loss"] for head in summary["heads"].values()]
    assert losses[device] == pytest.approx(losses[CPU], rel=0.05)  # a GPU reads in bfloat16
    redactor = Redactor(tmp_path / device.type, head=STRONG, device=device.type)
    redacted = list(redactor.redact(["Write to anna@example.org, or call Anna Larsen.", ""]))
    assert len(redacted) == 2 and redacted[1] == ""
