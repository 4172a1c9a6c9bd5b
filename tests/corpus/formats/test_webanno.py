"""WebAnno TSV 3. The documents here are as INCEpTION's serializer and its user guide write them."""

import json
import re

import pytest

from pii.corpus.formats.fields import RowError
from pii.corpus.formats.webanno import FEATURES, LAYERS
from pii.corpus.rows import Row
from pii.corpus.sources.source import Source
from tests.corpus.formats.example import SPANS, TEXT, row_of, utf_16

ENTITIES = "#T_SP=de.tudarmstadt.ukp.dkpro.core.api.ner.type.NamedEntity|identifier|value"
CUSTOM = "#T_SP=webanno.custom.PII|kind"
SPECIAL = {"\\": "\\\\", "\t": "\\t", "\r": "\\r"}


def escaped(text: str) -> str:
    return "".join(SPECIAL.get(character, character) for character in text)


def document(text: str = TEXT, spans: list = SPANS, header: str = CUSTOM, version: str = "3.3") -> str:
    """A text of one sentence; spans are cut at white space as tokens are, and a token is cut at their borders."""
    lines = [f"#FORMAT=WebAnno TSV {version}", header, "", "", *("#Text=" + escaped(t) for t in text.split("\n"))]
    for i, token in enumerate(re.finditer(r"\S+", text), 1):
        here = [(n, s, e, k) for n, (s, e, k) in enumerate(spans, 1) if s < token.end() and token.start() < e]
        whole = [f"{k}[{n}]" for n, s, e, k in here if s <= token.start() and token.end() <= e]
        parts = [(n, s, e, k) for n, s, e, k in here if s > token.start() or token.end() > e]
        lines.append(unit(f"1-{i}", token.start(), token.end(), "|".join(whole) or "_", text))
        for j, (n, s, e, k) in enumerate(parts, 1):
            lines.append(unit(f"1-{i}.{j}", max(s, token.start()), min(e, token.end()), f"{k}[{n}]", text))
    return "\n".join(lines) + "\n"


def unit(name: str, start: int, end: int, cell: str, text: str) -> str:
    first = len(text[:start].encode("utf-16-le")) // 2
    last = len(text[:end].encode("utf-16-le")) // 2
    return f"{name}\t{first}-{last}\t{text[start:end]}\t{cell}\t"


def webanno(text: str) -> Row:
    return row_of({"webanno": text})


def made(*lines: str, header: str = CUSTOM) -> str:
    return "\n".join(["#FORMAT=WebAnno TSV 3.3", header, "", "", *lines, ""])


# Read to the character


@pytest.mark.parametrize("version", ["3.1", "3.2", "3.3"])
def test_spans_are_read_to_the_character(version):
    """Accents, emoji, a carriage return, spans that touch in a token, one over several tokens and a line break."""
    spans = sorted([*SPANS, (TEXT.index("à"), TEXT.index("Saint"), "OTHER")])
    spans[-1:] = [(TEXT.index("le 12"), len(TEXT), "DATE")]
    row = webanno(document(TEXT, spans, version=version))
    assert row.text == TEXT
    assert row.spans == sorted([(s, e - 1 if k == "OTHER" else e, k) for s, e, k in spans])  # no space at an end


def test_offsets_count_utf_16_units():
    start = TEXT.index("12/03")
    assert utf_16(start) == start + 1
    assert f"\t{utf_16(start)}-{utf_16(start) + 5}\t12/03\t" in document()


def test_version_3_1_writes_other_letters_as_java_does():
    text = 'Zoé 🙂 "Lee"'
    java = '#Text=Zo\\u00E9 \\uD83D\\uDE42 \\"Lee\\"'
    units = '1-1\t0-3\tZoé\tA\t\n1-2\t4-6\t🙂\t_\t\n1-3\t7-12\t"Lee"\t_\t\n1-3.1\t8-11\tLee\tB\t'
    row = webanno(made(java, units))
    assert (row.text, row.spans) == (text, [(0, 3, "A"), (7, 10, "B")])


