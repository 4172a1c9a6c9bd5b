"""In which precision the backbone computes: its dtype, and float8 matrices against the product of the rounded rows."""

import contextlib

import numpy as np
import pytest
import torch
from torch import nn

from pii.decoder import precision
from pii.decoder.precision import Fp8Linear, backbone_dtype, best_seconds, cpu_has_bfloat16, describe_precision

# float8


def to_e4m3(value: float) -> float:
    """The nearest number of 4 exponent and 3 fraction bits, ties to even, from the format's definition."""
    if value == 0:
        return 0.0
    exponent = max(int(np.floor(np.log2(abs(value)))), -6)  # below 2^-6 the numbers are evenly spaced
    step = 2.0 ** (exponent - 3)
    return float(np.round(value / step) * step)  # numpy rounds a half to even


def fp8_product_by_hand(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """x [n, in] times weight [out, in], each row scaled so that its largest magnitude is 448, in plain loops."""

    def scaled(row):
        scale = np.float32(np.abs(row).max()) / np.float32(448)
        return [to_e4m3(float(np.float32(value) / scale)) for value in row], float(scale)

    product = np.zeros((len(x), len(weight)))
    for i, row in enumerate(x):
        left, left_scale = scaled(row)
        for j, column in enumerate(weight):
            right, right_scale = scaled(column)
            product[i, j] = sum(a * b for a, b in zip(left, right, strict=True)) * left_scale * right_scale
    return product if bias is None else product + bias


def a_linear(inputs: int, outputs: int, bias: bool = False, seed: int = 0) -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(inputs, outputs, bias=bias)


def some_activations(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bias", [False, True])
def test_a_float8_linear_is_the_product_of_the_rounded_rows(bias):
    linear, x = a_linear(24, 7, bias), some_activations(5, 24)
    with torch.no_grad():
        linear.weight *= 10.0 ** torch.arange(-3, 4)[:, None]  # rows of other sizes need other scales
    x *= 10.0 ** torch.arange(-2, 3)[:, None]
    weights = [None if w is None else w.detach().numpy() for w in (linear.weight, linear.bias)]
    expected = fp8_product_by_hand(x.numpy(), *weights)
    np.testing.assert_allclose(Fp8Linear(linear)(x).numpy(), expected, rtol=2e-5, atol=2e-5 * np.abs(expected).min())


def test_a_float8_linear_is_near_the_float_one_and_not_equal():
    linear, x = a_linear(512, 256), some_activations(64, 512)
    with torch.no_grad():
        exact, rounded = linear(x), Fp8Linear(linear)(x)
    error = ((rounded - exact).norm() / exact.norm()).item()
    assert 0.01 < error < 0.06  # each factor is off by at most 1/16 of itself


def test_a_float8_linear_holds_the_weight_in_one_byte_with_a_scale_a_row():
    made = Fp8Linear(a_linear(48, 16, bias=True))
    assert made.weight.shape == (16, 48) and made.weight.dtype == torch.float8_e4m3fn
    assert made.scale.shape == (16,) and made.scale.dtype == torch.float32
    assert torch.equal(made.weight.float().abs().amax(dim=1), torch.full((16,), 448.0))


def test_activations_that_are_no_numbers_are_not_hidden():
    x = some_activations(3, 24)
    x[1, 5] = torch.nan
    product = Fp8Linear(a_linear(24, 7))(x)
    assert product[1].isnan().all() and product[[0, 2]].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_gpus_without_float8_units_multiply_by_the_rounded_weight(dtype):
    made, x = Fp8Linear(a_linear(48, 16)), some_activations(5, 48)
    expected = (
        x.double()
        @ torch.tensor(
            [[float(w) * float(s) for w in row] for row, s in zip(made.weight.float(), made.scale, strict=True)]
        )
        .double()
        .T
    )
    product = made.widened(x.to(dtype))
    assert product.dtype == dtype
    torch.testing.assert_close(product.double(), expected, rtol=0, atol=8 * torch.finfo(dtype).eps)


def test_matrix_units_are_given_the_same_product():
    """The library computes it without such units too, if slowly: newer versions of it."""
    made, x = Fp8Linear(a_linear(64, 32)), some_activations(5, 64)
    x *= 10.0 ** torch.arange(-2, 3)[:, None]
    try:
        product = made.on_units(x)
    except NotImplementedError:
        pytest.skip("this torch multiplies float8 on GPUs only")
    expected = made.by_hand(x)
    assert product.dtype == torch.bfloat16
    row_size = expected.abs().amax(dim=1, keepdim=True)
    assert ((product.float() - expected).abs() / row_size).max() < 2**-7


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("bias", [False, True])
def test_a_gpu_and_a_cpu_agree_on_a_float8_linear(bias):
    linear, x = a_linear(512, 256, bias).bfloat16(), some_activations(64, 512).bfloat16()
    on_gpu = Fp8Linear(linear.cuda())
    product = on_gpu(x.cuda()).cpu().float()
    expected = Fp8Linear(linear.cpu())(x).float()
    error = ((product - expected).norm() / expected.norm()).item()
    assert error < (0.01 if on_gpu.has_units else 0.06)


# dtypes


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu_computes_in_bfloat16_only_where_that_is_not_emulated(monkeypatch, native, dtype):
    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    assert backbone_dtype(torch.device("cuda")) == dtype


@pytest.mark.parametrize(("gain", "dtype"), [(0.2, torch.float32), (1.2, torch.float32), (2.0, torch.bfloat16)])
def test_a_cpu_computes_in_bfloat16_only_where_that_was_measured_to_be_far_faster(monkeypatch, gain, dtype):
    monkeypatch.setattr(precision, "BF16_GAIN", 1.5)
    monkeypatch.setattr(precision, "best_seconds", lambda *_: [gain, 1.0])
    cpu_has_bfloat16.cache_clear()
    assert backbone_dtype(torch.device("cpu")) == dtype
    monkeypatch.setattr(precision, "best_seconds", lambda *_: pytest.fail("measured twice in a process"))
    assert backbone_dtype(torch.device("cpu")) == dtype
    cpu_has_bfloat16.cache_clear()


def test_a_mac_computes_in_bfloat16():
    assert backbone_dtype(torch.device("mps")) == torch.bfloat16


def test_the_shortest_call_counts_and_the_first_ones_do_not(monkeypatch):
    clock, calls = [0.0], []

    def work(name: str, *seconds: float):
        def function() -> None:
            clock[0] += seconds[calls.count(name)]
            calls.append(name)

        return function

    monkeypatch.setattr(precision.time, "perf_counter", lambda: clock[0])
    found = best_seconds(work("a", 0.5, 3, 2, 4), work("b", 9, 5, 7, 6), times=3)
    assert found == [2, 5] and calls == ["a", "b"] * 4


@pytest.mark.parametrize(
    ("dtype", "device", "kind", "text"),
    [
        (torch.float32, "cpu", "bf16", "float32 (this CPU is no faster in bfloat16)"),
        (torch.bfloat16, "cpu", "int8", "bfloat16 (this CPU is faster in it than in float32), matrices in int8"),
        (torch.float32, "cpu", "fp32", "float32"),
        (torch.float16, "cuda", "fp8", "float16 (this GPU has no bfloat16), matrices in float8"),
        (torch.bfloat16, "cuda", "bf16", "bfloat16"),
    ],
)
def test_what_is_computed_in_is_said_with_its_reason(dtype, device, kind, text):
    assert describe_precision(dtype, torch.device(device), kind) == text
