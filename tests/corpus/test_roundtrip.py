"""What alignment alone costs, and skeletons on both sides of the split, as the check reports them."""

import re
import shutil

import pytest

from dataset import PIITokenDataset
from tests.corpus.test_invariants import SENTENCES, check, prepare_to, row_of


def strict_f1(found: list[set], gold: list[set]) -> float:
    hits = sum(len(f & g) for f, g in zip(found, gold, strict=True))
    return 2 * hits / (sum(map(len, found)) + sum(map(len, gold)))


def spans_from_tags(example: dict, with_begins: bool) -> set:
    """The spans of one row's gold tags, by a plain loop over its tokens."""
    found, open_label = [], "O"
    columns = (example["labels"], example["begins"], example["char_spans"])
    for label, begin, (start, end) in zip(*columns, strict=True):
        if label != "O" and label == open_label and not (with_begins and begin):
            found[-1][1] = end
        elif label != "O":
            found.append([start, end, label])
        open_label = label
    text = example["text"]
    return {(end - len(text[start:end].lstrip()), end, label) for start, end, label in found}


def test_alignment_ceilings_are_those_of_a_loop_over_rows(tmp_path, capsys):
    rows = [row_of(*sentence) for sentence in SENTENCES]
    rows.append({"unmasked_text": "write to john@example.com", "span_labels": [[9, 24, "EMAIL"]]})  # one short
    folder = prepare_to(tmp_path, rows, "--validation-fraction", "0.3")
    examples = [
        data.example(i)
        for data in (PIITokenDataset(folder, "train"), PIITokenDataset(folder, "validation"))
        for i in range(len(data))
    ]
    gold = [set(example["spans"]) for example in examples]
    expected = [strict_f1([spans_from_tags(example, begins) for example in examples], gold) for begins in (False, True)]
    assert expected[0] < expected[1] < 1  # neighbours of one label merge, and a span that ends inside a token is lost
    capsys.readouterr()
    check(folder)
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("alignment ceiling")]
    assert [float(number) for number in re.findall(r"\d\.\d+", line)] == pytest.approx(expected, abs=5e-5)


def test_skeletons_on_both_sides_of_the_split_are_counted(tmp_path, capsys):
    rows = [row_of("I am {CITY}", [city]) for city in ("Rome", "Oslo", "Bern")]
    rows += [row_of("I know {CITY}", ["Oslo"]), row_of("I am {AGE}", ["42"])]
    folder = prepare_to(tmp_path, rows, "--validation-fraction", "0.5")

    def counts() -> list[int]:
        capsys.readouterr()
        check(folder)
        [line] = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("skeletons")]
        return [int(number) for number in re.findall(r"\d+", line)]

    train, validation, both = counts()
    assert train + validation == 3 and both == 0 and train and validation
    shutil.rmtree(folder / "validation")
    shutil.copytree(folder / "train", folder / "validation")
    assert counts() == [train, train, train]
