"""Times at which the state of a training is saved."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.training.checkpoint import State, save

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SAVING_SHARE = 20
"""A save of a second or more is followed by a pause of at least this many times its duration."""


@dataclass
class Saver:
    """Saves the state at the end of an epoch and every `every_s` seconds, less often where a save takes long.

    Attributes:
        path: file of the state.
        every_s: seconds between two saves in the middle of an epoch.
        saved: instant of the last save.
        duration_s: of the last save.
    """

    path: Path
    every_s: float
    saved: float
    duration_s: float = 0.0

    def is_due(self, *, ends_epoch: bool) -> bool:
        """Return True if the state is to be saved after a step that does not end the training."""
        since = time.monotonic() - self.saved
        rested = self.duration_s < 1 or since > SAVING_SHARE * self.duration_s
        return rested and (ends_epoch or since > self.every_s)

    def save(
        self,
        state: State,
        best: Mapping[str, Tensor],
        trained: Mapping[str, Tensor],
        optimizer: torch.optim.Optimizer,
        peak_bytes: Callable[[], int | None],
    ) -> None:
        """Save the state with the peak memory so far."""
        begun = time.monotonic()
        state.peak_bytes = larger(state.peak_bytes, peak_bytes())
        save(self.path, state, best, trained, optimizer)
        self.saved = time.monotonic()
        self.duration_s = self.saved - begun


def larger(*peaks: int | None) -> int | None:
    """Return the largest of the known peaks; None if none is known."""
    return max(filter(None, peaks), default=None)
