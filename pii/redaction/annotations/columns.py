"""Documents as CoNLL columns: a token and its BIO tag a line, with a tab between; it has no place for scores.

Each document begins with `-DOCSTART-` and is one sequence to the blank line at its end: a span may cross a line break.
"""

from collections.abc import Sequence

from pii.redaction.annotations.tokens import tokens_of
from pii.redaction.replacements import Span

DOCUMENT = "-DOCSTART-\tO\n\n"


def conll(text: str, spans: Sequence[Span]) -> str:
    """The lines of one document."""
    lines, before = [], None
    for start, end, own in tokens_of(text, spans):
        tag = "O" if own is None else f"{'I' if own == before else 'B'}-{spans[own].label}"
        lines.append(f"{text[start:end]}\t{tag}\n")
        before = own
    return DOCUMENT + "".join(lines) + "\n"
