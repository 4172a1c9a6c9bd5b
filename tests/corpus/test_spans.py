"""Alignment against a plain loop over tokens, spans and bytes, which shares no code with spans.py."""

import sys
from itertools import pairwise
from unicodedata import category

import numpy as np
import pytest
import regex
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pii.corpus import rows, spans, tekken

FAMILY = "👨\u200d👩\u200d👧"  # one emoji for the eye, five code points, eighteen bytes
FRAGMENTS = [
    *("Hello", " John", "Smith", "@example.com", "straße", "Ωmega", "a", "Z", " ", "  ", "\t", "\n", "\r\n", "\u2028"),
    *("\u00a0", "\u202f", "\u3000", "\u0085", "\x1c", "\u200b", "\ufeff", "0", "42", "06 12 34 56 78", "٣٤", ",", "— "),
    *("é", "e\u0301", "ñ", "n\u0303\u0323", "नमस्ते", "한국어", "กำ", "张伟", "北京市", "محمد", "سَلَام", "שלום"),
    *(".", ".,", "/.", " (", ")!", "://", "'", "’", "d'Angers", "-", ":", ".com/.", " Ltd.,", "12:30", "12,5"),
    *("🙂", FAMILY, "👍🏽", "🇫🇷", "❤\ufe0f", "𝔘", "\U000e0001", "<s>", "[INST]", "\0"),
]
PUNCTUATION = {chr(point) for point in spans.PUNCTUATION}
LABELS = ["O", "NAME", "CITY", "EMAIL"]

texts_of = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=3)), max_size=12).map("".join)


@st.composite
def texts_with_spans(draw, max_texts: int = 3):
    """Some texts, and for each the rows [start, end, label id] left of raw spans that nest, overlap and touch."""
    texts, spans_of = [], []
    for _ in range(draw(st.integers(0, max_texts))):
        text = draw(texts_of)
        ends = st.tuples(st.integers(0, len(text)), st.integers(0, len(text))).map(sorted)
        raw = [(start, end, draw(st.sampled_from(LABELS[1:])), None) for start, end in draw(st.lists(ends, max_size=8))]
        kept, _ = rows.checked_spans(text, [span for span in raw if span[0] < span[1]])
        texts.append(text)
        spans_of.append([(start, end, LABELS.index(label)) for start, end, label in rows.without_overlaps(kept)])
    return texts, spans_of


# The oracle


def pieces_of(texts: list[str]) -> list[list[bytes]]:
    """The pieces of each text's tokens."""
    encoded = tekken.load().encode(texts)
    ids = iter(encoded.token_ids.tolist())
    return [[tekken.load().pieces[next(ids)] for _ in range(count)] for count in encoded.token_counts]


def bytes_to_characters(text: str) -> list[int]:
    """For each UTF-8 byte of the text the index of its character."""
    characters = []
    for index, character in enumerate(text):
        characters += [index] * len(character.encode("utf-8"))
    return characters


def loop_over_tokens(text: str, pieces: list[bytes], spans_of_text: list[tuple]) -> list[tuple]:
    """(label id, begin, character start, character end) of each token."""
    character_of = bytes_to_characters(text)
    result, position, begun = [], 0, set()
    for piece in pieces:
        characters = [character_of[byte] for byte in range(position, position + len(piece))]
        position += len(piece)
        solid = [index for index in characters if not text[index].isspace()]
        winner, most = None, 0
        for number, (start, end, _) in enumerate(spans_of_text):
            covered = sum(start <= index < end for index in solid)
            if covered > most:
                winner, most = number, covered
            if not solid and all(start <= index < end for index in characters):
                winner = number
        label = 0 if winner is None else spans_of_text[winner][2]
        result.append((label, winner is not None and winner not in begun, characters[0], characters[-1] + 1))
        begun.add(winner)
    assert position == len(character_of)
    return result


