"""Text in, spans or redacted text out, as a command; redactor.py has it as a class for other programs."""

import argparse
import collections
import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pii.common import Parser, UserError, fraction, positive_int, run
from pii.corpus.label_maps.maps import SETS, label_map_path, read_label_map
from pii.decoder.ready import DEFAULT_RUN, default_run, is_ready
from pii.device import set_threads
from pii.inputs import NOT_UTF8, PACKED, advice, shown
from pii.outputs import check_output, clear_leftovers
from pii.processes import Place, own_device
from pii.progress import progress
from pii.redaction.annotations.standoff import CONFIG
from pii.redaction.annotations.uncertain import MostUncertain
from pii.redaction.annotations.writers import (
    ANNOTATION_FORMATS,
    BRAT,
    BratWriter,
    TaskWriter,
    annotation_writer,
    check_labels,
    new_folder,
)
from pii.redaction.records import BadRecord, Record, read_records
from pii.redaction.redactor import Redactor, as_dicts, default_rules
from pii.redaction.replacements import KINDS, Span, check_kind
from pii.redaction.rules.rules import MODES
from pii.redaction.vault import Vault, load_vault, restore
from pii.redaction.writers import OUTPUT_FORMATS, RecordWriter, RejectedWriter

KEY_VARIABLE = "PII_HASH_KEY"
ResultWriter = RecordWriter | TaskWriter | BratWriter


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    set_threads(Place.of_environment().local_world_size)
    if arguments.restore:
        restore_files(arguments)
        return
    arguments.run = arguments.run or said_default_run()
    if arguments.export:
        from pii.redaction.export import export_run

        export_run(arguments.run, arguments.export, arguments.head, arguments.backbone)
    else:
        redact_files(arguments)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "files",
        nargs="*",
        default=["-"],
        metavar="FILE",
        help="text files, UTF-8 or marked UTF-16; - is standard input",
    )
    parser.add_argument("--run", type=Path, help="run folder (runs/default, and where there is none the ready head)")
    parser.add_argument("--head", help="which head of the run (the one that was best on validation in training)")
    parser.add_argument("--backbone", help="where the run's backbone is now (default: where it was in training)")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, mps, cpu")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--field", help="the files are JSON Lines: read this field")
    kind.add_argument("--column", help="the files are CSV with a header: read this column")
    parser.add_argument("--output", help="file, or folder/ (one file for each input); default: standard output. UTF-8")
    parser.add_argument("--output-format", choices=OUTPUT_FORMATS + ANNOTATION_FORMATS, default="redacted")
    parser.add_argument("--uncertain", type=positive_int, metavar="N", help="only the N that most need a look")
    parser.add_argument("--with-text", action="store_true", help="spans with the text they cover")
    parser.add_argument("--replace", type=replacement, help=f"{', '.join(KINDS)}, mask:last4 (label)")
    parser.add_argument("--hash-key-file", type=Path, help="key of --replace hash (or PII_HASH_KEY in the environment)")
    parser.add_argument("--vault", type=Path, help="keep what --replace numbered replaced, to restore it")
    parser.add_argument("--restore", type=Path, metavar="VAULT", help="bring the text back instead")
    parser.add_argument("--edited", action="store_true", help="restore also texts that were changed, by placeholder")
    parser.add_argument("--labels", nargs="+", help="only these labels")
    parser.add_argument("--exclude-labels", nargs="+", default=[], help="all labels but these")
    parser.add_argument("--min-score", type=fraction, help="least probability of a span (0)")
    parser.add_argument(
        "--target-recall",
        type=stored_recall,
        nargs="?",
        const=True,
        default=False,
        metavar="RECALL",
        help="use the bias that evaluate.py stored: that of this recall, or the latest",
    )
    what = "JSON: label to new label, or null to leave it out; or " + ", ".join(SETS)
    parser.add_argument("--label-map", type=label_map_path, help=what)
    rules = parser.add_argument_group("beside the model")
    rules.add_argument("--rules", choices=MODES, help="values to find by rules: proven by a checksum (default), or all")
    rules.add_argument("--allow", type=Path, metavar="FILE", help="a value or /pattern/ a line: never redacted")
    rules.add_argument("--deny", type=Path, metavar="FILE", help="value or /pattern/, tab, label: always redacted")
    rules.add_argument("--fold-lists", action="store_true", help="lists without case, accents and white space")
    rules.add_argument("--patterns", type=Path, metavar="FILE", help="JSON: label to regular expression")
    rules.add_argument("--policy", type=Path, metavar="FILE", help="JSON: label to what is done with it")
    parser.add_argument("--skip-bad", action="store_true", help="go on after a record that cannot be read")
    parser.add_argument("--rejected", type=Path, help="with --skip-bad: keep such records here")
    parser.add_argument("--export", type=Path, metavar="FOLDER", help="write a folder that plain transformers loads")
    arguments = parser.parse_args(with_latest_recall(sys.argv[1:] if argv is None else argv))
    check(arguments)
    return arguments


