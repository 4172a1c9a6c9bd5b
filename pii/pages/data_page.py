"""Prepared data as values of a page: charts of labels and lengths, rejected rows, and rows with their spans."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

from pii.common import path_text
from pii.corpus.doubts.find import Doubt
from pii.corpus.spans import OUTSIDE_ID, starts_of
from pii.corpus.statistics import described
from pii.corpus.store import PreparedSplit, Split
from pii.pages import charts
from pii.pages.pages import colours_of, pieces_of, write_page

DOUBTFUL_ROWS = 20  # that are named for one reason
ROWS = 5000  # of a split on one page unless the reader chooses others
MANY_LABELS = 12  # a chart of more is drawn in two halves, side by side where there is room
BARS = 40  # of a histogram, about
UNREADABLE = "(a line of rejected.jsonl that cannot be read)"

LostSpans = Mapping[int, Sequence[Sequence[int]]]  # row → the spans that its tags do not give back


def write_data_page(
    path: Path,
    splits: Mapping[str, Split],
    split: PreparedSplit,
    rows: Sequence[int],
    lost: LostSpans,
    figures: dict,
    doubts: Sequence[Doubt] = (),
) -> None:
    """The page of prepared data with these `rows` of the split `data`. `lost` tells of all rows of that split,
    `figures` and `doubts` are what the terminal prints."""
    folder, max_length = split.folder.parent, figures["max_length"]
    token_counts = np.concatenate([np.diff(split.example_offsets) for split in splits.values()])
    pii_counts = np.concatenate([pii_tokens(split) for split in splits.values()])
    write_page(
        path,
        "check_dataset",
        f"Prepared data: {path_text(folder)}",
        page_data(split, rows, lost, max_length),
        figures=figures,
        described={name.replace("_", " "): described(value) for name, value in figures.items()},
        sources=sources_of(split.meta),
        label_counts=label_counts(splits, split.labels),
        label_charts=label_charts(label_counts(splits, split.labels)),
        token_chart=length_chart(token_counts, max_length, "tokens in a row"),
        pii_chart=length_chart(pii_counts, max_length, "PII tokens in a row"),
        token_counts=token_counts,
        pii_counts=pii_counts,
        doubts=doubts,
        doubtful_rows=DOUBTFUL_ROWS,
        rejected=rejected_reasons(folder / "rejected.jsonl"),
        split=split.folder.name,
        total=len(split),
        shown=len(rows),
        lost=sorted(lost),
        lost_elsewhere=sorted(set(lost) - set(rows)),
    )


def page_data(split: PreparedSplit, rows: Sequence[int], lost: LostSpans, max_length: int) -> dict:
    """What page.js and check_dataset.js read."""
    return {
        "labels": split.labels,
        "colours": colours_of(split.labels),
        "max_length": max_length,
        "rows": [row_values(split, row, lost.get(row, ())) for row in rows],
    }


def row_values(split: PreparedSplit, row: int, lost: Sequence[Sequence[int]]) -> dict:
    """One row as check_dataset.js draws it."""
    example = split.example(row)
    spans = [(start, end, split.label_to_id[label]) for start, end, label in example["spans"]]
    return {
        "row": row,
        "language": example["language"],
        "tokens": len(example["tokens"]),
        "spans": len(spans),
        "pieces": pieces_of(example["text"], spans, [start for start, _ in example["char_spans"]]),
        "lost": [list(span) for span in lost],
    }


def sources_of(meta: dict) -> list[tuple[str, object]]:
    """(file, rows) of each source that meta.json names."""
    sources = meta.get("sources")
    known = [source for source in sources if isinstance(source, dict)] if isinstance(sources, list) else []
    return [(source.get("file", "?"), source.get("rows", "?")) for source in known]


def rejected_reasons(path: Path) -> dict[str, int] | None:
    """Reason → rows of rejected.jsonl, most first; None where there is no such file. The rows' text is left there."""
    reasons: Counter = Counter()
    try:
        with path.open("rb") as lines:
            for line in lines:
                reasons[reason_of(line)] += 1
    except OSError:
        return None
    return dict(reasons.most_common())


def reason_of(line: bytes) -> str:
    try:
        return str(json.loads(line)["reason"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return UNREADABLE


def label_counts(splits: Mapping[str, Split], labels: Sequence[str]) -> dict[str, dict[str, int]]:
    """Label → split → spans, the most frequent label first; splits without spans are left out."""
    counts = {
        name: np.bincount(split.spans[:, 2], minlength=len(labels))
        for name, split in splits.items()
        if len(split.spans)
    }
    order = sorted(range(1, len(labels)), key=lambda label: -sum(column[label] for column in counts.values()))
    return {labels[i]: {name: int(column[i]) for name, column in counts.items()} for i in order}


def label_charts(counts: Mapping[str, Mapping[str, int]]) -> list[Markup]:
    """Bars of each split's shares, which compare although the splits differ in size, with the counts at their ends."""
    names = list(counts)
    splits = list(counts[names[0]]) if names else []
    columns = {split: [column[split] for column in counts.values()] for split in splits}
    shares = {split: [count / sum(column) for count in column] for split, column in columns.items()}
    texts = {split: list(map(str, column)) for split, column in columns.items()}
    middle = (len(names) + 1) // 2
    parts = [slice(None)] if len(names) <= MANY_LABELS else [slice(middle), slice(middle, None)]
    return [Markup(charts.bars(names, shares, texts, part)) for part in parts]


def pii_tokens(split: Split) -> np.ndarray:
    """[rows] the tokens of each row that are not O."""
    return np.diff(starts_of(split.tokens["label_ids"] != OUTSIDE_ID)[split.example_offsets])


def length_chart(lengths: np.ndarray, max_length: int, title: str) -> tuple[Markup, int]:
    """A histogram of `lengths` [rows], and above which length the last bar holds all rows (0 where it does not)."""
    edges, reach = length_edges(lengths, max_length)
    # a bar holds its upper edge and not its lower one, so that bars beyond max_length hold the rows beyond it
    counts = np.histogram(np.clip(lengths - 0.5, 0, edges[-1] - 0.5), edges)[0]
    return Markup(charts.histogram(counts.tolist(), edges, title, max_length)), reach


def length_edges(lengths: np.ndarray, max_length: int) -> tuple[list[int], int]:
    """Edges of bars of one width, `max_length` among them, which reach all rows but the longest of a long tail."""
    longest = int(lengths.max(initial=1))
    reach = int(np.quantile(lengths, 0.995)) if len(lengths) else 1
    reach = longest if longest <= 2 * reach else reach
    end = max(reach, max_length if max_length <= 2 * reach else 1)
    width = 1 << max(0, (end // BARS).bit_length())  # a power of two: it divides the usual maximal lengths
    edges = [0, *range(max_length % width or width, end + width, width)]
    return edges, edges[-2] if longest > edges[-1] else 0
