"""Which windows the steps see: every token once an epoch, and no step without one."""

import math
from collections import Counter
from itertools import chain

import numpy as np
import pytest

import train
from dataset import PIITokenDataset
from tests.test_train import HEADS, metrics_of, plain_bio, raw_rows, summary_of


@pytest.mark.parametrize("head", HEADS)
def test_every_token_is_scored_exactly_once_an_epoch(command, prepared, tmp_path, monkeypatch, head):
    """Rows too: a spy hears every tag that a loss is taken of, and where its window says the token is."""
    heard, step = [], train.take_step

    def spy(self, a_step, features, tags):
        own = tags[self.head.tags][a_step.scored]
        heard.append(np.stack([a_step.windows.scored_tokens(), own.numpy()]))
        return step(self, a_step, features, tags)

    monkeypatch.setattr(train, "take_step", spy)
    assert command(tmp_path / "run", heads=head, epochs=2) == 0
    data = PIITokenDataset(prepared, "train")
    examples = [data.example(row) for row in range(len(data))]
    labels, begins = (list(chain.from_iterable(e[name] for e in examples)) for name in ("label_ids", "begins"))
    gold = labels if head == "documented" else plain_bio(labels, begins).tolist()
    assert Counter(map(tuple, np.concatenate(heard, axis=1).T.tolist())) == {pair: 2 for pair in enumerate(gold)}
    assert summary_of(tmp_path / "run")["tokens"] == 2 * len(labels)


def test_no_step_is_without_a_token_to_learn_from(prepare_rows, command, tmp_path, monkeypatch):
    """Its loss would be 0 / 0: rows without a token make no window."""
    empty = [{"unmasked_text": text, "span_labels": []} for text in ("", " ", "\n")]
    folder = prepare_rows(empty * 20 + raw_rows(5), "--validation-fraction", "0", "--max-rejected", "1")
    counts, step = [], train.take_step
    monkeypatch.setattr(
        train, "take_step", lambda self, a_step, *rest: counts.append(a_step.count) or step(self, a_step, *rest)
    )
    assert command(tmp_path / "run", data=folder, batch_size=1, gradient_accumulation_steps=1) == 0, command.err
    assert min(counts) > 0 and sum(counts) == len(np.load(folder / "train/token_ids.npy"))
    assert all(math.isfinite(record["loss"]) for record in metrics_of(tmp_path / "run"))
