"""`--keep-predictions` from the command to the files, through a run's plan, and again by `bench retry`."""

from __future__ import annotations

import shutil
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from bench.cli import app
from bench.results import kept_files, record
from bench.submission import prepare, retry_plans
from registry.datasets import synthetic

ERRORS = ["n_missed", "n_spurious", "n_merged", "n_split"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("twelve") / "synthetic"
    synthetic.write(root, n_images=12, image_size=64, organs=2, seed=3, nuclei=(2, 4))
    return root


def run(results: Path, grid: Path, data: Path, *, keep: int | None) -> tuple[str, str]:
    """Do the classical pipeline on six test images in this process; return what was printed, and the run's id."""
    prepared = prepare.prepare(
        str(grid),
        only=["backbone=classical", "fold=1"],
        data=data,
        weights_folder=None,
        results=results,
        cluster="inline",
        device="cpu",
    )
    printed = StringIO()
    assert prepare.run(prepared, console=Console(file=printed, width=200), keep_predictions=keep) == 0
    return printed.getvalue(), prepared.plan.runs[0].id


def kept(results: Path, run_id: str) -> set[str]:
    folder = kept_files.predictions_folder(record.folder(results, run_id))
    return {path.stem for path in folder.glob("*.png") if "overlay" not in path.name}


@pytest.fixture(scope="module")
def three_kept(tiny_grid, data, tmp_path_factory) -> tuple[Path, str]:
    """Results of a run that kept only the best, median and worst of its six images."""
    results = tmp_path_factory.mktemp("results")
    return results, run(results, tiny_grid, data, keep=0)[1]


def test_the_kept_images_follow_from_the_scores_and_stand_once_beside_the_runs(three_kept):
    results, run_id = three_kept
    scores = pd.read_parquet(record.folder(results, run_id) / "scores.parquet")
    pq = dict(zip(scores["stem"], scores["pq"], strict=True))
    assert len(pq) == 6 and kept(results, run_id) == set(kept_files.places(pq).values())
    assert {str(scores[name].dtype) for name in ERRORS} == {"int64"}
    (images,) = (results / "images").iterdir()
    assert images.name == next(record.read_all(results)).run["dataset_digest"]
    assert {path.stem for path in images.glob("*.png")} == kept(results, run_id)


def test_a_run_that_is_done_has_the_same_id_and_keeps_what_it_has(three_kept, tiny_grid, data):
    results, run_id = three_kept
    files = {path: path.stat().st_mtime_ns for path in (results / "runs" / run_id).rglob("*.png")}
    printed, same = run(results, tiny_grid, data, keep=None)
    assert same == run_id and "1 done already" in printed
    assert {path: path.stat().st_mtime_ns for path in (results / "runs" / run_id).rglob("*.png")} == files


def test_retry_keeps_what_the_plan_says(tmp_path, tiny_grid, data):
    _, run_id = run(tmp_path, tiny_grid, data, keep=None)
    assert len(kept(tmp_path, run_id)) == 6
    shutil.rmtree(record.folder(tmp_path, run_id))
    console = Console(file=StringIO())
    assert retry_plans.retry_plans(tmp_path, console=console, failed=False, detach=False, profile=None) == 0
    assert len(kept(tmp_path, run_id)) == 6


def test_a_wrong_number_is_refused_before_anything_is_planned(tmp_path):
    result = CliRunner().invoke(app, ["run", "--keep-predictions", "some", "--results", str(tmp_path / "r")])
    assert "--keep-predictions some: give a number of test images from 0 on" in str(result.exception)
    assert not (tmp_path / "r").exists()
