"""Training for bench.py: the engine against the plain recipe, measured in one run and in turn."""

import contextlib
import gc
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pii.corpus.store import PreparedSplit
from pii.corpus.windows import IGNORE_INDEX, Windows
from pii.decoder.backbone import BOS_ID, Backbone, decoder_layers, load_backbone
from pii.decoder.features import Reader, to_device
from pii.decoder.precision import backbone_dtype, describe_precision, has_fp8_units
from pii.decoder.states import compile_layers, compiling_pays
from pii.device import device_name, peak_memory
from pii.heads.heads import DOCUMENTED, STRONG
from pii.processes import Processes
from pii.training.config import TrainingConfig
from pii.training.monitor import Monitor
from pii.training.plans import Plan, default_layers
from pii.training.steps import Step, step_groups, tags_of
from pii.training.trainer import HeadTrainer

CPU = torch.device("cpu")
BATCH, ACCUMULATION, MAX_LENGTH = 12, 3, 96  # the documented recipe
FULL_TOKENS = 5_500_000  # of one epoch over pii-masking-200k in English and French: 94,463 rows
MATMUL_SIZE = {"cuda": 8192, "cpu": 2048}
WINDOWS = {"cuda": 36 * 192, "cpu": 36 * 24}
RECIPE_SHARE = 4  # the recipe trains on one window in so many: its speed does not depend on how many there are
OPERATIONS = (("aten::",), "operations")
LAUNCHES = {"cuda": (("cudaLaunch", "cuLaunch", "cudaMemcpyAsync", "cudaMemsetAsync"), "launches")}
RECIPE, ONE_HEAD, LATER_EPOCH = "plain recipe", "one documented head", "its second epoch"
THREE_HEADS, STRONG_TOO = "three documented heads", "documented and strong"
# --quick: all ways in the first precision that works, the one head in the others
QUICK_PRECISIONS = ["bf16", "fp8", "int8"]
QUICK_WAYS = [RECIPE, ONE_HEAD, THREE_HEADS, STRONG_TOO]
QUICK_SECONDS = 480  # in all
QUICK_PASSES, QUICK_TRAINING = 7, 150  # passes at the recipe's speed, and the seconds that they may take


class Work(NamedTuple):
    """What every way trains on."""

    device: torch.device
    split: PreparedSplit
    windows: Windows
    folder: Path  # for what a training writes
    tokens_per_forward: int | None
    compiled: bool  # are the layers compiled where that pays for a full epoch?
    train: Callable[..., object]  # of train.py
    take_step: Callable[..., object]  # of train.py

    @property
    def tokens(self) -> int:
        return int(self.windows.scored_counts.sum())


def bench_training(
    name: str, work: Work, precisions: Sequence[str], rounds: int, quick: bool = False, fixed: bool = False
) -> dict:
    """All ways in all precisions, as a table; a precision that does not work here is skipped with a word.

    `quick`: once in QUICK_SECONDS, on as many of the windows as that allows, or on all where their number is `fixed`.
    """
    rate, started, longest = matmul_rate(work.device), time.perf_counter(), 0.0
    print(f"matrix products at {rate / 1e12:.2f} TFLOP/s")
    print(f"{'':<34}{'tokens/s':>10}{'of matmul':>10}{'x recipe':>9}{'GiB':>7}{'full epoch':>12}")
    report: dict = {"matmul_flops": rate, "ways": {}, "skipped": {}}
    for precision in precisions:
        began = time.perf_counter()
        time_left = QUICK_SECONDS - (began - started) - longest
        why = reason_to_skip(precision, work.device, time_left) if quick else None
        try:
            if why is None:
                work = bench_precision(name, precision, work, rounds, quick, fixed, report)
        except torch.OutOfMemoryError:
            why = "the device has too little memory"
        if why is not None:
            report["skipped"][precision] = why
            print(f"{precision}: skipped, {why}")
        gc.collect()  # or two backbones would be held at once
        longest = max(longest, time.perf_counter() - began)
    print()
    return report | {"windows": len(work.windows), "tokens": work.tokens, "seconds": time.perf_counter() - started}


def reason_to_skip(precision: str, device: torch.device, time_left: float) -> str | None:
    """Why --quick leaves a precision out."""
    if precision == "fp8" and not has_fp8_units(device):
        return f"{device_name(device)} has no float8 units"
    return "no time is left for it" if time_left < 0 else None


def affordable_windows(backbone: Backbone, work: Work) -> int:
    """How many windows --quick can train on in all its ways, by what the plain recipe takes for some."""
    some = work._replace(windows=work.windows[:BATCH])
    plain_recipe(backbone, some)  # the first one is slower
    seconds = plain_recipe(backbone, some) / len(some.windows)
    return max(2, int(QUICK_TRAINING / QUICK_PASSES / seconds / BATCH / ACCUMULATION)) * BATCH * ACCUMULATION


