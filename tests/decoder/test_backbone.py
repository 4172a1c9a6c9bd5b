"""The frozen decoder, its precisions and its hidden states: promises of backbone.py."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    MistralConfig,
    MistralModel,
    Qwen2Config,
    Qwen2Model,
)
from transformers.utils import logging

from pii.common import UserError
from pii.decoder.backbone import (
    DEFAULT_BACKBONE,
    RANDOM_SHAPES,
    backbone_depth,
    check_vocabulary,
    cut_layers,
    load_backbone,
    quantise,
)
from pii.decoder.int8 import Int8Linear, in_float32, on_units
from pii.decoder.precision import Fp8Linear
from pii.decoder.states import WANTED, compile_layers, compiling_pays, hidden_states

ROOT = Path(__file__).parents[2]
QUANTISED_LINEARS = {"fp8": Fp8Linear, "int8": Int8Linear}
BOS, VOCAB, DEPTH = 1, 300, 3
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
    return save_tiny(MistralModel, MistralConfig(**(TINY | changes)), folder)


def save_tiny(kind: type, config, folder: Path) -> Path:
    logging.disable_progress_bar()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = kind(config)
        with torch.no_grad():
            for name, weight in made.named_parameters():
                if "norm" in name:  # all ones when made: a norm left out or applied twice must show
                    weight.uniform_(0.5, 1.5)
        made.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_backbone(tmp_path_factory.mktemp("backbone") / "backbone", num_hidden_layers=DEPTH)


@pytest.fixture
def copied_backbone(backbone: Path, tmp_path: Path) -> Path:
    """The backbone again, to be damaged."""
    return Path(shutil.copytree(backbone, tmp_path / "copied-backbone"))


@pytest.fixture
def tiny_shape(monkeypatch) -> str:
    """The name of a random backbone that a test can afford."""
    monkeypatch.setitem(RANDOM_SHAPES, "random:tiny", TINY | {"initializer_range": 0.02})
    return "random:tiny"


def loaded(folder: Path | str, dtype: torch.dtype = torch.float32, **options) -> nn.Module:
    return load_backbone(str(folder), dtype, **options)


def some_ids(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(20, VOCAB, shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def all_states(model: nn.Module, ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The library's own hidden states after BOS, layer by layer; the last one is normed."""
    with_bos = torch.cat([torch.full((len(ids), 1), BOS), ids], dim=1)
    return tuple(state[:, 1:] for state in model(with_bos, output_hidden_states=True).hidden_states)


def refusal(call, *arguments, **named) -> str:
    """The one line of the UserError that a call ends with."""
    with pytest.raises(UserError) as caught:
        call(*arguments, **named)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | environment
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


# loading


