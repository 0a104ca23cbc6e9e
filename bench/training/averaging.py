"""Average: exponential moving average of what a training changes, for validation, test and the saved weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

PREFIX = "average of "
"""Start of the names of averages in the state of a training."""


def decay_at(step: int, decay: float) -> float:
    """Return the decay of a step, counted from 0: min(decay, (1 + step) / (10 + step)).

    The first averages would else be those of the initial parameters, for about 1 / (1 - decay) steps. The warm-up is
    that of ``num_updates`` in TensorFlow's ``ExponentialMovingAverage``.
    """
    return min(decay, (1 + step) / (10 + step))


@dataclass
class Average:
    """Averages of some tensors; none at a decay of 0, where every method leaves everything as it is.

    They are kept on the device of their tensors: an update on the host would wait for the device in every step.

    Attributes:
        decay: see `bench.grid.TrainSettings.ema`.
        tensors: parameters and buffers that a training changes, by name.
        values: their averages, which start as the tensors themselves.
    """

    decay: float
    tensors: Mapping[str, Tensor]
    values: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.values = {name: tensor.detach().clone() for name, tensor in self.tensors.items()} if self.decay else {}

    def update(self, step: int) -> None:
        """Take the tensors after a step into their averages.

        Args:
            step: its number, from 0.
        """
        if not self.decay:
            return
        import torch
        from torch.optim.swa_utils import get_ema_multi_avg_fn

        names = [name for name, tensor in self.tensors.items() if tensor.is_floating_point()]
        averages, current = [self.values[name] for name in names], [self.tensors[name].detach() for name in names]
        get_ema_multi_avg_fn(decay_at(step, self.decay))(averages, current, None)
        with torch.no_grad():
            for name in self.tensors.keys() - set(names):  # a counter has no average
                self.values[name].copy_(self.tensors[name])

    def state(self) -> dict[str, Tensor]:
        """Return the tensors and, by names of their own, the averages: what a saved training holds."""
        return {**self.tensors, **{PREFIX + name: value for name, value in self.values.items()}}

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the model have the averages in place of its tensors; nothing is copied."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for name, average in self.values.items():
            tensor = self.tensors[name]
            tensor.data, average.data = average.data, tensor.data
