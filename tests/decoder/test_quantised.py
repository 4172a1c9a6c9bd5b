"""What linear layers in float8 and in int8 have in common."""

import pytest
import torch

from pii.decoder.int8 import Int8Linear
from pii.decoder.precision import Fp8Linear
from tests.decoder.test_precision import a_linear, some_activations


@pytest.mark.parametrize("kind", [Fp8Linear, Int8Linear])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(24,), (3, 24), (2, 3, 24), (2, 0, 24)])
def test_a_quantised_linear_keeps_the_shape_and_dtype_of_its_input(kind, dtype, shape):
    product = kind(a_linear(24, 7, bias=True).to(dtype))(some_activations(*shape).to(dtype))
    assert product.shape == (*shape[:-1], 7) and product.dtype == dtype


@pytest.mark.parametrize("kind", [Fp8Linear, Int8Linear])
def test_rows_of_zeros_and_of_huge_or_tiny_numbers_stay_finite(kind):
    linear = a_linear(24, 6)
    with torch.no_grad():
        linear.weight[0] = 0
        linear.weight[1] *= 1e30
        linear.weight[2] *= 1e-30
    x = some_activations(5, 24)
    x[0], x[1] = 0, x[1] * 1e-30
    x[2] *= 1e5
    product = kind(linear)(x)
    assert product.isfinite().all()
    assert (product[0] == 0).all() and (product[:, 0] == 0).all() and (product[2:, 3:] != 0).all()