def loop_over_tags(text: str, tags: list[tuple], with_begins: bool) -> list[tuple]:
    """The spans that tags (label id, begin, character start, character end) of one text stand for."""
    runs, open_label = [], 0
    for label, begin, start, end in tags:
        if label != 0 and label == open_label and not (begin and with_begins):
            runs[-1][1].append((start, end))
        elif label != 0:
            runs.append((label, [(start, end)]))
        open_label = label
    result, taken = [], 0
    for label, tokens in runs:
        inside = list(range(max(tokens[0][0], taken), tokens[-1][1]))  # a split character goes to the earlier span
        taken = max(taken, tokens[-1][1])
        while inside and text[inside[0]].isspace():
            inside.pop(0)
        while inside and text[inside[-1]].isspace():
            inside.pop()
        first_is_glue = inside and starts_with_glue(text, inside[0], tokens[0][1])
        last_is_mark = inside and ends_with_mark(text, tokens[-1][0], inside[-1] + 1)
        inside = inside[1:] if first_is_glue else inside
        inside = inside[:-1] if last_is_mark else inside
        if inside:
            result.append((inside[0], inside[-1] + 1, label))
    return result


def starts_with_glue(text: str, start: int, token_end: int) -> bool:
    """The token holds a mark and a word, as `'Ang` of "d'Angers", and a word stands right before."""
    held = text[start:token_end]
    before = text[start - 1 : start]
    is_word = len(held) > 1 and not held[1].isspace() and held[1] not in PUNCTUATION
    return is_word and held[0] in "-'’.:" and before != "" and not before.isspace()


def ends_with_mark(text: str, token_start: int, end: int) -> bool:
    """The token ends with several marks, as `/.` of "https://example.com/.", and the last ends a sentence."""
    held = text[token_start:end]
    return len(held) > 1 and held[-1] in ".,;:!?" and held[-2] in PUNCTUATION


# The code under test, in the oracle's terms


def arrays_of(texts: list[str], pieces: list[list[bytes]], spans_of: list[list]) -> tuple:
    """What `tag_tokens` takes."""
    lengths = [len(piece) for of_text in pieces for piece in of_text]
    return (
        spans.JoinedText.of(texts),
        np.array([len(of_text) for of_text in pieces], dtype=np.int64),
        np.array([0, *np.cumsum(lengths)], dtype=np.int64),
        np.array([span for of_text in spans_of for span in of_text], dtype=np.int32).reshape(-1, 3),
        np.array([len(of_text) for of_text in spans_of], dtype=np.int64),
    )


def tags_of(texts: list[str], pieces: list[list[bytes]], spans_of: list[list]) -> list[list[tuple]]:
    """tag_tokens, as one list of (label id, begin, character start, character end) a text."""
    tags = spans.tag_tokens(*arrays_of(texts, pieces, spans_of))
    assert [column.dtype for column in tags] == [np.uint16, np.bool_, np.uint32, np.uint32]
    entries = iter(zip(*(column.tolist() for column in tags), strict=True))
    result = [[next(entries) for _ in of_text] for of_text in pieces]
    assert next(entries, None) is None
    return result


def spans_back(texts: list[str], tags: list[list[tuple]], with_begins: bool) -> list[list[tuple]]:
    """spans_of_tags, as one list of (start, end, label id) a text."""
    flat = [tag for of_text in tags for tag in of_text]
    label_ids, begins, starts, ends = (
        np.array([tag[column] for tag in flat], dtype)
        for column, dtype in enumerate((np.uint16, np.bool_, np.uint32, np.uint32))
    )
    counts = np.array([len(of_text) for of_text in tags], dtype=np.int64)
    found, found_counts = spans.spans_of_tags(
        spans.JoinedText.of(texts), counts, label_ids, starts, ends, begins if with_begins else None
    )
    assert found.dtype == np.int32 and found.shape == (sum(found_counts), 3) and len(found_counts) == len(texts)
    entries = iter(map(tuple, found.tolist()))
    return [[next(entries) for _ in range(count)] for count in found_counts]


def assert_agrees(texts: list[str], pieces: list[list[bytes]], spans_of: list[list]) -> list[list[tuple]]:
    """Tags, and the spans made of them, are those of the plain loops. Returns the tags."""
    tags = tags_of(texts, pieces, spans_of)
    for text, of_text, spans_of_text, found in zip(texts, pieces, spans_of, tags, strict=True):
        assert found == loop_over_tokens(text, of_text, spans_of_text)
    for with_begins in (False, True):
        expected = [loop_over_tags(text, found, with_begins) for text, found in zip(texts, tags, strict=True)]
        assert spans_back(texts, tags, with_begins) == expected
    return tags


