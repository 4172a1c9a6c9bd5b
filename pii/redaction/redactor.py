"""The class Redactor: texts in, spans or redacted texts out, for predict.py and other programs."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from pii.common import UserError
from pii.corpus import tekken
from pii.corpus.label_maps.maps import warn_unused
from pii.corpus.rows import OUTSIDE
from pii.device import choose_device
from pii.redaction.detect import Found, detect
from pii.redaction.replacements import Replacer, Span
from pii.redaction.vault import Vault
from pii.training.run_config import choose_head, stored_bias
from pii.training.runs import load_run

FORWARDS_A_GROUP = 16  # documents are gathered until they fill so many forwards, so that windows of like length meet
BOM = "\ufeff"
CHARACTERS_A_TOKEN = 4  # about, in English and French
NULLS = {"None", "nan", "NaN", "NaT", "<NA>"}  # how the nulls of Python, NumPy, decimal and pandas print
FRENCH_WORDS = re.compile(
    r"\b(?:le|la|les|des|du|et|est|une?|pour|dans|je|vous|nous|au|avec|sur|que|qui)\b|[éèêàçù]", re.I
)
ENGLISH_WORDS = re.compile(r"\b(?:the|of|and|to|in|is|a|for|my|you|your|with|on|at|was|are|this|that|has)\b", re.I)


class Redactor:
    """Finds and replaces personal data in text: `Redactor("runs/default").redact("I am Ann.")`.

    Every method takes one text, or an iterable of texts that is read lazily and answered in order. A class of its own
    arguments only, so that Ray Data's `map_batches(Redactor, fn_constructor_kwargs={"run": ...})` can build it.
    Raises UserError where the run cannot be loaded or an argument cannot be right.
    """

    def __init__(
        self,
        run: Path | str = "runs/default",
        *,
        head: str | None = None,
        backbone: str | None = None,
        device: str = "auto",
        labels: Sequence[str] | None = None,
        exclude_labels: Sequence[str] = (),
        min_score: float = 0.0,
        target_recall: bool = False,
        label_map: dict[str, str] | None = None,
        replace: str = "label",
        hash_key: bytes | None = None,
        vault: Vault | None = None,
        column: str = "text",
    ) -> None:
        self.replacer = Replacer(replace, key=hash_key, vault=vault)
        self.tagger, config = load_run(Path(run), choose_device(device), head, backbone)
        self.tokenizer = tekken.load()
        if self.tokenizer.describe()["sha256"] != config["tokenizer"]["sha256"]:
            raise UserError(f"{run} was trained on another tokenizer than mistral-common brings: install its version")
        self.max_length: int = config["max_length"]
        self.bias = stored_bias(Path(run), choose_head(config, Path(run), head)) if target_recall else 0.0
        self.new_labels = policy(config["labels"], labels, exclude_labels, label_map or {})
        self.min_score = min_score
        self.column = column

    def spans(self, texts: str | Iterable[str]) -> list[Span] | Iterator[list[Span]]:
        """Sorted spans without overlaps: (start, end, label, score), offsets in code points, end exclusive. The score
        is the mean probability of the label over the span's tokens, calibrated where the run can do it."""
        found = (list(spans) for _, spans in self.stream([texts] if isinstance(texts, str) else texts))
        return next(found) if isinstance(texts, str) else found

    def redact(self, texts: str | Iterable[str]) -> str | Iterator[str]:
        """The texts with each span replaced; all else is as it was."""
        pairs = self.stream([texts] if isinstance(texts, str) else texts)
        redacted = (self.replace(text, spans) for text, spans in pairs)
        return next(redacted) if isinstance(texts, str) else redacted

    def stream(self, texts: Iterable[str]) -> Iterator[tuple[str, Iterator[Span]]]:
        """Each text with its spans, for those who need no list of millions: read them before the next text's."""
        for group in self._groups(texts):
            found = detect(self.tagger, self.tokenizer, group, self.max_length, self.bias)
            for text, spans in zip(group, found, strict=True):
                yield text, self._wanted(spans, text.startswith(BOM))

    def replace(self, text: str, spans: Iterable[Span]) -> str:
        """The text with these spans replaced."""
        return self.replacer.redact(text, spans, guess_language(text))

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A batch of columns, as Ray Data passes it → the same with `redacted` and `spans` (JSON) beside them.

        A null stays null in `redacted` and has the spans `[]`; any other value that is no text is read as it prints.
        """
        texts = [None if is_null(value) else str(value) for value in batch[self.column]]
        found = (list(spans) for _, spans in self.stream(text or "" for text in texts))
        redacted, spans = np.empty((2, len(texts)), dtype=object)
        for i, (text, own) in enumerate(zip(texts, found, strict=True)):
            redacted[i] = None if text is None else self.replace(text, own)
            spans[i] = json.dumps(as_dicts(own), ensure_ascii=False)
        return batch | {"redacted": redacted, "spans": spans}

    def _groups(self, texts: Iterable[str]) -> Iterator[list[str]]:
        """The texts in order, so many together that the backbone's batches are full."""
        budget = FORWARDS_A_GROUP * CHARACTERS_A_TOKEN * self.tagger.reader.tokens_per_forward
        group, characters = [], 0
        for text in texts:
            group.append(text)
            characters += len(text) + 1
            if characters >= budget:
                yield group
                group, characters = [], 0
        if group:
            yield group

    def _wanted(self, found: Iterable[Found], has_bom: bool) -> Iterator[Span]:
        """Those of the wanted labels, under their new names, whose score is high enough; without a byte order mark,
        which no value begins with."""
        for span in found:
            label, start = self.new_labels[span.label_id], max(span.start, has_bom)
            if label is not None and span.score >= self.min_score and start < span.end:
                yield Span(start, span.end, label, span.score)


def is_null(value: object) -> bool:
    """Whether a cell of a table is None, not a number, or pandas' NA or NaT."""
    return not isinstance(value, str) and str(value) in NULLS


def policy(
    run_labels: Sequence[str], labels: Sequence[str] | None, excluded: Sequence[str], label_map: dict[str, str]
) -> list[str | None]:
    """What each label id of the run is called in the output, None for what is not wanted. Names are the new ones."""
    warn_unused(label_map, run_labels, "the run does not have")
    renamed = [label_map.get(label, label) for label in run_labels]
    if unknown := {*(labels or []), *excluded} - {*renamed}:
        known = ", ".join(sorted({*renamed} - {OUTSIDE}))
        raise UserError(f"the run has no label {', '.join(sorted(unknown))}: it has {known}")
    wanted = {*(renamed if labels is None else labels)} - {*excluded, OUTSIDE}
    if not wanted & {*renamed[1:]}:
        raise UserError("no label is left, so that nothing would be found: name others, or exclude fewer")
    return [label if label in wanted else None for label in renamed]


def guess_language(text: str) -> str:
    """ "fr" or "en", by the commonest words of its first thousand characters; replacements are chosen by it."""
    start = text[:1000]
    return "fr" if len(FRENCH_WORDS.findall(start)) > len(ENGLISH_WORDS.findall(start)) else "en"


def as_dicts(spans: Sequence[Span]) -> list[dict]:
    """Spans as JSON keeps them."""
    return [span._asdict() | {"score": round(span.score, 4)} for span in spans]
