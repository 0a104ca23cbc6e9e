"""What a run needs of a cluster, and how many images it handles for that. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bench.grid import CLASSICAL, Run
from bench.training import tiling
from registry import heads

CONTEXT_BYTES = 512 * 2**20
"""Of GPU memory, what CUDA itself takes for each process, beside what PyTorch allocates."""
OUTPUT_BYTES = 400_000
"""Record, scores, log and three kept predictions of 512 × 512 pixels, measured."""
STATE_BYTES = 16
"""Per trainable parameter in ``state.pt``: as it is, the best one, and AdamW's two moments, 4 bytes each."""
MEASURED_FACTOR, COUNTED_FACTOR = 1.5, 3.0


@dataclass(frozen=True)
class Resources:
    """What one run needs. None is unknown.

    Attributes:
        minutes: of training and evaluation alone on its GPU (or CPUs); starting, decoding images, building and auditing
            the model and measuring latencies come on top. Early stopping is foreseen only where it was measured.
        gpu_memory_bytes: at `micro_batch`, CUDA's own share included; 0 without a GPU.
        micro_batch: images that go through the GPU at once; training halves the batch until it fits.
        disk_bytes: that it leaves.
        state_bytes: that it takes beside while it runs, at most: the state of its training, twice while one
            replaces the other.
        basis: what the numbers rest on; up to the first colon or " at " its kind.
        factor: by which time limits exceed `minutes`.
    """

    minutes: float | None
    gpu_memory_bytes: int | None
    micro_batch: int | None
    disk_bytes: int | None
    state_bytes: int | None
    basis: str
    factor: float

    @property
    def kind(self) -> str:
        """``measured``, ``scaled``, ``FLOPs``, ``no GPU`` or ``unknown``."""
        return self.basis.partition(":")[0].partition(" at ")[0]


def unknown_resources(why: str) -> Resources:
    """A need that nothing tells of, and why."""
    return Resources(None, None, None, None, None, f"unknown: {why}", COUNTED_FACTOR)


@dataclass(frozen=True)
class Workload:
    """How many images a run handles.

    Attributes:
        trained: inputs that go forward and backward, over all epochs.
        predicted: inputs that go forward for validation and test.
        post_processed: images turned into instances and scored.
        tested: images of the test fold.
    """

    trained: int
    predicted: int
    post_processed: int
    tested: int


def workload(run: Run, n_images: int, image_shape: tuple[int, int] | None = None) -> Workload:
    """How many images a run handles, were it never to stop early."""
    outer = round(n_images * (1 - 1 / run.n_splits))
    test, validation = n_images - outer, round(outer * (run.validation_fraction or 0))
    if run.backbone == CLASSICAL:
        return Workload(0, 0, test, test)
    crops, tiles = _inputs(run, image_shape)
    epochs = int(run.train.get("epochs", 0))
    validations = math.ceil(epochs / int(run.train.get("validate_every", 1)))
    head = heads.get(run.head)
    tried = 1 + sum(v != head.defaults[k] for k, values in head.search.items() for v in values)
    return Workload(
        trained=(outer - validation) * crops * epochs,
        predicted=(validation * (validations + 1) + test) * tiles,
        post_processed=validation * (validations + tried) + test,
        tested=test,
    )


def _inputs(run: Run, shape: tuple[int, int] | None) -> tuple[int, int]:
    """Inputs per image: crops of an epoch, and overlapping tiles of a prediction."""
    if run.scale is None or shape is None:
        return 1, 1
    size = run.image_size
    crops = tiling.tiles_per_image(*shape, image_size=size, scale=run.scale)
    tiles = math.prod(len(tiling.tile_starts(round(side * run.scale), size, size // 4)) for side in shape)
    return crops, tiles
