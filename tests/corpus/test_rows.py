"""Raw rows: every form people have gives the same spans, and a row that cannot be right is refused with a reason."""

import ast
import bz2
import gzip
import hashlib
import json
import lzma
import re
import tracemalloc
import warnings

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pii.common import UserError
from pii.corpus.formats.fields import RowError, parse_notation
from pii.corpus.label_maps.maps import read_label_map
from pii.corpus.rows import checked_spans, parse_row, skeleton, without_overlaps
from pii.corpus.sources import source
from pii.corpus.sources.source import BYTE_ORDER_MARK, Source
from pii.inputs import advice, likely_encoding

TEXT = "Dear Mr Müller, your PIN is 1234."
SPANS = [(5, 7, "PREFIX"), (8, 14, "LASTNAME"), (28, 32, "PIN")]
CANARY = "xylophonecanary"


def line_of(fields: dict) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode()


def row_of(spans: object, text: str = TEXT, **fields: object):
    return parse_row(line_of({"unmasked_text": text, "span_labels": spans, **fields}))


def tiling(spans: list[tuple], length: int, suffix: str = "") -> list[list]:
    """The spans and the `O` spans between them, over the whole text."""
    tiles, position = [], 0
    for start, end, label in spans:
        tiles += [[position, start, "O"], [start, end, label + suffix]]
        position = end
    return [*tiles, [position, length, "O"]]


# The forms

FORMS = {
    "documented": {"unmasked_text": TEXT, "span_labels": [list(span) for span in SPANS]},
    "pii-masking, first form": {
        "masked_text": "Dear [PREFIX_1] [LASTNAME_1], your PIN is [PIN_1].",
        "unmasked_text": TEXT,
        "privacy_mask": str({"[PREFIX_1]": "Mr", "[LASTNAME_1]": "Müller", "[PIN_1]": "1234"}),
        "span_labels": str(tiling(SPANS, len(TEXT), suffix="_1")),
        "bio_labels": "['O']",
        "tokenised_text": "['dear']",
    },
    "pii-masking-200k today": {
        "source_text": TEXT,
        "target_text": "Dear [PREFIX] [LASTNAME], your PIN is [PIN].",
        "privacy_mask": [{"value": TEXT[s:e], "start": s, "end": e, "label": label} for s, e, label in SPANS],
        "span_labels": json.dumps(tiling(SPANS, len(TEXT))),
        "mbert_bio_labels": ["O"],
        "id": 7,
        "set": "train",
    },
    "presidio-research": {
        "full_text": TEXT,
        "masked": "Dear {{prefix}} {{last_name}}, your PIN is {{pin}}.",
        "spans": [
            {"entity_type": label, "entity_value": TEXT[s:e], "start_position": s, "end_position": e}
            for s, e, label in SPANS
        ],
        "template_id": 3,
        "metadata": None,
    },
    "pii-masking-200k without its mask": {"source_text": TEXT, "span_labels": json.dumps(tiling(SPANS, len(TEXT)))},
    "spans in their own order": {"unmasked_text": TEXT, "span_labels": [list(span) for span in reversed(SPANS)]},
}


@pytest.mark.parametrize("fields", FORMS.values(), ids=FORMS)
def test_every_form_gives_the_same_text_and_spans(fields):
    row = parse_row(line_of(fields), "en")
    assert (row.text, row.spans, row.language, row.overlapping, row.blank) == (TEXT, SPANS, "en", 0, 0)


def test_the_documented_row_of_the_first_form_is_read():
    row = row_of("[[0, 5, 'O'], [5, 8, 'PREFIX_1'], [8, 9, 'O'], [9, 16, 'LASTNAME_1']]", text="Dear Mr. Johnson")
    assert row.spans == [(5, 8, "PREFIX"), (9, 16, "LASTNAME")]


