"""The frozen decoder: how it is loaded, and in which precision it computes."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from pii.common import UserError
from pii.decoder.joint import join_projections
from pii.decoder.precision import PRECISIONS, QUANTISED, Fp8Linear
from pii.decoder.quantising import quantised_in_passing, replace_linears

DEFAULT_BACKBONE = "mistralai/Ministral-8B-Instruct-2410"
PINNED_REVISIONS = {DEFAULT_BACKBONE: "2f494a194c5b980dfb9772cb92d26cbb671fce5a"}
BOS_ID = 1  # Tekken's
CALIBRATION = (4, 64)  # windows and tokens
# a backbone's name → MistralConfig: speed and memory can be measured where the weights cannot be had
RANDOM_SHAPES: dict[str, dict[str, Any]] = {
    "random:ministral-8b": {
        "vocab_size": 131072,
        "hidden_size": 4096,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 12288,
        "max_position_embeddings": 32768,
        "sliding_window": None,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e8},
        "rms_norm_eps": 1e-5,
        "initializer_range": 0.02,
    }
}


class BackboneConfig(Protocol):
    """What is read of a transformers configuration."""

    name_or_path: str
    model_type: str
    bos_token_id: int | None
    hidden_size: int
    num_hidden_layers: int
    vocab_size: int


class Backbone(nn.Module):
    """What type checkers know of a transformers decoder that is built as Llama is: none is one of these."""

    config: BackboneConfig
    dtype: torch.dtype
    device: torch.device
    layers: nn.ModuleList
    norm: nn.Module
    offers_states: bool  # install_hooks was here
    get_input_embeddings: Callable[[], nn.Module]


def load_backbone(
    name: str,
    dtype: torch.dtype,
    option: str = "--backbone",
    layers: int | None = None,
    precision: str = "bf16",
    device: torch.device | str = "cpu",
    revision: str | None = None,
) -> Backbone:
    """A decoder without its output layer, frozen, in eval mode and on `device`.

    `name` is a local folder, a model of the hub (at `revision`, else at a pinned one where we know one) or one of
    RANDOM_SHAPES. With `layers`, only the first so many decoder layers are built and read, and without the last one the
    final norm is left out: the output is then the raw hidden state of layer `layers`. `precision` is one of PRECISIONS:
    fp8 and int8 make the decoder layers' matrices so, bf16 leaves them in `dtype`, fp32 has all in float32 instead.
    Raises UserError, which names the command line's `option`.
    """
    device = torch.device(device)
    if precision not in PRECISIONS:
        raise UserError(f"there is no precision {precision}: choose one of {', '.join(PRECISIONS)}")
    if precision == "fp8" and device.type not in ("cuda", "cpu"):
        raise UserError(f"{device.type} has no float8 numbers: choose precision bf16, or a CUDA GPU or the CPU")
    if precision == "fp32":
        dtype = torch.float32
    revision = revision or PINNED_REVISIONS.get(name, "main")
    config = read_config(name, option, revision)
    depth = config.num_hidden_layers
    if layers is not None:
        keep_layers(config, layers)
    if name in RANDOM_SHAPES:
        backbone = random_backbone(config, dtype, device)
    else:
        backbone = read_weights(name, config, revision, dtype, option)
    if layers is not None and layers < depth:
        drop_final_norm(backbone)
    if precision in QUANTISED or dtype != torch.float32 or device.type != "cpu":
        join_projections(backbone, config.model_type)  # a CPU gains nothing in float32, and loses with short texts
    if precision in QUANTISED:
        quantise(backbone, device, precision)
    return backbone.to(device).requires_grad_(False).eval()


def backbone_depth(name: str, option: str = "--backbone") -> int:
    """How many decoder layers a backbone has; no weight is read. Raises UserError."""
    return read_config(name, option, PINNED_REVISIONS.get(name, "main")).num_hidden_layers


def read_config(name: str, option: str, revision: str):
    """The transformers configuration of a folder, a model of the hub or one of RANDOM_SHAPES. Raises UserError."""
    from transformers import AutoConfig, MistralConfig

    if name in RANDOM_SHAPES:
        config = MistralConfig(**RANDOM_SHAPES[name])
        config.name_or_path = name
        return config
    if looks_like_a_path(name) and not Path(name).is_dir():  # else the hub would be asked for it
        raise UserError(f"there is no folder {name}: pass {option} FOLDER (`python standin.py` builds a small one)")
    if name.startswith("random:"):
        raise UserError(f"no random backbone {name} is known: pass {option} {' or '.join(RANDOM_SHAPES)}")
    try:
        return AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    except Exception as error:  # transformers and the hub client pass on whatever lies below them
        raise unreadable(name, option, error) from None


def looks_like_a_path(name: str) -> bool:
    """Whether a backbone's name can only mean a local folder: models of the hub are called OWNER/NAME or NAME."""
    owner, slash, rest = name.partition("/")
    return (
        Path(name).exists()
        or name.startswith((".", "~", "/"))
        or "/" in rest
        or "\\" in name
        or (bool(slash) and (not rest or Path(owner).is_dir()))
    )


def keep_layers(config, layers: int) -> None:
    """Cut the configuration to the first `layers` decoder layers. Raises UserError where there are fewer."""
    if not 0 <= layers <= config.num_hidden_layers:
        raise UserError(
            f"the backbone {config.name_or_path} has layers 0 to {config.num_hidden_layers}: there is no layer {layers}"
        )
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None) is not None:  # where some layers' attention is another
        config.layer_types = config.layer_types[:layers]


