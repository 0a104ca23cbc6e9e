from __future__ import annotations

from io import StringIO

import pytest
from every_state import planned
from rich.console import Console

from bench.results import submissions
from bench.results.run_log import RunLog
from bench.status import logs

ONE = "mobile_sam/lora_qv/1"


@pytest.fixture
def place(tmp_path):
    return planned(tmp_path, ("mobile_sam",), ("lora_qv", "full"))


def shown(place, text=ONE, **values) -> tuple[str, int]:
    out = StringIO()
    code = logs.show(place.results, text, Console(file=out, width=40), **values)
    return out.getvalue(), code


def log(place, text, name=ONE):
    with (place.folder(name) / "log.txt").open("a") as file:
        file.write(text)


def test_the_log_is_printed_as_it_stands(place):
    log(place, "2026-01-01 10:00:00 starts [bold] on gpu-01, a line that is longer than the terminal\n")
    text, code = shown(place)
    assert text == "2026-01-01 10:00:00 starts [bold] on gpu-01, a line that is longer than the terminal\n"
    assert code == 0


def test_a_run_without_a_log_says_in_which_state_it_is(place):
    assert shown(place) == (f"{place.id(ONE)} has no log yet; it is waiting\n", 0)
    place.fail(ONE, "disk full: no room")
    assert shown(place)[0] == f"{place.id(ONE)} has no log yet; it is failed (disk full: no room)\n"


def test_what_the_last_job_left_on_stderr_follows(place):
    log(place, "failed\n")
    for job in ("7", "8"):
        sent = place.submit(job, (ONE,), ("mobile_sam/full/1",))
        path = sent.log(0, "err")
        path.parent.mkdir(parents=True)
        path.write_text("".join(f"job {job} line {n}\n" for n in range(25)))
    submissions.close_tasks(place.results, sent, [0])
    text, _ = shown(place)
    lines = text.splitlines()
    assert lines[:3] == ["failed", "", f"last 20 of 25 lines of {path}:"]
    assert lines[3] == "job 8 line 5" and lines[-1] == "job 8 line 24"
    path.write_text("")
    assert shown(place)[0] == "failed\n"


def test_following_goes_on_until_the_run_is_done(place):
    write = RunLog(place.folder(ONE))
    write("starts")
    place.claim(ONE, None, None)
    polled = []

    def pause(seconds):
        polled.append(seconds)
        if len(polled) == 1:
            log(place, "training: epoch 1/2\ntraining: ep")  # half a line waits for its rest
        elif len(polled) == 2:
            log(place, "och 2/2\n")
            place.finish(ONE)  # the claim is still held: more may come
        elif len(polled) == 3:
            log(place, "done\n")
            (place.folder(ONE) / "claim.json").unlink()

    text, code = shown(place, follow=True, poll_s=2.0, pause=pause)
    assert [line[20:] if line[:2] == "20" else line for line in text.splitlines()] == [
        "starts",
        "training: epoch 1/2",
        "training: epoch 2/2",
        "done",
    ]
    assert code == 0 and polled == [2.0] * len(polled) and len(polled) == 3


def test_a_failure_that_is_tried_again_does_not_end_the_following(place):
    log(place, "starts\n")
    place.fail(ONE, "lost: the node failed")
    polled = []

    def pause(_):
        polled.append(1)
        if len(polled) == 2:
            log(place, "failed: KeyError\n")
            place.fail(ONE, "KeyError: 'x'", 2)

    assert shown(place, follow=True, pause=pause) == ("starts\nfailed: KeyError\n", 0)
    assert len(polled) == 2


def test_ctrl_c_ends_the_following_only(place):
    log(place, "starts\n")

    def pause(_):
        raise KeyboardInterrupt

    assert shown(place, follow=True, pause=pause) == ("starts\n", 130)


def test_a_log_that_shrank_is_read_anew(place):
    log(place, "a long line of an earlier attempt\n")

    def pause(_):
        (place.folder(ONE) / "log.txt").write_text("anew\n")
        place.finish(ONE)

    assert shown(place, follow=True, pause=pause)[0] == "a long line of an earlier attempt\nanew\n"
