"""Resources that one run takes, FLOPs and memory of one training step, and the number of images that a run processes.

Only values and arithmetic; `estimator` chooses which measurements or counts they come from.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.estimate.shared_embeddings import Sharing, encoded
from bench.grid import CLASSICAL, Run
from bench.training import search, tiling, variants
from registry import heads

CONTEXT_BYTES = 512 * 2**20
"""GPU memory that CUDA itself takes for each process, in addition to what PyTorch allocates."""
OUTPUT_BYTES = 1_400_000
"""Size of a run's record, scores, log and three overlays of 512 × 512 pixels, measured on NuInsSeg."""
LABEL_MAP_BYTES, IMAGE_BYTES = 8_000, 440_000
"""Size of a label map of 512 × 512 pixels, and of an image's pixels and true label map, measured on NuInsSeg."""
EMBEDDING_BYTES = 2
"""Bytes of a value of a cached embedding (float16 or bfloat16)."""
WEIGHT_BYTES = {"full": 4.0, "int8": 1.0, "nf4": 0.5 + 4 / 64}
"""Bytes of a frozen weight by ``train.base_weights``; in 4 bits, blocks of 64 share a float32 scale."""
STATE_BYTES = 16
"""Bytes per trainable parameter in ``state.pt``: current and best value, and AdamW's two moments, 4 bytes each."""
AVERAGE_BYTES = 4
"""Bytes per trainable parameter of its moving average (``train.ema``), in memory and in ``state.pt``."""
MEASURED_FACTOR, COUNTED_FACTOR = 1.5, 3.0
ALONE = Sharing()

Basis = Literal["measured", "scaled", "perf", "counted", "no_gpu", "unknown"]
"""Origin of an estimate: runs of the same kind; runs of other length or batch size; steps that `bench perf` measured;
FLOPs and memory counted on fake tensors; the classical pipeline, which uses no GPU; nothing."""


@dataclass(frozen=True)
class Resources:
    """Resources that one run takes. None is unknown.

    Attributes:
        minutes: training and evaluation alone on its GPU (or CPUs). Starting, reading images, building and auditing
            the model and measuring latencies are not included. Early stopping is, only where runs were measured.
        gpu_memory_bytes: at `micro_batch`, with CUDA's own share; 0 without a GPU.
        micro_batch: images that are on the GPU at once; training halves the batch until it fits.
        smallest_micro_batch: the batch itself where its images depend on one another (``train.batchnorm=trained``).
        disk_bytes: results of the finished run.
        state_bytes: largest size of its training state while it runs, in addition to `disk_bytes`: twice one state,
            because the new one is written before the old one is removed.
        basis: origin of the numbers.
        details: text about the origin, e.g. how many runs were measured on which GPU, or why nothing is known.
        factor: time limits are `minutes` × this.
        is_recomputed: activations of the encoder's blocks are computed again in the backward pass, to save memory.
        cache_bytes: its share of the cached embeddings, which runs on the same backbone and images have in common.
        tuning_minutes: of all trials of its encoder rate (see `bench.estimate.tuning_costs`).
        tuning_share: its share of them, which is a part of `minutes`.
    """

    minutes: float | None
    gpu_memory_bytes: int | None
    micro_batch: int | None
    disk_bytes: int | None
    state_bytes: int | None
    basis: Basis
    details: str
    factor: float
    is_recomputed: bool = False
    smallest_micro_batch: int = 1
    cache_bytes: int = 0
    tuning_minutes: float = 0.0
    tuning_share: float = 0.0


def kept_bytes(runs: Sequence[Run], n_images: int, n_first: int | None) -> int:
    """Return the size of predicted label maps that runs keep, and of the images, which are kept once for all runs.

    Args:
        runs: to be done.
        n_images: of their dataset.
        n_first: number of first test images of a fold that are kept; None for all (see `bench.results.kept_files`).
    """
    by_fold = Counter((run.n_splits, run.fold_seed, run.fold) for run in runs)
    n_maps = n_kept = 0
    for (n_splits, _, _), n_runs in by_fold.items():
        n_test = math.ceil(n_images / n_splits)
        first = n_test if n_first is None else n_first
        n_maps += n_runs * min(n_test, first + 3)
        n_kept += min(n_test, first + 3 * n_runs)  # the best, median and worst may be others in each run
    return n_maps * LABEL_MAP_BYTES + min(n_kept, n_images) * IMAGE_BYTES


def unknown_resources(reason: str) -> Resources:
    """Return resources of which nothing is known, with the reason."""
    return Resources(None, None, None, None, None, "unknown", reason, COUNTED_FACTOR)


