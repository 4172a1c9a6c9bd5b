"""config.json of a run folder: everything needed to rebuild its heads, read and checked; and its operating points."""

import math
from pathlib import Path

from pii.common import UserError
from pii.corpus.store import MAX_LABELS
from pii.decoder.precision import PRECISIONS
from pii.decoder.source import FOLDER_KINDS
from pii.heads.heads import KINDS, MOST_UNITS, STRONG, STRONG_UNITS
from pii.untrusted import read_json, safe_join

RUN_VERSION = 3
CONFIG = "config.json"
OPERATING_POINTS = "operating_points.json"  # head → target recall → {bias, recall, leakage, ...}, the latest one last
MOST_BIAS = 1000.0  # far beyond what evaluate.py tries


def read_config(run: Path) -> dict:
    """config.json of a run folder. Raises UserError."""
    path = safe_join(run, CONFIG)
    try:
        config = read_json(path)
        sound = sound_config(config)
    except FileNotFoundError:
        raise UserError(f"{run} holds no run: train one with python train.py --output {run}") from None
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise UserError(f"{path} is of another version or damaged: train again")
    for head in config["heads"].values():
        if head["kind"] == STRONG:
            head.setdefault("units", STRONG_UNITS)  # what all had before it could be told
    return config


def head_of_kind(config: dict, kind: str) -> str | None:
    """The run's best head where it is of this kind, else the first one that is."""
    names = [config["best"], *config["heads"]]
    return next((name for name in names if config["heads"][name]["kind"] == kind), None)


def sound_config(config: dict) -> bool:
    """Is this what train.py wrote, as far as it is read again? Raises what comes of looking into other things."""
    tokenizer, labels = config["tokenizer"], config["labels"]
    return (
        config["run_version"] == RUN_VERSION
        and sound_backbone(config["backbone"])
        and config["best"] in config["heads"]
        and all(sound_head(name, head) for name, head in config["heads"].items())
        and type(config["max_length"]) is int
        and 0 < config["max_length"] < 2**31
        and isinstance(tokenizer["sha256"], str)
        and type(tokenizer["vocab_size"]) is int
        and isinstance(labels, list)
        and labels[0] == "O"
        and all(isinstance(label, str) and label.isprintable() for label in labels)
        and 1 < len(set(labels)) == len(labels) <= MAX_LABELS
    )


def sound_backbone(backbone: dict) -> bool:
    """Is this the entry `backbone` that train.py wrote?"""
    folder, weights = backbone.get("folder") or {}, backbone.get("weights", {})
    return (
        isinstance(backbone["name"], str)
        and backbone["name"].isprintable()
        and backbone["name"] != ""  # which would be the current folder
        and backbone["precision"] in PRECISIONS
        and isinstance(backbone.get("revision"), str | None)
        and (not folder or all(isinstance(folder[kind], str) and "\0" not in folder[kind] for kind in FOLDER_KINDS))
        and all(isinstance(text, str) for text in (*weights.keys(), *weights.values()))
    )


def sound_head(name: str, head: dict) -> bool:
    """Is this an entry of `heads` that train.py wrote? A name is also a folder's: it must not lead elsewhere."""
    layers, units, calibration = head["layers"], head.get("units", STRONG_UNITS), head["calibration"]
    return (
        name.partition("@")[0] == head["kind"]
        and head["kind"] in KINDS
        and name.isprintable()
        and not set(name) & set("/\\")
        and isinstance(layers, list)
        and all(type(layer) is int and 0 <= layer < 10_000 for layer in layers)
        and 0 < len(set(layers)) == len(layers)  # a layer twice would only make the features wider
        and type(units) is int
        and 0 < units <= MOST_UNITS
        and (
            calibration is None
            or ([type(n) for n in calibration] == [float] * 2 and all(map(math.isfinite, calibration)))
        )
    )


def stored_bias(run: Path, head: str, target_recall: float | None = None) -> float:
    """The bias on O of an operating point that evaluate.py stored for this head: the latest, or the one of a recall.
    Raises UserError."""
    path = safe_join(run, OPERATING_POINTS)
    try:
        points = {float(target): float(point["bias"]) for target, point in read_json(path)[head].items()}
        if not points or not all(abs(bias) <= MOST_BIAS for bias in points.values()):
            raise ValueError  # with a bias that is no number every token would be O
    except FileNotFoundError:
        raise UserError(f"{run} has no operating point: store one with evaluate.py --target-recall 0.99") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise UserError(f"{path} holds no operating point of {head}: run evaluate.py --target-recall again") from None
    if target_recall is not None and target_recall not in points:
        stored = ", ".join(map(str, points))
        raise UserError(
            f"{run} has no operating point of recall {target_recall} for {head}, but of {stored}: choose one of them "
            f"or store it with evaluate.py --target-recall {target_recall}"
        )
    return points[target_recall] if target_recall is not None else list(points.values())[-1]


def choose_head(config: dict, run: Path, head: str | None) -> str:
    """The head that was asked for, else the one that was best on validation. Raises UserError."""
    if head is None:
        return config["best"]
    if head not in config["heads"]:
        raise UserError(f"{run} has no head {head}: choose one of {', '.join(config['heads'])}")
    return head
