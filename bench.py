"""Speed and memory, measured in one run and in turn: the training engine against the plain recipe, then preparing
against bare tokenising and predicting against the bare backbone."""

import argparse
import contextlib
import gc
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pii  # noqa: F401 (before torch: it says how threads wait)

# isort: split
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import train
from pii.common import Parser, UserError, path_text, positive_int, run
from pii.corpus.spans import starts_of
from pii.corpus.store import FORMAT_VERSION, LANGUAGE, SPLITS, TOKEN_COLUMNS, PreparedSplit, Rows, SplitWriter
from pii.corpus.windows import IGNORE_INDEX, Windows, make_windows
from pii.decoder.backbone import BOS_ID, Backbone, decoder_layers, load_backbone
from pii.decoder.features import Reader, to_device
from pii.decoder.precision import PRECISIONS, QUANTISED, backbone_dtype
from pii.decoder.states import compile_layers
from pii.device import choose_device, describe_device, device_name, peak_memory, set_threads
from pii.heads.heads import DOCUMENTED, STRONG
from pii.outputs import check_output, write_json
from pii.processes import Processes
from pii.training.config import TrainingConfig
from pii.training.monitor import Monitor
from pii.training.plans import Plan, default_layers
from pii.training.steps import step_groups, tags_of
from pii.training.trainer import HeadTrainer

ROUNDS = 3  # of each way, in turn; the median ratio counts, since machines are shared and noisy
ENOUGH_ROWS = 20_000  # for preparing: the rows are repeated until they are so many
BATCH, ACCUMULATION, MAX_LENGTH = 12, 3, 96  # the documented recipe
FULL_EXAMPLES, FULL_TOKENS = 94_463, 5_500_000  # of one epoch over pii-masking-200k in English and French
MATMUL_SIZE = {"cuda": 8192, "cpu": 2048}
WINDOWS = {"cuda": 36 * 192, "cpu": 36 * 24}
RECIPE_SHARE = 4  # the recipe trains on one window in so many: its speed does not depend on how many there are
DEFAULT_BACKBONES = {"cuda": "random:ministral-8b"}
STANDIN = "backbones/smollm2-tekken"
OPERATIONS = (("aten::",), "operations")
LAUNCHES = {"cuda": (("cudaLaunch", "cuLaunch", "cudaMemcpyAsync", "cudaMemsetAsync"), "launches")}
RECIPE, ONE_HEAD, TWO_EPOCHS, LATER_EPOCH = "plain recipe", "one documented head", "two epochs", "its second epoch"


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    check_output(arguments.json)
    device = choose_device(arguments.device)
    set_threads()
    backbone = arguments.backbone or DEFAULT_BACKBONES.get(device.type, STANDIN)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.data or write_random_data(Path(temporary) / "random")
        split = PreparedSplit(folder, arguments.split)
        if not len(split):
            raise UserError(f"{folder} has no {arguments.split} rows: choose another --split")
        report: dict = {
            "device": device_name(device),
            "backbone": path_text(backbone),
            "data": path_text(arguments.data or "random tokens"),
        }
        print(
            f"device: {describe_device(device)}   backbone: {backbone}   data: {report['data']}, "
            f"{arguments.rounds} rounds\n"
        )
        report["training"] = bench_training(backbone, device, split, arguments, Path(temporary))
        if arguments.data:
            report["prepare"] = bench_prepare(split, arguments.rounds)
        if arguments.run:
            report["predict"] = bench_predict(split, arguments)
    if arguments.json:
        write_json(arguments.json, report)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("--data", type=Path, help="prepared folder (default: random tokens, 57 a row)")
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--backbone", help=f"hub id, folder or random:ministral-8b ({STANDIN} on a CPU, else random)")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=["bf16"], help="of the backbone (bf16)")
    parser.add_argument("--windows", type=positive_int, help="to train on in a round (6912 on a GPU, 864 on a CPU)")
    parser.add_argument("--rounds", type=positive_int, default=ROUNDS, help=f"of each way, in turn ({ROUNDS})")
    parser.add_argument("--tokens-per-forward", type=positive_int, help="that the backbone reads at once")
    parser.add_argument("--no-compile", action="store_true", help="do not compile the backbone's layers on a GPU")
    parser.add_argument("--run", type=Path, help="run folder: measure predict.py too")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, mps, cpu")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    return parser.parse_args(argv)