@dataclass(frozen=True)
class StepCost:
    """FLOPs and memory of a training step and of a prediction, of one input.

    A multiplication and an addition are two FLOPs.

    Attributes:
        parameters: number in the model with the strategy applied.
        trainable: number that is trained.
        train_flops: forward and backward pass of one input; 0 where nothing is trained.
        infer_flops: prediction of one input; for a prompting head one encoding and the decoding of a grid of points.
        fixed_bytes: largest sum of the bfloat16 copies of weights, which are needed once whatever the batch size.
        image_bytes: largest sum of everything else that one image keeps for or during its backward pass.
        encoder_flops: part of `infer_flops` that encodes the input.
        decoder_bytes: `image_bytes` where the embedding is given and nothing is encoded.
        frozen_weights: number of weights in frozen linear layers of the encoder, which ``train.base_weights`` may keep
            in fewer bits.
    """

    parameters: int
    trainable: int
    train_flops: int
    infer_flops: int
    fixed_bytes: int
    image_bytes: int
    encoder_flops: int
    decoder_bytes: int
    frozen_weights: int = 0

    def peak_bytes(
        self, micro_batch: int, *, cached: bool = False, base_weights: str = "full", averaged: bool = False
    ) -> int:
        """Return the GPU memory that training at this micro-batch allocates: float32 weights, bfloat16 autocast.

        Args:
            micro_batch: images that go through the model at once.
            cached: embeddings come from the cache; those that are missing are computed singly.
            base_weights: ``train.base_weights``.
            averaged: the trained parameters have a moving average (``train.ema``).
        """
        weights = 4 * self.parameters - round((4 - WEIGHT_BYTES[base_weights]) * self.frozen_weights)
        gradients, moments = 4 * self.trainable, 8 * self.trainable
        activations = self.fixed_bytes + micro_batch * self.image_bytes
        if cached:
            activations = self.fixed_bytes + max(self.image_bytes, micro_batch * self.decoder_bytes)
        update = 4 * self.trainable  # AdamW's temporary tensors, when the activations are freed
        average = AVERAGE_BYTES * self.trainable if averaged else 0
        return weights + gradients + moments + average + max(activations, update)


def state_bytes(run: Run, trainable: int) -> int:
    """Return the size of two training states of a run: the new one is written before the old one is removed."""
    return 2 * (STATE_BYTES + (AVERAGE_BYTES if run.train.get("ema") else 0)) * trainable


@dataclass(frozen=True)
class Workload:
    """Number of images that a run processes.

    Attributes:
        trained: inputs with a forward and a backward pass, over all epochs; with ``train.refit``, those of the second
            training too.
        predicted: inputs with a forward pass for validation and test.
        post_processed: images turned into instances and scored.
        tested: images of the test fold.
        encoded: embeddings that are computed for the cache; what runs share is counted in equal parts.
    """

    trained: int
    predicted: int
    post_processed: int
    tested: int
    encoded: float = 0.0


def workload(
    run: Run, n_images: int, image_shape: tuple[int, int] | None = None, *, shared: Sharing = ALONE
) -> Workload:
    """Return the number of images that a run processes if it doesn't stop early, and its last epoch is the best.

    Args:
        run: the run.
        n_images: of its dataset.
        image_shape: (h, w) of the images in pixels; needed only if the run has a `scale`.
        shared: embeddings that it has in common with other runs.
    """
    outer = round(n_images * (1 - 1 / run.n_splits))
    test, validation = n_images - outer, round(outer * (run.validation_fraction or 0))
    if run.backbone == CLASSICAL:
        return Workload(0, 0, test, test)
    crops, tiles = _inputs_per_image(run, image_shape)
    epochs = int(run.train.get("epochs", 0))
    validations = math.ceil(epochs / int(run.train.get("validate_every", 1)))
    again = outer if run.train.get("refit") else 0
    head = heads.get(run.head)
    points = len(heads.starts(head)) if run.train.get("choose_by") == "searched_pq" else 1
    return Workload(
        trained=(outer - validation + again) * crops * epochs,
        predicted=(validation * validations + (validation + test) * variants.turn_count(run.tta)) * tiles,
        post_processed=validation * validations * points + search.most_scored(head, validation, run.search) + test,
        tested=test,
        encoded=encoded(run, n_images, again or outer - validation, crops * epochs, tiles, shared),
    )


def _inputs_per_image(run: Run, shape: tuple[int, int] | None) -> tuple[int, int]:
    """Return the number of crops in one epoch, and of overlapping tiles in a prediction."""
    if run.scale is None or shape is None:
        return 1, 1
    size = run.image_size
    crops = tiling.tiles_per_image(*shape, image_size=size, scale=run.scale)
    scaled = tiling.scaled_size(*shape, image_size=size, scale=run.scale)
    return crops, len(tiling.tile_corners(*scaled, image_size=size))
