"""What rules add to predictions and what they cost, beside a plain count."""

import numpy as np
import pytest

pytest.importorskip("stdnum")

from pii.corpus.store import PreparedSplit
from pii.heads.tagging import Tagged
from pii.redaction.rules.effects import SplitRules, rule_effects
from pii.redaction.rules.rules import find
from pii.scoring.judge import Judged, judge

CARD = "4539 1488 0343 6467"
LABELS = ["O", "CREDITCARDNUMBER", "NAME"]
ROWS = [
    {"unmasked_text": f"Card {CARD} of Ann", "span_labels": [[5, 24, "CREDITCARDNUMBER"], [28, 31, "NAME"]]},
    {"unmasked_text": "Nothing here", "span_labels": []},
    {"unmasked_text": f"Ann, ref {CARD}, mail a@b.fr", "span_labels": [[0, 3, "NAME"]]},
]


@pytest.fixture
def split(prepare_rows) -> PreparedSplit:
    return PreparedSplit(prepare_rows(ROWS, "--validation-fraction", "0"), "train")


@pytest.fixture
def silent(split) -> Judged:
    """Of a model that finds nothing."""
    count = len(split.tokens["token_ids"])
    tagged = Tagged(np.zeros(count, np.uint16), np.zeros(count, bool), np.ones(count, np.float32))
    return judge(split, tagged, LABELS, {label: label for label in split.labels})


def test_without_rules_nothing_changes(split, silent):
    assert SplitRules(split, "none").add_to(silent) is silent


@pytest.mark.parametrize("mode", ["proven", "all"])
def test_the_predictions_gain_what_the_rules_find(split, silent, mode):
    judged = SplitRules(split, mode).add_to(silent)
    texts = [row["unmasked_text"] for row in ROWS]
    expected = [[(f.start, f.end, f.label) for f in find(texts[i], mode)] for i in range(len(texts))]
    assert judged.documents.predicted_counts.tolist() == [*map(len, expected)]
    found = [(start, end, judged.labels[label]) for start, end, label in judged.documents.predicted.tolist()]
    assert found == [span for own in expected for span in own] and len(judged.scores) == len(found) >= 2
    assert judged.labels[: len(silent.labels)] == silent.labels


def test_what_they_find_and_what_it_costs_is_told_by_label(split, silent):
    effects = rule_effects(silent, SplitRules(split, "proven").add_to(silent))
    assert [*effects] == ["all", "CREDITCARDNUMBER"]
    card = effects["CREDITCARDNUMBER"]
    assert (card["found"], card["right"], card["invented"]) == (2, 1, (0, 1))
    assert card["leakage"] == (1.0, 0.0) and card["strict_f1"] == (0.0, pytest.approx(2 / 3))
    whole = effects["all"]
    gold, covered = len(CARD) + 2 * len("Ann"), len(CARD)
    assert whole["leakage"] == (1.0, pytest.approx(1 - covered / gold)) and whole["invented"] == (0, 1)


def test_a_rule_takes_its_extent_from_the_models_spans(split, silent):
    documents = silent.documents._replace(
        predicted=np.array([[5, 14, 2], [28, 31, 2]], np.int32), predicted_counts=np.array([2, 0, 0])
    )
    spoken = silent._replace(documents=documents, scores=np.array([0.5, 0.75]))
    judged = SplitRules(split, "proven").add_to(spoken)
    names = [(start, end, judged.labels[label]) for start, end, label in judged.documents.predicted.tolist()]
    assert names[:2] == [(5, 24, "CREDITCARDNUMBER"), (28, 31, "NAME")] and judged.scores.tolist() == [1.0, 0.75, 1.0]
