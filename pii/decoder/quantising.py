"""A decoder layer's matrices turned into others: all at once, or while the layer computes and its inputs are seen."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn

from pii.decoder.int8 import Int8Linear


def replace_linears(layer: nn.Module, make: Callable[[str, nn.Linear], nn.Module]) -> None:
    """Put `make(path, linear)` where each nn.Linear of a layer is."""
    for path, linear in linears_of(layer).items():
        layer.set_submodule(path, make(path, linear))


def linears_of(layer: nn.Module) -> dict[str, nn.Linear]:
    """Path in the layer → nn.Linear."""
    return {path: module for path, module in layer.named_modules() if isinstance(module, nn.Linear)}


@contextlib.contextmanager
def quantised_in_passing(layer: nn.Module, device: torch.device | str) -> Iterator[None]:
    """While this context is open, the layer's next forward moves it to `device` and leaves its matrices in int8."""
    largest: dict[str, torch.Tensor] = {}  # path of a linear → the largest magnitude of each column of its input

    def arrive(*_: object) -> None:
        layer.to(device)

    def leave(*_: object) -> None:
        replace_linears(layer, lambda path, linear: Int8Linear(linear, largest[path]))

    def measure(path: str, inputs: tuple[torch.Tensor]) -> None:
        largest[path] = inputs[0].abs().flatten(0, -2).amax(dim=0)

    handles = [layer.register_forward_pre_hook(arrive), layer.register_forward_hook(leave)]
    for path, linear in linears_of(layer).items():
        handles.append(linear.register_forward_pre_hook(lambda _, inputs, path=path: measure(path, inputs)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
