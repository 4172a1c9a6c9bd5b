"""Speed, measured in one run and in turn: preparing against bare tokenising, predicting against the bare backbone."""

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import prepare
import tekken
from common import Parser, UserError, atomic_path, positive_int, run
from dataset import PIITokenDataset, make_windows
from model import device_name, scored_features
from predict import Redactor

ENOUGH_ROWS = 20_000  # for preparing: the rows are repeated until they are so many
ROUNDS = 3  # of each pair, in turn; the median ratio counts, since machines are shared and noisy


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    data = PIITokenDataset(arguments.data, arguments.split)
    rows = data.split.rows(np.arange(min(arguments.rows, len(data))))
    texts, tokens = rows.texts(), int(rows.token_counts.sum())
    if not texts:
        raise UserError(f"{arguments.data} has no {arguments.split} rows: choose another --split")
    print(f"{len(texts)} rows, {tokens} tokens of {arguments.data}, {ROUNDS} rounds")
    report = {"rows": len(texts), "tokens": tokens}
    times = -(-ENOUGH_ROWS // len(texts))
    report["prepare"] = compare(
        ("bare encode", lambda: bare_encode(texts * times)),
        ("prepare.py", preparing(data, len(texts), times)),
        times * len(texts),
        times * tokens,
    )
    redactor = Redactor(arguments.run, device=arguments.device)
    report["device"] = device_name(redactor.model.device)
    print(f"device: {report['device']}")
    report["predict"] = compare(
        ("bare features", bare_features(redactor, rows)),
        ("predict", lambda: list(redactor.redact(texts))),
        len(texts),
        tokens,
    )
    add_presidio(texts, report)
    if arguments.json:
        with atomic_path(arguments.json) as path:
            path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/default"), help="run folder")
    parser.add_argument("--data", type=Path, default=Path("data/prepared"), help="prepared folder")
    parser.add_argument("--split", choices=prepare.SPLITS, default="validation")
    parser.add_argument("--rows", type=positive_int, default=200, help="of the split, at most (200)")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, mps, cpu")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    return parser.parse_args(argv)


def compare(first: tuple[str, Callable], second: tuple[str, Callable], rows: int, tokens: int) -> dict:
    """Median seconds of both, measured in turn, and the median of second / first."""
    seconds = np.array([[timed(first[1]), timed(second[1])] for _ in range(ROUNDS)])
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


def bare_encode(texts: list[str]) -> None:
    """What the tokenizer alone takes in one process, called as its users call it."""
    encode = tekken.load().plain_encode
    for text in texts:
        encode(text)


def preparing(data: PIITokenDataset, rows: int, times: int) -> Callable[[], None]:
    """prepare.py on the first rows, so many times over, within this process: its imports and tokenizer are loaded."""
    folder = tempfile.TemporaryDirectory()
    raw = Path(folder.name) / "rows.jsonl"
    examples = [data.example(index) for index in range(rows)]
    lines = [json.dumps({"unmasked_text": e["text"], "span_labels": e["spans"], "language": "en"}) for e in examples]
    raw.write_text("\n".join(lines * times) + "\n", encoding="utf-8")

    def prepare_rows() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            prepare.main(["--input", str(raw), "--output", f"{folder.name}/prepared"])

    return prepare_rows


def bare_features(redactor: Redactor, rows) -> Callable[[], object]:
    """The backbone over the same windows, tokenised before: what no prediction can be faster than."""
    windows = make_windows(np.concatenate([[0], np.cumsum(rows.token_counts)]), redactor.max_length)
    chosen = np.arange(len(windows))
    return lambda: scored_features(redactor.model, rows.tokens["token_ids"], windows, chosen).sum().item()


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
