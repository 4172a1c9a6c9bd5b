"""The best path of begin-aware tags (Viterbi 1967), over many texts at once."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from pii.corpus.spans import begins_of_tags, labels_of_tags, starts_of


class Transitions(NamedTuple):
    """Scores of moves between BIO tags (`bio_tags`), [tags] float32 each, tags = 2 * labels - 1.

    prev → next has leave[prev] + enter[next] where next is O or begins a span, stay[prev] where next continues the
    span of prev, and -inf otherwise. A text starts with enter alone.
    """

    leave: np.ndarray  # from this tag to O or to a begin
    enter: np.ndarray  # which O or begin comes once a span is left; -inf for the tags that continue one
    stay: np.ndarray  # from this tag to the one that continues its span; -inf for O


def viterbi(scores: np.ndarray, token_counts: np.ndarray, transitions: Transitions) -> np.ndarray:
    """The best legal path of BIO tags through each text, [tokens] uint16 (Viterbi 1967).

    scores [tokens, tags] float32: a finite one of each token's tags, texts joined end to end, token_counts
    [texts]. Legal: a tag that continues a span follows the begin or the continuation of that label, in the same text.
    Of paths that tie, the one with the lower tag on the last token wins, then on the one before, and so on.
    """
    lengths = np.diff(starts_of(token_counts))
    longest_first = np.argsort(-lengths, kind="stable")  # so that the texts that reach a position are a prefix
    starts = starts_of(token_counts)[longest_first]
    reach = np.searchsorted(-lengths[longest_first], -np.arange(lengths.max(initial=0) + 1))  # texts longer than that

    tags = np.empty(len(scores), dtype=np.uint16)
    entered_from = np.empty(len(scores), dtype=np.uint16)  # the tag before, if the path enters O or a begin here
    goes_on = np.empty((len(scores), scores.shape[1] // 2), dtype=bool)  # if it continues: the tag before does as well
    best = scores[starts[: reach[0]]] + transitions.enter  # [texts that get here, tags]: of the paths that end in a tag
    for position, (here, further) in enumerate(pairwise(reach), start=1):
        tags[starts[further:here] + position - 1] = best[further:].argmax(axis=1)
        rows = starts[:further] + position
        best, entered_from[rows], goes_on[rows] = viterbi_step(best[:further], scores[rows], transitions)
    for position in range(len(reach) - 2, 0, -1):
        rows = starts[: reach[position]] + position
        tags[rows - 1] = tags_before(tags[rows], entered_from[rows], goes_on, rows)
    return tags


def viterbi_step(
    best: np.ndarray, scores: np.ndarray, transitions: Transitions
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One position of Viterbi: best paths so far and scores of the next token, both [texts, tags] → the best paths to
    there [texts, tags], the tag that O and begins are entered from [texts], and for each label but O whether its
    continuation follows a continuation [texts, labels - 1] (false: a begin)."""
    leaving = best + transitions.leave
    entered_from = leaving.argmax(axis=1)  # the same for all tags that can be entered, so no tags x tags table
    after_begin = best[:, 1::2] + transitions.stay[1::2]
    after_continuation = best[:, 2::2] + transitions.stay[2::2]
    longer = scores + transitions.enter
    # all paths are scored relative to that of entering: sums over a long text would use up the digits of a float32
    level = leaving[np.arange(len(leaving)), entered_from][:, None]
    longer[:, 2::2] = scores[:, 2::2] + (np.maximum(after_begin, after_continuation) - level)
    return longer, entered_from, after_continuation > after_begin


def tags_before(tags: np.ndarray, entered_from: np.ndarray, goes_on: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The tag before each of `tags` [rows] on its best path; `entered_from` [rows], `goes_on` [tokens, labels - 1]."""
    before = entered_from.copy()
    continues = np.flatnonzero((tags != 0) & ~begins_of_tags(tags))
    tags = tags[continues]
    before[continues] = tags - 1 + goes_on[rows[continues], labels_of_tags(tags) - 1]
    return before
