"""Costs of predicting one image, as a run measures them at its end and `bench measure` takes them again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.results.measurement import judged
from bench.training import classical, measure
from bench.training.load import machine_load
from bench.training.step import autocast

if TYPE_CHECKING:
    from jaxtyping import UInt8
    from numpy import ndarray

    from registry.contract import Head
    from registry.sam import Sam


def of_model(
    sam: Sam, head: Head, *, predict: Callable[[], Any], raw: Any, post_processing: Mapping[str, float]
) -> dict[str, Any]:
    """Measure a model at batch 1: encoder, decoder, post-processing.

    Args:
        sam: the trained model, on the device that is measured.
        head: its head.
        predict: predicts an image as a run does; used by prompting heads, for which the decoder's share is what this
            takes beyond the encoder.
        raw: what `predict` returned once.
        post_processing: parameters of the head.

    Returns:
        What `measure.inference` returns, ``postprocessing_latency_ms``, ``load`` of the machine before, and the mark of
        a measurement that is not to be relied on (see `bench.results.measurement.judged`).
    """
    device = next(sam.parameters()).device
    cost: dict[str, Any] = {"load": machine_load(device)}
    cost |= measure.inference(sam, autocast=partial(autocast, device), whole=None if head.dense else predict)
    cost["postprocessing_latency_ms"] = measure.latency_ms(lambda: head.instances(raw, **post_processing))
    return judged(cost, device.type)


def of_classical(pixels: UInt8[ndarray, "h w 3"]) -> dict[str, Any]:
    """Measure the classical pipeline on one image; returns its part of what `of_model` does."""
    cost: dict[str, Any] = {"load": machine_load(None)}
    cost["postprocessing_latency_ms"] = measure.latency_ms(lambda: classical.segment(pixels))
    return judged(cost, "cpu")
