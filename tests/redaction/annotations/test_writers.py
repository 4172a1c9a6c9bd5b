"""What labelling tools import: their schemas, with offsets that are right to the character."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from seqeval.metrics.sequence_labeling import get_entities

from pii.common import UserError
from pii.redaction.annotations.writers import ANNOTATION_FORMATS, annotation_writer, check_labels
from pii.redaction.records import Record
from pii.redaction.replacements import Span
from tests.redaction.annotations.test_tokens import spans_in

MARKED = "\r\n🙂  ⟦Zoe\u0301lie⟧ ⟦O'Neil⟧ of ⟦46117⟧⟦Main St⟧,\r\n\tcalled (⟦Ann\r\nMiller⟧)\u2028👩\u200d🚀."
TEXT, SPANS = spans_in(MARKED)


def written(path: Path, output_format: str, *documents: tuple[str, Sequence[Span]]) -> Path:
    with annotation_writer(path, output_format, "a run") as writer:
        for number, (text, spans) in enumerate(documents, start=1):
            writer.write(Record("notes.jsonl", number, text, None), spans)
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_label_studio_gets_one_list_of_tasks_with_predictions(out):
    tasks = json.loads(written(out, "label-studio", (TEXT, SPANS), ("No one.", [])).read_bytes())
    assert [task["data"] for task in tasks] == [
        {"text": TEXT, "source": "notes.jsonl", "number": 1},
        {"text": "No one.", "source": "notes.jsonl", "number": 2},
    ]
    [prediction], [nothing] = (task["predictions"] for task in tasks)
    assert nothing == {"model_version": "a run", "result": []}
    assert prediction["score"] == 0.5 and len({result["id"] for result in prediction["result"]}) == len(SPANS)
    for result, span in zip(prediction["result"], SPANS, strict=True):
        value = {"start": span.start, "end": span.end, "labels": ["NAME"], "text": TEXT[span.start : span.end]}
        assert result["value"] == value and result["score"] == span.score
        assert (result["type"], result["from_name"], result["to_name"]) == ("labels", "label", "text")


def test_no_documents_are_an_empty_list(out):
    assert json.loads(written(out, "label-studio").read_bytes()) == []


def test_label_studios_own_library_takes_the_predictions(out):
    interface = pytest.importorskip("label_studio_sdk.label_interface").LabelInterface(
        '<View><Labels name="label" toName="text"><Label value="NAME"/></Labels>'
        '<Text name="text" value="$text"/></View>'
    )
    for task in json.loads(written(out, "label-studio", (TEXT, SPANS), ("No one.", [])).read_bytes()):
        assert all(interface.validate_prediction(prediction) for prediction in task["predictions"])


def test_doccano_gets_a_line_a_document(out):
    raw = written(out, "doccano", (TEXT, SPANS), ("No one.", [])).read_bytes()
    assert raw.isascii()  # it guesses encodings
    first, second = map(json.loads, raw.splitlines())
    assert first["text"] == TEXT and first["label"] == [[s.start, s.end, "NAME"] for s in SPANS]
    assert first["scores"] == [span.score for span in SPANS] and (first["source"], first["number"]) == (
        "notes.jsonl",
        1,
    )
    assert (second["text"], second["label"]) == ("No one.", [])


def test_prodigy_gets_tokens_that_rebuild_the_text_and_fit_the_spans(out):
    first, second = map(json.loads, written(out, "prodigy", (TEXT, SPANS), ("No one.", [])).read_text().splitlines())
    assert "".join(token["text"] + " " * token["ws"] for token in first["tokens"]) == first["text"] == TEXT
    for number, token in enumerate(first["tokens"]):
        assert token["id"] == number and TEXT[token["start"] : token["end"]] == token["text"]
    for found, span in zip(first["spans"], SPANS, strict=True):
        assert (found["start"], found["end"], found["label"], found["score"]) == span[:4]
        assert first["tokens"][found["token_start"]]["start"] == span.start
        assert first["tokens"][found["token_end"]]["end"] == span.end
    assert first["meta"]["score"] == 0.5 and second["spans"] == []


def test_spacy_takes_prodigys_tokens_and_finds_the_spans(out):
    spacy = pytest.importorskip("spacy")
    task = json.loads(written(out, "prodigy", (TEXT, SPANS)).read_text())
    words, spaces = ([token[key] for token in task["tokens"]] for key in ("text", "ws"))
    doc = spacy.tokens.Doc(spacy.blank("en").vocab, words=words, spaces=spaces)
    assert doc.text == TEXT and [token.idx for token in doc] == [token["start"] for token in task["tokens"]]
    assert all(doc.char_span(span.start, span.end) for span in SPANS)


def test_conll_has_two_columns_and_a_sign_before_each_document(out):
    raw = written(out, "conll", (TEXT, SPANS), ("No one.", [])).read_bytes().decode()
    assert all(line == "" or len(line.split("\t")) == 2 == len(line.split()) for line in raw.split("\n"))
    documents = [part.strip("\n") for part in raw.split("-DOCSTART-\tO\n\n")][1:]
    rows = [[line.split("\t") for line in document.split("\n")] for document in documents]
    entities = [" ".join(token for token, _ in rows[0][a : b + 1]) for _, a, b in get_entities([t for _, t in rows[0]])]
    assert entities == ["Zoe\u0301lie", "O'Neil", "46117", "Main St", "Ann Miller"]
    assert rows[1] == [["No", "O"], ["one", "O"], [".", "O"]]


def test_brat_gets_files_whose_annotations_are_those_of_the_text(out):
    written(out, "brat", (TEXT, SPANS), ("No one.", []))
    assert sorted(path.name for path in out.iterdir()) == [
        *("annotation.conf", "notes-2.ann", "notes-2.txt", "notes.ann", "notes.txt"),
    ]
    assert (out / "notes.txt").read_bytes() == TEXT.encode() and (out / "notes-2.ann").read_bytes() == b""
    assert "[entities]\nNAME\n" in (out / "annotation.conf").read_text()
    lines = (out / "notes.ann").read_bytes().decode().splitlines()
    values = []
    for number, (annotation, note) in enumerate(zip(lines[::2], lines[1::2], strict=True), start=1):
        name, place, value = annotation.split("\t")
        label, places = place.split(" ", 1)
        pieces = [TEXT[slice(*map(int, piece.split()))] for piece in places.split(";")]
        assert (name, label, " ".join(pieces)) == (f"T{number}", "NAME", value)  # as brat checks it
        assert note == f"#{number}\tAnnotatorNotes T{number}\t{SPANS[number - 1].score:.4f}"
        values.append(pieces)
    assert values == [["Zoe\u0301lie"], ["O'Neil"], ["46117"], ["Main St"], ["Ann", "Miller"]]


def test_brats_folder_is_a_new_one(out):
    out.mkdir()
    written(out, "brat", ("No one.", []))
    for folder in (out, out / "annotation.conf", None):
        with pytest.raises(UserError, match="new"):
            annotation_writer(folder, "brat", "")


@pytest.mark.parametrize("output_format", ANNOTATION_FORMATS)
def test_a_byte_order_mark_is_no_part_of_the_text(out, output_format):
    marked = written(
        out, output_format, ("\ufeff" + TEXT, [s._replace(start=s.start + 1, end=s.end + 1) for s in SPANS])
    )
    plain = written(out.with_name("plain"), output_format, (TEXT, SPANS))
    for one, other in [(marked, plain)] if marked.is_file() else zip(*map(list_of, (marked, plain)), strict=True):
        assert one.read_bytes() == other.read_bytes()


def list_of(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


@pytest.mark.parametrize("output_format", ANNOTATION_FORMATS)
def test_nothing_is_left_of_a_run_that_failed(out, output_format):
    with pytest.raises(ZeroDivisionError), annotation_writer(out, output_format, "") as writer:
        writer.write(Record("a.txt", 1, TEXT, None), SPANS)
        raise ZeroDivisionError
    assert list_of(out.parent) == []


def test_labels_that_a_format_cannot_hold_are_refused():
    for output_format in ANNOTATION_FORMATS:
        check_labels(output_format, ["FIRST_NAME", "B-2"])
    check_labels("conll", ["PRÉNOM"])
    for output_format, label in (("brat", "PRÉNOM"), ("brat", "first name"), ("conll", "first name")):
        with pytest.raises(UserError, match="--label-map"):
            check_labels(output_format, ["NAME", label])
