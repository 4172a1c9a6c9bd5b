"""Words with tags: every scheme gives the same spans, and their offsets are those of the words."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import BILOU, IOB2, IOBES, IOE2, Entities

from pii.common import UserError
from pii.corpus.formats.fields import RowError
from pii.corpus.formats.tokens import NUMBERED, read_tag_names, spans_of_tags
from tests.corpus.formats.example import SPANS, TEXT, row_of

WORDS = ["Ann", "Lee", "🙂", "Bob", "à", "Paris", "."]
TAGS = ["B-PER", "I-PER", "O", "B-PER", "O", "B-CITY", "O"]
TOLD = [(0, 7, "PER"), (10, 13, "PER"), (16, 21, "CITY")]
NUMBERS = {"O": 0, "B-PER": 1, "I-PER": 2, "B-CITY": 3}


@pytest.mark.parametrize("name", ["ner_tags", "tags", "labels"])
def test_tokens_stand_with_one_space_between_two(name):
    row = row_of({"id": "0", "tokens": WORDS, name: TAGS})
    assert row.text == " ".join(WORDS) and row.spans == TOLD


def test_tokens_are_found_in_the_text_where_the_row_has_one():
    words = ["Zoé", "🙂", "Lee", "Ann", "Bob", ",", "à", "Saint", "-", "Étienne", "le", "12", "/", "03", "."]
    tags = [
        "B-NAME",
        "O",
        "B-NAME",
        "B-NAME",
        "B-NAME",
        "O",
        "O",
        "B-CITY",
        "I-CITY",
        "I-CITY",
        "O",
        "B-DATE",
        "I-DATE",
    ]
    row = row_of({"full_text": TEXT, "tokens": words, "labels": [*tags, "I-DATE", "O"]})
    assert row.text == TEXT and row.spans == SPANS
    with pytest.raises(RowError, match="not in the text"):
        row_of({"full_text": TEXT, "tokens": ["Lee", "Zoé"], "labels": ["O", "O"]})


def test_trailing_white_space_says_where_words_end():
    gaps = {"trailing_whitespace": [False, True, False]}
    row = row_of({"tokens": ["Ann", "'s", "cat"], "labels": ["S-A", "O", "O"], **gaps})
    assert row.text == "Ann's cat" and row.spans == [(0, 3, "A")]


@pytest.mark.parametrize(
    "names", [["O", "B-PER", "I-PER", "B-CITY"], {"0": "O", "1": "B-PER", "2": "I-PER", "3": "B-CITY"}, NUMBERS, None]
)
def test_tags_that_are_numbers_count_through_names(tmp_path, names):
    path = tmp_path / "names"
    path.write_text("O\nB-PER\nI-PER\r\nB-CITY\n" if names is None else json.dumps(names))
    numbers = [NUMBERS[tag] for tag in TAGS]
    assert row_of({"tokens": WORDS, "ner_tags": numbers}, "und", read_tag_names(path)).spans == TOLD
    with pytest.raises(RowError, match=NUMBERED):
        row_of({"tokens": WORDS, "ner_tags": numbers})
    with pytest.raises(RowError, match="a tag's number that has no name"):
        row_of({"tokens": ["a"], "ner_tags": [4]}, "und", read_tag_names(path))


@pytest.mark.parametrize("content", ["[]", "{}", '{"0": "O", "2": "A"}', '["O", 1]', "", "[" * 200 + "]" * 200])
def test_tag_names_that_cannot_be_right_are_one_line(tmp_path, content):
    (tmp_path / "names.json").write_text(content)
    with pytest.raises(UserError, match=r"names\.json"):
        read_tag_names(tmp_path / "names.json")
    with pytest.raises(UserError, match="missing"):
        read_tag_names(tmp_path / "missing")


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("PER PER O PER CITY", [(0, 1, "PER"), (3, 3, "PER"), (4, 4, "CITY")]),
        ("I-PER I-PER B-PER O I-CITY", [(0, 1, "PER"), (2, 2, "PER"), (4, 4, "CITY")]),
        ("B-PER E-PER S-PER O S-CITY", [(0, 1, "PER"), (2, 2, "PER"), (4, 4, "CITY")]),
        ("B-PER L-PER U-PER O U-CITY", [(0, 1, "PER"), (2, 2, "PER"), (4, 4, "CITY")]),
        ("B-PER M-PER E-PER O S-CITY", [(0, 2, "PER"), (4, 4, "CITY")]),
        ("I-PER E-PER I-PER O I-CITY", [(0, 1, "PER"), (2, 2, "PER"), (4, 4, "CITY")]),
        ("B-E-MAIL I-E-MAIL O O O", [(0, 1, "E-MAIL")]),
    ],
    ids=["IO", "IOB1", "BIOES", "BILOU", "BMES", "IOE1", "hyphen"],
)
def test_every_scheme_gives_the_spans(tags, spans):
    assert spans_of_tags(tags.split()) == spans


@given(st.lists(st.sampled_from(["O", *(f"{p}-{t}" for p in "BIES" for t in ("PER", "LOC"))]), max_size=12))
def test_tags_are_read_as_seqeval_reads_them(tags):
    assert spans_of_tags(tags) == [(first, last, kind) for kind, first, last in get_entities(tags)]


@pytest.mark.parametrize(("scheme", "prefixes"), [(IOB2, "BIIB"), (IOE2, "IIEE"), (IOBES, "BIES"), (BILOU, "BILU")])
@given(parts=st.lists(st.tuples(st.sampled_from(["PER", "LOC", "O"]), st.integers(1, 4)), min_size=1, max_size=6))
def test_spans_in_a_scheme_of_seqeval_are_read_as_it_reads_them(scheme, prefixes, parts):
    first, inner, last, only = prefixes
    tags: list[str] = []
    for kind, size in parts:
        signs = [only] if size == 1 else [first, *[inner] * (size - 2), last]
        tags += ["O"] * size if kind == "O" else [f"{sign}-{kind}" for sign in signs]
    (entities,) = Entities([tags], scheme).entities
    assert spans_of_tags(tags) == [(e.start, e.end - 1, e.tag) for e in entities]


@pytest.mark.parametrize(
    ("block", "spans"),
    [
        ("Ann B-PER\nLee I-PER\nin O", [(0, 7, "PER")]),
        ("Ann\tB-PER\nLee\tI-PER\nin\tO", [(0, 7, "PER")]),
        ("Ann NNP B-NP I-PER\nLee NNP I-NP I-PER\nin IN O O", [(0, 7, "PER")]),
        ("Ann Lee\tB-PER\nin\tO", [(0, 7, "PER")]),
        ("1\tAnn\tB-PER\n2\tLee\tI-PER\n3\tin\tO", [(0, 7, "PER")]),
        ("# id = 1\n# text = Ann Lee\nAnn B-PER\nLee I-PER", [(0, 7, "PER")]),
        ("# text = Ann  Lee\nAnn B-PER\nLee I-PER", [(0, 8, "PER")]),
        ("# O\nAnn B-PER", [(2, 5, "PER")]),
        ("10\u00a0000\u2028 B-SUM", [(0, 6, "SUM")]),
    ],
    ids=["spaces", "tabs", "four", "a space in a token", "counted", "text", "spaces in text", "hashtag", "no-break"],
)
def test_columns_are_words_and_tags(block, spans):
    assert row_of({"conll": block}).spans == spans


@pytest.mark.parametrize("block", ["Ann", "Ann B-PER\nLee", "Ann B-PER\nLee X I-PER"])
def test_columns_of_another_number_are_refused(block):
    with pytest.raises(RowError, match="columns"):
        row_of({"conll": block})


def test_numbers_of_tags_and_tokens_must_agree():
    with pytest.raises(RowError, match="not as many tags as tokens"):
        row_of({"tokens": ["a"], "tags": ["O", "O"]})
