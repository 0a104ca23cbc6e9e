from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from fabricated import record, run

from bench.results import retry
from bench.results.retry import Limits
from bench.slurm.profile import ClusterProfile

LIMITS = Limits(lost=2, timed_out=3, out_of_memory=2)


@dataclass
class Asked:
    """Of a run, what the rules look at."""

    train: dict[str, int]


@dataclass
class Left:
    """Of a record, what the rules look at."""

    status: str
    failures: tuple[str, ...]


def left(status: str, *reasons: str) -> Left:
    return Left(status, reasons)


def due(*reasons: str, limits: Limits = LIMITS, forgiven: int = 0, batch_size: int | None = 8) -> bool:
    train = {} if batch_size is None else {"batch_size": batch_size}
    return retry.is_due(left("failed", *reasons), Asked(train), limits=limits, forgiven=forgiven)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("lost: NODE_FAIL on node2", "lost"),
        ("timed out: 12 h were not enough", "timed out"),
        ("out of memory: CUDA out of memory. Tried to allocate 2 GiB", "out of memory"),
        ("disk full: [Errno 28] No space left on device", "disk full"),
        ("diverged: the loss became nan at step 3", "diverged"),
        ("ValueError: lost: a word inside is no prefix", "error"),
        ("lost his way", "error"),  # no colon
        ("", "error"),
        (None, "error"),
    ],
)
def test_the_first_words_tell_the_kind(reason, expected):
    assert retry.failure_kind(reason) == expected


def test_limits_are_the_profiles():
    profile = ClusterProfile(lost_retries=5, timeout_retries=6, out_of_memory_retries=7)
    assert retry.limits(profile) == Limits(lost=5, timed_out=6, out_of_memory=7)
    assert retry.limits(ClusterProfile()) == Limits()


@pytest.mark.parametrize(
    ("kind", "limit"),
    [("lost", 2), ("timed out", 3), ("out of memory", 2), ("disk full", 0), ("diverged", 0), ("error", 0)],
)
def test_each_kind_has_its_limit(kind, limit):
    assert LIMITS.of(kind) == limit


def test_what_has_no_record_is_due_and_what_is_ok_is_not():
    assert retry.is_due(None, Asked({}), limits=LIMITS)
    assert retry.is_due(left("skipped"), Asked({}), limits=LIMITS)
    assert not retry.is_due(left("ok"), Asked({}), limits=LIMITS)
    assert not retry.is_due(
        left("ok", "lost: a"), Asked({}), limits=LIMITS
    )  # of an attempt before the one that succeeded


def test_two_retries_are_three_attempts():
    assert due("lost: a")
    assert due("lost: a", "lost: b")
    assert not due("lost: a", "lost: b", "lost: c")
    assert not due("lost: a", limits=Limits(lost=0))


def test_only_failures_of_the_last_kind_count():
    assert due("timed out: a", "lost: b", "timed out: c", "lost: d")
    assert not due("lost: a", "lost: b", "timed out: c", "lost: d")


@pytest.mark.parametrize("reason", ["diverged: nan", "KeyError: 'x'", "disk full: no room"])
def test_what_would_fail_again_is_not_tried_again(reason):
    assert not due(reason)
    assert not due("lost: a", reason)


def test_a_new_command_forgives_what_was_there_before_it():
    lost = ("lost: a", "lost: b", "lost: c")
    assert retry.count_ignored(lost) == 3
    assert due(*lost, forgiven=3)
    assert due(*lost, "lost: d", "lost: e", forgiven=3)
    assert not due(*lost, "lost: d", "lost: e", "lost: f", forgiven=3)


def test_it_forgives_what_would_come_again_only_if_asked():
    for reason in ("diverged: nan", "KeyError: 'x'"):
        assert retry.count_ignored(("lost: a", reason)) == 0
        assert retry.count_ignored(("lost: a", reason), final_too=True) == 2
        assert due("lost: a", reason, forgiven=2)
    assert retry.count_ignored(("disk full: no room",)) == 1  # there may be room now
    assert retry.count_ignored(()) == 0
    assert retry.count_ignored((), final_too=True) == 0


def test_memory_is_tried_with_half_the_micro_batch_down_to_one_image():
    patient = Limits(out_of_memory=99)
    short = "out of memory: 80 GB were not enough"
    assert [retry.halvings([short] * n + ["lost: a"]) for n in range(4)] == [0, 1, 2, 3]
    assert [due(*[short] * n, limits=patient, batch_size=4) for n in (1, 2, 3)] == [True, True, False]  # 4 → 2 → 1
    assert not due(short, limits=patient, batch_size=1)
    assert not due(short, limits=patient, batch_size=None)  # nothing is trained: there is no batch to halve
    assert not due(*[short] * 3, limits=LIMITS, batch_size=64)


def test_halvings_outlast_forgiveness():
    short = "out of memory: 80 GB were not enough"
    assert due(short, short, limits=LIMITS, forgiven=2, batch_size=2)
    assert not due(short, short, short, limits=LIMITS, forgiven=2, batch_size=2)  # one image did not fit


def test_a_record_lists_its_failures_oldest_first():
    earlier = [
        {"status": "failed", "reason": "lost: a"},
        {"status": "ok", "reason": None},
        {"status": "failed", "reason": "lost: b"},
    ]
    last = record(run(), status="failed", reason="diverged: c")
    assert replace(last, attempts=earlier).failures == ("lost: a", "lost: b", "diverged: c")
    assert replace(record(run()), attempts=earlier).failures == ("lost: a", "lost: b")
    assert record(run()).failures == ()
