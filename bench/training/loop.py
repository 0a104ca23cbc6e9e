"""The training loop: one optimiser step after the other, resumable at any step, with the best checkpoint kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bench.errors import DivergedError, InterruptedRunError
from bench.training.checkpoint import State, restore, save

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

SAVE_EVERY_S = 60.0
SAVING_SHARE = 20
"""Between two saves that take seconds there is at least so many times that: ten gigabytes are not for every minute."""


class Batch(Protocol):
    """What an optimiser step needs (see `bench.training.data.Batch`)."""

    @property
    def images(self) -> Tensor: ...
    @property
    def targets(self) -> Tensor: ...


def learning_rate(step: int, *, peak: float, total_steps: int, warmup_steps: int, schedule: str) -> float:
    """Learning rate of a step: linear warm-up, then cosine or polynomial (power 0.9, as in SAMed) decay to zero.

    The warm-up takes at most a fifth of all steps, so that short trainings reach their peak too.
    """
    warmup = min(warmup_steps, total_steps // 5)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    left = 1 - (step - warmup) / max(1, total_steps - warmup)
    return peak * (left**0.9 if schedule == "polynomial" else 0.5 * (1 + math.cos(math.pi * (1 - left))))


def make_optimizer(model: nn.Module, *, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW over the parameters that ask for a gradient.

    Only weights of linear and convolutional layers (LoRA's too) are decayed: not biases, norms, position tables or
    embeddings, which decay would pull away from their pre-training for no reason.
    """
    import torch
    from torch import nn
    from torch.nn.modules.conv import _ConvNd

    layers = (m for m in model.modules() if isinstance(m, nn.Linear | _ConvNd))
    matrices = {id(layer.weight) for layer in layers}
    asked = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in asked if id(p) in matrices], "weight_decay": weight_decay},
        {"params": [p for p in asked if id(p) not in matrices], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=(0.9, 0.999))


