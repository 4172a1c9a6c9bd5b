"""Where a run's backbone lies, and whether it is the one that the run was trained on."""

import hashlib
import os
from pathlib import Path

import torch
from torch import nn

from pii.common import UserError, path_text
from pii.decoder.backbone import RANDOM_SHAPES, Backbone
from pii.decoder.joint import plain_parameters
from pii.decoder.ready import is_ready, ready_backbone

FOLDER_KINDS = ("relative", "absolute")
SAMPLES = 256  # numbers of each tensor that a checksum looks at


def folder_entry(name: str, run: Path) -> dict[str, str] | None:
    """How a run folder remembers a backbone's folder: from itself, so that both can be moved together, and absolute, so
    that the run can be moved alone. None where `name` is no folder."""
    if not Path(name).is_dir():
        return None
    folder = Path(name).resolve()
    return {"relative": path_text(os.path.relpath(folder, run.resolve())), "absolute": path_text(folder)}


def locate(entry: dict, run: Path) -> str:
    """The name to load a run's backbone by, from what config.json keeps of it. A folder never becomes the name of a
    model of the hub, which could be anyone's. Raises UserError where it is gone."""
    if is_ready(run):
        return ready_backbone()
    if (folder := entry.get("folder")) is None:
        return as_path(entry["name"])
    places = (run.resolve() / as_path(folder["relative"]), Path(as_path(folder["absolute"])))
    found = next((place.resolve() for place in places if place.is_dir()), None)
    if found is None:
        raise UserError(f"the backbone of {run} is no longer in {folder['absolute']}: pass --backbone FOLDER")
    return str(found)


def as_path(text: str) -> str:
    """A path as config.json keeps it, in UTF-8, as this locale writes it."""
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))


@torch.no_grad()
def weight_checksums(backbone: Backbone) -> dict[str, str]:
    """Part of the backbone → checksum of its tensors' shapes and of some of their numbers, in bfloat16: the dtypes that
    a backbone is loaded in give the same ones. Quantised matrices are passed over."""
    parts: dict[str, nn.Module] = {"embeddings": backbone.get_input_embeddings()}
    layers = getattr(backbone, "layers", [backbone])  # other decoders can only be read whole
    parts |= {f"layer {number}": layer for number, layer in enumerate(layers, start=1)}
    return {name: checksum(part) for name, part in parts.items()}


def checksum(part: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in plain_parameters(part):
        flat = tensor.flatten()
        sampled = flat[:: max(1, len(flat) // SAMPLES)].to(torch.bfloat16)
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(sampled.view(torch.int16).cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def check_weights(backbone: Backbone, entry: dict, run: Path) -> None:
    """Raise UserError where the backbone is another than the one a run was trained on: its heads would find nonsense.

    Nothing can be said of runs without checksums, of random weights, which each device draws in its own way, and of
    float16, which rounds otherwise than bfloat16, unless it was used in training too.
    """
    known, dtypes = entry.get("weights", {}), {entry.get("dtype"), str(backbone.dtype).removeprefix("torch.")}
    if entry["name"] in RANDOM_SHAPES or ("float16" in dtypes and len(dtypes) > 1):
        return
    if known and any(known.get(part) not in (None, found) for part, found in weight_checksums(backbone).items()):
        raise UserError(
            f"{backbone.config.name_or_path} is another backbone than {run} was trained on: pass the right one with "
            f"--backbone, or train again"
        )
