"""Settings of the training loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bench.training.optimizer import learning_rate

SAVE_EVERY_S = 60.0


@dataclass(frozen=True)
class LoopSettings:
    """Settings of the loop; see `bench.grid.TrainSettings` for those that are not explained here.

    Attributes:
        steps_per_epoch: optimiser steps in an epoch.
        micro_batch: images that go through the model at once, at most. But for rounding it never changes what a step
            computes, in models without dropout.
        lr: peak learning rate of parameters outside the image encoder.
        encoder_lr: of those inside it; None where `lr` serves all.
        whole_batches: batches are never divided into micro-batches, because the images of a batch depend on each other.
        seed: of everything random in a step (dropout, say), together with the step's number: so a resumed run needs no
            saved random state to continue like an undisturbed one.
        save_every_s: seconds between two saves in the middle of an epoch.
        is_shared: other runs use the device at the same time; the state remembers it.
        memory: ``auto`` computes activations inside the encoder's blocks again once a micro-batch of one image does not
            fit; ``checkpoint`` always; ``full`` never.
        starts_checkpointed: do so from the first step on.
        is_late: the numbers of a step are read after the next one is queued, so that a GPU never waits for the
            program; needs a fused optimiser (see `bench.training.step.step`).
        choice: what a first training led to (see `bench.training.refit.Choice`), as plain values. Given, this is the
            second one: it ends after the chosen epoch of the schedule, without a validation.
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
    encoder_lr: float | None = None
    ema: float = 0.0
    whole_batches: bool = False
    seed: int = 0
    save_every_s: float = SAVE_EVERY_S
    is_shared: bool = False
    memory: Literal["auto", "full", "checkpoint"] = "full"
    starts_checkpointed: bool = False
    is_late: bool = False
    choice: Mapping[str, Any] | None = None
    choose_by: str = "pq"

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole training."""
        return self.steps_per_epoch * (self.choice["epoch"] if self.choice else self.epochs)

    def learning_rate(self, step: int, peak: float | None = None) -> float:
        """Learning rate of a step, counted from 0, of parameters with a peak rate; `lr` by default."""
        return learning_rate(
            step,
            peak=self.lr if peak is None else peak,
            total_steps=self.steps_per_epoch * self.epochs,
            warmup_steps=self.warmup_steps,
            schedule=self.schedule,
        )

    def learning_rates(self, step: int) -> dict[str, float]:
        """Learning rates of a step by their names in the history."""
        rates = {"lr": self.learning_rate(step)}
        if self.encoder_lr is not None:
            rates["encoder_lr"] = self.learning_rate(step, self.encoder_lr)
        return rates

    def judged(self, scores: Mapping[str, float]) -> tuple[float, ...]:
        """Return what two validations are compared by; higher is better. Of equal PQs AJI decides, then Dice."""
        if self.choose_by == "loss":
            return (-scores["validation_loss"],)
        return (scores["pq" if self.choose_by == "pq" else "searched_pq"], scores["aji"], scores["dice"])

    def ends_epoch(self, step: int) -> bool:
        """Return True if an epoch ends after so many steps."""
        return step % self.steps_per_epoch == 0

    def validates_after(self, step: int) -> bool:
        """Return True if an epoch that is validated ends after so many steps."""
        epoch = step // self.steps_per_epoch
        if self.choice:
            return False
        return self.ends_epoch(step) and (epoch % self.validate_every == 0 or epoch == self.epochs)
