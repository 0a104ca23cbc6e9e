"""Costs of predicting one image, as a run measures them at its end and `bench measure` takes them again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.results.measurement import judged
from bench.results.record import folder
from bench.training import classical, fit, measure, predictions
from bench.training.load import machine_load
from bench.training.step import autocast
from registry import heads, trained

if TYPE_CHECKING:
    from jaxtyping import UInt8
    from numpy import ndarray

    from bench.grid import Run
    from bench.training.context import RunContext
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


def of_trained(
    run: Run, context: RunContext, pixels: UInt8[ndarray, "h w 3"], scores: Mapping[str, Any]
) -> dict[str, Any]:
    """Measure the model of a run that is done, built again from its checkpoint and its folder ``trained``.

    Args:
        run: as in its record.
        context: gives the results folder, the checkpoint and the device that is measured.
        pixels: the image that the run measured on.
        scores: block of the record, which has the post-processing that the run chose.

    Returns:
        As `of_model`.

    Raises:
        WeightsError: ``trained`` is missing or damaged.
    """
    sam, head = fit.build(run, context), heads.get(run.head)
    if run.train:
        trained.load(sam, folder(context.results, run.id) / "trained")
    precision = partial(autocast, fit.device(sam))
    predict = partial(predictions.raw_prediction, sam.eval(), head, pixels, scale=run.scale, autocast=precision)
    chosen = scores.get("post_processing") or head.defaults
    return of_model(sam, head, predict=predict, raw=predict(), post_processing=chosen)


def of_classical(pixels: UInt8[ndarray, "h w 3"]) -> dict[str, Any]:
    """Measure the classical pipeline on one image; returns its part of what `of_model` does."""
    cost: dict[str, Any] = {"load": machine_load(None)}
    cost["postprocessing_latency_ms"] = measure.latency_ms(lambda: classical.segment(pixels))
    return judged(cost, "cpu")
