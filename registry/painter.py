"""Procedural H&E: tissue painted as density of haematoxylin and eosin, and the label map that goes with it.

Light is absorbed by Beer and Lambert's law; the stain vectors are those of Ruifrok & Johnston,
"Quantification of histochemical staining by color deconvolution", Anal. Quant. Cytol. Histol. 23:291 (2001).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int32, UInt8
from scipy import ndimage

HAEMATOXYLIN = (0.65, 0.70, 0.29)
EOSIN = (0.07, 0.99, 0.11)
_SMALLEST = 25  # px: smallest visible part of a nucleus below others that keeps its label


@dataclass(frozen=True)
class Tissue:
    """Appearance of one organ. Lengths in pixels, densities in units of the stain vectors, shares in [0, 1].

    Attributes:
        radius: mean radius of the nuclei.
        spread: standard deviation of the logarithm of the radius.
        aspect: mean ratio of the short to the long axis.
        haematoxylin: mean density of a nucleus.
        eosin: mean density of the ground.
        fibre: 0 = amorphous ground, 1 = fibres along `angle`.
        angle: direction of the fibres and, in fibrous tissue, of the nuclei, in radians.
        lumen: share of the area without tissue.
        touching: share of nuclei that are put against another one.
        faint: share of nuclei that have taken little stain.
        blurred: share of nuclei out of focus.
        hue: shift of both stain vectors, for the stain's own variation between laboratories.
    """

    radius: float
    spread: float
    aspect: float
    haematoxylin: float
    eosin: float
    fibre: float
    angle: float
    lumen: float
    touching: float
    faint: float
    blurred: float
    hue: tuple[float, float, float]


def tissue(rng: np.random.Generator) -> Tissue:
    """Draw the appearance of an organ at random."""
    fibre = float(rng.choice([0.0, 0.3, 0.9]))
    return Tissue(
        radius=rng.uniform(6.5, 10.5),
        spread=rng.uniform(0.12, 0.25),
        aspect=rng.uniform(0.7, 0.92) - 0.25 * fibre,
        haematoxylin=rng.uniform(0.85, 1.25),
        eosin=rng.uniform(0.2, 0.5),
        fibre=fibre,
        angle=rng.uniform(0, np.pi),
        lumen=rng.uniform(0.0, 0.2),
        touching=rng.uniform(0.25, 0.55),
        faint=rng.uniform(0.12, 0.28),
        blurred=rng.uniform(0.08, 0.2),
        hue=tuple(rng.normal(0.02, 0.03, 3)),
    )


def paint(
    rng: np.random.Generator, look: Tissue, *, size: int, n_nuclei: int
) -> tuple[UInt8[np.ndarray, "size size 3"], Int32[np.ndarray, "size size"]]:
    """Paint one field.

    Args:
        rng: source of all random numbers.
        look: the organ's appearance.
        size: side in pixels.
        n_nuclei: number of nuclei to place; fewer have labels where others cover them.

    Returns:
        The RGB image and its label map, labels 1…n without gaps.
    """
    ground, solid = _ground(rng, look, size)
    haematoxylin = solid * (0.03 + 0.1 * ground)
    eosin = solid * look.eosin * (0.45 + 1.1 * ground)
    label_map = np.zeros((size, size), np.int32)
    placed = _place(rng, look, size, n_nuclei, solid)
    for label, (x, y, radius) in enumerate(placed, start=1):
        _nucleus(rng, look, label, (x, y, radius), haematoxylin, eosin, label_map)
    _distract(rng, look, haematoxylin, eosin, (label_map == 0) * solid)
    stains = ndimage.gaussian_filter(np.stack([haematoxylin, eosin], axis=-1), (0.6, 0.6, 0))
    density = stains @ np.clip(np.asarray([HAEMATOXYLIN, EOSIN]) + look.hue, 0.02, None).astype(np.float32)
    light = 0.96 * np.exp(-1.25 * density) + 0.012 * rng.standard_normal(density.shape, np.float32)
    return (np.clip(light, 0, 1) * 255).round().astype(np.uint8), _compact(label_map)


def _noise(rng: np.random.Generator, size: int, sigma: float | tuple[float, float]) -> Float32[np.ndarray, "s s"]:
    """Return smooth noise with zero mean and unit variance."""
    field = ndimage.gaussian_filter(rng.standard_normal((size, size), np.float32), sigma, mode="wrap")
    return (field - field.mean()) / (field.std() + 1e-6)


def _ground(
    rng: np.random.Generator, look: Tissue, size: int
) -> tuple[Float32[np.ndarray, "s s"], Float32[np.ndarray, "s s"]]:
    """Return the texture of the ground, about 0…1, and a mask of tissue (1) and empty lumen (0)."""
    amorphous = 0.55 * _noise(rng, size, 9) + 0.3 * _noise(rng, size, 2.5)
    # Fibres are noise smeared along one axis and turned; the margin hides the corners that turning empties.
    margin = int(np.ceil(0.22 * size)) + 1
    smeared = _noise(rng, size + 2 * margin, (1.3, 14.0))
    turned = ndimage.rotate(smeared, np.degrees(look.angle), reshape=False, order=1, mode="reflect")
    fibres = turned[margin : margin + size, margin : margin + size]
    texture = 0.5 + 0.2 * (look.fibre * fibres + (1 - 0.5 * look.fibre) * amorphous)
    height = _noise(rng, size, max(8.0, size / 20))
    solid = ndimage.gaussian_filter((height > np.quantile(height, look.lumen)).astype(np.float32), 1.2)
    return np.clip(texture, 0.05, 1.1).astype(np.float32), solid


def _place(
    rng: np.random.Generator, look: Tissue, size: int, n_nuclei: int, solid: Float[np.ndarray, "s s"]
) -> list[tuple[float, float, float]]:
    """Return centres and radii: some nuclei touch another, the others lie free; none hides another."""
    placed: list[tuple[float, float, float]] = []
    for _ in range(40 * n_nuclei):
        if len(placed) == n_nuclei:
            break
        radius = look.radius * float(np.exp(rng.normal(0, look.spread)))
        touches = bool(placed) and rng.random() < look.touching
        if touches:
            x0, y0, other = placed[rng.integers(len(placed))]
            direction, reach = rng.uniform(0, 2 * np.pi), (radius + other) * rng.uniform(0.7, 0.98)
            x, y = x0 + reach * np.cos(direction), y0 + reach * np.sin(direction)
        else:
            x, y = rng.uniform(0, size, 2)
        if not (0 <= x < size and 0 <= y < size) or solid[int(y), int(x)] < 0.6:
            continue
        near = 0.68 if touches else 1.15
        if all((x - px) ** 2 + (y - py) ** 2 >= (near * (radius + pr)) ** 2 for px, py, pr in placed):
            placed.append((float(x), float(y), radius))
    return placed


def _nucleus(
    rng: np.random.Generator,
    look: Tissue,
    label: int,
    at: tuple[float, float, float],
    haematoxylin: Float32[np.ndarray, "s s"],
    eosin: Float32[np.ndarray, "s s"],
    label_map: Int32[np.ndarray, "s s"],
) -> None:
    """Add one nucleus to the densities (in overlaps they add up, as light sees it) and to the label map."""
    x, y, radius = at
    faint, blurred, pale = rng.random(3) < (look.faint, look.blurred, 0.3)
    aspect = float(np.clip(look.aspect + rng.normal(0, 0.08), 0.4, 1.0))
    turn = look.angle + rng.normal(0, 0.3) if look.fibre > 0.5 else rng.uniform(0, np.pi)
    reach = int(np.ceil(radius / np.sqrt(aspect) * 1.3)) + 8
    size = len(label_map)
    rows = slice(max(0, int(y) - reach), min(size, int(y) + reach + 1))
    columns = slice(max(0, int(x) - reach), min(size, int(x) + reach + 1))
    dy, dx = np.ogrid[rows, columns]
    dx, dy = dx - x, dy - y
    along, across = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    polar = np.arctan2(across, along)
    outline = 1 + sum(rng.normal(0, 0.09 / k) * np.cos(k * polar + rng.uniform(0, 2 * np.pi)) for k in (1, 2, 3, 4))
    inside = radius * (1 - np.hypot(along * np.sqrt(aspect), across / np.sqrt(aspect)) / (radius * outline))
    cover = 1 / (1 + np.exp(-np.clip(inside / (2.0 if blurred else 0.55), -30, 30)))
    strength = look.haematoxylin * rng.uniform(0.8, 1.2) * (0.35 if faint else 1.0)
    chromatin = _noise(rng, 2 * reach + 1, 1.2)[: cover.shape[0], : cover.shape[1]]
    rim = np.exp(-((inside - 1.2) ** 2) / 2.0)
    interior = (0.72 if pale else 1.0) + (0.08 if blurred else 0.2) * chromatin + (0.4 if pale else 0.12) * rim
    haematoxylin[rows, columns] += strength * cover * np.clip(interior, 0.3, None)
    # Nuclei take little eosin; the cytoplasm around them takes more than the ground.
    cytoplasm = 1 / (1 + np.exp(-np.clip((inside + 4) / 1.5, -30, 30)))
    eosin[rows, columns] *= (1 + 0.25 * cytoplasm) * (1 - 0.45 * cover)
    label_map[rows, columns][inside > 0] = label


def _distract(
    rng: np.random.Generator,
    look: Tissue,
    haematoxylin: Float32[np.ndarray, "s s"],
    eosin: Float32[np.ndarray, "s s"],
    free: Float32[np.ndarray, "s s"],
) -> None:
    """Add objects that are no nuclei between the nuclei: bright discs (erythrocytes) and dark smudges."""
    size = len(free)
    rows, columns = np.ogrid[:size, :size]
    for _ in range(rng.poisson(3 * (size / 256) ** 2)):
        x, y, radius = *rng.uniform(0, size, 2), rng.uniform(0.5, 0.65) * look.radius
        disc = 1 / (1 + np.exp(np.clip((np.hypot(columns - x, rows - y) - radius) / 0.6, -30, 30)))
        eosin += 0.55 * disc * free
    for _ in range(rng.poisson(4 * (size / 256) ** 2)):
        x, y, radius = *rng.uniform(0, size, 2), rng.uniform(0.5, 1.2) * look.radius
        haematoxylin += 0.25 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * radius**2)) * free


def _compact(label_map: Int32[np.ndarray, "s s"]) -> Int32[np.ndarray, "s s"]:
    """Return labels 1…n without gaps; nuclei that are nearly covered by others are dropped."""
    areas = np.bincount(label_map.ravel())
    kept = areas >= _SMALLEST
    kept[0] = False
    new = np.zeros(len(areas), np.int32)
    new[kept] = np.arange(1, kept.sum() + 1)
    return new[label_map]
