"""Checkpoints of planned runs are verified before anything is submitted."""

from __future__ import annotations

import pytest

from bench.errors import PlanError
from bench.submission import checkpoints, prepare
from registry import backbones


@pytest.fixture
def grid(tmp_path):
    path = tmp_path / "official.py"
    path.write_text(
        '"""Two backbones from official weights."""\n'
        "from bench.grid import FoldSettings, Grid, Settings\n"
        'GRID = Grid("official", ("mobile_sam", "tiny_sam"), ("decoder_only",),\n'
        '    Settings(dataset="synthetic", image_size=64, folds=FoldSettings(n_splits=2)))\n'
    )
    return str(path)


@pytest.mark.parametrize("ahead", [False, True], ids=["run", "plan and dry run"])
def test_a_checkpoint_of_a_wrong_digest_is_a_problem(ahead, grid, tiny_data, tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "mobile_sam.pt").write_bytes(b"PK\x03\x04 of another model")
    (folder / "tinysam_42.3.pth").write_text("<!DOCTYPE html><p>")
    with pytest.raises(PlanError) as raised:
        prepare.prepare(grid, data=tiny_data, weights_folder=folder, results=tmp_path / "results", ahead=ahead)
    text = str(raised.value)
    digest = backbones.card("mobile_sam").checkpoint.sha256
    assert f"checkpoint of mobile_sam, {folder / 'mobile_sam.pt'}: wrong digest: 21 bytes, sha256 " in text
    assert f"instead of {digest}; the file is a zip archive, as torch writes it, that is cut off" in text
    assert f"checkpoint of tiny_sam, {folder / 'tinysam_42.3.pth'}: not a checkpoint: is an HTML page" in text
    assert not (tmp_path / "results").exists()


def test_missing_and_wrong_checkpoints_are_told_apart(grid, tiny_data, tmp_path):
    (tmp_path / "tinysam_42.3.pth").write_text("")
    ahead = {"data": tiny_data, "weights_folder": None, "results": tmp_path}
    runs = prepare.prepare(grid, **ahead | {"weights_folder": tmp_path / "empty"}, ahead=True).plan.runs
    found = checkpoints.problems(runs, tmp_path)
    (absent,), (wrong,) = found.absent, found.wrong
    assert absent.startswith(
        f"no checkpoint for mobile_sam (mobile_sam.pt) in {tmp_path}; run `bench weights fetch mobile"
    )
    assert wrong.startswith(
        f"checkpoint of tiny_sam, {tmp_path / 'tinysam_42.3.pth'}: not a checkpoint: is empty; move it"
    )


def test_runs_with_random_weights_need_no_checkpoint(tiny_grid, tiny_data, tmp_path):
    runs = prepare.prepare(str(tiny_grid), data=tiny_data, weights_folder=None, results=tmp_path).plan.runs
    assert checkpoints.problems(runs, tmp_path / "nowhere") == checkpoints.CheckpointProblems()


def test_available_weights_are_random_with_a_warning_where_the_file_is_absent_and_refused_where_it_is_wrong(
    tiny_data, tmp_path, caplog
):
    places = {"data": tiny_data, "weights_folder": tmp_path / "weights", "results": tmp_path / "results"}
    runs = prepare.prepare("quick", **places).plan.runs
    assert {run.weights for run in runs} == {"random", "none"}
    said = (
        f"No official checkpoint of lite_medsam in {tmp_path / 'weights'}: with weights=available, its runs start from"
    )
    assert [text for text in caplog.messages if text.startswith(said)] != []
    assert "RANDOM weights. `bench weights fetch lite_medsam` gets it." in caplog.text
    caplog.clear()
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "lite_medsam.pth").write_bytes(b"another file")
    with pytest.raises(PlanError, match=r"checkpoint of lite_medsam, .*wrong digest|not a checkpoint"):
        prepare.prepare("quick", **places)
    assert "RANDOM" not in caplog.text


def test_weights_named_in_no_setting_look_for_no_file(tiny_grid, tmp_path, caplog):
    from bench.planning import plan

    assert checkpoints.available(plan.load_grid(str(tiny_grid)), tmp_path) == frozenset()
    assert caplog.messages == []
