"""Tokenise and align raw rows once: token ids, labels and offsets on disk, split in train and validation."""

import argparse
import time
from pathlib import Path

from pii.common import Parser, UserError, fraction, positive_int, run, seed
from pii.corpus import tekken
from pii.corpus.doubts.grouping import joined_keys
from pii.corpus.formats.tokens import read_tag_names
from pii.corpus.label_maps.maps import SETS, label_map_path, read_label_map, warn_unused
from pii.corpus.label_maps.show import print_labels
from pii.corpus.sources.folders import sources_of
from pii.corpus.sources.source import Source
from pii.corpus.staging import (
    check_rejected,
    choose_validation,
    count_contradicting,
    sorted_labels,
    stage,
    write_splits,
)
from pii.corpus.statistics import print_statistics, statistics
from pii.corpus.store import FORMAT_VERSION, SPLITS, Split
from pii.outputs import atomic_folder, write_json

HUB_DATASET = "ai4privacy/pii-masking-200k"
HUB_REVISION = "7c22e6816b8fc24b7781e9f4e22016c698842dd0"
HUB_FILES = ("english_pii_43k.jsonl", "french_pii_62k.jsonl")


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    started = time.perf_counter()
    label_map = read_label_map(arguments.label_map) if arguments.label_map else {}
    tag_names = read_tag_names(arguments.tag_names) if arguments.tag_names else ()
    sources = sources_of(arguments.input) if arguments.input else hub_sources()
    if arguments.show_labels:
        print_labels(sources, tag_names, label_map)
        return
    with atomic_folder(arguments.output, "meta.json", mode=0o700) as folder:
        staged = stage(sources, folder, label_map, tag_names, arguments.snap_words)
        check_rejected(staged, arguments.max_rejected)
        labels, new_ids = sorted_labels(staged.label_ids)
        keys = joined_keys(staged.keys)
        in_validation = choose_validation(keys.groups(), arguments.validation_fraction, arguments.seed)
        contradicting_rows = count_contradicting(staged, keys)
        write_splits(Split(staged.folder), in_validation, new_ids, folder)
        staged.remove()
        meta = {
            "format_version": FORMAT_VERSION,
            "labels": labels,
            "tokenizer": tekken.load().describe(),
            "sources": [{"file": s.name, "sha256": s.sha256, "rows": s.rows} for s in sources],
            **({"label_map": label_map} if label_map else {}),
            "seed": arguments.seed,
            "statistics": {
                **statistics({name: Split(folder / name) for name in SPLITS}, len(labels), arguments.max_length),
                "overlapping_spans_dropped": staged.overlapping,
                "blank_spans_dropped": staged.blank,
                "spans_that_cut_a_word": staged.cutting,
                **({"spans_widened_to_words": staged.snapped} if arguments.snap_words else {}),
                "contradicting_rows": contradicting_rows,
                "rejected_rows": dict(staged.rejected.most_common()),
            },
        }
        write_json(folder / "meta.json", meta)
    print_statistics(meta["statistics"])
    warn_unused(label_map, staged.met, "no span of the input has")
    if staged.cutting or contradicting_rows:
        print("some rows are most likely wrong: check_dataset.py names those whose spans cut a word")
        print("or a number, and those whose text has other spans elsewhere")
    print(f"wrote {arguments.output} in {time.perf_counter() - started:.1f} s")
    print(f'read it: PIITokenDataset("{arguments.output}/train")   look at it: python check_dataset.py', end="")
    print(f" --data {arguments.output}")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    what = f"files, folders and patterns of rows, see docs/data.md (default: {HUB_DATASET})"
    parser.add_argument("--input", type=Path, nargs="+", help=what)
    parser.add_argument("--output", type=Path, default=Path("data/prepared"), help="folder to write")
    what = "JSON: raw label to label, or null to leave it out; or " + ", ".join(SETS)
    parser.add_argument("--label-map", type=label_map_path, help=what)
    parser.add_argument("--tag-names", type=Path, help="names of tags that are numbers: a JSON list, or one a line")
    parser.add_argument("--show-labels", action="store_true", help="list the labels of the input, and write nothing")
    parser.add_argument("--snap-words", action="store_true", help="widen spans that cut a word to whole words")
    parser.add_argument("--validation-fraction", type=fraction, default=0.1, help="share of the rows (0.1)")
    parser.add_argument("--seed", type=seed, default=0, help="of the split (0)")
    parser.add_argument("--max-rejected", type=fraction, default=0.01, help="share of rows that may be refused (0.01)")
    parser.add_argument("--max-length", type=positive_int, default=96, help="for the statistics only: nothing is cut")
    return parser.parse_args(argv)


def hub_sources() -> list[Source]:
    """The English and French files of pii-masking-200k, from the hub or its cache on this machine."""
    from huggingface_hub import hf_hub_download

    try:
        return [
            Source(
                Path(hf_hub_download(HUB_DATASET, name, repo_type="dataset", revision=HUB_REVISION)),
                name=f"{HUB_DATASET}@{HUB_REVISION[:12]}/{name}",
            )
            for name in HUB_FILES
        ]
    except Exception as error:  # the hub client passes on whatever its HTTP library raises
        raise UserError(
            f"cannot download {HUB_DATASET} from the Hugging Face hub ({type(error).__name__}): "
            f"pass local files, as in --input {' '.join(HUB_FILES)}"
        ) from None


if __name__ == "__main__":
    run(main)
