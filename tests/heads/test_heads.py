"""The heads, each compared with a plain computation of one window at a time: promises of heads.py."""

import itertools

import pytest
import torch
from torch import nn

from pii.heads.heads import BIO, DOCUMENTED, KINDS, PLAIN, STRONG, DocumentedHead, StrongHead, build_head

WIDTH, LABELS = 6, 4


def head_of(kind: str, dropout: float = 0.3) -> nn.Module:
    """In eval mode, always the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = build_head(kind, WIDTH, LABELS, dropout)
        head.standardise(torch.randn(WIDTH), torch.rand(WIDTH) + 0.5)
    return head.eval()


def features_of(lengths: list[int], seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(sum(lengths), WIDTH, generator=torch.Generator().manual_seed(seed)).to(dtype)


@torch.no_grad()
def by_hand(head: StrongHead, features: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """Each window alone: standardise, project, torch's own GRU, classify."""
    rows = []
    for window in features.split(lengths):
        hidden = (window.float() - head.mean) / head.deviation
        hidden = hidden @ head.project.weight.T + head.project.bias
        hidden, _ = head.gru(hidden[None])
        rows.append(hidden[0] @ head.classifier.weight.T + head.classifier.bias)
    return torch.cat(rows)


@pytest.mark.parametrize(("kind", "scheme", "tags"), [(DOCUMENTED, PLAIN, LABELS), (STRONG, BIO, 2 * LABELS - 1)])
def test_logits_are_float32_and_one_a_tag_of_the_heads_scheme(kind, scheme, tags):
    head = head_of(kind)
    assert isinstance(head, KINDS[kind]) and (head.tags, head.num_tags) == (scheme, tags)
    for dtype in (torch.float32, torch.bfloat16):
        logits = head(features_of([3, 1], dtype=dtype), torch.tensor([3, 1]))
        assert logits.shape == (4, tags) and logits.dtype == torch.float32


def test_the_documented_head_is_dropout_and_one_linear_layer():
    head, features = head_of(DOCUMENTED), features_of([5])
    assert {name: tuple(p.shape) for name, p in head.named_parameters()} == {
        "weight": (LABELS, WIDTH),
        "bias": (LABELS,),
    }
    assert not list(head.buffers()) and {p.dtype for p in head.parameters()} == {torch.float32}
    torch.testing.assert_close(head(features), features @ head.weight.T + head.bias)
    head.train()
    torch.manual_seed(1)
    found = head(features)
    torch.manual_seed(1)
    kept = torch.nn.functional.dropout(features, 0.3)
    assert (kept == 0).any()
    torch.testing.assert_close(found, kept @ head.weight.T + head.bias)


@pytest.mark.parametrize("lengths", [[1], [4], [1, 1, 1], [3, 7, 1, 7, 2]], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_strong_head_equals_a_plain_computation_of_each_window_alone(lengths, dtype):
    head, features = head_of(STRONG), features_of(lengths, dtype=dtype)
    found = head(features, torch.tensor(lengths))
    torch.testing.assert_close(found, by_hand(head, features, lengths), rtol=0, atol=1e-5)


def test_what_stands_beside_a_window_and_in_which_order_changes_nothing():
    head, lengths = head_of(STRONG), [5, 2, 8]
    windows = features_of(lengths).split(lengths)
    alone = [head(window, torch.tensor([len(window)])) for window in windows]
    for order in itertools.permutations(range(3)):
        together = head(torch.cat([windows[i] for i in order]), torch.tensor([lengths[i] for i in order]))
        torch.testing.assert_close(together, torch.cat([alone[i] for i in order]), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("kind", "looks_ahead"), [(DOCUMENTED, False), (STRONG, True)])
def test_only_the_strong_head_sees_the_tokens_around_a_token(kind, looks_ahead):
    head, features = head_of(kind), features_of([6])
    for changed, seen_from in ((5, 0), (0, 5)):
        other = features.clone()
        other[changed] += 3
        moved = (head(other, torch.tensor([6])) - head(features, torch.tensor([6])))[seen_from].abs().max()
        assert (moved > 1e-4) == looks_ahead and (looks_ahead or moved == 0)


@pytest.mark.parametrize("kind", KINDS)
def test_randomness_acts_in_training_mode_only(kind):
    head, features, lengths = head_of(kind), features_of([4, 3]), torch.tensor([4, 3])
    assert torch.equal(head(features, lengths), head(features, lengths))
    head.train()
    assert not torch.equal(head(features, lengths), head(features, lengths))
    head.dropout = 0.0
    assert torch.equal(head(features, lengths), head(features, lengths))


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_comes_back_from_its_state_dict(kind):
    head, features, lengths = head_of(kind), features_of([4, 3]), torch.tensor([4, 3])
    other = build_head(kind, WIDTH, LABELS).eval()
    assert not torch.equal(other(features, lengths), head(features, lengths))
    other.load_state_dict({name: tensor.clone() for name, tensor in head.state_dict().items()})
    assert torch.equal(other(features, lengths), head(features, lengths))
    with pytest.raises(RuntimeError):
        build_head(kind, WIDTH, LABELS + 1).load_state_dict(head.state_dict())


def test_standardising_makes_the_scale_of_a_feature_irrelevant_to_the_strong_head_alone():
    features, lengths = features_of([9, 4]), torch.tensor([9, 4])
    large = features * torch.tensor([1, 100, 1, 1e3, 1, 1]) + 50
    for kind in KINDS:
        head = head_of(kind)
        found = []
        for each in (features, large):
            head.standardise(each.mean(dim=0), each.std(dim=0))
            found.append(head(each, lengths))
        if kind == STRONG:
            torch.testing.assert_close(*found, rtol=0, atol=1e-3)
        else:
            assert not torch.allclose(*found, rtol=0, atol=1.0)


def test_a_feature_that_never_changes_is_standardised_to_finite_numbers():
    head, features = head_of(STRONG), features_of([5])
    features[:, 2] = 7.0
    head.standardise(features.mean(dim=0), features.std(dim=0))
    assert head(features, torch.tensor([5])).isfinite().all()


def test_gradients_reach_every_parameter():
    lengths = torch.tensor([4, 3])
    for kind in KINDS:
        head = head_of(kind).train()
        head.loss(head(features_of([4, 3]), lengths), torch.tensor([1, 2, 0, 3, 3, 1, 2]), lengths).backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())
    assert not DocumentedHead(WIDTH, LABELS)(features_of([0]), torch.tensor([], dtype=torch.int64)).numel()
