"""Cost table: what each row trains, and what its runs took."""

from __future__ import annotations

import pandas as pd

from bench.columns import Column
from bench.report.cells import NONE
from bench.report.section import Section, row_name
from bench.report.table import Block
from bench.results.measurement import POST_PROCESSING_SECONDS, UNMERGED
from bench.units import significant

_COUNTS = {
    "trainable encoder": "parameters_trainable_encoder",
    "trainable decoder": "parameters_trainable_decoder",
    "trainable total": "parameters_trainable",
    "parameters": "parameters_total",
}
_MEASURED = {
    "encoder ms": ("encoder_latency_ms", 1.0, "{:.1f}"),
    "unmerged ms": (UNMERGED, 1.0, "{:.1f}"),
    "decoder ms": ("decoder_latency_ms", 1.0, "{:.1f}"),
    "post-processing ms": ("postprocessing_latency_ms", 1.0, "{:.1f}"),
    "latency ms": ("latency_ms", 1.0, "{:.1f}"),
    "images/s": ("throughput_images_per_s", 1.0, "{:.1f}"),
    "training peak GiB": ("train_peak_bytes", 2.0**-30, "{:.2f}"),
    "inference peak GiB": ("inference_peak_bytes", 2.0**-30, "{:.2f}"),
    "GFLOP": ("flops", 1e-9, "{:.1f}"),
    "saved MB": ("adapter_bytes", 1e-6, "{:.1f}"),
    "training min": ("train_seconds", 1 / 60, "{:.1f}"),
    "validation min": ("validation_seconds", 1 / 60, "{:.1f}"),
    "prediction min": ("prediction_seconds", 1 / 60, "{:.1f}"),
    "post-processing min": (POST_PROCESSING_SECONDS, 1 / 60, "{:.1f}"),
    "GPU h": ("gpu_seconds", 1 / 3600, "{:.2f}"),
}
NOTE = (
    "Costs are measured, never estimated; – where a run recorded none (runs that shared their device record no times). "
    "Latencies are medians, in ms for one image; peaks are the largest over the runs of a row, times their sum. "
    "Unmerged: the encoder with LoRA beside its layers; all other latencies are with LoRA merged, as one deploys it. "
    "Training: optimiser steps with the wait for their batches. Validation: predictions of validation images during "
    "the training. Prediction: those for the choice of post-processing and for the test. GPU h is their sum. "
    "Post-processing: post-processing and scores for which nothing else was done; a GPU idles meanwhile, and this time "
    "is not in GPU h."
)
AGAIN = "Latencies were measured again on another device than the one of the runs: compare them within one device only."


def cost_block(section: Section) -> Block:
    """Return all costs of a section's rows; a cost that no row has is left out."""
    rows = section.rows
    columns = [Column("row", [row_name(row, section.settings) for _, row in rows.iterrows()], right=False)]
    for title, name in _COUNTS.items():
        columns.append(Column(title, [NONE if pd.isna(value) else significant(value) for value in rows[name]]))
    for title, (name, factor, pattern) in _MEASURED.items():
        values = rows[name] * factor
        columns.append(Column(title, [NONE if pd.isna(value) else pattern.format(value) for value in values]))
    columns.append(Column("device", [str(name) or NONE for name in rows["device_name"]], right=False))
    again = bool((rows["latency_device"] != rows["device_name"]).any())
    if again:  # otherwise it would say the same twice
        columns.append(Column("latency on", [str(name) or NONE for name in rows["latency_device"]], right=False))
    return Block("Costs", [c for c in columns if any(cell != NONE for cell in c.cells)], [NOTE, *[AGAIN] * again])