# Tokens


def test_documented_example_comes_out_as_documented():
    text = "Hello John Smith, email: john@example.com"
    pieces = pieces_of([text])
    [tags] = assert_agrees([text], pieces, [[(6, 16, 1), (24, 40, 2)]])
    assert b"|".join(pieces[0]).decode() == "Hello| John| Smith|,| email|:| j|ohn|@example|.com"
    names = ["O", "PERSON", "EMAIL"]
    assert [names[label] for label, *_ in tags] == ["O", "PERSON", "PERSON", "O", "O", "O"] + ["EMAIL"] * 4
    assert [begin for _, begin, *_ in tags] == [False, True, False, False, False, False, True, False, False, False]


@pytest.mark.parametrize(
    ("text", "pieces", "spans_of_text", "labels", "begins"),
    [
        pytest.param("abcd", ["abcd"], [(1, 3, 1)], [1], [1], id="span in the middle of a token"),
        pytest.param("abcde", ["abcde"], [(0, 2, 1), (2, 5, 2)], [2], [1], id="two spans, the larger share wins"),
        pytest.param("abcd", ["abcd"], [(0, 2, 1), (2, 4, 2)], [1], [1], id="two spans, the earlier wins a tie"),
        pytest.param("abcdef", ["abcdef"], [(0, 1, 1), (2, 4, 2), (4, 6, 3)], [2], [1], id="three spans in a token"),
        pytest.param("éab", ["éab"], [(0, 1, 1), (1, 2, 2)], [1], [1], id="bytes count, not characters"),
        pytest.param("a b", ["a", " ", "b"], [(0, 3, 1)], [1, 1, 1], [1, 0, 0], id="white space inside a span"),
        pytest.param("a b", ["a", " ", "b"], [(0, 1, 1), (2, 3, 1)], [1, 0, 1], [1, 0, 1], id="white space between"),
        pytest.param("a  b", ["a", "  ", "b"], [(0, 2, 1)], [1, 0, 0], [1, 0, 0], id="white space half inside"),
        pytest.param("a   b", ["a   b"], [(0, 4, 1), (4, 5, 2)], [1], [1], id="white space does not count"),
        pytest.param(" \u00a0x", [" \u00a0x"], [(2, 3, 1)], [1], [1], id="leading white space does not matter"),
        pytest.param("🙂🙂", [b"\xf0\x9f", b"\x99\x82", "🙂"], [(0, 1, 1)], [1, 1, 0], [1, 0, 0], id="split emoji"),
        pytest.param(
            "🙂b", [b"\xf0\x9f\x99", b"\x82b"], [(0, 1, 1), (1, 2, 2)], [1, 1], [1, 0], id="emoji's last byte"
        ),
        pytest.param("🙂bc", [b"\xf0\x9f\x99", b"\x82bc"], [(0, 1, 1), (1, 3, 2)], [1, 2], [1, 1], id="emoji in part"),
        pytest.param(
            "a\u00a0b", [b"a", b"\xc2", b"\xa0b"], [(0, 3, 1)], [1, 1, 1], [1, 0, 0], id="split no-break space"
        ),
        pytest.param("ab", ["ab"], [], [0], [0], id="no spans"),
        pytest.param("", [], [], [], [], id="no text"),
    ],
)
def test_a_token_takes_the_label_of_the_span_that_covers_most_of_it(text, pieces, spans_of_text, labels, begins):
    pieces = [piece if isinstance(piece, bytes) else piece.encode() for piece in pieces]
    [tags] = assert_agrees([text], [pieces], [spans_of_text])
    assert [label for label, *_ in tags] == labels
    assert [int(begin) for _, begin, *_ in tags] == begins


def test_no_texts_at_all_give_empty_arrays():
    assert tags_of([], [], []) == [] and spans_back([], [], True) == []
    assert assert_agrees(["", "", ""], [[], [], []], [[], [], []]) == [[], [], []]