def test_between_sentences_is_what_inception_reads_there():
    """Nothing, a line break, or a line break and spaces."""
    lines = ["#Text=Ann.", "1-1\t2-6\tAnn.\tA\t", "", "#Text=Bo", "2-1\t6-8\tBo\tB\t", "", "#Sentence.id=s3"]
    lines += ["#Text=Lee", "3-1\t9-12\tLee\tC\t", "", "#Text=Zoé", "4-1\t15-18\tZoé\tD\t"]
    row = webanno(made(*lines))
    assert row.text == "  Ann.Bo\nLee\n  Zoé"
    assert row.spans == [(2, 6, "A"), (6, 8, "B"), (9, 12, "C"), (15, 18, "D")]


def test_a_span_may_go_over_sentences_and_neighbours_of_one_label_stay_apart():
    lines = ["#Text=Ann Bo", "1-1\t0-3\tAnn\tA\t", "1-2\t4-6\tBo\tA[1]\t", "", "#Text=Lee", "2-1\t7-10\tLee\tA[1]\t"]
    assert webanno(made(*lines)).spans == [(0, 3, "A"), (4, 10, "A")]


def test_of_stacked_spans_the_longest_counts_as_of_others():
    lines = ["#Text=Ms. Haag", "1-1\t0-3\tMs.\tPER[1]|PART[2]\t", "1-2\t4-8\tHaag\tPER[1]\t"]
    row = webanno(made(*lines))
    assert row.spans == [(0, 8, "PER")] and row.overlapping == 1


def test_a_part_of_a_token_ends_where_it_ends_though_its_token_is_listed_too():
    """As some versions of INCEpTION wrote it; its reader takes the last end."""
    lines = ["#Text=Haags", "1-1\t0-5\tHaags\tPER[1]\t", "1-1.1\t0-4\tHaag\tPER[1]\t"]
    assert webanno(made(*lines)).spans == [(0, 4, "PER")]


@pytest.mark.parametrize(
    ("cell", "label"),
    [(r"A\_B", "A_B"), (r"A\|B", "A|B"), (r"A\[1\]", "A[1]"), (r"A\\[1]", "A\\"), (r"A\->B\;\*", "A->B;*")],
)
def test_reserved_characters_in_labels_are_unescaped(cell, label):
    assert webanno(made("#Text=Ann", f"1-1\t0-3\tAnn\t{cell}\t")).spans == [(0, 3, label)]


def test_libraries_that_escape_tokens_and_end_no_line_with_a_tab_are_read():
    row = webanno(made(r"#Text=a\_b \[Ann\]", r"1-1	0-3	a\_b	_", r"1-2	4-9	\[Ann\]	A"))
    assert (row.text, row.spans) == ("a_b [Ann]", [(4, 9, "A")])


def test_line_ends_of_windows_are_none_of_the_text(tmp_path):
    (tmp_path / "a.tsv").write_bytes(document().replace("\n", "\r\n").encode())
    ((_, line),) = Source(tmp_path / "a.tsv").lines()
    row = row_of(json.loads(line))
    assert (row.text, row.spans) == (TEXT, SPANS)


# Which column holds the labels

OTHERS = "\n".join(
    [
        "#T_SP=de.tudarmstadt.ukp.dkpro.core.api.lexmorph.type.pos.POS|PosValue|coarseValue",
        ENTITIES,
        "#T_SP=webanno.custom.Doubt|",
        "#T_SP=webanno.custom.Frame|ROLE_webanno.custom.Frame:Roles_webanno.custom.FrameRolesLink|uima.tcas.Annotation",
        "#T_CH=webanno.custom.CorefLink|referenceType|referenceRelation",
        "#T_RL=webanno.custom.Knows|kind|BT_webanno.custom.PII",
    ]
)


