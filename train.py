"""Train heads on a frozen backbone: the loop is written out below, from the batches to the optimizer's step."""

import argparse
import platform
import resource
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from pii.common import Parser, UserError, clear_leftovers, fraction, positive_float, positive_int, run, seed
from pii.corpus.store import PreparedSplit
from pii.corpus.windows import Windows, make_windows
from pii.decoder.backbone import (
    DEFAULT_BACKBONE,
    backbone_depth,
    check_vocabulary,
    compile_layers,
    cut_layers,
    load_backbone,
)
from pii.decoder.features import CACHES, Cache, Reader, choose_cache, fetch, to_device
from pii.decoder.precision import PRECISIONS, backbone_dtype
from pii.device import device_name
from pii.heads.heads import DOCUMENTED, KINDS, STRONG
from pii.heads.tagging import Tagger
from pii.processes import Processes
from pii.training import runs
from pii.training.compare import choose_layers, compare_heads
from pii.training.journal import Journal, Validation, check_tensorboard
from pii.training.plans import STRONG_STEPS, Plan, plan_heads, strong_layers
from pii.training.steps import stretches, tags_of, windows_a_step
from pii.training.trainee import Trainee

# optimizer steps whose features are computed together: the backbone waits for no optimizer, and the more windows are
# sorted by length at a time, the less padding is left
STEPS_AHEAD = {"cuda": 48, "cpu": 16}


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    with Processes.join(arguments.device) as processes:
        train_run(arguments, processes)


def train_run(arguments: argparse.Namespace, processes: Processes) -> None:
    started = time.perf_counter()
    split = PreparedSplit(arguments.data, "train")
    windows = make_windows(split.example_offsets, arguments.max_length)
    check_data(split, windows, arguments)
    depth = backbone_depth(arguments.backbone)
    reader, layers = build_reader(arguments, depth, split, windows, processes)
    plans = plan_heads(arguments, depth, layers, len(windows))
    belongs_to = runs.fingerprint(plans, flags_of(arguments), split)
    if arguments.resume and runs.is_complete(arguments.output, belongs_to):
        if processes.rank == 0:
            clear_leftovers(arguments.output)
        processes.print(f"{arguments.output} is complete: nothing to resume")
        return
    trainees = build_trainees(plans, reader, split, windows, arguments, processes)
    processes.print(describe(reader, split, windows, plans, arguments))

    with runs.run_folder(arguments.output, processes) as folder:
        loaded = time.perf_counter()
        journal = build_journal(trainees, reader, arguments, processes)
        summary = train(trainees, reader, split, windows, arguments, processes, journal, belongs_to)
        seconds = time.perf_counter() - loaded
        summary |= {
            "seconds": round(seconds, 2),
            "seconds_to_load": round(loaded - started, 2),
            "tokens_per_second": round(summary["tokens"] / seconds, 1),
            "peak_memory_gib": round(peak_memory(processes.device), 2),
            "device": device_name(processes.device),
            "processes": processes.world,
            "belongs_to": belongs_to,
        }
        taggers = {trainee.plan.name: Tagger(trainee.head, reader, trainee.plan.layers) for trainee in trainees}
        summary["validation"], best = compare_heads(taggers, arguments.data, arguments.max_length, processes)
        if processes.rank == 0:
            runs.write(folder, trainees, best, summary, reader, split, flags_of(arguments))
    if processes.rank == 0:
        print_summary(summary, best, arguments)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data/prepared"), help="prepared folder")
    parser.add_argument("--backbone", default=DEFAULT_BACKBONE, help=f"hub id or folder ({DEFAULT_BACKBONE})")
    parser.add_argument("--output", type=Path, default=Path("runs/default"), help="run folder to write")
    parser.add_argument("--heads", nargs="+", choices=list(KINDS), default=[DOCUMENTED], help=f"({DOCUMENTED})")
    parser.add_argument("--start-from", type=Path, metavar="RUN", help="each head begins with this run's, of its kind")
    parser.add_argument("--batch-size", type=positive_int, default=12, help="windows a batch (12)")
    parser.add_argument("--max-length", type=positive_int, default=96, help="tokens a window (96); nothing is cut")
    parser.add_argument("--gradient-accumulation-steps", type=positive_int, default=3, help="batches a step (3)")
    parser.add_argument("--max-grad-norm", type=positive_float, default=1.0, help="gradients are clipped to it (1.0)")
    documented = parser.add_argument_group("the documented head (the strong one, where it is trained alone)")
    documented.add_argument(
        "--learning-rate", type=positive_float, nargs="+", help="of AdamW (1e-5); several: a head each"
    )
    documented.add_argument("--epochs", type=positive_int, help="(1)")
    documented.add_argument("--dropout", type=fraction, help="(0.1)")
    strong = parser.add_argument_group("the strong head")
    strong.add_argument(
        "--layers", nargs="+", help="of the backbone, that it reads; auto tries several (default: at 0.4, 0.6, 0.8)"
    )
    strong.add_argument("--strong-learning-rate", type=positive_float, nargs="+", help="(2e-3)")
    strong.add_argument("--strong-epochs", type=positive_int, help=f"(as many as make {STRONG_STEPS} steps)")
    strong.add_argument("--strong-dropout", type=fraction, help="(0.3)")
    machine = parser.add_argument_group("the machine")
    machine.add_argument("--precision", choices=PRECISIONS, default="bf16", help="of the backbone (bf16)")
    machine.add_argument("--device", default="auto", help="auto, cuda, cuda:1, mps, cpu")
    machine.add_argument("--tokens-per-forward", type=positive_int, help="that the backbone reads at once")
    machine.add_argument("--no-compile", action="store_true", help="do not compile the backbone's layers on a GPU")
    machine.add_argument("--cache", choices=CACHES, default="auto", help="where features wait for later epochs")
    machine.add_argument("--save-every", type=positive_int, default=100, help="steps between states to resume (100)")
    machine.add_argument("--tensorboard", action="store_true", help="log to tensorboard/ beside --output, if installed")
    machine.add_argument("--resume", action="store_true", help="go on from the last state in --output")
    parser.add_argument("--seed", type=seed, default=0)
    arguments = parser.parse_args(argv)
    settle_head_flags(arguments)
    if arguments.tensorboard:
        check_tensorboard()
    if arguments.start_from:
        runs.read_config(arguments.start_from)  # or a mistake would only show once the backbone is loaded
    for option in ("heads", "learning_rate", "strong_learning_rate"):
        if len(set(values := getattr(arguments, option))) < len(values):
            raise UserError(f"--{option.replace('_', '-')} names one of them twice")
    return arguments


