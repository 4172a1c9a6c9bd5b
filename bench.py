"""Speed and memory, measured in one run and in turn: training against the plain recipe; with --data, preparing against
bare tokenising; with --run, predicting against the bare backbone and, where it is installed, beside presidio-analyzer.
--quick: a table of training in all precisions in under 8 minutes."""

import argparse
import contextlib
import io
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pii  # noqa: F401 (before torch: it says how threads wait)

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # before torch too: its profiler says on standard error that it profiles

# isort: split
import numpy as np

import train
from pii.bench.peers import Finder, bench_peers, presidio
from pii.bench.training import MAX_LENGTH, QUICK_PRECISIONS, WINDOWS, Work, bench_training, timed
from pii.common import Parser, UserError, path_text, positive_int, run
from pii.corpus.spans import starts_of
from pii.corpus.store import FORMAT_VERSION, LANGUAGE, SPLITS, TOKEN_COLUMNS, PreparedSplit, Rows, SplitWriter
from pii.corpus.windows import make_windows
from pii.decoder.precision import PRECISIONS
from pii.device import choose_device, describe_device, device_name, set_threads
from pii.outputs import check_output, write_json

ROUNDS = 3  # of each way, in turn; the median ratio counts, since machines are shared and noisy
PARTS = ["training", "prepare", "predict"]
ROWS = 200  # to prepare and to predict
ENOUGH_ROWS = 20_000  # for preparing: the rows are repeated until they are so many
DEFAULT_BACKBONES = {"cuda": "random:ministral-8b"}
STANDIN = "backbones/smollm2-tekken"


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    check_output(arguments.json)
    device = choose_device(arguments.device)
    set_threads()
    backbone = arguments.backbone or DEFAULT_BACKBONES.get(device.type, STANDIN)
    data = path_text(arguments.data or "random tokens")
    report: dict = {"device": device_name(device), "backbone": path_text(backbone), "data": data}
    with tempfile.TemporaryDirectory() as temporary:
        split = PreparedSplit(arguments.data or write_random_data(Path(temporary) / "random"), arguments.split)
        if not len(split):
            raise UserError(f"{data} has no {arguments.split} rows: choose another --split")
        print(f"device: {describe_device(device)}   backbone: {backbone}   data: {data}, {arguments.rounds} rounds\n")
        windows = make_windows(split.example_offsets, MAX_LENGTH)[: arguments.windows or WINDOWS.get(device.type, 864)]
        work = Work(
            device,
            split,
            windows,
            Path(temporary) / "run",
            arguments.tokens_per_forward,
            not arguments.no_compile,
            train.train,
            train.take_step,
        )
        if "training" in arguments.only:
            report["training"] = bench_training(
                backbone, work, arguments.precision, arguments.rounds, arguments.quick, fixed=bool(arguments.windows)
            )
        rows = split.rows(np.arange(min(arguments.rows, len(split))))
        if arguments.data and "prepare" in arguments.only:
            report["prepare"] = bench_prepare(split, rows, arguments.rounds)
        if arguments.run and "predict" in arguments.only:
            report["predict"] = bench_predict(rows, arguments)
    if arguments.json:
        write_json(arguments.json, report)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="train each way once, on what 8 minutes are enough for")
    parser.add_argument("--data", type=Path, help="prepared folder (default: random tokens, 57 a row)")
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--backbone", help=f"hub id, folder or random:ministral-8b ({STANDIN} on a CPU, else random)")
    parser.add_argument(
        "--precision", nargs="+", choices=PRECISIONS, help="of the backbone (bf16; --quick: bf16 fp8 int8)"
    )
    parser.add_argument("--windows", type=positive_int, help="to train on in a round (6912 on a GPU, 864 on a CPU)")
    parser.add_argument("--rounds", type=positive_int, help=f"of each way, in turn ({ROUNDS}; --quick: 1)")
    parser.add_argument("--tokens-per-forward", type=positive_int, help="that the backbone reads at once")
    parser.add_argument("--no-compile", action="store_true", help="do not compile the backbone's layers")
    parser.add_argument("--run", type=Path, help="run folder: measure predict.py too")
    parser.add_argument("--rows", type=positive_int, default=ROWS, help=f"to prepare and to predict ({ROWS})")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="what to measure (all)")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, mps, cpu")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    arguments = parser.parse_args(argv)
    arguments.rounds = arguments.rounds or (1 if arguments.quick else ROUNDS)
    wanted = arguments.precision or (QUICK_PRECISIONS if arguments.quick else ["bf16"])
    arguments.precision = list(dict.fromkeys(wanted))
    return arguments


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


def bench_prepare(split: PreparedSplit, rows: Rows, rounds: int) -> dict:
    """prepare.py against what the tokenizer alone takes in one process, called as its users call it."""
    import prepare
    from pii.corpus import tekken

    texts, examples = rows.texts(), [split.example(index) for index in range(len(rows.token_counts))]
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


def bench_predict(rows: Rows, arguments: argparse.Namespace) -> dict:
    """predict.py against the backbone over the same windows, tokenised before: no prediction can be faster."""
    from predict import Redactor

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
    if reader.device.type != "cpu":
        print("presidio-analyzer: not measured (it is compared on a CPU: --device cpu)")
        return report
    finders: dict[str, Finder] = {f"predict.py, {redactor.head}": lambda texts, _: list(redactor.spans(texts))}
    return report | {"peers": bench_peers(rows, finders | presidio(), arguments.rounds)}


def compare(first: tuple[str, Callable], second: tuple[str, Callable], rows: int, tokens: int, rounds: int) -> dict:
    """Median seconds of both, measured in turn, and the median of second / first."""
    seconds = np.array([[timed(first[1]), timed(second[1])] for _ in range(rounds)])
    medians = dict(zip((first[0], second[0]), np.median(seconds, axis=0).tolist(), strict=True))
    for name, value in medians.items():
        print(f"{name:<18}{value:>9.2f} s{rows / value:>11.1f} rows/s{tokens / value:>12.0f} tokens/s")
    ratio = float(np.median(seconds[:, 1] / seconds[:, 0]))
    print(f"{second[0]} takes {ratio:.2f} times {first[0]}\n")
    return {"seconds": medians, "ratio": ratio}


if __name__ == "__main__":
    run(main)
