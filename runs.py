"""The run folder: its writer, its reader and the training state, side by side. Safetensors and JSON only."""

import contextlib
import glob
import hashlib
import json
import math
import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from backbone import PRECISIONS, backbone_dtype, check_vocabulary, load_backbone
from common import UserError, atomic_folder, atomic_path, write_json
from curves import write_curves
from dataset import PIITokenDataset
from features import Reader
from heads import BIO, KINDS, build_head
from processes import Processes
from spans import Transitions
from tagging import Tagger
from trainee import Plan, Trainee

RUN_VERSION = 2
CONFIG, SUMMARY, METRICS, CURVES = "config.json", "summary.json", "metrics.jsonl", "curves.svg"
STATE = "resume.safetensors"
OPERATING_POINTS = "operating_points.json"  # head → {target_recall, bias, recall, precision, leakage}
# flags that do not change what is trained
FREE_FLAGS = ("output", "resume", "save_every", "cache", "device", "no_compile", "tensorboard")


@contextlib.contextmanager
def run_folder(output: Path, processes: Processes) -> Iterator[Path]:
    """The folder to write a run into, which then takes `output`'s place; the first process alone writes."""
    if processes.rank == 0:
        clear_leftovers(output)
        with atomic_folder(output, SUMMARY, STATE) as folder:
            yield folder
    else:
        yield output
    processes.wait()


def clear_leftovers(output: Path) -> None:
    """Delete what killed runs left: states that were never whole, and empty folders beside `output`."""
    for state in output.glob(f".{STATE}.*"):
        state.unlink(missing_ok=True)
    for folder in output.parent.glob(f".{glob.escape(output.name)}.*/new"):
        with contextlib.suppress(OSError):  # one that holds anything is not deleted
            folder.rmdir()
            folder.parent.rmdir()


def write(
    folder: Path,
    trainees: Sequence[Trainee],
    best: str,
    summary: dict,
    reader: Reader,
    data: PIITokenDataset,
    flags: dict,
) -> None:
    """All files of a finished run."""
    for trainee in trainees:
        save_head(trainee, folder / trainee.plan.name)
    write_json(folder / CONFIG, run_config(trainees, best, summary, reader, data, flags))
    write_json(folder / SUMMARY, summary)
    with (folder / METRICS).open("w", encoding="utf-8") as metrics:
        for record in step_records(trainees):
            metrics.write(json.dumps(record) + "\n")
    write_curves(folder / CURVES, trainees)


def run_config(
    trainees: Sequence[Trainee], best: str, summary: dict, reader: Reader, data: PIITokenDataset, flags: dict
) -> dict:
    """Everything that is needed to rebuild the heads, and how they were made."""
    heads = {
        trainee.plan.name: {
            "kind": trainee.plan.kind,
            "layers": trainee.plan.layers,
            "tags": trainee.head.tags,
            "learning_rate": trainee.plan.learning_rate,
            "epochs": trainee.plan.epochs,
            "calibration": summary["validation"].get(trainee.plan.name, {}).get("calibration"),
        }
        for trainee in trainees
    }
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
        },
        "labels": data.labels,
        "tokenizer": data.meta["tokenizer"],
        "heads": heads,
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


def step_records(trainees: Sequence[Trainee]) -> Iterator[dict]:
    """One a step and head, in the order of the steps; the strict F1 on validation rows where it was looked at."""
    checks = {trainee.plan.name: dict(trainee.checks) for trainee in trainees}
    for step in range(max(len(trainee.log) for trainee in trainees)):
        for trainee in trainees:
            if step < len(trainee.log):
                loss, norm, learning_rate = trainee.log[step]
                steps_an_epoch = trainee.plan.steps // trainee.plan.epochs
                strict = checks[trainee.plan.name].get(step + 1)
                yield {
                    "step": step + 1,
                    "epoch": step // steps_an_epoch,
                    "head": trainee.plan.name,
                    "loss": loss,
                    "gradient_norm": norm,
                    "learning_rate": learning_rate,
                } | ({} if strict is None else {"validation_strict_f1": strict})


