"""The page that `bench plan` prints."""

from __future__ import annotations

import shutil
import warnings
from collections import namedtuple
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from PIL import Image
from planned_run import CLASSICAL_RUN, FOLDS, LORA, NO_GPU, taking
from planned_run import FULL_RUN as RUN
from planned_run import RUN as PLANNED
from rich.console import Console

from bench.estimate import flops, page
from bench.estimate.resources import StepCost, unknown_resources
from bench.slurm.profile import ClusterProfile
from registry.contract import Sample


@pytest.fixture
def printed(tmp_path, monkeypatch):
    """Text that `show` prints on a terminal of 100 columns without colour."""

    def call(runs, resources, *, done=(), skipped=(), profile=None, results=tmp_path / "results", free=10**12) -> str:
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2 * free, free, free))
        monkeypatch.setattr(page.estimator, "estimate_resources", lambda *_, **__: resources)
        text = StringIO()
        page.show(
            runs,
            done=frozenset(run.id for run in done),
            skipped=skipped,
            samples=(),
            n_images=665,
            profile=profile or ClusterProfile(),
            results=results,
            console=Console(file=text, width=100),
        )
        lines = [line.rstrip() for line in text.getvalue().splitlines()]
        assert max(map(len, lines)) <= 100
        return "\n".join(lines)

    return call


def test_the_whole_page(printed):
    resources = {CLASSICAL_RUN.id: NO_GPU} | {run.id: taking(800, 33.3, 4, 10**10) for run in FOLDS[1:]}
    resources |= {run.id: unknown_resources("it can't be counted (RuntimeError: no)") for run in LORA}
    text = printed(
        [CLASSICAL_RUN, *FOLDS, *LORA],
        resources,
        done=FOLDS[:1],
        skipped=[(RUN, "no checkpoint")],
        results=Path("/nowhere/at/all"),
    )
    assert (
        text
        == """\
backbone   strategy   to do  done  ≈ GPU-hours  ≈ a run  ≈ GPU memory   batch  basis
classical  classical      1     0            –    1 min             –       –  no GPU
sam_nano   full           2     1         26.7     13 h      33.3 GiB  4 of 8  FLOPs
           lora_qv        3     0            ?        ?             ?       –  unknown

runs        6 to do, 1 done; 6 jobs in 2 arrays
arrays      1 job of at most 1 h, 1 run each
            5 jobs of at most 12 h, 1 run each
GPU-hours   ≈ 27 in all, and 3 runs of unknown length
wall-clock  ≈ 13 h if 6 GPUs at once (array_parallelism) are free throughout, and 3 runs of unknown
            length
disk        ≈ 2.0 GB to stay, ≈ 20.0 GB more while jobs run, for the states of training, and 3 runs
            of unknown size; 1000.0 GB are free at /nowhere/at/all

skipped  sam_nano × full: no checkpoint
warning  sam_nano × full: ≈ 13 h a run, and the time limit is 12 h: each will be requeued about once
         and continue from its saved state.

unknown  it can't be counted (RuntimeError: no). Jobs of these runs have the profile's time limit.
FLOPs    forward and backward pass of one image, counted for each strategy without computing them,
         times images and epochs, at 25 % of the 312 TFLOP/s that the profile states.
         Post-processing takes 40 ms of a core for each image validated or tested, beside the
         predictions where there are cores for it. Reading images, which small models may wait for,
         is not included; nor is early stopping, which shortens runs. Time limits are 3 × that.
batch    the largest micro-batch that fits 40 GiB. Training finds it by itself, and an optimiser
         step uses the whole batch all the same."""
    )


def test_cached_embeddings_and_blocks_computed_again_are_said(printed, monkeypatch):
    monkeypatch.setenv("BENCH_EMBEDDINGS_GB", "80")
    again = replace(taking(60), is_recomputed=True, cache_bytes=15 * 10**9)
    text = printed(FOLDS, {run.id: again for run in FOLDS})
    assert "embeddings  ≈ 45.0 GB in the cache, which has a limit of 80.0 GB (BENCH_EMBEDDINGS_GB)" in text
    assert "  8 ↻  FLOPs" in text
    assert "↻      activations of the encoder's blocks are computed again in the backward pass" in text