def test_offsets_count_code_points():
    assert row_of([[2, 5, "NAME"]], text="🙂 Zoé").spans == [(2, 5, "NAME")]
    assert row_of([[2, 5, "NAME"]], text="e\u0301Zoé").spans == [(2, 5, "NAME")]


def test_only_instance_suffixes_are_stripped_and_o_spans_dropped():
    labels = ["IPV4_12", "IPV4", "A_1_2", "O", "O_1", " CITY ", "STREET_NAME"]
    row = row_of([[2 * i, 2 * i + 2, label] for i, label in enumerate(labels)], text="abcdefghijklmn")
    assert [label for *_, label in row.spans] == ["IPV4", "IPV4", "A_1", "CITY", "STREET_NAME"]


def test_empty_o_tiles_are_no_mistake():
    assert row_of([[0, 0, "O"], [0, 4, "NAME"], [4, 4, "O"]]).spans == [(0, 4, "NAME")]


def test_white_space_at_the_edges_is_trimmed_and_blank_spans_are_counted():
    text = "\u00a0Ann \n\t\u202f Lee"
    row = row_of([[0, 5, "NAME"], [4, 8, "NAME"], [6, 8, "CITY"], [7, 12, "NAME"]], text=text)
    assert row.spans == [(1, 4, "NAME"), (9, 12, "NAME")] and row.blank == 2 and row.overlapping == 0


def test_exact_duplicates_collapse_and_are_no_overlap():
    row = row_of([[0, 4, "A"], [0, 4, "A_2"], [0, 5, "A"], [0, 4, "A"]])
    assert row.spans == [(0, 4, "A")] and row.overlapping == 0


def test_a_span_with_two_labels_keeps_the_first_and_counts_the_other():
    row = row_of([[0, 4, "B"], [0, 4, "A"]])
    assert row.spans == [(0, 4, "B")] and row.overlapping == 1


def test_touching_spans_stay_two():
    row = row_of([[4, 8, "PREFIX"], [0, 4, "PREFIX"]], text="MissMiss")
    assert row.spans == [(0, 4, "PREFIX"), (4, 8, "PREFIX")] and row.overlapping == 0


# Overlaps


def winners_of(spans: list[tuple]) -> list[tuple]:
    """Again and again take the longest (of those the earliest, of those the first given), drop what it overlaps."""
    left, won = list(spans), []
    while left:
        best = left[0]
        for span in left[1:]:
            longer = span[1] - span[0] > best[1] - best[0]
            if longer or (span[1] - span[0] == best[1] - best[0] and span[0] < best[0]):
                best = span
        won.append(best)
        left = [span for span in left if span[1] <= best[0] or span[0] >= best[1]]
    return sorted(won)


raw_spans = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 8), st.sampled_from("ABC")).map(lambda s: (s[0], s[0] + s[1], s[2])),
    max_size=15,
    unique=True,
)


@settings(max_examples=150, deadline=None)
@given(raw_spans)
@example([(0, 10, "A"), (2, 4, "B"), (8, 12, "C")])  # nested, and overlapping one that wins
@example([(0, 3, "A"), (2, 6, "B"), (5, 8, "C")])  # what lost frees nothing that the winner covers
def test_of_overlapping_spans_the_longer_wins_then_the_earlier(spans):
    assert without_overlaps(spans) == winners_of(spans)


@settings(max_examples=60, deadline=None)
@given(raw_spans)
def test_every_span_of_a_row_is_kept_or_counted(spans):
    text = ("ab c\u00a0d  e\t" * 4)[:28]
    row = row_of([list(span) for span in spans], text=text)
    kept, blank = checked_spans(text, [(*span, None) for span in spans])
    assert row.spans == winners_of(kept)
    assert (row.overlapping, row.blank) == (len(kept) - len(row.spans), blank)
    assert blank == sum(not text[start:end].strip() for start, end, _ in spans)
    assert all(text[start:end] == text[start:end].strip() for start, end, _ in row.spans)


