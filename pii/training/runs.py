"""The run folder: its writer, its reader and the training state, side by side. Safetensors and JSON only."""

import contextlib
import hashlib
import json
import os
import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load, load_file, save_file

from pii.common import UserError, path_text
from pii.corpus.store import PreparedSplit
from pii.decoder.backbone import Backbone, check_vocabulary, load_backbone
from pii.decoder.features import Reader
from pii.decoder.precision import backbone_dtype
from pii.decoder.source import check_weights, folder_entry, locate, weight_checksums
from pii.heads.heads import Head, build_head
from pii.heads.tagging import Tagger
from pii.outputs import atomic_folder, atomic_path, write_json
from pii.pages.curves import write_curves
from pii.processes import Processes
from pii.training.plans import Plan
from pii.training.run_config import CONFIG, RUN_VERSION, choose_head, read_config
from pii.training.trainer import HeadTrainer
from pii.untrusted import read_json, safe_join

SUMMARY, METRICS, CURVES = "summary.json", "metrics.jsonl", "curves.svg"
HEAD, STATE = "head.safetensors", "resume.safetensors"
# flags that do not change what is trained
FREE_FLAGS = ("output", "resume", "save_every", "cache", "device", "no_compile", "tensorboard")


@contextlib.contextmanager
def run_folder(output: Path, processes: Processes) -> Iterator[Path]:
    """The folder to write a run into, which then takes `output`'s place; the first process alone writes."""
    if processes.rank == 0:
        with atomic_folder(output, SUMMARY, STATE) as folder:
            yield folder
    else:
        yield output
    processes.barrier()


def write(
    folder: Path,
    trainers: Sequence[HeadTrainer],
    best: str,
    summary: dict,
    reader: Reader,
    split: PreparedSplit,
    flags: dict,
) -> None:
    """All files of a finished run."""
    checksums = {trainer.plan.name: save_head(trainer, folder / trainer.plan.name) for trainer in trainers}
    write_json(folder / CONFIG, run_config(trainers, checksums, best, summary, reader, split, flags))
    write_json(folder / SUMMARY, summary)
    with (folder / METRICS).open("w", encoding="utf-8") as metrics:
        for record in step_records(trainers):
            metrics.write(json.dumps(record) + "\n")
    logs = {trainer.plan.name: trainer.log for trainer in trainers}
    write_curves(folder / CURVES, logs, {trainer.plan.name: trainer.checks for trainer in trainers})


def run_config(
    trainers: Sequence[HeadTrainer],
    checksums: dict[str, str],
    best: str,
    summary: dict,
    reader: Reader,
    split: PreparedSplit,
    flags: dict,
) -> dict:
    """Everything that is needed to rebuild the heads, and how they were made; head → SHA-256 of its file is given."""
    backbone = reader.backbone.config
    return {
        "run_version": RUN_VERSION,
        "backbone": {
            "name": flags["backbone"],
            "revision": getattr(backbone, "_commit_hash", None),
            "precision": flags["precision"],
            "dtype": str(reader.backbone.dtype).removeprefix("torch."),
            "hidden_size": backbone.hidden_size,
            "vocab_size": backbone.vocab_size,
            "folder": folder_entry(flags["backbone"], Path(flags["output"])),
            "weights": weight_checksums(reader.backbone),
        },
        "labels": split.labels,
        "tokenizer": split.meta["tokenizer"],
        "heads": {
            trainer.plan.name: head_config(trainer, checksums[trainer.plan.name], summary["validation"])
            for trainer in trainers
        },
        "best": best,
        "max_length": flags["max_length"],
        "flags": flags,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": version("transformers"),
            "numpy": np.__version__,
        },
        "seed": flags["seed"],
    }


def head_config(trainer: HeadTrainer, sha256: str, validation: dict[str, dict]) -> dict:
    plan = trainer.plan
    return {
        "kind": plan.kind,
        "layers": plan.layers,
        **({"units": plan.units} if plan.units else {}),
        "tags": trainer.head.tags,
        "learning_rate": plan.learning_rate,
        "dropout": plan.dropout,
        "epochs": plan.epochs,
        "sha256": sha256,
        "calibration": validation.get(plan.name, {}).get("calibration"),
    }


