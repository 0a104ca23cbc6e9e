"""Job arrays and the files that sbatch is given."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import cloudpickle
import pytest
from slurm_commands import put_commands

from bench.estimate.packing import JobArray
from bench.grid import FoldSettings, Grid, Run, Settings
from bench.planning import plan
from bench.results.submissions import JobRef, Submission
from bench.slurm.container import Container
from bench.slurm.profile import ClusterProfile, profile_for_device
from bench.submission import submit


def runs(count: int) -> tuple[Run, ...]:
    grid = Grid("g", ("sam_nano",), ("full",), Settings(weights="random", folds=FoldSettings(n_splits=count)))
    return plan.make(replace(grid, classical=False), "d").runs


def test_the_sbatch_files_say_what_the_profile_says(tmp_path, monkeypatch):
    put_commands(tmp_path / "bin", monkeypatch, srun="exit 0")
    profile = ClusterProfile(
        partition="gpu",
        account="lab",
        gpu="a100",
        cpus_per_gpu=6,
        memory_gb_per_gpu=30,
        signal_delay_s=77,
        array_parallelism=2,
        setup=("module load cuda",),
        extra={"reservation": "night"},
    )
    array = JobArray(time_limit_min=90, runs_at_once=1, jobs=tuple((run,) for run in runs(3)))
    (text,) = submit.sbatch_texts([array], tmp_path, profile)
    for line in (
        "--array=0-2%2",
        "--partition=gpu",
        "--account=lab",
        "--gres=gpu:a100:1",
        "--cpus-per-task=6",
        "--mem=30GB",
        "--time=90",
        "--signal=USR2@77",
        "--requeue",
        "--reservation=night",
    ):
        assert f"#SBATCH {line}\n" in text, line
    assert "\nmodule load cuda\n" in text
    single = replace(array, jobs=array.jobs[:1])
    (text,) = submit.sbatch_texts([single], tmp_path, replace(profile, requeue=False, gpu=None))
    assert "--array" not in text and "#SBATCH --no-requeue\n" in text and "#SBATCH --gpus-per-node=1\n" in text


def sbatch_text(tmp_path, profile: ClusterProfile) -> str:
    array = JobArray(time_limit_min=60, runs_at_once=1, jobs=(runs(2),))
    (text,) = submit.sbatch_texts([array], tmp_path, profile)
    return text


def test_runs_on_cpus_request_no_gpu(tmp_path, monkeypatch):
    put_commands(tmp_path / "bin", monkeypatch, srun="exit 0")
    text = sbatch_text(tmp_path, profile_for_device(ClusterProfile(gpu="a100"), "cpu"))
    assert "gpu" not in text.replace("bench-1", "").partition("# setup")[0].partition("# command")[0]


def test_memory_is_requested_per_cpu_where_the_profile_says_so(tmp_path, monkeypatch):
    put_commands(tmp_path / "bin", monkeypatch, srun="exit 0")
    text = sbatch_text(tmp_path, ClusterProfile(cpus_per_gpu=7, memory_gb_per_gpu=30, memory_per_cpu=True))
    assert "#SBATCH --mem-per-cpu=4389M\n" in text and "--mem=" not in text
    assert "--mem-per-cpu" not in sbatch_text(tmp_path, ClusterProfile())


def test_the_job_starts_python_on_the_code_that_submits_it(tmp_path, monkeypatch):
    put_commands(tmp_path / "bin", monkeypatch, srun="exit 0")
    text = sbatch_text(tmp_path, ClusterProfile(setup=("export PYTHONPATH=/elsewhere",)))
    (line,) = [line for line in text.splitlines() if line.startswith("srun ")]
    assert "env PYTHONSAFEPATH=1 " in line and f"{sys.executable} -u -m submitit.core._submit" in line
    folder = Path(submit.__file__).resolve().parents[1] / "worker" / "import_path"
    assert f'PYTHONPATH={folder}"${{PYTHONPATH:+:$PYTHONPATH}}"' in line


@pytest.mark.parametrize(
    ("container", "words"),
    [
        (
            Container("/i.sqsh", mounts=("/s:/s", "/d:/d:ro"), python="python3", arguments=("--container-mount-home",)),
            "--container-image=/i.sqsh --container-mounts=/s:/s,/d:/d:ro --container-mount-home env PYTHONSAFEPATH=1 ",
        ),
        (
            Container("/i.sif", mounts=("/s:/s",), runtime="apptainer", python="python3"),
            " apptainer exec --nv --bind /s:/s /i.sif env PYTHONSAFEPATH=1 ",
        ),
    ],
)
def test_a_job_in_a_container_starts_its_python_there(tmp_path, monkeypatch, container, words):
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    put_commands(tmp_path / "bin", monkeypatch, srun="exit 0")
    text = sbatch_text(tmp_path, ClusterProfile(container=container))
    (line,) = [line for line in text.splitlines() if line.startswith("srun ")]
    variables = f"XDG_CACHE_HOME=/cache NUCLEI_BENCH_CONTAINER={container.image}"
    assert words in line and f" {variables} python3 -u -m submitit.core._submit " in line


def test_arrays_share_the_limit_by_their_work():
    some = runs(4)
    short = JobArray(60, 1, tuple((run,) for run in some[:2]))
    long = JobArray(360, 1, tuple((run,) for run in some[2:]))
    assert submit.shares([short, long], 14) == [2, 12]
    assert submit.shares([short, long], 1) == [1, 1]
    assert submit.shares([short], 32) == [32]
    assert submit.shares([], 32) == []


@pytest.mark.parametrize(
    ("last_line", "is_of_other_version"),
    [
        ("ModuleNotFoundError: No module named 'bench.job'", True),
        (
            "AttributeError: Can't get attribute 'Places' on <module 'bench.worker.settings' from '/a/settings.py'>",
            True,
        ),
        ("ModuleNotFoundError: No module named 'torch'", False),
        ("AttributeError: Can't get attribute 'Method' on <module 'my_method' from '/a/my_method.py'>", False),
    ],
)
def test_a_job_of_an_earlier_version_is_explained_in_words(tmp_path, last_line, is_of_other_version):
    submission = Submission("token", "bench-1", "7", (("a",),), str(tmp_path), "", False, "")
    text = f'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\n{last_line}\n'
    (tmp_path / "7_0_result.pkl").write_bytes(cloudpickle.dumps(("error", text)))
    result = submit.result(JobRef(submission, 0))
    words = (
        "job 7 was submitted by an earlier version of nuclei-bench, which this code can't continue; the same command "
        "submits its runs anew."
    )
    assert result is not None and result.error == (words if is_of_other_version else last_line)