def save_head(trainee: Trainee, folder: Path) -> None:
    """`folder`/head.safetensors: the head's weights, float32, and the transitions of begin-aware tags."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in trainee.head.state_dict().items()}
    if trainee.transitions is not None:
        tensors |= {f"transitions.{name}": torch.from_numpy(v) for name, v in trainee.transitions._asdict().items()}
    save_file(tensors, folder / "head.safetensors")


def read_config(run: Path) -> dict:
    """config.json of a run folder. Raises UserError."""
    path = run / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        tokenizer, labels = config["tokenizer"], config["labels"]
        sound = (
            config["run_version"] == RUN_VERSION
            and isinstance(config["backbone"]["name"], str)
            and config["backbone"]["precision"] in PRECISIONS
            and config["best"] in config["heads"]
            and all(sound_head(name, head) for name, head in config["heads"].items())
            and isinstance(config["max_length"], int)
            and config["max_length"] > 0
            and isinstance(tokenizer["sha256"], str)
            and isinstance(tokenizer["vocab_size"], int)
            and labels[0] == "O"
            and all(isinstance(label, str) and label.isprintable() for label in labels)
            and len(set(labels)) == len(labels) > 1
        )
    except FileNotFoundError:
        raise UserError(f"{run} holds no run: train one with python train.py --output {run}") from None
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise UserError(f"{path} is of another version or damaged: train again")
    return config


def sound_head(name: str, head: dict) -> bool:
    """Is this an entry of `heads` that train.py wrote? A name is also a folder's: it must not lead elsewhere."""
    layers, calibration = head["layers"], head["calibration"]
    return (
        name.partition("@")[0] == head["kind"]
        and head["kind"] in KINDS
        and name.isprintable()
        and not set(name) & set("/\\")
        and len(layers) > 0
        and all(type(layer) is int and 0 <= layer < 10_000 for layer in layers)
        and (calibration is None or [type(n) for n in calibration if math.isfinite(n)] == [float, float])
    )


def stored_bias(run: Path, head: str) -> float:
    """The bias on O of the operating point that evaluate.py stored for this head. Raises UserError."""
    path = run / OPERATING_POINTS
    try:
        bias = float(json.loads(path.read_text(encoding="utf-8"))[head]["bias"])
        if not math.isfinite(bias):  # with a bias that is no number every token would be O
            raise ValueError
        return bias
    except FileNotFoundError:
        raise UserError(f"{run} has no operating point: store one with evaluate.py --target-recall 0.99") from None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise UserError(f"{path} holds no operating point of {head}: run evaluate.py --target-recall again") from None


def choose_head(config: dict, run: Path, head: str | None) -> str:
    """The head that was asked for, else the one that was best on validation. Raises UserError."""
    if head is None:
        return config["best"]
    if head not in config["heads"]:
        raise UserError(f"{run} has no head {head}: choose one of {', '.join(config['heads'])}")
    return head


def load_run(
    run: Path, device: torch.device, head: str | None = None, backbone: str | None = None
) -> tuple[Tagger, dict]:
    """A trained head of a run folder, ready to predict, and the run's config. Raises UserError.

    `backbone` says where the backbone is now, if it is not where it was in training.
    """
    config = read_config(run)
    head = choose_head(config, run, head)
    entry, name = config["heads"][head], backbone or config["backbone"]["name"]
    module = load_backbone(
        name,
        backbone_dtype(device),
        layers=max(entry["layers"]),
        precision=config["backbone"]["precision"],
        device=device,
    )
    check_vocabulary(module, config["tokenizer"])
    reader = Reader(module, entry["layers"])
    built, transitions = read_head(run, config, head, reader.width)
    return Tagger(built.to(device), reader, entry["layers"], transitions, entry["calibration"]), config


def read_head(run: Path, config: dict, head: str, width: int) -> tuple[nn.Module, Transitions | None]:
    """A head of a run on features of this width, and its transitions if its tags have them. Raises UserError."""
    path = run / head / "head.safetensors"
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read {path} ({type(error).__name__}): train again") from None
    transitions = {part: weights.pop(f"transitions.{part}", None) for part in Transitions._fields}
    built = build_head(config["heads"][head]["kind"], width, len(config["labels"]))
    try:
        built.load_state_dict(weights)
        if built.tags == BIO:
            transitions = Transitions(**{part: tensor.numpy() for part, tensor in transitions.items()})
            if {part.shape for part in transitions} != {(2 * len(config["labels"]) - 1,)}:
                raise RuntimeError
            if any(np.isnan(part).any() for part in transitions):
                raise RuntimeError
        else:
            transitions = None
    except (RuntimeError, AttributeError, TypeError):
        raise UserError(f"{path} does not fit the backbone: train again") from None
    if not all(torch.isfinite(weight).all() for weight in built.state_dict().values()):
        raise UserError(f"{path} holds weights that are not finite: train again")
    return built, transitions