def autocast(device: torch.device) -> Any:
    """bfloat16 autocast on CUDA devices that have it; float32 elsewhere."""
    import torch

    usable = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, torch.bfloat16, enabled=usable)


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    logits: Callable[[Tensor], Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    batches: Callable[[int], Iterator[Batch]],
    validate: Callable[[], Mapping[str, float]],
    steps_per_epoch: int,
    epochs: int,
    lr: float,
    warmup_steps: int,
    schedule: str,
    clip_norm: float,
    validate_every: int,
    patience: int,
    batch_size: int,
    micro_batch: int | None = None,
    state_path: Path,
    enter_training: Callable[[], None],
    seed: int = 0,
    peak_bytes: Callable[[], int | None] = lambda: None,
    reset_peak: Callable[[], None] = lambda: None,
    progress: Callable[[Mapping[str, Any]], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
    save_every_s: float = SAVE_EVERY_S,
) -> State:
    """Train until the last epoch or until validation stops improving; leave the best checkpoint in `model`.

    Args:
        model: its parameters with ``requires_grad`` are trained.
        optimizer: holds exactly those.
        logits: the model's forward pass, images → logits.
        loss: mean over the batch of each image's loss (so that micro-batches add up).
        batches: first step → batches from there on.
        validate: scores on the inner validation split; higher ``pq``, then ``aji``, then ``dice`` is better.
        micro_batch: images that go through the model at once at most; None is the whole batch. It never changes
            what a step computes, but for rounding, in models without dropout.
        state_path: where the state is kept; training continues from there if the file exists.
        enter_training: puts the model into training mode (after validation left it in eval mode).
        seed: of whatever is random in a step (dropout, say), together with the step's number: no generator has to
            be saved for a resumed run to go on as an undisturbed one would.
        peak_bytes: peak memory since `reset_peak`.
        reset_peak: called when the micro-batch was halved: the peak of what did not fit is nobody's need.
        progress: told step, epoch, loss, speed and time left after every step.
        should_stop: asked after every step; True saves the state and raises `InterruptedRunError`.

    Raises:
        DivergedError: the loss is not finite.
        InterruptedRunError: asked to stop; the state is saved.
        torch.OutOfMemoryError: even a micro-batch of one image does not fit.
    """
    import torch

    device = next(model.parameters()).device
    total = steps_per_epoch * epochs
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    state = State(micro_batch=batch_size)
    best: dict[str, Tensor] = {}
    restored = restore(state_path, trained, optimizer) if state_path.exists() else None
    if restored is not None:
        state, best = restored
    state.micro_batch = min(state.micro_batch, micro_batch or batch_size)
    started = time.monotonic() - state.seconds
    first_step, resumed, saved, saving_s = state.step, time.monotonic(), time.monotonic(), 0.0
    enter_training()
    for batch in batches(state.step) if not state.stopped else ():
        rate = learning_rate(state.step, peak=lr, total_steps=total, warmup_steps=warmup_steps, schedule=schedule)
        for group in optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(seed * 1_000_003 + state.step)
        value = _step(model, optimizer, batch, logits, loss, device, clip_norm, state, reset_peak)
        state.step += 1
        speed = (state.step - first_step) * batch_size / (time.monotonic() - resumed)
        told = {"step": state.step, "steps": total, "epoch": (state.step - 1) // steps_per_epoch + 1, "epochs": epochs}
        progress({**told, "loss": value, "images_per_s": speed, "eta_s": (total - state.step) * batch_size / speed})
        epoch, left = divmod(state.step, steps_per_epoch)
        if left == 0 and (epoch % validate_every == 0 or epoch == epochs):
            scores = validate()
            state.history.append({"epoch": epoch, "loss": value, **scores})
            score = (scores["pq"], scores["aji"], scores["dice"])
            improved = state.best_score is None or score > state.best_score
            if improved or score == state.best_score:  # early on all scores are 0: keep what has trained longer
                state.best_score, state.best_step = score, state.step
                # Not on the GPU, where it would count as memory that training needs.
                best = {name: p.detach().to("cpu", copy=True) for name, p in trained.items()}
            state.stale = 0 if improved else state.stale + 1
            state.stopped = 0 < patience <= state.stale
            enter_training()
        interrupted = should_stop()
        since = time.monotonic() - saved
        over = state.stopped or state.step == total
        rested = saving_s < 1 or since > SAVING_SHARE * saving_s
        if interrupted or over or (rested and (left == 0 or since > save_every_s)):
            state.seconds = time.monotonic() - started
            state.peak_bytes = max(filter(None, (state.peak_bytes, peak_bytes())), default=None)
            begun = time.monotonic()
            save(state_path, state, best, trained, optimizer)
            saved = time.monotonic()
            saving_s = saved - begun
        if interrupted:
            raise InterruptedRunError(f"asked to stop after step {state.step} of {total}; the state is saved.")
        if state.stopped:
            break
    with torch.no_grad():
        for name, p in trained.items():
            p.copy_(best[name])
    optimizer.zero_grad(set_to_none=True)  # or inference would seem to need the gradients' memory
    return state


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    logits: Callable[[Tensor], Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    device: torch.device,
    clip_norm: float,
    state: State,
    reset_peak: Callable[[], None],
) -> float:
    """One optimiser step; on out-of-memory the micro-batch is halved and the step is done again."""
    import torch

    while True:
        try:
            value = _accumulate(optimizer, batch, logits, loss, device, state.micro_batch)
            break
        except torch.OutOfMemoryError:
            if state.micro_batch == 1:
                raise
            state.micro_batch = max(1, state.micro_batch // 2)
        torch.cuda.empty_cache()  # outside the handler, whose traceback still holds the activations
        state.peak_bytes = None
        reset_peak()
    if not math.isfinite(value):
        raise DivergedError(f"the loss became {value} at step {state.step + 1}; try a smaller train.lr.")
    norm = torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], clip_norm)
    if not torch.isfinite(norm):
        raise DivergedError(
            f"the gradient's norm became {norm.item()} at step {state.step + 1}; try a smaller train.lr."
        )
    optimizer.step()
    return value


def _accumulate(
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    logits: Callable[[Tensor], Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    device: torch.device,
    micro_batch: int,
) -> float:
    optimizer.zero_grad(set_to_none=True)
    size, value = len(batch.images), 0.0
    for start in range(0, size, micro_batch):
        images = batch.images[start : start + micro_batch].to(device, non_blocking=True)
        targets = batch.targets[start : start + micro_batch].to(device, non_blocking=True)
        with autocast(device):
            share = loss(logits(images), targets) * (len(images) / size)
        share.backward()
        value += float(share.detach())
    return value
