"""Records as tidy DataFrames. Values stay as recorded (fractions, bytes, ms); missing is NaN, never zero.

A row of the leaderboard holds all folds of one backbone, strategy and settings. Its id is the column ``cell``, a name
that files written by `bench table --format csv` have had from the start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.grid import CLASSICAL, Run, digest, identity, named_settings, neutral_values, row_id
from bench.report import tuned_runs
from bench.report.fold_stats import FoldStats
from bench.results.hints import hint
from bench.results.measurement import HELD_SECONDS, LATENCIES, MEASUREMENT, UNMERGED, quartiles
from bench.results.record import RunRecord

IMAGE_SCORES = ("dice", "aji", "aji_plus", "pq", "sq", "dq", "f1", "precision", "recall")
SCORES = (*IMAGE_SCORES, "pooled_pq", "weighted_pq")
SECTION_KEYS = ("dataset", "dataset_digest", "n_splits", "fold_seed", "rules_version")
RUN_KEYS = (
    "backbone",
    "strategy",
    "head",
    *SECTION_KEYS,
    "fold",
    "validation_fraction",
    "seed",
    "weights",
    "image_size",
    "scale",
    "embeddings",
)
CONSTANT_COSTS = (
    "parameters_total",
    "parameters_trainable",
    "parameters_trainable_encoder",
    "parameters_trainable_decoder",
    "parameters_encoder",
    "parameters_decoder",
    "parameters_added",
    "adapter_bytes",
    "flops",
)
LATENCY_SUMS = ("latency_ms", "latency_q1", "latency_q3", "latency_spread")
MEAN_COSTS = (*LATENCIES, UNMERGED, *LATENCY_SUMS, "throughput_images_per_s")
PEAK_COSTS = ("train_peak_bytes", "inference_peak_bytes", "peak_bytes")
LARGEST_COSTS = ("micro_batch_halvings",)
COUNTS = ("n_images", "n_true", "n_pred", "n_empty_true", "n_empty_both")
SUMMED_COSTS = (*HELD_SECONDS, "gpu_seconds")
NUMBERS = (
    *(*SCORES, *COUNTS, *CONSTANT_COSTS, *MEAN_COSTS, *PEAK_COSTS, *LARGEST_COSTS),
    *(*SUMMED_COSTS, *tuned_runs.COSTS, "tuning_fold", "tuned_rate"),
)


def record_frame(records: Iterable[RunRecord]) -> pd.DataFrame:
    """Return one row per record, whatever its status.

    Columns: id, cell (the row of the leaderboard), setting (without fold and seed), status, reason,
    trains; the settings (``strategy.*`` and
    ``train.*`` as `--set` names them); scores in [0, 1]; costs with their unit in the name (latencies are medians;
    ``latency_ms`` is the sum of all that one forward pass needs, ``latency_q1`` and ``latency_q3`` of its quartiles,
    ``latency_spread`` of its interquartile ranges, in ms; ``latency_busy`` whether it is marked, None where that is
    unknown; ``peak_bytes`` the larger of training's and inference's peak); the device, and that of the latencies; what
    is known of the dataset; ``expected_folds``, the numbers of the folds that hold images, and ``folds_rule``, how they
    were assigned (`bench.folds.rule`). Skipped runs of folds that hold none are left out: there is nothing to run.
    """
    table = pd.DataFrame([_row(record) for record in records])
    if table.empty:
        return table
    table = _with_expected_folds(table)
    for name in NUMBERS:
        table[name] = pd.to_numeric(table[name]) if name in table else float("nan")
    return table


def _with_expected_folds(table: pd.DataFrame) -> pd.DataFrame:
    """Fill in the folds of the images, which records of other runs on the same images know; all, where none knows."""
    sections = list(zip(*(table[key] for key in SECTION_KEYS), strict=True))
    known: dict[Any, tuple[tuple[int, ...], str | None]] = {}
    for section, folds, rule in zip(sections, table["expected_folds"], table["folds_rule"], strict=True):
        if folds:
            known.setdefault(section, (folds, rule))
    numbers = table["n_splits"].astype(int)
    facts = [known.get(key, (tuple(range(1, n + 1)), None)) for key, n in zip(sections, numbers, strict=True)]
    expected = [folds for folds, _ in facts]
    table["expected_folds"] = pd.Series(expected, table.index, dtype=object)
    table["folds_rule"] = pd.Series([rule for _, rule in facts], table.index, dtype=object)
    names = zip(table["fold"], expected, table["status"], strict=True)
    kept = [fold in folds or status != "skipped" for fold, folds, status in names]
    return table[kept].reset_index(drop=True)


def _row(record: RunRecord) -> dict[str, Any]:
    run = {**neutral_values(Run), **record.run}  # an old record lacks newer settings
    scores, cost = dict(record.scores or {}), _flat_cost(record.cost or {})
    scores.setdefault("n_empty_both", scores.pop("n_both_empty", None))  # its name in version 0.1
    provenance = dict(record.provenance or {})
    data = dict(provenance.get("dataset") or {})
    parts = [cost.get(name) for name in LATENCIES]
    needed = parts[2:] if run["backbone"] == CLASSICAL else parts
    peaks = [cost[name] for name in PEAK_COSTS if cost.get(name) is not None]
    root = data.get("root")
    low, high = quartiles(record.cost or {}) or (None, None)
    measured_on = (record.cost or {}).get(MEASUREMENT) or {**provenance, "device": cost.get("device")}
    if cost.get("parameters_trainable") == 0:  # then none is in a part either, in records that lack the parts too
        cost = {"parameters_trainable_encoder": 0, "parameters_trainable_decoder": 0, **cost}
    return {
        "id": record.id,
        "cell": row_id(run),
        "setting": digest({key: value for key, value in identity(run).items() if key not in ("fold", "seed")}),
        "status": record.status,
        "reason": record.reason,
        "hint": hint(record),
        **{name: run.get(name) for name in RUN_KEYS},
        **named_settings(run),
        "trains": bool(run.get("train")),
        **{name: value for name, value in scores.items() if isinstance(value, int | float)},
        **cost,
        # A sum with a part missing would pass for a fast model.
        "latency_ms": None if None in needed else sum(part for part in needed if part is not None),
        "latency_q1": low,
        "latency_q3": high,
        "latency_spread": None if low is None or high is None else high - low,
        "latency_busy": cost.get("latency_busy"),
        "latency_form": cost.get("latency_form") or "plain",
        "peak_bytes": max(peaks) if peaks else None,
        "device_name": _device_name(provenance.get("gpu"), cost.get("device")),
        "latency_device": _device_name(measured_on.get("gpu"), measured_on.get("device")),
        "dataset_images": data.get("n_images"),
        "dataset_folder": Path(root).name if root else None,
        "expected_folds": tuple(sorted(provenance.get("folds") or ())),
        "folds_rule": provenance.get("folds_rule"),
        "official": bool(data.get("official")),
        "verification": data.get("verified"),
        "commit": provenance.get("commit"),
        **tuned_runs.facts(record.tuning),
    }


def _device_name(gpu: Any, device: Any) -> str | None:
    """Return the model of a GPU, or ``CPU``; None where the device is unknown."""
    return str(gpu) if gpu else str(device).upper() if device else None


def _flat_cost(cost: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in cost.items():
        if isinstance(value, Mapping) and "median" in value:
            flat[name], flat[f"{name}_p95"] = value.get("median"), value.get("p95")
        elif not isinstance(value, list | Mapping):
            flat[name] = value
    return flat


def busy(rows: pd.DataFrame) -> pd.Series:
    """Return which rows of a leaderboard have a marked latency, so that they are no points of a Pareto front.

    Rows of which it is not known whether the machine was busy are not marked.
    """
    if "latency_busy" not in rows:
        return pd.Series(False, rows.index)
    return rows["latency_busy"].map(lambda value: not pd.isna(value) and bool(value)).astype(bool)


def pooled(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the records with the seeds of one setting in one row of the leaderboard.

    A row with one seed keeps its id; where several are pooled, the id is the digest of the setting without the seed.
    """
    if frame.empty:
        return frame
    n_seeds = frame.groupby("setting")["seed"].transform("nunique")
    return frame.assign(cell=frame["setting"].where(n_seeds > 1, frame["cell"]))


