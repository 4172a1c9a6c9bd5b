"""Figures against the field's own libraries (nervaluate, seqeval) and plain loops over characters and tokens."""

import json
import math
import warnings
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nervaluate.evaluator import Evaluator
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

from pii.scoring import metrics

LABELS = ["O", "AGE", "CITY", "EMAIL", "NAME"]
SCHEMES = {"strict": "strict", "exact": "exact", "partial": "partial", "type": "ent_type"}  # ours: nervaluate's


class Document(NamedTuple):
    language: str
    length: int
    gold: list  # (start, end, label id), sorted, without overlaps
    predicted: list
    gold_tags: list  # label ids
    predicted_tags: list


def array_of(entries: list, dtype: type = np.int64) -> np.ndarray:
    return np.array(entries, dtype=dtype)


def joined(documents: list[Document]) -> metrics.Documents:
    """What `score` takes."""
    return metrics.Documents(
        languages=np.array([document.language for document in documents], dtype="<U8"),
        lengths=array_of([document.length for document in documents]),
        gold=array_of([span for document in documents for span in document.gold], np.int32).reshape(-1, 3),
        gold_counts=array_of([len(document.gold) for document in documents]),
        predicted=array_of([span for document in documents for span in document.predicted], np.int32).reshape(-1, 3),
        predicted_counts=array_of([len(document.predicted) for document in documents]),
        gold_tags=array_of([tag for document in documents for tag in document.gold_tags], np.uint16),
        predicted_tags=array_of([tag for document in documents for tag in document.predicted_tags]),
        token_counts=array_of([len(document.gold_tags) for document in documents]),
    )


def score(documents: list[Document], resamples: int = 0, seed: int = 0) -> dict:
    return metrics.score(joined(documents), LABELS, resamples, seed)


# Documents of every kind


@st.composite
def spans_of(draw, length: int) -> list:
    """Spans in a document of this length; many touch."""
    found, position = [], 0
    label = st.integers(1, len(LABELS) - 1)
    for gap, width, of_span in draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5), label), max_size=8)):
        start, end = position + gap, position + gap + width
        if end > length:
            break
        found.append((start, end, of_span))
        position = end
    return found


@st.composite
def altered(draw, spans: list, length: int) -> list:
    """Predictions as a model makes them: most are a gold span, dropped, relabelled, shortened, lengthened or split."""
    found, position = [], 0
    for start, end, label in spans:
        kind = draw(st.sampled_from(["keep", "keep", "drop", "relabel", "shrink", "grow", "split"]))
        start = max(start, position)
        if kind == "drop" or start >= end:
            continue
        if kind == "relabel":
            label = label % (len(LABELS) - 1) + 1
        if kind == "grow":
            start, end = max(position, start - 1), min(length, end + draw(st.integers(0, 4)))
        if kind == "shrink" and end - start > 1:
            end -= 1
        if kind == "split" and end - start > 1:
            middle = draw(st.integers(start + 1, end - 1))
            found.append((start, middle, label))
            start = middle
        found.append((start, end, label))
        position = end
    return found


@st.composite
def document(draw) -> Document:
    length = draw(st.integers(0, 24))
    gold = draw(spans_of(length))
    predicted = draw(st.one_of(altered(gold, length), spans_of(length)))
    tag = st.integers(0, len(LABELS) - 1)
    tags = draw(st.lists(st.tuples(tag, tag), max_size=8))
    return Document(
        draw(st.sampled_from(["en", "fr", "und"])), length, gold, predicted, [g for g, _ in tags], [p for _, p in tags]
    )


documents_of = st.lists(document(), max_size=5)