@pytest.mark.parametrize("options", [{}, {"layers": 1}, {"precision": "fp8"}, {"precision": "int8"}])
def test_a_backbone_comes_frozen_and_in_eval_mode(backbone, options):
    made = loaded(backbone, **options)
    assert not any(module.training for module in made.modules())
    assert not any(parameter.requires_grad for parameter in made.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_backbone_comes_in_the_dtype_asked_for(backbone, dtype):
    assert {parameter.dtype for parameter in loaded(backbone, dtype).parameters()} == {dtype}


@pytest.mark.parametrize("layers", range(DEPTH))
def test_a_truncated_backbone_gives_the_whole_ones_raw_hidden_state(backbone, layers):
    ids = some_ids(3, 9)
    cut = loaded(backbone, layers=layers)
    assert len(cut.layers) == cut.config.num_hidden_layers == layers
    expected = all_states(loaded(backbone), ids)[layers]
    assert torch.equal(cut(torch.cat([torch.full((3, 1), BOS), ids], dim=1)).last_hidden_state[:, 1:], expected)
    assert torch.equal(hidden_states(cut, ids, [layers], BOS), expected)


def test_the_full_depth_is_the_whole_backbone_with_its_final_norm(backbone):
    ids = some_ids(3, 9)
    whole, named = loaded(backbone), loaded(backbone, layers=DEPTH)
    assert torch.equal(hidden_states(named, ids, [DEPTH], BOS), hidden_states(whole, ids, [DEPTH], BOS))


def test_layers_that_are_left_out_need_not_even_be_there(copied_backbone):
    path = copied_backbone / "model.safetensors"
    weights = load_file(path)
    kept = {name: weight for name, weight in weights.items() if not name.startswith(("layers.1.", "layers.2."))}
    assert len(kept) < len(weights)
    save_file(kept, path, metadata={"format": "pt"})
    assert len(loaded(copied_backbone, layers=1).layers) == 1
    assert "lacks" in refusal(loaded, copied_backbone, layers=2)


def test_layers_that_are_left_out_are_not_reported(backbone, capfd, caplog):
    loaded(backbone, layers=1)
    assert capfd.readouterr() == ("", "") and not caplog.records


@pytest.mark.parametrize("layers", [-1, DEPTH + 1])
def test_a_depth_beyond_the_backbones_is_refused(backbone, tiny_shape, layers):
    message = refusal(loaded, backbone, layers=layers)
    assert str(backbone) in message and str(DEPTH) in message and str(layers) in message
    assert tiny_shape in refusal(loaded, tiny_shape, layers=layers)


@pytest.mark.parametrize("layers", range(DEPTH + 1))
def test_a_loaded_backbone_can_be_cut_to_the_same(backbone, layers):
    cut, ids = loaded(backbone), some_ids(3, 9)
    cut_layers(cut, layers)
    assert set(cut.state_dict()) == set(loaded(backbone, layers=layers).state_dict())
    assert torch.equal(hidden_states(cut, ids, [layers], BOS), all_states(loaded(backbone), ids)[layers])


@pytest.mark.parametrize("layers", [-1, DEPTH + 1])
def test_a_loaded_backbone_cannot_be_cut_to_more_or_less_than_it_has(backbone, layers):
    cut, ids = loaded(backbone), some_ids(3, 9)
    assert str(layers) in refusal(cut_layers, cut, layers)
    assert torch.equal(hidden_states(cut, ids, [DEPTH], BOS), all_states(loaded(backbone), ids)[DEPTH])


def test_the_depth_is_known_without_the_weights(copied_backbone, tiny_shape):
    remove_weights(copied_backbone)
    assert backbone_depth(str(copied_backbone)) == DEPTH and backbone_depth(tiny_shape) == 2
    assert "random:tiny" in refusal(backbone_depth, "random:nonsense")
    remove_config(copied_backbone)
    assert str(copied_backbone) in refusal(backbone_depth, str(copied_backbone))


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_other_decoders_are_truncated_too(tmp_path, kind):
    """A Qwen2 configuration lists the kind of attention of every layer, which must be cut as well."""
    shape = {name: value for name, value in TINY.items() if name not in ("sliding_window", "head_dim")}
    shape |= {"num_hidden_layers": DEPTH, "attention_dropout": 0.0}
    if kind == "llama":
        folder = save_tiny(LlamaModel, LlamaConfig(**shape), tmp_path / kind)
    else:
        config = Qwen2Config(**shape, use_sliding_window=True, sliding_window=4, max_window_layers=1)
        assert len(set(config.layer_types)) == 2
        folder = save_tiny(Qwen2Model, config, tmp_path / kind)
    ids = some_ids(2, 9)
    whole, cut = loaded(folder), loaded(folder, layers=2)
    assert torch.equal(hidden_states(cut, ids, [0, 2], BOS), torch.cat([all_states(whole, ids)[k] for k in (0, 2)], -1))


def test_a_decoder_of_another_build_works_whole_and_is_refused_otherwise(tmp_path):
    config = GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, bos_token_id=BOS, eos_token_id=2)
    folder = save_tiny(GPT2Model, config, tmp_path / "gpt2")
    ids, whole = some_ids(2, 5), loaded(folder)
    assert torch.equal(hidden_states(whole, ids, [2], BOS), all_states(whole, ids)[2])
    for message in (
        refusal(loaded, folder, layers=1),
        refusal(loaded, folder, precision="fp8"),
        refusal(hidden_states, whole, ids, [1], BOS),
        refusal(compile_layers, whole),
    ):
        assert "gpt2" in message


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
    message = refusal(loaded, copied_backbone)
    assert str(copied_backbone) in message
    assert "--backbone" in message or "https://huggingface.co/" in message
    assert "--source" in refusal(loaded, copied_backbone, option="--source")