def read_weights(name: str, config, revision: str, dtype: torch.dtype, option: str) -> Backbone:
    """The decoder that `config` describes, with the weights of a folder or the hub, on the CPU. Raises UserError."""
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()  # neither the unused output layer nor layers left out are news
    logging.disable_progress_bar()
    try:
        backbone, report = AutoModel.from_pretrained(
            name, config=config, revision=revision, dtype=dtype, output_loading_info=True, trust_remote_code=False
        )
    except Exception as error:
        raise unreadable(name, option, error) from None
    if missing := report["missing_keys"]:  # transformers would fill them with random numbers
        raise UserError(f"the backbone {name} lacks {len(missing)} weights, as {min(missing)}: pass another {option}")
    return backbone


def unreadable(name: str, option: str, error: Exception) -> UserError:
    """What to tell a user whose backbone could not be loaded."""
    if Path(name).is_dir():
        reason = (str(error).splitlines() or [""])[0][:160]
        return UserError(
            f"cannot load the backbone in {name} ({type(error).__name__}: {reason}): pass another {option} FOLDER"
        )
    return UserError(
        f"cannot load the backbone {name} ({type(error).__name__}): it is no local folder; on the hub, accept its "
        f"terms at https://huggingface.co/{name} and log in with `hf auth login` or HF_TOKEN; offline, pass "
        f"{option} FOLDER (`python standin.py` builds a small one)"
    )


def random_backbone(config, dtype: torch.dtype, device: torch.device) -> Backbone:
    """The decoder that `config` describes with normal weights, the same ones each time on one device.

    Built there in `dtype` and nowhere before: a machine whose GPU holds the model may have less memory beside it.
    """
    from transformers import AutoModel

    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.device(device):
        torch.manual_seed(0)
        return AutoModel.from_config(config, dtype=dtype)


def cut_layers(backbone: Backbone, layers: int) -> None:
    """Leave a loaded backbone its first `layers` decoder layers, as load_backbone does. Raises UserError."""
    if layers == backbone.config.num_hidden_layers:
        return
    loaded = decoder_layers(backbone)
    keep_layers(backbone.config, layers)
    backbone.layers = loaded[:layers]
    drop_final_norm(backbone)


def drop_final_norm(backbone: Backbone) -> None:
    """The final norm was trained on the last layer's output: on an earlier layer's it means nothing."""
    decoder_layers(backbone)  # or there is no such norm
    backbone.norm = nn.Identity()


def decoder_layers(backbone: Backbone) -> nn.ModuleList:
    """The decoder layers of a backbone that is built as Llama is; nearly all are. Raises UserError at another."""
    if not hasattr(backbone, "layers") or not hasattr(backbone, "norm"):
        raise UserError(
            f"the backbone {backbone.config.name_or_path} is a {backbone.config.model_type} model, which can be used "
            f"whole and in bf16 only: choose a Llama- or Mistral-class backbone"
        )
    return backbone.layers


def bos_id_of(backbone: Backbone) -> int:
    """What is put before every window: the backbone's own BOS, or Tekken's where it names none."""
    own = backbone.config.bos_token_id
    return BOS_ID if own is None else own


def check_vocabulary(backbone: Backbone, tokenizer: dict) -> None:
    """Raise UserError unless the backbone reads the ids that this tokenizer (as prepare.py describes it) makes."""
    config = backbone.config
    if config.vocab_size < tokenizer["vocab_size"]:
        raise UserError(
            f"the data's tokenizer {tokenizer.get('name')} has {tokenizer['vocab_size']} ids but the backbone "
            f"{config.name_or_path} only {config.vocab_size}: choose a backbone that reads Tekken v3 ids"
        )
    mark = Path(config.name_or_path) / "standin.json"
    try:
        known = json.loads(mark.read_text("utf-8"))["tokenizer"]["sha256"] if mark.is_file() else tokenizer["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{mark} is damaged: build the backbone anew with standin.py") from None
    if known != tokenizer["sha256"]:
        raise UserError(f"{config.name_or_path} was built for another tokenizer file: build it anew with standin.py")


def quantise(backbone: Backbone, device: torch.device | str, precision: str = "fp8") -> None:
    """Move the backbone to `device` with every nn.Linear of its decoder layers turned into one of this precision.

    Layer by layer, so that no more than one layer lies there in its old precision. Embeddings and norms keep their
    dtype. int8 asks how large each layer's inputs become: those of CALIBRATION random tokens, the same ones each time.
    Raises UserError at a decoder whose layers are not found.
    """
    layers = decoder_layers(backbone)
    if precision == "fp8":
        for layer in layers:
            replace_linears(layer.to(device), lambda _, linear: Fp8Linear(linear))
    else:
        with contextlib.ExitStack() as hooks:
            for layer in layers:
                hooks.enter_context(quantised_in_passing(layer, device))
            for name, part in backbone.named_children():
                if name != "layers":
                    part.to(device)
            generator = torch.Generator().manual_seed(0)
            token_ids = torch.randint(backbone.config.vocab_size, CALIBRATION, generator=generator)
            token_ids[:, 0] = bos_id_of(backbone)
            backbone(input_ids=token_ids.to(device), use_cache=False)
    backbone.to(device)