def leaderboard_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per backbone, strategy and settings, which holds all its folds, and all its seeds if `pooled`.

    Columns: the settings, without the fold; for each score ``<score>_mean`` and ``<score>_sd`` (over the
    folds that are ok, ddof 1; NaN where one of them lacks the score); n_ok, n_failed, n_skipped, n_expected (folds
    that hold images, of each seed), complete; ``expected_folds``, their numbers as a text, and ``folds_rule``; seeds,
    n_seeds, the seed where there is one; counts of images and nuclei in all folds, the mean over seeds of each fold;
    costs (parameters as recorded, mean latencies, largest peaks, summed seconds); ``latency_busy``: the latency of a
    fold is marked, missing where no fold's is and one's is unknown; devices;
    ``reasons``: one sentence for every fold that is not ok, those without a record included; ``hint``: sentences on a
    PQ of zero (`bench.results.hints`), of the first fold that has one; ``tuning_seconds`` and
    ``tuning_gpu_seconds`` of all trials, which ``gpu_seconds`` contains, and ``tuned_rates``, a text.
    """
    if frame.empty:
        return frame
    places, ids = pd.factorize(frame["cell"])
    ok = (frame["status"] == "ok").to_numpy()
    firsts = frame.drop_duplicates("cell").reset_index(drop=True)
    seeds = frame.groupby("cell")["seed"].unique().reindex(ids).map(sorted)
    n_expected = firsts["expected_folds"].map(len) * seeds.map(len).to_numpy()

    def count(chosen: pd.Series | np.ndarray) -> np.ndarray:
        return np.bincount(places[np.asarray(chosen)], minlength=len(ids))

    prefixes = ("strategy.", "train.", "predict.")
    settings = [name for name in map(str, frame) if name in RUN_KEYS or name.startswith(prefixes)]
    columns: dict[str, Any] = {
        "cell": ids,
        **{name: firsts[name].tolist() for name in settings if name != "fold"},
        "seed": [own[0] if len(own) == 1 else None for own in seeds],
        "seeds": [" ".join(map(str, own)) for own in seeds],
        "n_seeds": [len(own) for own in seeds],
        "trains": firsts["trains"].astype(bool),
        "n_ok": count(ok),
        "n_failed": count(frame["status"] == "failed"),
        "n_skipped": count(frame["status"] == "skipped"),
        "n_expected": n_expected,
        "expected_folds": [" ".join(map(str, folds)) for folds in firsts["expected_folds"]],
        "folds_rule": firsts["folds_rule"].tolist(),
        "complete": count(ok) == n_expected,
        "reasons": _reasons(frame, dict(zip(ids, seeds, strict=True))),
        "hint": _hints(frame, ids),
    }
    folds = FoldStats.of(places, ok, len(ids))
    for name in SCORES:
        columns[f"{name}_mean"], columns[f"{name}_sd"] = folds.mean(frame[name]), folds.sd(frame[name])
    repeats = _repeats(frame, ok)
    for name in COUNTS:
        columns[name] = _whole(folds.sum(frame[name] / repeats), frame[name])
    for name in SUMMED_COSTS:  # runs that shared their device have no times; a partial sum would pass for a cheap row
        columns[name] = folds.sum(frame[name], partial=False)
    columns |= tuned_runs.columns(frame[ok], ids)
    columns["gpu_seconds"] = columns["gpu_seconds"] + columns["tuning_gpu_seconds"]
    for name in (*CONSTANT_COSTS, *PEAK_COSTS, *LARGEST_COSTS):
        columns[name] = folds.max(frame[name])
    for name in MEAN_COSTS:
        columns[name] = folds.mean(frame[name])
    columns["latency_busy"] = _busy(frame, folds)
    for name in ("device_name", "latency_device", "latency_form", "memory_kind"):
        columns[name] = folds.names(frame[name]) if name in frame else ""
    for name in ("dataset_images", "dataset_folder", "verification"):
        known = frame[frame[name].notna()].drop_duplicates("cell")
        first = dict(zip(known["cell"], known[name], strict=True))
        columns[name] = [first.get(row) for row in ids]
    official = frame["official"].to_numpy(dtype=bool)
    # One run on changed labels is enough to make its row another dataset's; runs without scores decide nothing.
    columns["official"] = np.where(count(ok) > 0, count(ok & official) == count(ok), count(official) > 0)
    return pd.DataFrame(columns)


def _repeats(frame: pd.DataFrame, ok: np.ndarray) -> pd.Series:
    """Return for each record the number of records of its row and fold that are ok, so the number of seeds."""
    return frame["cell"].where(ok).groupby([frame["cell"], frame["fold"]]).transform("count").clip(lower=1)


def _whole(sums: np.ndarray, values: pd.Series) -> np.ndarray:
    """Return sums as whole numbers where the values and all sums are whole."""
    rounded = np.round(sums, 6)
    whole = values.dtype.kind in "iu" and bool(np.isfinite(rounded).all() and (rounded % 1 == 0).all())
    return rounded.astype(np.int64) if whole else rounded


def _busy(frame: pd.DataFrame, folds: FoldStats) -> pd.api.extensions.ExtensionArray:
    """Return for each row whether the latency of a fold is marked; missing where none is and one's is unknown."""
    marks = frame["latency_busy"].map({True: 1.0, False: 0.0}).astype(float)
    some, all_known = folds.max(marks), folds.mean(marks)
    known = [True if a == 1 else False if b == 0 else None for a, b in zip(some, all_known, strict=True)]
    return pd.array(known, "boolean")


