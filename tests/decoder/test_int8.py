"""int8 matrices, against the product of the rounded rows by hand: promises of int8.py."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pii.decoder import int8
from pii.decoder.int8 import (
    Int8Linear,
    choose_product,
    fastest_on_cpu,
    in_float32,
    on_cuda_units,
    on_units,
    smoothing_of,
    to_int8,
)
from tests.decoder.test_precision import a_linear, some_activations


def int8_product_by_hand(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """x [n, in] times weight [out, in], each row scaled so that its largest magnitude is 127, in plain loops."""

    def rounded(row):
        scale = np.float32(np.abs(row).max()) / np.float32(127)
        return [int(np.round(np.float32(value) / scale)) for value in row], float(scale)

    product = np.zeros((len(x), len(weight)))
    for i, row in enumerate(x):
        left, left_scale = rounded(row)
        for j, column in enumerate(weight):
            right, right_scale = rounded(column)
            product[i, j] = sum(a * b for a, b in zip(left, right, strict=True)) * left_scale * right_scale
    return product if bias is None else product + bias


def some_int8(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(-127, 128, shape, dtype=torch.int8, generator=torch.Generator().manual_seed(seed))


def relative_error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return ((found - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize("product", [in_float32, on_units, on_cuda_units])
@pytest.mark.parametrize("bias", [False, True])
def test_an_int8_linear_is_the_product_of_the_rounded_rows(monkeypatch, product, bias):
    monkeypatch.setattr(int8, "choose_product", lambda _: product)
    linear, x = a_linear(24, 7, bias), some_activations(5, 24)
    with torch.no_grad():
        linear.weight *= 10.0 ** torch.arange(-3, 4)[:, None]  # rows of other sizes need other scales
    x *= 10.0 ** torch.arange(-2, 3)[:, None]
    weights = [None if w is None else w.detach().numpy() for w in (linear.weight, linear.bias)]
    expected = int8_product_by_hand(x.numpy(), *weights)
    np.testing.assert_allclose(Int8Linear(linear)(x).numpy(), expected, rtol=2e-5, atol=2e-5 * np.abs(expected).min())


def outliers() -> tuple[nn.Linear, torch.Tensor]:
    """As a decoder has them: some tokens and some rows of a matrix a hundred times as large as the others."""
    linear, x = a_linear(512, 256), some_activations(64, 512)
    with torch.no_grad():
        linear.weight[::8] *= 100
    x[::8] *= 100
    return linear, x


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_outliers_cost_the_other_rows_nothing(dtype):
    """With one scale a tensor, of the input or of the weight, the small ones would come out wrong by half."""
    linear, x = outliers()
    with torch.no_grad():
        exact, found = linear(x), Int8Linear(linear.to(dtype))(x.to(dtype)).float()
    small = torch.ones(64, 256, dtype=torch.bool)
    small[::8], small[:, ::8] = False, False
    assert 0.001 < relative_error(found[small], exact[small]) < 0.02
    assert relative_error(found, exact) < 0.02


@pytest.mark.parametrize("whose", ["input", "weight"])
def test_one_scale_a_tensor_would_fail_the_test_above(whose):
    linear, x = outliers()
    rows, weight = x, linear.weight.detach()
    coarse = {"input": rows, "weight": weight}[whose]
    scale = coarse.abs().max() / 127
    coarse = (coarse / scale).round() * scale
    small = (slice(1, 8), slice(1, 8))
    found = F.linear(coarse, weight) if whose == "input" else F.linear(rows, coarse)
    assert relative_error(found[small], linear(x)[small]) > 0.1


def test_columns_in_which_the_input_is_large_cost_less_once_they_are_known():
    linear, x = a_linear(512, 256), some_activations(64, 512)
    x[:, ::64] *= 100
    with torch.no_grad():
        exact, blind, smoothed = linear(x), Int8Linear(linear)(x), Int8Linear(linear, x.abs().amax(dim=0))(x)
    assert relative_error(smoothed, exact) < 0.6 * relative_error(blind, exact)


def test_smoothing_makes_the_largest_of_a_column_alike_in_input_and_weight():
    weight, x = a_linear(24, 7).weight.detach(), some_activations(40, 24) * 50
    smooth = smoothing_of(x.abs().amax(dim=0), weight)
    torch.testing.assert_close((x * smooth).abs().amax(dim=0), (weight / smooth).abs().amax(dim=0))
    assert smoothing_of(torch.zeros(24), torch.zeros(7, 24)).isfinite().all()


def test_the_weight_is_held_in_one_byte_with_a_float32_scale_a_row():
    made = Int8Linear(a_linear(48, 16, bias=True).bfloat16())
    assert made.weight.shape == (16, 48) and made.weight.dtype == torch.int8
    assert made.scale.shape == (16,) and made.scale.dtype == torch.float32 and made.bias.dtype == torch.bfloat16
    assert torch.equal(made.weight.int().abs().amax(dim=1), torch.full((16,), 127, dtype=torch.int32))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_nothing_wraps_around_to_minus_128(dtype):
    for seed in range(20):
        rows = some_activations(200, 33, seed=seed).to(dtype)
        rows = torch.cat([rows, -rows.abs()])  # the largest magnitudes are negative
        found, scale = to_int8(rows)
        assert found.min() >= -127
        assert (found * scale - rows.float()).abs().max(dim=1).values.le(0.5001 * scale[:, 0]).all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_activations_that_are_no_numbers_are_not_hidden(value):
    x = some_activations(3, 24)
    x[1, 5] = value
    product = Int8Linear(a_linear(24, 7))(x)
    assert not product[1].isfinite().any() and product[[0, 2]].isfinite().all()


@pytest.mark.parametrize("product", [in_float32, on_units, on_cuda_units])
@pytest.mark.parametrize("sizes", [(1, 8, 8), (16, 24, 7), (17, 25, 16), (40, 2048, 3), (0, 8, 8), (3, 1, 1)])
def test_all_ways_to_multiply_give_the_same_whole_numbers(product, sizes):
    n, inputs, outputs = sizes
    rows, weight = some_int8(n, inputs), some_int8(outputs, inputs, seed=1)
    found = product(rows, weight)
    assert found.shape == (n, outputs)
    assert torch.equal(found.long(), rows.long() @ weight.long().T)


@pytest.mark.parametrize("sizes", [(1, 8, 8), (16, 24, 7), (17, 25, 16), (40, 33, 3), (0, 8, 8)])
def test_a_gpus_units_get_the_shapes_they_take(monkeypatch, sizes):
    product, asked = torch._int_mm, []
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: asked.append((a.shape, b.shape)) or product(a, b))
    n, inputs, outputs = sizes
    on_cuda_units(some_int8(n, inputs), some_int8(outputs, inputs, seed=1))
    (rows, columns), (_, outs) = asked[0]
    assert rows > 16 and columns % 8 == 0 and outs % 8 == 0


@pytest.mark.parametrize(("seconds", "chosen"), [((1.0, 2.0), in_float32), ((2.0, 1.0), on_units)])
def test_a_cpu_multiplies_the_way_that_was_measured_faster(monkeypatch, seconds, chosen):
    monkeypatch.setattr(int8, "best_seconds", lambda *_: list(seconds))
    fastest_on_cpu.cache_clear()
    assert choose_product(torch.device("cpu")) is chosen
    fastest_on_cpu.cache_clear()


@pytest.mark.parametrize(
    ("capability", "cuda", "chosen"),
    [
        ((7, 5), "12.8", on_cuda_units),
        ((9, 0), "12.8", on_cuda_units),
        ((7, 0), "12.8", in_float32),
        ((9, 4), None, in_float32),  # AMD
    ],
)
def test_a_gpu_uses_its_int8_units_where_it_has_them(monkeypatch, capability, cuda, chosen):
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert choose_product(torch.device("cuda")) is chosen


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("shape", [(64, 512), (3, 512), (1, 24)])
def test_a_gpu_and_a_cpu_agree_on_an_int8_linear(shape):
    linear, x = a_linear(shape[1], 250, bias=True), some_activations(*shape)
    product = Int8Linear(linear.cuda())(x.cuda()).cpu()
    torch.testing.assert_close(product, Int8Linear(linear.cpu())(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("device", "product", "seconds", "chosen", "said"),
    [
        ("cpu", on_units, (2.0, 1.0), "int8", "int8 layers are 2.0 times as fast as float32 ones"),
        ("cpu", on_units, (1.0, 1.0), "bf16", "int8 layers are 1.0 times as fast"),
        ("cpu", in_float32, (2.0, 1.0), "bf16", "float32 here"),  # a busy moment: the units are not there
        ("cuda", on_units, (2.0, 1.0), "bf16", "GPU"),
    ],
)
def test_the_fastest_precision_is_int8_where_the_units_are_there_and_pay(
    monkeypatch, device, product, seconds, chosen, said
):
    monkeypatch.setattr(int8, "fastest_on_cpu", lambda: product)
    monkeypatch.setattr(int8, "backbone_dtype", lambda _: torch.float32)
    monkeypatch.setattr(int8, "best_seconds", lambda *_: list(seconds))
    precision, why = int8.fastest_precision(torch.device(device))
    assert precision == chosen and said in why
