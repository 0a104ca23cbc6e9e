"""Which running statistics of BatchNorm train a whole encoder from random weights best?

The same training with `train.batchnorm` frozen (statistics of noise), settled (of training images, before the first
step) and trained (of each batch, averaged). It prints for each seed and choice the loss of a step, the mean loss of the
ten steps up to it, and the PQ of the last epoch on the inner validation split. The test fold is never read.

Command:   python docs/experiments/batchnorm.py FOLDER [--step 40] [--image-size 256] [--epochs 20] [--seeds 0,1,2]
Data:      a folder in NuInsSeg's layout, dsb-he say.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any

from trainings import Trained, parser, trained

from bench.training import validation

CHOICES = ("frozen", "settled", "trained")


def row(options: argparse.Namespace, seed: int, choice: str) -> str:
    """Return the row of one training."""
    losses: list[float] = []
    scores: list[Mapping[str, float]] = []
    plain, begun = validation.scores, time.process_time()

    def validate(_: Trained, *arguments: Any, **settings: Any) -> dict[str, float]:
        scores.append(plain(*arguments, **settings))
        return dict(scores[-1])

    def progress(phase: str, numbers: Mapping[str, Any] | None = None) -> None:
        if phase == "training" and numbers:
            losses.append(numbers["loss"])

    settings = {"batchnorm": choice, "validate_every": options.epochs}
    with trained(options, seed, validation_fraction=0.2, validate=validate, train=settings, progress=progress):
        pass
    at = min(options.step, len(losses))
    last = losses[max(0, at - 10) : at]
    cells = (
        *(str(seed), choice, str(at), f"{losses[at - 1]:.3f}", f"{sum(last) / len(last):.3f}"),
        *(str(len(losses)), f"{scores[-1]['pq']:.3f}", f"{time.process_time() - begun:.0f}"),
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    arguments = parser("Train with each choice of BatchNorm's statistics.")
    arguments.set_defaults(backbone="mobile_sam")
    arguments.add_argument("--step", type=int, default=40, help="number of the step whose loss is shown")
    options = arguments.parse_args()
    print("| seed | batchnorm | step | its loss | mean of ten | steps | validation PQ | CPU seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for seed in options.seeds.split(","):
        for choice in CHOICES:
            print(row(options, int(seed), choice), flush=True)


if __name__ == "__main__":
    main()
