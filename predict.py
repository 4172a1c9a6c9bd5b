"""Text in, spans or redacted text out: a command, and the class Redactor for other programs."""

import argparse
import collections
import contextlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import tekken
from backbone import choose_device
from common import Parser, UserError, fraction, run
from detect import detect
from records import OUTPUT_FORMATS, BadRecord, Record, RecordWriter, RejectedWriter, read_records
from replacements import KINDS, Replacer, Span, Vault, load_vault, restore
from rows import OUTSIDE, read_label_map
from runs import choose_head, load_run, stored_bias

FORWARDS_A_GROUP = 16  # documents are gathered until they fill so many forwards, so that windows of like length meet
CHARACTERS_A_TOKEN = 4  # about, in English and French
KEY_VARIABLE = "PII_HASH_KEY"
FRENCH_WORDS = re.compile(
    r"\b(?:le|la|les|des|du|et|est|une?|pour|dans|je|vous|nous|au|avec|sur|que|qui)\b|[éèêàçù]", re.I
)
ENGLISH_WORDS = re.compile(r"\b(?:the|of|and|to|in|is|a|for|my|you|your|with|on|at|was|are|this|that|has)\b", re.I)


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    if arguments.restore:
        restore_files(arguments)
    elif arguments.export:
        from export import export_run

        export_run(arguments.run, arguments.export, arguments.head, arguments.backbone)
    else:
        redact_files(arguments)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("files", nargs="*", default=["-"], metavar="FILE", help="text files; - is standard input")
    parser.add_argument("--run", type=Path, default=Path("runs/default"), help="run folder")
    parser.add_argument("--head", help="which head of the run (the one that was best on validation in training)")
    parser.add_argument("--backbone", help="where the run's backbone is now (default: where it was in training)")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, mps, cpu")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--field", help="the files are JSON Lines: read this field")
    kind.add_argument("--column", help="the files are CSV with a header: read this column")
    parser.add_argument("--output", help="file, or folder/ (one file for each input); default: standard output")
    parser.add_argument("--output-format", choices=OUTPUT_FORMATS, default="redacted")
    parser.add_argument("--with-text", action="store_true", help="spans with the text they cover")
    parser.add_argument("--replace", choices=KINDS, default="label", help="what stands for a span (label)")
    parser.add_argument("--hash-key-file", type=Path, help="key of --replace hash (or PII_HASH_KEY in the environment)")
    parser.add_argument("--vault", type=Path, help="keep what --replace numbered replaced, to restore it")
    parser.add_argument("--restore", type=Path, metavar="VAULT", help="bring the text back instead")
    parser.add_argument("--labels", nargs="+", help="only these labels")
    parser.add_argument("--exclude-labels", nargs="+", default=[], help="all labels but these")
    parser.add_argument("--min-score", type=fraction, default=0.0, help="least probability of a span (0)")
    parser.add_argument("--target-recall", action="store_true", help="use the bias that evaluate.py stored")
    parser.add_argument("--label-map", type=Path, help="JSON: label to new label, or null to leave it out")
    parser.add_argument("--skip-bad", action="store_true", help="go on after a record that cannot be read")
    parser.add_argument("--rejected", type=Path, help="with --skip-bad: keep such records here")
    parser.add_argument("--export", type=Path, metavar="FOLDER", help="write a folder that plain transformers loads")
    arguments = parser.parse_args(argv)
    if arguments.vault and arguments.replace != "numbered":
        raise UserError("--vault keeps what --replace numbered replaced: add --replace numbered")
    if arguments.rejected and not arguments.skip_bad:
        raise UserError("--rejected keeps what --skip-bad passes over: add --skip-bad")
    return arguments


