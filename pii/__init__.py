"""Find personal data in English and French text, token by token. `from pii import Redactor` is all that most need."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pii.redaction.redactor import Redactor

# read when torch is loaded: threads that wait for work leave the core to others, where they would spin else and, beside
# another busy process, keep the very thread from it that they wait for
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__all__ = ["Redactor"]


def __getattr__(name: str) -> object:
    """Redactor, loaded when it is asked for: it brings torch and the tokenizer, which the rooms below do without."""
    if name == "Redactor":
        from pii.redaction.redactor import Redactor

        return Redactor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