# Refused rows

BAD_SPANS = {
    "a float as an offset": ([[0, 4.0, "A"]], "offsets that are not integers"),
    "a bool as an offset": ([[False, 4, "A"]], "offsets that are not integers"),
    "a string as an offset": ([["0", 4, "A"]], "offsets that are not integers"),
    "null as an offset": ([[0, None, "A"]], "offsets that are not integers"),
    "NaN as an offset": ([[0, float("nan"), "A"]], "offsets that are not integers"),
    "an O tile with a float": ([[0.0, 4, "O"]], "offsets that are not integers"),
    "an end beyond the text": ([[0, 34, "A"]], "offsets out of range"),
    "an end far beyond": ([[0, 10**30, "A"]], "offsets out of range"),
    "a start before the text": ([[-1, 4, "A"]], "offsets out of range"),
    "a start after the end": ([[5, 4, "A"]], "start not before end"),
    "an O tile with its start after its end": ([[5, 4, "O"]], "start not before end"),
    "an empty span": ([[4, 4, "A"]], "start not before end"),
    "no label": ([[0, 4, ""]], "a span without a label"),
    "a label of white space": ([[0, 4, " "]], "a span without a label"),
    "null as the label": ([[0, 4, None]], "a span without a label"),
    "a number as the label": ([[0, 4, 7]], "a span without a label"),
    "a label that is all suffix": ([[0, 4, "_1"]], "a span without a label"),
    "two entries": ([[0, 4]], "spans that are not [start, end, label]"),
    "four entries": ([[0, 4, "A", "B"]], "spans that are not [start, end, label]"),
    "strings as spans": (["0 4 A"], "spans that are not [start, end, label]"),
    "an object": ({"0": "A"}, "spans that are no list"),
    "null": (None, "spans that are no list"),
    "notation of a number": ("7", "spans that are no list"),
    "empty notation": ("", "span notation that is neither JSON nor Python"),
    "broken notation": ("[[0, 4, 'A'", "span notation that is neither JSON nor Python"),
    "notation with code": ("[[0, 4, print('A')]]", "span notation that is neither JSON nor Python"),
    "notation with a set of lists": ("{[]}", "span notation that is neither JSON nor Python"),
    "a huge number in notation": (f"[[0, {'9' * 5000}, 'A']]", "span notation that is neither JSON nor Python"),
    "deep notation": ("[" * 100_000, "span notation that is neither JSON nor Python"),
    "deep arithmetic": ("-" * 100_000 + "1", "span notation that is neither JSON nor Python"),
    "a null byte in notation": ("[[0, 4, 'A\0']]", "span notation that is neither JSON nor Python"),
}


@pytest.mark.parametrize(("spans", "reason"), BAD_SPANS.values(), ids=BAD_SPANS)
def test_spans_that_cannot_be_right_are_refused(spans, reason):
    with pytest.raises(RowError, match=f"^{re.escape(reason)}$"):
        row_of(spans)


def test_a_label_that_no_file_can_hold_is_refused():
    """A lone surrogate: meta.json and the skeleton are UTF-8."""
    with pytest.raises(RowError):
        parse_row(b'{"unmasked_text": "Ann", "span_labels": [[0, 3, "NAME\\ud800"]]}')