class Redactor:
    """Finds and replaces personal data in text: `Redactor("runs/default").redact("I am Ann.")`.

    Every method takes one text, or an iterable of texts that is read lazily and answered in order. A class of its own
    arguments only, so that Ray Data's `map_batches(Redactor, fn_constructor_kwargs={"run": ...})` can build it.
    Raises UserError where the run cannot be loaded or an argument cannot be right.
    """

    def __init__(
        self,
        run: Path | str = "runs/default",
        *,
        head: str | None = None,
        backbone: str | None = None,
        device: str = "auto",
        labels: Sequence[str] | None = None,
        exclude_labels: Sequence[str] = (),
        min_score: float = 0.0,
        target_recall: bool = False,
        label_map: dict[str, str] | None = None,
        replace: str = "label",
        hash_key: bytes | None = None,
        vault: Vault | None = None,
        column: str = "text",
    ) -> None:
        self.replacer = Replacer(replace, key=hash_key, vault=vault)
        self.tagger, config = load_run(Path(run), choose_device(device), head, backbone)
        self.tokenizer = tekken.load()
        if self.tokenizer.describe()["sha256"] != config["tokenizer"]["sha256"]:
            raise UserError(f"{run} was trained on another tokenizer than mistral-common brings: install its version")
        self.max_length: int = config["max_length"]
        self.bias = stored_bias(Path(run), choose_head(config, Path(run), head)) if target_recall else 0.0
        self.new_labels = policy(config["labels"], labels, exclude_labels, label_map or {})
        self.min_score = min_score
        self.column = column

    def spans(self, texts: str | Iterable[str]) -> list[Span] | Iterator[list[Span]]:
        """Sorted spans without overlaps: (start, end, label, score), offsets in code points, end exclusive. The score
        is the mean probability of the label over the span's tokens, calibrated where the run can do it."""
        if isinstance(texts, str):
            return next(self.spans([texts]))
        return (spans for group in self._groups(texts) for spans in self._spans_of_group(group))

    def redact(self, texts: str | Iterable[str]) -> str | Iterator[str]:
        """The texts with each span replaced; all else is as it was."""
        if isinstance(texts, str):
            return next(self.redact([texts]))
        return (
            self.replace(text, spans)
            for group in self._groups(texts)
            for text, spans in zip(group, self._spans_of_group(group), strict=True)
        )

    def replace(self, text: str, spans: Sequence[Span]) -> str:
        """The text with these spans replaced."""
        return self.replacer.redact(text, spans, guess_language(text))

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A batch of columns, as Ray Data passes it → the same with `redacted` and `spans` (JSON) beside them."""
        texts = [str(text) for text in batch[self.column]]
        found = list(self.spans(texts))
        redacted = [self.replace(text, spans) for text, spans in zip(texts, found, strict=True)]
        spans = [json.dumps(as_dicts(spans), ensure_ascii=False) for spans in found]
        return batch | {"redacted": np.array(redacted, dtype=object), "spans": np.array(spans, dtype=object)}

    def _groups(self, texts: Iterable[str]) -> Iterator[list[str]]:
        """The texts in order, so many together that the backbone's batches are full."""
        budget = FORWARDS_A_GROUP * CHARACTERS_A_TOKEN * self.tagger.reader.tokens_per_forward
        group, characters = [], 0
        for text in texts:
            group.append(text)
            characters += len(text) + 1
            if characters >= budget:
                yield group
                group, characters = [], 0
        if group:
            yield group

    def _spans_of_group(self, texts: list[str]) -> Iterator[list[Span]]:
        for found in detect(self.tagger, self.tokenizer, texts, self.max_length, self.bias):
            spans = []
            found.reverse()
            while found:  # one list shrinks as the other grows: a long text has millions
                span = found.pop()
                label = self.new_labels[span.label_id]
                if label is not None and span.score >= self.min_score:
                    spans.append(Span(span.start, span.end, label, span.score))
            yield spans


def policy(
    run_labels: Sequence[str], labels: Sequence[str] | None, excluded: Sequence[str], label_map: dict[str, str]
) -> list[str | None]:
    """What each label id of the run is called in the output, None for what is not wanted. Names are the new ones."""
    renamed = [label_map.get(label, label) for label in run_labels]
    if unknown := {*(labels or []), *excluded} - {*renamed}:
        known = ", ".join(sorted({*renamed} - {OUTSIDE}))
        raise UserError(f"the run has no label {', '.join(sorted(unknown))}: it has {known}")
    wanted = {*(renamed if labels is None else labels)} - {*excluded, OUTSIDE}
    return [label if label in wanted else None for label in renamed]


def guess_language(text: str) -> str:
    """ "fr" or "en", by the commonest words of its first thousand characters; replacements are chosen by it."""
    start = text[:1000]
    return "fr" if len(FRENCH_WORDS.findall(start)) > len(ENGLISH_WORDS.findall(start)) else "en"


def as_dicts(spans: Sequence[Span]) -> list[dict]:
    """Spans as JSON keeps them."""
    return [span._asdict() | {"score": round(span.score, 4)} for span in spans]


