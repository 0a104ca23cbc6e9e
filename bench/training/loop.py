"""Training loop: resumable at every step; the checkpoint with the best validation scores is kept."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import DivergedError, InterruptedRunError
from bench.training import history
from bench.training.averaging import Average
from bench.training.checkpoint import State, restore
from bench.training.loop_settings import LoopSettings
from bench.training.optimizer import set_rates
from bench.training.saver import Saver, larger
from bench.training.step import Checkpointed, LabelledBatch, Loss, step
from bench.training.step_result import PendingResult

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


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
    checkpointed: Checkpointed | None = None,
    buffers: Mapping[str, Tensor] | None = None,
    after_step: Callable[[], None] = lambda: None,
) -> State:
    """Train until the last epoch or until validation stops improving; leave the best checkpoint in `model`.

    Args:
        model: its parameters with ``requires_grad``, which `optimizer` holds, are trained.
        loss: see `bench.training.step.Loss`.
        batches: batches from a first step on.
        validate: scores on the validation images, compared by `LoopSettings.judged`. Not called in a second training
            (see `LoopSettings.choice`), whose last parameters are kept.
        enter_training: puts the model into training mode (validation leaves it in eval mode).
        state_path: file of the state; training continues from there if it exists.
        peak_bytes: peak memory since `reset_peak`, which is called when a step did not fit.
        progress: called once the numbers of a step are known, with step, epoch, ``loss``, speed and time left.
        follow: called with the history so far, a row per epoch: at the start, and after each epoch unless stopped.
        should_stop: called after every step; True saves the state and raises `InterruptedRunError`.
        checkpointed: see `bench.training.step.Checkpointed`; None where the model has no blocks to do so.
        buffers: of the model, which belong to its state and to the best checkpoint as its trained parameters do.
        after_step: called after every step, before anything is saved.

    Raises:
        DivergedError: a loss, a gradient or a weight is not finite.
        InterruptedRunError: `should_stop` answered True; the state is saved.
        torch.OutOfMemoryError: even a micro-batch of one image does not fit.
    """
    trained: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
    trained |= buffers or {}
    save_memory = None if settings.memory == "full" else checkpointed
    average = Average(settings.ema, trained)
    held = average.state()
    state, best = _start(state_path, held, optimizer, settings, can_checkpoint=save_memory is not None)
    first_step, resumed = state.step, time.monotonic()
    saver = Saver(state_path, settings.save_every_s, saved=resumed)
    unread: deque[tuple[PendingResult, int]] = deque()

    def read(leave: int = 0) -> None:
        while len(unread) > leave:
            loss_value = _read(state, *unread.popleft())
            step_read = state.step - len(unread)
            progress(_numbers(step_read, settings, loss_value, first_step, time.monotonic() - resumed))

    follow(state.history)
    enter_training()
    begun = time.monotonic()
    for batch in batches(state.step) if not state.stopped else ():
        pending = _step(optimizer, trained, batch, loss, state, settings, reset_peak, save_memory)
        after_step()
        average.update(state.step - 1)
        unread.append((pending, len(batch.images)))
        ends_epoch = settings.ends_epoch(state.step)
        read(leave=1 if settings.is_late and not ends_epoch else 0)
        history.add_seconds(state, time.monotonic() - begun)
        if ends_epoch:
            with average.applied():
                _end_epoch(state, settings, trained, best, validate, peak_bytes)
            enter_training()
        # Before `follow`, which may fail: it is called with this epoch when an interrupted run continues.
        is_interrupted, is_last = should_stop(), state.stopped or state.step == settings.steps
        if is_interrupted or is_last or saver.is_due(ends_epoch=ends_epoch):
            begun = time.monotonic()
            read()  # a diverged step is never saved
            history.add_seconds(state, time.monotonic() - begun)
            saver.save(state, best, held, optimizer, peak_bytes)
        if is_interrupted:
            raise InterruptedRunError(f"asked to stop after step {state.step} of {settings.steps}; the state is saved.")
        if ends_epoch:
            follow(state.history)
        if state.stopped:
            break
        begun = time.monotonic()
    _load(trained, best)
    optimizer.zero_grad(set_to_none=True)  # otherwise inference would seem to need the gradients' memory
    return state


def _start(
    path: Path,
    held: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    settings: LoopSettings,
    *,
    can_checkpoint: bool,
) -> tuple[State, dict[str, Tensor]]:
    """Return the saved state and best checkpoint, or those of a training that has not begun."""
    choice = settings.choice
    restored = restore(path, held, optimizer, is_second=choice is not None) if path.exists() else None
    earlier = list(choice["history"]) if choice else []
    state, best = restored or (State(micro_batch=settings.batch_size, history=earlier, choice=choice), {})
    state.micro_batch = min(state.micro_batch, settings.micro_batch)
    state.checkpointed = can_checkpoint and (state.checkpointed or settings.starts_checkpointed)
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
    checkpointed: Checkpointed | None,
) -> PendingResult:
    """Queue the next step with its own learning rate and random seed, and count it."""
    import torch

    if settings.ends_epoch(state.step):
        history.begin_epoch(state)
    set_rates(optimizer, partial(settings.learning_rate, state.step))
    torch.manual_seed(settings.seed * 1_000_003 + state.step)
    pending = step(
        optimizer,
        [p for p in trained.values() if p.requires_grad],
        batch,
        loss,
        state,
        clip_norm=settings.clip_norm,
        reset_peak=reset_peak,
        checkpointed=checkpointed,
        is_late=settings.is_late,
        is_divisible=not settings.whole_batches,
    )
    state.step += 1
    return pending


def _read(state: State, pending: PendingResult, images: int) -> float:
    """Add the numbers of a step to those of its epoch, and return its loss."""
    result = pending.result()
    history.add_step(state, result, images=images)
    return result.loss


def _end_epoch(
    state: State,
    settings: LoopSettings,
    trained: Mapping[str, Tensor],
    best: dict[str, Tensor],
    validate: Callable[[], Mapping[str, float]],
    peak_bytes: Callable[[], int | None],
) -> None:
    """Validate an epoch where it is due, keep the best checkpoint, and add the epoch's row to the history."""
    scores: dict[str, float] = {}
    if settings.validates_after(state.step):
        scores = _validated(validate, trained, state.step)
        if _judge(state, scores, settings):
            _keep(best, trained)
    elif settings.choice and state.step == settings.steps:
        _check_finite(trained, state.step)
        _keep(best, trained)  # there is nothing to judge by
    state.peak_bytes = larger(state.peak_bytes, peak_bytes())
    epoch, rates = state.step // settings.steps_per_epoch, settings.learning_rates(state.step - 1)
    history.end_epoch(state, epoch=epoch, rates=rates, scores=scores)


