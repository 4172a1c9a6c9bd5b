"""Bad input, generated: whatever a file holds, each command works or ends with one line, and executes nothing.

`make test` tries 645 cases, `make fuzz` many times as many (FUZZ=40): new ones each time.
"""

import contextlib
import functools
import gzip
import hashlib
import io
import json
import os
import resource
import shutil
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save

import check_dataset
import evaluate
import predict
import prepare
import train
from dataset import PIITokenDataset
from pii import common
from pii.corpus import staging, tekken
from pii.corpus.formats.fields import RowError
from pii.corpus.rows import parse_row
from pii.training import run_config, runs, setup
from tests.decoder.test_backbone import Bomb, save_tiny_backbone
from tests.test_train import CANARY, write_prepared
from tests.training.test_runs import seal

TIMES = int(os.environ.get("FUZZ", "1"))
MEMORY = 256  # MiB that one case may add to the most that the process had: a shape that is only declared has no memory
REAL_SAVE, REAL_LOAD = runs.save_state, runs.load_backbone


def cases(count: int) -> Callable:
    """Settings of a test with so many cases, or with FUZZ times as many, then other ones in each run."""
    return settings(
        max_examples=count * TIMES,
        deadline=20_000,  # milliseconds: more is a hang
        derandomize=TIMES == 1,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


# What a shell would see


def peak_memory() -> float:
    """MiB, of this process until now."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Seen:
    """Exit code and standard error of `python SCRIPT.py ARGUMENTS`, run in this process."""

    def __init__(self, main: Callable[[list[str]], None], *arguments: object) -> None:
        streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", errors=errors) for errors in ("strict", "backslashreplace")]
        self.code = 0
        before, memory = (sys.stdout, sys.stderr), peak_memory()
        sys.stdout, sys.stderr = streams
        try:
            with warnings.catch_warnings(record=True) as shown:  # each would be lines on standard error
                warnings.simplefilter("always")
                warnings.simplefilter("ignore", DeprecationWarning)
                common.run(lambda: main([str(argument) for argument in arguments]))
        except SystemExit as stop:
            self.code = stop.code
        finally:
            sys.stdout, sys.stderr = before
        self.memory = peak_memory() - memory
        for stream in streams:
            stream.flush()
        self.errors = streams[1].buffer.getvalue().decode() + "".join(f"{entry.message}\n" for entry in shown)

    def check(self) -> None:
        assert self.code in (0, 1, 2) and self.memory < MEMORY, (self.code, self.memory)
        lines = [line for line in self.errors.splitlines() if not line.startswith("warning: ")]
        assert len(lines) == (1 if self.code else 0), self.errors
        assert CANARY not in self.errors and "Traceback" not in self.errors


def attempt(main: Callable[[list[str]], None], *arguments: object) -> Seen:
    seen = Seen(main, *arguments)
    seen.check()
    return seen


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """What is called inside works or ends with a UserError of one line that holds no row's text."""
    try:
        with warnings.catch_warnings(action="error"):
            yield
    except common.UserError as error:
        assert len(str(error).splitlines()) == 1 and CANARY not in str(error)


# A small prepared folder, a run on it, and the state of a training


@pytest.fixture(scope="module")
def patched() -> Iterator[None]:
    """Nothing that is slow and not looked at here: worker processes, the backbone's loading, the network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        patch.setattr(staging, "parallel_map", lambda function, tasks: ((task, function(task)) for task in tasks))
        described = tekken.load().describe()
        patch.setattr(tekken.Tekken, "describe", lambda self: described)
        loaded = functools.lru_cache(maxsize=8)(REAL_LOAD)
        patch.setattr(runs, "load_backbone", loaded)
        patch.setattr(setup, "load_backbone", loaded)
        yield


class World:
    """Sound folders, which each case copies before it damages them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = write_prepared(folder / "raw", 16, "--validation-fraction", "0.3")
        backbone = save_tiny_backbone(folder / "backbone", vocab_size=131072)
        self.training = ["--backbone", backbone, "--device", "cpu", "--batch-size", 2, "--max-length", 32]
        self.training += ["--heads", "documented", "strong", "--epochs", 1, "--strong-epochs", 1, "--save-every", 1]
        self.run, self.state = folder / "run", folder / "state.safetensors"

        def save_state(output: Path, *arguments: object) -> None:
            REAL_SAVE(output, *arguments)
            shutil.copy(output / runs.STATE, self.state)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runs, "save_state", save_state)
            patch.setitem(train.STEPS_AHEAD, "cpu", 1)
            attempt(train.main, "--data", self.data, "--output", self.run, *self.training)
        assert self.state.exists()
        runs.write_json(
            self.run / run_config.OPERATING_POINTS, {head: {"bias": 1.0} for head in ("documented", "strong")}
        )
        self.redactor = predict.Redactor(self.run, head="documented", device="cpu")


