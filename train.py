"""Train heads on a frozen backbone: the loop is written out below, from the batches to the optimizer's step."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import pii  # noqa: F401 (before torch: it says how threads wait)

# isort: split
import torch

from pii.common import Parser, UserError, fraction, learning_rate, path_text, positive_float, positive_int, run, seed
from pii.corpus.store import PreparedSplit
from pii.corpus.windows import Windows, make_windows
from pii.decoder.backbone import DEFAULT_BACKBONE, backbone_depth
from pii.decoder.features import CACHES, Reader, fetch, to_device
from pii.decoder.precision import PRECISIONS, describe_precision
from pii.device import describe_device, device_name, peak_memory
from pii.heads.heads import DOCUMENTED, KINDS, STRONG
from pii.heads.tagging import Tagger
from pii.outputs import check_output, check_unicode, clear_leftovers
from pii.processes import Processes
from pii.progress import progress
from pii.training import run_config, runs
from pii.training.compare import compare_heads
from pii.training.config import AUTO, TrainingConfig
from pii.training.monitor import Monitor, Validation, check_tensorboard
from pii.training.plans import FEW_SIZE, MANY_SIZE, MANY_WINDOWS, STRONG_STEPS, Plan, plan_heads
from pii.training.setup import build_cache, build_reader, start_from
from pii.training.steps import Step, step_groups, tags_of
from pii.training.trainer import HeadTrainer

# optimizer steps whose features are computed together: the backbone waits for no optimizer, and the more windows are
# sorted by length at a time, the less padding is left
STEPS_AHEAD = {"cuda": 48, "cpu": 16}


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    config = config_of(arguments)
    with Processes.join(arguments.device) as processes:
        train_run(arguments, config, processes)


def train_run(arguments: argparse.Namespace, config: TrainingConfig, processes: Processes) -> None:
    """From prepared data to a run folder."""
    started = time.perf_counter()
    if processes.rank == 0:
        check_outputs(arguments)
    split = PreparedSplit(arguments.data, "train")
    windows = make_windows(split.example_offsets, config.max_length)
    check_data(split, windows, arguments.data)
    depth = backbone_depth(arguments.backbone)
    backbone = (arguments.backbone, depth, arguments.precision, not arguments.no_compile)
    dtype = runs.saved_dtype(arguments.output) if arguments.resume and processes.device.type == "cpu" else None
    reader, layers = build_reader(*backbone, config, split, windows, processes, take_step, dtype)
    plans = plan_heads(config, depth, layers, len(windows))
    belongs_to = runs.fingerprint(plans, flags_of(arguments), split)
    if arguments.resume and runs.is_complete(arguments.output, belongs_to):
        if processes.rank == 0:
            clear_leftovers(arguments.output)
        processes.print(f"{arguments.output} is complete: nothing to resume")
        return
    trainers = [
        HeadTrainer(plan, reader, split.num_labels, config.seed, config.max_grad_norm, processes) for plan in plans
    ]
    for trainer in trainers if arguments.start_from else []:
        start_from(arguments.start_from, trainer, reader.backbone, split)
    processes.print(describe(reader, split, windows, plans, arguments))

    with (
        runs.run_folder(arguments.output, processes) as folder,
        runs.telling_what_is_kept(arguments.output, belongs_to),
    ):
        loaded = time.perf_counter()
        monitor = build_monitor(trainers, reader, arguments, processes)
        state = (arguments.output, belongs_to, arguments.resume)
        summary = train(trainers, reader, split, windows, config, processes, monitor, *state)
        seconds = time.perf_counter() - loaded
        summary |= {
            "seconds": round(seconds, 2),
            "seconds_to_load": round(loaded - started, 2),
            "tokens_per_second": round(summary["tokens"] / seconds, 1),
            "peak_memory_gib": round(peak_memory(processes.device), 2),
            "device": device_name(processes.device),
            "threads": torch.get_num_threads(),
            "processes": processes.world_size,
            "belongs_to": belongs_to,
        }
        taggers = {trainer.plan.name: Tagger(trainer.head, reader, trainer.plan.layers) for trainer in trainers}
        summary["validation"], best = compare_heads(taggers, arguments.data, config.max_length, processes)
        if processes.rank == 0:
            runs.write(folder, trainers, best, summary, reader, split, flags_of(arguments))
    if processes.rank == 0:
        print_summary(summary, best, arguments)


def train(
    trainers: Sequence[HeadTrainer],
    reader: Reader,
    split: PreparedSplit,
    windows: Windows,
    config: TrainingConfig,
    processes: Processes,
    monitor: Monitor,
    output: Path,
    belongs_to: str = "",
    resume: bool = False,
) -> dict:
    """All epochs of all heads. One optimizer step sees batch_size x gradient_accumulation_steps windows, and its loss
    is averaged over their scored tokens: the gradient of the accumulated batches. Returns the summary's figures.

    The state goes to `output` as that of the run `belongs_to`; with `resume` the training goes on from there."""
    epochs = max(trainer.plan.epochs for trainer in trainers)
    cache = build_cache(config.cache, output.parent, reader, windows, epochs, processes)
    done = saved = runs.load_state(output, trainers, belongs_to) if resume else 0  # steps
    ahead = STEPS_AHEAD.get(processes.device.type, 16)
    tokens, token_ids = 0, split.tokens["token_ids"]
    total = epochs * int(windows.scored_counts.sum())
    with progress("train", total, quiet=processes.rank > 0) as bar, monitor:
        for epoch in range(epochs):
            active = [trainer for trainer in trainers if epoch < trainer.plan.epochs]
            for steps, chosen in step_groups(windows, epoch, config.windows_a_step, ahead, config.seed, processes):
                bar.update(sum(step.count for step in steps))
                if steps[-1].number <= done and (epoch or not cache):
                    continue

                # forward ahead of the optimizer: the backbone is frozen, so one pass serves many steps and all heads
                places = chosen // processes.world_size  # among this process's windows
                if epoch and cache:
                    features = cache.read(places, reader.device)
                else:
                    features = reader(token_ids, windows[chosen])  # [tokens, width]
                    if cache:
                        cache.write(places, features)
                steps = [step for step in steps if step.number > done]  # another device's groups end elsewhere
                if not steps:
                    continue
                if steps[0].number == 1:
                    for trainer in trainers:
                        trainer.standardise(features)

                # the heads take the documented steps in the documented order
                gold = tags_of(split, windows[chosen], {trainer.head.tags for trainer in active})  # [scored tokens]
                for trainer in active:
                    assert gold[trainer.head.tags].max(initial=0) < trainer.head.num_tags, "a label beyond the head's"
                tags = {scheme: to_device(array, reader.device) for scheme, array in gold.items()}
                logged = [take_step(trainer, step, features, tags) for step in steps for trainer in active]
                log = fetch(torch.stack([*logged, features.isfinite().all().expand(2)]))
                del features  # or two groups' would be held at once

                monitor.add(log, steps, active)  # stops at a loss or a gradient that is not finite
                bar.set_postfix_str(monitor.losses(), refresh=False)
                tokens += sum(step.count for step in steps)
                if steps[-1].number - saved >= config.save_every:
                    monitor.settle()
                    saved = steps[-1].number
                    if processes.rank == 0:
                        runs.save_state(output, saved, trainers, belongs_to, reader.backbone)
    return {
        "steps": max(len(trainer.log) for trainer in trainers),
        "examples": len(split),
        "windows": len(windows),
        "tokens": tokens,
        "final_loss": trainers[0].log[-1][0],
        "heads": {t.plan.name: {"steps": len(t.log), "final_loss": t.log[-1][0]} for t in trainers},
    }


def take_step(trainer: HeadTrainer, step: Step, features: torch.Tensor, tags: dict[str, torch.Tensor]) -> torch.Tensor:
    """One clipped AdamW step → [loss, gradient norm], on the device; `features` [tokens, width] and `tags` [scored
    tokens] of each scheme, both of the step's group. The loss is averaged over the scored tokens of all accumulated
    batches, on all processes: no batch counts more than its tokens."""
    trainer.seed_step(step.number, trainer.processes.rank)  # of dropout
    loss = trainer.loss(step, features, tags)
    if loss.requires_grad:  # this process may have no windows in a small step
        loss.backward()
    loss = loss.detach()
    trainer.sum_gradients(loss)
    norm = torch.nn.utils.clip_grad_norm_(trainer.parameters, trainer.max_grad_norm)
    for group in trainer.optimizer.param_groups:
        group["lr"] = trainer.plan.learning_rate_at(step.number)
    trainer.optimizer.step()
    trainer.optimizer.zero_grad()
    return torch.stack([loss, norm])


def build_monitor(
    trainers: Sequence[HeadTrainer], reader: Reader, arguments: argparse.Namespace, processes: Processes
) -> Monitor:
    """Where the steps are noted; the first process alone looks at validation rows and writes to TensorBoard."""
    if processes.rank:
        return Monitor(trainers)
    validation = Validation(reader, arguments.data, arguments.max_length, arguments.seed)
    return Monitor(trainers, validation, board_folder(arguments) if arguments.tensorboard else None)


def board_folder(arguments: argparse.Namespace) -> Path:
    """Of TensorBoard: beside the run folder, which is replaced as a whole."""
    return arguments.output.parent / "tensorboard" / arguments.output.name


def check_outputs(arguments: argparse.Namespace) -> None:
    """Raise UserError or OSError where what is to be trained could not be written."""
    check_output(arguments.output, runs.SUMMARY, runs.STATE)
    if arguments.output.is_dir():
        check_output(arguments.output / runs.STATE)
    if arguments.tensorboard:
        check_unicode(board_folder(arguments))
        check_output(board_folder(arguments) / "events")


def check_data(split: PreparedSplit, windows: Windows, folder: Path) -> None:
    """Raise UserError where nothing can be learnt."""
    if split.num_labels < 2:
        raise UserError(f"{folder} holds no PII spans, so there is nothing to learn: prepare labelled rows")
    if not len(windows):
        raise UserError(f"{folder} has no training rows: prepare with a smaller --validation-fraction")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data/prepared"), help="prepared folder")
    parser.add_argument("--backbone", default=DEFAULT_BACKBONE, help=f"hub id or folder ({DEFAULT_BACKBONE})")
    parser.add_argument("--output", type=Path, default=Path("runs/default"), help="run folder to write")
    parser.add_argument("--heads", nargs="+", choices=list(KINDS), default=[DOCUMENTED], help=f"({DOCUMENTED})")
    parser.add_argument("--start-from", type=Path, metavar="RUN", help="each head begins with this run's, of its kind")
    parser.add_argument("--batch-size", type=positive_int, help="windows a batch (%(default)s)")
    parser.add_argument("--max-length", type=positive_int, help="tokens a window (%(default)s); nothing is cut")
    parser.add_argument("--gradient-accumulation-steps", type=positive_int, help="batches a step (%(default)s)")
    parser.add_argument("--max-grad-norm", type=positive_float, help="gradients are clipped to it (%(default)s)")
    documented = parser.add_argument_group("the documented head (the strong one, where it is trained alone)")
    documented.add_argument(
        "--learning-rate", type=learning_rate, nargs="+", help="of AdamW (1e-5); several: a head each"
    )
    documented.add_argument("--epochs", type=positive_int, help="(1)")
    documented.add_argument("--dropout", type=fraction, help="(0.1)")
    strong = parser.add_argument_group("the strong head")
    strong.add_argument(
        "--layers", nargs="+", help="of the backbone, that it reads; auto tries several (default: at 0.4, 0.6, 0.8)"
    )
    strong.add_argument("--strong-learning-rate", type=learning_rate, nargs="+", help="(2e-3)")
    strong.add_argument("--strong-epochs", type=positive_int, help=f"(as many as make {STRONG_STEPS} steps)")
    sizes = zip(FEW_SIZE, MANY_SIZE, strict=True)
    units, dropout = (f"({few}, from {MANY_WINDOWS:,} windows on {many})" for few, many in sizes)
    strong.add_argument("--strong-dropout", type=fraction, help=dropout)
    strong.add_argument("--strong-units", type=positive_int, help=f"of its GRU, in either direction {units}")
    machine = parser.add_argument_group("the machine")
    machine.add_argument("--precision", choices=PRECISIONS, default="bf16", help="of the backbone (bf16)")
    machine.add_argument("--device", default="auto", help="auto, cuda, cuda:1, mps, cpu")
    machine.add_argument("--tokens-per-forward", type=positive_int, help="that the backbone reads at once")
    machine.add_argument("--no-compile", action="store_true", help="do not compile the backbone's layers")
    machine.add_argument("--cache", choices=CACHES, help="where features wait for later epochs")
    machine.add_argument("--save-every", type=positive_int, help="steps between states to resume (%(default)s)")
    machine.add_argument("--tensorboard", action="store_true", help="log to tensorboard/ beside --output, if installed")
    machine.add_argument("--resume", action="store_true", help="go on from the last state in --output")
    parser.add_argument("--seed", type=seed)
    recipe = ("batch_size", "gradient_accumulation_steps", "max_length", "max_grad_norm", "cache", "save_every", "seed")
    parser.set_defaults(**{name: getattr(TrainingConfig, name) for name in recipe})
    arguments = parser.parse_args(argv)
    settle_head_flags(arguments)
    runs.check_name(arguments.backbone)
    if arguments.tensorboard:
        check_tensorboard()
    if arguments.start_from:
        # read now, or a mistake would only show once the backbone is loaded; a strong head begins as wide as that one
        config = run_config.read_config(arguments.start_from)
        head = run_config.head_of_kind(config, STRONG)
        if STRONG in arguments.heads and arguments.strong_units is None and head:
            arguments.strong_units = config["heads"][head]["units"]
    return arguments


def settle_head_flags(arguments: argparse.Namespace) -> None:
    """Fill in each head's defaults. Raises UserError at a flag of the strong head where none is trained."""
    for name in ("learning_rate", "epochs", "dropout"):
        if arguments.heads == [STRONG] and getattr(arguments, f"strong_{name}") is None:
            setattr(arguments, f"strong_{name}", getattr(arguments, name))
    for name in ("layers", "strong_learning_rate", "strong_epochs", "strong_dropout", "strong_units"):
        if STRONG not in arguments.heads and getattr(arguments, name) is not None:
            raise UserError(f"--{name.replace('_', '-')} is the strong head's: add --heads {DOCUMENTED} {STRONG}")
    defaults = {name: getattr(TrainingConfig, name) for name in ("epochs", "dropout")}
    defaults["learning_rate"] = [*TrainingConfig.learning_rates]
    defaults["strong_learning_rate"] = [*TrainingConfig.strong_learning_rates]
    for name, value in defaults.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)


