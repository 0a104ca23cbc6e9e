from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from bench.errors import LedgerError
from bench.results import run_lock, submissions
from bench.slurm import client

NOW = "2026-01-01T10:00:00+00:00"


def intended(results: Path, *tasks: tuple[str, ...]) -> submissions.Submission:
    return submissions.begin(results, tasks or (("aa", "bb"), ("cc",)), submitted=NOW, owner="0@test")


def test_what_is_about_to_be_submitted_is_written_down_first(tmp_path):
    one = intended(tmp_path)
    assert one.job_id is None and one.array and one.submitted == NOW
    assert one.tasks == (("aa", "bb"), ("cc",))
    assert one.job_name == f"bench-{one.token.rpartition('-')[2]}"
    assert one.folder == str(tmp_path.absolute() / "jobs" / one.token / "%j")
    found = submissions.read(tmp_path)
    assert found.open == (one,) and found.closed == () and found.cancelled == frozenset()
    assert set(found.assigned()) == {"aa", "bb", "cc"}
    assert found.assigned()["cc"].job_id is None


def test_an_array_has_a_job_per_task_and_a_single_job_none(tmp_path):
    array = submissions.confirm(tmp_path, intended(tmp_path), "123")
    assert [array.job_of(task) for task in (0, 1)] == ["123_0", "123_1"]
    assert array.log(1) == tmp_path / "jobs" / array.token / "123_1" / "123_1_0_log.out"
    assert array.log(1, "err").name == "123_1_0_log.err"
    single = submissions.confirm(tmp_path, intended(tmp_path, ("dd",)), "124")
    assert not single.array and single.job_of(0) == "124"
    found = submissions.read(tmp_path)
    assert {run: reference.job_id for run, reference in found.assigned().items()} == {
        "aa": "123_0",
        "bb": "123_0",
        "cc": "123_1",
        "dd": "124",
    }


def test_the_queues_id_of_a_task_confirms_the_array(tmp_path):
    adopted = submissions.confirm(tmp_path, intended(tmp_path), "123_1")
    assert adopted.job_id == "123" and adopted.job_of(0) == "123_0"
    assert submissions.read(tmp_path).open == (adopted,)


def test_closed_tasks_free_their_runs_and_the_last_one_closes_the_submission(tmp_path):
    one = submissions.confirm(tmp_path, intended(tmp_path), "123")
    half = submissions.close_tasks(tmp_path, one, [0])
    found = submissions.read(tmp_path)
    assert found.open == (half,) and set(found.assigned()) == {"cc"}
    assert [reference.task for reference in found.open_tasks()] == [1]
    whole = submissions.close_tasks(tmp_path, half, [0, 1])
    found = submissions.read(tmp_path)
    assert found.open == () and found.closed == (whole,) and found.assigned() == {}
    assert {run: reference.job_id for run, reference in found.latest().items()} == {
        "aa": "123_0",
        "bb": "123_0",
        "cc": "123_1",
    }
    assert not list((tmp_path / "ledger" / "open").iterdir())


def test_the_newest_job_of_a_run_counts(tmp_path):
    ids = iter(("20260101-100000-aaaaaaaa", "20260101-100001-bbbbbbbb"))
    first, second = (submissions.confirm(tmp_path, intended(tmp_path, ("aa",)), number) for number in ("1", "2"))
    for one, token in zip((first, second), ids, strict=True):
        path = tmp_path / "ledger" / "open" / f"{one.token}.json"
        path.with_name(f"{token}.json").write_text(json.dumps({**json.loads(path.read_text()), "token": token}))
        path.unlink()
    assert submissions.read(tmp_path).latest()["aa"].job_id == "2"
    newest = submissions.read(tmp_path).open[1]
    submissions.close_tasks(tmp_path, newest, [0])
    assert submissions.read(tmp_path).latest()["aa"].job_id == "2"  # being over makes it no older
    assert submissions.read(tmp_path).assigned()["aa"].job_id == "1"


def test_a_submission_seen_in_both_folders_is_closed(tmp_path):
    one = intended(tmp_path, ("aa",))
    path = tmp_path / "ledger" / "open" / f"{one.token}.json"
    text = path.read_text()
    submissions.close_tasks(tmp_path, one, [0])
    path.write_text(text)  # as a reader may find it while the file moves
    found = submissions.read(tmp_path)
    assert found.open == () and [closed.token for closed in found.closed] == [one.token]