def with_latest_recall(argv: Sequence[str]) -> list[str]:
    """The arguments, where a `--target-recall` that no number follows takes no file's name for one."""
    following = [*argv[1:], ""]
    return [
        "--target-recall=latest" if flag == "--target-recall" and not is_number(next_one) else flag
        for flag, next_one in zip(argv, following, strict=True)
    ]


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def stored_recall(text: str) -> float | bool:
    """An argparse type: a share, or `latest`."""
    return True if text == "latest" else fraction(text)


def check(arguments: argparse.Namespace) -> None:
    """UserError where flags do not go together."""
    if arguments.vault and arguments.replace != "numbered" and not arguments.policy:
        raise UserError("--vault keeps what --replace numbered replaced: add --replace numbered")
    if arguments.vault and arguments.output_format in ANNOTATION_FORMATS:
        raise UserError(
            f"--vault keeps what was replaced, and {arguments.output_format} replaces nothing: leave it out"
        )
    if arguments.rejected and not arguments.skip_bad:
        raise UserError("--rejected keeps what --skip-bad passes over: add --skip-bad")
    if arguments.edited and not arguments.restore:
        raise UserError("--edited is for texts that --restore brings back: add --restore VAULT")
    if arguments.output and (suffix := Path(arguments.output).suffix.lower()) in PACKED:
        raise UserError(f"cannot write {suffix}: name the output .gz to have it packed, or otherwise")
    if arguments.files.count("-") > 1:
        raise UserError("standard input can be read once: name - once")
    roles = [arguments.output, arguments.vault, arguments.rejected, arguments.restore]
    named = [Path(path).resolve() for path in roles if path and not is_device(path)]
    kept = {Path(path).resolve() for path in roles[1:] if path}
    if len(set(named)) < len(named) or kept & {Path(file).resolve() for file in arguments.files}:
        raise UserError("input, --output, --vault, --rejected and --restore: each needs a file of its own")
    in_rows = arguments.field or arguments.column or arguments.output_format != "redacted"
    if arguments.vault and len(arguments.files) > 1 and not in_rows:
        raise UserError(
            "texts written one after the other cannot be told apart to restore them: "
            "give each its own command with --vault and --output, or add --output-format jsonl"
        )


def redact_files(arguments: argparse.Namespace) -> None:
    """Every input to standard output or one file, or each to its own file of a folder."""
    jobs = plan(arguments)
    if not jobs:
        place = Place.of_environment()
        whose = f" of process {place.rank} of {place.world_size}" if place.world_size > 1 else ""
        print(f"nothing to do: every output{whose} is there", file=sys.stderr)
        return
    check_outputs(arguments, [output for _, output in jobs if output])
    redactor = None
    with RejectedWriter(arguments.rejected) as rejected:
        for sources, output in jobs:
            with (
                # the writer's file takes its place after the vault, so that it can be restored
                result_writer(output, arguments) as writer,
                Vault.create(arguments.vault) if arguments.vault else contextlib.nullcontext() as vault,
            ):
                redactor = redactor or build_redactor(arguments, vault)
                check_labels(arguments.output_format, redactor.labels)
                redact_sources(redactor, sources, writer, rejected, arguments)
                writer.flush()


