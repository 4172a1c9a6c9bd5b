"""Columns, tables, Parquet and spaCy's files: each is known by what it holds, and a bad one says where and why."""

import csv
import gzip
import hashlib
import io
import json
import sys
import zlib

import pytest

from pii.common import UserError
from pii.corpus.rows import Row, parse_row
from pii.corpus.sources import source
from pii.corpus.sources.source import Source
from tests.corpus.formats.example import SPANS, TEXT
from tests.corpus.formats.test_webanno import document

OTHER = "Bo, 7 €\nin Oslo"
ROWS = [(TEXT, SPANS), (OTHER, [(0, 2, "NAME")]), ("no spans\r\nhere", [])]


def rows_of(path) -> list[tuple[int, Row]]:
    return [(place, parse_row(line)) for place, line in Source(path).lines()]


def texts_and_spans(path) -> list[tuple]:
    return [(row.text, row.spans) for _, row in rows_of(path)]


def refusal(path) -> str:
    with pytest.raises(UserError) as caught:
        list(Source(path).lines())
    message = str(caught.value)
    assert path.name in message and "\n" not in message
    return message


# CoNLL columns


CONLL = "-DOCSTART- -X- O O\n\nAnn NNP I-NP B-PER\nLee NNP I-NP I-PER\n\n\nin IN O O\nParis NNP I-NP B-LOC"


@pytest.mark.parametrize("name", ["train.txt", "train.conll", "train", "train.tsv", "train.conll.gz"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_sentence_of_columns_is_a_row(tmp_path, name, encoding, end):
    content = CONLL.replace("\n", end).encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    (first, ann), (second, paris) = rows_of(tmp_path / name)
    assert (first, ann.text, ann.spans) == (3, "Ann Lee", [(0, 7, "PER")])
    assert (second, paris.text, paris.spans) == (7, "in Paris", [(3, 8, "LOC")])


def test_columns_without_prefixes_are_known_by_the_name_of_the_file(tmp_path):
    (tmp_path / "a.conll").write_text("Ann PER\nin O\n")
    assert texts_and_spans(tmp_path / "a.conll") == [("Ann in", [(0, 3, "PER")])]


def test_json_lines_are_no_columns_whatever_they_end_with(tmp_path):
    row = {"unmasked_text": "x" * 5000 + " O", "span_labels": []}
    for text in (json.dumps(row) + "\n", '{"a": 1} B-x\n'):
        (tmp_path / "a.jsonl").write_text(text)
        assert [line.decode() for _, line in Source(tmp_path / "a.jsonl").lines()] == [text]


def test_columns_in_another_encoding_say_which_line(tmp_path):
    (tmp_path / "a.conll").write_bytes("Ann B-PER\nZoé B-PER\n".encode("cp1252"))
    message = refusal(tmp_path / "a.conll")
    assert "line 1 is not UTF-8, likely cp1252: convert it" in message  # of its sentence


@pytest.mark.parametrize("end", ["", "\n", "\n\nBo O\n"])
def test_a_sentence_beyond_the_limit_is_one_line_whether_it_ends_or_not(tmp_path, monkeypatch, end):
    monkeypatch.setattr(source, "LINE_BYTES", 100)
    (tmp_path / "a.conll").write_text("Bo O\n\n" + "Ann B-NAME\n" * 10 + end)
    assert "line 3: no blank line ends this sentence" in refusal(tmp_path / "a.conll")


# WebAnno TSV


@pytest.mark.parametrize("name", ["ann.tsv", "ann.txt", "ann", "ann.tsv.gz"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_document_of_webanno_is_a_row_and_a_file_may_hold_several(tmp_path, name, encoding, end):
    content = (document() + document("Ann\nLee", [(0, 7, "A")])).replace("\n", end).encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    (first, row), (second, other) = rows_of(tmp_path / name)
    assert (first, row.text, row.spans) == (1, TEXT, SPANS)
    assert (second, other.text, other.spans) == (document().count("\n") + 1, "Ann\nLee", [(0, 7, "A")])


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ((document() + document()).encode("cp1252", "replace"), "line 1 is not UTF-8, likely cp1252: convert it"),
        (document(version="2").encode(), "line 1 begins another version of WebAnno TSV: export it as 3.1 to 3.3"),
        ((document() + document(version="4.0")).encode(), "begins another version"),
        (document().encode("utf-16-le"), "is utf-16le without a byte order mark: convert it"),
    ],
)
def test_webanno_that_cannot_be_read_is_one_line_that_says_what_to_do(tmp_path, raw, reason):
    (tmp_path / "a.tsv").write_bytes(raw)
    assert reason in refusal(tmp_path / "a.tsv")


def test_documents_of_webanno_without_end_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "LINE_BYTES", 1000)
    (tmp_path / "a.tsv").write_text(document() + "1-9\t0-1\tx\t_\t\n" * 100)
    assert "line 1 begins a document of more than 1000 characters: cut it" in refusal(tmp_path / "a.tsv")


# CSV


def table(rows=ROWS, **options: str) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, **options)
    writer.writerow(["id", "text", "start", "end", "label"])
    for i, (text, spans) in enumerate(rows):
        writer.writerows([i, text, *span] for span in spans or [("", "", "")])
    return out.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("options", [{}, {"delimiter": ";"}, {"delimiter": "\t"}, {"quoting": csv.QUOTE_ALL}])
