"""Fold assignment: which image is tested in which fold, and which are held back for choices within a fold."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from bench.errors import FoldError
from registry import atomic
from registry.modules.kfold import shuffled_folds

Groups = Mapping[str, str] | Sequence[str] | None


class Origin(Protocol):
    """Origin of an image, as the table of folds names it; a `registry.contract.Sample` is one."""

    @property
    def stem(self) -> str: ...
    @property
    def organ(self) -> str: ...
    @property
    def group(self) -> str: ...


OFFICIAL = "official"
"""Rule of an assignment: each image in the fold in which the authors of its dataset test it."""
SEEDED = "seeded"
"""Rule of an assignment: a seeded shuffle of the groups of these images."""


def assign(names: Iterable[str], n_splits: int = 5, seed: int = 19, groups: Groups = None) -> dict[str, int]:
    """Return the fold in which each image is tested.

    Images that are all of one registered dataset with official folds, the whole release or a part of it, keep these
    folds where `n_splits` and `seed` are the official ones and no group holds two images: with the default arguments
    and any of NuInsSeg's stems, the assignment of Mahbod et al. (Scientific Data 11:295, 2024). A part may leave folds
    empty. For all others it is ``KFold(n_splits, shuffle=True, random_state=seed)`` over the groups, sorted as plain
    strings (``_1, _10, _2``); images without groups are groups of one. The order of `names` does not matter.

    Args:
        names: stems of the images, unique.
        n_splits: number of folds.
        seed: random state of the shuffle.
        groups: the group of each name, as a mapping or in the order of `names`; one group stays in one fold.

    Returns:
        Name → fold, folds numbered 1…n_splits, in the order of the sorted names.

    Raises:
        FoldError: no names, duplicates, fewer than two folds, or fewer groups than folds.
    """
    group_of = _grouped(names, groups)
    if n_splits < 2:
        raise FoldError(f"folds.n_splits is {n_splits}; at least 2 folds are needed.")
    if official := _official(group_of, n_splits, seed):
        return {name: official[name] for name in sorted(official)}
    units = sorted(set(group_of.values()))
    if len(units) < n_splits:
        raise FoldError(
            f"{len(group_of)} images in {len(units)} groups can't fill {n_splits} folds: "
            f"set folds.n_splits to {max(2, len(units))} or less, or add images of other groups."
        )
    fold_of = dict(zip(units, shuffled_folds(len(units), n_splits, seed), strict=True))
    return {name: fold_of[group_of[name]] for name in sorted(group_of)}


def rule(names: Iterable[str], n_splits: int = 5, seed: int = 19, groups: Groups = None) -> str:
    """Return the rule by which `assign` assigns these images, `OFFICIAL` or `SEEDED`; raises what `assign` raises."""
    return OFFICIAL if _official(_grouped(names, groups), n_splits, seed) else SEEDED


def _official(group_of: Mapping[str, str], n_splits: int, seed: int) -> dict[str, int] | None:
    from registry import datasets

    if len(set(group_of.values())) < len(group_of):  # official folds may part the images of a group
        return None
    return datasets.official_folds(group_of, n_splits=n_splits, fold_seed=seed)


def inner_split(
    names: Iterable[str], *, fraction: float = 0.2, seed: int, groups: Groups = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split a fold's training images into those that train and those that choices are made on.

    Whole groups go to validation, in random order, as long as that brings its number of images nearer to
    `fraction`; each side gets at least one group.

    Args:
        names: stems of the training images, unique.
        fraction: share of the images wanted for validation, in (0, 1).
        seed: random state of the order.
        groups: as for `assign`.

    Returns:
        Names that train and names that validate, both sorted.

    Raises:
        FoldError: no names, duplicates, a fraction out of range, or one group only.
    """
    group_of = _grouped(names, groups)
    if not 0 < fraction < 1:
        raise FoldError(f"the validation fraction is {fraction}; it must lie between 0 and 1, both excluded.")
    sizes = Counter(group_of.values())
    units = sorted(sizes)
    if len(units) < 2:
        raise FoldError(
            f"{len(group_of)} training images, all of the group {units[0]!r}, can't be split into training "
            "and validation: at least two groups are needed. Use more folds or more data."
        )
    wanted = fraction * len(group_of)
    shuffled = [units[index] for index in np.random.default_rng(seed).permutation(len(units))]
    held: set[str] = set()
    n_held = 0
    for unit in shuffled:
        nearer = abs(n_held + sizes[unit] - wanted) < abs(n_held - wanted)
        if nearer and len(held) < len(units) - 1:
            held.add(unit)
            n_held += sizes[unit]
    if not held:  # every group is more than twice as large as what is wanted: the smallest does the least harm
        held.add(min(shuffled, key=sizes.__getitem__))
    ordered = sorted(group_of)
    return (
        tuple(name for name in ordered if group_of[name] not in held),
        tuple(name for name in ordered if group_of[name] in held),
    )


def assignment_digest(assignment: Mapping[str, int], samples: Iterable[Origin] = (), rule: str = "") -> str:
    """Return the SHA-256 (hex) of the file that `write_assignment` writes for the same arguments."""
    return hashlib.sha256(_table(assignment, samples, rule).encode()).hexdigest()


def write_assignment(path: Path, assignment: Mapping[str, int], samples: Iterable[Origin] = (), rule: str = "") -> str:
    """Write the fold of each image as CSV (stem, organ, group, fold, rule; sorted by stem), whole or not at all.

    Args:
        path: the file to write or replace.
        assignment: stem → fold.
        samples: where organ and group are taken from; the columns stay empty for stems that are not in it.
        rule: by which the folds were assigned, as `rule` returns it.

    Returns:
        SHA-256 (hex) of the file.
    """
    text = _table(assignment, samples, rule)
    atomic.write_text(path, text)
    return hashlib.sha256(text.encode()).hexdigest()


def _table(assignment: Mapping[str, int], samples: Iterable[Origin], rule: str) -> str:
    known = {sample.stem: sample for sample in samples}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("stem", "organ", "group", "fold", "rule"))
    for stem in sorted(assignment):
        sample = known.get(stem)
        origin = (sample.organ, sample.group) if sample else ("", "")
        writer.writerow((stem, *origin, assignment[stem], rule))
    return text.getvalue()


def _grouped(names: Iterable[str], groups: Groups) -> dict[str, str]:
    """Return name → group; raises `FoldError` for everything that can be wrong with the two."""
    if isinstance(names, str):
        raise FoldError(f"names is the one string {names!r}; a collection of image stems is needed.")
    listed = list(names)
    if not listed:
        raise FoldError("there are no images to assign to folds; is the data folder empty?")
    if repeated := [name for name, n in Counter(listed).items() if n > 1]:
        shown = ", ".join(map(repr, repeated[:5])) + (f" and {len(repeated) - 5} more" if len(repeated) > 5 else "")
        raise FoldError(f"image stems must be unique; more than once there is {shown}.")
    if groups is None:
        return {name: name for name in listed}
    if isinstance(groups, Mapping):
        if missing := [name for name in listed if name not in groups]:
            raise FoldError(f"{len(missing)} images have no group, the first is {missing[0]!r}.")
        return {name: groups[name] for name in listed}
    if len(groups) != len(listed):
        raise FoldError(f"{len(groups)} groups were given for {len(listed)} images; one for each is needed.")
    return dict(zip(listed, groups, strict=True))