def _judge(state: State, scores: Mapping[str, float], settings: LoopSettings) -> bool:
    """Compare the scores of a validation; return True if the current parameters are the best checkpoint."""
    score = settings.judged(scores)
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
    """Return the scores after a step; NaN and infinity are divergence."""
    _check_finite(trained, step)
    try:
        return dict(validate())
    except DivergedError as error:
        raise DivergedError(f"after step {step}, {error}") from error


def _check_finite(trained: Mapping[str, Tensor], step: int) -> None:
    """Refuse NaN and infinity, which the loss of no later step may show."""
    import torch

    finite = torch.stack([torch.isfinite(p).all() for p in trained.values()])
    if not bool(finite.all()):  # all of them in one transfer
        name = next(name for name, is_finite in zip(trained, finite.tolist(), strict=True) if not is_finite)
        rate = "train.encoder_lr" if name.startswith("image_encoder.") else "train.lr"
        raise DivergedError(f"{name} is not finite after step {step}; try a smaller {rate}.")


def _numbers(step: int, settings: LoopSettings, step_loss: float, first_step: int, elapsed_s: float) -> dict[str, Any]:
    """Return what `progress` shows after a step."""
    speed = (step - first_step) * settings.batch_size / elapsed_s
    return {
        "step": step,
        "steps": settings.steps,
        "epoch": (step - 1) // settings.steps_per_epoch + 1,
        "epochs": settings.steps // settings.steps_per_epoch,
        "loss": step_loss,
        "images_per_s": speed,
        "eta_s": (settings.steps - step) * settings.batch_size / speed,
    }


def _keep(best: dict[str, Tensor], trained: Mapping[str, Tensor]) -> None:
    """Copy the parameters into `best`, into the tensors that are there already, so that there is only one copy.

    In the host's memory, because a copy on the GPU would count as memory that training needs. Not in pinned memory:
    the copy is made once per epoch, and pinned pages would be lost to everything else on the machine.
    """
    import torch

    for name, p in trained.items():
        if name not in best:
            best[name] = torch.empty(p.shape, dtype=p.dtype)
        best[name].copy_(p.detach())


def _load(trained: Mapping[str, Tensor], best: Mapping[str, Tensor]) -> None:
    import torch

    with torch.no_grad():
        for name, p in trained.items():
            p.copy_(best[name])
