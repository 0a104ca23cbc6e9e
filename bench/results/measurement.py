"""Trust in a measured latency: its spread, and what else the machine did meanwhile.

The facts are recorded beside each latency by `bench.training.measure`; this module judges them, for the record that is
written and for the reports that are made of it. Records of earlier versions lack them: unknown is not quiet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LATENCIES = ("encoder_latency_ms", "decoder_latency_ms", "postprocessing_latency_ms")
"""Parts of the latency of one image, in the order in which they are computed."""
UNMERGED = "encoder_latency_unmerged_ms"
"""Latency of the encoder with LoRA beside its layers; the others are with LoRA merged, as one deploys it."""
MEASURED = (
    *LATENCIES,
    UNMERGED,
    "latency_form",
    "latency_turns",
    "throughput_images_per_s",
    "load",
    "latency_busy",
    "latency_busy_because",
)
"""Keys of a record's block ``cost`` that one measurement gives, and `bench measure` replaces."""
DEVICE_SECONDS = ("train_seconds", "refit_seconds", "validation_seconds", "prediction_seconds")
"""Keys of the block ``cost``: seconds of optimiser steps with the wait for their batches, of those of a second training
(``train.refit``), of predictions of validation images during the training, and of predictions for the choice of
post-processing and for the test."""
POST_PROCESSING_SECONDS = "post_processing_seconds"
"""Key of the block ``cost``: seconds in which nothing else was done than post-processing and scores of these
predictions. The device, a GPU included, idles meanwhile."""
POST_PROCESSING_PARTS = "post_processing_parts"
"""Key of the block ``cost``: parts of these seconds, of ``validation``, ``choice`` and ``test``."""
HELD_SECONDS = (*DEVICE_SECONDS, POST_PROCESSING_SECONDS, "evaluate_seconds")
"""Keys whose sum is the time that a run holds its device. The last one is of records of version 0.1, which do not tell
predictions from post-processing; validation is part of their ``train_seconds``."""
MEASUREMENT = "measurement"
"""Key of the block ``cost``: when and on what the latencies were measured, where that was not the run itself."""
EARLIER = "earlier_measurements"
"""Key of the block ``cost``: measurements that `bench measure` replaced, oldest first."""

LARGEST_SPREAD = 0.2
"""Interquartile range, as a share of the median."""
LARGEST_SHARE = 0.1
"""Share of the cores' time that other processes may take meanwhile."""
SMALLEST_OWN = 0.9
"""CPU seconds per second that a computation on the CPU gets unless it waits for others."""
LARGEST_GPU_SHARE = 0.05
"""Utilisation of the GPU while this process leaves it idle."""


def held_seconds(cost: Mapping[str, Any]) -> float | None:
    """Return the seconds that a run held its device, post-processing included; None where none was recorded."""
    known = [cost[name] for name in HELD_SECONDS if cost.get(name) is not None]
    return float(sum(known)) if known else None


def percent(share: float) -> str:
    """Return a share as a text: ``85 %``."""
    return f"{100 * share:.0f} %"


RULE = (
    f"its interquartile range exceeds {percent(LARGEST_SPREAD)} of the median, other processes took more than "
    f"{percent(LARGEST_SHARE)} of the cores' time or {percent(LARGEST_GPU_SHARE)} of the GPU's, or the process got "
    f"less than {percent(SMALLEST_OWN)} of a core"
)
"""Condition under which a latency is marked, for a note."""


def quartiles(cost: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the sums of the lower and of the upper quartiles of all latencies, in ms.

    The sums enclose the quartiles of the whole: latencies that vary independently have a smaller spread together.

    Args:
        cost: a record's block.

    Returns:
        None where a measured latency lacks its quartiles, or none was measured.
    """
    known = [cost[name] for name in LATENCIES if isinstance(cost.get(name), Mapping)]
    if not known or any(latency.get(end) is None for latency in known for end in ("q1", "q3")):
        return None
    return sum(latency["q1"] for latency in known), sum(latency["q3"] for latency in known)


def disturbances(cost: Mapping[str, Any], device: str) -> list[str] | None:
    """Return why the latencies of a block ``cost`` are not to be relied on, a phrase for each reason.

    Args:
        cost: a record's block.
        device: ``cpu`` or ``cuda``. While a GPU computes, the process may wait for it.

    Returns:
        An empty list for a measurement on a quiet machine; None where it is not known whether the machine was quiet.
    """
    ends = quartiles(cost)
    if ends is None:
        return None
    known = {name: cost[name] for name in LATENCIES if isinstance(cost.get(name), Mapping)}
    reasons = []
    spread, median = ends[1] - ends[0], sum(latency["median"] for latency in known.values())
    if spread > LARGEST_SPREAD * median:
        reasons.append(f"the interquartile range is {spread:.3g} ms of {median:.3g} ms")
    others = [latency["others"] for latency in known.values() if latency.get("others") is not None]
    if others and max(others) > LARGEST_SHARE:
        reasons.append(f"other processes took {percent(max(others))} of the cores' time")
    on_cpu = {"postprocessing_latency_ms"} if device.startswith("cuda") else known.keys()
    own = [known[name]["own"] for name in known.keys() & on_cpu if known[name].get("own") is not None]
    if own and min(own) < SMALLEST_OWN:
        reasons.append(f"the process got {percent(min(own))} of a core")
    gpu = (cost.get("load") or {}).get("gpu_others")
    if gpu is not None and gpu > LARGEST_GPU_SHARE:
        reasons.append(f"other processes used the GPU at {percent(gpu)}")
    return reasons if reasons or len(others) == len(known) else None


def judged(cost: Mapping[str, Any], device: str) -> dict[str, Any]:
    """Return a block ``cost`` with its mark: ``latency_busy`` (None: unknown) and ``latency_busy_because``."""
    reasons = disturbances(cost, device)
    return {**cost, "latency_busy": None if reasons is None else bool(reasons), "latency_busy_because": reasons}