def test_a_backbone_that_lacks_some_of_its_weights_is_refused(copied_backbone):
    """Else transformers fills them with random numbers, other ones in each process."""
    path = copied_backbone / "model.safetensors"
    weights = load_file(path)
    del weights["layers.1.mlp.up_proj.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    assert "layers.1.mlp.up_proj.weight" in refusal(loaded, copied_backbone)


class Bomb:
    """Unpickling it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def test_a_pickle_in_the_place_of_a_backbones_weights_is_never_run(copied_backbone, tmp_path):
    (copied_backbone / "model.safetensors").unlink()
    torch.save({"norm.weight": Bomb(tmp_path / "trace")}, copied_backbone / "pytorch_model.bin")
    refusal(loaded, copied_backbone)
    assert not (tmp_path / "trace").exists()


def test_code_that_comes_with_a_backbone_is_never_run_nor_asked_about(copied_backbone, tmp_path, monkeypatch):
    """transformers would ask at the terminal whether to trust it."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    config = json.loads((copied_backbone / "config.json").read_text())
    code = {"AutoConfig": "code.Config", "AutoModel": "code.Model"}
    (copied_backbone / "config.json").write_text(json.dumps(config | {"model_type": "mine", "auto_map": code}))
    trace = f"import pathlib; pathlib.Path({str(tmp_path / 'trace')!r}).touch()\n"
    imports = "from transformers import MistralConfig as Config, MistralModel as Model\n"
    (copied_backbone / "code.py").write_text(trace + imports)
    refusal(loaded, copied_backbone)
    assert not (tmp_path / "trace").exists()


def test_offline_a_backbone_of_the_hub_is_one_line_with_its_licence_page(tmp_path):
    code = "from pii import common; import model; common.run(lambda: model.MinistralTokenClassifier())"
    result = run_python(code, HF_HOME=str(tmp_path))
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert f"https://huggingface.co/{DEFAULT_BACKBONE}" in result.stderr and "--backbone" in result.stderr


@pytest.mark.parametrize("precision", ["int4", "BF16", ""])
def test_an_unknown_precision_is_refused(backbone, precision):
    assert "bf16, fp8, int8, fp32" in refusal(loaded, backbone, precision=precision)


def test_float8_is_refused_where_the_device_has_none(backbone):
    assert "bf16" in refusal(loaded, backbone, precision="fp8", device="mps")


# random weights


def test_the_random_ministral_has_the_real_ones_shape_and_no_weight_outside_its_device():
    """On the meta device, which holds no numbers; elsewhere first, 28 GiB would have to be there."""
    made = loaded("random:ministral-8b", torch.bfloat16, device="meta")
    assert {(weight.device.type, weight.dtype) for weight in made.parameters()} == {("meta", torch.bfloat16)}
    gib = sum(weight.numel() * weight.itemsize for weight in made.parameters()) / 2**30
    assert (len(made.layers), made.config.hidden_size, round(gib, 2)) == (36, 4096, 13.94)
    assert made.layers[0].self_attn.k_proj.weight.shape == (8 * 128, 4096)
    assert made.layers[0].mlp.up_proj.weight.shape == (12288, 4096)
    assert made.config.rope_parameters["rope_theta"] == 1e8 and made.config.rms_norm_eps == 1e-5
    assert made.config.sliding_window is None
    check_vocabulary(made, TOKENIZER | {"vocab_size": 131072})


def test_random_weights_are_normal_and_the_same_each_time(tiny_shape):
    torch.manual_seed(5)
    made = loaded(tiny_shape)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))  # a head that is made next does not depend on the backbone
    again = loaded(tiny_shape)
    ids = some_ids(2, 5)
    assert torch.equal(hidden_states(made, ids, [2], BOS), hidden_states(again, ids, [2], BOS))
    matrices = torch.cat([m.weight.flatten() for m in made.layers.modules() if isinstance(m, nn.Linear)])
    assert matrices.std().item() == pytest.approx(0.02, rel=0.02) and abs(matrices.mean()) < 1e-3
    assert torch.equal(made.norm.weight, torch.ones(32))


