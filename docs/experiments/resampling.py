"""How many instances are lost between ideal logits and the image, by resampling alone?

The logits are those of the label map's own targets, on the grid of a decoder: labels sampled as training samples them,
targets made of these, averaged to the logits' grid. They go through the resampling of a prediction and the head's
post-processing, and the instances are scored against the label map. Three forms are compared: labels and logits as in
version 0.1 (the label right of and below each centre; logits resampled to the input's resolution, then to the image's),
the same labels with a single resampling, and both as they are now.

Command:   python docs/experiments/resampling.py [FOLDER] [--images 8] [--head distance]
Data:      a folder in NuInsSeg's layout; without it, synthetic images of 512 pixels.
Duration:  about a minute.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from bench import metrics
from bench.training import predictions, tiling
from registry import datasets, heads, painter
from registry.contract import Head
from registry.resampling import sample_labels, whole

Labels = Callable[[np.ndarray, int], np.ndarray]
FORMS = {
    (16, 1024): (512, 256),
    (16, 512): (256, 128),
    (4, 512): (512, 512),
    (4, 256): (256, 256),
    (4, 128): (128, 128),
}
"""Stride and side of the input to the sides of targets and logits."""


class Ideal(torch.nn.Module):
    """Model that predicts given logits, whatever it sees."""

    def __init__(self, logits: torch.Tensor, image_size: int) -> None:
        super().__init__()
        self.logits, self.image_size = logits[None], image_size

    def decoder_input(self, images: torch.Tensor, *, embeddings: None = None) -> torch.Tensor:
        """Return the images."""
        return images

    def decode(self, _: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return the logits."""
        return self.logits, None


def earlier_labels(label_map: np.ndarray, side: int) -> np.ndarray:
    """Return the labels right of and below the centres, as version 0.1 sampled them."""
    index = ((np.arange(side) + 0.5) * len(label_map) / side).astype(int)
    return label_map[np.ix_(index, index)]


def labels(label_map: np.ndarray, side: int) -> np.ndarray:
    """Return the labels as training samples them."""
    return sample_labels(label_map, whole(len(label_map), side), whole(len(label_map), side))


def earlier_resampling(logits: torch.Tensor, image_size: int, side: int) -> torch.Tensor:
    """Resample to the resolution of the input, then to that of the image, as version 0.1 did."""
    return tiling.resize(tiling.resize(logits[None], image_size, image_size), side, side)[0]


def resampling(logits: torch.Tensor, image_size: int, side: int) -> torch.Tensor:
    """Resample as a prediction does."""
    pixels, device = np.zeros((side, side, 3), np.uint8), torch.device("cpu")
    channels = range(len(logits))
    return predictions.dense_logits(Ideal(logits, image_size), pixels, channels=channels, scale=None, device=device)  # type: ignore[arg-type]


def ideal_logits(head: Head, label_map: np.ndarray, sample: Labels, targets: int, cells: int) -> torch.Tensor:
    """Return the logits of a label map's targets on the grid of the logits."""
    made = torch.from_numpy(head.targets(sample(label_map, targets)))
    return torch.logit(F.avg_pool2d(made, targets // cells), eps=1e-4)


def scores(head: Head, maps: Sequence[np.ndarray], stride: int, image_size: int) -> dict[str, tuple[float, float]]:
    """Return mean AJI and PQ of each form."""
    forms = {
        "version 0.1": (earlier_labels, earlier_resampling),
        "one resampling": (earlier_labels, resampling),
        "and no shift": (labels, resampling),
    }
    means = {}
    for name, (sample, resample) in forms.items():
        rows = []
        for label_map in maps:
            logits = ideal_logits(head, label_map, sample, *FORMS[stride, image_size])
            made = head.instances(resample(logits, image_size, len(label_map)))
            rows.append(metrics.score(label_map, made, aji_plus=False))
        means[name] = (float(np.mean([row["aji"] for row in rows])), float(np.mean([row["pq"] for row in rows])))
    return means


def synthetic_maps(n: int, *, side: int = 512, nuclei: int = 90) -> list[np.ndarray]:
    """Return label maps of painted images."""
    rngs = [np.random.default_rng(seed) for seed in range(n)]
    return [painter.paint(rng, painter.tissue(rng), size=side, n_nuclei=nuclei)[1] for rng in rngs]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--head", default="distance")
    options = parser.parse_args()
    maps = synthetic_maps(options.images)
    if options.folder:
        dataset = datasets.get("nuinsseg")
        every = dataset.samples(options.folder)
        some = every[:: max(1, len(every) // options.images)][: options.images]
        maps = [label_map for _, label_map in map(dataset.read, some)]
    print(f"{len(maps)} label maps; AJI / PQ of ideal logits, head {options.head}")
    print("| stride | input | version 0.1 | one resampling | and no shift |\n|---|---|---|---|---|")
    for stride, image_size in FORMS:
        row = scores(heads.get(options.head), maps, stride, image_size)
        print(f"| {stride} | {image_size} | " + " | ".join(f"{aji:.4f} / {pq:.4f}" for aji, pq in row.values()) + " |")


if __name__ == "__main__":
    main()
