"""The documented figures are those of a plain count."""

import pytest

from tests.corpus.test_staging import CANARY, examples_in, meta_in, row

COUNTED = [
    row("Pakistan Rupee746,208.95", (0, 14, "CURRENCY"), (14, 24, "AMOUNT"), language="en"),
    row("MissMiss Ann", (0, 4, "PREFIX"), (4, 8, "PREFIX"), (9, 12, "NAME"), language="en"),
    row("Nothing in this sentence, which goes on for more than eight tokens.", language="en"),
    row("Code 1234567890 of 🙂 Ann", (5, 15, "PIN"), (19, 20, "NAME"), (21, 24, "NAME"), language="fr"),
    row("Jean Dupont, Lyon", (0, 11, "NAME"), (5, 11, "LAST"), (0, 4, "FIRST"), (13, 17, "CITY"), language="fr"),
    row("Hello", (0, 2, "NAME"), (2, 5, "CITY")),  # two spans in one token: one of them gets none
    row("Ann  Lee", (3, 5, "NAME"), (0, 8, "NAME")),
    row("Twice", (0, 5, "NAME"), (0, 5, "NAME")),
    "broken",
    row(CANARY, (0, 99, "NAME")),
    row(CANARY, (0, 98, "NAME")),
]


@pytest.mark.parametrize("max_length", [1, 8, 13, 96])
def test_figures_are_those_of_a_plain_count(prepare_rows, max_length):
    folder = prepare_rows(
        COUNTED, "--max-rejected", "0.5", "--validation-fraction", "0.4", "--max-length", str(max_length)
    )
    train, validation = examples_in(folder, "train"), examples_in(folder, "validation")
    examples = train + validation
    tokens, pii, beyond, rows_beyond, spans, spans_beyond, touching = 0, 0, 0, 0, 0, 0, 0
    for example in examples:
        tokens += len(example["tokens"])
        pii += sum(label != "O" for label in example["labels"])
        beyond += len(example["tokens"][max_length:])
        rows_beyond += len(example["tokens"]) > max_length
        for start, end, _ in example["spans"]:
            spans += 1
            spans_beyond += any(first < end and last > start for first, last in example["char_spans"][max_length:])
            touching += any(start == other_end for _, other_end, _ in example["spans"])
    assert meta_in(folder)["statistics"] == {
        "training_examples": len(train),
        "validation_examples": len(validation),
        "labels": len({span[2] for e in examples for span in e["spans"]}) + 1,
        "average_sequence_length": pytest.approx(tokens / len(examples), abs=0.005),
        "non_o_token_ratio": pytest.approx(pii / tokens, abs=0.00005),
        "tokens": tokens,
        "spans": spans,
        "max_length": max_length,
        "rows_beyond_max_length": rows_beyond,
        "tokens_beyond_max_length": beyond,
        "spans_beyond_max_length": spans_beyond,
        "touching_spans": touching,
        "overlapping_spans_dropped": 2,
        "blank_spans_dropped": 1,
        "spans_that_cut_a_word": 0,
        "contradicting_rows": 0,
        "spans_without_a_token": 1,
        "rejected_rows": {"offsets out of range": 2, "broken JSON": 1},
        "rows_by_language": {"en": 3, "fr": 2, "und": 3},
    }
    assert touching == 3 and len(examples) == 8
