"""No text of a row is printed or written anywhere but where the documentation says that it is."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import check_dataset
import evaluate
import predict
import prepare
import train
from pii import common
from tests.decoder.test_backbone import save_tiny_backbone
from tests.test_train import DEPTH, MAX_LENGTH, arguments_of, raw_rows, with_weights

CANARIES = (
    "Quibblethorpe",
    "Zaphodinsky",
    "Snorkelwhack",
)  # of good rows, of bad ones, around values
MEANT = ("rows", "prepared", "texts", "redacted", "with text")  # folders that hold text


class Suite:
    """The scripts on files below a folder. Keeps all that they print."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture) -> None:
        self.folder, self.capfd, self.printed = folder, capfd, ""

    def __call__(self, script, expected: int, *files: str, **flags) -> None:
        """Paths are relative to the folder; the script has to end with the exit code."""
        values = {"--" + name.replace("_", "-"): value for name, value in flags.items()}
        values = {name: self.folder / v if isinstance(v, str) and "/" in v else v for name, v in values.items()}
        arguments = [*(str(self.folder / file) for file in files), *arguments_of(values)]
        self.capfd.readouterr()
        try:
            common.run(lambda: script.main(arguments))
            code = 0
        except SystemExit as stop:
            code = stop.code
        printed = "".join(self.capfd.readouterr())
        assert code == expected, (arguments, printed)
        self.printed += printed


