"""A policy file: what is done with each label, and one line for what is wrong with it."""

import json

import pytest

from pii.common import UserError
from pii.redaction.replacements import Replacer, Span
from pii.redaction.rules.policy import Policy, Treatment, read_policy


def test_a_label_has_its_own_treatment_and_the_defaults_where_that_says_nothing():
    policy = Policy({"default": {"replace": "mask", "min_score": 0.5}, "EMAIL": {"replace": "hash", "rules": False}})
    assert policy.of("EMAIL") == Treatment("hash", 0.5, False) and policy.of("CITY") == Treatment("mask", 0.5, None)
    assert policy.kinds() == {"EMAIL": "hash"} and Policy().of("EMAIL") == Treatment()


WRONG = {
    "a list": [],
    "an entry that is none": {"EMAIL": "hash"},
    "an unknown key": {"EMAIL": {"replce": "hash"}},
    "an unknown operator": {"EMAIL": {"replace": "encrypt"}},
    "an operator that is no text": {"EMAIL": {"replace": 7}},
    "a score that is none": {"EMAIL": {"min_score": 2}},
    "a score that is a truth": {"EMAIL": {"min_score": True}},
    "rules that are a text": {"EMAIL": {"rules": "off"}},
    "no last characters": {"EMAIL": {"replace": "mask:last0"}},
}


@pytest.mark.parametrize("held", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_one_line_that_names_the_file(tmp_path, held):
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(held))
    with pytest.raises(UserError, match=r"policy\.json") as refused:
        read_policy(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("held", ["{", '{"A": {}, "A": {}}', "[" * 100_000, '"\\ud800'])
def test_what_is_no_json_is_refused(tmp_path, held):
    (tmp_path / "policy.json").write_text(held)
    with pytest.raises(UserError, match="no JSON object"):
        read_policy(tmp_path / "policy.json")


def test_labels_that_nothing_finds_are_named():
    with pytest.raises(UserError, match="'EMIAL'"):
        Policy({"EMIAL": {}, "CITY": {}}).check_labels(["EMAIL", "CITY"])


CARD = "Card 4539 1488 0343 6467, of Ann in Rome: ann@x.org."
SPANS = [Span(5, 24, "CARD", 1.0), Span(29, 32, "NAME", 1.0), Span(36, 40, "CITY", 1.0), Span(42, 51, "EMAIL", 1.0)]


def test_each_label_is_replaced_in_its_own_way():
    kinds = {"CARD": "mask:last4", "CITY": "keep", "EMAIL": "remove"}
    redacted = Replacer("numbered", kinds=kinds).redact(CARD, SPANS)
    assert redacted == "Card **** **** **** 6467, of [NAME_1] in Rome: ."


@pytest.mark.parametrize(
    ("value", "kind", "masked"),
    [
        ("4539 1488 0343 6467", "mask:last4", "**** **** **** 6467"),
        ("12-3", "mask:last4", "**-3"),  # never more than half is shown
        ("a@b.fr", "mask:last2", "*@*.fr"),
        ("é\u0301a", "mask:last1", "**a"),
        ("7", "mask:last4", "*"),
        ("abcdefghijkl", "mask:last10", "******ghijkl"),
    ],
)
def test_the_last_characters_stay(value, kind, masked):
    assert Replacer(kind).redact(value, [Span(0, len(value), "A", 1.0)]) == masked


def test_a_vault_wants_all_that_is_replaced_numbered(tmp_path):
    from pii.redaction.vault import Vault

    with Vault.create(tmp_path / "vault") as vault:
        Replacer("numbered", vault=vault, kinds={"CITY": "keep"})
        with pytest.raises(UserError, match="numbered"):
            Replacer("numbered", vault=vault, kinds={"CITY": "mask"})