def test_a_table_of_spans_gives_the_rows_to_the_character(tmp_path, encoding, options):
    (tmp_path / "a.csv").write_bytes(table(**options).encode(encoding))
    assert texts_and_spans(tmp_path / "a.csv") == ROWS


def test_a_row_of_a_table_is_named_by_the_line_of_its_first_span(tmp_path):
    (tmp_path / "a.csv").write_text("text,start,end,label\nAnn,0,3,A\nAnn,1.0,2,B\n\nBo,0,2,A\n")
    assert [(place, row.text) for place, row in rows_of(tmp_path / "a.csv")] == [(2, "Ann"), (5, "Bo")]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("text,label\nAnn,A\n", "no columns text, start, end, label"),
        ("text,start,end,label\nAnn,0,3\n", "line 2 has 3 cells and the header 4"),
        ('text,start,end,label\nBo,0,2,A\n"Ann,0,3,A\n', "line 3 is no sound CSV: unexpected end of data"),
        ('text,start,end,label\n"Ann"x,0,3,A\n', "line 2 is no sound CSV"),
        ("text,start,end,label\nBo,0,2,A\nZo\udce9,0,3,A\n", "line 3 is not UTF-8"),
    ],
)
def test_a_table_that_cannot_be_right_says_which_line(tmp_path, content, reason):
    (tmp_path / "a.csv").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert reason in refusal(tmp_path / "a.csv")


def test_an_empty_table_has_no_rows(tmp_path):
    for content in ("", "text,start,end,label\n"):
        (tmp_path / "a.csv").write_text(content)
        assert rows_of(tmp_path / "a.csv") == []


# Parquet

LISTS = [{"text": text, "spans": [{"start": s, "end": e, "label": lab} for s, e, lab in spans]} for text, spans in ROWS]


def write_parquet(path, rows: list[dict]) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=2)


@pytest.mark.parametrize(
    "rows",
    [
        LISTS,
        [{"uid": i, "text": row["text"], "spans": repr(row["spans"]), "image": b"\xff"} for i, row in enumerate(LISTS)],
        [{"text": t, "start": s, "end": e, "label": c} for t, of in ROWS for s, e, c in of or [(None, None, None)]],
    ],
    ids=["objects", "strings", "one span a row"],
)
def test_parquet_holds_every_form(tmp_path, rows):
    write_parquet(tmp_path / "rows", rows)
    assert texts_and_spans(tmp_path / "rows") == ROWS


def test_parquet_is_hashed_as_other_files_are_and_read_in_batches(tmp_path):
    write_parquet(tmp_path / "a.parquet", [{"text": f"Ann {i}", "spans": []} for i in range(3000)])
    made = Source(tmp_path / "a.parquet")
    assert [place for place, _ in made.lines()] == [*range(1, 3001)] and made.rows == 3000
    assert made.sha256 == hashlib.sha256((tmp_path / "a.parquet").read_bytes()).hexdigest()


@pytest.mark.parametrize("cut", [slice(0, 200), slice(0, -8), slice(0, 4)])
def test_parquet_that_is_cut_is_one_line_that_names_it(tmp_path, cut):
    write_parquet(tmp_path / "a.parquet", LISTS)
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[cut])
    assert "no sound Parquet file" in refusal(tmp_path / "a.parquet")


