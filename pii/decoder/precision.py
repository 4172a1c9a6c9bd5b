"""In which precision the backbone computes: its dtype, and matrices in float8; int8.py has those in int8."""

import time
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import distributed, nn

QUANTISED = {"fp8": "float8", "int8": "int8"}  # precision → what the decoder layers' matrices are in
PRECISIONS = ("bf16", *QUANTISED, "fp32")
BF16_GAIN = 1.5  # measured: 2.2 and more where a CPU has bfloat16 units, at most 1 where not: no doubt in between
FP8_MAX = torch.finfo(torch.float8_e4m3fn).max  # 448


def backbone_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device has it natively.

    A CPU mostly emulates it (measured with AVX2: six times slower than float32) and then computes in float32; an older
    GPU, as a T4, has float16 units only. The decoder's norms compute in float32 whatever this is. On a CPU all of
    torchrun's processes have to ask: they agree.
    """
    if device.type == "cpu":
        return torch.bfloat16 if all_agree(cpu_has_bfloat16()) else torch.float32
    if device.type == "cuda":
        with torch.cuda.device(device):  # the question below is about the current one
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16


@cache
def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in far less time than float32 ones. Measured once a process, in
    some milliseconds: no list of processors is ever complete."""
    wide = torch.ones(128, 512), torch.ones(512, 512)
    rows, weight = (matrix.bfloat16() for matrix in wide)
    in_float32, in_bfloat16 = best_seconds(lambda: F.linear(*wide), lambda: F.linear(rows, weight))
    return in_float32 > BF16_GAIN * in_bfloat16


def best_seconds(*functions: Callable[[], object], times: int = 4) -> list[float]:
    """The shortest of some calls of each function, in turn and after one to warm up: what else the machine does only
    makes them longer."""
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(times + 1):
        for function, own in zip(functions, seconds, strict=True):
            started = time.perf_counter()
            function()
            own.append(time.perf_counter() - started)
    return [min(own[1:]) for own in seconds]


def all_agree(answer: bool) -> bool:
    """Whether all processes of this command say yes: features half in another dtype would be neither."""
    if distributed.is_available() and distributed.is_initialized():
        answers = torch.tensor(int(answer))
        distributed.all_reduce(answers, distributed.ReduceOp.MIN)
        return bool(answers)
    return answer


def describe_precision(dtype: torch.dtype, device: torch.device, precision: str) -> str:
    """What the backbone computes in, and why so where another dtype would have been thinkable."""
    name = str(dtype).removeprefix("torch.")
    why = {
        ("float16", "cuda"): " (this GPU has no bfloat16)",
        ("float32", "cpu"): " (this CPU is no faster in bfloat16)",
        ("bfloat16", "cpu"): " (this CPU is faster in it than in float32)",
    }
    reason = "" if precision == "fp32" else why.get((name, device.type), "")
    return name + reason + (f", matrices in {QUANTISED[precision]}" if precision in QUANTISED else "")


# float8


class Fp8Linear(nn.Module):
    """An nn.Linear whose weight is float8: one byte a weight and, on GPUs that have the units, twice the speed.

    `weight` [out, in] float8_e4m3fn and `scale` [out] float32 (a row's largest magnitude / 448) stand for
    weight * scale; `bias` [out] or None stays as it was. Made on the device the linear lies on.
    """

    weight: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = to_float8(linear.weight.detach())
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale[:, 0])
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())
        # the units multiply blocks of 16; asked here and not in forward, which torch.compile traces
        self.has_units = has_fp8_units(weight.device) and all(size % 16 == 0 for size in weight.shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in] → [..., out], both in x's dtype."""
        rows = x.reshape(-1, x.shape[-1])
        if not x.is_cuda:
            product = self.by_hand(rows)
        elif self.has_units:
            product = self.on_units(rows)
        else:
            product = self.widened(rows)
        if self.bias is not None:
            product = product + self.bias
        return product.to(x.dtype).view(*x.shape[:-1], len(self.weight))

    def on_units(self, rows: torch.Tensor) -> torch.Tensor:
        """[n, in] → [n, out] bfloat16, by matrix units that multiply float8 and scale by row."""
        rows, scale = to_float8(rows)
        return torch._scaled_mm(
            rows,
            self.weight.t(),
            scale_a=scale,
            scale_b=self.scale[None],
            out_dtype=torch.bfloat16,  # the only one that scales by row go with
            use_fast_accum=True,
        )

    def by_hand(self, rows: torch.Tensor) -> torch.Tensor:
        """The same as on_units, but for the rounding of sums: [n, in] → [n, out] float32.

        It saves no time: it is there to measure what float8 costs in quality.
        """
        rows, scale = to_float8(rows)
        return (rows.float() @ self.weight.float().t()) * scale * self.scale

    def widened(self, rows: torch.Tensor) -> torch.Tensor:
        """[n, in] → [n, out] in their dtype, for units without float8.

        It saves memory, as the wide weight is not kept, but no time. The activations stay as they are.
        """
        return F.linear(rows, (self.weight.float() * self.scale[:, None]).to(rows.dtype))


def to_float8(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[n, k] → float8_e4m3fn [n, k] and float32 scales [n, 1], whose product is closest to `rows`.

    A row's largest magnitude becomes 448, the largest float8; a row of zeros stays one.
    """
    scale = rows.abs().amax(dim=1, keepdim=True).float().clamp(min=1e-12) / FP8_MAX
    # beyond 448 the cast gives NaN, and the division may round up to there
    return (rows.float() / scale).clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn), scale


def has_fp8_units(device: torch.device) -> bool:
    """Can this device multiply float8_e4m3fn matrices? NVIDIA's can from Ada and Hopper on."""
    if device.type != "cuda" or torch.version.cuda is None:  # AMD's float8 is another
        return False
    return torch.cuda.get_device_capability(device) >= (8, 9)
