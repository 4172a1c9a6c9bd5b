"""Build the stand-in backbone: a small real language model that reads Tekken v3 token ids (pii/decoder/standin.py)."""

import argparse
import time
from pathlib import Path

from pii.common import Parser, run
from pii.decoder import standin
from pii.device import set_threads
from pii.outputs import clear_leftovers


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    started = time.perf_counter()
    if standin.is_built(arguments.output, arguments.source):
        clear_leftovers(arguments.output)
        print(f"{arguments.output} is built already from {arguments.source}; delete the folder to build it anew")
        return
    set_threads()
    if arguments.source == standin.PACKAGE:
        print(f"fetching {standin.PACKAGE} (93 MB) with pip", flush=True)
    parameters, layers, single = standin.build(arguments.output, arguments.source)
    print(
        f"wrote {arguments.output}: {parameters / 1e6:.0f} M parameters, {layers} layers, "
        f"{time.perf_counter() - started:.0f} s\n"
        f"{single:.1%} of Tekken's pieces are one token of the source's tokenizer, the others the mean of several\n"
        f"next: python train.py --backbone {arguments.output}"
    )


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("backbones/smollm2-tekken"), help="folder to write")
    parser.add_argument(
        "--source", default=standin.PACKAGE, help="local folder or hub id of another Llama- or Mistral-class model"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
