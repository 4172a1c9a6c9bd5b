"""Error analysis against plain loops over sets of characters and tokens, and cases written by hand."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pii.scoring import errors, metrics
from tests.scoring.test_metrics import LABELS, Document, document, joined

TOTALS = {"gold", "correct", "wrong_label", "border", "border_and_label", "missed", "invented", "predicted"}
KINDS = ("correct", "wrong_label", "border", "border_and_label", "missed")
BORDER_KINDS = {"one_token_long", "one_token_short", "split", "merged", "other"}
Case = tuple[Document, list]  # a document and its tokens (start, end)


def analyse(cases: list[Case]) -> dict:
    with_tags = [d._replace(gold_tags=[0] * len(tokens), predicted_tags=[0] * len(tokens)) for d, tokens in cases]
    starts, ends = np.array([token for _, tokens in cases for token in tokens], np.uint32).reshape(-1, 2).T
    return errors.analyse(joined(with_tags), LABELS, starts, ends)


def words(gold: list, predicted: list, length: int = 12, width: int = 2, language: str = "en") -> Case:
    """A document whose tokens are `width` characters each."""
    tokens = [(start, min(start + width, length)) for start in range(0, length, width)]
    return Document(language, length, gold, predicted, [], []), tokens


# The oracle: sets of characters and of tokens, one span at a time


def chars(span: tuple) -> set:
    return set(range(span[0], span[1]))


def token_set(span: tuple, tokens: list) -> set:
    return {i for i, token in enumerate(tokens) if chars(token) & chars(span)}


def plain_kind(span: tuple, predicted: list) -> str:
    if span in predicted:
        return "correct"
    if any(p[:2] == span[:2] for p in predicted):
        return "wrong_label"
    meets = [p for p in predicted if chars(p) & chars(span)]
    if not meets:
        return "missed"
    return "border" if any(p[2] == span[2] for p in meets) else "border_and_label"


def plain_border_kind(span: tuple, document: Document, tokens: list) -> str:
    own = token_set(span, tokens)
    same = [p for p in document.predicted if p[2] == span[2] and chars(p) & chars(span)]
    found = [token_set(p, tokens) for p in same]
    if sum(piece <= own for piece in found) >= 2:
        return "split"
    for p, piece in zip(same, found, strict=True):
        held = [g for g in document.gold if chars(p) & chars(g) and token_set(g, tokens) <= piece]
        if span in held and len(held) >= 2:
            return "merged"
    if len(found) == 1:
        extra, lacking = found[0] - own, own - found[0]
        if len(extra) + len(lacking) == 1:
            return "one_token_long" if extra else "one_token_short"
    return "other"


def plain_taken_for(span: tuple, predicted: list) -> str:
    shares = [len(chars(p) & chars(span)) for p in predicted]
    return LABELS[predicted[shares.index(max(shares))][2]]


def plain_entry() -> dict:
    return {**dict.fromkeys(TOTALS, 0), "confused_with": Counter(), "border_kinds": dict.fromkeys(BORDER_KINDS, 0)}


def plain_counts(cases: list[Case]) -> dict:
    """The totals and per_label of these documents."""
    total, per_label = plain_entry(), {label: plain_entry() for label in LABELS[1:]}
    for found, tokens in cases:
        for span in found.gold:
            kind = plain_kind(span, found.predicted)
            for entry in (total, per_label[LABELS[span[2]]]):
                entry["gold"] += 1
                entry[kind] += 1
                if kind == "border":
                    entry["border_kinds"][plain_border_kind(span, found, tokens)] += 1
                if kind in ("wrong_label", "border_and_label"):
                    entry["confused_with"][plain_taken_for(span, found.predicted)] += 1
        for span in found.predicted:
            for entry in (total, per_label[LABELS[span[2]]]):
                entry["predicted"] += 1
                entry["invented"] += not any(chars(g) & chars(span) for g in found.gold)
    del total["confused_with"]
    return total | {"per_label": {label: e for label, e in per_label.items() if e["gold"] or e["predicted"]}}


def plain_report(cases: list[Case]) -> dict:
    by_language: dict[str, list] = {}
    for case in cases:
        by_language.setdefault(case[0].language, []).append(case)
    of_languages = {language: plain_counts(chosen) for language, chosen in by_language.items()}
    return plain_counts(cases) | {"per_language": of_languages}


@st.composite
def tokenised(draw) -> Case:
    """A document of test_metrics.py, its characters cut into tokens. Some tokens share a character, as those do that
    hold a part of its bytes only."""
    found = draw(document())
    tokens, position = [], 0
    while position < found.length:
        end = min(found.length, position + draw(st.integers(1, 4)))
        tokens.append((position, end))
        position = end
        if draw(st.integers(0, 5)) == 0:
            tokens.append((end - 1, end))
    return found, tokens


@settings(max_examples=300, deadline=None)
@given(st.lists(tokenised(), max_size=5))
def test_counts_are_those_of_a_loop_over_characters_and_tokens(cases):
    assert analyse(cases) == plain_report(cases)


@settings(max_examples=50, deadline=None)
@given(st.lists(tokenised(), max_size=5))
def test_the_kinds_add_up_and_agree_with_the_strict_and_exact_schemes(cases):
    report = analyse(cases)
    scored = metrics.score(joined([d for d, _ in cases]), LABELS, resamples=0)
    for entry, theirs in [
        (report, scored),
        *((e, scored["per_language"][n]) for n, e in report["per_language"].items()),
    ]:
        assert entry["correct"] == theirs["strict"]["correct"]
        assert entry["correct"] + entry["wrong_label"] == theirs["exact"]["correct"]
        assert {label: (e["gold"], e["predicted"]) for label, e in entry["per_label"].items()} == {
            label: (e["gold"], e["predicted"]) for label, e in theirs["per_label"].items()
        }
        for part in (entry, *entry["per_label"].values()):
            assert sum(part[kind] for kind in KINDS) == part["gold"]
            assert sum(part["border_kinds"].values()) == part["border"]
        for part in entry["per_label"].values():  # of four labels: `confused_with` has room for all
            assert sum(part["confused_with"].values()) == part["wrong_label"] + part["border_and_label"]


# Cases by hand: labels are 1 AGE, 2 CITY, 3 EMAIL, 4 NAME


@pytest.mark.parametrize(
    ("predicted", "kind"),
    [
        ([(4, 8, 4)], "correct"),
        ([(4, 8, 2)], "wrong_label"),
        ([(4, 9, 4)], "border"),
        ([(4, 6, 2), (6, 8, 4)], "border"),
        ([(4, 9, 2)], "border_and_label"),
        ([(4, 6, 2), (6, 8, 1)], "border_and_label"),
        ([(0, 4, 4), (8, 12, 4)], "missed"),  # touching is no overlap
        ([], "missed"),
    ],
)
def test_a_gold_span_is_of_one_kind(predicted, kind):
    report = analyse([words([(4, 8, 4)], predicted)])
    assert {name: report[name] for name in KINDS} == dict.fromkeys(KINDS, 0) | {kind: 1}
    assert report["invented"] == (2 if kind == "missed" and predicted else 0)


@pytest.mark.parametrize(
    ("gold", "predicted", "kinds"),
    [
        pytest.param([(4, 8, 4)], [(4, 10, 4)], {"one_token_long": 1}, id="long at the end"),
        pytest.param([(4, 8, 4)], [(2, 8, 4)], {"one_token_long": 1}, id="long at the start"),
        pytest.param([(4, 8, 4)], [(4, 6, 4)], {"one_token_short": 1}, id="short at the end"),
        pytest.param([(4, 8, 4)], [(6, 8, 4)], {"one_token_short": 1}, id="short at the start"),
        pytest.param([(4, 8, 4)], [(5, 6, 4)], {"one_token_short": 1}, id="short by a token, and within the other"),
        pytest.param([(4, 8, 4)], [(2, 10, 4)], {"other": 1}, id="long on both sides"),
        pytest.param([(4, 8, 4)], [(6, 10, 4)], {"other": 1}, id="moved by a token"),
        pytest.param([(4, 8, 4)], [(4, 12, 4)], {"other": 1}, id="two tokens long"),
        pytest.param([(4, 8, 4)], [(5, 8, 4)], {"other": 1}, id="within a token"),
        pytest.param([(2, 8, 4)], [(2, 4, 4), (6, 8, 4)], {"split": 1}, id="a token between the pieces"),
        pytest.param([(2, 8, 4)], [(2, 4, 4), (4, 6, 2), (6, 8, 4)], {"split": 1}, id="another label between them"),
        pytest.param([(2, 8, 4)], [(2, 6, 4), (6, 8, 2)], {"one_token_short": 1}, id="the piece of another label"),
        pytest.param([(2, 8, 4)], [(2, 6, 4), (6, 10, 4)], {"other": 1}, id="the second piece reaches beyond"),
        pytest.param([(2, 4, 4), (4, 8, 4)], [(2, 8, 4)], {"merged": 2}, id="neighbours merged"),
        pytest.param([(2, 4, 4), (4, 6, 2)], [(2, 6, 4)], {"merged": 1}, id="merged over labels, not one token long"),
        pytest.param(
            [(2, 4, 4), (4, 8, 4)], [(2, 6, 4), (6, 8, 4)], {"one_token_long": 1, "other": 1}, id="a border between two"
        ),
        pytest.param(
            [(2, 4, 4), (4, 8, 2)],
            [(2, 6, 4), (6, 8, 2)],
            {"one_token_long": 1, "one_token_short": 1},
            id="a border between two labels",
        ),
        pytest.param([(0, 4, 4), (4, 6, 4), (6, 8, 4)], [(2, 8, 4)], {"merged": 2, "other": 1},
                     id="the first of three held in part"),
    ],
)  # fmt: skip
def test_border_errors_are_told_in_tokens(gold, predicted, kinds):
    report = analyse([words(gold, predicted)])
    assert report["border_kinds"] == dict.fromkeys(BORDER_KINDS, 0) | kinds
    assert report["border"] == sum(kinds.values())


def test_a_confusion_is_with_the_span_that_shares_most_the_earlier_of_two():
    report = analyse(
        [
            words([(2, 8, 4)], [(0, 3, 1), (3, 8, 2)]),  # CITY shares most
            words([(2, 8, 4)], [(0, 5, 3), (5, 8, 1)]),  # three characters each
            words([(2, 8, 4)], [(2, 8, 3)]),
            words([(2, 8, 4)], [(2, 4, 4), (4, 8, 2)]),  # a border error: no confusion
        ]
    )
    assert list(report["per_label"]["NAME"]["confused_with"].items()) == [("EMAIL", 2), ("CITY", 1)]
    assert report["per_label"]["CITY"] == {
        **dict.fromkeys(TOTALS, 0), "predicted": 2, "confused_with": {}, "border_kinds": dict.fromkeys(BORDER_KINDS, 0)
    }  # fmt: skip


def test_no_more_than_the_five_commonest_confusions_of_a_label_are_named():
    labels = ["O", *"ABCDEFGH"]
    found = [label for label in range(2, 9) for _ in range(label)]  # A is taken for B twice ... for H eight times
    documents = joined([Document("en", 1, [(0, 1, 1)], [(0, 1, label)], [0], [0]) for label in found])
    report = errors.analyse(documents, labels, np.zeros(len(found)), np.ones(len(found)))
    assert list(report["per_label"]["A"]["confused_with"].items()) == [("H", 8), ("G", 7), ("F", 6), ("E", 5), ("D", 4)]
    assert report["wrong_label"] == len(found)


def test_spans_and_tokens_of_neighbouring_documents_never_meet():
    cases = [
        words([(8, 12, 4)], []),
        words([], [], length=0, language="fr"),
        words([], [(0, 4, 4)], language="de"),
        words([(0, 4, 4)], [(0, 6, 4)], language="fr"),
    ]
    report = analyse(cases)
    assert (report["missed"], report["invented"], report["border_kinds"]["one_token_long"]) == (1, 1, 1)
    of_languages = report["per_language"]
    assert list(of_languages) == ["de", "en", "fr"]
    assert of_languages["en"]["missed"] == of_languages["de"]["invented"] == of_languages["fr"]["border"] == 1
    assert of_languages["de"]["gold"] == of_languages["en"]["predicted"] == 0
    assert report == plain_report(cases)


@pytest.mark.parametrize("cases", [[], [words([], [], length=0)], [words([], []), words([], [], language="fr")]])
def test_nothing_to_analyse_gives_zeros_and_not_a_crash(cases, capsys):
    report = analyse(cases)
    assert {report[name] for name in TOTALS} == {0} and set(report["border_kinds"]) == BORDER_KINDS
    assert report["per_label"] == {} and list(report["per_language"]) == sorted({d.language for d, _ in cases})
    errors.print_errors(report)
    assert "no span confusions" in capsys.readouterr().out


def test_tokens_that_are_not_those_of_the_documents_are_refused():
    documents = joined([Document("en", 4, [], [], [0, 0], [0, 0])])
    with pytest.raises(ValueError, match="1 token starts and 2 ends for 2 tokens"):
        errors.analyse(documents, LABELS, np.array([0]), np.array([2, 4]))


@settings(max_examples=20, deadline=None)
@given(st.lists(tokenised(), max_size=5))
def test_a_report_is_plain_numbers_that_json_gives_back(cases):
    report = analyse(cases)
    assert json.loads(json.dumps(report)) == report


# What is printed


def figures_of(line: str) -> list[int]:
    return [int(word) for word in line[22:].split()]


def test_tables_name_every_label_with_most_errors_first_and_every_language(capsys):
    cases = [
        words([(0, 4, 4), (6, 8, 2)], [(0, 4, 4), (6, 8, 1)]),
        words([(0, 4, 2), (6, 8, 2)], [(0, 6, 2)], language="fr"),
        words([(0, 4, 3)], [(0, 3, 1), (8, 9, 1)], language="fr"),
    ]
    errors.print_errors(analyse(cases))
    first, confusions, borders = capsys.readouterr().out.strip("\n").split("\n\n")
    rows = {line[:22].strip(): figures_of(line) for line in first.splitlines()[1:]}
    assert list(rows) == ["CITY", "AGE", "EMAIL", "NAME", "(en)", "(fr)", "all"]
    # correct, wrong label, border, both, missed, invented
    assert rows["CITY"] == [0, 1, 1, 0, 1, 0] and rows["AGE"] == [0, 0, 0, 0, 0, 1] and rows["EMAIL"][3] == 1
    assert (
        rows["(en)"] == [1, 1, 0, 0, 0, 0] and rows["(fr)"] == [0, 0, 1, 1, 1, 1] and rows["all"] == [1, 1, 1, 1, 1, 1]
    )
    assert [line.split() for line in confusions.splitlines()[1:]] == [
        ["1", "CITY", ">", "AGE"],
        ["1", "EMAIL", ">", "AGE"],
    ]
    headings, *of_labels = borders.splitlines()
    assert " ".join(headings.split()) == "border errors, tokens split merged one long one short other"
    assert {line[:22].strip(): figures_of(line) for line in of_labels} == {
        "CITY": [0, 0, 1, 0, 0],
        "all": [0, 0, 1, 0, 0],
    }


def test_tables_of_many_long_labels_and_large_counts_fit_80_columns(capsys):
    count, copies = 56, 20_000
    labels = ["O", *(f"NEARBYGPSCOORDINATE{i:02}" for i in range(count - 1)), "A" * 30]
    repeated = np.repeat(np.arange(1, count + 1), copies)
    spans = np.stack([repeated * 0, repeated * 0 + 2, repeated], axis=1)
    ones = np.ones(len(spans), dtype=int)
    predicted = spans.copy()
    predicted[::2, 2], predicted[1::2, 1] = 1, 1  # half are taken for the first label, half are a token short
    documents = metrics.Documents(
        np.array(["und"] * len(spans)), ones * 2, spans, ones, predicted, ones, np.tile([0, 0], len(spans)),
        np.tile([0, 0], len(spans)), ones * 2,
    )  # fmt: skip
    errors.print_errors(errors.analyse(documents, labels, np.tile([0, 1], len(spans)), np.tile([1, 2], len(spans))))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert all(any(line.startswith(label) for line in lines) for label in labels[1:-1])
    assert any(line.startswith("A" * 18 + "...") for line in lines)
    total = next(line for line in lines if line.startswith("all "))
    assert figures_of(total) == [copies // 2, (count - 1) * copies // 2, count * copies // 2, 0, 0, 0]


# One by one


def plain_list(cases: list[Case]) -> list[tuple]:
    """(kind, document, gold span, predicted span) of every error, by the start of the gold, else the predicted span."""
    errors_found = []
    for index, (found, _) in enumerate(cases):
        of_row = []
        for span in found.gold:
            meets = [p for p in found.predicted if chars(p) & chars(span)]
            best = max(meets, key=lambda p: (p[2] == span[2], len(chars(p) & chars(span)), -p[0]), default=None)
            of_row.append((plain_kind(span, found.predicted), index, span, best))
        for span in found.predicted:
            if not any(chars(g) & chars(span) for g in found.gold):
                of_row.append(("invented", index, None, span))
        wrong = [error for error in of_row if error[0] != "correct"]
        errors_found += sorted(wrong, key=lambda error: (error[2] or error[3])[0])
    return errors_found


@settings(max_examples=200, deadline=None)
@given(st.lists(tokenised(), max_size=5))
def test_the_list_holds_every_error_once_with_the_span_found_in_place_of_the_gold_one(cases):
    documents = joined([d for d, _ in cases])
    sides = [[*map(tuple, spans.tolist()), None] for spans in (documents.gold, documents.predicted)]  # -1 is None
    found = [
        (errors.ERROR_KINDS[kind], document, sides[0][gold], sides[1][predicted])
        for kind, document, gold, predicted in zip(*map(np.ndarray.tolist, errors.listed(documents)), strict=True)
    ]
    assert found == plain_list(cases)