def test_parquet_whose_pages_are_damaged_is_one_line_without_its_text(tmp_path):
    write_parquet(tmp_path / "a.parquet", LISTS * 50)
    raw = bytearray((tmp_path / "a.parquet").read_bytes())
    raw[4:400] = b"\xff" * 396
    (tmp_path / "a.parquet").write_bytes(raw)
    assert "no sound Parquet file" in refusal(tmp_path / "a.parquet")


@pytest.mark.parametrize("name", ["rows.parquet", "rows.jsonl"])
def test_token_rows_of_datasets_are_read(tmp_path, name):
    datasets = pytest.importorskip("datasets")
    names = ["O", "B-PER", "I-PER"]
    tags = datasets.ClassLabel(names=names)
    listed = getattr(datasets, "List", datasets.Sequence)  # the latter in older versions
    features = datasets.Features({"tokens": listed(datasets.Value("string")), "ner_tags": listed(tags)})
    rows = {"tokens": [["Zoé", "🙂", "Lee"], ["in"]], "ner_tags": [[1, 0, 1], [0]]}
    made = datasets.Dataset.from_dict(rows, features=features)
    made.to_parquet(tmp_path / name) if name.endswith("parquet") else made.to_json(tmp_path / name, force_ascii=False)
    told = names if name.endswith("jsonl") else ()  # Parquet has the names with it
    read = [parse_row(line, "und", told) for _, line in Source(tmp_path / name).lines()]
    assert [(row.text, row.spans) for row in read] == [("Zoé 🙂 Lee", [(0, 3, "PER"), (6, 9, "PER")]), ("in", [])]


# spaCy's .spacy


def write_spacy(path, texts_and_spans: list) -> None:
    spacy = pytest.importorskip("spacy")
    from spacy.tokens import DocBin

    documents = DocBin()
    nlp = spacy.blank("xx")
    for text, spans in texts_and_spans:
        document = nlp.make_doc(text)
        found = [document.char_span(s, e, label=label, alignment_mode="strict") for s, e, label in spans]
        document.set_ents([span for span in found if span])
        documents.add(document)
    documents.to_disk(path)


def test_documents_of_spacy_give_their_text_and_entities(tmp_path):
    """PERSON is a label that spaCy knows by a number of its own."""
    documents = [*ROWS, ("Ann Lee", [(0, 7, "PERSON")]), ("", []), ("two  spaces ", [])]
    write_spacy(tmp_path / "a.spacy", documents)
    rows = [json.loads(line) for _, line in Source(tmp_path / "a.spacy").lines()]
    inside = {"Ann", "Bob"}  # spaCy's tokens do not end between them
    wanted = [(t, [span for span in spans if t[span[0] : span[1]] not in inside]) for t, spans in documents]
    assert [(row["text"], [tuple(span) for span in row["spans"]]) for row in rows] == wanted


@pytest.mark.parametrize("cut", [slice(0, 100), slice(0, 1), slice(5, None)])
def test_documents_of_spacy_that_are_cut_are_one_line(tmp_path, cut):
    write_spacy(tmp_path / "a.spacy", ROWS)
    (tmp_path / "a.spacy").write_bytes((tmp_path / "a.spacy").read_bytes()[cut])
    assert "no sound .spacy file" in refusal(tmp_path / "a.spacy")


def test_documents_of_spacy_without_end_are_one_line(tmp_path, monkeypatch):
    pytest.importorskip("spacy")
    monkeypatch.setattr(source, "LIST_BYTES", 10_000)
    (tmp_path / "a.spacy").write_bytes(zlib.compress(b"x" * 20_000))
    assert "more than 10000 bytes" in refusal(tmp_path / "a.spacy")


@pytest.mark.parametrize("module", ["pyarrow", "spacy"])
def test_without_its_library_the_error_says_what_to_install(tmp_path, monkeypatch, module):
    path = tmp_path / ("a.parquet" if module == "pyarrow" else "a.spacy")
    path.write_bytes(b"PAR1" if module == "pyarrow" else b"x")
    monkeypatch.setitem(sys.modules, module, None)
    assert f"pip install '.[{'parquet' if module == 'pyarrow' else 'spacy'}]'" in refusal(path)
