"""Judgement of measured latencies, on numbers chosen by hand."""

from __future__ import annotations

from typing import Any

from bench.report.pack_redaction import Redaction
from bench.results.measurement import RULE, disturbances, judged, quartiles


def latency(median: float, q1: float, q3: float, others: float | None = 0.0, own: float | None = 1.0) -> dict[str, Any]:
    return {"median": median, "p95": q3, "q1": q1, "q3": q3, "repeats": 20, "others": others, "own": own}


QUIET = {
    "encoder_latency_ms": latency(40, 39, 42),
    "decoder_latency_ms": latency(8, 7, 9),
    "postprocessing_latency_ms": latency(2, 1, 3),
    "load": {"load_average": 1.0, "cores": 8, "gpu_others": None},
}


def test_quartiles_are_the_sums_of_those_of_the_parts() -> None:
    assert quartiles(QUIET) == (47, 54)
    assert quartiles({"postprocessing_latency_ms": latency(2, 1, 3)}) == (1, 3)


def test_a_measurement_on_a_quiet_machine_has_no_mark() -> None:
    assert disturbances(QUIET, "cpu") == []
    assert judged(QUIET, "cpu") == {**QUIET, "latency_busy": False, "latency_busy_because": []}


def test_a_record_of_an_earlier_version_is_unknown_and_not_quiet() -> None:
    old = {name: {"median": 1.0, "p95": 2.0, "repeats": 20} for name in QUIET if name != "load"}
    for cost in (old, {**QUIET, "decoder_latency_ms": old["decoder_latency_ms"]}, dict.fromkeys(old), {}):
        assert quartiles(cost) is None
        assert judged(cost, "cpu")["latency_busy"] is None


def test_a_spread_above_a_fifth_of_the_whole_median_is_marked() -> None:
    # The post-processing spreads by its whole median, which is 4 % of the latency: no reason for a mark.
    assert disturbances({**QUIET, "decoder_latency_ms": latency(8, 6, 11)}, "cpu") == []  # 3 + 5 + 2 = 10 of 50
    assert disturbances({**QUIET, "decoder_latency_ms": latency(8, 6, 11.1)}, "cpu") == [
        "the interquartile range is 10.1 ms of 50 ms"
    ]


def test_other_processes_on_the_cores_are_marked() -> None:
    assert disturbances({**QUIET, "encoder_latency_ms": latency(40, 39, 42, others=0.1)}, "cuda") == []
    assert disturbances({**QUIET, "encoder_latency_ms": latency(40, 39, 42, others=0.25)}, "cuda") == [
        "other processes took 25 % of the cores' time"
    ]


def test_a_process_that_waits_for_a_core_is_marked_but_not_while_it_waits_for_the_gpu() -> None:
    waiting = {**QUIET, "encoder_latency_ms": latency(40, 39, 42, own=0.5)}
    assert disturbances(waiting, "cpu") == ["the process got 50 % of a core"]
    assert disturbances(waiting, "cuda") == []
    behind = {**QUIET, "postprocessing_latency_ms": latency(2, 1, 3, own=0.5)}
    assert disturbances(behind, "cuda") == ["the process got 50 % of a core"]


def test_a_gpu_that_others_use_is_marked() -> None:
    assert disturbances({**QUIET, "load": {"gpu_others": 0.05}}, "cuda") == []
    assert disturbances({**QUIET, "load": {"gpu_others": 0.4}}, "cuda") == ["other processes used the GPU at 40 %"]


def test_a_load_that_the_system_does_not_tell_is_unknown_and_not_quiet() -> None:
    silent = {name: latency(40, 39, 41, others=None, own=None) for name in QUIET if name != "load"}
    assert disturbances({**silent, "load": None}, "cpu") is None
    assert disturbances({**QUIET, "decoder_latency_ms": latency(8, 7, 9, others=None)}, "cpu") is None


def test_a_reason_is_given_although_the_load_is_unknown() -> None:
    silent = {"encoder_latency_ms": latency(40, 39, 42, others=None, own=0.5)}
    assert disturbances(silent, "cpu") == ["the process got 50 % of a core"]


def test_the_rule_has_the_limits() -> None:
    assert RULE == (
        "its interquartile range exceeds 20 % of the median, other processes took more than 10 % of the cores' time or "
        "5 % of the GPU's, or the process got less than 90 % of a core"
    )


def test_a_pack_has_no_name_of_a_host_that_measured_again() -> None:
    place = {"host": "lab-7.example", "node": "gpu-03"}
    cost = {"measurement": place, "earlier_measurements": [{"measurement": {"host": "lab-8.example"}}]}
    redacted = Redaction().record({"provenance": {"host": "lab-7.example"}, "cost": cost, "reason": "on lab-8.example"})
    assert redacted["cost"]["measurement"] == {"host": "host-1", "node": "host-2"}
    assert redacted["cost"]["earlier_measurements"] == [{"measurement": {"host": "host-3"}}]
    assert redacted["reason"] == "on host-3"
