"""Train a head on a frozen backbone: the loop is written out below, from the batches to the optimizer's step."""

import argparse
import json
import math
import platform
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from tqdm import tqdm

from common import Parser, UserError, atomic_folder, fraction, positive_float, positive_int, run, seed
from dataset import PIITokenDataset, Windows, make_windows
from model import (
    DEFAULT_BACKBONE,
    DOCUMENTED,
    RUN_VERSION,
    MinistralTokenClassifier,
    backbone_dtype,
    check_vocabulary,
    choose_device,
    device_name,
    save_head,
    scored_features,
)
from spans import ranges, starts_of

STEPS_AHEAD = 16  # optimizer steps whose features are computed together: the backbone waits for no optimizer


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    started = time.perf_counter()
    device = choose_device(arguments.device)
    data = PIITokenDataset(arguments.data, "train")
    windows = make_windows(data.split.example_offsets, arguments.max_length)
    if data.num_labels < 2:
        raise UserError(f"{arguments.data} holds no PII spans, so there is nothing to learn: prepare labelled rows")
    if not len(windows):
        raise UserError(f"{arguments.data} holds no training rows: prepare more, or a smaller --validation-fraction")

    torch.manual_seed(arguments.seed)
    model = MinistralTokenClassifier(
        arguments.backbone, data.num_labels, arguments.dropout, dtype=backbone_dtype(device)
    ).to(device)
    check_vocabulary(model, data.meta["tokenizer"])
    print(
        f"device: {device_name(device)}   backbone: {arguments.backbone}, {model.backbone.dtype}".replace("torch.", "")
    )
    print(f"data: {len(data)} rows, {len(windows)} windows, {len(data.split.tokens['token_ids'])} tokens, ", end="")
    print(f"{data.num_labels} labels")

    with atomic_folder(arguments.output, mark="summary.json") as folder:
        loaded = time.perf_counter()
        summary = train(model, data, windows, arguments, folder / "metrics.jsonl")
        seconds = time.perf_counter() - loaded
        summary |= {
            "seconds": round(seconds, 2),
            "seconds_to_load": round(loaded - started, 2),
            "tokens_per_second": round(summary["tokens"] / seconds, 1),
            "peak_memory_gib": round(peak_memory(device), 2),
            "device": device_name(device),
        }
        save_head(model, folder / DOCUMENTED)
        write_json(folder / "config.json", run_config(model, data, arguments))
        write_json(folder / "summary.json", summary)
    print_summary(summary, arguments)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data/prepared"), help="prepared folder")
    parser.add_argument("--backbone", default=DEFAULT_BACKBONE, help=f"hub id or folder ({DEFAULT_BACKBONE})")
    parser.add_argument("--output", type=Path, default=Path("runs/default"), help="run folder to write")
    parser.add_argument("--batch-size", type=positive_int, default=12, help="windows a batch (12)")
    parser.add_argument("--max-length", type=positive_int, default=96, help="tokens a window (96); nothing is cut")
    parser.add_argument("--learning-rate", type=positive_float, default=1e-5, help="of AdamW (1e-5)")
    parser.add_argument("--gradient-accumulation-steps", type=positive_int, default=3, help="batches a step (3)")
    parser.add_argument("--epochs", type=positive_int, default=1)
    parser.add_argument("--max-grad-norm", type=positive_float, default=1.0, help="gradients are clipped to it (1.0)")
    parser.add_argument("--dropout", type=fraction, default=0.1)
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, mps, cpu")
    parser.add_argument("--seed", type=seed, default=0)
    return parser.parse_args(argv)


