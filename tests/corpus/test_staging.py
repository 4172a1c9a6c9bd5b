"""Raw rows → aligned rows on disk: nothing lost silently, labels sorted, sentences split whole."""

import json
from pathlib import Path

import pytest

from dataset import PIITokenDataset
from pii.corpus import staging

CANARY = "xylophonecanary"
NAMES = ["Ann", "Zoé", "李雷", "Jean-Luc", "محمد"]
SENTENCES = [
    *(f"{word} {{}} called about the order." for word in ("Yesterday", "Today", "Tonight", "Maybe", "Once", "Twice")),
    *(f"{{}} habite à {city}." for city in ("Lyon", "Nice", "Metz", "Brest", "Dijon", "Tours")),
]


def row(text: str, *spans: tuple, **fields: object) -> dict:
    return {"unmasked_text": text, "span_labels": [list(span) for span in spans], **fields}


def filled(sentence: str, name: str, **fields: object) -> dict:
    start = sentence.index("{}")
    return row(sentence.format(name), (start, start + len(name), "NAME"), **fields)


def rows_of(sentences: list[str]) -> list[dict]:
    """Every name in every sentence."""
    return [filled(sentence, name) for name in NAMES for sentence in sentences]


def bad_rows(count: int) -> list[dict]:
    return [row(f"{CANARY} {i}", (0, 99, "NAME")) for i in range(count)]


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def examples_in(folder: Path, split: str) -> list[dict]:
    data = PIITokenDataset(folder, split)
    return [data.example(i) for i in range(len(data))]


def texts_in(folder: Path, split: str) -> list[str]:
    return [example["text"] for example in examples_in(folder, split)]


def meta_in(folder: Path) -> dict:
    return json.loads((folder / "meta.json").read_text(encoding="utf-8"))


def test_another_seed_splits_otherwise(prepare_rows):
    sides = {
        tuple(texts_in(prepare_rows(rows_of(SENTENCES), "--validation-fraction", "0.5", "--seed", str(seed)), "train"))
        for seed in range(3)
    }
    assert len(sides) > 1


def test_rows_in_small_chunks_give_the_same_bytes(prepare_rows, monkeypatch):
    rows = rows_of(SENTENCES) + bad_rows(2)
    rows.insert(3, row("Bob 12", (0, 3, "AAA")))  # a label that sorts first, and one that comes late
    rows.append(row("Bob 12", (4, 6, "ZIP"), language="de"))
    at_once = files_in(prepare_rows(rows, "--max-rejected", "0.1"))
    monkeypatch.setattr(staging, "ROWS_A_CHUNK", 7)
    assert files_in(prepare_rows(rows, "--max-rejected", "0.1")) == at_once


def test_every_row_arrives_whole_and_in_order(prepare_rows):
    rows = rows_of(SENTENCES)
    folder = prepare_rows(rows, "--validation-fraction", "0.3")
    expected = {r["unmasked_text"]: [tuple(span) for span in r["span_labels"]] for r in rows}
    order = list(expected)
    found = {}
    for split in ("train", "validation"):
        examples = examples_in(folder, split)
        assert [e["text"] for e in examples] == sorted((e["text"] for e in examples), key=order.index)
        found |= {e["text"]: e["spans"] for e in examples}
    assert found == expected


def test_rows_of_one_skeleton_fall_on_one_side(prepare_rows):
    for seed in range(3):
        folder = prepare_rows(rows_of(SENTENCES), "--validation-fraction", "0.3", "--seed", str(seed))
        sides = {}
        for split in ("train", "validation"):
            for example in examples_in(folder, split):
                (start, end, _) = example["spans"][0]
                sides.setdefault(example["text"][:start] + "{}" + example["text"][end:], set()).add(split)
        assert set(sides) == set(SENTENCES) and all(len(side) == 1 for side in sides.values())
        assert {split for side in sides.values() for split in side} == {"train", "validation"}