def step_records(trainers: Sequence[HeadTrainer]) -> Iterator[dict]:
    """One a step and head, in the order of the steps; the strict F1 on validation rows where it was looked at."""
    checks = {trainer.plan.name: {step: strict for step, strict in trainer.checks} for trainer in trainers}
    for step in range(max(len(trainer.log) for trainer in trainers)):
        for trainer in trainers:
            if step < len(trainer.log):
                loss, norm, learning_rate = trainer.log[step]
                steps_an_epoch = trainer.plan.steps // trainer.plan.epochs
                strict = checks[trainer.plan.name].get(step + 1)
                yield {
                    "step": step + 1,
                    "epoch": step // steps_an_epoch,
                    "head": trainer.plan.name,
                    "loss": loss,
                    "gradient_norm": norm,
                    "learning_rate": learning_rate,
                } | ({} if strict is None else {"validation_strict_f1": strict})


def save_head(trainer: HeadTrainer, folder: Path) -> str:
    """`folder`/head.safetensors: the head's weights, float32. Returns its SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in trainer.head.state_dict().items()}
    save_file(tensors, folder / HEAD)
    return hashlib.sha256((folder / HEAD).read_bytes()).hexdigest()


def check_name(backbone: str) -> None:
    """Raise UserError where config.json could not hold a backbone's name, or would be refused for it."""
    try:
        sound = os.fsencode(backbone).decode("utf-8").isprintable() and backbone != ""
    except UnicodeDecodeError:
        sound = False
    if not sound:
        raise UserError(f"--backbone {path_text(backbone)!r}: name it in printable UTF-8, or name a link to it so")


def load_run(
    run: Path, device: torch.device, head: str | None = None, backbone: str | None = None
) -> tuple[Tagger, dict]:
    """A trained head of a run folder, ready to predict, and the run's config. Raises UserError.

    `backbone` says where the backbone is now, if it is not where it was in training: a model of the hub is otherwise
    taken at the revision that training read. What was trained in float32 is read in float32 on every CPU.
    """
    config = read_config(run)
    [tagger] = load_taggers(run, config, device, [choose_head(config, run, head)], backbone)
    return tagger, config


def load_taggers(
    run: Path, config: dict, device: torch.device, heads: Sequence[str], backbone: str | None = None
) -> list[Tagger]:
    """Some heads of a run whose config this is, on one reader. Raises UserError."""
    entries = [config["heads"][head] for head in heads]
    layers = list(dict.fromkeys(layer for entry in entries for layer in entry["layers"]))
    in_float32 = device.type == "cpu" and config["backbone"].get("dtype") == "float32"
    module = load_backbone(
        backbone or locate(config["backbone"], run),
        torch.float32 if in_float32 else backbone_dtype(device),
        layers=max(layers),
        precision=config["backbone"]["precision"],
        device=device,
        revision=None if backbone else config["backbone"].get("revision"),
    )
    check_vocabulary(module, config["tokenizer"])
    check_weights(module, config["backbone"], run)
    reader, hidden_size = Reader(module, layers), module.config.hidden_size
    built = [
        read_head(run, config, head, hidden_size * len(entry["layers"]))
        for head, entry in zip(heads, entries, strict=True)
    ]
    return [
        Tagger(head.to(device), reader, entry["layers"], entry["calibration"])
        for head, entry in zip(built, entries, strict=True)
    ]


def read_head(run: Path, config: dict, head: str, width: int) -> Head:
    """A head of a run on features of this width. Raises UserError."""
    path = safe_join(run, head, HEAD)
    entry = config["heads"][head]
    weights = read_weights(path, entry.get("sha256"))
    with torch.device("meta"):  # nothing is allocated for shapes that the file does not hold
        built = build_head(entry["kind"], width, len(config["labels"]), units=entry.get("units"))
    expected = {name: (weight.shape, weight.dtype) for name, weight in built.state_dict().items()}
    if {name: (weight.shape, weight.dtype) for name, weight in weights.items()} != expected:
        raise UserError(f"{path} does not fit the backbone: train again")
    built.load_state_dict(weights, assign=True)
    if not all(weight.isfinite().all() for weight in weights.values()):
        raise UserError(f"{path} holds weights that are not finite: train again")
    return built


