"""Prepared data as PyTorch sees it: examples, windows and batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from spans import ranges, starts_of
from store import Split, check_range, read_meta

IGNORE_INDEX = -100  # label of a position that is not scored, as in torch's cross-entropy


class PIITokenDataset(torch.utils.data.Dataset):
    """The rows of one split; `folder` is a split's folder, or the prepared folder and `split` chooses.

    Opening asserts that every label lies in [0, num_labels) and every token id in the tokenizer's vocabulary
    (UserError, a ValueError). `dataset[i]` is {"input_ids", "labels"}, both LongTensor [tokens of row i].
    """

    def __init__(self, folder: Path | str, split: str | None = None) -> None:
        folder = Path(folder)
        if split is None and not (folder / "meta.json").exists() and (folder.parent / "meta.json").exists():
            folder, split = folder.parent, folder.name
        self.meta = read_meta(folder)
        self.split = Split(folder / (split or "train"))
        self.labels: list[str] = self.meta["labels"]
        self.num_labels = len(self.labels)
        self.label_to_id = {label: i for i, label in enumerate(self.labels)}
        self.id_to_label = dict(enumerate(self.labels))
        check_range(self.split, self.num_labels, self.meta["tokenizer"]["vocab_size"])

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        tokens = self._tokens(index)
        return {
            "input_ids": torch.from_numpy(self.split.tokens["token_ids"][tokens].astype(np.int64)),
            "labels": torch.from_numpy(self.split.tokens["label_ids"][tokens].astype(np.int64)),
        }

    def _tokens(self, index: int) -> slice:
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        index %= len(self)
        return slice(int(self.split.example_offsets[index]), int(self.split.example_offsets[index + 1]))

    def example(self, index: int) -> dict:
        """Everything known of one row, as plain Python values. A token's string is the characters it has a byte of."""
        tokens = self._tokens(index)
        rows = self.split.rows(np.array([index % len(self)]))
        text = rows.texts()[0]
        columns = {name: column[tokens].tolist() for name, column in self.split.tokens.items()}
        char_spans = list(zip(columns["char_starts"], columns["char_ends"], strict=True))
        return {
            "text": text,
            "language": str(rows.languages[0]),
            "tokens": [text[start:end] for start, end in char_spans],
            "token_ids": columns["token_ids"],
            "labels": [self.labels[i] for i in columns["label_ids"]],
            "label_ids": columns["label_ids"],
            "begins": columns["begins"],
            "char_spans": char_spans,
            "spans": [(start, end, self.labels[label]) for start, end, label in rows.spans.tolist()],
        }

    def to_dict(self, indices: Sequence[int] | None = None) -> dict:
        """The documented structure, of all rows or of those with these indices."""
        examples = [self.example(i) for i in (range(len(self)) if indices is None else indices)]
        columns = {"texts": "text", "tokens": "tokens", "token_ids": "token_ids"}
        columns |= {"labels": "labels", "label_ids": "label_ids"}
        return {name: [example[key] for example in examples] for name, key in columns.items()} | {
            "label_to_id": self.label_to_id,
            "id_to_label": self.id_to_label,
            "num_labels": self.num_labels,
        }


@dataclass(frozen=True)
class Windows:
    """What the backbone sees at once: tokens start:stop of a split; those of scored_from:scored_to are scored."""

    row: np.ndarray  # [windows] int64
    start: np.ndarray  # [windows] int64, over the whole split's tokens, as all below
    stop: np.ndarray
    scored_from: np.ndarray
    scored_to: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, chosen: np.ndarray | slice) -> "Windows":
        return Windows(*(column[chosen] for column in vars(self).values()))

    @property
    def lengths(self) -> np.ndarray:
        return self.stop - self.start

    @property
    def scored_counts(self) -> np.ndarray:
        return self.scored_to - self.scored_from

    def tokens(self) -> np.ndarray:
        """Indices of all tokens the windows hold, one window after the other: those of two overlap."""
        return ranges(self.start, self.lengths)

    def scored_tokens(self) -> np.ndarray:
        """Indices of the tokens that are scored, in the windows' order."""
        return ranges(self.scored_from, self.scored_counts)

    def scored_places(self) -> np.ndarray:
        """Where the scored tokens stand in `tokens()`."""
        return ranges(starts_of(self.lengths)[:-1] + self.scored_from - self.start, self.scored_counts)


def make_windows(example_offsets: np.ndarray, max_length: int) -> Windows:
    """Cut each row into windows of at most `max_length` tokens; every token is scored in exactly one of them.

    A row that fits is one window. A longer one gets windows that overlap by a quarter. Two thirds of the overlap are
    left context for the later window, one third is right context for the earlier one, which a head can look ahead
    into. The last window is moved left until it is full.
    """
    overlap = min(max_length - 1, max(1, max_length // 4))
    ahead = overlap // 3
    lengths = np.diff(example_offsets)
    extra = np.maximum(0, -(-(lengths - max_length) // (max_length - overlap)))
    counts = np.where(lengths > 0, 1 + extra, 0)
    row = np.repeat(np.arange(len(lengths)), counts)
    nth = ranges(np.zeros_like(counts), counts)
    start = np.minimum(nth * (max_length - overlap), np.maximum(lengths[row] - max_length, 0))
    stop = np.minimum(start + max_length, lengths[row])
    scored_from = np.where(nth > 0, (nth - 1) * (max_length - overlap) + max_length - ahead, 0)
    scored_to = np.where(nth + 1 < counts[row], stop - ahead, stop)
    first = np.asarray(example_offsets)[row]
    return Windows(row, first + start, first + stop, first + scored_from, first + scored_to)


def length_sorted_batches(lengths: np.ndarray, token_budget: int) -> Iterator[np.ndarray]:
    """Index arrays that cover all windows, longest first, each of at most `token_budget` tokens with its padding."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        stop = start + max(1, token_budget // int(lengths[order[start]]))
        yield order[start:stop]
        start = stop