def test_offsets_of_each_text_start_at_zero_and_spans_stay_in_their_text():
    texts = ["", "Ann", "", "Ann Lee"]
    spans_of = [[], [(0, 3, 1)], [], [(0, 3, 1), (4, 7, 1)]]
    tags = assert_agrees(texts, pieces_of(texts), spans_of)
    assert [[tag[2] for tag in of_text][:1] for of_text in tags] == [[], [0], [], [0]]
    assert spans_back(texts, tags, with_begins=False) == [[], [(0, 3, 1)], [], [(0, 7, 1)]]
    assert spans_back(texts, tags, with_begins=True) == spans_of


@settings(max_examples=150, deadline=None)
@given(texts_with_spans())
@example(([FAMILY + "Jo"], [[(0, 1, 1), (1, 3, 2), (3, 7, 1)]]))
@example((["Pakistan Rupee746,208.95", "MissMiss"], [[(0, 14, 1), (14, 24, 2)], [(0, 4, 1), (4, 8, 1)]]))
def test_tekken_tokens_are_tagged_as_a_plain_loop_tags_them(case):
    texts, spans_of = case
    assert_agrees(texts, pieces_of(texts), spans_of)


@settings(max_examples=150, deadline=None)
@given(texts_with_spans(), st.data())
def test_tokens_that_cut_anywhere_are_tagged_as_a_plain_loop_tags_them(case, data):
    texts, spans_of = case
    pieces = []
    for text in texts:
        raw = text.encode()
        cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1), max_size=12))) if len(raw) > 1 else []
        pieces.append([raw[i:j] for i, j in zip([0, *cuts], [*cuts, len(raw)], strict=True) if raw])
    assert_agrees(texts, pieces, spans_of)


# Spans


def test_neighbouring_values_of_one_label_stay_apart_with_begin_bits_and_merge_without():
    texts = ["MissMiss", "Ann Lee met", "12.50 EUR 3"]
    pieces = [[b"Miss", b"Miss"], [b"Ann", b" Lee", b" met"], [b"12", b".50", b" EUR", b" 3"]]
    spans_of = [[(0, 4, 1), (4, 8, 1)], [(0, 3, 1), (4, 7, 1)], [(0, 5, 2), (6, 9, 2), (10, 11, 3)]]
    tags = assert_agrees(texts, pieces, spans_of)
    assert spans_back(texts, tags, with_begins=True) == spans_of
    assert spans_back(texts, tags, with_begins=False) == [[(0, 8, 1)], [(0, 7, 1)], [(0, 9, 2), (10, 11, 3)]]


def test_tokens_of_touching_spans_stay_apart():
    texts = ["Pakistan Rupee746,208.95", "MissMiss"]
    spans_of = [[(0, 14, 1), (14, 24, 2)], [(0, 4, 3), (4, 8, 3)]]
    tags = assert_agrees(texts, pieces_of(texts), spans_of)
    assert spans_back(texts, tags, with_begins=True) == spans_of


def test_an_emoji_shared_by_two_spans_goes_to_the_earlier_one():
    tags = [[(1, True, 0, 1), (2, True, 0, 2)]]  # as a model may tag the two halves of one emoji
    assert spans_back(["🙂b"], tags, with_begins=True) == [[(0, 1, 1), (1, 2, 2)]]
    tags = [[(1, True, 0, 1), (2, True, 0, 1)]]
    assert spans_back(["🙂b"], tags, with_begins=True) == [[(0, 1, 1)]]


def test_white_space_at_the_edges_of_a_span_is_trimmed_and_a_span_of_nothing_else_dropped():
    text = " \u00a0Ann\t\u202f \n"
    assert spans_back([text], [[(1, True, 0, len(text))]], with_begins=True) == [[(2, 5, 1)]]
    assert spans_back([text], [[(1, True, 0, 2), (0, False, 2, 5), (2, True, 5, 9)]], with_begins=True) == [[]]


@settings(max_examples=150, deadline=None)
@given(st.lists(texts_of, max_size=3), st.data())
def test_any_tags_give_the_spans_of_a_plain_loop(texts, data):
    """Tags as a model may predict them: any label on any token, a begin bit on any, O included."""
    tags = []
    for text, pieces in zip(texts, pieces_of(texts), strict=True):
        places = [(start, end) for _, _, start, end in loop_over_tokens(text, pieces, [])]
        tag = st.tuples(st.integers(0, 2), st.booleans())
        drawn = data.draw(st.lists(tag, min_size=len(places), max_size=len(places)))
        tags.append([(*tag, *place) for tag, place in zip(drawn, places, strict=True)])
    for with_begins in (False, True):
        expected = [loop_over_tags(text, of_text, with_begins) for text, of_text in zip(texts, tags, strict=True)]
        assert spans_back(texts, tags, with_begins) == expected