def settle_head_flags(arguments: argparse.Namespace) -> None:
    """Fill in each head's defaults. Raises UserError at a flag of the strong head where none is trained."""
    for name in ("learning_rate", "epochs", "dropout"):
        if arguments.heads == [STRONG] and getattr(arguments, f"strong_{name}") is None:
            setattr(arguments, f"strong_{name}", getattr(arguments, name))
    for name in ("layers", "strong_learning_rate", "strong_epochs", "strong_dropout"):
        if STRONG not in arguments.heads and getattr(arguments, name) is not None:
            raise UserError(f"--{name.replace('_', '-')} is the strong head's: add --heads {DOCUMENTED} {STRONG}")
    defaults = {"learning_rate": [1e-5], "epochs": 1, "dropout": 0.1}
    defaults |= {"strong_learning_rate": [2e-3], "strong_dropout": 0.3}
    for name, value in defaults.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)


def flags_of(arguments: argparse.Namespace) -> dict:
    """The command line as JSON can hold it."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()}


def check_data(split: PreparedSplit, windows: Windows, arguments: argparse.Namespace) -> None:
    """Raise UserError where nothing can be learnt."""
    if split.num_labels < 2:
        raise UserError(f"{arguments.data} holds no PII spans, so there is nothing to learn: prepare labelled rows")
    if not len(windows):
        raise UserError(f"{arguments.data} has no training rows: prepare with a smaller --validation-fraction")


def build_reader(
    arguments: argparse.Namespace, depth: int, split: PreparedSplit, windows: Windows, processes: Processes
) -> tuple[Reader, list[int]]:
    """The backbone as far as some head reads it, and the layers of the strong head."""
    layers = strong_layers(arguments, depth)
    lowest = depth if DOCUMENTED in arguments.heads or not layers else max(layers)
    backbone = load_backbone(
        arguments.backbone,
        backbone_dtype(processes.device),
        layers=lowest,
        precision=arguments.precision,
        device=processes.device,
    )
    check_vocabulary(backbone, split.meta["tokenizer"])
    if STRONG in arguments.heads and not layers:
        layers = choose_layers(backbone, split, windows, arguments, processes)
        if DOCUMENTED not in arguments.heads:
            cut_layers(backbone, max(layers))
    read = {depth} if DOCUMENTED in arguments.heads else set()
    read |= set(layers) if STRONG in arguments.heads else set()
    reader = Reader(backbone, sorted(read), arguments.tokens_per_forward)
    if processes.device.type == "cuda" and not arguments.no_compile:
        started = time.perf_counter()
        compile_layers(backbone)
        reader(split.tokens["token_ids"], windows[:64]).sum().item()  # the compiler works on the first batches
        processes.print(f"compiled the backbone's layers in {time.perf_counter() - started:.1f} s")
    return reader, layers


def build_trainees(
    plans: Sequence[Plan],
    reader: Reader,
    split: PreparedSplit,
    windows: Windows,
    arguments: argparse.Namespace,
    processes: Processes,
) -> list[Trainee]:
    trainees = [
        Trainee(plan, reader, split.num_labels, arguments.seed, arguments.max_grad_norm, processes) for plan in plans
    ]
    for trainee in trainees if arguments.start_from else []:
        runs.start_from(arguments.start_from, trainee, split)
    return trainees


def describe(
    reader: Reader, split: PreparedSplit, windows: Windows, plans: Sequence[Plan], arguments: argparse.Namespace
) -> str:
    """What is about to be trained, on what and why so."""
    dtype = str(reader.backbone.dtype).removeprefix("torch.")
    if dtype == "float16":
        dtype = "float16 (this GPU has no bfloat16)"
    lines = [
        f"device: {device_name(reader.device)}   backbone: {arguments.backbone}, {dtype}"
        f"{', matrices in float8' if arguments.precision == 'fp8' else ''}",
        f"data: {len(split)} rows, {len(windows)} windows, {len(split.tokens['token_ids'])} tokens, "
        f"{split.num_labels} labels",
    ]
    why = {None: "default depths, see docs/accuracy.md", ("auto",): "best on a part of the training rows"}
    given = arguments.layers and tuple(arguments.layers)
    for plan in plans:
        reason = f" ({why.get(given, 'as told')})" if plan.kind == STRONG else ""
        layers = f"layer{'s' * (len(plan.layers) > 1)} {', '.join(map(str, plan.layers))}{reason}"
        lines.append(
            f"{plan.name}: {layers}, learning rate {plan.learning_rate:g}, {plan.epochs} epoch{'s' * (plan.epochs > 1)}"
            f"{f', from {arguments.start_from}' if arguments.start_from else ''}"
        )
    return "\n".join(lines)


def train(
    trainees: Sequence[Trainee],
    reader: Reader,
    split: PreparedSplit,
    windows: Windows,
    arguments: argparse.Namespace,
    processes: Processes,
    journal: Journal,
    belongs_to: str = "",
) -> dict:
    """All epochs of all heads. One optimizer step sees batch_size x gradient_accumulation_steps windows, and its loss
    is averaged over their scored tokens: the gradient of the accumulated batches. Returns the summary's figures."""
    epochs = max(trainee.plan.epochs for trainee in trainees)
    cache = build_cache(reader, windows, epochs, arguments, processes)
    done = saved = runs.load_state(arguments.output, trainees, belongs_to) if arguments.resume else 0
    ahead = STEPS_AHEAD.get(processes.device.type, 16)
    tokens = 0
    progress = {"total": epochs * int(windows.scored_counts.sum()), "unit": " tok", "unit_scale": True}
    bar = tqdm(**progress, disable=None if processes.rank == 0 else True)
    with bar, journal:
        for epoch in range(epochs):
            active = [trainee for trainee in trainees if epoch < trainee.plan.epochs]
            for steps, chosen in stretches(windows, epoch, windows_a_step(arguments), ahead, arguments.seed, processes):
                bar.update(sum(step.count for step in steps))
                if steps[-1].number <= done and (epoch or not cache):
                    continue
                places = chosen // processes.world  # among this process's windows
                features = read_features(reader, cache, split, windows[chosen], places, epoch)
                steps = [step for step in steps if step.number > done]  # another device's stretches end elsewhere
                if not steps:
                    continue
                if steps[0].number == 1:
                    for trainee in trainees:
                        trainee.standardise(features)
                tags = tags_of(split, windows[chosen], {trainee.head.tags for trainee in active})
                tags = {scheme: to_device(array, reader.device) for scheme, array in tags.items()}
                log = [trainee.step(step, features, tags) for step in steps for trainee in active]
                log = fetch(torch.stack([*log, features.isfinite().all().expand(2)]))
                del features  # or two stretches' would be held at once
                journal.add(log, steps, active)
                tokens += sum(step.count for step in steps)
                if steps[-1].number - saved >= arguments.save_every:
                    journal.settle()
                    saved = steps[-1].number
                    if processes.rank == 0:
                        runs.save_state(arguments.output, saved, trainees, belongs_to)
    return {
        "steps": max(len(trainee.log) for trainee in trainees),
        "examples": len(split),
        "windows": len(windows),
        "tokens": tokens,
        "final_loss": trainees[0].log[-1][0],
        "heads": {t.plan.name: {"steps": len(t.log), "final_loss": t.log[-1][0]} for t in trainees},
    }


