"""What --input may name: files, patterns, folders, and folders of brat."""

import hashlib
import json

import pytest

from pii.common import UserError
from pii.corpus.rows import parse_row
from pii.corpus.sources.folders import sources_of
from tests.corpus.formats.example import SPANS, TEXT
from tests.corpus.formats.test_brat import ANN

LINE = json.dumps({"unmasked_text": "Ann", "span_labels": []}) + "\n"


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jsonl", "a.json", "sub/c.jsonl.gz", "sub/d.parquet", ".hidden/e.jsonl", ".f.jsonl", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(LINE)
    (tmp_path / "train.txt").write_text("Ann B-PER\n")
    for name in ("2", "1"):
        (tmp_path / "brat").mkdir(exist_ok=True)
        (tmp_path / "brat" / f"{name}.txt").write_bytes(TEXT.encode())
        (tmp_path / "brat" / f"{name}.ann").write_bytes(ANN.encode())
    return tmp_path


def names(folder, *inputs: str) -> list[str]:
    return [str(source.path.relative_to(folder)) for source in sources_of([folder / name for name in inputs])]


@pytest.mark.parametrize(
    ("inputs", "found"),
    [
        (["b.jsonl", "a.json"], ["b.jsonl", "a.json"]),
        (["."], ["a.json", "b.jsonl", "train.txt", "brat", "sub/c.jsonl.gz", "sub/d.parquet"]),
        (["*.json*"], ["a.json", "b.jsonl"]),
        (["**/*.jsonl*"], ["b.jsonl", "sub/c.jsonl.gz"]),
        (["s?b"], ["sub/c.jsonl.gz", "sub/d.parquet"]),
        (["brat"], ["brat"]),
        (["brat/*.txt"], ["brat"]),
        (["brat/1.ann"], ["brat"]),
        (["missing.jsonl"], ["missing.jsonl"]),
        (["notes.txt"], ["notes.txt"]),
    ],
)
def test_files_patterns_and_folders_are_found_in_order(folder, inputs, found):
    assert names(folder, *inputs) == found


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder):
    (folder / "[ab].jsonl").write_text(LINE)
    assert names(folder, "[ab].jsonl") == ["[ab].jsonl"]


@pytest.mark.parametrize("name", ["*.csv", "empty"])
def test_what_names_no_file_is_one_line(folder, name):
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match=r"no file matches|folder without files of rows"):
        names(folder, name)


def test_a_brat_folder_gives_its_documents_in_order_with_their_names(folder):
    (source,) = sources_of([folder / "brat"])
    rows = [(place, parse_row(line)) for place, line in source.lines()]
    assert [(place, row.text, row.spans) for place, row in rows] == [("1.ann", TEXT, SPANS), ("2.ann", TEXT, SPANS)]
    raw = (TEXT + ANN).encode() * 2
    assert source.rows == 2 and source.sha256 == hashlib.sha256(raw).hexdigest()


def test_a_document_of_brat_in_another_encoding_is_named(folder):
    (folder / "brat" / "2.txt").write_bytes("Zoé".encode("cp1252"))
    (source,) = sources_of([folder / "brat"])
    with pytest.raises(UserError, match=r"brat/2\.txt is not UTF-8, likely cp1252"):
        list(source.lines())