@pytest.mark.parametrize(
    ("count", "share", "validation"),
    [
        (12, "0", 0),
        (12, "1", 12),
        (12, "0.25", 3),
        (12, "0.5", 6),
        (1, "0.1", 0),
        (1, "0", 0),
        (1, "1", 1),
        (2, "0.5", 1),
    ],
)
def test_the_share_is_met_where_every_sentence_is_another(prepare_rows, count, share, validation):
    folder = prepare_rows([filled(sentence, "Ann") for sentence in SENTENCES[:count]], "--validation-fraction", share)
    assert len(PIITokenDataset(folder, "validation")) == validation
    assert len(PIITokenDataset(folder, "train")) == count - validation
    statistics = meta_in(folder)["statistics"]
    assert (statistics["training_examples"], statistics["validation_examples"]) == (count - validation, validation)


def test_nothing_is_cut(prepare_rows):
    digits = "7" * 500
    folder = prepare_rows([row(digits, (490, 500, "PIN"))], "--validation-fraction", "0", "--max-length", "16")
    item = PIITokenDataset(folder)[0]
    assert len(item["input_ids"]) == 500 and item["labels"].tolist() == [0] * 490 + [1] * 10


def test_documented_example_is_prepared_as_documented(prepare_rows):
    text = "Hello John Smith, email: john@example.com"
    folder = prepare_rows([row(text, (6, 16, "PERSON"), (24, 40, "EMAIL"))], "--validation-fraction", "0")
    example = PIITokenDataset(folder).example(0)
    assert "|".join(example["tokens"]) == "Hello| John| Smith|,| email|:| j|ohn|@example|.com"
    assert example["labels"] == ["O", "PERSON", "PERSON", "O", "O", "O"] + ["EMAIL"] * 4


def test_labels_are_sorted_with_o_first(prepare_rows):
    labels = ["ZIP", "NAME_2", "b", "O", "AGE", "A_B", "É"]
    rows = [row(f"word{i} Bob", (6, 9, label)) for i, label in enumerate(labels)]
    folder = prepare_rows(rows, "--validation-fraction", "0.5")
    assert meta_in(folder)["labels"] == ["O", "AGE", "A_B", "NAME", "ZIP", "b", "É"]
    assert PIITokenDataset(folder).label_to_id["O"] == 0
    found = [e["spans"][0][2] for split in ("train", "validation") for e in examples_in(folder, split) if e["spans"]]
    assert sorted(found) == sorted(["ZIP", "NAME", "b", "AGE", "A_B", "É"])


def test_a_label_map_joins_label_sets_and_leaves_out_what_it_maps_to_null(prepare_rows, tmp_path):
    rows = [
        {"unmasked_text": "Ask Ann in Rome.", "span_labels": [[4, 7, "FIRSTNAME"], [11, 15, "CITY"]]},
        {"unmasked_text": "Ask Bob, no. 7.", "span_labels": [[4, 7, "PERSON"], [13, 14, "ID"]]},
    ]
    (tmp_path / "map.json").write_text('{"FIRSTNAME": "PERSON", "ID": null, "UNHEARD": "OF"}')
    folder = prepare_rows(rows, "--label-map", str(tmp_path / "map.json"), "--validation-fraction", "0")
    data = PIITokenDataset(folder)
    assert data.labels == ["O", "CITY", "PERSON"]
    assert [data.example(i)["spans"] for i in range(2)] == [[(4, 7, "PERSON"), (11, 15, "CITY")], [(4, 7, "PERSON")]]
    assert data.meta["label_map"] == {"FIRSTNAME": "PERSON", "ID": "O", "UNHEARD": "OF"}
    assert "label_map" not in PIITokenDataset(prepare_rows(rows, output="unmapped")).meta


def test_rows_without_any_span_are_data_of_one_label(prepare_rows):
    folder = prepare_rows([row("Nothing here."), row("Nor here!")], "--validation-fraction", "0")
    assert meta_in(folder)["labels"] == ["O"] and len(PIITokenDataset(folder)) == 2


@pytest.mark.parametrize(("bad", "share"), [(1, "0.01"), (7, "0.07"), (29, "0.29"), (57, "0.57"), (0, "0")])
def test_a_share_of_refused_rows_at_the_limit_is_not_above_it(prepare_rows, bad, share):
    rows = [row(f"Ann {i}", (0, 3, "NAME")) for i in range(100 - bad)] + bad_rows(bad)
    assert sum(meta_in(prepare_rows(rows, "--max-rejected", share))["statistics"]["rejected_rows"].values()) == bad
