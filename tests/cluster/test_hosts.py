"""Workers on hosts that share a results folder, as pods of Kubernetes do; the hosts are namespaces of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from study import Command, Study, leftovers

from bench.results import record, run_lock

# Names, networks and process numbers of its own, and the end of its first process ends all.
HOST = ("unshare", "--uts", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
GRID: dict[str, Any] = {"strategies": ("decoder_only", "lora_qv"), "epochs": 30}
RUNS = 4


@pytest.fixture(scope="module")
def no_cluster(cache: Path) -> Any:
    """What a study needs of a cluster: here, hosts without SLURM."""
    probe = subprocess.run([*HOST, "hostname", "probe"], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"no namespaces for imitated hosts: {probe.stderr.strip()}")
    outside = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SBATCH"))}
    env = {**outside, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "XDG_CACHE_HOME": str(cache)}
    return SimpleNamespace(env=env)


def worker(one: Study, host: str) -> Command:
    """Start `bench run --cluster inline` on a host of this name."""
    return one.run(cluster="inline", before=(*HOST, "sh", "-c", 'hostname "$0" && exec "$@"', host))


def holders(one: Study) -> dict[str, str]:
    """Host of each run that is held."""
    return {run: str(progress["host"]) for run, progress in one.at_work().items()}


def done(one: Study) -> dict[str, str]:
    """Host of each run that is done."""
    return {run: str((found.provenance or {})["host"]) for run, found in one.records().items() if found.status == "ok"}


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare, of util-linux")
def test_hosts_share_the_runs_and_take_over_those_of_a_host_that_died(no_cluster, study):
    one = study(no_cluster, **GRID)
    alpha, beta = worker(one, "alpha"), worker(one, "beta")
    one.until("both hosts at work", lambda: {*holders(one).values()} == {"alpha", "beta"}, of=alpha)
    alpha.process.kill()
    alpha.process.wait()
    (lost,) = (run for run, host in holders(one).items() if host == "alpha")

    # Nobody else can see that the process is gone: its lock holds, until it was silent for long enough.
    one.until("the other three runs", lambda: len(done(one)) == RUNS - 1, of=beta)
    folder = record.folder(one.results, lost)
    assert (run_lock.holder(folder) or {})["host"] == "alpha" and beta.process.poll() is None
    silent_since = time.time() - run_lock.HEARTBEAT_LIMIT_S - 1
    os.utime(folder / run_lock.FILENAME, (silent_since, silent_since))

    assert f"{RUNS} of {RUNS} runs are done, 0 failed." in one.finish(beta)
    late = worker(one, "gamma")  # such as a pod that is started again: there is nothing left to do
    assert f"{RUNS} of {RUNS} runs are done, 0 failed." in one.finish(late)
    assert done(one)[lost] == "beta" and set(done(one).values()) <= {"alpha", "beta"}, done(one)
    assert all(found.attempts == [] for found in one.records().values())
    logs = [path.read_text() for path in one.results.glob("runs/*/log.txt")]
    assert [log.count(" done\n") for log in logs] == [1] * RUNS
    assert leftovers(one.results) == []
