from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from bench.results import run_lock


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def plant(folder, **changes) -> None:
    folder.mkdir(exist_ok=True)
    boot = run_lock._boot()
    holder = {"token": "t" * 32, "host": socket.gethostname(), "pid": dead_pid(), "born": f"{boot}:1"}
    (folder / run_lock.FILENAME).write_text(json.dumps(holder | changes))


def test_a_run_is_claimed_once_until_it_is_released(tmp_path):
    first = run_lock.acquire(tmp_path / "run")
    assert first is not None
    assert run_lock.acquire(tmp_path / "run") is None
    holder = run_lock.holder(tmp_path / "run")
    assert holder is not None and holder["pid"] == os.getpid()
    first.release()
    assert run_lock.holder(tmp_path / "run") is None
    assert run_lock.acquire(tmp_path / "run") is not None


def test_many_at_once_get_one_claim(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        claims = list(pool.map(lambda _: run_lock.acquire(tmp_path / "run"), range(64)))
    assert sum(c is not None for c in claims) == 1
    assert [p.name for p in (tmp_path / "run").iterdir()] == [run_lock.FILENAME]


def test_the_claim_of_a_dead_process_is_taken_over_once(tmp_path):
    plant(tmp_path / "run")
    assert run_lock.holder(tmp_path / "run") is None
    with ThreadPoolExecutor(16) as pool:
        claims = list(pool.map(lambda _: run_lock.acquire(tmp_path / "run"), range(64)))
    assert sum(c is not None for c in claims) == 1


def test_a_reused_process_number_does_not_pass_for_the_holder(tmp_path):
    plant(tmp_path / "run", pid=os.getpid(), born=f"{run_lock._boot()}:17")
    assert run_lock.acquire(tmp_path / "run") is not None


def test_another_hosts_claim_is_respected_while_it_is_touched(tmp_path):
    plant(tmp_path / "run", host="node17")
    assert run_lock.acquire(tmp_path / "run") is None
    old = (tmp_path / "run" / run_lock.FILENAME).stat().st_mtime - run_lock.HEARTBEAT_LIMIT_S - 1
    os.utime(tmp_path / "run" / run_lock.FILENAME, (old, old))
    assert run_lock.acquire(tmp_path / "run") is not None


def test_release_leaves_a_successors_claim(tmp_path):
    first = run_lock.acquire(tmp_path / "run")
    assert first is not None
    plant(tmp_path / "run", pid=os.getpid())
    first.release()
    assert (tmp_path / "run" / run_lock.FILENAME).exists()


def test_an_unreadable_claim_is_taken_over(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / run_lock.FILENAME).write_text("{")
    assert run_lock.acquire(tmp_path / "run") is not None


def test_a_kept_claim_is_touched_and_a_lost_one_is_noticed(tmp_path):
    first = run_lock.acquire(tmp_path / "run")
    assert first is not None and first.is_ours()
    os.utime(first.path, (0, 0))
    with first.heartbeat(interval_s=0.01):
        while first.path.stat().st_mtime == 0:
            pass
    plant(tmp_path / "run", pid=os.getpid())
    assert not first.is_ours()


def test_the_dead_are_told_from_those_who_gave_their_run_back(tmp_path):
    assert not run_lock.is_abandoned(tmp_path / "run")
    first = run_lock.acquire(tmp_path / "run")
    assert first is not None and not run_lock.is_abandoned(tmp_path / "run")
    first.release()
    assert not run_lock.is_abandoned(tmp_path / "run")
    plant(tmp_path / "run")
    assert run_lock.is_abandoned(tmp_path / "run")


def test_what_proc_does_not_show_is_judged_by_its_heartbeat(tmp_path):
    boot = run_lock._boot()
    plant(tmp_path / "user", uid=os.getuid() + 1, born=f"{boot}:1")  # hidden where /proc has hidepid
    plant(tmp_path / "container", processes="pid:[1]", born=f"{boot}:1")
    assert run_lock.acquire(tmp_path / "user") is None
    assert run_lock.acquire(tmp_path / "container") is None


def test_a_requeued_job_takes_over_from_its_earlier_start(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    first = run_lock.acquire(tmp_path / "run")  # its process lives on: its node only lost its daemon
    assert first is not None and run_lock.holder(tmp_path / "run")["job"] == "12_3"
    assert run_lock.acquire(tmp_path / "run") is None
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    second = run_lock.acquire(tmp_path / "run")
    assert second is not None and second.is_ours() and not first.is_ours()
    first.release()
    assert second.is_ours()


def test_only_the_claim_of_the_job_that_is_over_is_evicted(tmp_path):
    plant(tmp_path / "run", host="far", job="12_3")
    assert not run_lock.remove_lock_of_job(tmp_path / "run", "12_4")
    assert run_lock.holder(tmp_path / "run") is not None
    assert run_lock.remove_lock_of_job(tmp_path / "run", "12_3")
    assert run_lock.acquire(tmp_path / "run") is not None
    assert not run_lock.remove_lock_of_job(tmp_path / "nowhere", "12_3")
