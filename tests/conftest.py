"""What several test files share."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # matrices this small are many times as fast on one thread where the cores are shared


@pytest.fixture(autouse=True)
def ctrl_c_raises():
    """Also where the tests run in the background of a shell, which then ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """write_rows(rows, name="rows.jsonl") → the path of a JSON Lines file; a row is a dict, or a string taken as is."""

    def write(rows: list, name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return path

    return write


@pytest.fixture
def prepare_rows(tmp_path: Path, write_rows: Callable[..., Path]) -> Callable[..., Path]:
    """prepare_rows(rows, *flags) → the prepared folder that `prepare.py --input FILE --output FOLDER *flags` wrote."""

    def prepare_them(rows: list, *flags: str, name: str = "rows.jsonl", output: str = "prepared") -> Path:
        import prepare

        prepare.main(["--input", str(write_rows(rows, name)), "--output", str(tmp_path / output), *flags])
        return tmp_path / output

    return prepare_them
