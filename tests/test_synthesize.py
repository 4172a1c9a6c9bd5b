"""The command: the same bytes for a seed, an old file never harmed, mistakes in one line."""

import gzip
import json
import os
import subprocess
import sys

import pytest

import synthesize
from pii.synthetic import sentences


def run_script(*flags: str, hash_seed: str = "0") -> subprocess.Popen:
    command = [sys.executable, synthesize.__file__, *flags]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_one_seed_gives_the_same_bytes_in_every_process_and_another_seed_others(tmp_path):
    paths = [tmp_path / "first.jsonl.gz", tmp_path / "again.jsonl.gz"]
    runs = [
        run_script("--rows", "200", "--seed", "1", "--output", str(path), hash_seed=str(i))
        for i, path in enumerate(paths)
    ]
    assert [run.communicate() and run.returncode for run in runs] == [0, 0]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].read_bytes()[4:8] == bytes(4)  # no time of writing in the gzip header
    texts = {json.loads(line)["unmasked_text"] for line in gzip.decompress(paths[0].read_bytes()).splitlines()}
    assert len(texts - {row["unmasked_text"] for row in sentences.synthesize(2000, seed=0)}) > 180


def test_interrupted_run_leaves_the_old_file_whole_and_no_other(tmp_path, monkeypatch):
    def interrupted(rows: int, seed: int, style: str):
        yield {"unmasked_text": "half", "span_labels": [], "language": "en"}
        raise KeyboardInterrupt

    output = tmp_path / "rows.jsonl"
    output.write_text("old\n")
    monkeypatch.setattr(synthesize, "synthesize", interrupted)
    with pytest.raises(KeyboardInterrupt):
        synthesize.main(["--output", str(output)])
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"rows.jsonl": "old\n"}


@pytest.mark.parametrize("flags", [["--rows", "0"], ["--rows", "many"], ["--output", "."], ["--colour", "red"]])
def test_mistake_ends_with_one_line_and_exit_code_2(flags):
    run = run_script(*flags)
    output, errors = run.communicate()
    assert run.returncode == 2
    assert output == ""
    assert errors.startswith("synthesize.py: error: ")
    assert errors.count("\n") == 1
    assert "Traceback" not in errors


def test_missing_faker_is_told_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "faker", None)
    with pytest.raises(synthesize.UserError, match="pip install Faker"):
        synthesize.main(["--rows", "2", "--output", str(tmp_path / "rows.jsonl")])
    assert list(tmp_path.iterdir()) == []


def test_end_of_a_run_counts_rows_and_spans_and_shows_no_text(tmp_path, capsys, monkeypatch):
    row = {"unmasked_text": "Call Aurelius.", "span_labels": [[5, 13, "FIRSTNAME"]], "language": "en"}
    monkeypatch.setattr(synthesize, "synthesize", lambda rows, seed, style: iter([row] * rows))
    output = tmp_path / "new" / "rows.jsonl"
    synthesize.main(["--rows", "3", "--output", str(output)])
    printed = capsys.readouterr().out
    assert "3 rows with 3 spans of 1 types" in printed
    assert f"python prepare.py --input {output}" in printed
    assert "Aurelius" not in printed
    assert [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()] == [row] * 3
