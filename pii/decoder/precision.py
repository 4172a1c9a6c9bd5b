"""In which precision the backbone computes: its dtype, and matrices in float8."""

import torch
import torch.nn.functional as F
from torch import nn

PRECISIONS = ("bf16", "fp8")
FP8_MAX = torch.finfo(torch.float8_e4m3fn).max  # 448


def backbone_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device has it natively.

    A CPU mostly emulates it (measured with AVX2: six times slower than float32), so it computes in float32; an older
    GPU, as a T4, has float16 units only. The decoder's norms compute in float32 whatever this is.
    """
    if device.type == "cpu":
        return torch.float32
    if device.type == "cuda":
        with torch.cuda.device(device):  # the question below is about the current one
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16


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
