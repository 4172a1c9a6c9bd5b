"""The notebook runs from top to bottom as it is committed, with fewer rows."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "notebooks" / "kaggle.ipynb"


def test_the_notebook_is_committed_without_outputs():
    nbformat = pytest.importorskip("nbformat")
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    explained = [cell.source.count("\n") for cell in cells if cell.cell_type == "markdown"]
    assert len(explained) == len(code) + 1 and set(explained) == {2}  # a title and two lines each


def test_the_notebook_runs_from_top_to_bottom_on_a_cpu(tmp_path, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    if not (ROOT / "backbones" / "smollm2-tekken").exists():
        pytest.skip("the notebook is not run: python standin.py builds the backbone that it reads")
    for name in ROOT.iterdir():  # its data and runs are written beside the scripts: here, beside links to them
        if name.suffix == ".py" or name.name in ("pii", "backbones", "requirements.txt"):
            (tmp_path / name.name).symlink_to(name)
    monkeypatch.chdir(tmp_path)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for rows_and_epochs, fewer in {
        '"--rows", "400"': '"--rows", "60"',
        '"--strong-epochs", "12"': '"--strong-epochs", "1"',
    }.items():
        assert sum(rows_and_epochs in cell.source for cell in notebook.cells) == 1
        for cell in notebook.cells:
            cell.source = cell.source.replace(rows_and_epochs, fewer)
    nbclient.NotebookClient(notebook, timeout=1800, kernel_name="python3").execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    pictures = [output for cell in code for output in cell.outputs if "image/svg+xml" in output.get("data", {})]
    assert len(pictures) == 1
    printed = "".join(output.get("text", "") for cell in code for output in cell.outputs)
    assert "every invariant holds" in printed and "strict F1" in printed
    assert (tmp_path / "data" / "notebook.html").stat().st_mode & 0o777 == 0o600
