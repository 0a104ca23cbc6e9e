"""Costs of predicting one image, as a run measures them at its end and `bench measure` takes them again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.results.measurement import judged
from bench.results.record import folder
from bench.training import classical, fit, measure, precision, predictions, variants
from bench.training.deployed import deployed
from bench.training.load import machine_load
from registry import heads, trained

if TYPE_CHECKING:
    from jaxtyping import UInt8
    from numpy import ndarray

    from bench.grid import Run
    from bench.training.context import RunContext
    from registry.contract import Head
    from registry.sam import Sam


def of_model(
    sam: Sam,
    head: Head,
    pixels: UInt8[ndarray, "h w 3"],
    *,
    scale: float | None,
    post_processing: Mapping[str, float],
    fast_paths: Collection[str],
    tta: bool = False,
) -> dict[str, Any]:
    """Measure a model at batch 1, in the form in which it predicts: encoder, decoder, post-processing.

    Args:
        sam: the trained model, on the device that is measured.
        head: its head. One that prompts the model has a decoder's share: what its prediction takes beyond the encoder.
        pixels: the image whose prediction is post-processed.
        scale: input pixels per image pixel, as in `bench.grid.Run`.
        post_processing: parameters of the head.
        fast_paths: see `bench.training.deployed.deployed`.
        tta: the model predicts with test-time augmentation; latencies, throughput and FLOPs are then those of an image
            in all its orientations.

    Returns:
        What `measure.inference` returns, ``postprocessing_latency_ms``, ``load`` of the machine before, and the mark of
        a measurement that is not to be relied on (see `bench.results.measurement.judged`). ``latency_form`` is
        ``inference`` or ``plain``, ``latency_turns`` the number of orientations, ``inference_dtype`` the number format.
        ``encoder_latency_unmerged_ms`` is that of the same form with the adapters beside their layers; None where the
        form merges none.
    """
    device = next(sam.parameters()).device
    cost: dict[str, Any] = {"load": machine_load(device)}
    form, autocast = deployed(sam, fast_paths)
    turns = variants.turn_count(tta)
    predict = partial(predictions.raw_prediction, form, head, pixels, scale=scale, autocast=autocast)
    raw = predict()
    cost |= measure.inference(form, autocast=autocast, whole=None if head.dense else predict, plain=sam, turns=turns)
    cost["postprocessing_latency_ms"] = measure.latency_ms(lambda: head.instances(raw, **post_processing))
    unmerged = deployed(sam, fast_paths, merge=False)[0]
    is_merged = len(list(unmerged.parameters())) != len(list(form.parameters()))
    measured = measure.encoder_latency_ms(unmerged, autocast=autocast, turns=turns) if is_merged else None
    cost["encoder_latency_unmerged_ms"] = measured
    cost["latency_form"] = "inference" if form is not sam else "plain"
    cost["latency_turns"] = turns
    cost["inference_dtype"] = precision.name(autocast, device)
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
    chosen, paths = scores.get("post_processing") or head.defaults, context.fast_paths
    return of_model(sam, head, pixels, scale=run.scale, post_processing=chosen, fast_paths=paths, tta=run.tta)


def of_classical(pixels: UInt8[ndarray, "h w 3"]) -> dict[str, Any]:
    """Measure the classical pipeline on one image; returns its part of what `of_model` does."""
    cost: dict[str, Any] = {"load": machine_load(None)}
    cost["postprocessing_latency_ms"] = measure.latency_ms(lambda: classical.segment(pixels))
    return judged(cost, "cpu")
