"""One matrix where several stand that read the same input: query-key-value, and gate-up.

Fewer and larger products keep a GPU busier, and int8 and float8 round their input once instead of three times. The
joint product is computed before the attention or the MLP begins, and takes the place of its input; where the
projections stood, each now cuts its own columns out of it. So transformers' own forward stays, and nothing is kept
between calls: threads may share a backbone.
"""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

# the projections of a module that reads its input with nothing else → name of their joint one
JOINTS = {("q_proj", "k_proj", "v_proj"): "qkv_proj", ("gate_proj", "up_proj"): "gate_up_proj"}
# of transformers; what others do with an attention's input is not known
MODEL_TYPES = ("llama", "mistral", "ministral", "qwen2", "qwen3")


class Columns(nn.Module):
    """Stands where a projection stood: its rows are `start` to before `stop` of its owner's joint one."""

    def __init__(self, owner: nn.Module, joint: str, hook: RemovableHandle, start: int, stop: int) -> None:
        super().__init__()
        self.place = (owner, joint)  # in a tuple, or the owner would be a submodule of its own part
        self.hook = hook  # that computes the joint product
        self.start, self.stop = start, stop

    def forward(self, product: torch.Tensor) -> torch.Tensor:
        """[..., out of the joint projection] → [..., out]."""
        return product[..., self.start : self.stop]

    @property
    def joint(self) -> nn.Module:
        return getattr(*self.place)

    @property
    def weight(self) -> torch.Tensor:
        """[out, in], a view of the joint weight."""
        return cast(torch.Tensor, self.joint.weight)[self.start : self.stop]

    @property
    def bias(self) -> torch.Tensor | None:
        bias = cast(torch.Tensor | None, self.joint.bias)
        return None if bias is None else bias[self.start : self.stop]


def join_projections(backbone: nn.Module, model_type: str) -> None:
    """Join what reads the same input, module by module: no more than one joint matrix exists twice. The products stay
    the same to rounding. Decoders that are not built as Llama's stay as they are."""
    for owner in list(backbone.modules()) if model_type in MODEL_TYPES else ():
        for names, joint in JOINTS.items():
            parts = [getattr(owner, name, None) for name in names]
            if all(type(part) is nn.Linear for part in parts):
                join(owner, names, joint, cast(list[nn.Linear], parts))


def join(owner: nn.Module, names: Sequence[str], joint: str, parts: Sequence[nn.Linear]) -> None:
    """Put a joint projection into `owner`, unless some of the parts alone have a bias."""
    biases = [part.bias for part in parts if part.bias is not None]
    if biases and len(biases) < len(parts):
        return
    owner.add_module(joint, linear(stacked([part.weight for part in parts]), stacked(biases) if biases else None))
    hook = owner.register_forward_pre_hook(project, with_kwargs=True)
    start = 0
    for name, part in zip(names, parts, strict=True):
        setattr(owner, name, Columns(owner, joint, hook, start, start + part.out_features))
        start += part.out_features


def stacked(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat([part.detach() for part in parts])


def linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    """An nn.Linear of these tensors, frozen."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta").requires_grad_(False)
    made.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}), assign=True)
    return made


def project(owner: nn.Module, arguments: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """Before the owner's forward: the joint product takes the place of its input."""
    joint = getattr(owner, next(name for name in JOINTS.values() if hasattr(owner, name)))
    if arguments:
        return (joint(arguments[0]), *arguments[1:]), named
    return (), named | {"hidden_states": joint(named["hidden_states"])}


def plain_parameters(part: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """`part.named_parameters()` as they were before anything was joined: names, order, values."""
    for path, module in part.named_modules():
        prefix = f"{path}." if path else ""
        if isinstance(module, Columns):
            own = {"weight": module.weight, "bias": module.bias} if isinstance(module.joint, nn.Linear) else {}
        elif path.rpartition(".")[2] in JOINTS.values():
            own = {}
        else:
            own = dict(module.named_parameters(recurse=False))
        yield from ((prefix + name, tensor) for name, tensor in own.items() if tensor is not None)


def separate_projections(backbone: nn.Module) -> None:
    """Undo join_projections: transformers' own modules and names again, each with memory of its own."""
    for owner in list(backbone.modules()):
        for name, part in list(owner.named_children()):
            if isinstance(part, Columns):
                bias = None if part.bias is None else part.bias.clone()
                setattr(owner, name, linear(part.weight.clone(), bias))
                part.hook.remove()
        for joint in JOINTS.values():
            if hasattr(owner, joint):
                delattr(owner, joint)
