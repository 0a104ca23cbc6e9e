"""BatchNorm in training: running statistics that are left alone, computed once from images, or averaged over steps.

The loss of an image depends on the other images of its micro-batch only where the statistics are trained.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from bench.training.model import set_training_mode
from registry.modules import batchnorm

if TYPE_CHECKING:
    from registry.sam import Sam

SETTLING_IMAGES = 32
"""Training images from which statistics are settled, or those of one batch if that has more."""
DECAY = 0.9
"""Share of the average that a step keeps, which is PyTorch's default (``momentum=0.1``)."""


@dataclass
class RunningStatistics:
    """Running statistics of a model in training.

    Attributes:
        sam: the model, with a strategy; marked, so that statistics other than its backbone's are saved with it.
        choice: see ``train.batchnorm`` in `bench.settings.TrainSettings`.
        norms: the BatchNorms whose statistics are settled or trained; none where they are frozen.
        buffers: their statistics by name, which belong to the state of the training.
    """

    sam: Sam
    choice: Literal["frozen", "settled", "trained"]
    norms: list[_BatchNorm] = field(init=False)
    buffers: dict[str, Tensor] = field(init=False)
    _averages: list[Tensor] = field(init=False, default_factory=list)
    _counts: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        is_frozen = self.choice == "frozen"
        self.norms = [] if is_frozen else [*batchnorm.norms(self.sam).values()]
        self.buffers = {} if is_frozen else batchnorm.statistics(self.sam)
        self._counts = [n.num_batches_tracked.clone() for n in self.norms if n.num_batches_tracked is not None]
        if self.norms:
            batchnorm.mark_own(self.sam, changing=self.is_trained)

    @property
    def is_trained(self) -> bool:
        """True if steps change the statistics; batches must then be whole."""
        return self.choice == "trained" and bool(self.norms)

    def settle(self, batches: Iterable[Tensor]) -> None:
        """Compute settled statistics from the first batches of training; leaves all others as they are.

        Always of whole batches, whatever the micro-batch, so that they do not depend on the memory of a device.

        Args:
            batches: images of the first and the following steps, on any device.
        """
        if self.choice != "settled" or not self.norms:
            return
        remaining = iter(batches)
        first = next(remaining)
        used = itertools.islice(itertools.chain([first], remaining), max(1, SETTLING_IMAGES // len(first)))
        self.sam.eval()
        device = self.sam.pixel_mean.device
        batchnorm.average_statistics(self.sam, self.sam.encode, (images.to(device) for images in used))
        self._restore_counts()

    def enter_training(self) -> None:
        """Put the model into training mode, and begin with the statistics that it has."""
        set_training_mode(self.sam)
        if not self.is_trained:
            return
        for norm in self.norms:
            norm.train()
            # A forward pass leaves the batch's own statistics, however often it is computed: again in the backward
            # pass, or anew with less memory. The average is updated once, after the step.
            norm.momentum = 1.0
        self._averages = [tensor.clone() for tensor in self.buffers.values()]

    def after_step(self) -> None:
        """Take the statistics of a step's batch into the average, which the model then has."""
        if not self.is_trained:
            return
        current = [*self.buffers.values()]
        get_ema_multi_avg_fn(DECAY)(self._averages, current, None)
        for tensor, average in zip(current, self._averages, strict=True):
            tensor.copy_(average)
        self._restore_counts()

    def _restore_counts(self) -> None:
        """Set the numbers of batches back, by which nothing is computed here: they would count forward passes."""
        counts = [norm.num_batches_tracked for norm in self.norms if norm.num_batches_tracked is not None]
        for count, before in zip(counts, self._counts, strict=True):
            count.copy_(before)