def bench_precision(name: str, precision: str, work: Work, rounds: int, quick: bool, fixed: bool, report: dict) -> Work:
    """Measure the ways in one precision, print them and add them to the report: "way, precision" → figures."""
    backbone = load_backbone(name, backbone_dtype(work.device), precision=precision, device=work.device)
    if quick and not fixed and not report["ways"]:
        work = work._replace(windows=work.windows[: affordable_windows(backbone, work)])
    pays = compiling_pays(work.device, precision, FULL_TOKENS)
    ways = training_ways(backbone, work._replace(compiled=work.compiled and pays))
    if quick:
        ways = {way: ways[way] for way in ([ONE_HEAD] if report["ways"] else QUICK_WAYS)}
    computed_in = describe_precision(backbone.dtype, work.device, precision)
    print(f"{precision}: {len(work.windows)} windows of {work.tokens / len(work.windows):.0f} tokens in {computed_in}")
    measured = measure_in_turn(ways, work.device, rounds)
    recipe = measured.get(RECIPE) or next(iter(report["ways"].values()))
    for way, entry in training_figures(measured, recipe["seconds"], work.tokens, backbone).items():
        report["ways"][f"{way}, {precision}"] = entry | {"computed_in": computed_in}
        speed = entry["tokens_per_second"]
        share = "" if way == LATER_EPOCH else f"{speed * entry['flops_a_token'] / report['matmul_flops']:.0%}"
        print(
            f"{f'{way}, {precision}':<34}{speed:>10.0f}{share:>10}{entry['times_recipe']:>9.2f}"
            f"{entry['peak_gib']:>7.2f}{duration(FULL_TOKENS / speed):>12}"
        )
    if "strong_step" not in report:  # it is the same with all
        report["strong_step"] = bench_strong_step(backbone, work)
    return work