PRESIDIO_SPAN = {"entity_type": "A", "entity_value": "Dear", "start_position": 0, "end_position": 4}
MASK = {"value": "Dear", "start": 0, "end": 4, "label": "A"}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (
            {"full_text": TEXT, "spans": [{**PRESIDIO_SPAN, "entity_value": "Bear"}]},
            "a value that differs from the text",
        ),
        ({"source_text": TEXT, "privacy_mask": [{**MASK, "end": 5}]}, "a value that differs from the text"),
        ({"source_text": TEXT, "privacy_mask": [{**MASK, "value": 7}]}, "a value that differs from the text"),
        ({"source_text": TEXT, "privacy_mask": [{**MASK, "start": "0"}]}, "offsets that are not integers"),
        ({"source_text": TEXT, "privacy_mask": [{"value": "Dear", "label": "A"}]}, "offsets that are not integers"),
        ({"source_text": TEXT, "privacy_mask": [[0, 4, "A"]]}, "spans that are no list of objects"),
        ({"full_text": TEXT, "spans": "[]"}, "spans that are no list of objects"),
        ({"full_text": TEXT, "spans": None}, "spans that are no list of objects"),
        ({"full_text": None, "spans": []}, "no text"),
        ({"unmasked_text": " \n\u00a0", "span_labels": []}, "no text"),
        ({"unmasked_text": "", "span_labels": []}, "no text"),
        ({"unmasked_text": ["Dear"], "span_labels": []}, "no text"),
        ({"unmasked_text": TEXT}, "no known form"),
        ({"text": TEXT, "sentiment": []}, "no known form"),
        ({}, "no known form"),
    ],
)
def test_rows_that_cannot_be_right_are_refused(fields, reason):
    with pytest.raises(RowError, match=f"^{re.escape(reason)}$"):
        parse_row(line_of(fields))


def test_a_value_that_is_not_given_is_not_compared():
    assert parse_row(line_of({"full_text": TEXT, "spans": [{**PRESIDIO_SPAN, "entity_value": None}]})).spans


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"not JSON", "broken JSON"),
        (b'{"unmasked_text": "Ann"', "broken JSON"),
        (b'{"unmasked_text": "Ann", "span_labels": []} {}', "broken JSON"),
        (b"[" * 100_000, "broken JSON"),
        (b'{"unmasked_text": "Ann", "span_labels": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "broken JSON"),
        (b'{"unmasked_text": "Ann", "span_labels": [[0, ' + b"9" * 5000 + b', "A"]]}', "broken JSON"),
        (b'{"unmasked_text": "Ann\xe9", "span_labels": []}', "not UTF-8"),
        (b'{"unmasked_text": "Ann\xed\xa0\x80", "span_labels": []}', "not UTF-8"),
        (b'{"unmasked_text": "Ann\\ud83d", "span_labels": []}', "text with a lone surrogate"),
        (b"NaN", "not a JSON object"),
        (b'[["Ann"]]', "not a JSON object"),
        (b'"Ann"', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"unmasked_text": NaN, "span_labels": []}', "no text"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[:48].decode("latin-1"),
)
def test_broken_lines_are_refused(line, reason):
    with pytest.raises(RowError, match=f"^{reason}$"):
        parse_row(line)


def test_a_field_given_twice_counts_as_json_says_with_its_last_value():
    line = b'{"unmasked_text": "Ann", "span_labels": [[0, 9, "A"]], "span_labels": [[0, 3, "A"]]}'
    assert parse_row(line).spans == [(0, 3, "A")]


def test_a_pair_of_surrogates_is_one_character():
    assert parse_row(b'{"unmasked_text": "\\ud83d\\ude42 Ann", "span_labels": [[2, 5, "A"]]}').text == "🙂 Ann"


SECRET = f"Dear {CANARY}, hello"


