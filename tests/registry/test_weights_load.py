"""Official checkpoints are loaded strictly, and code in them is never executed."""

from __future__ import annotations

import os
import pickle
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import official_files
import pytest
import torch

from registry import backbones, weights
from registry.errors import WeightsError
from registry.sam import Sam


@cache
def model(name: str) -> Sam:
    """Model to load into, shared by the tests; all of its tensors are replaced by each load."""
    return backbones.get(name).build(64)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def load(name: str, path: Path) -> None:
    weights.load(model(name), backbones.get(name), path)


@pytest.mark.parametrize("name", ["mobile_sam", "efficient_sam_s"])
def test_changes_of_a_loaded_model_do_not_reach_the_file_or_the_next_model(name: str, tmp_path: Path) -> None:
    path = official_files.write(name, tmp_path)
    content = path.read_bytes()
    first = backbones.build(name, 64, path)
    published = {key: value.clone() for key, value in first.state_dict().items()}
    with torch.no_grad():
        for value in (*first.parameters(), *first.buffers()):
            value.zero_()
    second = backbones.build(name, 64, path)
    assert all(torch.equal(value, published[key]) for key, value in second.state_dict().items())
    assert path.read_bytes() == content


def test_a_replaced_checkpoint_is_read_again(tmp_path: Path) -> None:
    tensors = official_files.state_dict("mobile_sam")
    path = official_files.write("mobile_sam", tmp_path, tensors)
    key = "mask_decoder.iou_token.weight"
    load("mobile_sam", path)
    kept = model("mobile_sam").state_dict()[key].clone()
    official_files.write("mobile_sam", tmp_path, {**tensors, key: tensors[key] + 1})
    load("mobile_sam", path)
    assert torch.equal(model("mobile_sam").state_dict()[key], kept + 1)


def test_missing_unexpected_and_misshapen_tensors_are_named(tmp_path: Path) -> None:
    tensors = official_files.state_dict("efficient_sam_ti")
    lost = [key for key in tensors if "blocks.3.mlp" in key] + [
        "mask_decoder.iou_token.weight",
        "image_encoder.pos_embed",
    ]
    for key in lost:
        del tensors[key]
    tensors["extra.weight"] = torch.zeros(1)
    tensors["prompt_encoder.invalid_points.weight"] = torch.zeros(1, 128)
    path = official_files.write("efficient_sam_ti", tmp_path, tensors)
    with pytest.raises(WeightsError) as raised:
        load("efficient_sam_ti", path)
    text = str(raised.value)
    assert "does not fit efficient_sam_ti: 6 missing (" in text
    assert text.count("blocks.3.mlp") + text.count("pos_embed") + text.count("iou_token") == 5
    assert "; 1 unexpected (extra.weight)" in text
    assert "1 wrong shape (prompt_encoder.invalid_points.weight (1, 128) instead of (1, 256))" in text


def test_the_backbone_of_another_checkpoint_is_named(tmp_path: Path) -> None:
    path = official_files.write("mobile_sam", tmp_path)
    with pytest.raises(WeightsError, match=r"It looks like the checkpoint of mobile_sam or tiny_sam\.$"):
        backbones.build("efficient_sam_ti", 64, path)


def test_a_candidate_that_cannot_be_built_is_not_suggested(tmp_path: Path) -> None:
    def broken(image_size: int) -> Sam:
        raise RuntimeError("a plug-in's bug")

    path = official_files.write("mobile_sam", tmp_path)
    good, wanted = backbones.get("mobile_sam"), backbones.get("efficient_sam_ti")
    candidates = (replace(good, build=broken), good)
    with pytest.raises(WeightsError, match=r"It looks like the checkpoint of mobile_sam\.$"):
        weights.load(model("efficient_sam_ti"), wanted, path, candidates)


def test_a_file_that_does_not_fit_leaves_the_model_unchanged(tmp_path: Path) -> None:
    entry, sam = backbones.get("efficient_sam_ti"), model("efficient_sam_ti")
    before = {key: value.clone() for key, value in sam.state_dict().items()}
    tensors = official_files.state_dict("efficient_sam_ti")
    del tensors["mask_decoder.iou_token.weight"]
    with pytest.raises(WeightsError):
        weights.load(sam, entry, official_files.write("efficient_sam_ti", tmp_path, tensors))
    assert all(torch.equal(value, before[key]) for key, value in sam.state_dict().items())


def test_unused_tensors_of_a_card_are_ignored(tmp_path: Path) -> None:
    entry = backbones.get("efficient_sam_ti")
    assert entry.card.checkpoint is not None
    card = replace(entry.card, checkpoint=replace(entry.card.checkpoint, unused_keys=("extra.weight",)))
    tensors = official_files.state_dict("efficient_sam_ti") | {"extra.weight": torch.zeros(1)}
    path = official_files.write("efficient_sam_ti", tmp_path, tensors)
    weights.load(model("efficient_sam_ti"), replace(entry, card=card), path)


class MakesFolder:
    """Object whose unpickling makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("how", ["zip", "legacy", "pickle", "zipped"])
def test_code_is_refused_and_not_executed(how: str, tmp_path: Path) -> None:
    content, path, name = {"model": MakesFolder(tmp_path / "made")}, tmp_path / "evil.pt", "mobile_sam"
    if how == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how != "legacy")
    if how == "zipped":
        name = "efficient_sam_s"
        with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
            archive.write(path, "../efficient_sam_vits.pt")
        path = tmp_path / "evil.zip"
    with pytest.raises(WeightsError, match=r"was refused: it holds code, .* Nothing was executed\."):
        load(name, path)
    assert not (tmp_path / "made").exists()
    pickle.loads(pickle.dumps(content))
    assert (tmp_path / "made").exists()


def test_only_the_named_member_is_unpacked(tmp_path: Path) -> None:
    path = official_files.write("efficient_sam_s", tmp_path)
    (tmp_path / "efficient_sam_vits.pt").unlink()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../outside.txt", "x")
        archive.writestr("__MACOSX/efficient_sam_vits.pt", "x")
    load("efficient_sam_s", path)
    assert names(tmp_path) == {path.name}
    assert not (tmp_path.parent / "outside.txt").exists()


def test_files_that_hold_no_state_dict_are_refused(tmp_path: Path) -> None:
    (tmp_path / "noise.pt").write_bytes(bytes(range(256)))
    with pytest.raises(WeightsError, match=r"noise\.pt is damaged or no torch checkpoint \(.+\)"):
        load("mobile_sam", tmp_path / "noise.pt")
    with pytest.raises(WeightsError, match=r"is a folder; give the file, or fetch it with `bench weights fetch"):
        load("mobile_sam", tmp_path)
    with pytest.raises(WeightsError, match=r"absent\.pt does not exist"):
        load("mobile_sam", tmp_path / "absent.pt")
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "settings.pt")
    with pytest.raises(WeightsError, match=r"holds no state dict at the top level; it holds: epoch, lr\."):
        load("mobile_sam", tmp_path / "settings.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(WeightsError, match=r"holds no state dict under the key 'model'; it holds: list\."):
        load("efficient_sam_ti", tmp_path / "list.pt")