@pytest.fixture(scope="module")
def world(patched: None, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("fuzz"))


@pytest.fixture(scope="module")
def place(world: World) -> Callable:
    """place() → an empty folder, as a context manager."""
    return lambda: contextlib.closing(Place(world.folder))


class Place:
    def __init__(self, parent: Path) -> None:
        self.path = Path(tempfile.mkdtemp(dir=parent))
        self.trace = self.path / "trace"

    def write(self, name: str, content: bytes) -> Path:
        (self.path / name).write_bytes(content)
        return self.path / name

    def copy(self, folder: Path) -> Path:
        return Path(shutil.copytree(folder, self.path / folder.name))

    def close(self) -> None:
        assert not self.trace.exists(), "code from data was executed"
        shutil.rmtree(self.path)


# Bytes and JSON of every kind

ODD_TEXTS = [
    "",
    " ",
    "\0",
    "\ufeff",
    "\u202e\u2066abc",
    "\x1b[2J",
    "\u2028",
    "\r\n",
    "e\u0301",
    "👩‍👩‍👧",
    "../../x",
    "/etc/passwd",
]
texts = st.sampled_from([*ODD_TEXTS, CANARY, "O", "EMAIL", "a" * 9000]) | st.text(max_size=20)
ODD_JSON = [
    *("null", "true", "NaN", "Infinity", "-Infinity", "1e999", "-0", "0.5", '"\\ud800"', '"\\u0000"', "[]", "{}"),
    *("9" * 5000, "-" + "9" * 5000, "9" * 4000, str(2**63), str(2**64), str(-(2**63)), str(2**31), "1e15", "-1"),
    *("[" * depth + "]" * depth for depth in (60, 150, 300, 980, 3000, 100_000)),
    *('{"a":' * depth + "1" + "}" * depth for depth in (150, 980, 100_000)),
]
json_texts = st.recursive(
    st.sampled_from(ODD_JSON) | texts.map(json.dumps) | st.integers(-9, 99).map(str),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda parts: f"[{','.join(parts)}]")
        | st.lists(st.tuples(texts.map(json.dumps), inner), max_size=3).map(
            lambda pairs: "{" + ",".join(f"{key}:{value}" for key, value in pairs) + "}"
        )
    ),
    max_leaves=6,
)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """The bytes of a file with something wrong, or with nothing wrong."""
    place, other = draw(st.integers(0, len(whole))), draw(st.binary(max_size=8))
    kinds = ["cut", "changed", "inserted", "mark", "line ends", "twice", "nothing", "garbage", "UTF-16"]
    match draw(st.sampled_from(kinds)):
        case "cut":
            return whole[:place]
        case "changed":
            return whole[:place] + other + whole[place + len(other) :]
        case "inserted":
            return whole[:place] + other + whole[place:]
        case "mark":
            return b"\xef\xbb\xbf" + whole
        case "line ends":
            return whole.replace(b"\n", b"\r\n")
        case "twice":
            return whole + whole
        case "garbage":
            return other
        case "UTF-16":
            return whole.decode("utf-8", "replace").encode("utf-16")
    return whole


@st.composite
def mutated(draw: st.DrawFn, whole: object) -> bytes:
    """A JSON document with one of its values replaced, left out or there twice; or with damaged bytes."""
    if draw(st.integers(0, 5)) == 0:
        return draw(damaged(json.dumps(whole).encode()))
    root = {"": json.loads(json.dumps(whole))}
    parent, key, mark = root, "", "MARK OF WHAT IS REPLACED"
    while isinstance(parent[key], (dict, list)) and parent[key] and draw(st.integers(0, 4)):
        parent = parent[key]
        key = draw(st.sampled_from(sorted(parent) if isinstance(parent, dict) else range(len(parent))))
    kind = draw(st.sampled_from(["replaced", "replaced", "replaced", "left out", "twice", "renamed"]))
    if kind == "left out":
        del parent[key]
    elif kind == "twice" and isinstance(parent, list):
        parent.append(parent[key])
    elif kind == "renamed" and isinstance(parent, dict):
        parent[draw(texts)] = parent.pop(key)
    else:
        parent[key] = mark
    text = json.dumps(next(iter(root.values()), None))
    return text.replace(f'"{mark}"', draw(json_texts)).encode("utf-8", "replace")


