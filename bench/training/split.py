"""Split of the images for one fold: training, validation and test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench import folds
from bench.grid import Run
from bench.training.data import Image

UNSET_VALIDATION_FRACTION = 0.2
"""For runs that choose nothing on validation images, whose ``validation_fraction`` is None."""


@dataclass(frozen=True)
class Split:
    """Images of one fold.

    Attributes:
        train: what the model is trained on.
        validation: what checkpoint and post-processing are chosen on.
        test: the fold itself, read once at the end.
    """

    train: list[Image]
    validation: list[Image]
    test: list[Image]


def split(run: Run, images: Mapping[str, Image]) -> Split:
    """Split a dataset for one run: its fold for testing, and a validation part of the rest; groups stay together.

    Args:
        run: gives the fold, its seed and the validation fraction.
        images: the whole dataset by stem.

    Raises:
        FoldError: too few images or groups.
    """
    groups = {stem: image.group for stem, image in images.items()}
    fold_of = folds.assign(list(images), n_splits=run.n_splits, seed=run.fold_seed, groups=groups)
    rest = [stem for stem in images if fold_of[stem] != run.fold]
    train, validation = folds.inner_split(
        rest,
        fraction=run.validation_fraction or UNSET_VALIDATION_FRACTION,
        seed=run.seed,
        groups={stem: groups[stem] for stem in rest},
    )
    test = [images[stem] for stem in images if fold_of[stem] == run.fold]
    return Split([images[stem] for stem in train], [images[stem] for stem in validation], test)
