"""Rules, lists, patterns and a policy beside a model, in Python and on the command line."""

import json
from pathlib import Path

import pytest

pytest.importorskip("stdnum")

import predict
from pii.common import UserError
from pii.redaction.replacements import Span
from pii.redaction.rules.rulebook import Rulebook
from predict import Redactor
from tests.redaction.test_redactor import write_run

CARD = "4539 1488 0343 6467"
TEXT = f"Ann Lee of Acme, EMP-123456, card {CARD}, ann@acme.org."


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("rulebook"))


@pytest.fixture
def build(trained_run):
    return lambda **arguments: Redactor(trained_run, device="cpu", **arguments)


@pytest.fixture
def command(trained_run):
    return lambda *flags: predict.main(["--run", str(trained_run), "--device", "cpu", *map(str, flags)])


def sources(spans: list[Span], text: str = TEXT) -> dict[str, str]:
    return {text[span.start : span.end]: span.source for span in spans if span.source != "model"}


def test_what_each_part_finds_says_where_it_came_from():
    book = Rulebook("all", deny={"Acme": "FIRM"}, patterns={"EMPLOYEEID": r"EMP-\d+"}, allow=["Ann Lee"])
    spans = list(book.apply(TEXT, [Span(0, 7, "NAME", 0.9)]))
    found = {"Acme": "list:deny", "EMP-123456": "pattern", CARD: "rule:card", "ann@acme.org": "rule:email"}
    assert sources(spans) == found and len(spans) == len(found)  # and nothing of Ann Lee


def test_all_of_each_listed_value_is_redacted_or_left_where_they_overlap():
    text = "Ann Lee Smith"
    book = Rulebook(deny={"Lee Smith": "B"}, patterns={"A": "Ann Lee"})
    assert [(text[s.start : s.end], s.label) for s in book.apply(text, [])] == [("Ann Lee", "A"), (" Smith", "B")]
    book = Rulebook(allow=["Ann Lee", "Lee Smith"])
    assert list(book.apply(text, [Span(0, 13, "NAME", 1.0)])) == []


def test_an_empty_rulebook_changes_nothing():
    spans = [Span(0, 3, "A", 0.1)]
    assert list(Rulebook().apply(TEXT, iter(spans))) == spans


def test_a_string_is_no_list():
    with pytest.raises(UserError, match="a string is neither"):
        Rulebook(allow="Ann")


def test_a_proven_value_is_redacted_whatever_the_model_says(build):
    text = f"Pay with {CARD} today."
    assert CARD not in build(rules="proven").redact(text)
    assert "[CREDITCARDNUMBER]" in build(rules="proven", label_map={}).redact(text)
    (card,) = [span for span in build(rules="proven").spans(text) if span.source == "rule:card"]
    assert text[card.start : card.end] == CARD and card.score == 1.0
    renamed = build(rules="proven", label_map={"CREDITCARDNUMBER": "CARD"}).redact(text)
    assert "[CARD]" in renamed
    assert "CREDITCARDNUMBER" not in build(rules="none").redact(text)
    assert "rule:card" not in sources(build(rules="proven", labels=["CITY"]).spans(text), text).values()


def test_flags_do_what_the_arguments_do(build, command, tmp_path, capsysbinary):
    (tmp_path / "allow").write_text("Acme\n/EMP-9\\d+/\n")
    (tmp_path / "deny").write_text("ann lee\tSTAFF\n")
    (tmp_path / "patterns").write_text(json.dumps({"EMPLOYEEID": r"EMP-\d+"}))
    (tmp_path / "policy").write_text(json.dumps({"STAFF": {"replace": "mask"}, "EMPLOYEEID": {"replace": "remove"}}))
    (tmp_path / "a.txt").write_text(TEXT + " EMP-900000")
    flags = ["--rules", "all", "--fold-lists"]
    for name in ("allow", "deny", "patterns", "policy"):
        flags += [f"--{name}", str(tmp_path / name)]
    command(tmp_path / "a.txt", *flags)
    redacted = capsysbinary.readouterr().out.decode()
    files = {name: tmp_path / name for name in ("allow", "deny", "patterns", "policy")}
    assert redacted == build(rules="all", fold_lists=True, **files).redact(TEXT + " EMP-900000")
    assert redacted.startswith("*******") and "EMP-123456" not in redacted and redacted.endswith("EMP-900000")
    assert " Acme," in redacted


