"""Prepared data as PyTorch sees it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pii.corpus.store import PreparedSplit


class PIITokenDataset(torch.utils.data.Dataset):
    """The rows of one split; `folder` is a split's folder, or the prepared folder and `split` chooses ("train").

    Opening asserts that every label lies in [0, num_labels) and every token id in the tokenizer's vocabulary
    (UserError, a ValueError). `dataset[i]` is {"input_ids", "labels"}, both LongTensor [tokens of row i].
    """

    def __init__(self, folder: Path | str, split: str | None = None) -> None:
        self.split = PreparedSplit(folder, split)
        self.meta: dict = self.split.meta
        self.labels: list[str] = self.split.labels
        self.num_labels = len(self.labels)
        self.label_to_id = self.split.label_to_id
        self.id_to_label = dict(enumerate(self.labels))

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        tokens = self.split.token_slice(index)
        return {
            "input_ids": torch.from_numpy(self.split.tokens["token_ids"][tokens].astype(np.int64)),
            "labels": torch.from_numpy(self.split.tokens["label_ids"][tokens].astype(np.int64)),
        }

    def example(self, index: int) -> dict:
        """Everything known of one row, as plain Python values: text, language, tokens, token_ids, labels, label_ids,
        begins, char_spans, spans. A token's string is the characters it has a byte of."""
        return self.split.example(index)

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