@pytest.fixture
def suite(tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """Under the most generous umask, with temporary files below the folder too."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    mask = os.umask(0)
    yield Suite(tmp_path, capfd)
    os.umask(mask)


def write_inputs(folder: Path) -> None:
    rows = [{**row, "unmasked_text": row["unmasked_text"] + f" {CANARIES[2]}"} for row in raw_rows(60)]
    secret = CANARIES[1]
    bad = [
        f'{{"unmasked_text": "{secret}", "span_labels": [[0, 99, "PIN"]]}}',
        f'{{"unmasked_text": "{secret}", "span_labels": "{secret}"}}',
        f'{{"full_text": "{secret}", "spans": [{{"entity_value": "{secret}", "start_position": 0}}]}}',
        f'{{"unmasked_text": "{secret}"',
        f'["{secret}"]',
        f'{{"unmasked_text": "{secret}\\ud800", "span_labels": []}}',
    ]
    for name, lines in (("good", map(json.dumps, rows)), ("some-bad", [*map(json.dumps, rows), *bad]), ("bad", bad)):
        path = folder / "rows" / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (folder / "texts").mkdir()
    (folder / "texts/one.txt").write_text(" ".join(CANARIES))
    (folder / "texts/latin.txt").write_bytes(CANARIES[0].encode() + b"\xe9")
    (folder / "texts/table.csv").write_text(f'note,other\n"{CANARIES[0]},{CANARIES[1]}\n')
    (folder / "texts/header.csv").write_text(f"{CANARIES[0]},other\nx,y\n")
    save_tiny_backbone(folder / "backbone", vocab_size=131072, num_hidden_layers=DEPTH)


def prepare_them(suite: Suite) -> None:
    suite(prepare, 0, input="rows/some-bad.jsonl", output="prepared/data", max_rejected=0.5)
    suite(prepare, 1, input="rows/some-bad.jsonl", output="prepared/refused")
    suite(prepare, 1, input="rows/bad.jsonl", output="prepared/refused", max_rejected=1)
    suite(prepare, 1, input="texts/one.txt", output="prepared/refused")
    suite(check_dataset, 0, data="prepared/data")
    suite(check_dataset, 0, data="prepared/data", html="with text/data.html")


def train_them(suite: Suite) -> None:
    flags = {"data": "prepared/data", "backbone": "backbone/", "max_length": MAX_LENGTH, "device": "cpu"}
    flags |= {"heads": ["documented", "strong"], "strong_epochs": 2, "learning_rate": 0.01, "batch_size": 4}
    suite(train, 0, **flags, output="runs/good", cache="disk", tensorboard=True)
    suite(train, 1, **flags | {"learning_rate": 1e30}, output="runs/absurd", save_every=1)
    suite(train, 2, **flags | {"data": "rows/"}, output="runs/refused")
    suite(train, 2, **flags | {"max_length": 0}, output="runs/refused")
    broken = save_tiny_backbone(suite.folder / "broken", vocab_size=131072, num_hidden_layers=DEPTH)
    with_weights(broken, lambda weights: weights["norm.weight"].fill_(torch.nan))
    suite(train, 1, **flags | {"backbone": "broken/"}, output="runs/refused")


def evaluate_them(suite: Suite) -> None:
    flags = {"run": "runs/good", "data": "prepared/data", "device": "cpu"}
    suite(evaluate, 0, **flags, json="reports/figures.json", html="reports/page.html", errors=True, target_recall=0.2)
    suite(evaluate, 0, **flags, html="with text/errors.html", show_text=True)
    suite(evaluate, 2, **flags | {"data": "rows/"})
    suite(evaluate, 2, **flags, head="nobody")


def predict_them(suite: Suite) -> None:
    flags = {"run": "runs/good", "device": "cpu"}
    rows = {"field": "unmasked_text", "output": "redacted/rows.jsonl"}
    suite(predict, 0, "texts/one.txt", **flags, output="redacted/one.txt", replace="numbered", vault="redacted/vault")
    suite(predict, 0, "rows/some-bad.jsonl", **flags, **rows, skip_bad=True, rejected="redacted/rejected.jsonl")
    suite(predict, 0, "texts/one.txt", **flags, output="redacted/spans.jsonl", output_format="spans", with_text=True)
    suite(predict, 1, "rows/some-bad.jsonl", **flags, **rows | {"output": "redacted/no.jsonl"})
    suite(predict, 1, "texts/latin.txt", **flags, output="redacted/no.txt")
    suite(predict, 1, "texts/table.csv", **flags, column="note", output="redacted/no.csv")
    suite(predict, 2, "texts/header.csv", **flags, column="note", output="redacted/no.csv")
    suite(predict, 2, "rows/good.jsonl", **flags, output="redacted/no.txt", replace="hash")
    suite(predict, 2, "rows/good.jsonl", restore="redacted/rejected.jsonl", output="redacted/no.txt")
    suite(predict, 2, "texts/one.txt", **flags, vault="rows/good.jsonl", replace="numbered", output="redacted/no.txt")
    suite(predict, 0, run="runs/good", export="exported/model", head="documented")


def files_of(folder: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and wanted(path.relative_to(folder))]


def assert_silent(content: bytes, where: str) -> None:
    for canary in CANARIES:
        for word in (canary, canary[:7]):
            for encoding in ("utf-8", "utf-16-le", "utf-32-le"):
                assert word.lower().encode(encoding) not in content.lower(), where


def test_text_is_only_where_it_is_meant_to_be_and_there_it_is_its_owners_only(suite):
    write_inputs(suite.folder)
    for part in (prepare_them, train_them, evaluate_them, predict_them):
        part(suite)

    others = files_of(suite.folder, lambda path: path.parts[0] not in MEANT)
    names = {path.name.partition(".")[0] for path in others}
    assert {"config", "metrics", "summary", "curves", "head", "events", "figures", "page", "operating_points"} <= names
    for path in others:
        assert_silent(path.read_bytes(), str(path))
    assert_silent(suite.printed.encode(), suite.printed)
    assert not files_of(suite.folder / "tmp", lambda _: True)
    assert not files_of(suite.folder, lambda path: any(part.startswith((".", "no.")) for part in path.parts))

    def mode(name: str) -> int:
        return (suite.folder / name).stat().st_mode & 0o777

    assert mode("prepared/data") == 0o700
    for name in ("prepared/data/rejected.jsonl", "redacted/rejected.jsonl", "redacted/vault"):
        assert mode(name) == 0o600, name
    for name in ("with text/data.html", "with text/errors.html", "reports/page.html"):
        assert mode(name) == 0o600, name
    for name in ("redacted/rejected.jsonl", "prepared/data/rejected.jsonl"):  # or the search above proves nothing
        assert CANARIES[1] in (suite.folder / name).read_text()
