"""Raw rows → aligned rows on disk: read, tokenised and aligned in parallel, then split by sentence."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pii.common import UserError, parallel_map
from pii.corpus import spans, tekken
from pii.corpus.doubts.cuts import cutting_spans
from pii.corpus.doubts.grouping import Keys, contradicting, keys_of, quick_span_hashes, span_hashes
from pii.corpus.formats.fields import SET_ASIDE, RowError
from pii.corpus.formats.tokens import TagNames
from pii.corpus.roundtrip import as_raw
from pii.corpus.rows import OUTSIDE, Row, misread, parse_row
from pii.corpus.sources.source import Place, Source, where
from pii.corpus.store import LANGUAGE, MAX_LABELS, SPLITS, Rows, Split, SplitWriter
from pii.inputs import NOT_UTF8, advice
from pii.progress import progress

ROWS_A_CHUNK = 4096


@dataclass
class Staged:
    """All accepted rows in their order, on disk, before the split; label ids as the labels came."""

    folder: Path
    label_ids: dict[str, int] = field(default_factory=lambda: {OUTSIDE: 0})
    keys: list[Keys] = field(default_factory=list)
    span_hashes: list[np.ndarray] = field(default_factory=list)  # [rows] uint64
    met: set[str] = field(default_factory=set)  # labels as they came, where they are mapped
    rejected: Counter = field(default_factory=Counter)  # by reason
    set_aside: int = 0  # of these, rows that their annotators left out
    first_rejected: str = ""  # where, and why
    advice: str = ""  # how to convert the first file that is not UTF-8
    overlapping: int = 0
    blank: int = 0
    cutting: int = 0
    snapped: int = 0

    @property
    def accepted(self) -> int:
        return sum(map(len, self.span_hashes))

    def remove(self) -> None:
        for path in self.folder.iterdir():
            path.unlink()
        self.folder.rmdir()


class Task(NamedTuple):
    """Some raw lines of one file, for a worker process."""

    source: str
    language: str
    lines: list[tuple[Place, bytes]]


class Chunk(NamedTuple):
    """What a worker makes of a task."""

    rows: Rows  # label ids count through `labels`
    labels: list[str]
    keys: Keys
    met: set[str]  # labels as they came, where they are mapped
    rejected: list[tuple[int, str]]  # position in the task, reason
    overlapping: int
    blank: int
    cutting: int  # spans that cut a word or a number
    snapped: int  # spans that were widened to whole words


def stage(
    sources: Sequence[Source],
    folder: Path,
    label_map: dict[str, str],
    tag_names: TagNames = (),
    snap_words: bool = False,
) -> Staged:
    """Read, tokenise and align all rows; rows that cannot be right go to rejected.jsonl, for its owner's eyes. With
    `snap_words` spans that cut a word are widened to whole words."""
    staged = Staged(folder / "staged")
    rejected_path = folder / "rejected.jsonl"
    rejected_path.touch(mode=0o600)
    prepare_one = partial(prepare_chunk, label_map=label_map, tag_names=tag_names, snap_words=snap_words)
    with rejected_path.open("w", encoding="utf-8") as rejected, SplitWriter(staged.folder) as writer:
        for task, chunk in parallel_map(prepare_one, tasks(sources)):
            new_ids = np.array([staged.label_ids.setdefault(label, len(staged.label_ids)) for label in chunk.labels])
            check_labels(staged.label_ids, f"{task.source}: ")
            append_relabelled(writer, chunk.rows, new_ids)
            staged.keys.append(chunk.keys)
            staged.span_hashes.append(quick_span_hashes(chunk.rows.spans, chunk.rows.span_counts))
            staged.met |= chunk.met
            staged.overlapping += chunk.overlapping
            staged.blank += chunk.blank
            staged.cutting += chunk.cutting
            staged.snapped += chunk.snapped
            for position, reason in chunk.rejected:
                rejected.write(json.dumps(reject(staged, task, position, reason), ensure_ascii=False) + "\n")
    return staged


def reject(staged: Staged, task: Task, position: int, reason: str) -> dict:
    """Count a refused row of a task; its record in rejected.jsonl."""
    place, line = task.lines[position]
    staged.rejected[reason] += 1
    if reason in SET_ASIDE:
        staged.set_aside += 1
    else:
        staged.first_rejected = staged.first_rejected or f"{where(task.source, place)}: {reason}"
    if reason == NOT_UTF8 and not staged.advice:
        staged.advice = f"; {task.source} is {NOT_UTF8}{advice(task.source, line)}"
    raw = line.decode("utf-8", "replace").rstrip("\r\n")
    return {"file": task.source, "line": place, "reason": reason, "row": raw}


def tasks(sources: Sequence[Source]) -> Iterator[Task]:
    tekken.load(), spans.kinds_of_characters()  # before the workers are forked, so that they have them
    with progress("prepare", unit="rows") as bar:
        for source in sources:
            lines = source.lines()
            while some := list(islice(lines, ROWS_A_CHUNK)):
                bar.update(len(some))
                yield Task(source.name, source.language, some)


def prepare_chunk(task: Task, label_map: dict[str, str], tag_names: TagNames = (), snap_words: bool = False) -> Chunk:
    """Parse, rename, tokenise and align the lines of a task."""
    rows, met, rejected = parse_lines(task, label_map, tag_names)
    aligned, labels, cutting = align([*rows.values()])
    if misread_rows := find_misread(task, rows, cutting, tag_names):
        rows = {position: row for position, row in rows.items() if position not in misread_rows}
        aligned, labels, cutting = align([*rows.values()])
    snapped = 0
    if snap_words and cutting.any():
        rows, snapped = widened(rows, cutting)
        aligned, labels, cutting = align([*rows.values()])
    return Chunk(
        rows=aligned,
        labels=labels,
        keys=keys_of(rows.values()),
        met=met,
        rejected=sorted((rejected | misread_rows).items()),
        overlapping=sum(row.overlapping for row in rows.values()),
        blank=sum(row.blank for row in rows.values()),
        cutting=int(cutting.sum()),
        snapped=snapped,
    )


def parse_lines(
    task: Task, label_map: dict[str, str], tag_names: TagNames
) -> tuple[dict[int, Row], set[str], dict[int, str]]:
    """Position in the task → row, with its labels as the map calls them; which labels were met, where there is a map;
    position → why it was refused."""
    rows: dict[int, Row] = {}
    met: set[str] = set()
    rejected: dict[int, str] = {}
    for position, (_, line) in enumerate(task.lines):
        try:
            row = parse_row(line, task.language, tag_names)
        except RowError as error:
            rejected[position] = str(error)
            continue
        if label_map:
            met.update(label for _, _, label in row.spans)
            row = renamed(row, label_map)
        rows[position] = row
    return rows, met, rejected


def renamed(row: Row, label_map: dict[str, str]) -> Row:
    """The row with its labels as the map calls them; spans that become `O` are gone."""
    named = [(start, end, label_map.get(label, label)) for start, end, label in row.spans]
    return row._replace(spans=[span for span in named if span[2] != OUTSIDE])


def find_misread(task: Task, rows: dict[int, Row], cutting: np.ndarray, tag_names: TagNames) -> dict[int, str]:
    """Position → why a row with spans that cut words must be refused after all; `cutting` [rows] counts such spans."""
    positions = list(rows)
    doubtful = [positions[i] for i in np.flatnonzero(cutting) if not rows[positions[i]].text.isascii()]
    reasons = {position: misread(task.lines[position][1], tag_names) for position in doubtful}
    return {position: reason for position, reason in reasons.items() if reason}


def widened(rows: dict[int, Row], cutting: np.ndarray) -> tuple[dict[int, Row], int]:
    """The rows, of which `cutting` [rows] tells how many spans cut a word, with these widened to whole words, and how
    many spans that mends. A border at a mark, as in `12.03|.1980`, stays: only inside a word it is sure."""
    rows, mended = dict(rows), 0
    for position in np.array([*rows])[cutting > 0].tolist():
        row = rows[position]
        labels = sorted({label for _, _, label in row.spans})
        before = [(start, end, labels.index(label)) for start, end, label in row.spans]
        joined, one = spans.JoinedText.of([row.text]), np.array([len(before)])
        after, _ = spans.whole_words(joined, np.array(before), one)
        whole = [(start, end, labels[label]) for start, end, label in after.tolist()]
        mended += len({*row.spans} - {*whole})
        rows[position] = row._replace(spans=whole)
    return rows, mended


def align(rows: list[Row]) -> tuple[Rows, list[str], np.ndarray]:
    """Tokenise some rows and tag their tokens: the rows, their labels by id, and how many spans of each [rows] cut a
    word or a number."""
    texts = [row.text for row in rows]
    label_ids = {OUTSIDE: 0}
    joined, tokens = spans.JoinedText.of(texts), tekken.load().encode(texts)
    flat = [(s, e, label_ids.setdefault(label, len(label_ids))) for row in rows for s, e, label in row.spans]
    span_array = np.array(flat, dtype=np.int32).reshape(-1, 3)
    span_counts = np.array([len(row.spans) for row in rows], dtype=np.int64)
    tags = spans.tag_tokens(joined, tokens.token_counts, tokens.token_bytes, span_array, span_counts)
    cutting = cutting_spans(joined, span_array, span_counts)
    aligned = Rows(
        tokens={"token_ids": tokens.token_ids, **tags._asdict()},
        token_counts=tokens.token_counts,
        text=np.frombuffer("".join(texts).encode(), np.uint8),
        text_counts=np.diff(joined.char_bytes[joined.starts]),
        spans=span_array,
        span_counts=span_counts,
        languages=np.array([row.language for row in rows], LANGUAGE),
    )
    row_of_span = np.repeat(np.arange(len(rows)), span_counts)
    return aligned, list(label_ids), np.bincount(row_of_span[cutting], minlength=len(rows))


def append_relabelled(writer: SplitWriter, rows: Rows, new_ids: np.ndarray) -> None:
    """Append rows with the label id i as new_ids[i]."""
    rows.tokens["label_ids"] = new_ids[rows.tokens["label_ids"]]
    rows.spans[:, 2] = new_ids[rows.spans[:, 2]]
    writer.append(rows)


def check_rejected(staged: Staged, limit: float) -> None:
    rejected = sum(staged.rejected.values())
    rows, wrong = staged.accepted + rejected, rejected - staged.set_aside
    if not rows:
        raise UserError("the input holds no rows")
    if not staged.accepted and not wrong:
        raise UserError(f"all {rows} rows were left out by their annotators ({', '.join(staged.rejected)})")
    if wrong / rows > limit or not staged.accepted:
        reasons = ", ".join(f"{count} {reason}" for reason, count in staged.rejected.most_common())
        first = f"the first is {staged.first_rejected}"
        raise UserError(
            f"{rejected} of {rows} rows cannot be right ({reasons}; {first}){staged.advice}: "
            f"mend the input or raise --max-rejected; nothing was written",
            code=1,
        )


def check_labels(label_ids: dict[str, int], where: str = "") -> None:
    if len(label_ids) > MAX_LABELS:
        raise UserError(f"{where}{len(label_ids)} labels are more than {MAX_LABELS}: is the label field a value?")


def sorted_labels(label_ids: dict[str, int]) -> tuple[list[str], np.ndarray]:
    """The labels with O first and the others sorted, and the new id of each old id."""
    labels = [OUTSIDE, *sorted(set(label_ids) - {OUTSIDE})]
    new_ids = np.zeros(len(labels), dtype=np.int64)
    new_ids[[label_ids[label] for label in labels]] = np.arange(len(labels))
    return labels, new_ids


def count_contradicting(staged: Staged, keys: Keys) -> int:
    """How many rows have the text of another and other spans. Few have to be read again to know it."""
    doubtful = contradicting(keys.texts, np.concatenate(staged.span_hashes) ^ keys.skeletons)
    rows, texts = np.flatnonzero(doubtful), keys.texts[doubtful]
    labels = list(staged.label_ids)
    read_again = (row for part in in_chunks(Split(staged.folder), rows) for row in as_raw(part, labels))
    return int(contradicting(texts, span_hashes(read_again)).sum())


def in_chunks(split: Split, rows: np.ndarray) -> Iterator[Rows]:
    """These rows, some at a time."""
    for start in range(0, len(rows), ROWS_A_CHUNK):
        yield split.rows(rows[start : start + ROWS_A_CHUNK])


def choose_validation(groups: np.ndarray, share: float, seed: int) -> np.ndarray:
    """[rows] bool: which rows are validation, whole groups at a time, as near below `share` as whole ones come."""
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    chosen = np.zeros(len(sizes), dtype=bool)
    wanted = round(share * len(groups))
    for index in np.random.default_rng(seed).permutation(len(sizes)):
        if sizes[index] <= wanted:
            chosen[index] = True
            wanted -= sizes[index]
    if wanted and not chosen.any() and len(sizes) > 1:  # every group is too large: a validation split all the same
        chosen[np.argmin(sizes)] = True
    return chosen[group]


def write_splits(staged: Split, in_validation: np.ndarray, new_ids: np.ndarray, folder: Path) -> None:
    """Copy the staged rows to their splits, in their order, with the final label ids."""
    for name, wanted in zip(SPLITS, (~in_validation, in_validation), strict=True):
        with SplitWriter(folder / name) as writer:
            for rows in in_chunks(staged, np.flatnonzero(wanted)):
                append_relabelled(writer, rows, new_ids)
