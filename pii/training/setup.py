"""What stands ready before the first step: the backbone as far as some head reads it, and a cache for its features."""

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from pii.common import UserError
from pii.corpus.store import PreparedSplit
from pii.corpus.windows import Windows
from pii.decoder.backbone import Backbone, check_vocabulary, cut_layers, load_backbone
from pii.decoder.features import Cache, Reader, choose_cache
from pii.decoder.precision import backbone_dtype
from pii.decoder.source import check_weights
from pii.decoder.states import compile_layers, compiling_pays
from pii.heads.heads import BIO
from pii.processes import Processes
from pii.training.compare import TakeStep, choose_layers
from pii.training.config import TrainingConfig
from pii.training.plans import strong_layers
from pii.training.run_config import head_of_kind, read_config
from pii.training.runs import read_head
from pii.training.trainer import HeadTrainer


def build_reader(
    backbone_name: str,
    depth: int,
    precision: str,
    compiled: bool,
    config: TrainingConfig,
    split: PreparedSplit,
    windows: Windows,
    processes: Processes,
    take_step: TakeStep,
    dtype: torch.dtype | None = None,
) -> tuple[Reader, list[int]]:
    """The backbone of this depth as far as some head reads it, and the layers of the strong head: with layers AUTO,
    those that small heads trained by `take_step` like best. The decoder layers are `compiled` where that pays. It
    computes in `dtype`, or in what suits the device. Raises UserError."""
    layers = strong_layers(config.layers, depth)
    lowest = depth if config.trains_documented or not layers else max(layers)
    dtype = dtype or backbone_dtype(processes.device)
    backbone = load_backbone(backbone_name, dtype, layers=lowest, precision=precision, device=processes.device)
    check_vocabulary(backbone, split.meta["tokenizer"])
    if config.trains_strong and not layers:
        layers = choose_layers(backbone, split, windows, config, processes, take_step)
        if not config.trains_documented:
            cut_layers(backbone, max(layers))
    read = {depth} if config.trains_documented else set()
    read |= set(layers) if config.trains_strong else set()
    reader = Reader(backbone, sorted(read), config.tokens_per_forward)
    if compiled and compiling_pays(processes.device, precision, int(windows.lengths.sum())):
        started = time.perf_counter()
        compile_layers(backbone)
        reader(split.tokens["token_ids"], windows[:64]).sum().item()  # the compiler works on the first batches
        processes.print(f"compiled the backbone's layers in {time.perf_counter() - started:.1f} s")
    return reader, layers


def build_cache(
    kind: str, folder: Path, reader: Reader, windows: Windows, epochs: int, processes: Processes
) -> Cache | None:
    """Where the features of this process's windows wait for the epochs after the first: `kind` is one of CACHES, a
    file would lie in `folder`. None where nothing is kept. Raises UserError where they do not fit."""
    if epochs == 1:
        return None
    own = windows[processes.own(len(windows))]
    size = int(windows.lengths.sum()) * reader.width * reader.backbone.dtype.itemsize  # all processes share a machine
    kind = choose_cache(kind, size, folder)
    processes.print(f"cache: {size / 2**30:.2f} GiB of features, {kind}")
    if kind == "none":
        return None
    return Cache(own, reader.width, reader.backbone.dtype, folder if kind == "disk" else None)


def start_from(run: Path, trainer: HeadTrainer, backbone: Backbone, split: PreparedSplit) -> None:
    """Give a head in training the weights of the head of its kind in another run: the best one, else the first.

    Tags of labels that both runs know keep their weights, the others stay as new ones are. Raises UserError where the
    other run's backbone, tokens or layers differ.
    """
    config = read_config(run)
    head = head_of_kind(config, trainer.plan.kind)
    if head is None:
        raise UserError(f"{run} has no {trainer.plan.kind} head to start from: it has {', '.join(config['heads'])}")
    if config["tokenizer"]["sha256"] != split.meta["tokenizer"]["sha256"]:
        raise UserError(f"{run} was trained on another tokenizer than this data's: nothing can start from it")
    layers = config["heads"][head]["layers"]
    if layers != trainer.plan.layers:
        raise UserError(f"{head} of {run} reads other layers: add --layers {' '.join(map(str, layers))} to start there")
    units = config["heads"][head].get("units")
    if trainer.plan.units != units:
        raise UserError(f"{head} of {run} has {units} units: add --strong-units {units} to start there")
    check_weights(backbone, config["backbone"], run)
    built = read_head(run, config, head, trainer.head_width)
    theirs, ours = shared_tags(config["labels"], split.labels, trainer.head.tags)
    own = trainer.head.state_dict()
    for name, weights in built.state_dict().items():
        if name in trainer.head.tag_weights:
            own[name][ours] = weights[theirs].to(own[name].device)
        else:
            own[name].copy_(weights)
    trainer.is_standardised = True


def shared_tags(theirs: Sequence[str], ours: Sequence[str], scheme: str) -> tuple[list[int], list[int]]:
    """The tags of the labels that stand in both lists, as numbered in each."""
    shared = [label for label in ours if label in theirs]

    def tags(labels: Sequence[str]) -> list[int]:
        ids = [labels.index(label) for label in shared]
        return ids if scheme != BIO else [tag for i in ids for tag in ((2 * i - 1, 2 * i) if i else (0,))]

    return tags(theirs), tags(ours)