# training


def bench_training(
    name: str, device: torch.device, split: PreparedSplit, arguments: argparse.Namespace, folder: Path
) -> dict:
    """The plain recipe, then the engine with one head and with three, and the epochs after the first."""
    windows = make_windows(split.example_offsets, MAX_LENGTH)
    windows = windows[: arguments.windows or WINDOWS.get(device.type, 864)]
    tokens, rate = int(windows.scored_counts.sum()), matmul_rate(device)
    print(f"training on {len(windows)} windows, {tokens} scored tokens; matrix products at {rate / 1e12:.2f} TFLOP/s")
    print(f"{'':<34}{'tokens/s':>10}{'of matmul':>10}{'x recipe':>9}{'GiB':>7}{'full epoch':>12}")
    report: dict = {"windows": len(windows), "tokens": tokens, "matmul_flops": rate, "ways": {}}
    for precision in arguments.precision:
        backbone = load_backbone(name, backbone_dtype(device), precision=precision, device=device)
        ways = training_ways(backbone, device, split, windows, arguments, folder)
        measured = measure_in_turn(ways, device, arguments.rounds)
        computed_in = precision if precision in QUANTISED else str(backbone.dtype).removeprefix("torch.")
        for way, entry in training_figures(measured, tokens, rate, backbone).items():
            report["ways"][f"{way}, {computed_in}"] = entry
            share = percent(entry["share_of_matmul"])
            print(
                f"{f'{way}, {computed_in}':<34}{entry['tokens_per_second']:>10.0f}{share:>10}"
                f"{entry['times_recipe']:>9.2f}{entry['peak_gib']:>7.2f}{duration(entry['full_epoch_seconds']):>12}"
            )
        if precision == arguments.precision[-1]:  # it is the same with all
            report["strong_step"] = bench_strong_step(backbone, device, split, windows)
        del backbone, ways
        gc.collect()
    print()
    return report