def check_outputs(arguments: argparse.Namespace, outputs: Sequence[Path]) -> None:
    """Raise UserError or OSError where something could not be written; of many outputs that with the longest name."""
    longest = max(outputs, key=lambda path: len(os.fsencode(path.name)), default=None)
    if arguments.output_format == BRAT:
        check_output(new_folder(output_path(arguments)), CONFIG)
        longest = None
    for path in (longest, arguments.rejected):
        if path and not is_device(path):
            check_output(path.resolve())  # what a link names is written
    check_output(arguments.vault)


def plan(arguments: argparse.Namespace) -> list[tuple[list[str], Path | None]]:
    """(inputs, output) of each output that this process has to write; None is standard output."""
    place = Place.of_environment()
    rank, world = place.rank, place.world_size
    if world > 1 and not (arguments.output and arguments.files != ["-"]):
        raise UserError("several processes share the input files: name them, and a folder with --output")
    output = output_path(arguments)
    is_shared = world > 1 or bool(output and (arguments.output.endswith(os.sep) or output.is_dir()))
    if arguments.output_format == BRAT or not is_shared:
        if world > 1:
            raise UserError(f"{BRAT} is one folder of all inputs: one process writes it")
        return [(arguments.files, output)]
    if arguments.uncertain:
        raise UserError("--uncertain chooses among all inputs: give --output a file, not a folder")
    if arguments.vault or arguments.rejected:
        raise UserError("--vault and --rejected hold one output's records: give --output a file, not a folder")
    assert output  # or one process has one output
    return shard(arguments.files, output, rank, world)


def output_path(arguments: argparse.Namespace) -> Path | None:
    """The file or folder of --output; None is standard output."""
    return Path(arguments.output) if arguments.output else None


def is_device(path: Path | str) -> bool:
    """Whether a pipe or a device as /dev/null is there, which several outputs can go to."""
    return Path(path).exists() and not Path(path).is_file() and not Path(path).is_dir()


def shard(files: Sequence[str], folder: Path, rank: int, world: int) -> list[tuple[list[str], Path | None]]:
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
        if index % world == rank and not is_done(folder / name)
    ]


def is_done(output: Path) -> bool:
    """Whether an output is there, and so is whole; then nothing but it stays. Raises UserError at a folder there."""
    if output.is_dir():
        raise UserError(f"{output} is a folder where a file is to stand: move it or choose another --output")
    if output.exists():
        clear_leftovers(output)
    return output.exists()


def result_writer(output: Path | None, arguments: argparse.Namespace) -> ResultWriter:
    if arguments.output_format in ANNOTATION_FORMATS:
        return annotation_writer(output, arguments.output_format, arguments.run.resolve().name)
    return RecordWriter(output, arguments.output_format, arguments.field, arguments.column, arguments.with_text)


def build_redactor(arguments: argparse.Namespace, vault: Vault | None) -> Redactor:
    return Redactor(
        arguments.run,
        head=arguments.head,
        backbone=arguments.backbone,
        device=own_device(arguments.device, Place.of_environment()),
        labels=arguments.labels,
        exclude_labels=arguments.exclude_labels,
        min_score=arguments.min_score,
        target_recall=arguments.target_recall,
        label_map=read_label_map(arguments.label_map) if arguments.label_map else None,
        replace=arguments.replace,
        hash_key=read_key(arguments.hash_key_file) if arguments.replace == "hash" or arguments.policy else None,
        vault=vault,
        rules=arguments.rules or said_default_rules(),
        allow=arguments.allow or (),
        deny=arguments.deny or (),
        patterns=arguments.patterns,
        fold_lists=arguments.fold_lists,
        policy=arguments.policy,
        second_opinion=arguments.uncertain is not None,
    )


