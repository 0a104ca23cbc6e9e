"""What a job does: take runs that nobody has taken, one after the other, and leave a record of every attempt."""

from __future__ import annotations

import errno
import os
import signal
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from bench import claim, provenance, record
from bench.errors import AuditError, BenchError, DivergedError, InterruptedRunError
from bench.grid import Run
from bench.progress import Reporter
from bench.record import RunRecord
from registry.errors import DataError, RegistryError, WeightsError

if TYPE_CHECKING:
    from bench.data import Image


@dataclass(frozen=True)
class Places:
    """Where jobs find and leave things; paths never enter a run's identity.

    Attributes:
        results: the results folder.
        data: the dataset's folder.
        weights: folder of the official checkpoints; None is the cache.
        device: ``auto``, ``cpu`` or ``cuda``.
        loader_workers: processes that prepare training samples; None chooses by device.
    """

    results: Path
    data: Path
    weights: Path | None = None
    device: str = "auto"
    loader_workers: int | None = None


@dataclass(frozen=True)
class Worked:
    """What `work` did.

    Attributes:
        done: status of the runs done here, by id.
        stopped: asked to stop before the end.
    """

    done: dict[str, str] = field(default_factory=dict)
    stopped: bool = False


class StopFlag:
    """Set by SIGINT, SIGTERM or SIGUSR2 (SLURM's time limit); asked between steps, so that state is saved whole."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> bool:
        return self.count > 0

    def __enter__(self) -> StopFlag:
        self._previous = {number: signal.signal(number, self._set) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _set(self, number: int, _: FrameType | None) -> None:
        self.count += 1
        if number == signal.SIGINT and self.count > 2:  # a terminal and submitit each send one for one Ctrl-C
            raise KeyboardInterrupt


def work(runs: Sequence[Run], places: Places, *, redo_failed_before: str) -> Worked:
    """Do every run that is neither done nor taken.

    Images are decoded once for all runs of a dataset. One run's failure never ends the others.

    Args:
        runs: of one dataset.
        places: where to work.
        redo_failed_before: also do runs whose last attempt failed before this moment (UTC, ISO 8601).
    """
    done: dict[str, str] = {}
    images: dict[str, Image] | None = None
    with StopFlag() as stop:
        for run in runs:
            taken = claim.acquire(record.folder(places.results, run.id))
            if taken is None:
                continue
            try:
                earlier = record.read(places.results, run.id)
                if earlier is not None and not earlier.wants_retry(redo_failed_before):
                    continue
                with taken.kept_alive():
                    if images is None:
                        images = _load(run, places)
                    done[run.id] = _attempt(run, images, places, earlier, taken, stop)
            finally:
                taken.release()
            if stop():
                break
        return Worked(done, stopped=stop())


def give_up(run: Run, places: Places, why: str) -> None:
    """Leave a ``failed`` record of a run whose processes died without leaving one."""
    taken = claim.acquire(record.folder(places.results, run.id))
    if taken is None:
        return
    earlier = record.read(places.results, run.id)
    ended = {"ended": provenance.now()}
    failed = RunRecord(id=run.id, status="failed", run=run.as_dict(), reason=why, provenance=ended)
    record.write(places.results, replace(failed, attempts=_attempts(earlier)))
    taken.release()


def _load(run: Run, places: Places) -> dict[str, Image]:
    """The dataset's images; refused if they are no longer those that the plan was made for."""
    from bench import data
    from registry import datasets

    dataset = datasets.get(run.dataset)
    samples = dataset.samples(places.data)
    found = datasets.fingerprint(samples)[: len(run.dataset_digest)]
    if found != run.dataset_digest:
        raise DataError(
            f"the images in {places.data} have changed: their fingerprint is {found}, and the plan was made for "
            f"{run.dataset_digest}. Run the same command again to plan anew."
        )
    return data.load(dataset, samples)


