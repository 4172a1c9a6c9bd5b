"""Find personal data in English and French text, token by token. `from pii import Redactor` is all that most need."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pii.redaction.redactor import Redactor

__all__ = ["Redactor"]


def __getattr__(name: str) -> object:
    """Redactor, loaded when it is asked for: it brings torch and the tokenizer, which the rooms below do without."""
    if name == "Redactor":
        from pii.redaction.redactor import Redactor

        return Redactor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
