"""Hidden states of the decoder: which layers give them, and for which thread."""

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

import torch

from pii.common import UserError
from pii.decoder.backbone import Backbone, decoder_layers
from pii.decoder.int8 import fastest_on_cpu, on_units

# (layers, where to keep their states) of the pass that this thread is in
WANTED: ContextVar[tuple[set[int], dict[int, torch.Tensor]]] = ContextVar("WANTED", default=(set(), {}))
HOOKS_LOCK = threading.Lock()
CPU_COMPILE_TOKENS = 1_000_000  # won back: 0.14 ms each, on two cores; spent: 30 to 90 s, on a quiet or a busy machine


def compiling_pays(device: torch.device, precision: str, tokens: int) -> bool:
    """Whether compiled layers win back what compiling takes, for a training that reads so many tokens.

    On a CPU only int8 gains by it (measured on int8 units: 1.2 to 1.7 times; float32 and bfloat16 1.0 to 1.1), since
    what is left beside its products is elementwise; and a C++ compiler must be there.
    """
    if device.type != "cpu":
        return device.type == "cuda"
    has_compiler = shutil.which(os.environ.get("CXX", "g++")) is not None
    return has_compiler and precision == "int8" and fastest_on_cpu() is on_units and tokens >= CPU_COMPILE_TOKENS


def compile_layers(backbone: Backbone, backend: str = "inductor") -> None:
    """Compile each decoder layer, for windows of any number and length. The first batches wait for the compiler.

    Layers share a compiled form, as they differ in their weights only; batches of one row get a second one, and a
    first batch that is a square a third. Not the layer but its forward is compiled: hooks, as hidden_states needs
    them, stay outside. Raises UserError at a decoder whose layers are not found.
    """
    for layer in decoder_layers(backbone):
        layer.forward = torch.compile(layer.forward, dynamic=True, backend=backend)


@torch.no_grad()
def hidden_states(backbone: Backbone, input_ids: torch.Tensor, layers: Sequence[int], bos_id: int) -> torch.Tensor:
    """[batch, length] token ids, padded on the right → [batch, length, len(layers) * hidden_size], layers in order.

    Layer 0 is what the embeddings give, k the raw output of decoder layer k, and the last one the backbone's output,
    after the final norm where it has one. BOS is put before every row here and its position dropped again. Attention
    is causal, so a real token never sees the padding after it: no mask is needed. Raises UserError at a layer that
    the backbone has not.
    """
    depth = backbone.config.num_hidden_layers
    if wrong := [layer for layer in layers if not 0 <= layer <= depth]:
        raise UserError(f"the backbone {backbone.config.name_or_path} has layers 0 to {depth}: there is no {wrong[0]}")
    bos = input_ids.new_full((len(input_ids), 1), bos_id)
    with kept_states(backbone, set(layers) - {depth}) as kept:
        output = backbone(input_ids=torch.cat([bos, input_ids], dim=1), attention_mask=None, use_cache=False)
    kept[depth] = output.last_hidden_state
    states = [kept[layer][:, 1:] for layer in layers]
    return states[0] if len(states) == 1 else torch.cat(states, dim=-1)


@contextlib.contextmanager
def kept_states(backbone: Backbone, layers: set[int]) -> Iterator[dict[int, torch.Tensor]]:
    """A dict that a forward pass of this thread fills: layer → [batch, length, hidden_size]. Others' are not held."""
    if layers:
        install_hooks(backbone)
    kept: dict[int, torch.Tensor] = {}
    token = WANTED.set((layers, kept))
    try:
        yield kept
    finally:
        WANTED.reset(token)


def install_hooks(backbone: Backbone) -> None:
    """Let every decoder layer offer its output, and the first one its input, to `keep`.

    Hooks belong to the module, so those of one call would also see the passes of other threads: they are set once,
    and what each thread wants is its own.
    """
    with HOOKS_LOCK:
        if getattr(backbone, "offers_states", False):
            return
        layers = decoder_layers(backbone)
        layers[0].register_forward_pre_hook(
            lambda module, arguments, named: keep(0, arguments[0] if arguments else named["hidden_states"]),
            with_kwargs=True,
        )
        for number, layer in enumerate(layers, start=1):
            layer.register_forward_hook(lambda module, arguments, output, number=number: keep(number, output))
        backbone.offers_states = True


def keep(layer: int, states: torch.Tensor) -> None:
    """Hold what a layer gives where this thread's pass wants it."""
    wanted, kept = WANTED.get()
    if layer in wanted:
        kept[layer] = states