@pytest.mark.parametrize(
    ("text", "pieces", "tokens", "value"),
    [
        ("at https://a.com/.", ["at", " https", "://", "a", ".com", "/."], slice(1, 6), "https://a.com/"),
        ("Miller Ltd., London", ["Miller", " Ltd", ".,", " London"], slice(0, 3), "Miller Ltd."),
        ("Miller Ltd. in", ["Miller", " Ltd", ".", " in"], slice(0, 3), "Miller Ltd."),
        ("d'Angers", ["d", "'Ang", "ers"], slice(1, 3), "Angers"),
        ("d’Angers", ["d", "’Ang", "ers"], slice(1, 3), "Angers"),
        ("le 'Ang", ["le", " 'Ang"], slice(1, 2), "'Ang"),
        ("'Ang", ["'Ang"], slice(0, 1), "'Ang"),
        ("a.b.com", ["a", ".b", ".com"], slice(0, 3), "a.b.com"),
    ],
)
def test_marks_that_a_token_holds_beyond_the_value_are_trimmed(text, pieces, tokens, value):
    places = [(start, end) for _, _, start, end in loop_over_tokens(text, [piece.encode() for piece in pieces], [])]
    inside = range(len(pieces))[tokens]
    tags = [(int(i in inside), i == inside[0], *place) for i, place in enumerate(places)]
    [[(start, end, _)]] = spans_back([text], [tags], with_begins=True)
    assert text[start:end] == value


@settings(max_examples=100, deadline=None)
@given(st.lists(texts_of, max_size=3), st.data())
def test_spans_that_end_where_tokens_end_come_back_exactly(texts, data):
    """But for those that start or end with punctuation, which may belong to the sentence."""
    spans_of = []
    for text, pieces in zip(texts, pieces_of(texts), strict=True):
        tokens = loop_over_tokens(text, pieces, [])
        starts_after = [min([start for *_, start, _ in tokens[i:]] or [len(text)]) for i in range(len(tokens) + 1)]
        edges = {0, *(end for (*_, end), start in zip(tokens, starts_after[1:], strict=True) if start >= end)}
        cuts = sorted(data.draw(st.sets(st.sampled_from(sorted(edges)), max_size=8)))
        raw = [(i, j, data.draw(st.sampled_from(LABELS[1:])), None) for i, j in pairwise(cuts)]
        kept, _ = rows.checked_spans(text, raw)
        values = [span for span in kept if PUNCTUATION.isdisjoint((text[span[0]], text[span[1] - 1]))]
        spans_of.append([(start, end, LABELS.index(label)) for start, end, label in values])
    tags = tags_of(texts, pieces_of(texts), spans_of)
    assert spans_back(texts, tags, with_begins=True) == spans_of


# Whole words


def inside_word(text: str, place: int) -> bool:
    """Whether a place cuts what is read as one character (by the regex library), or stands between two letters or two
    digits, invisible characters aside."""
    if not 0 < place < len(text):
        return False
    left, right = text[:place], text[place:]
    clusters = [match.start() for match in regex.finditer(r"\X", text)]
    mark = r"[\p{M}\u200c\u200d\p{EMod}]"
    if (
        place not in clusters
        or left[-1] == "\u200d"
        or (regex.search(r"(?!\u200b)\p{Cf}\Z", left) and regex.match(mark, right))
    ):
        return not regex.match(r"[\s\u200b]", right) and not regex.search(r"[\s\u200b]\Z", left)
    hidden = rf"(?:{mark}|(?!\u200b)\p{{Cf}})*"
    for kind in (r"[\p{Lu}\p{Ll}\p{Lt}\p{Lm}\p{Lowercase}\p{Uppercase}]", r"\p{Nd}"):
        if regex.search(rf"{kind}{hidden}\Z", left) and regex.match(rf"{hidden}{kind}", right):
            return True
    return bool(regex.search(r"\p{RI}\Z", left) and regex.match(r"\p{RI}", right))