def random_documents(count: int, seed: int) -> list[Document]:
    """Documents with seven gold spans, of which some share is found, some of it with a wrong end or label, and one
    span is invented."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(count):
        gold = [(10 * i, 10 * i + int(rng.integers(2, 9)), int(rng.integers(1, len(LABELS)))) for i in range(7)]
        share = rng.random()
        predicted = [
            (start, end - (rng.random() < 0.2), label if rng.random() < 0.8 else label % 4 + 1)
            for start, end, label in gold
            if rng.random() < share
        ]
        tags = rng.integers(len(LABELS), size=(2, 12))
        tags[1] = np.where(rng.random(12) < share, tags[0], tags[1])
        found.append(Document(["en", "fr"][index % 2], 80, gold, [*predicted, (70, 72, 1)], *tags.tolist()))
    return found


# nervaluate


def nervaluate_of(documents: list[Document]) -> dict:
    def as_dicts(spans: list) -> list:  # the end is inclusive there
        return [{"label": LABELS[label], "start": start, "end": end - 1} for start, end, label in spans]

    gold = [as_dicts(document.gold) for document in documents]
    predicted = [as_dicts(document.predicted) for document in documents]
    return Evaluator(gold, predicted, tags=LABELS[1:], loader="dict").evaluate()


def assert_same(ours: dict, theirs: dict) -> None:
    """The four schemes of one entry of our report are those of nervaluate."""
    for scheme, name in SCHEMES.items():
        for count in ("correct", "incorrect", "partial", "missed", "spurious"):
            assert ours[scheme][count] == getattr(theirs[name], count), (scheme, count)
        for figure in ("precision", "recall", "f1"):
            assert ours[scheme][figure] == pytest.approx(getattr(theirs[name], figure), abs=1e-12), (scheme, figure)
        assert ours["gold"] == theirs[name].possible and ours["predicted"] == theirs[name].actual


@settings(max_examples=150, deadline=None)
@given(documents_of)
def test_spans_are_counted_as_nervaluate_counts_them(documents):
    assume(documents)
    ours, theirs = score(documents), nervaluate_of(documents)
    assert_same(ours, theirs["overall"])
    assert ours["per_label"].keys() == theirs["entities"].keys()
    for label, entry in ours["per_label"].items():
        assert_same(entry, theirs["entities"][label])


@pytest.mark.parametrize(
    ("gold", "predicted"),
    [
        pytest.param([(0, 10, 1)], [(0, 4, 2), (4, 10, 1)], id="the right label is on the second piece"),
        pytest.param([(0, 4, 1), (4, 10, 2)], [(0, 10, 2)], id="the right label is on the second gold span"),
        pytest.param([(0, 2, 1), (3, 9, 1)], [(1, 9, 1)], id="the nearer of two gold spans of one label"),
        pytest.param([(0, 2, 1), (3, 9, 1)], [(1, 7, 1), (7, 9, 1)], id="the nearer one is gone for the next"),
        pytest.param([(0, 4, 1), (4, 8, 1)], [(0, 8, 1)], id="neighbours of one label merged"),
        pytest.param([(0, 8, 1)], [(0, 4, 1), (4, 8, 1)], id="one span split"),
        pytest.param([(0, 4, 1), (6, 9, 1)], [(2, 7, 1), (7, 9, 1)], id="a chain of overlaps"),
        pytest.param([(0, 3, 1), (5, 9, 1), (9, 12, 2)], [(2, 10, 1), (10, 12, 1)], id="three gold spans, two found"),
        pytest.param([(0, 4, 1)], [(4, 8, 1)], id="touching is no overlap"),
    ],
)
def test_spans_that_meet_more_than_one_other_are_matched_as_nervaluate_matches_them(gold, predicted):
    documents = [Document("en", 12, gold, predicted, [], [])]
    ours, theirs = score(documents), nervaluate_of(documents)
    assert_same(ours, theirs["overall"])
    for label, entry in ours["per_label"].items():
        assert_same(entry, theirs["entities"][label])


def test_spans_of_neighbouring_documents_never_meet():
    """The last character of one document is no neighbour of the first of the next."""
    whole = [Document("en", 4, [(0, 4, 1)], [(0, 4, 2)], [], []), Document("en", 4, [(0, 4, 2)], [], [], [])]
    documents = [*whole, Document("en", 0, [], [], [], []), Document("en", 4, [], [(0, 4, 2)], [], [])]
    ours = score(documents)
    assert_same(ours, nervaluate_of(documents)["overall"])
    assert ours["strict"]["missed"] == 1 and ours["strict"]["spurious"] == 1 and ours["leakage"] == 0.5


# seqeval


def bio_tags(spans: list, length: int) -> list[str]:
    """One tag for each character."""
    tags = ["O"] * length
    for start, end, label in spans:
        tags[start:end] = [f"B-{LABELS[label]}"] + [f"I-{LABELS[label]}"] * (end - start - 1)
    return tags


@settings(max_examples=50, deadline=None)
@given(documents_of)
def test_strict_figures_are_those_of_seqeval_on_one_token_for_each_character(documents):
    assume(any(document.gold or document.predicted for document in documents))  # seqeval crashes without a span
    gold = [bio_tags(document.gold, document.length) for document in documents]
    predicted = [bio_tags(document.predicted, document.length) for document in documents]
    ours = score(documents)["strict"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no gold or no predicted spans of a label
        micro = precision_recall_fscore_support(gold, predicted, average="micro")
        by_label = np.array(precision_recall_fscore_support(gold, predicted, average=None))  # [4, labels]
    assert [ours[name] for name in ("precision", "recall", "f1")] == pytest.approx(micro[:3])
    supported = by_label[:, by_label[3] > 0]  # ours is the mean over the labels that have gold spans
    means = supported[:3].mean(axis=1) if supported.size else np.zeros(3)
    assert [ours["macro"][name] for name in ("precision", "recall", "f1")] == pytest.approx(means)


# Leakage, tokens, languages: plain loops


def leaked(documents: list[Document], label: int | None = None) -> float:
    """The share of gold characters, of one label or of all, that no prediction covers."""
    gold, uncovered = 0, 0
    for document in documents:
        for start, end, of_span in document.gold:
            for position in range(start, end) if label in (None, of_span) else ():
                gold += 1
                uncovered += not any(s <= position < e for s, e, _ in document.predicted)
    return uncovered / gold if gold else 0.0


@settings(max_examples=50, deadline=None)
@given(documents_of)
def test_leakage_is_the_share_of_gold_characters_that_no_prediction_of_any_label_covers(documents):
    report = score(documents)
    assert report["leakage"] == pytest.approx(leaked(documents))
    for label, entry in report["per_label"].items():
        assert entry["leakage"] == pytest.approx(leaked(documents, LABELS.index(label)))


def over(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else 0.0


@settings(max_examples=50, deadline=None)
@given(documents_of)
def test_token_figures_and_confusions_are_those_of_a_loop_over_tokens(documents):
    equal = gold = predicted = right = tokens = 0
    table = [[0] * len(LABELS) for _ in LABELS]
    for document in documents:
        for wanted, found in zip(document.gold_tags, document.predicted_tags, strict=True):
            tokens += 1
            equal += wanted == found
            gold += wanted != 0
            predicted += found != 0
            right += wanted == found and wanted != 0
            table[wanted][found] += 1
    report = score(documents)
    token, precision, recall = report["token"], over(right, predicted), over(right, gold)
    assert token["accuracy"] == pytest.approx(over(equal, tokens))
    assert (token["precision"], token["recall"]) == pytest.approx((precision, recall))
    assert token["f1"] == pytest.approx(over(2 * precision * recall, precision + recall))
    assert report["confusion"] == {"labels": LABELS, "counts": table}


@settings(max_examples=30, deadline=None)
@given(documents_of)
def test_figures_of_a_language_are_those_of_its_documents_alone(documents):
    of_languages = score(documents)["per_language"]
    assert set(of_languages) == {document.language for document in documents}
    for language, entry in of_languages.items():
        alone = score([document for document in documents if document.language == language])
        assert entry == {key: value for key, value in alone.items() if key not in ("per_language", "confusion")}


# Intervals


def headline(report: dict) -> dict:
    """Figure: (its value, its interval), for every figure that has one."""
    found = {"leakage": (report["leakage"], report["leakage_interval"])}
    for name in (*SCHEMES, "token"):
        for figure in ("precision", "recall", "f1"):
            found[name, figure] = (report[name][figure], report[name]["interval"][figure])
    return found


def test_intervals_contain_the_figure_and_narrow_with_more_documents():
    few, many = (headline(score(random_documents(count, seed=1), resamples=300)) for count in (30, 480))
    for name, (value, (low, high)) in many.items():
        assert low < value < high, name
        narrow, (wide_low, wide_high) = high - low, few[name][1]
        assert 2 < (wide_high - wide_low) / narrow < 8, name  # 16 times the documents: four times as narrow


def test_the_same_seed_gives_the_same_intervals_and_another_seed_others():
    documents = random_documents(30, seed=2)
    first, again, other = (score(documents, resamples=50, seed=seed) for seed in (5, 5, 6))
    assert first == again
    assert all(headline(first)[name][1] != headline(other)[name][1] for name in headline(first))
    assert first["strict"]["f1"] == other["strict"]["f1"]


def test_intervals_of_documents_that_are_all_alike_are_a_point():
    alike = Document("en", 20, [(0, 4, 1), (6, 9, 2)], [(0, 4, 1), (6, 8, 2), (9, 12, 3)], [1, 2, 0], [1, 2, 3])
    for name, (value, interval) in headline(score([alike] * 40, resamples=100)).items():
        assert interval == pytest.approx([value, value]), name


def test_intervals_of_two_documents_reach_from_the_worse_to_the_better():
    """Of two documents a quarter of all resamples holds only the first, a quarter only the second."""
    worse = Document("en", 20, [(0, 4, 1), (6, 9, 2)], [(0, 3, 1), (12, 14, 2)], [1, 2, 0, 0], [1, 0, 3, 0])
    better = Document("en", 20, [(0, 4, 1), (6, 9, 2)], [(0, 4, 1), (6, 8, 2)], [1, 2, 1, 0], [1, 2, 0, 0])
    alone = [score([document], resamples=1) for document in (worse, better)]
    for name, (_, interval) in headline(score([worse, better], resamples=400)).items():
        assert interval == sorted(headline(report)[name][0] for report in alone), name


def binomial_quantile(share: float, count: int, probability: float) -> int:
    """The smallest number of hits of which at least this share of all samples has no more."""
    total = 0.0
    for hits in range(count + 1):
        total += math.comb(count, hits) * probability**hits * (1 - probability) ** (count - hits)
        if total >= share:
            return hits
    return count


def test_intervals_of_spans_found_or_not_are_binomial():
    """With one span a document the recall of a resample is a binomial number of hits."""
    documents = [Document("en", 5, [(0, 4, 1)], [(0, 4, 1)] if i < 120 else [], [], []) for i in range(400)]
    report = score(documents, resamples=4000)
    expected = [binomial_quantile(share, 400, 0.3) / 400 for share in (0.025, 0.975)]
    # three standard errors of 4,000 draws; a 90% interval would be off by 0.007
    assert report["strict"]["interval"]["recall"] == pytest.approx(expected, abs=0.003)
    assert report["leakage_interval"] == pytest.approx([1 - share for share in reversed(expected)], abs=0.003)


def test_intervals_are_those_of_a_loop_that_scores_resampled_documents():
    documents = random_documents(25, seed=3)
    rng = np.random.default_rng(99)
    drawn: dict = {}
    for _ in range(150):
        sample = score([documents[i] for i in rng.integers(25, size=25)], resamples=1)
        for name, (value, _) in headline(sample).items():
            drawn.setdefault(name, []).append(value)
    for name, (_, interval) in headline(score(documents, resamples=2000)).items():
        expected = np.percentile(drawn[name], [2.5, 97.5])
        # the ends of an interval from 150 draws have a standard error of 0.22 standard deviations
        assert interval == pytest.approx(expected, abs=0.7 * np.std(drawn[name])), name


# Calibration


@settings(max_examples=100, deadline=None)
@given(documents_of)
def test_strict_hits_are_the_predicted_spans_that_stand_in_gold(documents):
    hits = metrics.strict_hits(joined(documents))
    assert hits.dtype == bool
    assert hits.tolist() == [span in document.gold for document in documents for span in document.predicted]
    assert hits.sum() == score(documents)["strict"]["correct"]


def test_a_strict_hit_needs_the_start_the_end_the_label_and_the_document():
    documents = [
        Document("en", 9, [(0, 4, 1), (4, 8, 2)], [(0, 4, 1), (4, 7, 2), (8, 9, 3)], [], []),
        Document("en", 0, [], [], [], []),
        Document("en", 9, [(1, 4, 1), (5, 8, 2)], [(0, 4, 1), (5, 8, 3)], [], []),
        Document("fr", 9, [], [(1, 4, 1), (5, 8, 2)], [], []),
    ]
    assert metrics.strict_hits(joined(documents)).tolist() == [True] + [False] * 6
    assert metrics.strict_hits(joined(documents[1:2])).tolist() == []
    assert metrics.strict_hits(joined(documents[3:])).tolist() == [False, False]


def plain_calibration(scores: list[float], correct: list[bool], bins: int) -> dict:
    """Guo et al. 2017, one bin and one span at a time."""
    found, error = [], 0.0
    for index in range(bins):
        low, high = index / bins, (index + 1) / bins
        inside = [i for i, s in enumerate(scores) if low < s <= high or (index == 0 and s == 0)]
        if not inside:
            continue
        confidence = sum(scores[i] for i in inside) / len(inside)
        accuracy = sum(correct[i] for i in inside) / len(inside)
        error += len(inside) / len(scores) * abs(accuracy - confidence)
        bin_figures = {"count": len(inside), "confidence": confidence, "accuracy": accuracy}
        found.append({"low": low, "high": high} | bin_figures)
    return {"ece": error, "spans": len(scores), "bins": found}


# ties at the borders of bins are what goes wrong
a_score = st.one_of(
    st.floats(0, 1), st.integers(0, 15).map(lambda i: i / 15), st.sampled_from([0.0, 0.1, 0.2, 0.6, 1.0])
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(a_score, st.booleans()), max_size=20), st.sampled_from([1, 2, 10, 15]))
def test_calibration_is_that_of_a_loop_over_bins(spans, bins):
    scores, correct = [s for s, _ in spans], [c for _, c in spans]
    ours = metrics.calibration(np.array(scores), np.array(correct, dtype=bool), bins)
    theirs = plain_calibration(scores, correct, bins)
    assert ours["ece"] == pytest.approx(theirs["ece"], abs=1e-12) and ours["spans"] == theirs["spans"]
    assert ours["bins"] == [pytest.approx(entry, abs=1e-12) for entry in theirs["bins"]]
    assert json.loads(json.dumps(ours, allow_nan=False)) == ours


def test_calibration_of_known_answers():
    sure = metrics.calibration(np.array([1.0, 1.0, 1.0, 1.0]), np.array([True, True, True, False]))
    assert sure["ece"] == 0.25
    assert sure["bins"] == [{"low": 14 / 15, "high": 1.0, "count": 4, "confidence": 1.0, "accuracy": 0.75}]
    honest = metrics.calibration(np.array([0.75] * 4 + [0.25] * 4), np.array([1, 1, 1, 0, 0, 0, 0, 1], dtype=bool))
    assert honest["ece"] == 0 and [entry["count"] for entry in honest["bins"]] == [4, 4]
    assert metrics.calibration(np.array([]), np.array([], dtype=bool)) == {"ece": 0.0, "spans": 0, "bins": []}


def test_errors_of_bins_do_not_cancel_each_other():
    """Too sure in one bin, too modest in another: the mean confidence is right, the spans' confidences are not."""
    report = metrics.calibration(np.array([0.875] * 4 + [0.125] * 4), np.array([0, 0, 0, 1, 1, 1, 1, 0], dtype=bool))
    assert report["ece"] == 0.625


