"""Mistral's Tekken v3 tokenizer with exact character offsets: the only place that knows how text becomes tokens.

Tekken is byte level: the pieces of a text, joined, are its UTF-8 bytes. So a token's place follows from the byte
lengths of the pieces before it, and nothing has to be searched for.
"""

import hashlib
import re
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

SPACE_CUT = 4096  # characters of white space that are tokenised at once where there are too many for one call
LONG_SPACE = re.compile(rf"\s{{{SPACE_CUT},}}")


class TokenizedTexts(NamedTuple):
    """Many tokenised texts as flat arrays. Positions count over the joined texts, with nothing between them."""

    token_ids: np.ndarray  # [tokens] uint32
    token_counts: np.ndarray  # [texts] int64
    token_bytes: np.ndarray  # [tokens + 1] int64: token t covers the bytes token_bytes[t]:token_bytes[t + 1]


class Tekken:
    """Tekken v3 as Ministral-8B-Instruct-2410 uses it. Loading takes about 1.5 s: share one with `load()`."""

    name = "tekken-v3"

    def __init__(self) -> None:
        try:
            from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
            from mistral_common.tokens.tokenizers.tekken import Tekkenizer
        except ImportError:
            raise ImportError("mistral-common is not installed: pip install mistral-common") from None
        tokenizer = MistralTokenizer.v3(is_tekken=True).instruct_tokenizer.tokenizer
        assert isinstance(tokenizer, Tekkenizer)
        self._tokenizer = tokenizer
        self.path: Path = self._tokenizer.file_path
        self._num_special = self._tokenizer.num_special_tokens
        self.vocab_size: int = self._tokenizer.n_words  # special tokens included
        self.bos_id: int = self._tokenizer.bos_id
        self.pad_id: int = self._tokenizer.pad_id
        # bytes of each piece, b"" for the special tokens, which no text can yield
        ordinary = self._tokenizer._model.decode_tokens_bytes(range(self.vocab_size - self._num_special))
        self.pieces: list[bytes] = [b""] * self._num_special + ordinary
        self._piece_lengths = np.array([len(piece) for piece in self.pieces], dtype=np.int64)

    def plain_encode(self, text: str) -> list[int]:
        """What mistral-common itself makes of a text, for comparisons."""
        return self._tokenizer.encode(text, bos=False, eos=False)

    def describe(self) -> dict:
        """What the prepared data and a run remember: {name, file, sha256, vocab_size}."""
        sha256 = hashlib.sha256(self.path.read_bytes()).hexdigest()
        return {"name": self.name, "file": self.path.name, "sha256": sha256, "vocab_size": self.vocab_size}

    def encode(self, texts: Sequence[str]) -> TokenizedTexts:
        """Tokenise texts, without BOS or EOS. Raises ValueError where the pieces do not cover the text's bytes
        (a lone surrogate, which UTF-8 cannot hold)."""
        ids = [self._encode(text) for text in texts]
        token_counts = np.array([len(i) for i in ids], dtype=np.int64)
        token_ids = (np.concatenate(ids) if ids else np.zeros(0)).astype(np.uint32) + np.uint32(self._num_special)
        token_bytes = np.concatenate([[0], np.cumsum(self._piece_lengths[token_ids])])
        ends = token_bytes[np.cumsum(token_counts)]
        text_bytes = np.array([len(text.encode("utf-8", "surrogatepass")) for text in texts], dtype=np.int64)
        if not np.array_equal(ends, np.cumsum(text_bytes)):
            raise ValueError("the tokens do not give the text's bytes back")
        return TokenizedTexts(token_ids, token_counts, token_bytes)

    def _encode(self, text: str) -> np.ndarray:
        encode = self._tokenizer._model.encode_to_numpy  # tiktoken's own; Tekkenizer.encode makes Python lists of it
        try:
            return encode(text, disallowed_special=())
        except ValueError:  # tiktoken's regular expression gives up on some hundred thousand white spaces in a row
            cuts = [cut for run in LONG_SPACE.finditer(text) for cut in range(run.start(), run.end(), SPACE_CUT)]
            if not cuts:
                raise
            parts = [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]
            return np.concatenate([encode(part, disallowed_special=()) for part in parts])


@cache
def load() -> Tekken:
    """The process's one tokenizer."""
    return Tekken()