def training_ways(backbone: Backbone, work: Work) -> dict[str, Callable[[], float]]:
    """Name → a function that trains once and returns seconds. The recipe runs before the layers are compiled."""
    depth = backbone.config.num_hidden_layers
    three = [(DOCUMENTED, [depth], f"{DOCUMENTED}@{rate}") for rate in ("1e-5", "1e-4", "1e-3")]
    strong = (STRONG, default_layers(depth), STRONG)
    compiled: list[Callable] = []

    def recipe() -> float:
        for layer in compiled and decoder_layers(backbone):
            layer.__dict__.pop("forward", None)  # back to the class's own
        some = work._replace(windows=work.windows[: max(BATCH, len(work.windows) // RECIPE_SHARE)])
        return plain_recipe(backbone, some) * work.tokens / some.tokens

    def engine(heads: Sequence[tuple[str, list[int], str]], epochs: int = 1) -> float:
        if work.compiled and not compiled:
            compile_layers(backbone)
            compiled.extend(layer.forward for layer in decoder_layers(backbone))
            seconds = run_engine(backbone, work._replace(windows=work.windows[: 36 * 8]), heads, 1)
            print(f"(compiled and warmed up in {seconds:.1f} s)")
        if compiled:
            for layer, forward in zip(decoder_layers(backbone), compiled, strict=True):
                layer.forward = forward
        return run_engine(backbone, work, heads, epochs)

    return {
        RECIPE: recipe,
        ONE_HEAD: lambda: engine(three[:1]),
        LATER_EPOCH: lambda: engine(three[:1], epochs=2),
        THREE_HEADS: lambda: engine(three),
        STRONG_TOO: lambda: engine([three[0], strong]),
    }


def measure_in_turn(ways: dict[str, Callable[[], float]], device: torch.device, rounds: int) -> dict[str, dict]:
    """Way → {"seconds": of each round, "peak_gib"}; every round runs all ways, one after the other."""
    measured: dict[str, dict] = {name: {"seconds": [], "peak_gib": 0.0} for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            measured[name]["seconds"].append(way())
            measured[name]["peak_gib"] = max(measured[name]["peak_gib"], peak_memory(device))
    return measured


def training_figures(
    measured: dict[str, dict], recipe: Sequence[float], tokens: int, backbone: Backbone
) -> dict[str, dict]:
    """Medians over the rounds; the ratio to the recipe's seconds is the median of each round's."""
    weights = [weight for layer in decoder_layers(backbone) for weight in layer.state_dict().values()]
    flops = 2 * sum(weight.numel() for weight in weights if weight.ndim == 2)
    report = {}
    for name, entry in measured.items():
        own = np.array(entry["seconds"])
        report[name] = {
            "seconds": entry["seconds"],
            "tokens_per_second": tokens / float(np.median(own)),
            "times_recipe": float(np.median(np.array(recipe) / own)),
            "peak_gib": entry["peak_gib"],
            "flops_a_token": flops,
        }
    return report


def matmul_rate(device: torch.device) -> float:
    """FLOP/s of square matrix products in the dtype the backbone computes in: what no forward can be faster than."""
    size = MATMUL_SIZE.get(device.type, 4096)
    square = torch.randn(size, size, device=device, dtype=backbone_dtype(device))

    def products() -> None:
        for _ in range(10):
            square @ square

    return 10 * 2 * size**3 / min(timed(products, device) for _ in range(5))


def timed(function: Callable[[], object], device: torch.device = CPU) -> float:
    """Seconds until the device has done what the function asks of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 3600:.1f} h"


# the two ways to train, and the strong head's step


def plain_recipe(backbone: Backbone, work: Work) -> float:
    """Seconds of the documented loop as it is usually written: batches of 12 padded to 96 with a mask, one by one."""
    head = nn.Sequential(nn.Dropout(0.1), nn.Linear(backbone.config.hidden_size, work.split.num_labels)).to(work.device)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-5)
    order = np.random.default_rng(0).permutation(len(work.windows))

    def loop() -> None:
        for number, first in enumerate(range(0, len(order), BATCH), 1):
            input_ids, mask, labels = padded(work, order[first : first + BATCH])
            with torch.no_grad():
                hidden = backbone(input_ids=input_ids, attention_mask=mask).last_hidden_state
            logits = head(hidden.float()).flatten(0, 1)
            loss = F.cross_entropy(logits, labels.flatten(), ignore_index=IGNORE_INDEX) / ACCUMULATION
            loss.backward()
            loss.item()
            if number % ACCUMULATION == 0:
                nn.utils.clip_grad_norm_(head.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()

    return timed(loop, work.device)


def padded(work: Work, chosen: np.ndarray) -> list[torch.Tensor]:
    """Token ids, mask and labels of some windows, each [windows, 97]: BOS stands first."""
    input_ids = torch.zeros(len(chosen), MAX_LENGTH + 1, dtype=torch.long)
    labels, mask = torch.full_like(input_ids, IGNORE_INDEX), torch.zeros_like(input_ids)
    input_ids[:, 0], mask[:, 0] = BOS_ID, 1
    for row, window in enumerate(chosen):
        length = int(work.windows.lengths[window])
        tokens = slice(int(work.windows.start[window]), int(work.windows.stop[window]))
        for name, target in (("token_ids", input_ids), ("label_ids", labels)):
            target[row, 1 : length + 1] = torch.from_numpy(work.split.tokens[name][tokens].astype(np.int64))
        mask[row, 1 : length + 1] = 1
    return [tensor.to(work.device) for tensor in (input_ids, mask, labels)]


def run_engine(backbone: Backbone, work: Work, heads: Sequence[tuple[str, list[int], str]], epochs: int) -> float:
    """Seconds that train.py's loop takes, from prepared data to trained heads: kind, layers and name of each.

    Of several epochs the last one alone is timed: the others fill the cache that it reads.
    """
    config = TrainingConfig(batch_size=BATCH, cache="ram", save_every=1_000_000)
    alone = Processes(0, 1, work.device)
    steps = -(-len(work.windows) // config.windows_a_step)
    timed_from = [time.perf_counter()]

    class Clock(Monitor):
        def add(self, log: Callable, group: Sequence[Step], active: Sequence[HeadTrainer]) -> None:
            super().add(log, group, active)
            if group[-1].number == (epochs - 1) * steps:
                self.settle()
                timed_from[0] = time.perf_counter()

    def loop() -> None:
        layers = sorted({layer for _, layers, _ in heads for layer in layers})
        reader = Reader(backbone, layers, work.tokens_per_forward)
        plans = [
            Plan(name, kind, layers, 1e-5, epochs, epochs * steps, 0.1, scheduled=False) for kind, layers, name in heads
        ]
        trainers = [HeadTrainer(plan, reader, work.split.num_labels, 0, 1.0, alone) for plan in plans]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            work.train(trainers, reader, work.split, work.windows, config, alone, Clock(trainers), work.folder)

    timed(loop, work.device)
    return time.perf_counter() - timed_from[0]


def bench_strong_step(backbone: Backbone, work: Work) -> dict:
    """One step of the strong head: its seconds, and how many operations a CPU or launches a GPU is given (copies too;
    cuDNN's own, which are some a position, among them)."""
    alone, layers = Processes(0, 1, work.device), default_layers(backbone.config.num_hidden_layers)
    reader = Reader(backbone, layers)
    plan = Plan(STRONG, STRONG, layers, 1e-5, 1, 1, 0.1, scheduled=False)
    trainer = HeadTrainer(plan, reader, work.split.num_labels, 0, 1.0, alone)
    (step, *_), chosen = next(step_groups(work.windows, 0, BATCH * ACCUMULATION, 1, 0, alone))
    windows, scheme = work.windows[chosen], trainer.head.tags
    tags = {scheme: to_device(tags_of(work.split, windows, {scheme})[scheme], work.device)}
    features = torch.randn(int(windows.lengths.sum()), reader.width, device=work.device).to(backbone.dtype)

    def take_step() -> None:
        work.take_step(trainer, step, features, tags)

    seconds = float(np.median([timed(take_step, work.device) for _ in range(8)][3:]))  # the first ones are slower
    with torch.profiler.profile() as profile:
        timed(take_step, work.device)
    counted, what = LAUNCHES.get(work.device.type, OPERATIONS)
    count = sum(event.name.startswith(counted) for event in profile.events())
    print(f"a step of the strong head, {len(features)} tokens: {1000 * seconds:.1f} ms, {count} {what}")
    return {"seconds": seconds, "tokens": len(features), what: count}
