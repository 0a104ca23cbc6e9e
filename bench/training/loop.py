"""Training loop: resumable at every step; the checkpoint with the best validation scores is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import DivergedError, InterruptedRunError
from bench.training import history
from bench.training.checkpoint import State, restore, save
from bench.training.optimizer import learning_rate
from bench.training.step import LabelledBatch, Loss, StepResult, step

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

SAVE_EVERY_S = 60.0
SAVING_SHARE = 20
"""A save of a second or more is followed by a pause of at least this many times its duration."""


@dataclass(frozen=True)
class LoopSettings:
    """Settings of the loop; see `bench.grid.TrainSettings` for those that are not explained here.

    Attributes:
        steps_per_epoch: optimiser steps in an epoch.
        micro_batch: images that go through the model at once, at most. But for rounding it never changes what a step
            computes, in models without dropout.
        seed: of everything random in a step (dropout, say), together with the step's number: so a resumed run needs no
            saved random state to continue like an undisturbed one.
        save_every_s: seconds between two saves in the middle of an epoch.
        is_shared: other runs use the device at the same time; the state remembers it.
    """

    epochs: int
    steps_per_epoch: int
    batch_size: int
    micro_batch: int
    lr: float
    warmup_steps: int
    schedule: str
    clip_norm: float
    validate_every: int
    patience: int
    seed: int = 0
    save_every_s: float = SAVE_EVERY_S
    is_shared: bool = False

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole training."""
        return self.steps_per_epoch * self.epochs

    def learning_rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        return learning_rate(
            step, peak=self.lr, total_steps=self.steps, warmup_steps=self.warmup_steps, schedule=self.schedule
        )

    def ends_epoch(self, step: int) -> bool:
        """Return True if an epoch ends after so many steps."""
        return step % self.steps_per_epoch == 0

    def validates_after(self, step: int) -> bool:
        """Return True if an epoch that is validated ends after so many steps."""
        epoch = step // self.steps_per_epoch
        return self.ends_epoch(step) and (epoch % self.validate_every == 0 or epoch == self.epochs)


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    settings: LoopSettings,
    *,
    loss: Loss,
    batches: Callable[[int], Iterator[LabelledBatch]],
    validate: Callable[[], Mapping[str, float]],
    enter_training: Callable[[], None],
    state_path: Path,
    peak_bytes: Callable[[], int | None] = lambda: None,
    reset_peak: Callable[[], None] = lambda: None,
    progress: Callable[[Mapping[str, Any]], None] = lambda _: None,
    follow: Callable[[Sequence[Mapping[str, Any]]], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> State:
    """Train until the last epoch or until validation stops improving; leave the best checkpoint in `model`.

    Args:
        model: its parameters with ``requires_grad``, which `optimizer` holds, are trained.
        loss: see `bench.training.step.Loss`.
        batches: batches from a first step on.
        validate: scores on the validation images; higher ``pq``, then ``aji``, then ``dice`` is better.
        enter_training: puts the model into training mode (validation leaves it in eval mode).
        state_path: file of the state; training continues from there if it exists.
        peak_bytes: peak memory since `reset_peak`, which is called when the micro-batch was halved.
        progress: called after every step with step, epoch, ``loss`` (of this step), speed and time left.
        follow: called with the history so far, a row per epoch: at the start, and after each epoch unless stopped.
        should_stop: called after every step; True saves the state and raises `InterruptedRunError`.

    Raises:
        DivergedError: a loss, a gradient or a weight is not finite.
        InterruptedRunError: `should_stop` answered True; the state is saved.
        torch.OutOfMemoryError: even a micro-batch of one image does not fit.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    state, best = _start(state_path, trained, optimizer, settings)
    first_step, resumed = state.step, time.monotonic()
    saver = _Saver(state_path, settings, started=resumed - state.seconds, saved=resumed)
    follow(state.history)
    enter_training()
    begun = time.monotonic()
    for batch in batches(state.step) if not state.stopped else ():
        result = _step(optimizer, trained, batch, loss, state, settings, reset_peak)
        _count(state, result, settings, images=len(batch.images), seconds=time.monotonic() - begun)
        progress(_numbers(state, settings, result.loss, first_step, time.monotonic() - resumed))
        if settings.ends_epoch(state.step):
            best = _end_epoch(state, settings, trained, best, validate, peak_bytes)
            enter_training()
        # Before `follow`, which may fail: it is called with this epoch when an interrupted run continues.
        saver.save_if_due(state, best, trained, optimizer, peak_bytes, is_interrupted=should_stop())
        if settings.ends_epoch(state.step):
            follow(state.history)
        if state.stopped:
            break
        begun = time.monotonic()
    _load(trained, best)
    optimizer.zero_grad(set_to_none=True)  # otherwise inference would seem to need the gradients' memory
    return state


@dataclass
class _Saver:
    """Saves the state at the end of an epoch and every `save_every_s` seconds, less often where a save takes long."""

    path: Path
    settings: LoopSettings
    started: float
    saved: float
    duration_s: float = 0.0

    def save_if_due(
        self,
        state: State,
        best: Mapping[str, Tensor],
        trained: Mapping[str, Tensor],
        optimizer: torch.optim.Optimizer,
        peak_bytes: Callable[[], int | None],
        *,
        is_interrupted: bool,
    ) -> None:
        """Save the state where it is time or the training ends; after that, raise the error of an interruption."""
        settings = self.settings
        if is_interrupted or state.stopped or state.step == settings.steps or self._is_due(state.step):
            begun = time.monotonic()
            state.seconds = begun - self.started
            state.peak_bytes = _larger(state.peak_bytes, peak_bytes())
            save(self.path, state, best, trained, optimizer)
            self.saved = time.monotonic()
            self.duration_s = self.saved - begun
        if is_interrupted:
            raise InterruptedRunError(f"asked to stop after step {state.step} of {settings.steps}; the state is saved.")

    def _is_due(self, step: int) -> bool:
        since = time.monotonic() - self.saved
        rested = self.duration_s < 1 or since > SAVING_SHARE * self.duration_s
        return rested and (self.settings.ends_epoch(step) or since > self.settings.save_every_s)


def _start(
    path: Path, trained: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, settings: LoopSettings
) -> tuple[State, dict[str, Tensor]]:
    """Return the saved state and best checkpoint, or those of a training that has not begun."""
    restored = restore(path, trained, optimizer) if path.exists() else None
    state, best = restored or (State(micro_batch=settings.batch_size), {})
    state.micro_batch = min(state.micro_batch, settings.micro_batch)
    state.shared = state.shared or settings.is_shared
    return state, best


def _step(
    optimizer: torch.optim.Optimizer,
    trained: Mapping[str, Tensor],
    batch: LabelledBatch,
    loss: Loss,
    state: State,
    settings: LoopSettings,
    reset_peak: Callable[[], None],
) -> StepResult:
    """Do the next step with its own learning rate and random seed."""
    import torch

    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate(state.step)
    torch.manual_seed(settings.seed * 1_000_003 + state.step)
    parameters = list(trained.values())
    return step(optimizer, parameters, batch, loss, state, clip_norm=settings.clip_norm, reset_peak=reset_peak)


def _count(state: State, result: StepResult, settings: LoopSettings, *, images: int, seconds: float) -> None:
    """Count a step that was done, and add its numbers to those of its epoch."""
    starts_epoch = settings.ends_epoch(state.step)
    history.add_step(state, result, images=images, seconds=seconds, starts_epoch=starts_epoch)
    state.step += 1


def _end_epoch(
    state: State,
    settings: LoopSettings,
    trained: Mapping[str, Tensor],
    best: dict[str, Tensor],
    validate: Callable[[], Mapping[str, float]],
    peak_bytes: Callable[[], int | None],
) -> dict[str, Tensor]:
    """Validate an epoch where it is due, and add its row to the history; return the best checkpoint so far."""
    scores: dict[str, float] = {}
    if settings.validates_after(state.step):
        scores = _validated(validate, trained, state.step)
        if _judge(state, scores, settings):
            best = _copy_to_cpu(trained)
    state.peak_bytes = _larger(state.peak_bytes, peak_bytes())
    epoch, lr = state.step // settings.steps_per_epoch, settings.learning_rate(state.step - 1)
    history.end_epoch(state, epoch=epoch, lr=lr, scores=scores)
    return best


def _larger(*peaks: int | None) -> int | None:
    return max(filter(None, peaks), default=None)


def _judge(state: State, scores: Mapping[str, float], settings: LoopSettings) -> bool:
    """Compare the scores of a validation; return True if the current parameters are the best checkpoint."""
    score = (scores["pq"], scores["aji"], scores["dice"])
    improved = state.best_score is None or score > state.best_score
    is_best = improved or score == state.best_score  # early on all scores are 0: keep the one trained longer
    if is_best:
        state.best_score, state.best_step = score, state.step
    state.stale = 0 if improved else state.stale + 1
    state.stopped = 0 < settings.patience <= state.stale
    return is_best


def _validated(
    validate: Callable[[], Mapping[str, float]], trained: Mapping[str, Tensor], step: int
) -> dict[str, float]:
    """Return the scores after a step; NaN and infinity, which the loss of no later step may show, are divergence."""
    import torch

    for name, p in trained.items():
        if not bool(torch.isfinite(p).all()):
            raise DivergedError(f"{name} is not finite after step {step}; try a smaller train.lr.")
    try:
        return dict(validate())
    except DivergedError as error:
        raise DivergedError(f"after step {step}, {error}") from error


def _numbers(
    state: State, settings: LoopSettings, step_loss: float, first_step: int, elapsed_s: float
) -> dict[str, Any]:
    """Return what `progress` shows after a step."""
    speed = (state.step - first_step) * settings.batch_size / elapsed_s
    return {
        "step": state.step,
        "steps": settings.steps,
        "epoch": (state.step - 1) // settings.steps_per_epoch + 1,
        "epochs": settings.epochs,
        "loss": step_loss,
        "images_per_s": speed,
        "eta_s": (settings.steps - state.step) * settings.batch_size / speed,
    }


def _copy_to_cpu(trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # On the GPU the copy would count as memory that training needs.
    return {name: p.detach().to("cpu", copy=True) for name, p in trained.items()}


def _load(trained: Mapping[str, Tensor], best: Mapping[str, Tensor]) -> None:
    import torch

    with torch.no_grad():
        for name, p in trained.items():
            p.copy_(best[name])
