"""The training loop: one optimiser step after the other, resumable at any step, with the best checkpoint kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bench.errors import DivergedError, InterruptedRunError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

SAVE_EVERY_S = 60.0


class Batch(Protocol):
    """What an optimiser step needs (see `bench.data.Batch`)."""

    @property
    def images(self) -> Tensor: ...
    @property
    def targets(self) -> Tensor: ...


@dataclass
class State:
    """All that changes while training; what a resumed run starts from."""

    step: int = 0
    best_score: tuple[float, ...] | None = None
    best_step: int = 0
    stale: int = 0
    micro_batch: int = 0
    micro_batch_halvings: int = 0
    stopped: bool = False
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


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
    """AdamW over the parameters that ask for a gradient; biases, norms and scales are not decayed."""
    import torch

    asked = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in asked if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in asked if p.ndim < 2], "weight_decay": 0.0},
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
    state_path: Path,
    enter_training: Callable[[], None],
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
        state_path: where the state is kept; training continues from there if the file exists.
        enter_training: puts the model into training mode (after validation left it in eval mode).
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
    if state_path.exists():
        state, best = _restore(state_path, trained, optimizer)
    started = time.monotonic() - state.seconds
    first_step, resumed, saved = state.step, time.monotonic(), time.monotonic()
    enter_training()
    for batch in batches(state.step) if not state.stopped else ():
        rate = learning_rate(
            state.step, peak=lr, total_steps=total, warmup_steps=warmup_steps, schedule=schedule
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        value = _step(model, optimizer, batch, logits, loss, device, clip_norm, state)
        state.step += 1
        speed = (state.step - first_step) * batch_size / (time.monotonic() - resumed)
        told = {
            "step": state.step,
            "steps": total,
            "epoch": (state.step - 1) // steps_per_epoch + 1,
            "epochs": epochs,
        }
        progress(
            {**told, "loss": value, "images_per_s": speed, "eta_s": (total - state.step) * batch_size / speed}
        )
        epoch, left = divmod(state.step, steps_per_epoch)
        if left == 0 and (epoch % validate_every == 0 or epoch == epochs):
            scores = validate()
            state.history.append({"epoch": epoch, "loss": value, **scores})
            score = (scores["pq"], scores["aji"], scores["dice"])
            improved = state.best_score is None or score > state.best_score
            if (
                improved or score == state.best_score
            ):  # early on all scores are 0: keep what has trained longer
                state.best_score, state.best_step = score, state.step
                best = {name: p.detach().clone() for name, p in trained.items()}
            state.stale = 0 if improved else state.stale + 1
            state.stopped = 0 < patience <= state.stale
            enter_training()
        interrupted = should_stop()
        if left == 0 or interrupted or time.monotonic() - saved > save_every_s:
            state.seconds = time.monotonic() - started
            _save(state_path, state, best, trained, optimizer)
            saved = time.monotonic()
        if interrupted:
            raise InterruptedRunError(
                f"asked to stop after step {state.step} of {total}; the state is saved."
            )
        if state.stopped:
            break
    with torch.no_grad():
        for name, p in trained.items():
            p.copy_(best[name])
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
            state.micro_batch_halvings += 1
        torch.cuda.empty_cache()  # outside the handler, whose traceback still holds the activations
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


def _save(
    path: Path,
    state: State,
    best: Mapping[str, Tensor],
    trained: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    import torch

    content = {
        "state": vars(state),
        "best": dict(best),
        "trained": {name: p.detach() for name, p in trained.items()},
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    temporary = path.with_name(path.name + ".tmp")
    torch.save(content, temporary)
    temporary.replace(path)


def _restore(
    path: Path, trained: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> tuple[State, dict[str, Tensor]]:
    import torch

    content = torch.load(path, weights_only=True, map_location="cpu")
    if content["trained"].keys() != trained.keys():
        raise ValueError(f"{path} belongs to other parameters; remove it to train this run from the start.")
    with torch.no_grad():
        for name, p in trained.items():
            p.copy_(content["trained"][name])
    optimizer.load_state_dict(content["optimizer"])
    torch.set_rng_state(content["rng"])
    if content["cuda_rng"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(content["cuda_rng"])
    state = State(**content["state"])
    if state.best_score is not None:
        state.best_score = tuple(state.best_score)
    device = next(iter(trained.values())).device
    return state, {name: value.to(device) for name, value in content["best"].items()}