@pytest.mark.parametrize(("precision", "kind"), QUANTISED_LINEARS.items())
def test_random_backbones_take_the_same_options(tiny_shape, precision, kind):
    made = loaded(tiny_shape, torch.bfloat16, layers=1, precision=precision)
    assert len(made.layers) == 1 and isinstance(made.norm, nn.Identity)
    assert isinstance(made.layers[0].mlp.down_proj, kind) and made.dtype == torch.bfloat16
    assert not any(parameter.requires_grad for parameter in made.parameters())


def test_an_unknown_random_backbone_is_one_line_that_lists_the_known(tiny_shape):
    message = refusal(loaded, "random:nonsense", option="--source")
    assert "random:ministral-8b" in message and "random:tiny" in message and "--source" in message


# the vocabulary


def test_a_backbone_that_reads_the_tokenizers_ids_is_accepted(backbone):
    check_vocabulary(loaded(backbone), TOKENIZER)
    check_vocabulary(loaded(backbone), TOKENIZER | {"vocab_size": VOCAB - 1})


def test_a_backbone_with_a_smaller_vocabulary_is_refused(backbone):
    message = refusal(check_vocabulary, loaded(backbone), TOKENIZER | {"vocab_size": VOCAB + 1})
    assert str(VOCAB + 1) in message and str(VOCAB) in message


def test_a_stand_in_is_accepted_for_its_own_tokenizer_file_and_refused_for_another(copied_backbone):
    (copied_backbone / "standin.json").write_text(json.dumps({"source": "x", "tokenizer": TOKENIZER}))
    made = loaded(copied_backbone)
    check_vocabulary(made, TOKENIZER)
    assert "standin.py" in refusal(check_vocabulary, made, TOKENIZER | {"sha256": "b" * 64})


@pytest.mark.parametrize("damaged", ["", "{", "{}", "[]"])
def test_a_damaged_stand_in_mark_is_a_users_error(copied_backbone, damaged):
    (copied_backbone / "standin.json").write_text(damaged)
    assert "standin.py" in refusal(check_vocabulary, loaded(copied_backbone), TOKENIZER)


# hidden states


@pytest.mark.parametrize("layers", [[0], [1], [DEPTH], [0, 1, 2, 3], [3, 1], [2, 2]])
def test_hidden_states_are_the_librarys_own_side_by_side(backbone, layers):
    made, ids = loaded(backbone), some_ids(3, 6)
    states = hidden_states(made, ids, layers, BOS)
    assert states.shape == (3, 6, 32 * len(layers)) and not states.requires_grad
    expected = all_states(loaded(backbone), ids)
    assert torch.equal(states, torch.cat([expected[layer] for layer in layers], dim=-1))


def test_bos_is_put_before_every_row_and_its_position_dropped(backbone):
    made, ids = loaded(backbone), some_ids(3, 6)
    states = hidden_states(made, ids, [DEPTH], 7)
    with torch.no_grad():
        by_hand = made(torch.cat([torch.full((3, 1), 7), ids], dim=1)).last_hidden_state[:, 1:]
        without = made(ids).last_hidden_state
    assert torch.equal(states, by_hand)
    assert (states - without).abs().amax(dim=(1, 2)).min() > 0.01  # seen by every row
    assert torch.equal(hidden_states(made, ids, [0], 7), made.embed_tokens(ids))