def _hints(frame: pd.DataFrame, ids: pd.Index) -> list[str]:
    """Return the hint of the first record of each row that has one, with its fold; empty for most."""
    own = frame[frame["hint"] != ""].drop_duplicates("cell")
    known = dict(zip(own["cell"], "fold " + own["fold"].astype(str) + ": " + own["hint"], strict=True))
    return [known.get(row, "") for row in ids]


def _reasons(frame: pd.DataFrame, seeds: Mapping[str, list[Any]]) -> list[tuple[str, ...]]:
    """Return a sentence for every fold (and seed, where there are several) of each row that is not ok."""
    known: dict[tuple[str, Any, int], str | None] = {}
    expected = dict(zip(frame["cell"], frame["expected_folds"], strict=True))
    names = ("cell", "seed", "fold", "status", "reason", "id")
    for row, seed, fold, status, reason, run_id in zip(*(frame[name] for name in names), strict=True):
        why = "no reason recorded" if pd.isna(reason) or not reason else reason
        known[row, seed, int(fold)] = None if status == "ok" else f"{status} ({why}; run {run_id})"
    return [
        tuple(
            f"{f'seed {seed}, ' if len(own) > 1 else ''}fold {fold}: {sentence}"
            for seed in own
            for fold in expected[row]
            if (sentence := known.get((row, seed, fold), "no record")) is not None
        )
        for row, own in seeds.items()
    ]