def training_ways(
    backbone: Backbone,
    device: torch.device,
    split: PreparedSplit,
    windows: Windows,
    arguments: argparse.Namespace,
    folder: Path,
) -> dict[str, Callable[[], float]]:
    """Name → a function that trains once and returns seconds. The recipe runs before the layers are compiled."""
    depth = backbone.config.num_hidden_layers
    three = [(DOCUMENTED, [depth], f"{DOCUMENTED}@{rate}") for rate in ("1e-5", "1e-4", "1e-3")]
    strong = [(STRONG, default_layers(depth), STRONG)]

    compiled: list[Callable] = []

    def recipe() -> float:
        for layer in compiled and decoder_layers(backbone):
            layer.__dict__.pop("forward", None)  # back to the class's own
        some = windows[: max(BATCH, len(windows) // RECIPE_SHARE)]
        share = some.scored_counts.sum() / windows.scored_counts.sum()
        return plain_recipe(backbone, device, split, some) / float(share)

    def engine(heads: list, epochs: int = 1) -> float:
        if device.type == "cuda" and not arguments.no_compile:
            if not compiled:
                compile_layers(backbone)
                compiled.extend(layer.forward for layer in decoder_layers(backbone))
                started = time.perf_counter()
                run_engine(backbone, device, split, windows[: 36 * 8], heads, 1, arguments, folder)
                print(f"(compiled and warmed up in {time.perf_counter() - started:.1f} s)")
            for layer, forward in zip(decoder_layers(backbone), compiled, strict=True):
                layer.forward = forward
        return run_engine(backbone, device, split, windows, heads, epochs, arguments, folder)

    return {
        RECIPE: recipe,
        ONE_HEAD: lambda: engine(three[:1]),
        TWO_EPOCHS: lambda: engine(three[:1], epochs=2),
        "three documented heads": lambda: engine(three),
        "documented and strong": lambda: engine(three[:1] + strong),
    }


def bench_strong_step(backbone: Backbone, device: torch.device, split: PreparedSplit, windows: Windows) -> dict:
    """One step of the strong head: its seconds, and how many operations a CPU or launches a GPU is given (copies too;
    cuDNN's own, which are some a position, among them)."""
    alone, layers = Processes(0, 1, device), default_layers(backbone.config.num_hidden_layers)
    reader = Reader(backbone, layers)
    plan = Plan(STRONG, STRONG, layers, 1e-5, 1, 1, 0.1, scheduled=False)
    trainer = HeadTrainer(plan, reader, split.num_labels, 0, 1.0, alone)
    (step, *_), chosen = next(step_groups(windows, 0, BATCH * ACCUMULATION, 1, 0, alone))
    tags = {
        trainer.head.tags: to_device(tags_of(split, windows[chosen], {trainer.head.tags})[trainer.head.tags], device)
    }
    features = torch.randn(int(windows.lengths[chosen].sum()), reader.width, device=device).to(reader.backbone.dtype)

    def take_step() -> float:
        return timed(lambda: train.take_step(trainer, step, features, tags).tolist())

    seconds = float(np.median([take_step() for _ in range(8)][3:]))  # the first ones are slower
    with torch.profiler.profile() as profile:
        take_step()
    counted, what = LAUNCHES.get(device.type, OPERATIONS)
    count = sum(event.name.startswith(counted) for event in profile.events())
    print(f"a step of the strong head, {len(features)} tokens: {1000 * seconds:.1f} ms, {count} {what}")
    return {"seconds": seconds, "tokens": len(features), what: count}


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


def training_figures(measured: dict[str, dict], tokens: int, rate: float, backbone: Backbone) -> dict[str, dict]:
    """Medians over the rounds; ratios are medians of each round's ratio. A second epoch is what two take beyond one."""
    weights = [weight for layer in decoder_layers(backbone) for weight in layer.state_dict().values()]
    flops = 2 * sum(weight.numel() for weight in weights if weight.ndim == 2)  # a token
    seconds = {name: np.array(entry["seconds"]) for name, entry in measured.items()}
    report = {}
    for name, entry in measured.items():
        own = seconds[name] - seconds[ONE_HEAD] if name == TWO_EPOCHS else seconds[name]
        speed = tokens / float(np.median(own))
        report[LATER_EPOCH if name == TWO_EPOCHS else name] = {
            "seconds": entry["seconds"],
            "tokens_per_second": speed,
            "share_of_matmul": None if name == TWO_EPOCHS else speed * flops / rate,
            "times_recipe": float(np.median(seconds[RECIPE] / own)),
            "times_one_head": float(np.median(own / seconds[ONE_HEAD])),
            "peak_gib": entry["peak_gib"],
            "full_epoch_seconds": FULL_TOKENS / speed,
        }
    return report


def matmul_rate(device: torch.device) -> float:
    """FLOP/s of square matrix products in the dtype the backbone computes in: what no forward can be faster than."""
    size = MATMUL_SIZE.get(device.type, 4096)
    square = torch.randn(size, size, device=device, dtype=backbone_dtype(device))
    best = 0.0
    for _ in range(5):
        if device.type == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(10):
            square @ square
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = max(best, 10 * 2 * size**3 / (time.perf_counter() - started))
    return best


def percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 3600:.1f} h"


def write_random_data(folder: Path) -> Path:
    """A prepared folder of random tokens in rows of about 57, where no real one is given."""
    rng = np.random.default_rng(0)
    counts = np.clip(rng.gamma(4.3, 58.1 / 4.3, max(WINDOWS.values())).astype(np.int64), 6, MAX_LENGTH)
    total, rows = int(counts.sum()), len(counts)
    tokens = {name: np.zeros(total, dtype) for name, dtype in TOKEN_COLUMNS.items()}
    tokens["token_ids"] = rng.integers(1000, 131_072, total).astype(np.uint32)
    tokens["label_ids"] = rng.integers(0, 57, total).astype(np.uint16)
    tokens["char_starts"] = (np.arange(total) - np.repeat(starts_of(counts)[:-1], counts)).astype(np.uint32)
    tokens["char_ends"] = tokens["char_starts"] + np.uint32(1)  # each token is a letter
    text, nothing, languages = np.full(total, ord("a"), np.uint8), np.zeros(rows, np.int64), np.zeros(rows, LANGUAGE)
    random = Rows(tokens, counts, text, counts, np.zeros((0, 3), np.int32), nothing, languages)
    for split in SPLITS:
        with SplitWriter(folder / split) as writer:
            writer.append(random)
    labels = ["O", *(f"LABEL{i}" for i in range(1, 57))]
    tokenizer = {"name": "random", "file": "none", "sha256": "0" * 64, "vocab_size": 131_072}
    write_json(folder / "meta.json", {"format_version": FORMAT_VERSION, "labels": labels, "tokenizer": tokenizer})
    return folder


def plain_recipe(backbone: Backbone, device: torch.device, split: PreparedSplit, windows: Windows) -> float:
    """The documented loop as it is usually written: batches of 12 padded to 96 with a mask, one after the other."""
    head = nn.Sequential(nn.Dropout(0.1), nn.Linear(backbone.config.hidden_size, split.num_labels)).to(device)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-5)
    token_ids, label_ids = (split.tokens[name] for name in ("token_ids", "label_ids"))
    order = np.random.default_rng(0).permutation(len(windows))
    started = time.perf_counter()
    for number, first in enumerate(range(0, len(order), BATCH), 1):
        batch = order[first : first + BATCH]
        input_ids = torch.zeros(len(batch), MAX_LENGTH + 1, dtype=torch.long)
        labels = torch.full(input_ids.shape, IGNORE_INDEX)
        mask = torch.zeros_like(input_ids)
        input_ids[:, 0], mask[:, 0] = BOS_ID, 1
        for row, window in enumerate(batch):
            length = int(windows.lengths[window])
            tokens = slice(int(windows.start[window]), int(windows.stop[window]))
            input_ids[row, 1 : length + 1] = torch.from_numpy(token_ids[tokens].astype(np.int64))
            labels[row, 1 : length + 1] = torch.from_numpy(label_ids[tokens].astype(np.int64))
            mask[row, 1 : length + 1] = 1
        with torch.no_grad():
            hidden = backbone(input_ids=input_ids.to(device), attention_mask=mask.to(device)).last_hidden_state
        logits = head(hidden.float()).flatten(0, 1)
        loss = F.cross_entropy(logits, labels.to(device).flatten(), ignore_index=IGNORE_INDEX) / ACCUMULATION
        loss.backward()
        loss.item()
        if number % ACCUMULATION == 0:
            nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    return time.perf_counter() - started