def test_the_gpu_of_measured_runs_is_named(printed):
    measured = replace(taking(60), basis="measured", details="5 runs on NVIDIA A100", factor=1.5)
    text = printed(FOLDS, {run.id: measured for run in FOLDS})
    assert text.endswith("\n\nmeasured  5 runs on NVIDIA A100. Time limits are 1.5 × that.")
    assert "sam_nano  full" in text and "1 h" in text


def test_swept_settings_have_rows_of_their_own(printed):
    ranks = [replace(PLANNED, options={"rank": rank}) for rank in (1, 8)]
    text = printed([*ranks, RUN], {ranks[0].id: taking(60), ranks[1].id: taking(120), RUN.id: taking(30)})
    assert text.startswith(
        """\
backbone  strategy  settings  to do  done  ≈ GPU-hours  ≈ a run  ≈ GPU memory  batch  basis
sam_nano  lora_qv   rank=1        1     0          1.0      1 h      10.0 GiB      8  FLOPs
          lora_qv   rank=8        1     0          2.0      2 h      10.0 GiB      8  FLOPs
          full                    1     0          0.5   30 min      10.0 GiB      8  FLOPs
"""
    )


def test_runs_that_share_a_gpu_are_shown(printed):
    text = printed(FOLDS, {run.id: taking(1, 1) for run in FOLDS}, profile=ClusterProfile(runs_per_gpu=3))
    assert "arrays      1 job of at most 1 h, up to 3 runs each, 3 at once on its GPU" in text


def test_without_gpus_there_are_no_gpu_hours(printed):
    measured = replace(taking(60), gpu_memory_bytes=None, basis="measured", details="2 runs on CPU")
    text = printed(FOLDS, {run.id: measured for run in FOLDS}, profile=ClusterProfile(gpus=0))
    assert "GPU-hours   " not in text
    assert "if 3 jobs at once (array_parallelism) are free throughout" in text


def test_a_finished_plan(printed):
    text = printed(FOLDS, {}, done=FOLDS)
    assert "runs        0 to do, 3 done; 0 jobs in 0 arrays" in text


def test_one_run_of_unknown_length_is_singular(printed):
    text = printed(FOLDS[:1], {RUN.id: unknown_resources("not measured")})
    assert "≈ 0 in all, and 1 run of unknown length" in text


def test_runs_without_gpu_that_share_a_job_are_not_said_to_share_a_gpu(printed):
    profile = ClusterProfile(gpus=0, runs_per_gpu=3)
    runs = [replace(CLASSICAL_RUN, fold=fold) for fold in (1, 2, 3)]
    text = printed(runs, {run.id: NO_GPU for run in runs}, profile=profile)
    assert "1 job of at most 1 h, up to 3 runs each, 3 at once\n" in text


def test_a_status_line_names_the_model_that_is_counted(monkeypatch, tmp_path):
    monkeypatch.setattr(flops, "cached_step_cost", lambda run, **_: None)
    monkeypatch.setattr(flops, "count_step", lambda run, **_: StepCost(1, 1, 1, 1, 1, 1, 1, 1))
    text = StringIO()
    console = Console(file=text, width=100, force_terminal=True)
    resources = page.estimate_with_progress(
        [RUN], (), profile=ClusterProfile(), console=console, records=(), n_images=665
    )
    assert resources[RUN.id].basis == "counted"
    assert "counting FLOPs and memory of sam_nano × full, 1 of 1" in text.getvalue()


def sample(path: Path) -> Sample:
    return Sample(stem="a", organ="b", image_path=path, label_path=path, group="a")


def test_image_shape_from_the_header(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    assert page._image_shape(sample(tmp_path / "a.png")) == (20, 30)


@pytest.mark.parametrize(("limit", "shape"), [(400, (20, 30)), (200, None)])
def test_image_shape_of_a_very_large_image_is_no_error_and_no_warning(tmp_path, monkeypatch, limit, shape):
    """Pillow warns above its limit of pixels, and raises above twice the limit."""
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert page._image_shape(sample(tmp_path / "a.png")) == shape


@pytest.mark.parametrize("content", [None, b"no image"])
def test_image_shape_of_an_unreadable_file_is_unknown(tmp_path, content):
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    assert page._image_shape(sample(tmp_path / "a.png")) is None
