"""A policy file: what is done with each label, after renaming.

{"default": {"replace": "label"}, "EMAIL": {"replace": "hash"}, "DATE": {"replace": "keep"},
 "CREDITCARDNUMBER": {"replace": "mask:last4", "min_score": 0.2, "rules": true}}
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pii.common import UserError
from pii.redaction.replacements import check_kind
from pii.untrusted import read_json

DEFAULT = "default"


class Treatment(NamedTuple):
    """What is done with the spans of one label; None is left to the command."""

    replace: str | None = None  # a kind of replacement
    min_score: float | None = None  # of a model's span
    rules: bool | None = None  # whether rules may find this label


class Policy:
    """Label → treatment. Without a file, what the command says holds for all labels."""

    def __init__(self, given: Mapping[str, Any] | None = None, where: str = "policy") -> None:
        """`given` is what a policy file holds. Raises UserError."""
        given = {} if given is None else given
        if not isinstance(given, Mapping) or not all(isinstance(entry, Mapping) for entry in given.values()):
            raise UserError(f'{where} is no JSON object of label to treatment, as {{"EMAIL": {{"replace": "hash"}}}}')
        self.where = where
        self.treatments = {label: treatment_of(label, entry, where) for label, entry in given.items()}
        self.default = self.treatments.pop(DEFAULT, Treatment())

    def check_labels(self, known: Collection[str]) -> None:
        """Raise UserError at a label that nothing finds."""
        if unknown := sorted({*self.treatments} - {*known}):
            raise UserError(f"{self.where} names labels that nothing finds: {', '.join(map(ascii, unknown[:10]))}")

    def of(self, label: str) -> Treatment:
        """The label's own treatment, and the default's where that says nothing."""
        own = self.treatments.get(label, Treatment())
        said = {name: value for name, value in own._asdict().items() if value is not None}
        return self.default._replace(**said)

    def kinds(self) -> dict[str, str]:
        """Label → kind of replacement, of those that have one of their own."""
        return {label: own.replace for label, own in self.treatments.items() if own.replace is not None}


def treatment_of(label: str, entry: Mapping[str, Any], where: str) -> Treatment:
    """A checked entry. Raises UserError."""
    if unknown := sorted({*entry} - {*Treatment._fields}):
        raise UserError(f"{where}: {label} has {unknown[0]!r}: a treatment has {', '.join(Treatment._fields)}")
    treatment = Treatment(**entry)
    if treatment.replace is not None:
        check_kind(treatment.replace, f"{where}: {label}")
    score = treatment.min_score
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1):
        raise UserError(f"{where}: min_score of {label} is a number from 0 to 1")
    if treatment.rules is not None and not isinstance(treatment.rules, bool):
        raise UserError(f"{where}: rules of {label} is true or false")
    return treatment


def read_policy(path: Path) -> Policy:
    """Raises UserError where the file is no policy."""
    try:
        given = read_json(path, unique_keys=True)
    except UserError:
        raise
    except ValueError:
        raise UserError(f"{path} is no JSON object, or has a key twice") from None
    return Policy(given, str(path))