def test_the_layer_with_labels_is_taken_from_among_others():
    cells = "NNP\tPROPN\t*\tPER\t*\tseller\t1-1\tpr[1]\tcoref->1-1\tknows\t1-1"
    lines = "#Text=Ann Lee", f"1-1\t0-3\tAnn\t{cells}\t", "1-2\t4-7\tLee" + "\t_" * 11 + "\t"
    row = webanno(made(*lines, header=OTHERS))
    assert row.spans == [(0, 3, "PER")]


@pytest.mark.parametrize(
    "header",
    ["", "#T_SP=de.tudarmstadt.ukp.dkpro.core.api.lexmorph.type.pos.POS|PosValue"],
    ids=["no annotation", "parts of speech alone"],
)
def test_a_document_without_labels_is_a_text_without_spans(header):
    cell = "NNP\t" if header else ""
    row = webanno(made("#Text=Ann", f"1-1\t0-3\tAnn\t{cell}", header=header))
    assert (row.text, row.spans) == ("Ann", [])


def test_of_several_features_the_one_called_value_counts():
    unit = "1-1\t0-3\tAnn\thttp://a/Q1\tPER\t"
    assert webanno(made("#Text=Ann", unit, header=ENTITIES)).spans == [(0, 3, "PER")]
    with pytest.raises(RowError, match=FEATURES):
        webanno(made("#Text=Ann", unit, header=ENTITIES.replace("value", "kind")))


def test_several_layers_with_labels_are_refused_until_the_header_says_which():
    header = CUSTOM + "\n#T_SP=webanno.custom.Grade|grade"
    lines = ("#Text=Ann", "1-1\t0-3\tAnn\tPER\tgood\t")
    with pytest.raises(RowError, match=LAYERS):
        webanno(made(*lines, header=header))
    chosen = header.replace("#T_SP=webanno.custom.Grade", "#T_RL=webanno.custom.Grade")
    assert webanno(made(*lines, header=chosen)).spans == [(0, 3, "PER")]


# What cannot be right

WHOLE = document()
POINTS = WHOLE.replace(f"\t{utf_16(6)}-", "\t6-")  # Lee begins behind the emoji


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (WHOLE[: WHOLE.index("1-5\t")], "goes on behind its last token"),
        (WHOLE[: WHOLE.index("1-5\t") + 6], "no token with a cell for each column"),
        (WHOLE[: WHOLE.index("1-1\t")], "a sentence without tokens"),
        (WHOLE.replace("#Text=", "#Test="), "tokens without a line #Text="),
        (WHOLE.replace("\tLee\t", "\tLea\t"), "a token that differs from the text"),
        (WHOLE.replace("\t4-6\t", "\t4-5\t"), "an offset beyond the text or inside a character"),
        (WHOLE.replace("-3\tZoé", "-999\tZoé"), "an offset beyond the text or inside a character"),
        (POINTS, "a token that differs from the text at its offsets in UTF-16 units"),
        (made("#Text=Ann", "1-1\t99999999999-3\tAnn\tA\t"), "does not start where its text does"),
        (made("#Text=Ann", "1-1\t0-3\tAnn\tA\t", "", "#Text=Bo", "2-1\t2-4\tBo\tA\t"), "does not start where"),
        (made("#Text=Ann", "1-1\t0-3\tAnn\tA\tB\t"), "a token that differs from the text"),
        (made("#Text=Ann", "1-1\t0-3\tAnn\t*\t"), "a span without a label"),
        (made("#Text=Ann", "1-1\t0-3\tAnn\tA\t", "1-1.1\t3-3\t\tB\t"), "start not before end"),
        (made(r"#Text=A\uD83Dn", "1-1\t0-3\tA\ud83dn\tA\t"), "lone surrogate"),
        (made(), "no text"),
    ],
)
def test_documents_that_cannot_be_right_say_why(text, reason):
    with pytest.raises(RowError, match=reason):
        webanno(text)
