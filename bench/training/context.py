"""Folders, device and other settings of an attempt that never enter a run's identity."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench import fast_paths
from bench.results.kept_files import DEFAULT_KEPT
from bench.training import side_processes


@dataclass(frozen=True)
class RunContext:
    """Settings of one attempt at a run.

    Attributes:
        results: the results folder.
        checkpoint: the official checkpoint file; None for random weights.
        device: ``cpu`` or ``cuda``.
        loader_workers: processes that prepare training samples.
        kept_predictions: number of first test images whose predicted label maps are kept besides those of the best,
            median and worst image; None for all.
        is_shared: other runs use the device at the same time, which distorts every timing.
        checkpointed: with ``train.memory=auto``, activations are computed again from the start, because an earlier
            attempt ran out of memory.
        micro_batch_halvings: how often the micro-batch is halved before training, because earlier attempts ran out of
            memory.
        log: ``tensorboard`` writes events of the training beside its history; None writes none.
        fast_paths: names of the faster forms that are used (see `bench.fast_paths`).
        encoder_lr: the rate that the run's own tuning chose (see `bench.training.tuning`); None takes that of its
            settings.
    """

    results: Path
    checkpoint: Path | None = None
    device: str = "cpu"
    loader_workers: int = 0
    kept_predictions: int | None = DEFAULT_KEPT
    is_shared: bool = False
    micro_batch_halvings: int = 0
    checkpointed: bool = False
    log: str | None = None
    fast_paths: frozenset[str] = fast_paths.DEFAULT
    encoder_lr: float | None = None

    @property
    def side_processes(self) -> int:
        """Processes for post-processing and scores beside predictions; 0 does both here, after each prediction.

        Predictions on a CPU take all threads of PyTorch: only cores beyond them are free meanwhile, and none where
        other runs have them.
        """
        on_gpu = self.device.startswith("cuda")
        allowed = "overlap" in self.fast_paths and (on_gpu or not self.is_shared)
        busy = 1 if on_gpu else _torch_threads()
        return side_processes.available(allowed, busy=busy, shared=self.is_shared)

    @property
    def processes(self) -> int:
        """Processes for post-processing and scores while nothing is predicted; 0 does both here."""
        count = side_processes.available("overlap" in self.fast_paths, busy=0, shared=self.is_shared)
        return count if count > 1 else 0  # a single one would only be waited for


def _torch_threads() -> int:
    import torch

    return torch.get_num_threads()
