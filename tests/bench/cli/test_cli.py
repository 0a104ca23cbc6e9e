"""Command line in real processes: exit codes, output, and the text of errors."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def bench(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "160", "NO_COLOR": "1", **environment},
    )


def test_help_names_every_command_and_the_first_steps():
    done = bench("--help")
    assert done.returncode == 0
    for verb in ("run", "plan", "status", "table", "plot", "list", "show", "data", "weights"):
        assert f" {verb} " in done.stdout
    for step in ("bench run --grid quick", "bench table", "bench weights fetch", "bench plan --grid default"):
        assert step in " ".join(done.stdout.split())  # lines are wrapped
    assert "\x1b[" not in done.stdout


def test_all_problems_of_a_plan_are_printed_with_exit_code_2(tmp_path):
    done = bench(
        "run",
        "--grid",
        "default",
        "--set",
        "train.epoch=3",
        "--only",
        "strategy=lora",
        "--data",
        tmp_path / "gone",
        "--results",
        tmp_path / "r",
        "--weights",
        tmp_path,
    )
    assert done.returncode == 2
    assert "error:" in done.stderr and "Traceback" not in done.stderr
    for part in ("Did you mean 'train.epochs'?", "grid 'default': unknown strategy 'lora'", str(tmp_path / "gone")):
        assert part in done.stderr, part
    assert not (tmp_path / "r").exists()


def test_an_unknown_option_is_refused_with_the_nearest_match():
    done = bench("run", "--grdi", "quick")
    assert done.returncode == 2 and "--grid" in done.stderr


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("backbones", "mobile_sam"),
        ("strategies", "lora_qv"),
        ("heads", "distance"),
        ("datasets", "nuinsseg"),
        ("grids", "quick"),
        ("settings", "passes over the training images at most"),
    ],
)
def test_list_of_each_kind(kind, expected):
    done = bench("list", kind)
    assert done.returncode == 0 and expected in done.stdout


def test_show_marks_what_is_trained():
    done = bench("show", "sam_nano", "lora_qv")
    assert done.returncode == 0, done.stderr
    assert "8.2 k trained" in done.stdout and "patch_embed PatchEmbed" in done.stdout and "frozen" in done.stdout
    assert "rank: int, default 4" in done.stdout


def test_show_suggests_the_nearest_name():
    done = bench("show", "mobilesam")
    assert done.returncode == 2
    assert "unknown backbone 'mobilesam'. Did you mean 'mobile_sam'?" in done.stderr


def test_data_synth_then_check(tmp_path):
    made = bench("data", "synth", tmp_path / "s", "--images", 3, "--size", 64, "--organs", 2)
    assert made.returncode == 0, made.stderr
    checked = bench("data", "check", tmp_path / "s")
    assert checked.returncode == 0 and "no problems" in checked.stdout and "2 organs" in checked.stdout
    label = next((tmp_path / "s").rglob("*.tif"))
    label.unlink()
    broken = bench("data", "check", tmp_path / "s")
    assert broken.returncode == 1 and label.stem in broken.stdout


def test_weights_check_names_a_missing_file_and_the_command(tmp_path):
    done = bench("weights", "check", "mobile_sam", "--weights", tmp_path)
    assert done.returncode == 1
    assert "missing" in done.stdout and "bench weights fetch mobile_sam" in done.stdout


def test_a_table_without_records_names_the_command_to_run(tmp_path):
    done = bench("table", "--results", tmp_path)
    assert done.returncode == 2 and "bench run" in done.stderr


def test_a_results_folder_of_failures_alone_makes_a_table(tmp_path):
    from fabricated import record as fabricate
    from fabricated import run

    from bench.results import record

    record.write(tmp_path, fabricate(run(fold=1), status="failed", reason="out of memory: CUDA"))
    for arguments in ([], ["--format", "markdown"], ["-o", tmp_path / "t.csv"]):
        done = bench("table", "--results", tmp_path, *arguments)
        assert done.returncode == 0, done.stderr
    assert "out of memory: CUDA" in (tmp_path / "tables" / "leaderboard.md").read_text()
    assert (tmp_path / "t.csv").read_text().startswith("kind,rank")


def test_cuda_without_a_gpu_is_a_problem_of_the_plan(tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = bench(
        "run", "--grid", "quick", "--device", "cuda", "--cluster", "local", "--dry-run", XDG_CACHE_HOME=str(tmp_path)
    )
    assert done.returncode == 2 and "--device cuda: no GPU is usable here" in done.stderr


def test_a_results_folder_without_runs_is_refused_by_each_command(tmp_path):
    done = bench("status", "--results", tmp_path / "reslts")
    assert done.returncode == 2 and "there is no folder" in done.stderr
    done = bench("retry", "--results", tmp_path)
    assert done.returncode == 2 and "nothing was run there yet. Start with `bench run`" in done.stderr
    done = bench("cancel", "--results", tmp_path)
    assert done.returncode == 2 and "name runs (their ids, or BACKBONE/STRATEGY/FOLD), or pass --all" in done.stderr
    done = bench("cancel", "--all", "--results", tmp_path)
    assert done.returncode == 2 and "nothing was planned there" in done.stderr