@st.composite
def safetensors_of(draw: st.DrawFn, whole: bytes) -> bytes:
    """A safetensors file with other names, dtypes, shapes, numbers, offsets or bytes."""
    size = int.from_bytes(whole[:8], "little")
    header, data = json.loads(whole[8 : 8 + size]), whole[8 + size :]
    kind = draw(st.sampled_from(["bytes", "header", "size", "numbers", "numbers", "dtype", "shape", "pickle"]))
    if kind in ("bytes", "pickle"):
        return draw(damaged(whole)) if kind == "bytes" else b"\x80\x04cos\nsystem\n(S'true'\ntR."
    names = sorted(set(header) - {"__metadata__"})
    name = draw(st.sampled_from(names))
    if kind == "header":
        raw = draw(mutated(header))
        return len(raw).to_bytes(8, "little") + raw + data
    if kind == "size":
        return draw(st.integers(0, 2**64 - 1)).to_bytes(8, "little") + whole[8:]
    if kind == "numbers":
        start, end = header[name]["data_offsets"]
        number = np.float32(draw(st.floats(width=32))).tobytes()
        data = data[:start] + number * ((end - start) // 4) + data[start + (end - start) // 4 * 4 :]
    elif kind == "dtype":
        dtypes = ["F64", "F16", "BF16", "I32", "I64", "U8", "BOOL", "C64", "F8_E4M3", "F4", "F8_E8M0", "X"]
        header[name]["dtype"] = draw(st.sampled_from(dtypes))
    else:
        sizes = st.sampled_from([0, 1, 2, 5, 32, 2**31, 2**62, 2**64, -1])
        header[name]["shape"] = draw(st.lists(sizes, max_size=3))
    raw = json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


# Raw rows

labels = st.sampled_from(["EMAIL", "NAME_1", "O", "", "\x1b", "_1", "_1" * 50_000]) | texts
offsets = st.integers(-2, 40) | st.sampled_from([2**31, 2**63, True, 1.0, None, "3"])
spans = st.lists(st.tuples(offsets, offsets, labels).map(list), max_size=4)


def in_python(spans: object) -> str:
    return repr(spans)


@st.composite
def rows(draw: st.DrawFn) -> bytes:
    """A row of one of the known forms, often a little wrong."""
    text, found = f"{CANARY} {draw(texts)}", draw(spans)
    keys = {0: ("start", "end", "label"), 1: ("start_position", "end_position", "entity_type")}
    as_objects = [[dict(zip(keys[i], span, strict=True)) for span in found] for i in keys]
    notation = draw(st.sampled_from([in_python, json.dumps]))(found)
    wild = draw(texts | st.sampled_from(["[" * 90_000, "-" * 90_000, "(" * 300, r"[[0, 5, '\d']]", "1" * 5000, "b''"]))
    row = draw(
        st.sampled_from(
            [
                {"unmasked_text": text, "span_labels": found},
                {"unmasked_text": text, "span_labels": notation, "language": draw(texts)},
                {"unmasked_text": text, "span_labels": wild},
                {"source_text": text, "privacy_mask": as_objects[0], "language": "fr_FR"},
                {"full_text": text, "spans": as_objects[1]},
            ]
        )
    )
    return draw(st.just(json.dumps(row).encode()) | mutated(row))


@cases(150)
@given(rows())
def test_a_row_is_read_or_refused_with_a_reason(line):
    with warnings.catch_warnings(action="error"):
        try:
            row = parse_row(line)
        except RowError as error:
            assert CANARY not in str(error) and len(str(error).splitlines()) == 1
            return
    places = [place for start, end, _ in row.spans for place in (start, end)]
    assert places == sorted(places) and all(0 <= place <= len(row.text) for place in places)
    assert all(label.isprintable() and row.text[start:end].strip() for start, end, label in row.spans)


@st.composite
def row_files(draw: st.DrawFn) -> tuple[str, bytes]:
    """(name, content) of a file of rows."""
    lines = draw(st.lists(rows(), max_size=3))
    good = b'{"unmasked_text": "Call Ann.", "span_labels": [[5, 8, "FIRSTNAME"]]}'
    name = draw(st.sampled_from(["a.jsonl", "english.json", "a.jsonl.gz", "a.json.gz"]))
    if ".json" in name and ".jsonl" not in name:
        content = b"[" + b",\n".join([good, *lines]) + b"]"
    else:
        content = b"\n".join([good, *lines])
    content = draw(st.just(content) | damaged(content))
    if name.endswith(".gz"):
        content = draw(st.just(gzip.compress(content)) | damaged(gzip.compress(content)))
    return name, content


@cases(60)
@given(file=row_files())
def test_prepare_and_all_who_read_what_it_wrote(world, place, file):
    with place() as here:
        source, output = here.write(*file), here.path / "out"
        seen = attempt(prepare.main, "--input", source, "--output", output, "--max-rejected", 1)
        assert output.exists() == (seen.code == 0)
        if seen.code == 0:
            check_readers(world, here, output, expected=0)


def check_readers(world: World, here: Place, data: Path, expected: int | None = None) -> None:
    """All commands that read prepared data; data that prepare.py wrote breaks no invariant."""
    seen = attempt(check_dataset.main, "--data", data, "--sample", 3, "--html", here.path / "page.html")
    assert expected is None or seen.code == expected
    attempt(check_dataset.main, "--data", data, "--sample", 3)
    for split in ("train", "validation"):
        attempt(evaluate.main, "--run", world.run, "--data", data, "--device", "cpu", "--split", split, "--errors")
    attempt(train.main, "--data", data, "--output", here.path / "trained", *world.training)


# Prepared data

COLUMNS = ["token_ids", "label_ids", "begins", "char_starts", "char_ends", "example_offsets", "text_offsets"]
COLUMNS += ["spans", "span_offsets", "language"]
DTYPES = ["u1", "<u2", "<u4", "<i4", "<i8", ">i8", "<f4", "<f8", "?", "<U8", ">U8", "<U2", "S8", "<c16", "<M8[s]", "V4"]
HEADERS = [
    f"{{'descr': '<i8', 'fortran_order': False, 'shape': ({size},), }}"
    for size in (10**25, 2**63, 2**62, 2**61 + 1, -1, "'a'", "(", "True", 0)
] + [
    "{'descr': '<i4', 'fortran_order': False, 'shape': (6148914691236517206, 3), }",  # its size overflows to 2
    "{'descr': '<i8', 'fortran_order': False, 'shape': (5L,), }",  # as Python 2 wrote it
    r"{'descr': '\d', 'fortran_order': False, 'shape': (5,), }",
    "{'descr': [('a', '<i8')], 'fortran_order': False, 'shape': (5,), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (5,), }",
    "[" * 9000,
    "-" * 9000 + "1",
]


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def headed(header: str, version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + len(header).to_bytes(2, "little") + header.encode() + bytes(80)


@st.composite
def columns(draw: st.DrawFn, whole: bytes, trace: Path) -> bytes:
    """A .npy file with something wrong; a pickle in it would leave a trace."""
    array = np.load(io.BytesIO(whole), allow_pickle=False)
    kinds = [
        "entries",
        "entries",
        "entries",
        "dtype",
        "shape",
        "order",
        "object",
        "archive",
        "header",
        "bytes",
        "length",
    ]
    match draw(st.sampled_from(kinds)):
        case "entries":
            for _ in range(draw(st.integers(1, 3)) if array.size else 0):
                entry = draw(st.integers(0, array.size - 1))
                raw = draw(st.binary(min_size=array.itemsize, max_size=array.itemsize) | small(array.itemsize))
                array.reshape(-1)[entry] = np.frombuffer(raw, array.dtype)[0]
            return npy(array)
        case "dtype":
            with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"), contextlib.suppress(ValueError):
                return npy(array.astype(draw(st.sampled_from(DTYPES))))
        case "shape":
            return npy(array.reshape(draw(st.sampled_from([(1, -1), (-1, 1), (array.size, 1, 1), (array.size,)]))))
        case "order":
            return npy(np.asfortranarray(array)[::-1])
        case "object":
            return npy(np.array([Bomb(trace), None], dtype=object))
        case "archive":
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as archive:
                archive.writestr("arr_0.npy", npy(np.array([Bomb(trace)], dtype=object)))
            return buffer.getvalue()
        case "header":
            versions = st.sampled_from([b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\xff\xff"])
            return headed(draw(st.sampled_from(HEADERS) | st.text(max_size=60)), draw(versions))
        case "bytes":
            return draw(damaged(whole))
    return npy(array[: draw(st.integers(0, len(array)))])


def small(itemsize: int) -> st.SearchStrategy[bytes]:
    """Numbers that are nearly right, or as far off as can be."""
    numbers = st.integers(0, 30) | st.sampled_from([2 ** (8 * itemsize) - 1, 2 ** (8 * itemsize - 1)])
    return numbers.map(lambda number: number.to_bytes(max(itemsize, 1), "little"))


def read_everything(data: PIITokenDataset) -> None:
    for index in range(len(data)):
        item, example = data[index], data.example(index)
        assert item["labels"].tolist() == example["label_ids"]
        json.dumps(example).encode()
    data.to_dict()


@cases(150)
@given(data=st.data())
def test_prepared_data_of_anyone_is_read_or_refused(world, place, data):
    with place() as here:
        folder = here.copy(world.data)
        for _ in range(data.draw(st.integers(1, 2))):
            name = data.draw(st.sampled_from([*COLUMNS, *COLUMNS, "text", "meta"]))
            if name == "meta":
                path = folder / "meta.json"
                content = data.draw(mutated(json.loads((world.data / "meta.json").read_text())))
            else:
                split = data.draw(st.sampled_from(["train", "train", "validation"]))
                path = folder / split / ("text.bin" if name == "text" else f"{name}.npy")
                whole = (world.data / split / path.name).read_bytes()
                content = data.draw(damaged(whole) if name == "text" else columns(whole, here.trace))
            path.write_bytes(content)
        opened = True
        for split in ("train", "validation"):
            with one_line():
                read_everything(PIITokenDataset(folder, split))
                continue
            opened = False
        if opened:
            check_readers(world, here, folder)
        else:
            attempt(check_dataset.main, "--data", folder)


# Runs


@cases(70)
@given(data=st.data())
def test_a_run_of_anyone_is_used_or_refused(world, place, data):
    with place() as here:
        run = here.copy(world.run)
        head = data.draw(st.sampled_from(["documented", "strong"]))
        name = data.draw(
            st.sampled_from(["config.json", "config.json", runs.HEAD, runs.HEAD, run_config.OPERATING_POINTS])
        )
        if name == runs.HEAD:
            whole = (world.run / head / name).read_bytes()
            (run / head / name).write_bytes(data.draw(safetensors_of(whole)))
            seal(run)
        else:
            (run / name).write_bytes(data.draw(mutated(json.loads((world.run / name).read_text()))))
        text = here.write("a.txt", f"I am {CANARY}, no. 17.".encode())
        flags = ["--run", run, "--device", "cpu", "--head", head]
        bias = ["--target-recall"] if name == run_config.OPERATING_POINTS or data.draw(st.booleans()) else []
        attempt(predict.main, *flags, *bias, "--output-format", "jsonl", text)
        bias = ["--target-recall", "0.5"] if bias else []
        attempt(evaluate.main, *flags, *bias, "--data", world.data, "--html", here.path / "page.html")


@cases(25)
@given(data=st.data())
def test_a_training_state_of_anyone_is_resumed_or_refused(world, place, data):
    with place() as here:
        (here.path / "run").mkdir()
        name = data.draw(st.sampled_from([runs.STATE, runs.STATE, runs.SUMMARY]))
        if name == runs.STATE:
            content = data.draw(safetensors_of(world.state.read_bytes()))
        else:
            content = data.draw(mutated(json.loads((world.run / name).read_text())))
        (here.path / "run" / name).write_bytes(content)
        attempt(train.main, "--resume", "--data", world.data, "--output", here.path / "run", *world.training)


# Texts to redact, label maps and vaults


@st.composite
def documents(draw: st.DrawFn) -> tuple[list[str], str, bytes]:
    """(flags, name, content) of a file to redact."""
    kind = draw(st.sampled_from(["text", "field", "column"]))
    lines = draw(st.lists(texts, max_size=3))
    if kind == "text":
        content = "\n".join([CANARY, *lines]).encode("utf-8", "surrogatepass")
        return [], "a.txt", draw(st.just(content) | damaged(content))
    if kind == "field":
        good = st.fixed_dictionaries({"text": texts, "id": st.integers()}).map(lambda row: json.dumps(row).encode())
        content = b"\n".join(draw(st.lists(good | mutated({"text": CANARY, "id": 1}), max_size=3)))
        flags = ["--field", "text"]
    else:
        content = "text,id\r\n" + "".join(f'"{line}",1\r\n' for line in [CANARY, *lines])
        content = content.encode("utf-8", "surrogatepass")
        flags = ["--column", "text"]
    content = draw(st.just(content) | damaged(content))
    if draw(st.booleans()):
        packed = gzip.compress(content)
        return flags, "a.gz", draw(st.just(packed) | st.just(packed + packed) | damaged(packed))
    return flags, "a", content


@pytest.fixture(scope="module")
def run_loaded_once(world: World) -> Iterator[Path]:
    """The texts are looked at here, not the run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict, "build_redactor", lambda arguments, vault: world.redactor)
        yield world.run


@cases(90)
@given(document=documents(), output_format=st.sampled_from(["redacted", "spans", "jsonl"]), skip_bad=st.booleans())
def test_any_text_is_redacted_or_refused(run_loaded_once, place, document, output_format, skip_bad):
    flags, name, content = document
    with place() as here:
        source, output = here.write(name, content), here.path / "out"
        common_flags = ["--run", run_loaded_once, *flags, "--output-format", output_format, "--output", output, source]
        if not skip_bad:
            seen = attempt(predict.main, *common_flags)
            assert output.exists() == (seen.code == 0)
            return
        seen = Seen(predict.main, "--skip-bad", "--rejected", here.path / "bad", *common_flags)
        if seen.code or not seen.errors.startswith("passed over"):
            seen.check()


@cases(40)
@given(data=st.data())
def test_any_label_map_is_used_or_refused(world, place, data):
    sound = {"FIRSTNAME": "NAME", "LASTNAME": None}
    with place() as here:
        path = here.write("map.json", data.draw(mutated(sound) | json_texts.map(str.encode)))
        flags = ["--run", world.run, "--device", "cpu", "--label-map", path]
        text = here.write("a.txt", CANARY.encode())
        for main, *more in (
            (evaluate.main, "--data", world.data, "--json", here.path / "report.json"),
            (predict.main, text),
        ):
            seen = Seen(main, *flags, *more)
            if seen.code or not seen.errors.startswith("warning: the label map names labels"):
                seen.check()


@cases(60)
@given(data=st.data())
def test_any_vault_restores_or_is_refused(place, data):
    redacted = f"I am [NAME_1], not {CANARY}."
    entry = {"redacted_sha256": hashlib.sha256(redacted.encode()).hexdigest(), "values": {"[NAME_1]": "Ann"}}
    lines = [b'{"vault_version": 1}', data.draw(mutated(entry)), json.dumps(entry).encode()]
    content = b"\n".join(lines[: data.draw(st.integers(1, 3))]) + b"\n"
    with place() as here:
        vault = here.write("vault", data.draw(st.just(content) | damaged(content)))
        form = data.draw(st.sampled_from([[], ["--field", "text"], ["--column", "text"]]))
        held = {0: redacted, "--field": json.dumps({"text": redacted}), "--column": f'text\n"{redacted}"\n'}
        text = here.write("a", held[form[0] if form else 0].encode())
        attempt(predict.main, "--restore", vault, "--output", here.path / "out", *form, text)


def test_the_sound_folders_are_taken(world, place):
    """Or all of the above would only test how refusals look."""
    with place() as here:
        check_readers(world, here, world.data, expected=0)
        (here.path / "run").mkdir()
        shutil.copy(world.state, here.path / "run" / runs.STATE)
        flags = ["--data", world.data, "--output", here.path / "run", *world.training]
        assert attempt(train.main, "--resume", *flags).code == 0
        assert save(load_file(world.run / "strong" / runs.HEAD)) and torch.get_num_threads() == 1
