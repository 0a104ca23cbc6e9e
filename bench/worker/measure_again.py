"""One run that is done, measured again: its latencies on this machine, as they are now, replace those in its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bench.errors import BenchError
from bench.grid import CLASSICAL, Run
from bench.planning.plan import with_neutral_options
from bench.results import record, run_lock
from bench.results.measurement import EARLIER, MEASURED, MEASUREMENT
from bench.results.record import RunRecord
from bench.results.run_log import RunLog
from bench.worker import inputs, provenance
from bench.worker.settings import WorkerSettings
from registry.errors import WeightsError

if TYPE_CHECKING:
    from jaxtyping import UInt8
    from numpy import ndarray

    from bench.training.data import Image
    from registry.contract import Sample

ORIGIN = ("host", "node", "device", "gpu", "cuda", "cpu_threads", "slurm_job_id", "versions", "commit", "dirty", "code")
"""Keys of a record's block ``provenance`` that say where a measurement was taken, and with what code."""


@dataclass
class SampleLists:
    """Images of the datasets, verified once for all runs on the same ones and not decoded.

    Attributes:
        known: by dataset, digest and folder.
    """

    known: dict[tuple[str, str, Path], tuple[Sample, ...]]

    def of(self, run: Run, folder: Path) -> tuple[Sample, ...]:
        """Return the images of a run, as `bench.worker.inputs.samples` does."""
        key = run.dataset, run.dataset_digest, folder
        if key not in self.known:
            self.known[key] = inputs.samples(run, folder)
        return self.known[key]


def measure_again(run_id: str, settings: WorkerSettings, samples: SampleLists) -> RunRecord:
    """Measure a run that is done, and write the new latencies into its record.

    The model is built from its checkpoint and what the run trained. Its lock is held meanwhile. The block ``cost``
    keeps what was measured before, under ``earlier_measurements``; ``measurement`` says when and on what the present
    latencies were taken. Nothing else changes: neither scores, nor memory, nor the seconds of the training.

    Args:
        run_id: of the run.
        settings: gives the folders and the device, ``cpu`` or ``cuda``.
        samples: images that are known already.

    Returns:
        The record as it was written.

    Raises:
        BenchError, RegistryError: the run is not done, another process works on it, or its images, its checkpoint or
            its trained part are missing or not those of the record.
    """
    folder = record.folder(settings.results, run_id)
    lock = run_lock.acquire(folder)
    if lock is None:
        raise BenchError("another process works on it; measure it when that is over.")
    try:
        with lock.heartbeat():
            done = record.read(settings.results, run_id)
            if done is None or done.status != "ok":
                raise BenchError("it is not done.")
            started = provenance.now()
            run = _run(done)
            inputs.check_settings(run)
            measured = _measured(run, done, settings, samples)
            origin = provenance.of_attempt(settings) | provenance.machine(settings.device)
            place = {name: origin.get(name) for name in ORIGIN} | {"started": started, "ended": provenance.now()}
            renewed = replace(done, cost=renewed_cost(done, measured, place))
            if not lock.is_ours():
                raise BenchError("another process took it over meanwhile; nothing was written.")
            record.write(settings.results, renewed)
            RunLog(folder)("measured again")
    finally:
        lock.release()
    return renewed


def renewed_cost(done: RunRecord, measured: Mapping[str, Any], place: Mapping[str, Any]) -> dict[str, Any]:
    """Return the block ``cost`` of a record with new latencies.

    Args:
        done: the record.
        measured: what `bench.training.costs` returned.
        place: when and on what.

    Returns:
        What was measured takes the place of the keys of `MEASURED` that it has; the values before are the last
        element of ``earlier_measurements``, with the place that they were taken at as ``measurement``.
    """
    cost, origin = dict(done.cost or {}), dict(done.provenance or {})
    before = {name: cost[name] for name in MEASURED if name in cost}
    at_the_end_of_the_run = {name: origin.get(name) for name in (*ORIGIN, "ended")}
    before[MEASUREMENT] = cost.get(MEASUREMENT) or at_the_end_of_the_run
    return {
        **{name: value for name, value in cost.items() if name not in MEASURED},
        **{name: value for name, value in measured.items() if name in MEASURED},
        MEASUREMENT: dict(place),
        EARLIER: [*(cost.get(EARLIER) or ()), before],
    }


def _run(done: RunRecord) -> Run:
    try:
        return with_neutral_options(Run(**done.run))
    except TypeError as error:
        raise BenchError(f"its record is of another version ({error}); run it again with this one.") from error


def _measured(run: Run, done: RunRecord, settings: WorkerSettings, samples: SampleLists) -> dict[str, Any]:
    from bench.training import costs
    from bench.training.context import RunContext

    pixels = _image(run, samples.of(run, settings.data))
    if run.backbone == CLASSICAL:
        return costs.of_classical(pixels)
    checkpoint, digest = inputs.checkpoint(run, settings.weights)
    recorded = (done.provenance or {}).get("checkpoint_digest")
    if recorded and digest != recorded:
        raise WeightsError(
            f"the checkpoint {checkpoint} has the digest {digest}, and the run was trained on {recorded}; name the "
            "folder of that one with --weights DIR."
        )
    path = Path(checkpoint) if checkpoint else None
    context = RunContext(results=settings.results, checkpoint=path, device=settings.device)
    return costs.of_trained(run, context, pixels, done.scores or {})


def _image(run: Run, samples: tuple[Sample, ...]) -> UInt8[ndarray, "h w 3"]:
    """Decode the image on which a run measures: the first for validation, or for testing where nothing is learned."""
    from bench.training import data
    from bench.training.split import split
    from registry import datasets

    by_stem = {sample.stem: sample for sample in samples}
    parts = split(run, cast("dict[str, Image]", by_stem))  # it needs stems and groups only, which samples have
    first = (parts.test if run.backbone == CLASSICAL else parts.validation)[0].stem
    return data.load(datasets.get(run.dataset), [by_stem[first]])[first].pixels