@pytest.mark.parametrize("padding_id", [0, 11, 42])
def test_padding_on_the_right_changes_no_real_tokens_states(backbone, padding_id):
    made, layers = loaded(backbone), range(DEPTH + 1)
    rows = [some_ids(length, seed=i) for i, length in enumerate([9, 1, 4])]
    padded = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding_id)
    for row, together in zip(rows, hidden_states(made, padded, layers, BOS), strict=True):
        alone = hidden_states(made, row[None], layers, BOS)[0]
        torch.testing.assert_close(together[: len(row)], alone, rtol=0, atol=1e-5)


def test_hooks_are_set_once_and_an_error_leaves_nothing_wanted(backbone):
    made = loaded(backbone)
    with pytest.raises(IndexError):
        hidden_states(made, torch.tensor([[VOCAB]]), [0, 1, 2], BOS)
    for _ in range(3):
        hidden_states(made, some_ids(1, 3), [0, 1, 2], BOS)
    assert [len(layer._forward_hooks) + len(layer._forward_pre_hooks) for layer in made.layers] == [2, 1, 1]
    assert WANTED.get() == (set(), {})


@pytest.mark.parametrize("place", range(DEPTH))
def test_a_pass_of_another_thread_in_the_midst_of_one_changes_nothing(backbone, place):
    made, mine, theirs, layers = loaded(backbone), some_ids(2, 5, seed=1), some_ids(3, 4, seed=2), range(DEPTH + 1)
    expected = [hidden_states(made, ids, layers, BOS) for ids in (mine, theirs)]
    found = []
    with ThreadPoolExecutor(1) as thread:

        def interrupt(*_) -> None:
            if not found:
                found.append(None)  # the other pass comes by here too
                found[0] = thread.submit(hidden_states, made, theirs, layers, BOS).result()

        made.layers[place].register_forward_hook(interrupt)
        assert torch.equal(hidden_states(made, mine, layers, BOS), expected[0])
    assert torch.equal(found[0], expected[1])


@pytest.mark.parametrize("layer", [-1, DEPTH + 1])
def test_a_layer_that_the_backbone_has_not_is_refused(backbone, layer):
    assert str(layer) in refusal(hidden_states, loaded(backbone), some_ids(1, 3), [1, layer], BOS)


# quantised matrices (test_precision.py and test_int8.py have them alone)


@pytest.mark.parametrize(("precision", "kind"), QUANTISED_LINEARS.items())
def test_quantising_changes_the_decoder_layers_matrices_and_nothing_else(backbone, precision, kind):
    made, before = loaded(backbone, torch.bfloat16), loaded(backbone, torch.bfloat16)
    quantise(made, "cpu", precision)
    kinds = {path: type(module) for path, module in made.named_modules()}
    linears = [path for path, module in before.named_modules() if isinstance(module, nn.Linear)]
    assert len(linears) == 4 * DEPTH and all(kinds[path] is kind for path in linears)
    assert nn.Linear not in kinds.values()
    kept = dict(made.named_parameters())
    assert set(kept) == {name for name, _ in before.named_parameters()} - {f"{path}.weight" for path in linears}
    for name, weight in before.named_parameters():
        assert name not in kept or (torch.equal(kept[name], weight) and kept[name].dtype == torch.bfloat16)


def test_int8_holds_no_more_than_one_layer_in_its_old_precision(backbone):
    made, seen = loaded(backbone), []
    for number, layer in enumerate(made.layers):
        layer.register_forward_pre_hook(
            lambda *_, number=number: seen.append(
                (number, [any(isinstance(m, Int8Linear) for m in other.modules()) for other in made.layers])
            )
        )
    quantise(made, "cpu", "int8")
    assert seen == [(number, [other < number for other in range(DEPTH)]) for number in range(DEPTH)]
    assert all(len(module._forward_hooks) == 0 for module in made.modules())
    for module in made.modules():
        if isinstance(module, Int8Linear):
            assert module.smooth.std() > 0  # its inputs were seen


