"""Where this process computes."""

import torch

from pii.common import UserError


def choose_device(name: str) -> torch.device:
    """The device `auto` stands for, or the named one. Raises UserError where it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name} cannot be used ({str(error).splitlines()[0]}): try --device cpu") from None
    return device


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
