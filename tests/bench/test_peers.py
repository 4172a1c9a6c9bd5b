"""Other programs beside predict.py: the same gold, and a line where one is not there."""

import sys
from types import SimpleNamespace

import bench
from pii.bench import peers
from pii.corpus.store import PreparedSplit


def test_leakage_and_precision_count_characters_whatever_the_labels_and_overlaps():
    gold, found = [[(0, 4), (6, 8)], []], [[(2, 5), (3, 5)], [(0, 1)]]
    # gold 6 characters, 2 of them found; found 4, 2 of them gold
    assert peers.character_figures(["0123456789", "ab"], gold, found) == (4 / 6, 2 / 4)
    assert peers.character_figures(["ab"], [[]], [[]]) == (0.0, 0.0)


def test_peers_are_held_against_the_same_gold_and_a_language_without_a_model_is_told(tmp_path, capsys):
    def english_only(texts: list[str], language: str) -> list:
        if language != "en":
            raise LookupError(f"no spaCy model of the language {language} is installed")
        return [[SimpleNamespace(start=0, end=2)] for _ in texts]

    rows = PreparedSplit(bench.write_random_data(tmp_path / "random"), "train").rows(range(4))
    rows = rows._replace(languages=rows.languages.copy())
    rows.languages[:] = ["en", "fr", "en", "en"]
    report = peers.bench_peers(rows, {"peer": english_only}, rounds=2)
    assert list(report) == ["peer, en"] and report["peer, en"]["speed"] > 0
    assert "no spaCy model of the language fr" in capsys.readouterr().out


def test_presidio_is_left_out_with_a_line_where_it_is_not_installed(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    assert peers.presidio() == {}
    assert len(capsys.readouterr().out.splitlines()) == 1
