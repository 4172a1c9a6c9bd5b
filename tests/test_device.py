"""Where this process computes: a device that cannot be used is one line."""

import pytest
import torch

from pii.device import choose_device
from tests.decoder.test_backbone import refusal


def test_the_cpu_is_a_device_and_auto_is_one():
    assert choose_device("cpu") == torch.device("cpu")
    choose_device("auto")


@pytest.mark.parametrize("name", ["nonsense", "", "cuda:999", "cpu:-1", "meta"])
def test_a_device_that_cannot_be_used_is_one_line_with_the_way_out(name):
    assert "--device cpu" in refusal(choose_device, name)