def test_single_precision_scores_that_rounding_carries_beyond_one_stand_in_the_last_bin():
    report = metrics.calibration(np.array([np.nextafter(np.float32(1), np.float32(2))]), np.array([True]))
    assert report["bins"][0]["high"] == 1 and report["ece"] < 1e-6


@pytest.mark.parametrize("wrong", [-0.1, 1.1, 97.0, float("nan")])
def test_confidences_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        metrics.calibration(np.array([0.5, wrong]), np.array([True, False]))


# Known answers


def with_predictions(documents: list[Document], predict) -> list[Document]:
    """The documents with the predicted spans that `predict(gold spans)` gives, and tags that go with them."""
    return [
        d._replace(predicted=predict(d.gold), predicted_tags=d.gold_tags if predict(d.gold) else [0] * len(d.gold_tags))
        for d in documents
    ]


def all_entries(report: dict) -> list[dict]:
    """The overall figures and those of each label and language."""
    return [report, *report["per_label"].values(), *report["per_language"].values()]


def test_perfect_predictions_score_one_everywhere_and_leak_nothing():
    report = score(with_predictions(random_documents(20, seed=4), list), resamples=20)
    for entry in all_entries(report):
        assert entry["leakage"] == 0
        for scheme in SCHEMES:
            assert [entry[scheme][name] for name in ("precision", "recall", "f1")] == [1, 1, 1]
            assert [entry[scheme][name] for name in ("incorrect", "partial", "missed", "spurious")] == [0, 0, 0, 0]
            assert entry[scheme].get("macro", {"f1": 1.0})["f1"] == 1
    assert report["token"]["accuracy"] == report["token"]["f1"] == 1
    assert all(interval == [value, value] for value, interval in headline(report).values())


