"""The class Redactor: texts in, spans or redacted texts out, for predict.py and other programs."""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pii.common import UserError
from pii.corpus import tekken
from pii.corpus.label_maps.maps import warn_unused
from pii.corpus.rows import OUTSIDE
from pii.decoder.ready import default_run
from pii.device import choose_device
from pii.redaction.detect import Found, detect, detect_together
from pii.redaction.replacements import MODEL, Replacer, Span
from pii.redaction.rules.checks import STDNUM
from pii.redaction.rules.policy import Policy, read_policy
from pii.redaction.rules.rulebook import RULE_LABELS, Rulebook
from pii.redaction.vault import Vault
from pii.training.run_config import choose_head, read_config, stored_bias
from pii.training.runs import load_taggers

FORWARDS_A_GROUP = 16  # documents are gathered until they fill so many forwards, so that windows of like length meet
BOM = "\ufeff"
CHARACTERS_A_TOKEN = 4  # about, in English and French
NULLS = {"None", "nan", "NaN", "NaT", "<NA>"}  # how the nulls of Python, NumPy, decimal and pandas print
FRENCH_WORDS = re.compile(
    r"\b(?:le|la|les|des|du|et|est|une?|pour|dans|je|vous|nous|au|avec|sur|que|qui)\b|[éèêàçù]", re.I
)
ENGLISH_WORDS = re.compile(r"\b(?:the|of|and|to|in|is|a|for|my|you|your|with|on|at|was|are|this|that|has)\b", re.I)


class Redactor:
    """Finds and replaces personal data in text: `Redactor().redact("I am Ann.")`.

    Every method takes one text, or an iterable of texts that is read lazily and answered in order. A class of its own
    arguments only, so that Ray Data's `map_batches(Redactor, fn_constructor_kwargs={"run": ...})` can build it.
    Raises UserError where the run cannot be loaded or an argument cannot be right.
    """

    def __init__(
        self,
        run: Path | str | None = None,
        *,
        head: str | None = None,
        backbone: str | None = None,
        device: str = "auto",
        labels: Sequence[str] | None = None,
        exclude_labels: Sequence[str] = (),
        min_score: float | None = None,
        target_recall: bool | float = False,
        label_map: dict[str, str] | None = None,
        replace: str | None = None,
        hash_key: bytes | None = None,
        vault: Vault | None = None,
        rules: str | None = None,
        allow: Iterable[str] | Path = (),
        deny: Mapping[str, str] | Iterable[str] | Path = (),
        patterns: Mapping[str, str | Iterable[str]] | Path | None = None,
        fold_lists: bool = False,
        policy: Mapping | Path | None = None,
        column: str = "text",
        second_opinion: bool = False,
    ) -> None:
        """Without a `run` it is runs/default, and where that is not there the ready head of the package, whose small
        backbone is built on first use. `target_recall`: of an operating point that is stored in the run, or True for
        the latest. `rules`: none, proven or all; by default proven where python-stdnum is installed. `allow`, `deny`
        and `patterns` are as for Rulebook. What is said here of `replace` and `min_score` holds for all labels, else
        what the `policy` says, a mapping or a file."""
        run = default_run() if run is None else Path(run)
        treatments = read_policy(Path(policy)) if isinstance(policy, Path | str) else Policy(policy)
        kinds = {} if replace else treatments.kinds()
        self.replacer = Replacer(replace or treatments.default.replace or "label", hash_key, vault, kinds=kinds)
        config = read_config(run)
        self.head = choose_head(config, run, head)
        rules = rules or default_rules()
        naming = Naming(label_map or {}, labels, exclude_labels)
        rule_labels = RULE_LABELS if rules != "none" else set()
        naming.check(config["labels"], rule_labels)
        self.new_labels = [naming.of(label) for label in config["labels"]]
        self.rulebook = Rulebook(rules, allow, deny, patterns, fold_lists, treatments, naming.of)
        names = {*self.new_labels, *map(naming.of, rule_labels), *self.rulebook.labels}
        self.labels = sorted(name for name in names if name is not None)
        treatments.check_labels(self.labels)
        self.min_scores = [least_score(min_score, treatments, label) for label in self.new_labels]
        self.column = column
        heads = [self.head, *(other_heads(config, self.head) if second_opinion else ())]
        self.tagger, *self.others = load_taggers(run, config, choose_device(device), heads, backbone)
        self.tokenizer = tekken.load()
        if self.tokenizer.describe()["sha256"] != config["tokenizer"]["sha256"]:
            raise UserError(f"{run} was trained on another tokenizer than mistral-common brings: install its version")
        self.max_length: int = config["max_length"]
        recall = None if isinstance(target_recall, bool) else target_recall
        self.bias = 0.0 if target_recall is False else stored_bias(run, self.head, recall)

    def spans(self, texts: str | Iterable[str]) -> list[Span] | Iterator[list[Span]]:
        """Sorted spans without overlaps: (start, end, label, score, source), offsets in code points, end exclusive. The
        score is the mean probability of the label over the span's tokens, calibrated where the run can do it; the
        source is `model`, or the rule or list that found it."""
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
            yield from zip(group, self._spans(group, found), strict=True)

    def opinions(self, texts: Iterable[str]) -> Iterator[tuple[str, list[Span], list[Span] | None]]:
        """Each text with its spans and those of the run's other head, None where it has no other or none was asked for
        (`second_opinion`)."""
        taggers = [(self.tagger, self.bias), *((other, 0.0) for other in self.others)]
        for group in self._groups(texts):
            found = detect_together(taggers, self.tokenizer, group, self.max_length)
            own, *others = [[list(spans) for spans in self._spans(group, view)] for view in found]
            yield from zip(group, own, others[0] if others else [None] * len(group), strict=True)

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

    def _spans(self, texts: Sequence[str], found: Iterable[Iterable[Found]]) -> Iterator[Iterator[Span]]:
        """Of each text: what the model found of the wanted, and with it what the rules and lists say."""
        for text, spans in zip(texts, found, strict=True):
            yield self.rulebook.apply(text, self._wanted(spans, text.startswith(BOM)))

    def _wanted(self, found: Iterable[Found], has_bom: bool) -> Iterator[Span]:
        """Those of the wanted labels, under their new names, whose score is high enough; without a byte order mark,
        which no value begins with."""
        for span in found:
            label, start = self.new_labels[span.label_id], max(span.start, has_bom)
            if label is not None and span.score >= self.min_scores[span.label_id] and start < span.end:
                yield Span(start, span.end, label, span.score)