def widened(text: str, spans_of_text: list) -> list:
    """Character by character: each span first to the right, up to the next one, then to the left; then those of one
    label that touch inside a word are one."""
    grown = [list(span) for span in spans_of_text]
    for i, span in enumerate(grown):
        limit = spans_of_text[i + 1][0] if i + 1 < len(grown) else len(text)
        while span[1] < limit and inside_word(text, span[1]):
            span[1] += 1
    for i, span in enumerate(grown):
        limit = grown[i - 1][1] if i else 0
        while span[0] > limit and inside_word(text, span[0]):
            span[0] -= 1
    whole: list = []
    for start, end, label in grown:
        if whole and whole[-1][1:] == [start, label] and inside_word(text, start):
            whole[-1][1] = end
        else:
            whole.append([start, end, label])
    return whole


WORDS = {
    "an address": ("to louis@example.com", (4, 20), "louis@example.com"),
    "touching prefix": ("Mx.Kendra at", (0, 4), "Mx.Kendra"),
    "number": ("no. 12345.", (5, 7), "12345"),
    "an apostrophe ends a word": ("d'Angers", (2, 4), "Angers"),
    "a letter and a digit are two words": ("Rupee746", (5, 6), "746"),
    "without capitals no spaces are to be expected between words": ("北京市", (0, 1), "北"),
    "decomposed accent": ("à François,", (2, 6), "François"),
    "decomposed accent at the end": ("René est", (0, 4), "René"),
    "several marks": ("Nguye\u0302\u0303n x", (0, 5), "Nguye\u0302\u0303n"),
    "soft hyphen": ("Müller\u00adMeier x", (0, 3), "Müller\u00adMeier"),
    "soft hyphen at the end": ("Müller\u00ad x", (0, 3), "Müller"),
    "word joiner": ("Mül\u2060ler x", (0, 3), "Mül\u2060ler"),
    "mark of direction in a word": ("Mül\u200eler", (5, 7), "Mül\u200eler"),
    "joiners": ("x Mül\u200cler\u200dova", (2, 4), "Mül\u200cler\u200dova"),
    "a space of no width parts words": ("Ann\u200bBob", (0, 1), "Ann"),
    "title-case digraph": ("to ǅemal x", (3, 4), "ǅemal"),
    "title-case digraph before": ("to ǅemal x", (4, 8), "ǅemal"),
    "modifier apostrophe": ("OʼNeil x", (2, 4), "OʼNeil"),
    "variation selector": ("ok ☎\ufe0f 12", (3, 4), "☎\ufe0f"),
    "keycap": ("1\ufe0f\u20e3 x", (0, 1), "1\ufe0f\u20e3"),
    "skin tone": ("👍🏽 x", (0, 1), "👍🏽"),
    "family": ("a 👩\u200d👩\u200d👧 b", (4, 5), "👩\u200d👩\u200d👧"),
    "flag": ("🇫🇷 x", (0, 1), "🇫🇷"),
    "flag of tags": ("🏴\U000e0067\U000e0062\U000e007f x", (0, 1), "🏴\U000e0067\U000e0062\U000e007f"),
    "Devanagari": ("कि x", (0, 1), "कि"),
    "Hangul parts": ("각 x", (0, 1), "각"),
    "a mark on a space": ("a \u0301b", (3, 4), "b"),
}


@pytest.mark.parametrize("text, span, word", WORDS.values(), ids=WORDS)
def test_a_span_is_widened_to_the_words_that_it_cuts(text, span, word):
    found, counts = spans.whole_words(spans.JoinedText.of([text]), np.array([[*span, 1]]), np.array([1]))
    assert [text[start:end] for start, end, _ in found.tolist()] == [word] and counts.tolist() == [1]
    assert widened(text, [[*span, 1]]) == found.tolist()