def _attempt(
    run: Run,
    images: Mapping[str, Image],
    places: Places,
    earlier: RunRecord | None,
    taken: claim.Claim,
    stop: StopFlag,
) -> str:
    """One attempt, whose record is written last; returns its status."""
    import torch

    from bench.run import Workplace, execute

    folder = record.folder(places.results, run.id)
    report = Reporter(folder)

    def told(phase: str, values: Mapping[str, Any] | None = None) -> None:
        report(phase, values)
        if stop() and phase != "training":  # while training, `train.fit` asks, and saves the state first
            raise InterruptedRunError(f"asked to stop while {phase}.")

    started = provenance.now()
    origin: dict[str, Any] = {"started": started, "versions": provenance.package_versions()}
    origin["commit"], origin["dirty"] = provenance.commit()
    device = places.device if places.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    try:
        origin |= provenance.machine(device)
        report("preparing")
        origin |= _inputs(run, images, places)
        place = Workplace(
            results=places.results,
            checkpoint=Path(origin["checkpoint"]) if origin["checkpoint"] else None,
            device=device,
            loader_workers=_loader_workers(device)
            if places.loader_workers is None
            else places.loader_workers,
        )
        result = execute(run, images, place, progress=told, should_stop=stop)
        result = replace(
            result, provenance={**origin, **(result.provenance or {}), "ended": provenance.now()}
        )
    except InterruptedRunError:
        return "interrupted"  # neither done nor failed: its state waits for the next `bench run`
    except Exception as error:
        if stop():  # whatever broke, broke because everything around was being stopped
            return "interrupted"
        result = RunRecord(
            id=run.id,
            status="failed",
            run=run.as_dict(),
            reason=reason(error),
            traceback=traceback.format_exc(),
            provenance={**origin, "ended": provenance.now()},
        )
        if isinstance(error, DivergedError | AuditError):
            (folder / "state.pt").unlink(missing_ok=True)  # going on from there would fail again
    finally:
        report.clear()
    if not taken.is_ours():
        return "lost"  # somebody else took this run for dead and does it; theirs is the record
    record.write(places.results, replace(result, attempts=_attempts(earlier)))
    if result.status == "ok":
        (folder / "state.pt").unlink(missing_ok=True)
    return result.status


def _loader_workers(device: str) -> int:
    """Processes that keep a GPU fed; on the CPU they would only compete with training."""
    return min(8, len(os.sched_getaffinity(0))) if device.startswith("cuda") else 0


def reason(error: BaseException) -> str:
    """One line that names the kind of failure."""
    import torch

    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, DivergedError):
        return f"diverged: {text}"
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "out of memory" in text:
        return f"out of memory: {text}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"disk full: {text}"
    if isinstance(error, BenchError | RegistryError):
        return text
    return f"{type(error).__name__}: {text}"


def _inputs(run: Run, images: Mapping[str, Image], places: Places) -> dict[str, Any]:
    """Provenance of data and weights; the checkpoint's digest is verified before it is loaded."""
    from bench import folds
    from registry import backbones, weights
    from registry.datasets import nuinsseg

    groups = {stem: image.group for stem, image in images.items()}
    assigned = folds.assign(list(images), n_splits=run.n_splits, seed=run.fold_seed, groups=groups)
    organs = {image.organ for image in images.values()}
    found: dict[str, Any] = {
        "dataset": {
            "root": str(places.data),
            "n_images": len(images),
            "n_organs": len(organs),
            "official": nuinsseg.is_official(images.values()),
        },
        "folds_digest": folds.manifest_digest(assigned, images.values()),
        "checkpoint": None,
        "checkpoint_digest": None,
    }
    if run.weights == "official" and run.backbone != "classical":
        status = weights.check(run.backbone, places.weights)
        if status.state in ("missing", "wrong digest"):
            raise WeightsError(f"checkpoint of {run.backbone}: {status.state}: {status.detail}")
        card = backbones.card(run.backbone).checkpoint
        published = (
            card.sha256 if card and status.state == "ok" else None
        )  # just compared: no need to read it twice
        found |= {
            "checkpoint": str(status.path),
            "checkpoint_digest": published or weights.digest(status.path),
        }
    return found


def _attempts(earlier: RunRecord | None) -> list[Mapping[str, Any]]:
    if earlier is None:
        return []
    origin = earlier.provenance or {}
    last = {
        "status": earlier.status,
        "reason": earlier.reason,
        "started": origin.get("started"),
        "ended": origin.get("ended"),
    }
    return [*earlier.attempts, last]
