"""File names of NuInsSeg's release and the fold in which its authors test each of them.

Mahbod et al., Scientific Data 11:295 (2024): ``KFold(5, shuffle=True, random_state=19)`` over the images organ folder
by organ folder, in each by plain string order (``_1, _10, _2``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from types import MappingProxyType

from registry.modules.kfold import shuffled_folds

N_SPLITS = 5
FOLD_SEED = 19

_NUMBERS = (
    ("human_bladder_", 2, "1-12"),
    ("human_brain_", 1, "1-12"),
    ("human_cardia_", 1, "1-12"),
    ("human_cerebellum_", 1, "1-12"),
    ("human_epiglottis_", 1, "1-8,10-12"),
    ("human_jejunum_", 2, "1-10"),
    ("human_kidney_", 2, "1-11"),
    ("human_liver_", 2, "1-40"),
    ("human_lung_", 1, "1-4,6-12"),
    ("human_melanoma_", 2, "1-12"),
    ("human_muscle_", 1, "1-3,5-10"),
    ("human_oesophagus_", 2, "1-18,20-48"),
    ("human_pancreas_", 2, "1-44"),
    ("human_peritoneum_", 1, "1-12"),
    ("human_placenta_", 2, "1-40"),
    ("human_pylorus_", 1, "1-12"),
    ("human_rectum_", 1, "1-12"),
    ("human_salivory_", 2, "1-44"),
    ("human_spleen_", 2, "1-34"),
    ("human_testis_", 1, "1-12"),
    ("human_tongue_", 2, "1-40"),
    ("human_tonsile_", 1, "1-12"),
    ("human_umbilical_cord_", 2, "1-2,4-12"),
    ("mouse_subscapula_", 2, "1-42"),
    ("mouse_femur_", 2, "1-6"),
    ("mouse_heart_", 2, "1-28"),
    ("mouse_kidney_", 2, "1-40"),
    ("mouse_liver_", 2, "1-36"),
    ("mouse_muscle_tibia_", 2, "1-28"),
    ("mouse_spleen_", 2, "1-7"),
    ("mouse_thymus_", 2, "1-6"),
)
"""Of each organ folder, in the order of the folders: prefix of its stems, digits of a number at least, numbers."""


@cache
def official_folds() -> Mapping[str, int]:
    """Return the official test fold (1…5) of each of the 665 stems, in the authors' order."""
    listed = list(stems())
    return MappingProxyType(dict(zip(listed, shuffled_folds(len(listed), N_SPLITS, FOLD_SEED), strict=True)))


def stems() -> Iterator[str]:
    """Yield the stems of the release's images in the authors' order."""
    for prefix, digits, ranges in _NUMBERS:
        yield from sorted(f"{prefix}{number:0{digits}}" for number in _numbers(ranges))


def _numbers(ranges: str) -> Iterator[int]:
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