def flags_of(arguments: argparse.Namespace) -> dict:
    """The command line as JSON can hold it."""
    paths = ("data", "backbone", "output", "start_from")
    return {name: path_text(value) if value and name in paths else value for name, value in vars(arguments).items()}


def config_of(arguments: argparse.Namespace) -> TrainingConfig:
    same = ["batch_size", "gradient_accumulation_steps", "max_length", "max_grad_norm", "seed", "heads", "epochs"]
    same += ["dropout", "layers", "strong_epochs", "strong_dropout", "strong_units", "tokens_per_forward", "cache"]
    same += ["save_every"]
    return TrainingConfig(
        learning_rates=arguments.learning_rate,
        strong_learning_rates=arguments.strong_learning_rate,
        **{name: getattr(arguments, name) for name in same},
    )


def describe(
    reader: Reader, split: PreparedSplit, windows: Windows, plans: Sequence[Plan], arguments: argparse.Namespace
) -> str:
    """What is about to be trained, on what and why so."""
    lines = [
        f"device: {describe_device(reader.device)}   backbone: {arguments.backbone}, "
        f"{describe_precision(reader.backbone.dtype, reader.device, arguments.precision)}",
        f"data: {len(split)} rows, {len(windows)} windows, {len(split.tokens['token_ids'])} tokens, "
        f"{split.num_labels} labels",
    ]
    why = {None: "default depths, see docs/accuracy.md", AUTO: "best on a part of the training rows"}
    given = arguments.layers and tuple(arguments.layers)
    for plan in plans:
        reason = f" ({why.get(given, 'as told')})" if plan.kind == STRONG else ""
        layers = f"layer{'s' * (len(plan.layers) > 1)} {', '.join(map(str, plan.layers))}{reason}"
        layers += f", {plan.units} units, dropout {plan.dropout:g}" * (plan.kind == STRONG)
        lines.append(
            f"{plan.name}: {layers}, learning rate {plan.learning_rate:g}, {plan.epochs} epoch{'s' * (plan.epochs > 1)}"
            f"{f', from {arguments.start_from}' if arguments.start_from else ''}"
        )
    return "\n".join(lines)


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