def test_a_policy_sets_scores_and_rules_and_flags_override_it(build):
    text = f"Pay with {CARD} today."
    silent = {"default": {"min_score": 1.0}, "CREDITCARDNUMBER": {"rules": False}}
    assert build(rules="proven", policy=silent).redact(text) == text
    loud = build(rules="proven", policy=silent, min_score=0.0).spans(text)
    assert loud and "rule:card" not in sources(loud, text).values()
    policy = {"CREDITCARDNUMBER": {"replace": "mask:last4"}, "default": {"min_score": 1.0}}
    assert build(rules="proven", policy=policy).redact(text) == "Pay with **** **** **** 6467 today."
    assert build(rules="proven", policy=policy, replace="mask").redact(text) == f"Pay with {'*' * len(CARD)} today."
    with pytest.raises(UserError, match="NOSUCH"):
        build(rules="proven", policy={"NOSUCH": {}})


def test_what_is_wrong_with_a_list_is_said_before_the_model_is_loaded(build, monkeypatch):
    monkeypatch.setattr("pii.redaction.redactor.load_taggers", lambda *arguments: pytest.fail("loaded"))
    for wrong in ({"deny": {"Ann": ""}}, {"allow": [" "]}, {"patterns": {"A": "("}}, {"policy": {"NOSUCH": {}}}):
        with pytest.raises(UserError):
            build(**wrong)


def test_numbered_values_that_rules_found_come_back(command, tmp_path):
    (tmp_path / "a.txt").write_text(TEXT)
    flags = ["--replace", "numbered", "--vault", tmp_path / "vault", "--output", tmp_path / "out"]
    command(tmp_path / "a.txt", *flags, "--rules", "all")
    assert CARD not in (tmp_path / "out").read_text()
    predict.main(["--restore", str(tmp_path / "vault"), "--output", str(tmp_path / "back"), str(tmp_path / "out")])
    assert (tmp_path / "back").read_text() == TEXT


def test_spans_name_their_source_where_it_is_not_the_model(command, tmp_path, capsysbinary):
    (tmp_path / "a.txt").write_text(f"Pay with {CARD} today.")
    command(tmp_path / "a.txt", "--output-format", "spans", "--rules", "proven")
    spans = json.loads(capsysbinary.readouterr().out)["spans"]
    assert "rule:card" in {span.get("source") for span in spans}
    assert "model" not in {span.get("source") for span in spans}


def test_without_the_package_the_command_says_so_and_goes_on(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("pii.redaction.redactor.STDNUM", False)
    (tmp_path / "a.txt").write_text("Ann")
    command(tmp_path / "a.txt")
    assert "python-stdnum is not installed" in capsys.readouterr().err


def test_a_path_may_be_used_for_each_list(tmp_path):
    Path(tmp_path / "allow").write_text("Ann\n")
    assert list(Rulebook(allow=tmp_path / "allow").apply("Ann", [Span(0, 3, "A", 1.0)])) == []


@pytest.mark.parametrize("flags", [[], ["--uncertain", "9"]])
def test_documents_to_correct_first_have_the_same_spans(command, tmp_path, flags, capsysbinary):
    (tmp_path / "deny").write_text("Ann\tSTAFF\n")
    (tmp_path / "a.txt").write_text(f"Ann pays with {CARD} today.")
    command(tmp_path / "a.txt", "--output-format", "spans", "--deny", tmp_path / "deny", *flags)
    spans = json.loads(capsysbinary.readouterr().out)["spans"]
    assert {span.get("source") for span in spans} >= {"rule:card", "list:deny"}
