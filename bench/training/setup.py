"""Setup of a run's training loop: its settings and its optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bench.training import data, refit
from bench.training.loop_settings import LoopSettings
from bench.training.optimizer import make_optimizer, share_of_decay

if TYPE_CHECKING:
    import torch

    from bench.grid import Run
    from bench.training.context import RunContext
    from bench.training.refit import Choice
    from bench.training.split import Split
    from registry.sam import Sam

AS_PLANNED = (
    *("epochs", "batch_size", "lr", "encoder_lr", "warmup_steps", "schedule", "clip_norm"),
    *("validate_every", "patience", "ema", "choose_by"),
)
"""Settings of training that the loop takes as they are."""


def loop_settings(
    run: Run, parts: Split, context: RunContext, *, whole_batches: bool, choice: Choice | None = None
) -> LoopSettings:
    """Return the settings of a run's training loop.

    Args:
        run: the question.
        parts: gives the training images.
        context: how much fits the device.
        whole_batches: see `LoopSettings`; earlier attempts that ran out of memory halve no micro-batch then.
        choice: of the first training, for the second one.
    """
    train = _with_tuned_rate(run, context)
    halvings = 0 if whole_batches else context.micro_batch_halvings
    return LoopSettings(
        **{name: train[name] for name in AS_PLANNED},
        steps_per_epoch=data.steps_per_epoch(
            parts.train, batch_size=train["batch_size"], image_size=run.image_size, scale=run.scale
        ),
        micro_batch=max(1, train["batch_size"] >> halvings),
        whole_batches=whole_batches,
        choice=refit.plain(choice),
        seed=run.seed,
        is_shared=context.is_shared,
        memory=train["memory"],
        starts_checkpointed=train["memory"] == "checkpoint" or context.checkpointed,
    )


def optimizer(run: Run, sam: Sam, context: RunContext) -> torch.optim.Optimizer:
    """Return the optimiser of a run's training."""
    return make_optimizer(
        sam,
        lr=run.train["lr"],
        encoder_lr=_with_tuned_rate(run, context)["encoder_lr"],
        weight_decay=share_of_decay(run.train),
        fused="fused_optimizer" in context.fast_paths,
    )


def _with_tuned_rate(run: Run, context: RunContext) -> Mapping[str, Any]:
    """Return the settings of training, with the encoder rate that the tuning chose in place of the planned one."""
    return run.train if context.encoder_lr is None else {**run.train, "encoder_lr": context.encoder_lr}