def train(
    model: MinistralTokenClassifier,
    data: PIITokenDataset,
    windows: Windows,
    arguments: argparse.Namespace,
    metrics_path: Path,
) -> dict:
    """All epochs. One optimizer step sees batch_size x gradient_accumulation_steps windows, and its loss is averaged
    over their scored tokens: the gradient of the accumulated batches. Returns the summary's figures."""
    optimizer = torch.optim.AdamW(model.classifier.parameters(), lr=arguments.learning_rate)
    windows_a_step = arguments.batch_size * arguments.gradient_accumulation_steps
    tokens = len(data.split.tokens["token_ids"])
    model.train()
    step, scored, loss = 0, 0, math.nan
    with (
        metrics_path.open("w", encoding="utf-8") as metrics,
        tqdm(total=arguments.epochs * tokens, unit=" tok", unit_scale=True, desc="train", disable=None) as bar,
    ):
        for epoch in range(arguments.epochs):
            order = np.random.default_rng([arguments.seed, epoch]).permutation(len(windows))
            for chosen in slices(order, STEPS_AHEAD * windows_a_step):
                features = scored_features(model, data.split.tokens["token_ids"], windows, chosen, bar.update)
                labels = scored_labels(data, windows, chosen).to(model.device)
                place = starts_of((windows.stop - windows.scored_from)[chosen])
                scored += len(labels)
                steps = list(slices(np.arange(len(chosen)), windows_a_step))
                log = []
                for of_step in steps:
                    seen = slice(place[of_step[0]], place[of_step[-1] + 1])
                    log.append(optimizer_step(model, optimizer, features[seen], labels[seen], arguments.max_grad_norm))
                # read late, so that a GPU does not wait for the host in every step
                for of_step, (loss, norm) in zip(steps, torch.stack(log).tolist(), strict=True):
                    step += 1
                    check_finite(loss, norm, step, windows.row[chosen[of_step]], features)
                    record = {"step": step, "epoch": epoch, "loss": loss, "gradient_norm": norm}
                    metrics.write(json.dumps(record | {"learning_rate": arguments.learning_rate}) + "\n")
                bar.set_postfix(loss=f"{loss:.3f}", norm=f"{norm:.2f}", refresh=False)
    if not all(torch.isfinite(weight).all() for weight in model.classifier.parameters()):
        check_finite(math.inf, math.inf, step, windows.row[chosen[steps[-1]]], features)
    return {"steps": step, "examples": len(data), "windows": len(windows), "tokens": scored, "final_loss": loss}


def slices(array: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """The array, `size` entries at a time."""
    return (array[start : start + size] for start in range(0, len(array), size))


def scored_labels(data: PIITokenDataset, windows: Windows, chosen: np.ndarray) -> torch.Tensor:
    """Label ids of the scored tokens of the chosen windows, in their order: [tokens] int64.

    Context is left out, so no label is -100 here. Raises UserError where a label is beyond the label set.
    """
    counts = (windows.stop - windows.scored_from)[chosen]
    labels = data.split.tokens["label_ids"][ranges(windows.scored_from[chosen], counts)].astype(np.int64)
    if labels.max() >= data.num_labels:
        raise UserError(f"a label id {labels.max()} beyond {data.num_labels - 1}: run check_dataset.py", code=1)
    return torch.from_numpy(labels)


def optimizer_step(
    model: MinistralTokenClassifier,
    optimizer: torch.optim.Optimizer,
    features: torch.Tensor,
    labels: torch.Tensor,
    max_grad_norm: float,
) -> torch.Tensor:
    """One clipped AdamW step on [tokens, hidden_size] features and [tokens] labels → [loss, gradient norm]."""
    loss = F.cross_entropy(model.head(features), labels)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.classifier.parameters(), max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()
    return torch.stack([loss.detach(), norm])


def check_finite(loss: float, norm: float, step: int, rows: np.ndarray, features: torch.Tensor) -> None:
    """Raise UserError where a loss or a gradient norm is infinite or not a number; nothing is saved then."""
    if math.isfinite(loss) and math.isfinite(norm):
        return
    if torch.isfinite(features).all():
        cause = "the features are finite, so try a lower --learning-rate"
    else:
        cause = "the backbone's hidden states are not finite: its weights are damaged or overflow in its precision"
    raise UserError(
        f"step {step}: loss {loss}, gradient norm {norm}, on training rows {' '.join(map(str, rows))}; {cause}; "
        f"nothing was saved",
        code=1,
    )


def run_config(model: MinistralTokenClassifier, data: PIITokenDataset, arguments: argparse.Namespace) -> dict:
    """Everything that is needed to rebuild the model."""
    backbone = model.backbone.config
    return {
        "run_version": RUN_VERSION,
        "backbone": {
            "name": arguments.backbone,
            "revision": getattr(backbone, "_commit_hash", None),
            "dtype": str(model.backbone.dtype).removeprefix("torch."),
            "hidden_size": backbone.hidden_size,
            "vocab_size": backbone.vocab_size,
        },
        "labels": data.labels,
        "tokenizer": data.meta["tokenizer"],
        "heads": {DOCUMENTED: {"layers": [backbone.num_hidden_layers], "tags": "plain"}},
        "max_length": arguments.max_length,
        "flags": {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "numpy": np.__version__,
        },
        "seed": arguments.seed,
    }


def peak_memory(device: torch.device) -> float:
    """GiB: of the GPU where there is one, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1024 if platform.system() == "Linux" else 1) / 2**30


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def print_summary(summary: dict, arguments: argparse.Namespace) -> None:
    print(
        f"{summary['steps']} steps over {summary['tokens']} scored tokens in {summary['seconds']:.0f} s "
        f"({summary['tokens_per_second']:.0f} tokens/s), peak memory {summary['peak_memory_gib']:.2f} GiB, "
        f"final loss {summary['final_loss']:.3f}\n"
        f"wrote {arguments.output}\n"
        f"next: python evaluate.py --run {arguments.output} --data {arguments.data}"
    )


if __name__ == "__main__":
    run(main)
