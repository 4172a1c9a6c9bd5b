"""One matrix where several stand: promises of joint.py."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    MistralConfig,
    MistralModel,
    Qwen2Config,
    Qwen2Model,
    Qwen3Config,
    Qwen3Model,
)

from pii.decoder import joint
from pii.decoder.backbone import load_backbone
from pii.decoder.joint import Columns, join_projections, separate_projections
from pii.decoder.source import weight_checksums
from pii.decoder.states import compile_layers, hidden_states
from tests.decoder.test_backbone import BOS, TINY, loaded, save_tiny, some_ids

KINDS = {
    "mistral": (MistralModel, MistralConfig(**TINY)),
    "llama": (LlamaModel, LlamaConfig(**TINY)),
    "llama with biases": (LlamaModel, LlamaConfig(**TINY, attention_bias=True, mlp_bias=True)),
    "qwen2": (Qwen2Model, Qwen2Config(**TINY)),  # its attention has biases, its MLP none
    "qwen3": (Qwen3Model, Qwen3Config(**TINY)),  # norms queries and keys
}


@pytest.fixture(params=KINDS)
def pair(request, tmp_path) -> tuple[nn.Module, nn.Module]:
    """A backbone of each kind with random weights and biases: as transformers has it, and joined."""
    made, config = KINDS[request.param]
    plain = load_backbone(str(save_tiny(made, config, tmp_path)), torch.float32)
    for name, parameter in plain.named_parameters():
        if name.endswith("bias"):
            parameter.uniform_(-1, 1)
    joined = copy.deepcopy(plain)
    join_projections(joined, joined.config.model_type)
    return plain, joined


def both(first: nn.Module, second: nn.Module, ids: torch.Tensor) -> list[torch.Tensor]:
    return [hidden_states(model, ids, [0, 1, 2], BOS) for model in (first, second)]


def test_joined_projections_give_the_same_hidden_states(pair):
    for shape in ((1, 1), (3, 9), (2, 40)):
        torch.testing.assert_close(*both(*pair, some_ids(*shape)), rtol=0, atol=1e-5)


def test_each_attention_and_each_mlp_has_one_matrix_for_its_input(pair):
    for layer in pair[1].layers:
        linears = [name for name, module in layer.named_modules() if isinstance(module, nn.Linear)]
        assert sorted(linears) == ["mlp.down_proj", "mlp.gate_up_proj", "self_attn.o_proj", "self_attn.qkv_proj"]


def test_each_part_still_shows_its_own_weights(pair):
    plain, joined = pair
    for path, module in plain.named_modules():
        if isinstance(module, nn.Linear):
            part = joined.get_submodule(path)
            assert torch.equal(part.weight, module.weight)
            assert part.bias is module.bias is None or torch.equal(part.bias, module.bias)


def test_joining_takes_no_memory_beside_the_joint_matrix(pair):
    plain, joined = pair
    assert sum(p.numel() for p in joined.parameters()) == sum(p.numel() for p in plain.parameters())
    assert not any(parameter.requires_grad for parameter in joined.parameters())
    part, whole = joined.layers[0].mlp.up_proj.weight, joined.layers[0].mlp.gate_up_proj.weight
    assert part.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()


def test_checksums_are_those_of_the_plain_weights(pair):
    plain, joined = pair
    assert weight_checksums(joined) == weight_checksums(plain)
    joined.layers[1].self_attn.v_proj.weight[0, 0] += 1
    assert weight_checksums(joined) != weight_checksums(plain)


def test_separated_again_all_is_as_it_was(pair):
    plain, joined = pair
    separate_projections(joined)
    expected, found = plain.state_dict(), joined.state_dict()
    assert list(found) == list(expected) and all(torch.equal(found[name], expected[name]) for name in expected)
    assert len({tensor.untyped_storage().data_ptr() for tensor in found.values()}) == len(found)
    assert torch.equal(*both(plain, joined, some_ids(3, 9)))
    assert not any(isinstance(module, Columns) for module in joined.modules())
    assert not any(layer.self_attn._forward_pre_hooks or layer.mlp._forward_pre_hooks for layer in joined.layers)


def test_a_copy_of_a_joined_backbone_is_on_its_own(pair):
    joined = pair[1]
    ids = some_ids(2, 5)
    copied, before = copy.deepcopy(joined), hidden_states(joined, ids, [2], BOS)
    for parameter in joined.parameters():
        parameter.zero_()
    assert torch.equal(hidden_states(copied, ids, [2], BOS), before)
    assert copied.layers[0].mlp.up_proj.weight.any()


def test_threads_share_a_joined_backbone(pair):
    joined = pair[1]
    batches = [some_ids(2, 3 + seed, seed=seed) for seed in range(24)]
    expected = [hidden_states(joined, ids, [1, 2], BOS) for ids in batches]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda ids: hidden_states(joined, ids, [1, 2], BOS), batches))
    assert all(map(torch.equal, found, expected))


def test_compiled_layers_compute_the_joint_product(pair):
    plain, joined = pair
    torch._dynamo.reset()
    compile_layers(joined, backend="aot_eager")
    for shape in ((2, 5), (3, 9), (1, 1)):
        torch.testing.assert_close(*both(plain, joined, some_ids(*shape)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("parts", [["q_proj"], ["k_proj", "v_proj"]])
def test_projections_of_which_some_have_a_bias_stay_as_they_are(pair, parts):
    plain = pair[0]
    attention = plain.layers[0].self_attn
    for name in ("q_proj", "k_proj", "v_proj"):
        part = getattr(attention, name)
        part.bias = nn.Parameter(torch.ones(part.out_features), requires_grad=False) if name in parts else None
    expected = hidden_states(plain, some_ids(2, 5), [2], BOS)
    join_projections(plain, plain.config.model_type)
    assert isinstance(attention.q_proj, nn.Linear)
    torch.testing.assert_close(hidden_states(plain, some_ids(2, 5), [2], BOS), expected, rtol=0, atol=1e-5)


def test_other_decoders_stay_as_they_are(tmp_path):
    config = GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, bos_token_id=BOS)
    made = load_backbone(str(save_tiny(GPT2Model, config, tmp_path)), torch.bfloat16)
    assert not any(isinstance(module, Columns) for module in made.modules())
    other = LlamaModel(LlamaConfig(**TINY))
    join_projections(other, "a class that nobody has looked at")
    assert not any(isinstance(module, Columns) for module in other.modules())


@pytest.mark.parametrize("kind", joint.MODEL_TYPES)
def test_attention_reads_its_input_through_its_projections_alone(kind):
    """Or what stands in its place would show: the joint product is of another size."""
    config = AutoConfig.for_model(kind, **(TINY | {"sliding_window": 8}))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = AutoModel.from_config(config).eval()
    joined = copy.deepcopy(plain)
    join_projections(joined, kind)
    assert isinstance(joined.layers[0].self_attn.q_proj, Columns)
    ids = some_ids(2, 6)
    with torch.no_grad():
        torch.testing.assert_close(joined(ids).last_hidden_state, plain(ids).last_hidden_state, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "precision", "joins"),
    [(torch.float32, "bf16", False), (torch.bfloat16, "bf16", True), (torch.float32, "fp8", True)],
)
def test_a_cpu_joins_where_it_gains(tmp_path, dtype, precision, joins):
    folder = save_tiny(MistralModel, MistralConfig(**TINY), tmp_path)
    made = loaded(folder, dtype, precision=precision)
    assert isinstance(made.layers[0].self_attn.k_proj, Columns) == joins
    assert isinstance(made.layers[0].mlp.up_proj, Columns) == joins
