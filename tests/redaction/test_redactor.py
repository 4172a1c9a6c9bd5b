"""The class Redactor, kept with a tiny random backbone and a head that finds a lot."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from pii.common import UserError
from pii.corpus import tekken
from pii.redaction import redactor as redactor_module
from pii.redaction.redactor import Redactor
from pii.redaction.replacements import Span
from pii.training.run_config import RUN_VERSION
from tests.decoder.test_backbone import save_tiny_backbone
from tests.training.test_runs import seal

ROOT = Path(__file__).parents[2]
LABELS = ["O", "CITY", "EMAIL", "FIRSTNAME", "PIN"]
CANARY = "Quibblethorpe"  # stands in every text, and must stand in no message
TEXT = f"Dear {CANARY},\r\nAnn O'Neil of Besançon (PIN 4711) since 2019\u2028write to ann@x.org! 👩‍👩‍👧\n\n[CITY_1]\n"
TEXTS = [
    TEXT,
    f"{CANARY} paid €1,024.50 to Li; Li said no.",
    "",
    " \n ",
    "Ann Ann Ann Bob 12 34 " * 8,
    f"née {CANARY}\0",
]


def write_run(folder: Path) -> Path:
    """A run folder, as train.py writes it, whose random head gives most tokens a label.

    As if trained in float32: with bfloat16, where a CPU has it, texts that are read together change each other's last
    bits, and a random head's choices with them.
    """
    backbone = save_tiny_backbone(folder / "backbone", vocab_size=131072)
    config = {
        "run_version": RUN_VERSION,
        "backbone": {"name": str(backbone), "precision": "bf16", "dtype": "float32"},
        "labels": LABELS,
        "tokenizer": tekken.load().describe(),
        "heads": {"documented": {"kind": "documented", "layers": [2], "tags": "plain", "calibration": None}},
        "best": "documented",
        "max_length": 64,
    }
    (folder / "run" / "documented").mkdir(parents=True)
    (folder / "run" / "config.json").write_text(json.dumps(config))
    weight = torch.randn(len(LABELS), 32, generator=torch.Generator().manual_seed(3)) * 0.3
    bias = torch.tensor([1.5, 0.0, 0.0, 0.0, 0.0])
    save_file({"weight": weight, "bias": bias}, folder / "run" / "documented" / "head.safetensors")
    return seal(folder / "run")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("redactor"))


@pytest.fixture(scope="session")
def redactor(trained: Path) -> Redactor:
    return Redactor(trained, device="cpu")


@pytest.fixture
def build(trained: Path) -> Callable[..., Redactor]:
    return lambda **arguments: Redactor(trained, device="cpu", **arguments)


def with_labels(text: str, spans: list[Span]) -> str:
    """The text with each span replaced by its label in brackets, from the end to the start."""
    for span in sorted(spans, reverse=True):
        text = text[: span.start] + f"[{span.label}]" + text[span.end :]
    return text


def places(spans: list[Span]) -> list[tuple]:
    return [tuple(span[:3]) for span in spans]


# Texts


def test_one_text_and_many_give_the_same_answers(redactor):
    spans = [redactor.spans(text) for text in TEXTS]
    assert [places(found) for found in redactor.spans(iter(TEXTS))] == [places(found) for found in spans]
    assert [redactor.redact(text) for text in TEXTS] == list(redactor.redact(TEXTS))
    assert list(redactor.redact(TEXTS)) == [with_labels(*pair) for pair in zip(TEXTS, spans, strict=True)]
    assert sum(map(len, spans)) > 20 and {span.label for found in spans for span in found} == {*LABELS[1:]}


def test_threads_share_a_redactor_and_each_gets_its_own_answers(build):
    shared = build(replace="fake")
    texts = [f"{text} {number} {TEXTS[number % len(TEXTS)]}" for number, text in enumerate(TEXTS * 4)]
    alone = [shared.redact(text) for text in texts]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(build(replace="fake").redact, texts)) == alone


def test_no_texts_give_no_answers(redactor):
    assert list(redactor.spans([])) == list(redactor.redact(iter([]))) == []


def assert_spans_are_exact(text: str, spans: list[Span]) -> None:
    end = 0
    for span in spans:
        assert end <= span.start < span.end <= len(text)
        value = text[span.start : span.end]
        assert value == value.strip() != "" and span.label in LABELS[1:] and 0 <= span.score <= 1
        end = span.end


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=6))
@example(TEXTS)
@example(["👩‍👩‍👧" * 20, "é\u0301\u0301", "\ufeff\r\n \u3000x\u2003", "\0", "🇫🇷 \x85a", "ｆｕｌｌ"])
def test_spans_are_exact_and_redaction_changes_nothing_outside_them(redactor, texts):
    found = list(redactor.spans(texts))
    for text, spans, redacted in zip(texts, found, redactor.redact(texts), strict=True):
        assert_spans_are_exact(text, spans)
        assert redacted == with_labels(text, spans)


def endless(handed_out: list[int], texts: list[str]) -> Iterator[str]:
    for number in count():
        if number > 20_000:
            raise AssertionError("20,000 texts were read and none was answered")
        handed_out.append(number)
        yield texts[number % len(texts)]


@pytest.mark.parametrize("method", ["spans", "redact"])
def test_answers_come_before_the_texts_end(redactor, monkeypatch, method):
    monkeypatch.setattr(redactor.tagger.reader, "tokens_per_forward", 16)
    monkeypatch.setattr(redactor_module, "FORWARDS_A_GROUP", 2)
    handed_out: list[int] = []
    answers = getattr(redactor, method)(endless(handed_out, TEXTS))
    assert handed_out == []
    for number in range(30):
        answer = next(answers)
        expected = getattr(redactor, method)(TEXTS[number % len(TEXTS)])
        assert (places(answer) == places(expected)) if method == "spans" else (answer == expected)
        assert len(handed_out) <= number + 20


def test_empty_texts_are_answered_before_the_texts_end(redactor, monkeypatch):
    monkeypatch.setattr(redactor.tagger.reader, "tokens_per_forward", 16)
    monkeypatch.setattr(redactor_module, "FORWARDS_A_GROUP", 2)
    assert next(redactor.redact(endless([], [""]))) == ""


# Which spans are wanted


def test_labels_and_exclude_labels_choose_among_all_spans(redactor, build):
    everything = list(redactor.spans(TEXTS))
    for arguments, wanted in [
        ({"labels": ["CITY", "PIN"]}, {"CITY", "PIN"}),
        ({"exclude_labels": ["CITY"]}, {"EMAIL", "FIRSTNAME", "PIN"}),
        ({"labels": ["CITY", "PIN"], "exclude_labels": ["PIN"]}, {"CITY"}),
    ]:
        expected = [[place for place in places(spans) if place[2] in wanted] for spans in everything]
        assert [places(spans) for spans in build(**arguments).spans(TEXTS)] == expected
        assert any(expected)


def test_spans_below_min_score_are_left_out(redactor, build):
    everything = list(redactor.spans(TEXTS))
    scores = sorted(span.score for spans in everything for span in spans)
    least = (scores[len(scores) // 2] + scores[len(scores) // 2 + 1]) / 2
    expected = [[tuple(span[:3]) for span in spans if span.score > least] for spans in everything]
    assert [places(spans) for spans in build(min_score=least).spans(TEXTS)] == expected
    assert 0 < sum(map(len, expected)) < len(scores)


def test_a_label_map_renames_merges_and_leaves_out(redactor, build):
    label_map = {"CITY": "TOWN", "FIRSTNAME": "SECRET", "PIN": "SECRET", "EMAIL": "O", "NOT_IN_THE_RUN": "X"}
    expected = [
        [(start, end, label_map[label]) for start, end, label in places(spans) if label != "EMAIL"]
        for spans in redactor.spans(TEXTS)
    ]
    assert [places(spans) for spans in build(label_map=label_map).spans(TEXTS)] == expected
    assert {label for spans in expected for *_, label in spans} == {"TOWN", "SECRET"}
    only = build(label_map=label_map, labels=["SECRET"]).spans(TEXTS)
    assert [places(spans) for spans in only] == [[s for s in spans if s[2] == "SECRET"] for spans in expected]


@pytest.mark.parametrize(
    "arguments",
    [
        {"labels": ["CITY", "TOWN"]},
        {"exclude_labels": ["TOWN"]},
        {"labels": ["CITY"], "label_map": {"CITY": "VILLAGE"}},
    ],
    ids=["labels", "exclude_labels", "a label that was renamed"],
)
def test_labels_that_the_run_does_not_have_are_refused(build, arguments):
    with pytest.raises(UserError) as refused:
        build(**arguments)
    assert "PIN" in str(refused.value) and "\n" not in str(refused.value)


# Ray Data


def test_a_batch_of_columns_gains_redacted_text_and_spans(redactor, build):
    batch = {"id": np.arange(len(TEXTS)), "note": np.array(TEXTS, dtype=object)}
    answer = build(column="note")(batch)
    assert list(batch) == ["id", "note"] and answer["id"].tolist() == batch["id"].tolist()
    assert answer["note"].tolist() == TEXTS and answer["redacted"].tolist() == [redactor.redact(t) for t in TEXTS]
    for text, spans in zip(TEXTS, map(json.loads, answer["spans"]), strict=True):
        assert [(s["start"], s["end"], s["label"]) for s in spans] == places(redactor.spans(text))
        assert [s["score"] for s in spans] == pytest.approx([s.score for s in redactor.spans(text)], abs=1e-3)


class NA:
    """As pandas.NA: neither equal nor unequal to itself."""

    def __eq__(self, other: object) -> "NA":
        return self

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")

    def __repr__(self) -> str:
        return "<NA>"

    __hash__ = object.__hash__


def test_a_null_cell_stays_null_and_has_no_spans(redactor):
    texts = [TEXT, None, float("nan"), np.float32("nan"), np.datetime64("NaT"), NA(), "None", "", 4711]
    answer = redactor({"text": np.array(texts, dtype=object)})
    assert answer["redacted"][1:6].tolist() == [None] * 5 and answer["spans"][1:6].tolist() == ["[]"] * 5
    others = [TEXT, "None", "", "4711"]
    assert answer["redacted"][[0, 6, 7, 8]].tolist() == list(redactor.redact(others))
    assert [isinstance(value, str) for value in answer["redacted"]] == [True, *[False] * 5, *[True] * 3]


def test_the_nulls_of_pandas_are_nulls(redactor):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed: a stand-in for its NA is tested")
    batch = {"text": pandas.Series(["Ann", pandas.NA, pandas.NaT, None], dtype=object).to_numpy()}
    assert redactor(batch)["redacted"][1:].tolist() == [None] * 3


def test_a_batch_without_rows_gains_its_columns(redactor):
    answer = redactor({"text": np.array([], dtype=object)})
    assert [answer[name].tolist() for name in ("redacted", "spans")] == [[], []]


def test_ray_data_maps_batches_with_the_class(trained, redactor):
    ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'ray[data]'): its own test is skipped")
    texts = ["Ann of Oslo", "PIN 4711", "nobody", "Li, Bob", "née Ann"]
    paths = os.pathsep.join([str(ROOT), *sys.path])  # a worker that cannot import Ray itself is waited for for ever
    ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": paths}})
    try:
        rows = ray.data.from_items([{"id": i, "text": text} for i, text in enumerate(texts)])
        arguments = {"run": str(trained), "device": "cpu"}
        done = rows.map_batches(Redactor, fn_constructor_kwargs=arguments, concurrency=1, batch_size=4).take_all()
    finally:
        ray.shutdown()
    assert {row["id"]: row["redacted"] for row in done} == dict(enumerate(redactor.redact(texts)))
