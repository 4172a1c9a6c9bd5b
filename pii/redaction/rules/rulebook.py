"""Rules, lists and patterns together: what they find in a text joins what a model found."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from pii.common import UserError
from pii.redaction.replacements import Span
from pii.redaction.rules.joining import ALLOWED, Said, joined, side_by_side
from pii.redaction.rules.lists import (
    LISTED,
    Patterns,
    ValueList,
    labelled_patterns,
    parted,
    read_list,
    read_patterns,
)
from pii.redaction.rules.policy import Policy
from pii.redaction.rules.rules import ADDRESSES, FORM_SCORE, NUMBERS, PROVEN_SCORE, check_mode, find

RULE_LABELS = {rule.label for rule in (*NUMBERS, *ADDRESSES)} | {"PHONENUMBER"}


class Rulebook:
    """What is found beside the model, and what is never found.

    `mode` is one of rules.MODES; `allow` are values and /patterns/ or their file, `deny` value or /pattern/ → label or
    its file, `patterns` label → pattern or its file. With `fold`, lists go without case, accents and white space.
    Raises UserError at one that cannot be right.
    """

    def __init__(
        self,
        mode: str = "none",
        allow: Iterable[str] | Path = (),
        deny: Mapping[str, str] | Iterable[str] | Path = (),
        patterns: Mapping[str, str | Iterable[str]] | Path | None = None,
        fold: bool = False,
        policy: Policy | None = None,
        name_of: Callable[[str], str | None] = lambda label: label,
    ) -> None:
        """`name_of`: a rule's label → what it is called in the output, None where it is not wanted."""
        check_mode(mode)
        if isinstance(allow, str) or isinstance(deny, str) or isinstance(patterns, str):
            raise UserError("allow, deny and patterns are values, or a Path: a string is neither")
        self.mode, self.policy, self.name_of = mode, policy or Policy(), name_of
        allowed, allowed_patterns = parted(read_list(allow, False) if isinstance(allow, Path) else with_labels(allow))
        denied, denied_patterns = parted(read_list(deny, True) if isinstance(deny, Path) else with_labels(deny))
        own = read_patterns(patterns) if isinstance(patterns, Path) else labelled_patterns(patterns or {}, "patterns")
        self.allowed = (ValueList(allowed, fold), Patterns(allowed_patterns))
        self.denied = (ValueList(denied, fold), Patterns(denied_patterns))
        self.patterns = Patterns(own)
        self.labels = {*denied.values(), *(label for label, _ in (*denied_patterns, *own))}
        self.is_empty = mode == "none" and not (allowed or allowed_patterns or self.labels)

    def apply(self, text: str, model: Iterable[Span]) -> Iterator[Span]:
        """The model's spans of a text, sorted and without overlaps → with what the rules and lists say, likewise."""
        return iter(model) if self.is_empty else joined(text, model, self.read(text))

    def read(self, text: str) -> Said:
        """What the rules and lists say of a text, whatever the model says."""
        proven: list[Span] = []
        forms: list[Span] = []
        for start, end, label, rule, certain in find(text, self.mode):
            name = self.name_of(label)
            if name is not None and self.policy.of(name).rules is not False:
                span = Span(start, end, name, PROVEN_SCORE if certain else FORM_SCORE, rule)
                (proven if certain else forms).append(span)
        denied = side_by_side(
            [Span(*value, PROVEN_SCORE, "list:deny") for part in self.denied for value in part.find(text)]
            + [Span(*value, PROVEN_SCORE, "pattern") for value in self.patterns.find(text)]
        )
        allowed = side_by_side(
            Span(start, end, ALLOWED, PROVEN_SCORE) for part in self.allowed for start, end, _ in part.find(text)
        )
        return Said(proven, forms, denied, allowed)


def with_labels(entries: Mapping[str, str] | Iterable[str]) -> Iterable[tuple[str, str]]:
    """Values with their labels, LISTED where none are given."""
    return entries.items() if isinstance(entries, Mapping) else ((value, LISTED) for value in entries)