@pytest.mark.parametrize(
    "line",
    [
        SECRET.encode(),
        f'{{"unmasked_text": "{SECRET}'.encode(),
        f'"{SECRET}"'.encode(),
        SECRET.encode() + b"\xff",
        f'{{"unmasked_text": "{SECRET}\\ud83d", "span_labels": []}}'.encode(),
        line_of({"text": SECRET}),
        line_of({SECRET: SECRET}),
        line_of({"unmasked_text": [SECRET], "span_labels": []}),
        *(
            line_of({"unmasked_text": SECRET, "span_labels": spans})
            for spans in (SECRET, f"[['{CANARY}']]", f"{CANARY}()", [CANARY], [[CANARY, 4, "A"]], [[0, 99, CANARY]])
        ),
        line_of({"unmasked_text": SECRET, "span_labels": [[9, 5, CANARY]]}),
        line_of({"unmasked_text": SECRET, "span_labels": [[0, 4, [CANARY]]]}),
        line_of({"full_text": SECRET, "spans": [{**PRESIDIO_SPAN, "entity_value": CANARY}]}),
        line_of({"source_text": SECRET, "privacy_mask": [CANARY]}),
        line_of({"source_text": SECRET, "privacy_mask": [{"value": CANARY, "start": 0, "end": 4, "label": "A"}]}),
    ],
)
def test_reasons_never_hold_the_text_of_the_row(line):
    with pytest.raises(RowError) as caught:
        parse_row(line)
    assert CANARY not in str(caught.value) and CANARY not in repr(caught.value.__cause__)
    assert str(caught.value) and "\n" not in str(caught.value)


# Notation

labels = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(["O", "D'O", '"', "a\\", "\n"])
span_lists = st.lists(st.lists(st.integers() | labels, max_size=4) | st.tuples(st.integers(), labels), max_size=5)


@settings(max_examples=150, deadline=None)
@given(span_lists)
@example([[0, 5, "O"], [5, 8, "PREFIX_1"]])
@example([[0, 5, "it's"], [5, 8, 'say "O"'], [8, 9, 'it\'s "O"'], [9, 10, "back\\slash"], [10, 11, "\u2028\x85\t"]])
def test_python_notation_is_read_as_python_reads_it(spans):
    assert parse_notation(repr(spans)) == ast.literal_eval(repr(spans))


@pytest.mark.parametrize(
    "notation",
    [
        r"[[0, 5, 'it\'s']]",
        r"[[0, 5, 'a\/b']]",
        r"[[0, 5, '\x41\u00e9']]",
        "[(0, 5, 'O'), (5, 8, 'A' 'B'), ]",
        "([0, 0x10, '''A'''], [1_000, -5, \"it's\"])",
        "[[0, 5, None], [True, False, 1.5]]",
        "[[0, 5, \"d'A\"], [5, 9, 'say \"x\"'], (9, 10, ''), [1, 2, \"'\"]]",
        "  []  ",
    ],
)
def test_python_notation_that_repr_would_not_write_is_read_as_python_reads_it(notation):
    assert repr(parse_notation(notation)) == repr(ast.literal_eval(notation))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers() | labels, max_size=4), max_size=5), st.booleans())
def test_json_notation_is_read_as_json_reads_it(spans, ascii_only):
    notation = json.dumps(spans, ensure_ascii=ascii_only)
    assert parse_notation(notation) == json.loads(notation)


def test_notation_longer_than_anything_real_is_refused_unread():
    with pytest.raises(RowError):
        parse_notation("[" + " " * 10_000_001 + "]")


# Language


@pytest.mark.parametrize(
    ("field", "language"),
    [
        ("en", "en"),
        ("French", "fr"),
        ("fr-CA", "fr"),
        ("EN_us", "en"),
        (" de ", "de"),
        ("", "fr"),
        (None, "fr"),
        (7, "fr"),
    ],
)
def test_language_comes_from_the_field_else_from_the_file(field, language):
    assert parse_row(line_of({"unmasked_text": TEXT, "span_labels": [], "language": field}), "fr").language == language


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("english_pii_43k.jsonl", "en"),
        ("french_pii_62k.jsonl", "fr"),
        ("pii-French.json.gz", "fr"),
        ("eds_fr.jsonl", "fr"),
        ("friends.jsonl", "und"),
        ("rows.jsonl", "und"),
    ],
)
def test_language_of_a_file_comes_from_a_word_of_its_name(tmp_path, name, language):
    assert Source(tmp_path / name).language == language


# Files


def rows_in(path) -> list[tuple]:
    """(line number, fields) of each row."""
    return [(number, json.loads(line)) for number, line in Source(path).lines()]


