"""Seeded split of numbered units into folds."""

from __future__ import annotations

import numpy as np


def shuffled_folds(n_units: int, n_splits: int, seed: int) -> list[int]:
    """Return the fold (1…n_splits) in which each of the units 0…n_units - 1 is tested.

    The same as ``sklearn.model_selection.KFold(n_splits, shuffle=True, random_state=seed)`` (a test compares), whose
    import takes longer than the rest of a worker's start.
    """
    shuffled = np.arange(n_units)
    np.random.RandomState(seed).shuffle(shuffled)
    folds = np.empty(n_units, int)
    for fold, tested in enumerate(np.array_split(shuffled, n_splits), start=1):
        folds[tested] = fold
    return [int(fold) for fold in folds]
