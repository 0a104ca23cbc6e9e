"""Which failures are tried again, how often, and which a new command ignores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from fabricated import record, run

from bench.results import retry
from bench.results.failure import KINDS, Failure, FailureKind, kind_of_attempt
from bench.results.retry import Limits
from bench.slurm.profile import ClusterProfile

LIMITS = Limits(lost=2, timed_out=3, out_of_memory=2)


@dataclass
class FakeRun:
    """The part of a run that the rules read."""

    train: dict[str, int]


@dataclass
class FakeRecord:
    """The part of a record that the rules read."""

    status: str
    failures: tuple[FailureKind, ...] = ()


def due(
    *kinds: FailureKind,
    limits: Limits = LIMITS,
    ignored: int = 0,
    batch_size: int | None = 8,
    memory: str = "full",
    batchnorm: str = "frozen",
) -> bool:
    train = {} if batch_size is None else {"batch_size": batch_size, "memory": memory, "batchnorm": batchnorm}
    return retry.is_due(FakeRecord("failed", kinds), FakeRun(train), limits=limits, ignored_failures=ignored)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("lost: NODE_FAIL on node2", "lost"),
        ("lost: the node failed under job 3", "node_failed"),
        ("timed out: 12 h were not enough", "timed_out"),
        ("out of time: requeued 20 times", "requeue_limit"),
        ("out of memory: CUDA out of memory. Tried to allocate 2 GiB", "out_of_memory"),
        ("disk full: [Errno 28] No space left on device", "environment"),
        ("checkpoint of sam_vit_b: missing; run `bench fetch`", "environment"),
        ("FileNotFoundError: [Errno 2] No such file or directory: '/data/a.png'", "environment"),
        ("PermissionError: [Errno 13] Permission denied: '/data'", "environment"),
        ("ModuleNotFoundError: No module named 'my_sam'", "environment"),
        ("ImportError: libGL.so.1: cannot open shared object file", "environment"),
        ("unknown backbone 'x'. Known: none.", "environment"),
        ("unknown strategy 'x'. Known: none.", "environment"),
        ("unknown head 'x'. Known: none.", "environment"),
        ("unknown dataset 'x'. Known: none.", "environment"),
        ("the images in /data have changed: their fingerprint is 1", "environment"),
        ("unknown tensor: FileNotFoundError: inside", "error"),
        ("diverged: the loss became nan at step 3", "diverged"),
        ("ValueError: lost: a word inside is no prefix", "error"),
        ("lost his way", "error"),  # no colon
        ("", "error"),
        (None, "error"),
    ],
)
def test_a_record_without_the_field_has_the_kind_of_its_first_words(reason, kind):
    assert kind_of_attempt({"status": "failed", "reason": reason}) == kind


def test_the_field_decides_whatever_the_reason_says():
    assert kind_of_attempt({"reason": "lost: a", "failure": {"kind": "diverged"}}) == "diverged"
    assert kind_of_attempt({"reason": "lost: a", "failure": {"kind": "of a later version"}}) == "lost"


def test_a_reason_begins_with_the_kind_and_an_error_stands_alone():
    assert Failure("out_of_memory", "80 GB").reason == "out of memory: 80 GB"
    assert Failure("error", "KeyError: 'x'").reason == "KeyError: 'x'"


def test_limits_are_the_profiles():
    profile = ClusterProfile(lost_retries=5, timeout_retries=6, out_of_memory_retries=7)
    assert retry.limits(profile) == Limits(lost=5, timed_out=6, out_of_memory=7)
    assert retry.limits(ClusterProfile()) == Limits()


def test_each_kind_has_its_limit():
    limits = {kind: LIMITS.of(kind) for kind in KINDS}
    assert limits == {
        "lost": 2,
        "node_failed": 2,
        "timed_out": 3,
        "requeue_limit": 0,
        "out_of_memory": 2,
        "environment": 0,
        "diverged": 0,
        "error": 0,
    }


def test_a_run_without_record_is_due_and_one_that_is_ok_is_not():
    assert retry.is_due(None, FakeRun({}), limits=LIMITS)
    assert retry.is_due(FakeRecord("skipped"), FakeRun({}), limits=LIMITS)
    assert not retry.is_due(FakeRecord("ok"), FakeRun({}), limits=LIMITS)
    assert not retry.is_due(FakeRecord("ok", ("lost",)), FakeRun({}), limits=LIMITS)  # an attempt before it failed


def test_two_retries_are_three_attempts():
    assert due("lost")
    assert due("lost", "lost")
    assert not due("lost", "lost", "lost")
    assert not due("lost", limits=Limits(lost=0))


def test_a_failed_node_counts_as_a_lost_process():
    assert due("node_failed", "lost")
    assert not due("lost", "node_failed", "lost")
    assert not due("lost", "lost", "node_failed")


def test_only_failures_of_the_last_kind_count():
    assert due("timed_out", "lost", "timed_out", "lost")
    assert not due("lost", "lost", "timed_out", "lost")


@pytest.mark.parametrize("kind", ["diverged", "error", "environment", "requeue_limit"])
def test_kinds_without_a_limit_are_not_tried_again_by_the_same_command(kind):
    assert not due(kind)
    assert not due("lost", kind)


def test_a_new_command_ignores_the_failures_before_it():
    assert retry.count_ignored(("lost", "lost", "lost")) == 3
    assert due("lost", "lost", "lost", ignored=3)
    assert due("lost", "lost", "lost", "lost", "lost", ignored=3)
    assert not due("lost", "lost", "lost", "lost", "lost", "lost", ignored=3)


@pytest.mark.parametrize("kind", ["diverged", "error"])
def test_a_new_command_ignores_final_failures_only_with_failed(kind):
    assert retry.count_ignored(("lost", kind)) == 0
    assert retry.count_ignored(("lost", kind), final_too=True) == 2
    assert due("lost", kind, ignored=2)


def test_errors_of_the_environment_are_tried_again_by_the_next_command():
    assert retry.count_ignored(("environment",)) == 1
    assert due("environment", ignored=1)
    assert not due("environment", "environment", ignored=1)
    assert retry.count_ignored(()) == retry.count_ignored((), final_too=True) == 0


def test_memory_is_tried_with_half_the_micro_batch_down_to_one_image():
    patient = Limits(out_of_memory=99)
    assert [retry.halvings(["out_of_memory"] * n + ["lost"], "full") for n in range(4)] == [0, 1, 2, 3]
    attempts = [due(*["out_of_memory"] * n, limits=patient, batch_size=4) for n in (1, 2, 3)]
    assert attempts == [True, True, False]  # 4 → 2 → 1
    assert not due("out_of_memory", limits=patient, batch_size=1)
    assert not due("out_of_memory", limits=patient, batch_size=None)  # nothing is trained: no batch to halve
    assert not due(*["out_of_memory"] * 3, limits=LIMITS, batch_size=64)


def test_batches_that_stay_whole_are_not_tried_with_a_smaller_micro_batch():
    """What is left to save memory is to compute activations again."""
    patient = Limits(out_of_memory=99)
    whole: dict[str, Any] = {"limits": patient, "batch_size": 8, "batchnorm": "trained"}
    assert [due(*["out_of_memory"] * n, memory="auto", **whole) for n in (1, 2)] == [True, False]
    assert not due("out_of_memory", memory="full", **whole)


def test_memory_auto_computes_activations_again_before_it_halves_the_micro_batch():
    patient = Limits(out_of_memory=99)
    kinds = [["out_of_memory"] * n + ["lost"] for n in range(4)]
    assert [retry.checkpoints(failures, "auto") for failures in kinds] == [False, True, True, True]
    assert [retry.halvings(failures, "auto") for failures in kinds] == [0, 0, 1, 2]
    attempts = [due(*["out_of_memory"] * n, limits=patient, batch_size=2, memory="auto") for n in (1, 2, 3)]
    assert attempts == [True, True, False]
    for memory in ("full", "checkpoint", None):
        assert not retry.checkpoints(["out_of_memory"], memory)


def test_ignored_failures_still_halve_the_micro_batch():
    assert due("out_of_memory", "out_of_memory", ignored=2, batch_size=2)
    assert not due(*["out_of_memory"] * 3, ignored=2, batch_size=2)  # one image did not fit


def test_a_record_lists_the_kinds_of_its_failures_oldest_first():
    earlier = [
        {"status": "failed", "reason": "lost: a"},
        {"status": "ok", "reason": None},
        {"status": "failed", "reason": "x", "failure": {"kind": "timed_out"}},
    ]
    last = record(run(), status="failed", reason="diverged: c")
    assert replace(last, attempts=earlier).failures == ("lost", "timed_out", "diverged")
    assert replace(record(run()), attempts=earlier).failures == ("lost", "timed_out")
    assert record(run()).failures == ()
