"""PIITokenDataset: rows as PyTorch sees them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dataset import PIITokenDataset
from tests.corpus.test_store import EXAMPLES, LABELS, write_prepared, write_split

ROOT = Path(__file__).parent.parent


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    return write_prepared(tmp_path / "prepared")


def test_a_row_is_its_ids_and_labels_as_long_tensors(prepared):
    data = PIITokenDataset(prepared)
    assert isinstance(data, torch.utils.data.Dataset) and len(data) == len(EXAMPLES)
    for index, expected in enumerate(EXAMPLES):
        item = data[index]
        assert set(item) == {"input_ids", "labels"}
        assert all(isinstance(tensor, torch.LongTensor) for tensor in item.values())
        assert item["input_ids"].tolist() == [token[0] for token in expected["tokens"]]
        assert item["labels"].tolist() == [token[1] for token in expected["tokens"]]


def test_rows_can_be_changed_without_changing_the_data(prepared):
    data = PIITokenDataset(prepared)
    data[0]["labels"].fill_(-100)
    assert data[0]["labels"].tolist() == [0, 2, 2, 2]


def test_negative_indices_count_from_the_end_and_others_raise_index_error(prepared):
    data = PIITokenDataset(prepared)
    for index in range(-len(data), 0):
        assert data[index]["input_ids"].tolist() == data[len(data) + index]["input_ids"].tolist()
        assert data.example(index) == data.example(len(data) + index)
    for index in (len(data), -len(data) - 1):
        with pytest.raises(IndexError):
            data[index]
        with pytest.raises(IndexError):
            data.example(index)
    assert len(list(data)) == len(data)


def test_labels_and_ids_belong_together(prepared):
    data = PIITokenDataset(prepared)
    assert data.labels == LABELS and data.num_labels == 3
    assert data.label_to_id == {"O": 0, "EMAIL": 1, "NAME": 2}
    assert data.id_to_label == {0: "O", 1: "EMAIL", 2: "NAME"}


def test_an_example_holds_everything_known_of_a_row(prepared):
    data = PIITokenDataset(prepared)
    assert data.example(2) == {
        "text": "🙂a@b.c Al",
        "language": "und",
        "tokens": ["🙂", "🙂", "a@b.c", " Al"],
        "token_ids": [1006, 1007, 1008, 1009],
        "labels": ["O", "O", "EMAIL", "NAME"],
        "label_ids": [0, 0, 1, 2],
        "begins": [False, False, True, True],
        "char_spans": [(0, 1), (0, 1), (1, 6), (6, 9)],
        "spans": [(1, 6, "EMAIL"), (7, 9, "NAME")],
    }
    json.dumps([data.example(i) for i in range(len(data))])  # plain Python values


def test_to_dict_is_the_documented_structure(prepared):
    data = PIITokenDataset(prepared)
    columns = {
        "texts": "text",
        "tokens": "tokens",
        "token_ids": "token_ids",
        "labels": "labels",
        "label_ids": "label_ids",
    }
    for indices in (None, [2, 0, 2, -1], []):
        found = data.to_dict() if indices is None else data.to_dict(indices)
        examples = [data.example(i) for i in (range(len(data)) if indices is None else indices)]
        assert found == {
            **{name: [e[key] for e in examples] for name, key in columns.items()},
            "label_to_id": {"O": 0, "EMAIL": 1, "NAME": 2},
            "id_to_label": {0: "O", 1: "EMAIL", 2: "NAME"},
            "num_labels": 3,
        }


@pytest.mark.parametrize("as_text", [False, True])
def test_a_split_is_chosen_by_its_folder_or_by_argument(prepared, as_text):
    kind = str if as_text else Path
    assert len(PIITokenDataset(kind(prepared))) == len(PIITokenDataset(kind(prepared), "train")) == 4
    assert len(PIITokenDataset(kind(prepared / "train"))) == 4
    assert len(PIITokenDataset(kind(prepared), split="validation")) == 2
    assert len(PIITokenDataset(kind(prepared / "validation"))) == 2


def test_an_empty_split_is_a_dataset_of_no_rows(prepared):
    shutil.rmtree(prepared / "validation")
    write_split(prepared / "validation", [])
    data = PIITokenDataset(prepared, "validation")
    assert len(data) == 0 and list(data) == [] and data.num_labels == 3 and data.to_dict()["texts"] == []
    for index in (0, -1):
        with pytest.raises(IndexError):
            data[index]


def test_reading_prepared_data_does_not_need_the_tokenizer(prepared):
    code = (
        "import sys, dataset\n"
        "data = dataset.PIITokenDataset(sys.argv[1])\n"
        "data[0], data.example(0)\n"
        "assert 'mistral_common' not in sys.modules and 'tiktoken' not in sys.modules\n"
        "print(len(data))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, prepared], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.stdout, done.returncode) == ("4\n", 0), done.stderr
