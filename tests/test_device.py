"""Where this process computes: a device that cannot be used is one line."""

import platform
import subprocess
import sys

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


FAULTS = """
import resource, torch
from pii.device import choose_device
choose_device("cpu")
x = torch.ones(10_000_000)  # 40 MB
for _ in range(3):
    x + 1
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    x + 1
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries decide by themselves")
def test_a_cpu_keeps_the_memory_of_tensors_that_are_gone():
    faults = int(subprocess.check_output([sys.executable, "-c", FAULTS], text=True))
    assert faults < 50_000  # 200,000 when it is given back