def run_engine(
    backbone: Backbone,
    device: torch.device,
    split: PreparedSplit,
    windows: Windows,
    heads: list[tuple[str, list[int], str]],
    epochs: int,
    arguments: argparse.Namespace,
    folder: Path,
) -> float:
    """Seconds that train.py's loop takes, from prepared data to trained heads."""
    config = TrainingConfig(batch_size=BATCH, cache="ram", save_every=1_000_000)
    alone = Processes(0, 1, device)
    layers = sorted({layer for _, layers, _ in heads for layer in layers})
    started = time.perf_counter()
    reader = Reader(backbone, layers, arguments.tokens_per_forward)
    steps = -(-len(windows) // config.windows_a_step)
    trainers = []
    for kind, layers, head in heads:
        plan = Plan(head, kind, layers, 1e-5, epochs, epochs * steps, 0.1, scheduled=False)
        trainers.append(HeadTrainer(plan, reader, split.num_labels, 0, 1.0, alone))
    with contextlib.redirect_stdout(io.StringIO()):
        train.train(trainers, reader, split, windows, config, alone, Monitor(trainers), folder / "run")
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


# preparing and predicting


def bench_prepare(split: PreparedSplit, rounds: int) -> dict:
    """prepare.py against what the tokenizer alone takes in one process, called as its users call it."""
    import prepare
    from pii.corpus import tekken

    rows = split.rows(np.arange(min(1000, len(split))))
    texts, examples = rows.texts(), [split.example(index) for index in range(min(1000, len(split)))]
    times = -(-ENOUGH_ROWS // len(texts))
    lines = [json.dumps({"unmasked_text": e["text"], "span_labels": e["spans"], "language": "en"}) for e in examples]
    encode = tekken.load().plain_encode

    def bare_encode() -> None:
        for text in texts * times:
            encode(text)

    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "rows.jsonl"
        raw.write_text("\n".join(lines * times) + "\n", encoding="utf-8")

        def prepare_rows() -> None:
            with contextlib.redirect_stdout(io.StringIO()):
                prepare.main(["--input", str(raw), "--output", f"{folder}/prepared"])

        tokens = times * int(rows.token_counts.sum())
        return compare(("bare encode", bare_encode), ("prepare.py", prepare_rows), times * len(texts), tokens, rounds)


def bench_predict(split: PreparedSplit, arguments: argparse.Namespace) -> dict:
    """predict.py against the backbone over the same windows, tokenised before: no prediction can be faster."""
    from predict import Redactor

    rows = split.rows(np.arange(min(200, len(split))))
    texts, redactor = rows.texts(), Redactor(arguments.run, device=arguments.device)
    reader, offsets = redactor.tagger.reader, np.concatenate([[0], np.cumsum(rows.token_counts)])
    windows = make_windows(offsets, redactor.max_length)
    report = compare(
        ("bare features", lambda: reader(rows.tokens["token_ids"], windows).sum().item()),
        ("predict", lambda: list(redactor.redact(texts))),
        len(texts),
        int(offsets[-1]),
        arguments.rounds,
    )
    add_presidio(texts, report)
    return report


def compare(first: tuple[str, Callable], second: tuple[str, Callable], rows: int, tokens: int, rounds: int) -> dict:
    """Median seconds of both, measured in turn, and the median of second / first."""
    seconds = np.array([[timed(first[1]), timed(second[1])] for _ in range(rounds)])
    medians = dict(zip((first[0], second[0]), np.median(seconds, axis=0).tolist(), strict=True))
    for name, value in medians.items():
        print(f"{name:<18}{value:>9.2f} s{rows / value:>11.1f} rows/s{tokens / value:>12.0f} tokens/s")
    ratio = float(np.median(seconds[:, 1] / seconds[:, 0]))
    print(f"{second[0]} takes {ratio:.2f} times {first[0]}\n")
    return {"seconds": medians, "ratio": ratio}


def timed(function: Callable) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def add_presidio(texts: list[str], report: dict) -> None:
    """presidio-analyzer on the same texts, where it and its language model are installed."""
    try:
        from presidio_analyzer import AnalyzerEngine

        analyzer = AnalyzerEngine()
    except (ImportError, OSError, SystemExit) as error:
        print(f"presidio-analyzer: not measured ({type(error).__name__}: not installed with its language model)")
        return
    seconds = timed(lambda: [analyzer.analyze(text, language="en") for text in texts])
    report["presidio_seconds"] = seconds
    print(f"{'presidio-analyzer':<18}{seconds:>9.2f} s{len(texts) / seconds:>11.1f} rows/s")


if __name__ == "__main__":
    run(main)