ROWS = [{"unmasked_text": f"row {i} Zoé\u2028\u0085", "span_labels": [[0, 3, "A"]]} for i in range(3)]
LINES = [line_of(row) for row in ROWS]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", b"\n".join(LINES) + b"\n"),
        ("rows.jsonl", b"\n".join(LINES)),
        ("rows.jsonl", b"\r\n".join(LINES) + b"\r\n"),
        ("rows.jsonl", b"\xef\xbb\xbf" + b"\n".join(LINES)),
        ("rows.jsonl.gz", gzip.compress(b"\n".join(LINES))),
        ("rows.jsonl.gz", gzip.compress(LINES[0] + b"\n") + gzip.compress(b"\n".join(LINES[1:]))),
        ("rows.json", b"[" + b",".join(LINES) + b"]"),
        ("rows.json", b"\xef\xbb\xbf \r\n[" + b",\n".join(LINES) + b"\n]\n"),
        ("rows.json", json.dumps(ROWS, indent=2).encode()),
        ("rows.json.gz", gzip.compress(json.dumps(ROWS).encode())),
        ("rows.json", b"\n".join(LINES)),
    ],
    ids=[
        "lines",
        "no last line break",
        "CRLF",
        "BOM",
        "gz",
        "gz of two",
        "list",
        "BOM list",
        "indent",
        "list gz",
        "named .json",
    ],
)
def test_every_kind_of_file_gives_the_same_rows(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert rows_in(path) == list(enumerate(ROWS, start=1))


def test_blank_lines_are_no_rows_but_count_as_lines(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n" + LINES[0] + b"\r\n\r\n \t\n" + LINES[1] + b"\n\n")
    source = Source(path)
    assert [number for number, _ in source.lines()] == [2, 5] and source.rows == 2


def test_a_source_knows_its_hash_and_rows_when_read(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n".join([*LINES, b"broken", b"\xff"])))
    source = Source(path)
    assert len(list(source.lines())) == source.rows == 5
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_empty_file_holds_no_rows(tmp_path):
    for name in ("rows.jsonl", "rows.json"):
        (tmp_path / name).write_bytes(b"")
        assert rows_in(tmp_path / name) == []
    (tmp_path / "rows.json").write_bytes(b"[]")
    assert rows_in(tmp_path / "rows.json") == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("missing.jsonl", None),
        ("rows.jsonl.gz", b"not gzip"),
        ("rows.jsonl.gz", gzip.compress(b"\n".join(LINES * 100))[:-20]),
        ("rows.jsonl.gz", gzip.compress(b"\n".join(LINES))[:12] + b"\xff" * 40),
        ("rows.json", b"[" + LINES[0]),
        ("rows.json", b"[\xff]"),
        ("rows.json", b"[" * 100_000),
    ],
    ids=["missing", "not gzip", "cut gzip", "damaged gzip", "cut list", "list not UTF-8", "deep list"],
)
def test_a_file_that_cannot_be_read_is_one_line_that_names_it(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        list(Source(tmp_path / name).lines())
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_as_a_file_is_one_line_that_names_it(tmp_path):
    with pytest.raises(UserError, match=tmp_path.name):
        list(Source(tmp_path).lines())


# Skeletons


def skeleton_of(text: str, *values: tuple[str, str]) -> str:
    """The skeleton of a text in which each (value, label) is a span."""
    return skeleton(row_of([[text.index(v), text.index(v) + len(v), label] for v, label in values], text=text))


@pytest.mark.parametrize(
    "other",
    [
        ("Hello Bo, order 17", ("Bo", "NAME")),
        ("Hello 🙂 van der Zoé, order 17", ("🙂 van der Zoé", "NAME")),
        ("hello ANN, Order 17", ("ANN", "NAME")),
        ("Hello Ann, order 918", ("Ann", "NAME")),
        ("Hello\u00a0 Ann,\norder\t17 ", ("Ann", "NAME")),
    ],
    ids=["value", "longer value", "case", "digits", "white space"],
)
def test_rows_that_differ_in_values_digits_case_and_white_space_share_a_skeleton(other):
    assert skeleton_of(*other) == skeleton_of("Hello Ann, order 17", ("Ann", "NAME"))


@pytest.mark.parametrize(
    "other",
    [
        ("Hallo Ann, order 17", ("Ann", "NAME")),
        ("Hello Ann, order 17", ("Ann", "CITY")),
        ("Hello Ann, order 17", ("order", "NAME")),
        ("Hello Ann, order 17",),
        ("Hello Ann, order 17!", ("Ann", "NAME")),
        ("Hello NAME, order 17",),
        ("Hello Ann, order 17", ("Ann", "NAME"), ("17", "ID")),
    ],
    ids=["a word", "a label", "a place", "no span", "a sign", "the label as a word", "a span more"],
)
def test_rows_that_differ_in_words_or_labels_have_other_skeletons(other):
    assert skeleton_of(*other) != skeleton_of("Hello Ann, order 17", ("Ann", "NAME"))


@pytest.mark.parametrize("depth", [100, 900, 960, 985, 999])
def test_a_deep_element_of_a_list_is_a_row_that_is_refused(tmp_path, depth):
    """Whatever can be read of it: reading and writing JSON reach their limits at different depths."""
    (tmp_path / "rows.json").write_text(f"[{json.dumps(ROWS[0])}, {'[' * depth}{']' * depth}]")
    try:
        lines = [line for _, line in Source(tmp_path / "rows.json").lines()]
    except UserError:
        return
    assert parse_row(lines[0]).text == ROWS[0]["unmasked_text"]
    with pytest.raises(RowError):
        parse_row(lines[1])


@pytest.mark.parametrize("content", ["[1 2]", "[1,]", "[,1]", "[1]]", "[1] x", "[1", "[", "[1,,2]", "[1}"])
def test_what_is_nearly_a_list_is_refused_as_json_does(tmp_path, content):
    (tmp_path / "rows.json").write_text(content)
    with pytest.raises(UserError, match=r"rows\.json"):
        list(Source(tmp_path / "rows.json").lines())


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.json"])
def test_a_row_or_a_list_without_end_is_one_line_that_names_it(tmp_path, monkeypatch, name):
    """A small archive can hold more than the memory."""
    monkeypatch.setattr(source, "LINE_BYTES", 1000)
    monkeypatch.setattr(source, "LIST_BYTES", 1000)
    start = b"[" if name == "rows.json" else LINES[0] + b"\n"
    content = start + b'"' + b"x" * 5000
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(UserError, match=re.escape(name)):
        list(Source(tmp_path / name).lines())


@pytest.mark.parametrize(
    "notation",
    [
        "[[0, 4, 'NAME']" + ", [0, 4, 'NAME']" * 10_000 + r", '\d']",
        "[" * 60 + r"'\d'" + "]" * 60,
        "-" * 50_000 + "'a'",
    ],
    ids=["long", "deep", "many signs"],
)
def test_python_notation_is_parsed_only_where_it_is_short_and_flat(notation):
    """Python's parser takes a kilobyte a number."""
    tracemalloc.start()
    with pytest.raises(RowError):
        parse_notation(notation)
    assert tracemalloc.get_traced_memory()[1] < 4 * len(notation) + 4_000_000
    tracemalloc.stop()


def test_an_odd_escape_in_python_notation_says_nothing_on_standard_error():
    with warnings.catch_warnings(action="error"):
        assert parse_notation(r"[[0, 4, 'NA\d']]") == [[0, 4, r"NA\d"]]


@pytest.mark.parametrize(
    "content",
    [r'{"A": "\ud800"}', r'{"A": "\u001b[2J"}', '{"A": ""}', '{"A": 1}', '{"A": ' + "[" * 150 + "]" * 150 + "}"],
)
def test_a_label_map_gives_only_labels_that_can_be_written(tmp_path, content):
    (tmp_path / "map.json").write_text(content)
    with pytest.raises(UserError, match=r"map\.json"):
        read_label_map(tmp_path / "map.json")


# Other encodings and packed files

ACCENTED = {"unmasked_text": "Zoé d’Œ", "span_labels": []}


def other_form(name: str, encoding: str, mark: bytes = b"") -> bytes:
    """A row in a file of that name and encoding."""
    text = json.dumps(ACCENTED, ensure_ascii=False)
    content = mark + (f"[{text}]" if ".json" in name.lower() and ".jsonl" not in name.lower() else text).encode(
        encoding
    )
    return gzip.compress(content) if name.lower().endswith(".gz") else content


@pytest.mark.parametrize("name", ["a.jsonl", "a.JSONL.GZ", "a.json", "a.JSON"])
@pytest.mark.parametrize(
    ("encoding", "mark"), [("utf-8", BYTE_ORDER_MARK), ("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")]
)
def test_a_byte_order_mark_says_how_a_file_is_read(tmp_path, name, encoding, mark):
    (tmp_path / name).write_bytes(other_form(name, encoding, mark))
    assert rows_in(tmp_path / name) == [(1, ACCENTED)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_a_file_of_another_encoding_is_refused_with_the_command_that_converts_it(tmp_path, name, encoding):
    (tmp_path / name).write_bytes(other_form(name, encoding))
    command = f"iconv -f {encoding.replace('-le', 'le').replace('-be', 'be')} -t utf-8"
    if encoding == "cp1252" and name != "a.json":  # each row is refused alone: see test_prepare
        ((_, line),) = Source(tmp_path / name).lines()
        assert command in advice(str(tmp_path / name), line)
        return
    with pytest.raises(UserError) as caught:
        rows_in(tmp_path / name)
    assert command in str(caught.value) and f"> {tmp_path}/a.utf8.json" in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "likely"),
    [
        ("L’été, « œuvre »".encode("cp1252"), "cp1252"),
        ("Hélène à Besançon".encode("latin-1"), "cp1252"),
        ("L’été à Besançon, là-bas".encode("mac_roman"), "macintosh"),
        ("Hélène à Besançon".encode("cp850"), "cp850"),
        ("é".encode() * 9 + b"\xe9" + b"x" * 20_000, ""),
        (b"\xed\xa0\x80", ""),
        (b"x" * 20_000 + b"\xe9", "cp1252"),
    ],
)
def test_the_likely_encoding_is_that_which_makes_french_of_it(raw, likely):
    assert likely_encoding(raw) == likely


def test_an_archive_says_how_to_unpack_it(tmp_path):
    for name, content, words in (
        ("a b.jsonl.bz2", bz2.compress(LINES[0]), "bunzip2 --keep"),
        ("a b.jsonl", lzma.compress(LINES[0]), "unxz --keep"),
        ("a b.jsonl", gzip.compress(LINES[0]), "name that ends with .gz"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=words) as caught:
            rows_in(tmp_path / name)
        assert name in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_label_map_may_have_a_byte_order_mark(tmp_path, encoding):
    (tmp_path / "map.json").write_bytes('{"PRÉNOM": "FIRSTNAME"}'.encode(encoding))
    assert read_label_map(tmp_path / "map.json") == {"PRÉNOM": "FIRSTNAME"}


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le"])
def test_a_label_map_of_another_encoding_is_refused_with_the_command(tmp_path, encoding):
    (tmp_path / "map.json").write_bytes('{"PRÉNOM": "FIRSTNAME"}'.encode(encoding))
    with pytest.raises(UserError, match=f"iconv -f {encoding.replace('-le', 'le')} -t utf-8"):
        read_label_map(tmp_path / "map.json")