def test_no_predictions_score_zero_everywhere_and_leak_everything():
    documents = with_predictions(random_documents(20, seed=5), lambda gold: [])
    report = score(documents, resamples=20)
    for entry in all_entries(report):
        assert entry["leakage"] == 1 and entry["predicted"] == 0
        for scheme in SCHEMES:
            assert [entry[scheme][name] for name in ("precision", "recall", "f1")] == [0, 0, 0]
            assert entry[scheme]["missed"] == entry["gold"]
    assert report["token"]["f1"] == 0
    assert report["token"]["accuracy"] == np.mean([tag == 0 for d in documents for tag in d.gold_tags])


def test_shuffled_labels_score_at_chance_where_labels_count_and_perfectly_where_they_do_not():
    rng = np.random.default_rng(7)
    classes = len(LABELS) - 1
    documents = with_predictions(
        random_documents(300, seed=6),
        lambda gold: [(start, end, int(rng.integers(1, classes + 1))) for start, end, _ in gold],
    )
    report = score(documents)
    for scheme in ("strict", "type"):  # 2,100 spans: three standard errors are 0.03
        assert report[scheme]["f1"] == pytest.approx(1 / classes, abs=0.03)
    assert report["exact"]["f1"] == report["partial"]["f1"] == 1 and report["leakage"] == 0


@pytest.mark.parametrize("documents", [[], [Document("en", 0, [], [], [], [])], [Document("fr", 5, [], [], [0], [0])]])
def test_nothing_to_score_gives_zeros_and_not_a_crash(documents):
    report = score(documents, resamples=10)
    assert report["documents"] == len(documents) and report["per_label"] == {}
    assert all(report[scheme]["f1"] == report[scheme]["macro"]["f1"] == 0 for scheme in SCHEMES)
    assert report["leakage"] == 0 and report["token"]["f1"] == 0
    assert all(interval == [value, value] for value, interval in headline(report).values())


def test_the_macro_mean_is_over_labels_with_gold_spans_only():
    documents = [Document("en", 20, [(0, 4, 1), (6, 9, 2)], [(0, 4, 1), (12, 14, 4)], [], [])]
    report = score(documents)
    assert report["strict"]["macro"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert report["per_label"]["NAME"]["strict"]["precision"] == 0 and "EMAIL" not in report["per_label"]


@settings(max_examples=20, deadline=None)
@given(documents_of)
def test_a_report_is_plain_numbers_that_json_gives_back(documents):
    report = score(documents, resamples=3)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
