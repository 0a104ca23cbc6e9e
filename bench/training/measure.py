"""FLOPs, latency, throughput and peak memory of a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.results.measurement import DEVICE_SECONDS, MEASURED, POST_PROCESSING_PARTS, POST_PROCESSING_SECONDS
from bench.training.load import Interval

if TYPE_CHECKING:
    import torch

    from registry.sam import Sam

TIMINGS = (*DEVICE_SECONDS, POST_PROCESSING_SECONDS, POST_PROCESSING_PARTS, "gpu_seconds", *MEASURED)
"""Costs that depend on what else runs on the device."""


def gpu_seconds(cost: Mapping[str, Any]) -> float | None:
    """Return the seconds in which a run used its GPU; None for a run on the CPU or of unknown duration.

    They are those of `bench.results.measurement.DEVICE_SECONDS`: training, with the wait for its batches, and all
    predictions. Post-processing and scores run on the CPU: while a GPU waits for them, its seconds are counted in
    ``post_processing_seconds``, and not here. Building, auditing and measuring the model are in neither.
    """
    seconds = [cost.get(name, 0.0) for name in DEVICE_SECONDS]
    if cost["memory_kind"] != "cuda" or None in seconds:
        return None
    return float(sum(seconds))


def has_shared(cost: Mapping[str, Any]) -> bool:
    """Return True if another run used the device during a training, in an earlier attempt perhaps."""
    return None in (cost.get("train_seconds", 0.0), cost.get("refit_seconds", 0.0))


def without_timings(cost: Mapping[str, Any]) -> dict[str, Any]:
    """Return the costs of a run that shared its device: every timing is None, the rest is as given."""
    return {name: None if name in TIMINGS else value for name, value in cost.items()}


def latency_ms(
    call: Callable[[], Any],
    *,
    device: torch.device | None = None,
    warmup: int = 3,
    repeats: int = 20,
    limit_s: float = 1.0,
) -> dict[str, Any]:
    """Measure a call after a warm-up, each time synchronised with the device.

    Slow calls are repeated less often: at least three times, at most for `limit_s` seconds. Fast ones go on, without
    being timed, until the load of the machine is known.

    Args:
        call: what is measured.
        device: the device it runs on; None for the CPU.

    Returns:
        ``median``, ``p95`` and the quartiles ``q1`` and ``q3`` in milliseconds, ``repeats``, and the load of the
        machine meanwhile: ``others`` and ``own``, see `bench.training.load.Interval.load`.
    """
    for _ in range(warmup):
        if _seconds(call, device) > limit_s / 10:
            break
    times: list[float] = []
    interval = Interval()
    while len(times) < 3 or (len(times) < repeats and sum(times) < limit_s):
        times.append(_seconds(call, device))
    while interval.is_too_short():
        call()
        synchronize(device)
    load = interval.load()
    q1, median, q3, p95 = (float(value) for value in np.percentile(1000 * np.array(times), [25, 50, 75, 95]))
    return {"median": median, "p95": p95, "q1": q1, "q3": q3, "repeats": len(times), **load}


def _seconds(call: Callable[[], Any], device: torch.device | None) -> float:
    synchronize(device)
    start = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device | None) -> None:
    """Wait until the device has finished all queued work."""
    import torch

    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)


def inference(
    sam: Sam,
    *,
    autocast: Callable[[], AbstractContextManager[Any]],
    whole: Callable[[], Any] | None = None,
    plain: Sam | None = None,
    turns: int = 1,
) -> dict[str, Any]:
    """Measure encoder and decoder at batch 1.

    Args:
        sam: the model, put into eval mode.
        autocast: gives the context that forward passes run in.
        whole: encodes and decodes one image as a prompting head does; the decoder's share is what this takes beyond
            the encoder. By default the decoder is called once, without prompts.
        plain: the model whose FLOPs are counted, where `sam` is its inference form; `whole` is counted as it is.
        turns: orientations of an image that are predicted, one after the other, where there is no `whole`; latencies,
            throughput and FLOPs are those of all of them.

    Returns:
        ``flops`` (multiply and add count as two; `torch.utils.flop_counter`) with its encoder part,
        ``encoder_latency_ms`` and ``decoder_latency_ms`` (see `latency_ms`), ``throughput_images_per_s``
        (batches of 4 through encoder and decoder; a prompting head takes one image at a time; None where a batch
        does not fit) and ``inference_peak_bytes`` (of batch 1).
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    device = next(sam.parameters()).device
    image = torch.rand(1, 3, sam.image_size, sam.image_size, device=device)
    sam.eval()
    counted = (plain or sam).eval()
    # The fused kernel of the CPU has no formula for its FLOPs, which would count attention as free.
    kernels = partial(sdpa_kernel, SDPBackend.MATH) if device.type == "cpu" else nullcontext
    with torch.inference_mode():
        with kernels(), FlopCounterMode(display=False) as encoder_flops:
            counted.encode(image)
        with kernels(), FlopCounterMode(display=False) as all_flops:
            whole() if whole else counted(image)
        with autocast():
            reset_peak(device)
            encoder = latency_ms(lambda: [sam.encode(image) for _ in range(turns)], device=device)
            given = sam.decoder_input(image)
            decoder = latency_ms(whole or (lambda: [sam.decode(given) for _ in range(turns)]), device=device)
            peak = peak_bytes(device)
            per_second = 1000 / decoder["median"] if whole else _throughput(sam, device, turns)
        if whole:
            decoder |= {key: max(0.0, decoder[key] - encoder["median"]) for key in ("median", "p95", "q1", "q3")}
    return {
        "flops": turns * all_flops.get_total_flops(),
        "flops_encoder": turns * encoder_flops.get_total_flops(),
        "encoder_latency_ms": encoder,
        "decoder_latency_ms": decoder,
        "throughput_images_per_s": per_second,
        "inference_peak_bytes": peak,
    }


def encoder_latency_ms(
    sam: Sam, *, autocast: Callable[[], AbstractContextManager[Any]], turns: int = 1
) -> dict[str, Any]:
    """Measure the encoder alone at batch 1; see `latency_ms` and, for `turns`, `inference`."""
    import torch

    device = next(sam.parameters()).device
    image = torch.rand(1, 3, sam.image_size, sam.image_size, device=device)
    with torch.inference_mode(), autocast():
        return latency_ms(lambda: [sam.encode(image) for _ in range(turns)], device=device)


def _throughput(sam: Sam, device: torch.device, turns: int, batch_size: int = 4) -> float | None:
    import torch

    images = torch.rand(batch_size, 3, sam.image_size, sam.image_size, device=device)
    try:
        latency = latency_ms(lambda: sam(images), device=device, warmup=1, repeats=3)
    except torch.OutOfMemoryError:
        return None
    return 1000 * batch_size / latency["median"] / turns


def memory_kind(device: torch.device) -> str:
    """Kind of memory that `peak_bytes` counts: ``cuda`` (allocated by PyTorch) or ``rss`` (of the whole process)."""
    return "cuda" if device.type == "cuda" else "rss"


def reset_peak(device: torch.device) -> None:
    """Start a new measurement of peak memory."""
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return  # not Linux, or not allowed: `peak_bytes` then returns None


def peak_bytes(device: torch.device) -> int | None:
    """Peak memory in bytes since `reset_peak`; None where the system does not report it."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)
