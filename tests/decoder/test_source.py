"""Where a run's backbone lies, and whether it is the one of training: promises of source.py."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from pii.common import UserError
from pii.decoder.backbone import load_backbone
from pii.decoder.source import check_weights, folder_entry, locate, weight_checksums
from tests.decoder.test_backbone import save_tiny_backbone

RUN = Path("runs/one")


@pytest.fixture
def backbone(tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    return str(save_tiny_backbone(Path("here/backbones/tiny")))


def entry_of(backbone: str, run: Path, dtype: torch.dtype = torch.float32, **loading) -> dict:
    loaded = load_backbone(backbone, dtype, **loading)
    weights, name = weight_checksums(loaded), str(dtype).removeprefix("torch.")
    return {"name": backbone, "folder": folder_entry(backbone, run), "weights": weights, "dtype": name}


@pytest.mark.parametrize("moved", ["nothing", "the run", "both", "both, and another backbone stands in the old place"])
def test_a_run_finds_its_backbone_from_anywhere_and_when_moved(backbone, tmp_path, monkeypatch, moved):
    entry, run = {"name": backbone, "folder": folder_entry(backbone, Path("here/runs/one"))}, Path("here/runs/one")
    run.mkdir(parents=True)
    place = tmp_path / "here"
    if moved == "the run":
        run = Path(shutil.move(run, tmp_path / "elsewhere"))
    elif moved.startswith("both"):
        place = Path(shutil.move("here", tmp_path / "there"))
        run = place / "runs/one"
        if "another" in moved:
            (tmp_path / backbone).mkdir(parents=True)
    run = run.absolute()
    monkeypatch.chdir("/")
    for way in (run, Path(os.path.relpath(run))):
        assert Path(locate(entry, way)) == (place / "backbones/tiny").resolve()


def test_a_folder_that_is_gone_never_becomes_the_name_of_a_model_of_the_hub(backbone):
    entry = {"name": backbone, "folder": folder_entry(backbone, RUN)}
    shutil.rmtree("here")
    with pytest.raises(UserError, match="pass --backbone FOLDER"):
        locate(entry, RUN)


@pytest.mark.parametrize("name", ["./tiny", "../tiny", "/no/where", "a/b/c", "tiny/", "here/tiny", "~/tiny", "a\\b"])
def test_a_path_where_nothing_is_is_refused_without_asking_the_hub(backbone, monkeypatch, name):
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", lambda *_, **__: pytest.fail("the hub was asked"))
    with pytest.raises(UserError, match="there is no folder"):
        load_backbone(name, torch.float32)


def test_names_of_the_hub_are_taken_as_they_are(backbone):
    assert folder_entry("owner/name", RUN) is None
    assert locate({"name": "owner/name", "folder": None}, RUN) == "owner/name" == locate({"name": "owner/name"}, RUN)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("loading", [{}, {"layers": 1}, {"precision": "fp8"}, {"precision": "int8"}])
def test_the_same_weights_are_the_same_backbone_in_other_dtypes_and_with_fewer_layers(backbone, dtype, loading):
    check_weights(
        load_backbone(backbone, dtype, **loading), entry_of(backbone, RUN, **{**loading, "layers": None}), RUN
    )


def test_one_weight_that_changed_is_another_backbone(backbone):
    entry = entry_of(backbone, RUN)
    for layer in range(2):
        changed = load_backbone(backbone, torch.float32)
        changed.layers[layer].mlp.up_proj.weight.flatten()[0] += 1
        with pytest.raises(UserError, match="another backbone"):
            check_weights(changed, entry, RUN)


def test_where_nothing_can_be_said_nothing_is_refused(backbone):
    entry = entry_of(backbone, RUN)
    other = load_backbone(str(save_tiny_backbone(Path("other"), initializer_range=0.1)), torch.float32)
    with pytest.raises(UserError, match="another backbone"):
        check_weights(other, entry, RUN)
    for unknown in ({"weights": {}}, {"dtype": "float16"}, {"name": "random:ministral-8b"}):
        check_weights(other, entry | unknown, RUN)
