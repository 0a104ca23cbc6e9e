from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from bench import claim


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def plant(folder, **changes) -> None:
    folder.mkdir(exist_ok=True)
    boot = claim._boot()
    holder = {"token": "t" * 32, "host": socket.gethostname(), "pid": dead_pid(), "born": f"{boot}:1"}
    (folder / claim.FILENAME).write_text(json.dumps(holder | changes))


def test_a_run_is_claimed_once_until_it_is_released(tmp_path):
    first = claim.acquire(tmp_path / "run")
    assert first is not None
    assert claim.acquire(tmp_path / "run") is None
    holder = claim.held(tmp_path / "run")
    assert holder is not None and holder["pid"] == os.getpid()
    first.release()
    assert claim.held(tmp_path / "run") is None
    assert claim.acquire(tmp_path / "run") is not None


def test_many_at_once_get_one_claim(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        claims = list(pool.map(lambda _: claim.acquire(tmp_path / "run"), range(64)))
    assert sum(c is not None for c in claims) == 1
    assert [p.name for p in (tmp_path / "run").iterdir()] == [claim.FILENAME]


def test_the_claim_of_a_dead_process_is_taken_over_once(tmp_path):
    plant(tmp_path / "run")
    assert claim.held(tmp_path / "run") is None
    with ThreadPoolExecutor(16) as pool:
        claims = list(pool.map(lambda _: claim.acquire(tmp_path / "run"), range(64)))
    assert sum(c is not None for c in claims) == 1


def test_a_reused_process_number_does_not_pass_for_the_holder(tmp_path):
    plant(tmp_path / "run", pid=os.getpid(), born=f"{claim._boot()}:17")
    assert claim.acquire(tmp_path / "run") is not None


def test_another_hosts_claim_is_respected_while_it_is_touched(tmp_path):
    plant(tmp_path / "run", host="node17")
    assert claim.acquire(tmp_path / "run") is None
    old = (tmp_path / "run" / claim.FILENAME).stat().st_mtime - claim.HEARTBEAT_LIMIT_S - 1
    os.utime(tmp_path / "run" / claim.FILENAME, (old, old))
    assert claim.acquire(tmp_path / "run") is not None


def test_release_leaves_a_successors_claim(tmp_path):
    first = claim.acquire(tmp_path / "run")
    assert first is not None
    plant(tmp_path / "run", pid=os.getpid())
    first.release()
    assert (tmp_path / "run" / claim.FILENAME).exists()


def test_an_unreadable_claim_is_taken_over(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / claim.FILENAME).write_text("{")
    assert claim.acquire(tmp_path / "run") is not None


def test_a_kept_claim_is_touched_and_a_lost_one_is_noticed(tmp_path):
    first = claim.acquire(tmp_path / "run")
    assert first is not None and first.is_ours()
    os.utime(first.path, (0, 0))
    with first.kept_alive(interval_s=0.01):
        while first.path.stat().st_mtime == 0:
            pass
    plant(tmp_path / "run", pid=os.getpid())
    assert not first.is_ours()


def test_the_dead_are_told_from_those_who_gave_their_run_back(tmp_path):
    assert not claim.died(tmp_path / "run")
    first = claim.acquire(tmp_path / "run")
    assert first is not None and not claim.died(tmp_path / "run")
    first.release()
    assert not claim.died(tmp_path / "run")
    plant(tmp_path / "run")
    assert claim.died(tmp_path / "run")


def test_what_proc_does_not_show_is_judged_by_its_heartbeat(tmp_path):
    boot = claim._boot()
    plant(tmp_path / "user", uid=os.getuid() + 1, born=f"{boot}:1")  # hidden where /proc has hidepid
    plant(tmp_path / "container", processes="pid:[1]", born=f"{boot}:1")
    assert claim.acquire(tmp_path / "user") is None
    assert claim.acquire(tmp_path / "container") is None


def test_a_requeued_job_takes_over_from_its_earlier_start(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    first = claim.acquire(tmp_path / "run")  # its process lives on: its node only lost its daemon
    assert first is not None and claim.held(tmp_path / "run")["job"] == "12_3"
    assert claim.acquire(tmp_path / "run") is None
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    second = claim.acquire(tmp_path / "run")
    assert second is not None and second.is_ours() and not first.is_ours()
    first.release()
    assert second.is_ours()


def test_only_the_claim_of_the_job_that_is_over_is_evicted(tmp_path):
    plant(tmp_path / "run", host="far", job="12_3")
    assert not claim.evict(tmp_path / "run", "12_4")
    assert claim.held(tmp_path / "run") is not None
    assert claim.evict(tmp_path / "run", "12_3")
    assert claim.acquire(tmp_path / "run") is not None
    assert not claim.evict(tmp_path / "nowhere", "12_3")