def said_default_run() -> Path:
    """The run where none is named; where that is the ready head, it is said."""
    if is_ready(run := default_run()):
        print(f"no {DEFAULT_RUN} here: this is the ready head, see {run / 'CARD.md'}", file=sys.stderr)
    return run


def said_default_rules() -> str:
    """The rules where none are asked for; without their package, that is said."""
    if (rules := default_rules()) == "none":
        print("no rules: python-stdnum is not installed (pip install '.[rules]', or --rules none)", file=sys.stderr)
    return rules


def replacement(text: str) -> str:
    """An argparse type: a kind of replacement."""
    try:
        check_kind(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def read_key(path: Path | None) -> bytes | None:
    """The key of --replace hash; never from the command line, where other users of the machine could read it."""
    if path is not None:
        return path.read_bytes().strip()
    return os.environ[KEY_VARIABLE].encode() if KEY_VARIABLE in os.environ else None


def redact_sources(
    redactor: Redactor,
    sources: Sequence[str],
    writer: ResultWriter,
    rejected: RejectedWriter,
    arguments: argparse.Namespace,
) -> None:
    """Some inputs to one output, one record at a time and in their order; those of --uncertain at the end."""
    waiting: collections.deque[Record] = collections.deque()
    with progress("predict", unit="records") as bar:

        def texts() -> Iterator[str]:
            for record in good_records(sources, arguments, writer, rejected):
                waiting.append(record)
                yield record.text

        if arguments.uncertain:
            chosen = MostUncertain(arguments.uncertain)
            for _, found, others in redactor.opinions(texts()):
                chosen.add(waiting.popleft(), found, others)
                bar.update()
            for candidate in chosen.in_order():
                write_result(redactor, writer, candidate.record, candidate.spans)
        else:
            for _, spans in redactor.stream(texts()):
                write_result(redactor, writer, waiting.popleft(), spans)
                bar.update()


def write_result(redactor: Redactor, writer: ResultWriter, record: Record, spans: Iterable[Span]) -> None:
    if not isinstance(writer, RecordWriter):
        writer.write(record, list(spans))
    elif writer.output_format == "redacted":  # a long text's spans are never held
        writer.write(record, redactor.replace(record.text, spans), [])
    else:
        found = list(spans)
        writer.write(record, redactor.replace(record.text, found), as_dicts(found))


def good_records(
    sources: Sequence[str], arguments: argparse.Namespace, writer: ResultWriter, rejected: RejectedWriter
) -> Iterator[Record]:
    """The records that can be read; a bad one ends the command, or with --skip-bad is kept aside."""
    for source in sources:
        for record in read_records(source, arguments.field, arguments.column, on_header=writer.write_header):
            if not isinstance(record, BadRecord):
                yield record
            else:
                pass_over(record, arguments, rejected)


def pass_over(bad: BadRecord, arguments: argparse.Namespace, rejected: RejectedWriter, code: int = 1) -> None:
    """Keep a bad record aside with --skip-bad; else UserError that says where it is and what to do."""
    if arguments.skip_bad:
        rejected.write(bad)
        return
    how = advice(bad.source, bad.raw) if bad.reason == NOT_UTF8 else ""
    place = f"{shown(bad.source)}, record {bad.number}"
    raise UserError(f"{place}: {bad.reason}{how}; --skip-bad passes over it", code)


def restore_files(arguments: argparse.Namespace) -> None:
    """Redacted records with what the vault kept put back in."""
    vault = load_vault(arguments.restore)
    with (
        RejectedWriter(arguments.rejected) as rejected,
        RecordWriter(output_path(arguments), "redacted", arguments.field, arguments.column) as writer,
    ):
        for record in good_records(arguments.files, arguments, writer, rejected):
            try:
                original = restore(vault, record.text, arguments.edited)
            except UserError as error:
                bad = BadRecord(record.source, record.number, str(error), record.raw())
                pass_over(bad, arguments, rejected, error.code)
            else:
                writer.write(record, original, [])


if __name__ == "__main__":
    run(main)
