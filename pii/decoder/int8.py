"""Matrices in int8, multiplied by the int8 units that CPUs with VNNI or AMX and NVIDIA GPUs from Turing on have."""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import nn

from pii.decoder.precision import backbone_dtype, best_seconds

INT8_MAX = 127  # -128 is left out: what rounds beyond it would wrap around
INT8_GAIN = 1.2  # of a linear layer: norms and attention take as long as before, so less would not show
Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # int8 [n, in], int8 [out, in] → whole numbers [n, out]


class Int8Linear(nn.Module):
    """An nn.Linear whose weight is int8: one byte a weight and, on devices with the units, several times the speed.

    `weight` [out, in] int8 and `scale` [out] float32 (a row's largest magnitude / 127) stand for weight * scale; `bias`
    [out] or None stays as it was. The input is rounded by row as it comes. One scale a tensor would be too coarse for
    the few large numbers of a decoder's states. `smooth` [in] float32 multiplies the input, and its inverse the weight,
    before they are rounded: columns of which the input is large lose less that way (smoothing_of). `magnitudes` [in]
    say how large the input of each column becomes; without them all are alike. Made on the device the linear lies on.
    """

    weight: torch.Tensor
    scale: torch.Tensor
    smooth: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, linear: nn.Linear, magnitudes: torch.Tensor | None = None) -> None:
        super().__init__()
        original = linear.weight.detach()
        smooth = original.new_ones(linear.in_features, dtype=torch.float32)
        if magnitudes is not None:
            smooth = smoothing_of(magnitudes, original)
        weight, scale = to_int8(original / smooth)
        self.register_buffer("smooth", smooth)
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale[:, 0])
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())
        self.multiply = choose_product(weight.device)  # here and not in forward, which torch.compile traces

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in] → [..., out], both in x's dtype; sums and scales are exact to float32."""
        rows, scale = to_int8(x.reshape(-1, x.shape[-1]) * self.smooth)
        product = self.multiply(rows, self.weight).float().mul_(scale).mul_(self.scale)
        if self.bias is not None:
            product += self.bias
        return product.to(x.dtype).view(*x.shape[:-1], len(self.weight))


def smoothing_of(magnitudes: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """[in] magnitudes of an input, [out, in] weight → [in] float32 to multiply the input with: a column's largest
    number becomes as large in the input as in the weight (SmoothQuant, Xiao et al. 2022, equation 4, alpha 0.5)."""
    largest = weight.abs().amax(dim=0).float().clamp_(min=1e-5)
    return (largest / magnitudes.float().clamp(min=1e-5)).sqrt_()


def to_int8(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[n, k] → int8 [n, k] and float32 scales [n, 1], whose product is closest to `rows`.

    A row's largest magnitude becomes 127; a row of zeros stays one. What is no number makes its row's scale none.
    """
    states = rows.float()
    scale = states.abs().amax(dim=1, keepdim=True).clamp_(min=1e-12).div_(INT8_MAX)
    return (states / scale).round_().clamp_(-INT8_MAX, INT8_MAX).to(torch.int8), scale


def choose_product(device: torch.device) -> Product:
    """The fastest way to multiply int8 matrices there. All give the same numbers."""
    if device.type == "cpu":
        return fastest_on_cpu()
    if device.type == "cuda" and torch.version.cuda and torch.cuda.get_device_capability(device) >= (7, 5):
        return on_cuda_units
    return in_float32


def on_units(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """int32, by a CPU's int8 units; without such, the library goes number by number, which takes ages."""
    return torch._int_mm(rows, weight.t())


def on_cuda_units(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """int32, by a GPU's int8 units. They take more than 16 rows, and multiples of 8 of the rest: zeros fill up."""
    n, out = len(rows), len(weight)
    if rest := -rows.shape[1] % 8:
        rows, weight = F.pad(rows, (0, rest)), F.pad(weight, (0, rest))
    if out % 8:
        weight = F.pad(weight, (0, 0, 0, -out % 8))
    if n <= 16:
        rows = F.pad(rows, (0, 0, 0, 17 - n))
    return torch._int_mm(rows, weight.t())[:n, :out]


def in_float32(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """float32, by its units: whole numbers stay exact below 2^24, and the sums of real rows stay far below."""
    return rows.float() @ weight.float().t()


@cache
def fastest_on_cpu() -> Product:
    """Measured once a process, in some milliseconds: no list of processors is ever complete."""
    rows, weight = torch.ones(32, 256, dtype=torch.int8), torch.ones(256, 256, dtype=torch.int8)
    on_float, on_int8 = best_seconds(lambda: in_float32(rows, weight), lambda: on_units(rows, weight))
    return on_units if on_int8 < on_float else in_float32


def fastest_precision(device: torch.device) -> tuple[str, str]:
    """The --precision in which this device is fastest, and why, in words: int8 where a CPU has units that gain by it.

    Measured in some milliseconds. GPUs are not measured: bf16 is theirs, whatever float8 and int8 would give.
    """
    if device.type != "cpu":
        return "bf16", "fp8 and int8 are not tried on a GPU"
    dtype = backbone_dtype(device)
    name = str(dtype).removeprefix("torch.")
    if fastest_on_cpu() is not on_units:  # 35 times as long with AVX2: no busy machine turns that round
        return "bf16", f"{name} here: this CPU has no units that multiply int8 faster"
    gain = int8_gain(dtype)
    precision = "int8" if gain > INT8_GAIN else "bf16"
    return precision, f"int8 layers are {gain:.1f} times as fast as {name} ones on this CPU"


@torch.no_grad()
def int8_gain(dtype: torch.dtype) -> float:
    """How many times as fast as a linear layer in `dtype` one in int8 is on this CPU, its input's rounding included."""
    linear, rows = nn.Linear(576, 1536, bias=False, dtype=dtype), torch.randn(256, 576, dtype=dtype)
    quantised = Int8Linear(linear)
    in_dtype, in_int8 = best_seconds(lambda: linear(rows), lambda: quantised(rows))
    return in_dtype / in_int8