def redact_files(arguments: argparse.Namespace) -> None:
    """Every input to standard output or one file, or each to its own file of a folder, as `output_of` says."""
    rank, world = place_among_processes()
    if world > 1 and not (arguments.output and arguments.files != ["-"]):
        raise UserError("several processes share the input files: name them, and a folder with --output")
    output = Path(arguments.output) if arguments.output else None
    in_folder = world > 1 or (output is not None and (arguments.output.endswith(os.sep) or output.is_dir()))
    if in_folder:
        jobs = shard(arguments.files, output, rank, world)
        if not jobs:
            print("nothing to do: every output is there", file=sys.stderr)
            return
    else:
        jobs = [(arguments.files, output)]
    if in_folder and (arguments.vault or arguments.rejected):
        raise UserError("--vault and --rejected hold one output's records: give --output a file, not a folder")
    with Vault.create(arguments.vault) if arguments.vault else contextlib.nullcontext() as vault:
        redactor = build_redactor(arguments, vault)
        for sources, output in jobs:
            redact_sources(redactor, sources, output, arguments)


def place_among_processes() -> tuple[int, int]:
    """(rank, number of processes) as torchrun tells them; (0, 1) without it."""
    try:
        rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    except ValueError:
        raise UserError("RANK and WORLD_SIZE in the environment must be numbers: unset them or use torchrun") from None
    return rank, world


def shard(files: Sequence[str], folder: Path, rank: int, world: int) -> list[tuple[list[str], Path]]:
    """([input], output) of each file that is this process's to do and that is not done: outputs are whole or absent."""
    names = [Path(file).name for file in files]
    if len(set(names)) < len(names) or "-" in files:
        raise UserError("each input needs a file name of its own to name its output after")
    if any(
        (folder / name).exists() and (folder / name).samefile(file) for file, name in zip(files, names, strict=True)
    ):
        raise UserError(f"{folder} holds the inputs themselves: choose another --output folder")
    return [
        ([file], folder / name)
        for index, (file, name) in enumerate(zip(files, names, strict=True))
        if index % world == rank and not (folder / name).exists()
    ]


def build_redactor(arguments: argparse.Namespace, vault: Vault | None) -> Redactor:
    device = arguments.device
    if device == "auto" and "LOCAL_RANK" in os.environ and torch.cuda.is_available():
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    return Redactor(
        arguments.run,
        head=arguments.head,
        backbone=arguments.backbone,
        device=device,
        labels=arguments.labels,
        exclude_labels=arguments.exclude_labels,
        min_score=arguments.min_score,
        target_recall=arguments.target_recall,
        label_map=read_label_map(arguments.label_map) if arguments.label_map else None,
        replace=arguments.replace,
        hash_key=read_key(arguments.hash_key_file) if arguments.replace == "hash" else None,
        vault=vault,
    )


def read_key(path: Path | None) -> bytes | None:
    """The key of --replace hash; never from the command line, where other users of the machine could read it."""
    if path is not None:
        return path.read_bytes().strip()
    return os.environ[KEY_VARIABLE].encode() if KEY_VARIABLE in os.environ else None


def redact_sources(
    redactor: Redactor, sources: Sequence[str], output: Path | None, arguments: argparse.Namespace
) -> None:
    """Some inputs to one output, one record at a time and in their order."""
    waiting: collections.deque[Record] = collections.deque()
    layout = (arguments.output_format, arguments.field, arguments.column, arguments.with_text)
    with (
        RejectedWriter(arguments.rejected) as rejected,
        RecordWriter(output, *layout) as writer,
        tqdm(unit=" records", desc="predict", disable=None) as bar,
    ):

        def texts() -> Iterator[str]:
            for record in good_records(sources, arguments, writer, rejected):
                waiting.append(record)
                yield record.text

        for spans in redactor.spans(texts()):
            record = waiting.popleft()
            written = [] if arguments.output_format == "redacted" else as_dicts(spans)
            writer.write(record, redactor.replace(record.text, spans), written)
            bar.update()


def good_records(
    sources: Sequence[str], arguments: argparse.Namespace, writer: RecordWriter, rejected: RejectedWriter
) -> Iterator[Record]:
    """The records that can be read; a bad one ends the command, or with --skip-bad is kept aside."""
    for source in sources:
        for record in read_records(source, arguments.field, arguments.column, on_header=writer.write_header):
            if not isinstance(record, BadRecord):
                yield record
            elif arguments.skip_bad:
                rejected.write(record)
            else:
                place = "standard input" if source == "-" else source
                raise UserError(f"{place}, record {record.number}: {record.reason}; --skip-bad passes over it", code=1)


def restore_files(arguments: argparse.Namespace) -> None:
    """Redacted records with what the vault kept put back in."""
    vault = load_vault(arguments.restore)
    output = Path(arguments.output) if arguments.output else None
    with (
        RejectedWriter(arguments.rejected) as rejected,
        RecordWriter(output, "redacted", arguments.field, arguments.column) as writer,
    ):
        for record in good_records(arguments.files, arguments, writer, rejected):
            writer.write(record, restore(vault, record.text), [])


if __name__ == "__main__":
    run(main)