def test_cancelled_runs_are_remembered(tmp_path):
    submissions.write_cancelled(tmp_path, {"bb", "aa"})
    assert submissions.read(tmp_path).cancelled == frozenset({"aa", "bb"})
    submissions.write_cancelled(tmp_path, ())
    assert submissions.read(tmp_path).cancelled == frozenset()


def test_an_empty_folder_is_an_empty_ledger(tmp_path):
    found = submissions.read(tmp_path / "gone")
    assert found.open == found.closed == () and found.assigned() == found.latest() == {}
    assert not (tmp_path / "gone").exists()  # reading makes nothing


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"tasks": 3, "settled": []}'])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path, text):
    one = intended(tmp_path)
    path = tmp_path / "ledger" / "open" / f"{one.token}.json"
    path.write_text(text)
    with pytest.raises(LedgerError) as caught:
        submissions.read(tmp_path)
    assert str(caught.value).startswith(f"{path} is damaged (")
    assert str(caught.value).endswith("move it away: its jobs, if any still run, finish all the same.")


def test_a_damaged_list_of_cancelled_runs_may_go(tmp_path):
    path = tmp_path / "ledger" / "cancelled.json"
    path.parent.mkdir()
    path.write_text("[")
    with pytest.raises(LedgerError, match="remove it: it only names cancelled runs"):
        submissions.read(tmp_path)


def test_unfinished_writes_are_passed_over(tmp_path):
    one = intended(tmp_path)
    (tmp_path / "ledger" / "open" / ".20260101.json.1a2b.tmp").write_text("{")
    (tmp_path / "ledger" / "open" / ".20260101.json").write_text("{")
    assert submissions.read(tmp_path).open == (one,)


def test_one_at_a_time_holds_the_ledger(tmp_path):
    inside, most = 0, 0

    def one(_: int) -> None:
        nonlocal inside, most
        with submissions.locked(tmp_path, poll_s=0.001):
            inside += 1
            most = max(most, inside)
            intended(tmp_path)
            inside -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(24)))
    assert most == 1
    assert len(submissions.read(tmp_path).open) == 24
    assert not list((tmp_path / "ledger" / "lock").iterdir())


def test_a_command_that_waits_logs_once_whom_it_waits_for(tmp_path, caplog):
    caplog.set_level("INFO", logger="bench")
    with ThreadPoolExecutor(1) as pool:
        with submissions.locked(tmp_path):

            def wait() -> None:
                with submissions.locked(tmp_path, poll_s=0.001):
                    pass

            waiting = pool.submit(wait)
            while not caplog.messages and not waiting.done():
                pass
        waiting.result(timeout=30)
    assert caplog.messages == [f"waiting for another bench command (process {os.getpid()} on {socket.gethostname()})"]


def test_the_lock_of_a_killed_command_is_taken_over(tmp_path):
    script = "import os, sys; from pathlib import Path; from bench.results import submissions\n"
    script += "with submissions.locked(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert done.returncode == -9
    assert (tmp_path / "ledger" / "lock" / run_lock.FILENAME).exists()
    with submissions.locked(tmp_path, poll_s=0.001):
        pass


def test_the_lock_is_given_back_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), submissions.locked(tmp_path):
        _ = 1 / 0
    assert run_lock.holder(tmp_path / "ledger" / "lock") is None


def test_a_job_is_over_only_by_the_word_of_its_own_queue(tmp_path):
    one = submissions.confirm(tmp_path, intended(tmp_path), "7")
    first, second = submissions.read(tmp_path).open_tasks()

    def queue(*jobs: client.QueuedJob, owner: str = "0@test") -> client.Queue:
        return client.Queue({job.id: job for job in jobs}, owner)

    running = client.QueuedJob("7_0", one.job_name, "RUNNING", "", "node1", 1.0, None)
    assert not first.is_over(queue(running)) and second.is_over(queue(running))
    assert first.is_over(queue(replace(running, state="FAILED")))
    # Another user's or cluster's queue does not show it; a cluster set up anew gives its number to another job.
    assert not second.is_over(queue(running, owner="1@test"))
    assert first.is_over(queue(replace(running, name="other")))
    assert not submissions.JobRef(intended(tmp_path), 0).is_over(queue())  # sbatch has not answered
