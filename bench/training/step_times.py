"""Seconds that the parts of real training steps take."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.training.checkpoint import State
from bench.training.step import Checkpointed, LabelledBatch, Loss, step

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class StepTimes:
    """Seconds of one optimiser step; the parts add up to its whole.

    Attributes:
        data: the device had nothing to do because the next batch was not at hand.
        forward: forward passes and loss, with the copy of the batch to the device.
        backward: backward passes.
        optimizer: clipping and update.
        wait: rest of the time between two steps, in which the device waited for the program.
        images: of the batch.
    """

    data: float
    forward: float
    backward: float
    optimizer: float
    wait: float
    images: int

    @property
    def total(self) -> float:
        """Seconds from the end of the step before to the end of this one."""
        return self.data + self.forward + self.backward + self.optimizer + self.wait


def step_times(
    sam: nn.Module,
    *,
    batches: Iterable[LabelledBatch],
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    steps: int,
    device: torch.device,
    warm_up: int = 1,
    micro_batch: int | None = None,
    clip_norm: float = 1.0,
    checkpointed: Checkpointed | None = None,
    is_late: bool = False,
) -> list[StepTimes]:
    """Do real training steps and return the times of their parts. The parameters of the model change.

    On a GPU the times are those of CUDA events, so that steps are queued one after the other as in training.

    Args:
        sam: the model in training mode, on `device`.
        batches: at least ``warm_up + steps`` of them.
        loss: of `sam`, see `bench.training.step.Loss`.
        optimizer: of the parameters with ``requires_grad``.
        steps: number of steps that are measured.
        device: of the model.
        warm_up: steps before these.
        micro_batch: images that go through the model at once; all of a batch by default.
        clip_norm, is_late: see `bench.training.step.step`.
        checkpointed: given, activations inside the encoder's blocks are computed again.

    Raises:
        ValueError: too few batches.
    """
    parameters = [p for p in sam.parameters() if p.requires_grad]
    state = State(checkpointed=checkpointed is not None)
    clock = _Clock(device)
    source = iter(batches)
    clock.mark("optimizer")
    for state.step in range(warm_up + steps):
        begun = time.perf_counter()
        batch = next(source, None)
        if batch is None:
            raise ValueError(f"{state.step} batches were given; {warm_up} + {steps} are needed.")
        clock.fetches.append((time.perf_counter() - begun, len(batch.images)))
        state.micro_batch = micro_batch or len(batch.images)
        step(
            optimizer,
            parameters,
            batch,
            loss,
            state,
            clip_norm=clip_norm,
            checkpointed=checkpointed,
            is_late=is_late,
            mark=clock.mark,
        )
    optimizer.zero_grad(set_to_none=True)
    return clock.times()[warm_up:]


class _Clock:
    """Instants on a device's own clock.

    Attributes:
        fetches: seconds that each batch took to arrive, and its images.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.fetches: list[tuple[float, int]] = []
        self._marks: list[tuple[str, Any]] = []

    def mark(self, name: str) -> None:
        """Note the instant at which all that is queued so far is done."""
        import torch

        instant: Any = time.perf_counter()
        if self.device.type == "cuda":
            instant = torch.cuda.Event(enable_timing=True)
            instant.record(torch.cuda.current_stream(self.device))
        self._marks.append((name, instant))

    def times(self) -> list[StepTimes]:
        """Return the times of all steps; waits for the device."""
        between = self._between()
        rows = []
        parts = {"batch": 0.0, "forward": 0.0, "backward": 0.0, "optimizer": 0.0}
        fetches = iter(self.fetches)
        for (_, start), (name, end) in itertools.pairwise(self._marks):
            parts[name] += between(start, end)
            if name == "optimizer":
                fetch, images = next(fetches)
                data = min(fetch, parts["batch"])
                wait = parts.pop("batch") - data
                rows.append(StepTimes(data=data, wait=wait, images=images, **parts))
                parts = {"batch": 0.0, "forward": 0.0, "backward": 0.0, "optimizer": 0.0}
        return rows

    def _between(self) -> Callable[[Any, Any], float]:
        import torch

        if self.device.type != "cuda":
            return lambda start, end: end - start
        torch.cuda.synchronize(self.device)
        return lambda start, end: start.elapsed_time(end) / 1000