@pytest.mark.parametrize(
    "text, drawn, whole",
    [
        ("Lefèvre", [(0, 3, 1), (3, 7, 1)], [[0, 7, 1]]),
        ("Lefèvre", [(0, 2, 1), (5, 7, 1)], [[0, 7, 1]]),
        ("Lefèvre", [(0, 3, 1), (3, 7, 2)], [[0, 3, 1], [3, 7, 2]]),
        ("12Main", [(0, 2, 1), (2, 6, 1)], [[0, 2, 1], [2, 6, 1]]),
        ("Ann-Lee", [(0, 3, 1), (4, 7, 1)], [[0, 3, 1], [4, 7, 1]]),
        ("abcdef", [(0, 1, 1), (2, 3, 1), (5, 6, 1)], [[0, 6, 1]]),
    ],
)
def test_neighbours_of_one_label_in_one_word_are_one_span(text, drawn, whole):
    found, counts = spans.whole_words(spans.JoinedText.of([text]), np.array(drawn), np.array([len(drawn)]))
    assert found.tolist() == whole == widened(text, drawn) and counts.tolist() == [len(whole)]


@settings(deadline=None)
@given(texts_with_spans())
def test_whole_words_are_those_of_a_plain_loop(drawn):
    texts, spans_of = drawn
    flat = np.array([span for own in spans_of for span in own], dtype=np.int32).reshape(-1, 3)
    joined = spans.JoinedText.of(texts)
    found, counts = spans.whole_words(joined, flat, np.array([len(own) for own in spans_of], dtype=int))
    expected = [widened(text, own) for text, own in zip(texts, spans_of, strict=True)]
    assert found.tolist() == [span for own in expected for span in own] and counts.tolist() == [*map(len, expected)]


PIECES = st.sampled_from([*"aéÉǅʼºⅧ1٣👩🏽🇫北'", "कि", *"\u0301\u0327\u20e3\ufe0f\u200d\u200c\u200b\u00ad\u200e"])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(PIECES | st.sampled_from(" \n"), max_size=8).map("".join), max_size=4))
@example(["🇫\u0301🇫", "🇫\u00ad🇫🇷"])
def test_word_borders_are_those_of_a_plain_loop_alone_and_beside_other_texts(texts):
    assume(not any(regex.search(r"[\s\u200b][\p{M}\p{EMod}\u200c\u200d]", text) for text in texts))  # marks of nothing
    joined = spans.JoinedText.of(texts)
    borders = spans.word_borders(joined.points, joined.starts)
    for text, start in zip(texts, joined.starts.tolist(), strict=False):
        expected = [not inside_word(text, place) for place in range(1, len(text))]
        assert borders[start + 1 : start + len(text)].tolist() == expected
        assert [not spans.in_word(text, place) for place in range(1, len(text))] == expected
    assert borders[joined.starts].all()


# BIO tags


def test_documented_tags_are_o_then_begin_and_continuation_of_each_label():
    label_ids = np.array([0, 1, 1, 1, 2, 56, 56], dtype=np.uint16)
    begins = np.array([0, 1, 0, 1, 1, 1, 0], dtype=bool)
    assert spans.bio_tags(label_ids, begins).tolist() == [0, 1, 2, 1, 3, 111, 112]
    assert spans.bio_tags(label_ids[:1], np.array([True])).tolist() == [0]


@given(st.lists(st.tuples(st.integers(0, 300), st.booleans()), max_size=20))
def test_labels_and_begins_come_back_from_bio_tags(tokens):
    label_ids = np.array([label for label, _ in tokens], dtype=np.uint16)
    begins = np.array([begin and label > 0 for label, begin in tokens], dtype=bool)
    tags = spans.bio_tags(label_ids, begins)
    labels_back, begins_back = spans.labels_of_tags(tags), spans.begins_of_tags(tags)
    assert (tags.dtype, labels_back.dtype, begins_back.dtype) == (np.uint16, np.uint16, np.bool_)
    assert np.array_equal(labels_back, label_ids) and np.array_equal(begins_back, begins)


def test_no_character_beyond_those_that_are_looked_at_is_a_letter_a_digit_or_a_mark():
    """The table of kinds leaves out planes that hold nothing but private and unassigned characters."""
    seen = {*range(spans.FEW_POINTS), *range(*spans.FEW_MARKS)}
    beyond = [chr(point) for point in range(sys.maxunicode + 1) if point not in seen]
    assert {category(character) for character in beyond} <= {"Cn", "Co"}
    assert not any(spans.has_case(character) for character in beyond)