def other_heads(config: dict, head: str) -> list[str]:
    """The head to compare a head with: one of another kind if the run has one, since such heads err differently."""
    others = [name for name in config["heads"] if name != head]
    return sorted(others, key=lambda name: config["heads"][name]["kind"] == config["heads"][head]["kind"])[:1]


def is_null(value: object) -> bool:
    """Whether a cell of a table is None, not a number, or pandas' NA or NaT."""
    return not isinstance(value, str) and str(value) in NULLS


class Naming(NamedTuple):
    """What labels are called in the output, and which are wanted."""

    label_map: dict[str, str]
    wanted: Sequence[str] | None  # under their new names; all
    excluded: Sequence[str]

    def of(self, label: str) -> str | None:
        """A label's new name; None where it is not wanted."""
        name = self.label_map.get(label, label)
        unwanted = name == OUTSIDE or name in self.excluded or (self.wanted is not None and name not in self.wanted)
        return None if unwanted else name

    def check(self, run_labels: Sequence[str], rule_labels: Collection[str]) -> None:
        """Raise UserError at a label that nothing finds, and where none is left; warn of one that is not in the run."""
        warn_unused(self.label_map, [*run_labels, *rule_labels], "the run does not have")
        renamed = {self.label_map.get(label, label) for label in run_labels}
        known = renamed | {self.label_map.get(label, label) for label in rule_labels}
        if unknown := {*(self.wanted or []), *self.excluded} - known:
            names = ", ".join(sorted(renamed - {OUTSIDE}))
            raise UserError(f"the run has no label {', '.join(sorted(unknown))}: it has {names}")
        named = rule_labels if self.wanted is not None else ()
        if all(self.of(label) is None for label in (*run_labels[1:], *named)):
            raise UserError("no label is left, so that nothing would be found: name others, or exclude fewer")


def default_rules() -> str:
    """Values with a checksum are looked for where the package that checks them is installed."""
    return "proven" if STDNUM else "none"


def least_score(given: float | None, policy: Policy, label: str | None) -> float:
    """The least score of a label's spans of the model."""
    own = None if label is None else policy.of(label).min_score
    return given if given is not None else own or 0.0


def guess_language(text: str) -> str:
    """ "fr" or "en", by the commonest words of its first thousand characters; replacements are chosen by it."""
    start = text[:1000]
    return "fr" if len(FRENCH_WORDS.findall(start)) > len(ENGLISH_WORDS.findall(start)) else "en"


def as_dicts(spans: Sequence[Span]) -> list[dict]:
    """Spans as JSON keeps them; their source where it is not the model."""
    return [
        {"start": start, "end": end, "label": label, "score": round(score, 4)}
        | ({} if source == MODEL else {"source": source})
        for start, end, label, score, source in spans
    ]
