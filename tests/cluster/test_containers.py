"""Jobs in containers: the options that srun is given for pyxis, and whole jobs in apptainer where it is installed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from study import Study, leftovers

from bench.worker.code import code_version

SRUN = """#!{python}
# A stand-in for srun with pyxis, which proves nothing about pyxis: it notes the options, and starts no container.
import json, os, sys
options = [word for word in sys.argv[1:] if word.startswith("--container-")]
with open({notes!r}, "a") as notes:
    notes.write(json.dumps(options) + "\\n")
os.execv({srun!r}, [{srun!r}, *(word for word in sys.argv[1:] if word not in options)])
"""
HERE = tuple(dict.fromkeys((code_version().path, sys.prefix, sys.base_prefix)))


def with_container(one: Study, lines: str) -> None:
    """Add a container to the profile, in place of one that was added before."""
    path = one.folder / "dev.toml"
    path.write_text(f"{path.read_text().partition('[container]')[0]}[container]\n{lines}\n")


def mounts(*paths: object) -> str:
    return f"mounts = {json.dumps([str_mount(path) for path in paths])}"


def str_mount(path: object) -> str:
    return f"{path}:{path}"


def test_options_of_a_container_reach_srun_and_hidden_paths_are_refused(cluster, study, tmp_path):
    one = study(cluster, folds=(1,), strategies=("zero_shot",))
    image, notes = one.folder / "image.sqsh", one.folder / "notes"
    image.touch()
    with_container(one, f'image = "{image}"\n{mounts(*HERE)}')
    output = one.finish(one.run(), expect=2)
    assert f"no mount shows the results folder ({one.results}), the images ({one.images}) at the same path" in output
    assert one.live_jobs() == [] and not list(one.results.glob("jobs/*"))

    with_container(one, f'image = "{image}"\n{mounts(tmp_path, one.images, *HERE)}')
    output = one.finish(one.run("--dry-run"))
    assert f"pyxis: {image}, mounts {tmp_path}:{tmp_path}, " in output
    (text,) = (path.read_text() for path in one.results.glob("jobs/dry-run/*.sh"))
    shown = ",".join(map(str_mount, (tmp_path, one.images, *HERE)))
    expected = [f"--container-image={image}", f"--container-mounts={shown}"]
    assert f" {' '.join(expected)} env PYTHONSAFEPATH=1 " in text

    folder = one.folder / "bin"
    folder.mkdir()
    srun = str(shutil.which("srun", path=one.env["PATH"]))
    (folder / "srun").write_text(SRUN.format(python=sys.executable, notes=str(notes), srun=srun))
    (folder / "srun").chmod(0o755)
    one.env["PATH"] = f"{folder}:{one.env['PATH']}"
    assert "1 of 1 runs are done, 0 failed." in one.finish(one.run())
    assert [json.loads(line) for line in notes.read_text().splitlines()] == [expected]


# ── apptainer ──

LIBRARIES = ("/usr/lib", "/usr/lib64")
MARK = "this-is-the-image"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An unpacked image with a shell and `env`: libraries and Python are mounted, SLURM's commands are not."""
    if not shutil.which("apptainer"):
        pytest.skip("no apptainer on this machine")
    root = tmp_path / "image"
    for name in ("usr/bin", "usr/lib", "usr/lib64", "etc", "tmp", "proc", "sys", "dev", "root", "var/tmp", MARK):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    for name in ("sh", "env"):
        shutil.copy(str(shutil.which(name)), root / "usr" / "bin" / name)
    binds = [word for path in LIBRARIES for word in ("--bind", str_mount(path))]
    probe = ["apptainer", "exec", "--userns", *binds, str(root), "env"]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"apptainer starts nothing here: {done.stderr.strip()[-200:]}")
    return root


@pytest.mark.release
def test_whole_jobs_run_in_apptainer_and_survive_a_requeue_and_a_time_limit(cluster, study, image, tmp_path):
    one = study(cluster, profile="runs_per_job = 1\n", epochs=30)
    words = 'runtime = "apptainer"\narguments = ["--userns"]\n'
    with_container(one, f'image = "{image}"\n{words}{mounts(tmp_path, one.images, *HERE, *LIBRARIES)}')
    command = one.run()
    caught: dict[str, dict[str, Any]] = {}

    def both() -> bool:
        for run, progress in one.training(2).items():
            if run not in caught:
                os.kill(progress["pid"], signal.SIGSTOP)
                caught[run] = progress
        return len(caught) == 2

    one.until("both runs trained", both, of=command)
    assert all(Path(f"/proc/{progress['pid']}/root/{MARK}").is_dir() for progress in caught.values())
    (requeued, first), (limited, second) = caught.items()
    one.ask("scontrol", "requeue", first["job"])  # SLURM wakes it up
    os.kill(second["pid"], signal.SIGUSR2)  # as ahead of a time limit
    os.kill(second["pid"], signal.SIGCONT)

    assert "2 of 2 runs are done, 0 failed." in one.finish(command)
    records = one.records()
    assert {(found.provenance or {})["container"] for found in records.values()} == {str(image)}
    assert {found.status for found in records.values()} == {"ok"}
    assert (records[requeued].provenance or {})["slurm_restart_count"] == 1 and records[requeued].attempts == []
    # Without SLURM's commands in the image, the job can't requeue itself: it ends, and its run is submitted again.
    (attempt,) = records[limited].attempts
    assert attempt["failure"]["kind"] == "timed_out" and "was not requeued; its state is saved." in attempt["reason"]
    assert one.given() == {requeued: 1, limited: 2}
    for run in records:
        log = (one.results / "runs" / run / "log.txt").read_text()
        counts = [log.count(text) for text in ("interrupted: asked to stop after step", " continues: ", " done\n")]
        assert counts == [1, 1, 1]
    assert one.live_jobs() == [] and leftovers(one.results) == []