def start_from(run: Path, trainee: Trainee, data: PIITokenDataset) -> None:
    """Give a head in training the weights of the head of its kind in another run: the best one, else the first.

    Tags of labels that both runs know keep their weights, the others stay as new ones are. Raises UserError where the
    other run's tokens or layers differ.
    """
    config = read_config(run)
    names = [config["best"], *config["heads"]]
    head = next((name for name in names if config["heads"][name]["kind"] == trainee.plan.kind), None)
    if head is None:
        raise UserError(f"{run} has no {trainee.plan.kind} head to start from: it has {', '.join(config['heads'])}")
    if config["tokenizer"]["sha256"] != data.meta["tokenizer"]["sha256"]:
        raise UserError(f"{run} was trained on another tokenizer than this data's: nothing can start from it")
    layers = config["heads"][head]["layers"]
    if layers != trainee.plan.layers:
        raise UserError(f"{head} of {run} reads other layers: add --layers {' '.join(map(str, layers))} to start there")
    built, _ = read_head(run, config, head, trainee.head_width)
    theirs, ours = shared_tags(config["labels"], data.labels, trainee.head.tags)
    own = trainee.head.state_dict()
    for name, weights in built.state_dict().items():
        if name in trainee.head.tag_weights:
            own[name][ours] = weights[theirs].to(own[name].device)
        else:
            own[name].copy_(weights)
    trainee.is_standardised = True


def shared_tags(theirs: Sequence[str], ours: Sequence[str], scheme: str) -> tuple[list[int], list[int]]:
    """The tags of the labels that stand in both lists, as numbered in each."""
    shared = [label for label in ours if label in theirs]

    def tags(labels: Sequence[str]) -> list[int]:
        ids = [labels.index(label) for label in shared]
        return ids if scheme != BIO else [tag for i in ids for tag in ((2 * i - 1, 2 * i) if i else (0,))]

    return tags(theirs), tags(ours)


# training state


def fingerprint(plans: Sequence[Plan], flags: dict, data: PIITokenDataset) -> str:
    """SHA-256 of what a training state belongs to: other flags or data cannot go on from it."""
    kept = {name: value for name, value in flags.items() if name not in FREE_FLAGS}
    everything = json.dumps([[plan._asdict() for plan in plans], kept, data.meta], sort_keys=True)
    return hashlib.sha256(everything.encode()).hexdigest()


def save_state(output: Path, step: int, trainees: Sequence[Trainee], belongs_to: str) -> None:
    """Put the state of all heads after `step` into `output`, in place of an older one."""
    tensors = {name: tensor for trainee in trainees for name, tensor in trainee.state().items()}
    with atomic_path(output / STATE) as path:
        save_file(tensors, path, metadata={"step": str(step), "belongs_to": belongs_to})


def load_state(output: Path, trainees: Sequence[Trainee], belongs_to: str) -> int:
    """Bring the heads to the saved state and return its step; 0 where none was saved. Raises UserError."""
    path = output / STATE
    if not path.exists():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        if metadata["belongs_to"] != belongs_to:
            raise UserError(f"{path} is of a run with other flags or data: use the same ones, or leave out --resume")
        tensors = load_file(path)
        for trainee in trainees:
            own = {name: tensor for name, tensor in tensors.items() if name.startswith(f"{trainee.plan.name}/")}
            trainee.load_state(own)
        return int(metadata["step"])
    except UserError:
        raise
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError, TypeError):
        raise UserError(f"{path} is damaged: delete it and train anew") from None


def is_complete(output: Path, belongs_to: str) -> bool:
    """Does `output` hold the finished run of just this command?"""
    try:
        summary = json.loads((output / SUMMARY).read_text(encoding="utf-8"))
        return not (output / STATE).exists() and summary["belongs_to"] == belongs_to
    except (OSError, ValueError, KeyError, TypeError):
        return False