def read_weights(path: Path, sha256: str | None) -> dict[str, torch.Tensor]:
    """The tensors of a head's file whose checksum is this one. Raises UserError."""
    try:
        raw = path.read_bytes()
        found = hashlib.sha256(raw).hexdigest()
        if sha256 is None:  # a head that cannot be told from another is used only where the user says so
            raise UserError(
                f"{path.parent.parent / CONFIG} has no checksum of this head, as in runs of older versions: train "
                f'again, or if the run is yours add "sha256": "{found}" to the entry of {path.parent.name}'
            )
        if sha256 != found:
            raise UserError(f"{path} is not the head that {CONFIG} was written for: copy the whole run again")
        return load(raw)
    except UserError:
        raise
    except Exception as error:  # safetensors passes on what dtypes it does not know raise
        raise UserError(f"cannot read {path} ({type(error).__name__}): train again") from None


# training state


def fingerprint(plans: Sequence[Plan], flags: dict, split: PreparedSplit) -> str:
    """SHA-256 of what a training state belongs to: other flags or data cannot go on from it."""
    kept = {name: value for name, value in flags.items() if name not in FREE_FLAGS}
    everything = json.dumps([[plan._asdict() for plan in plans], kept, split.meta], sort_keys=True)
    return hashlib.sha256(everything.encode()).hexdigest()


def save_state(
    output: Path, step: int, trainers: Sequence[HeadTrainer], belongs_to: str, backbone: Backbone | None = None
) -> None:
    """Put the state of all heads after `step` into `output`, in place of an older one. What a `backbone` on a CPU
    computes in is kept too."""
    tensors = {name: tensor for trainer in trainers for name, tensor in trainer.state().items()}
    metadata = {"step": str(step), "belongs_to": belongs_to}
    if backbone is not None and backbone.device.type == "cpu":
        metadata["cpu_dtype"] = str(backbone.dtype).removeprefix("torch.")
    with atomic_path(output / STATE) as path:
        save_file(tensors, path, metadata=metadata)


def saved_dtype(output: Path) -> torch.dtype | None:
    """What the backbone of a saved state computed in on a CPU: there a training goes on in it, whatever would be chosen
    now, so that it ends with the same bits. None where nothing is said; what is damaged load_state refuses."""
    try:
        with safe_open(safe_join(output, STATE), framework="pt") as file:
            return {"float32": torch.float32, "bfloat16": torch.bfloat16}.get(file.metadata()["cpu_dtype"])
    except Exception:  # of safetensors, at what it cannot read
        return None


def load_state(output: Path, trainers: Sequence[HeadTrainer], belongs_to: str) -> int:
    """Bring the heads to the saved state and return its step; 0 where none was saved. Raises UserError."""
    path = safe_join(output, STATE)
    if not path.exists():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        if metadata["belongs_to"] != belongs_to:
            raise UserError(f"{path} is of a run with other flags or data: use the same ones, or leave out --resume")
        tensors = load_file(path)
        for trainer in trainers:
            own = {name: tensor for name, tensor in tensors.items() if name.startswith(f"{trainer.plan.name}/")}
            trainer.load_state(own)
        step = int(metadata["step"])
        if step != max(len(trainer.log) for trainer in trainers):
            raise ValueError
        return step
    except UserError:
        raise
    except Exception:  # of safetensors, PyTorch and its optimizers
        raise UserError(f"{path} is damaged: delete it and train anew") from None


@contextlib.contextmanager
def telling_what_is_kept(output: Path, belongs_to: str) -> Iterator[None]:
    """Add to what ends a training early which state is left in `output`."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{error}; {what_is_kept(output, belongs_to)}", error.code) from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(what_is_kept(output, belongs_to)) from None


def what_is_kept(output: Path, belongs_to: str) -> str:
    """Which training state a training that ends early leaves in `output`."""
    path = output / STATE
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        if metadata["belongs_to"] == belongs_to:
            return f"the state after step {int(metadata['step'])} is kept: the same command with --resume goes on"
        return f"of this training nothing was saved; {path} of an earlier one is kept"
    except FileNotFoundError:
        return "nothing was saved"
    except Exception:  # of safetensors, at what it cannot read
        return f"nothing was saved; {path} is damaged"


def is_complete(output: Path, belongs_to: str) -> bool:
    """Does `output` hold the finished run of just this command?"""
    try:
        summary = read_json(safe_join(output, SUMMARY))
        return not (output / STATE).exists() and summary["belongs_to"] == belongs_to
    except (OSError, ValueError, KeyError, TypeError):
        return False