@pytest.mark.parametrize("precision", QUANTISED_LINEARS)
def test_one_byte_a_weight_halves_the_memory_of_the_decoder_layers(backbone, precision):
    def size(model: nn.Module) -> int:
        return sum(t.numel() * t.itemsize for t in model.layers.state_dict().values())

    ratio = size(loaded(backbone, torch.bfloat16, precision=precision)) / size(loaded(backbone, torch.bfloat16))
    assert 0.5 < ratio < 0.6  # the scales and norms of rows as short as 32 weigh more than real ones


@pytest.mark.parametrize(("precision", "least", "most"), [("fp8", 0.005, 0.2), ("int8", 0.001, 0.05)])
def test_quantised_hidden_states_are_near_the_float_ones(backbone, precision, least, most):
    ids = some_ids(4, 12)
    exact = hidden_states(loaded(backbone), ids, [DEPTH], BOS)
    rounded = hidden_states(loaded(backbone, precision=precision), ids, [DEPTH], BOS)
    assert least < ((rounded - exact).norm() / exact.norm()).item() < most


def test_fp32_computes_in_float32_whatever_the_device_would_choose(backbone):
    ids = some_ids(3, 9)
    made = loaded(backbone, torch.bfloat16, precision="fp32")
    assert made.dtype == torch.float32
    assert torch.equal(hidden_states(made, ids, [1, DEPTH], BOS), hidden_states(loaded(backbone), ids, [1, DEPTH], BOS))


# compiled layers


@pytest.mark.parametrize("precision", ["bf16", "fp8", "int8"])
def test_compiled_layers_give_the_same_hidden_states_at_every_length(backbone, precision):
    """Without the code generator, which takes a minute here: what it is given is what can be wrong in this file."""
    made = loaded(backbone, layers=2, precision=precision)
    batches = [some_ids(*shape) for shape in ((2, 5), (3, 9), (1, 1), (4, 17), (2, 3))]
    expected = [hidden_states(made, ids, [0, 1, 2], BOS) for ids in batches]
    torch._dynamo.reset()
    compile_layers(made, backend="aot_eager")
    for ids, states in zip(batches, expected, strict=True):
        torch.testing.assert_close(hidden_states(made, ids, [0, 1, 2], BOS), states, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("device", "precision", "units", "tokens", "compiler", "pays"),
    [
        ("cuda", "bf16", False, 10, False, True),
        ("mps", "bf16", True, 10**7, True, False),
        ("cpu", "int8", True, 10**7, True, True),
        ("cpu", "int8", True, 10**5, True, False),  # the demo's: over before the compiler is
        ("cpu", "int8", False, 10**7, True, False),
        ("cpu", "int8", True, 10**7, False, False),
        ("cpu", "bf16", True, 10**7, True, False),
        ("cpu", "fp32", True, 10**7, True, False),
    ],
)
def test_layers_are_compiled_where_that_pays(monkeypatch, tmp_path, device, precision, units, tokens, compiler, pays):
    monkeypatch.setattr("pii.decoder.states.fastest_on_cpu", lambda: on_units if units else in_float32)
    monkeypatch.setenv("CXX", sys.executable if compiler else str(tmp_path / "none"))
    assert compiling_pays(torch.device(device), precision, tokens) == pays


@pytest.mark.parametrize("precision", ["bf16", "fp8", "int8"])
def test_layers_and_lengths_share_their_compiled_forms(backbone, precision):
    made, compiled = loaded(backbone, precision=precision), []

    def count(graph, example_inputs):
        compiled.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compile_layers(made, backend=count)
    for length in range(1, 12):
        hidden_states(made, some_ids(1 + length % 4, length), [1, DEPTH], BOS)
    assert 1 <= len(compiled) <= 3  # a batch of one row is a form of its own, and so is the first one, a square
