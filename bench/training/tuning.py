"""Choice of the encoder's rate by short trainings, which all runs of one method share through the results folder.

Each trial has a lock, as each run has: processes that need the same trials train different ones at the same time, and
wait for those that others train. A trial that was interrupted continues from its saved state, in whatever process.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from bench import folds
from bench.errors import DivergedError, InterruptedRunError
from bench.grid import Run
from bench.planning.tuning import SEED, is_tuned, trials, tuning_id
from bench.results import run_lock, tuning
from bench.results.measurement import held_seconds
from bench.results.record import folder
from bench.results.tuning import TrialResult
from bench.training import data, measure
from bench.training.context import RunContext
from bench.training.fitted import fit_model
from bench.training.refit import STATE
from bench.training.split import Split, split
from registry import strategies

logger = logging.getLogger(__name__)

POLL_S = 2.0
"""Time between two looks at trials that other processes train."""
UNTUNED = "the strategy trains nothing in the encoder, and the decoder's rate is the same for all"


@dataclass(frozen=True)
class Tuned:
    """Choice of a run's encoder rate.

    Attributes:
        encoder_lr: the rate with which it is trained; None leaves it that of its settings.
        block: block ``tuning`` of its record; None where nothing was to be tuned.
    """

    encoder_lr: float | None = None
    block: Mapping[str, Any] | None = None

    @property
    def cost(self) -> dict[str, float | None]:
        """What it adds to the block ``cost``: the seconds of all trials, whichever runs trained them."""
        if self.encoder_lr is None or self.block is None:
            return {}
        return {"tuning_seconds": self.block["seconds"], "tuning_gpu_seconds": self.block["gpu_seconds"]}


def tune(
    run: Run,
    images: Mapping[str, data.Image],
    context: RunContext,
    *,
    progress: Callable[..., None] = lambda *_: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Tuned:
    """Choose the encoder's rate of a run, by trials as far as no other run has done them.

    Args:
        run: the question.
        images: the whole dataset by stem. Trials read the training folds of their own fold only.
        context: where to work.
        progress: called with the phase ``tuning`` and its numbers.
        should_stop: called after every step, and while another process is waited for.

    Returns:
        The choice. Its block has ``id`` (equal for runs with the same trials), ``fold``, ``seed``, ``epochs``,
        ``budget`` (number of rates), ``centre``, ``candidates`` (see `TrialResult`, by rate), ``chosen``, ``at_edge``,
        ``tied`` (number of other rates with the same scores), ``seconds`` and ``gpu_seconds``.

    Raises:
        DivergedError: every trial diverged.
        InterruptedRunError: `should_stop` answered True; states are saved.
        AuditError, torch.OutOfMemoryError: see `bench.training.fit.fit`.
    """
    if not is_tuned(run):
        frozen = run.train and strategies.get(run.strategy).freezes_encoder
        return Tuned(block={"budget": 0, "reason": UNTUNED} if frozen else None)
    groups = {stem: image.group for stem, image in images.items()}
    fold_of = folds.assign(list(images), n_splits=run.n_splits, seed=run.fold_seed, groups=groups)
    planned, place = trials(run, min(fold_of.values())), folder(context.results, run.id)
    block = tuning.read(place)
    if block is None or block.get("id") != tuning_id(planned):
        of_trials = replace(context, results=tuning.trials_folder(context.results), log=None)
        results = _results(planned, images, of_trials, progress=progress, should_stop=should_stop)
        block = _block(run, planned, results)
        tuning.write(place, block)
    return Tuned(block["chosen"], block)


def _results(
    planned: Sequence[Run],
    images: Mapping[str, data.Image],
    context: RunContext,
    *,
    progress: Callable[..., None],
    should_stop: Callable[[], bool],
) -> list[TrialResult]:
    """Return the results of all trials; those of other processes are waited for once nothing else is left to do."""
    parts = replace(split(planned[0], images), test=[])  # no trial can read it
    known: dict[str, TrialResult] = {}
    while True:
        n_known = len(known)
        for place, trial in enumerate(planned, start=1):
            report = partial(_report, progress, place, len(planned))
            if should_stop():
                raise InterruptedRunError(f"stopped after {len(known)} of {len(planned)} encoder rates.")
            result = known.get(trial.id) or _result(trial, parts, context, report, should_stop)
            known |= {trial.id: result} if result else {}
        if len(known) == len(planned):
            return [known[trial.id] for trial in planned]
        if len(known) == n_known:
            progress("waiting for rates that other runs try", {"rate": n_known, "rates": len(planned)})
            time.sleep(POLL_S)


def _report(progress: Callable[..., None], place: int, count: int, values: Mapping[str, Any]) -> None:
    progress("tuning", {"rate": place, "rates": count, **values})


def _result(
    trial: Run,
    parts: Split,
    context: RunContext,
    report: Callable[[Mapping[str, Any]], None],
    should_stop: Callable[[], bool],
) -> TrialResult | None:
    """Return the result of a trial, trained here if no process did so before; None if another one does so now."""
    place = folder(context.results, trial.id)
    if known := tuning.read_trial(place):
        return known
    lock = run_lock.acquire(place)
    if lock is None:
        return None
    try:
        with lock.heartbeat():
            if known := tuning.read_trial(place):  # written before its process released the lock
                return known
            result = _train(trial, parts, context, report, should_stop)
            if not lock.is_ours():  # taken over while this process slept; its holder writes the result
                return None
            tuning.write_trial(place, result)
            (place / STATE).unlink(missing_ok=True)
            return result
    finally:
        lock.release()


def _train(
    trial: Run,
    parts: Split,
    context: RunContext,
    report: Callable[[Mapping[str, Any]], None],
    should_stop: Callable[[], bool],
) -> TrialResult:
    """Train a trial and score it on its inner validation split; a training that diverges is a result too."""
    rate, device, started = trial.train["encoder_lr"], context.device.partition(":")[0], time.monotonic()

    def progress(_: str, values: Mapping[str, Any]) -> None:
        if "epoch" in values:
            report(values)

    try:
        model = fit_model(trial, parts, context, progress=progress, should_stop=should_stop)
    except DivergedError as error:
        seconds = None if context.is_shared else time.monotonic() - started
        on_gpu = seconds if device == "cuda" else None
        return TrialResult(rate, "diverged", seconds=seconds, gpu_seconds=on_gpu, reason=str(error), device=device)
    is_shared = context.is_shared or measure.has_shared(model.cost)
    seconds, on_gpu = None if is_shared else held_seconds(model.cost), measure.gpu_seconds(model.cost)
    pq, aji, dice = _scores(model.scores)
    return TrialResult(rate, "ok", pq, aji, dice, seconds=seconds, gpu_seconds=on_gpu, device=device)


def _scores(of_model: Mapping[str, Any]) -> list[float]:
    """Return the means of `bench.results.tuning.SCORES` over all validation images.

    Post-processing was chosen on half of them. That half is in it: a rate is chosen, and no score of it is a result.
    """
    choice, others = of_model["choice"], of_model["validation"]
    counts = [len(choice[name]) for name in ("chosen_on", "reported_on")]
    return [(choice["scores"][name] * counts[0] + others[name] * counts[1]) / sum(counts) for name in tuning.SCORES]


def _block(run: Run, planned: Sequence[Run], results: Sequence[TrialResult]) -> dict[str, Any]:
    """Return the block ``tuning`` of the record of a run, with the choice.

    Raises:
        DivergedError: every trial diverged.
    """
    centre = run.train["encoder_lr"]
    chosen = tuning.best(results, centre)
    if chosen is None:
        raise DivergedError(
            f"each of {len(results)} encoder rates diverged, the smallest of them "
            f"{min(result.encoder_lr for result in results):g}; try a smaller train.encoder_lr or train.lr. "
            f"First reason: {results[0].reason}"
        )
    by_rate = sorted(results, key=lambda result: result.encoder_lr)
    return {
        "id": tuning_id(tuple(planned)),
        "fold": planned[0].fold,
        "seed": SEED,
        "epochs": planned[0].train["epochs"],
        "budget": len(planned),
        "centre": centre,
        "candidates": [asdict(result) for result in by_rate],
        "chosen": chosen.encoder_lr,
        "at_edge": chosen in (by_rate[0], by_rate[-1]),
        "tied": sum(_of(result) == _of(chosen) for result in results) - 1,
        "seconds": _sum([result.seconds for result in results]),
        "gpu_seconds": _sum([result.gpu_seconds for result in results]),
    }


def _of(result: TrialResult) -> list[float | None]:
    return [getattr(result, name) for name in tuning.SCORES]


def _sum(seconds: Sequence[float | None]) -> float | None:
    """Return a sum; None where a part of it is unknown."""
    known = [value for value in seconds if value is not None]
    return sum(known) if len(known) == len(seconds) else None
