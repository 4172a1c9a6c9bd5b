"""Which head, and which layers: heads are compared on validation rows, layers on a part of the training rows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from pii.common import UserError
from pii.corpus.doubts.grouping import keys_of, merged
from pii.corpus.roundtrip import as_raw
from pii.corpus.rows import skeleton
from pii.corpus.spans import starts_of
from pii.corpus.staging import choose_validation
from pii.corpus.store import PreparedSplit
from pii.corpus.windows import Windows
from pii.decoder.backbone import Backbone
from pii.decoder.features import Cache, Reader, to_device
from pii.heads.calibration import fit_calibration
from pii.heads.heads import BIO, STRONG, STRONG_DEPTHS
from pii.heads.tagging import Tagger
from pii.processes import Processes
from pii.scoring import metrics
from pii.scoring.judge import judge_own, read_scores
from pii.training.config import TrainingConfig
from pii.training.plans import Plan, layers_at, strong_size
from pii.training.steps import Step, tags_of
from pii.training.trainer import HeadTrainer

SAMPLE_ROWS, DEVELOPMENT_SHARE, QUICK_STEPS = 1200, 0.25, 150  # of --layers auto

TakeStep = Callable[[HeadTrainer, Step, torch.Tensor, dict[str, torch.Tensor]], object]  # train.py's optimizer step


def compare_heads(
    taggers: dict[str, Tagger], folder: Path, max_length: int, processes: Processes
) -> tuple[dict[str, dict], str]:
    """Head → its headline figures on the validation split and the calibration of its scores; and the best head's name.

    One pass of the backbone serves all heads. Without validation rows there are no figures, and the best head is the
    strong one if there is one.
    """
    split = PreparedSplit(folder, "validation")
    best = next((name for name in taggers if name.partition("@")[0] == STRONG), next(iter(taggers)))
    if not len(split):
        return {}, best
    figures = {}
    all_scores = read_scores(list(taggers.values()), split, max_length, processes)
    for (name, tagger), scores in zip(taggers.items(), all_scores, strict=True):
        tagged = tagger.decode(scores, np.diff(split.example_offsets))
        judged, report = judge_own(split, tagged)
        figures[name] = {
            "strict": report["strict"]["f1"],
            "token": report["token"]["f1"],
            "leakage": report["leakage"],
            "calibration": fit_calibration(judged.scores, metrics.strict_hits(judged.documents)),
        }
    return figures, max(figures, key=lambda name: figures[name]["strict"])


def choose_layers(
    backbone: Backbone,
    split: PreparedSplit,
    windows: Windows,
    config: TrainingConfig,
    processes: Processes,
    take_step: TakeStep,
) -> list[int]:
    """The layers that serve a strong head best, from one pass over some training rows.

    Small heads are trained on a part of the rows and judged on the others, which hold other sentences; validation
    rows are not touched. Every process does the same.
    """
    fit, development = development_split(split, windows, config.seed)
    candidates = layer_sets(backbone.config.num_hidden_layers)
    sample = np.concatenate([fit, development])
    read = Reader(backbone, sorted(set().union(*candidates)), config.tokens_per_forward)
    cache = Cache(windows[sample], read.width, backbone.dtype)
    cache.write(np.arange(len(sample)), read(split.tokens["token_ids"], windows[sample]))
    alone = Processes(0, 1, processes.device)
    processes.print(
        f"--layers auto: {len(fit)} windows to learn from, {len(development)} to judge by\nstrict F1  layers"
    )
    best, best_score = candidates[0], -1.0
    places = len(fit) + np.arange(len(development))
    rows, windows_of_row = np.unique(windows.row[development], return_counts=True)
    token_counts = np.add.reduceat(windows.scored_counts[development], starts_of(windows_of_row)[:-1])
    for layers in candidates:
        trainer = quick_fit(read, layers, cache, split, windows[fit], config, alone, take_step)
        tagger = Tagger(trainer.head, read, layers)
        scores = tagger.scores(cache.read(places, processes.device), windows[development])
        tagged = tagger.decode(scores, token_counts)
        score = judge_own(split, tagged, rows)[1]["strict"]["f1"]
        processes.print(f"{score:>9.3f}  {', '.join(map(str, layers))}")
        if score > best_score:
            best, best_score = layers, score
    return best


def layer_sets(depth: int) -> list[list[int]]:
    """What `--layers auto` tries: one layer, or three side by side, at several depths. The default is among them."""
    shares = [(0.4,), (0.6,), (0.8,), (1.0,), (0.2, 0.4, 0.6), STRONG_DEPTHS, (0.6, 0.8, 1.0), (0.2, 0.6, 1.0)]
    sets = [layers_at(depth, each) for each in shares]
    return [layers for i, layers in enumerate(sets) if layers not in sets[:i]]


def development_split(split: PreparedSplit, windows: Windows, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of some training windows to fit on and of others to judge by, without a sentence in both: rows of one
    skeleton or text stay together, and all windows of a row. Raises UserError where all rows are one sentence."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(split))[:SAMPLE_ROWS])
    raw = [*as_raw(split.rows(rows), split.labels)]
    _, sentences = np.unique([skeleton(row) for row in raw], return_inverse=True)
    keys = keys_of(raw)
    in_development = choose_validation(merged(sentences, keys.composed, keys.texts), DEVELOPMENT_SHARE, seed)
    fit, development = (
        np.flatnonzero(np.isin(windows.row, part)) for part in (rows[~in_development], rows[in_development])
    )
    if not len(fit) or not len(development):
        raise UserError("--layers auto needs training rows of more than one sentence: name the layers instead")
    return fit, development


def quick_fit(
    reader: Reader,
    layers: list[int],
    cache: Cache,
    split: PreparedSplit,
    windows: Windows,
    config: TrainingConfig,
    processes: Processes,
    take_step: TakeStep,
) -> HeadTrainer:
    """A strong head trained for QUICK_STEPS steps on cached features; `windows` are the first ones of the cache."""
    size = config.windows_a_step
    rng = np.random.default_rng(config.seed)
    batches = -(-len(windows) // size)
    epochs = -(-QUICK_STEPS // batches)
    orders = [rng.permutation(len(windows)) for _ in range(epochs)]
    rate = config.strong_learning_rates[0]
    units, dropout = strong_size(config, len(windows))
    plan = Plan("auto", STRONG, layers, rate, epochs, epochs * batches, dropout, scheduled=True, units=units)
    trainer = HeadTrainer(plan, reader, split.num_labels, config.seed, config.max_grad_norm, processes)
    trainer.standardise(cache.read(np.arange(len(windows)), processes.device))
    for number in range(1, plan.steps + 1):
        epoch, place = divmod(number - 1, batches)
        batch = orders[epoch][place * size : (place + 1) * size]
        own = windows[batch]
        step = Step(number, own.row, own, slice(None), slice(None), int(own.scored_counts.sum()))
        gold = {BIO: to_device(tags_of(split, own, [BIO])[BIO], processes.device)}
        take_step(trainer, step, cache.read(batch, processes.device), gold)
    return trainer
