"""The documented figures of prepared data, and what lies beyond a maximal length."""

import textwrap
from collections import Counter

import numpy as np

from pii.corpus import spans
from pii.corpus.store import Rows, Split


def statistics(splits: dict[str, Split], num_labels: int, max_length: int) -> dict:
    """The documented figures and what lies beyond `max_length`, over both splits."""
    counts: Counter = Counter()
    for split in splits.values():
        for rows in split.chunks():
            counts.update(count_rows(rows, max_length))
    return {
        "training_examples": len(splits["train"]),
        "validation_examples": len(splits["validation"]),
        "labels": num_labels,
        "average_sequence_length": round(counts["tokens"] / max(1, sum(map(len, splits.values()))), 2),
        "non_o_token_ratio": round(counts["pii_tokens"] / max(1, counts["tokens"]), 4),
        "tokens": counts["tokens"],
        "spans": counts["spans"],
        "max_length": max_length,
        "rows_beyond_max_length": counts["rows_beyond"],
        "tokens_beyond_max_length": counts["tokens_beyond"],
        "spans_beyond_max_length": counts["spans_beyond"],
        "touching_spans": counts["touching"],
        "spans_without_a_token": counts["spans"] - counts["begins"],
        "rows_by_language": {key[5:]: n for key, n in sorted(counts.items()) if key.startswith("lang ")},
    }


def count_rows(rows: Rows, max_length: int) -> dict[str, int]:
    """What `statistics` adds up. A span is beyond `max_length` when a model that cuts there would not see all of it."""
    row_of_span = np.repeat(np.arange(len(rows.token_counts)), rows.span_counts)
    longer = rows.token_counts > max_length
    cut = np.full(len(longer), np.iinfo(np.int64).max)  # offset of the first character beyond, for each row
    cut[longer] = rows.tokens["char_starts"][spans.starts_of(rows.token_counts)[:-1][longer] + max_length]
    touching = (rows.spans[1:, 0] == rows.spans[:-1, 1]) & (row_of_span[1:] == row_of_span[:-1])
    languages, numbers = np.unique(rows.languages, return_counts=True)
    return {
        "tokens": len(rows.tokens["label_ids"]),
        "pii_tokens": int((rows.tokens["label_ids"] != spans.OUTSIDE_ID).sum()),
        "begins": int(rows.tokens["begins"].sum()),
        "spans": len(rows.spans),
        "touching": int(touching.sum()),
        "rows_beyond": int(longer.sum()),
        "tokens_beyond": int(np.maximum(rows.token_counts - max_length, 0).sum()),
        "spans_beyond": int((rows.spans[:, 1] > cut[row_of_span]).sum()),
        **{f"lang {language}": int(n) for language, n in zip(languages, numbers, strict=True)},
    }


def print_statistics(figures: dict) -> None:
    """Print the figures in two columns, wrapped to a terminal's 80."""
    for name, value in figures.items():
        first, indent = f"  {name.replace('_', ' '):28s} ", " " * 31
        print(textwrap.fill(described(value), 80, initial_indent=first, subsequent_indent=indent))


def described(figure: object) -> str:
    """A figure in words: counts stand before what they count."""
    if isinstance(figure, dict):
        return ", ".join(f"{n} {key}" for key, n in figure.items()) or "none"
    return str(figure)