def build_journal(
    trainees: Sequence[Trainee], reader: Reader, arguments: argparse.Namespace, processes: Processes
) -> Journal:
    """Where the steps are noted; the first process alone looks at validation rows and writes to TensorBoard."""
    if processes.rank:
        return Journal(trainees)
    validation = Validation(reader, arguments.data, arguments.max_length, arguments.seed)
    # beside the run folder, which is replaced as a whole
    board = arguments.output.parent / "tensorboard" / arguments.output.name if arguments.tensorboard else None
    return Journal(trainees, validation, board)


def build_cache(
    reader: Reader, windows: Windows, epochs: int, arguments: argparse.Namespace, processes: Processes
) -> Cache | None:
    """Where the features of this process's windows wait for the epochs after the first. Raises UserError."""
    if epochs == 1:
        return None
    own = windows[processes.own(len(windows))]
    size = int(windows.lengths.sum()) * reader.width * reader.backbone.dtype.itemsize  # all processes share a machine
    kind = choose_cache(arguments.cache, size, arguments.output.parent)
    processes.print(f"cache: {size / 2**30:.2f} GiB of features, {kind}")
    if kind == "none":
        return None
    return Cache(own, reader.width, reader.backbone.dtype, arguments.output.parent if kind == "disk" else None)


def read_features(
    reader: Reader, cache: Cache | None, split: PreparedSplit, windows: Windows, places: np.ndarray, epoch: int
) -> torch.Tensor:
    """[tokens of the windows, width]: the backbone's in the first epoch or without a cache, else those at `places`."""
    if epoch and cache:
        return cache.read(places, reader.device)
    features = reader(split.tokens["token_ids"], windows)
    if cache:
        cache.write(places, features)
    return features


def peak_memory(device: torch.device) -> float:
    """GiB: of the GPU where there is one, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1024 if platform.system() == "Linux" else 1) / 2**30


def print_summary(summary: dict, best: str, arguments: argparse.Namespace) -> None:
    print(
        f"{summary['steps']} steps over {summary['tokens']} scored tokens in {summary['seconds']:.0f} s "
        f"({summary['tokens_per_second']:.0f} tokens/s), peak memory {summary['peak_memory_gib']:.2f} GiB"
    )
    if summary["validation"]:
        print(f"{'on validation':<22}{'strict F1':>10}{'token F1':>10}{'leakage':>9}{'final loss':>12}")
    for name, figures in summary["validation"].items():
        loss = summary["heads"][name]["final_loss"]
        mark = "   best" if name == best and len(summary["validation"]) > 1 else ""
        print(
            f"{name:<22}{figures['strict']:>10.3f}{figures['token']:>10.3f}{figures['leakage']:>9.3f}{loss:>12.3f}{mark}"
        )
    print(f"wrote {arguments.output}\nnext: python evaluate.py --run {arguments.output} --data {arguments.data}")


if __name__ == "__main__":
    run(main)
