"""`bench predict`: the images of a command, one after the other; a bad one does not lose the others' files."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.console import PLAIN
from bench.errors import BenchError, DivergedError
from bench.predict import blocks, files, sources
from bench.predict.choice import Chosen, choose
from bench.predict.predictor import Geometry, Predictor, geometry, merged
from bench.results.kept_files import file_stem
from bench.units import plural
from registry.errors import DataError
from registry.names import shown

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predictions:
    """Images that were predicted, and those that could not be.

    Attributes:
        nuclei: number of nuclei by image.
        problems: a sentence for each image that could not be done.
    """

    nuclei: dict[str, int]
    problems: tuple[str, ...]


def predict(
    model: str,
    inputs: Sequence[Path],
    *,
    out: Path,
    results: Path,
    console: Console,
    fold: int | None = None,
    ensemble: bool = False,
    scale: float | None = None,
    tile: int | None = None,
    device: str = "auto",
    weights: Path | None = None,
    overwrite: bool = False,
) -> int:
    """Predict the nuclei of images, and write label maps, outlines, tables and overlays.

    Args:
        model: see `bench.predict.choice.choose`.
        inputs: images, and folders of images.
        out: where to write; made if it isn't there.
        results: the results folder.
        console: where the progress is shown and what was done is printed.
        fold, ensemble: which runs of a row.
        scale: input pixels per image pixel; None takes the run's.
        tile: side of a block's core in pixels; None chooses.
        device: ``auto``, ``cpu`` or ``cuda``.
        weights: folder of the official checkpoints; None is the cache.
        overwrite: replace files of an earlier prediction.

    Returns:
        The exit code: 0, or 1 where an image could not be done.

    Raises:
        BenchError: inputs that can't be used, all of them named, before anything is computed; no such model.
        RegistryError: a model that can't be rebuilt.
    """
    images = _images(inputs, out, overwrite=overwrite)
    chosen = choose(model, results, fold=fold, ensemble=ensemble)
    console.print(f"Model: {chosen.sentence}.", **PLAIN)
    _print_of_training(images, chosen.data, console)
    sides = geometry(merged(chosen.recipes), scale=scale, core=tile)
    console.print(
        f"Magnification: {sides.scale:g} input pixels per image pixel. Blocks of {sides.core} pixels, with a halo of "
        f"{sides.halo}, where an image is larger than {sides.core + 2 * sides.halo}.",
        **PLAIN,
    )
    if chosen.recipes[0].tta:
        console.print("Test-time augmentation, as in the run: the mean of eight orientations.", **PLAIN)
    _make(out)
    predictor = Predictor(chosen.recipes, sides, device=_device(device), weights=weights)
    predictions = _all(images, out, predictor, sides, _origin(chosen, sides, predictor), console)
    for name, n in predictions.nuclei.items():
        console.print(f"{name}: {n:,} nuclei", **PLAIN)
    done = f"{len(predictions.nuclei)} of {len(images)} images in {shown(out)}"
    console.print(f"Wrote {done}: {', '.join('*' + suffix for suffix in files.SUFFIXES)}", markup=False, soft_wrap=True)
    for problem in predictions.problems:
        console.print(f"not done: {problem}", style="red", **PLAIN)
    return 1 if predictions.problems else 0


def _print_of_training(images: Sequence[Path], folders: Sequence[Path], console: Console) -> None:
    """Print how many images lie in the folders of the training, if any does."""
    roots = [folder.resolve() for folder in folders]
    n = sum(any(path.resolve().is_relative_to(root) for root in roots) for path in images)
    if n:
        text = (
            f"In the folder of the training: {n} of {plural(len(images), 'image')}; "
            "all but those of a run's test fold were trained or validated on."
        )
        console.print(text, style="yellow", **PLAIN)


def _make(out: Path) -> None:
    """Make the folder before anything is computed for it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BenchError(
            f"--out {shown(out)} can't be made ({error.strerror or error}); name a folder where files can be written."
        ) from error


def _all(
    images: Sequence[Path],
    out: Path,
    predictor: Predictor,
    sides: Geometry,
    origin: Mapping[str, Any],
    console: Console,
) -> Predictions:
    import torch
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    nuclei: dict[str, int] = {}
    problems = []
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        whole = progress.add_task("images", total=len(images))
        task = progress.add_task("blocks", total=None)
        for path in images:
            progress.reset(task, description=shown(path.name), total=None)
            try:
                nuclei[shown(path)] = _predict_image(path, out, predictor, sides, origin, progress, task)
            except DataError as error:
                problems.append(str(error))
            except (DivergedError, MemoryError) as error:
                problems.append(f"{shown(path)}: {str(error) or 'the memory is not enough; give a smaller --tile.'}")
            except torch.OutOfMemoryError:
                problems.append(
                    f"{shown(path)}: the GPU's memory is not enough; give --device cpu, or a smaller --tile."
                )
            progress.advance(whole)
    return Predictions(nuclei, tuple(problems))


def _predict_image(
    path: Path, out: Path, predictor: Predictor, sides: Geometry, origin: Mapping[str, Any], progress: Any, task: Any
) -> int:
    """Predict one image and write its files; returns the number of its nuclei."""
    with sources.opened(path) as source:
        for note in source.notes:
            log.warning("%s", note)
        overlay = files.Overlay(source.height, source.width)
        rows = blocks.plan(source.height, source.width, side=sides.core, halo=sides.halo, same_size=sides.same_size)
        progress.update(task, total=sum(len(row) for row in rows))
        bands = blocks.stitched(source, rows, predictor, progress=lambda: progress.advance(task), seen=overlay.see)
        # The name alone: these files are given away, and folders tell of their owner.
        origin = {"image": shown(path.name), **origin}
        return files.write(out, path.stem, bands, overlay, height=source.height, width=source.width, origin=origin)


def _images(inputs: Sequence[Path], out: Path, *, overwrite: bool) -> list[Path]:
    """Return the images, those of folders in the order of their names.

    Raises:
        BenchError: every problem at once.
    """
    images: list[Path] = []
    problems: list[str] = []
    for path in inputs:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if _is_image(file) and not files.is_prediction(file))
            if not inside:
                problems.append(f"{shown(path)} holds no image; its files must end in {', '.join(sources.SUFFIXES)}.")
            images += inside
        elif path.exists():
            images.append(path)
        else:
            problems.append(f"{shown(path)} does not exist; give images, or folders of images.")
    images = list(dict.fromkeys(images))
    problems += _clashes(images)
    if any(path.parent.resolve() == out.resolve() for path in images):
        problems.append(f"--out {shown(out)} is the folder of the images; name another one, so that none is mistaken.")
    elif not overwrite:
        problems += _existing(images, out)
    if out.exists() and not out.is_dir():
        problems.append(f"--out {shown(out)} is a file; name a folder.")
    if problems:
        listed = "".join(f"\n- {problem}" for problem in problems)
        raise BenchError(problems[0] if len(problems) == 1 else f"{len(problems)} things are wrong:{listed}")
    return images


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in sources.SUFFIXES and not path.name.startswith(".") and path.is_file()


def _clashes(images: Iterable[Path]) -> list[str]:
    by_stem: dict[str, list[Path]] = {}
    for path in images:
        by_stem.setdefault(file_stem(path.stem).lower(), []).append(path)
    return [
        f"{', '.join(shown(path) for path in paths)} would be written to the same files; rename them, or predict them "
        "into several folders."
        for paths in by_stem.values()
        if len(paths) > 1
    ]


def _existing(images: Iterable[Path], out: Path) -> list[str]:
    existing = [path for image in images for path in files.paths(out, image.stem) if path.exists()]
    if not existing:
        return []
    more = f" and {len(existing) - 1} more files" if len(existing) > 1 else ""
    return [f"{shown(existing[0])}{more} exist already; name another folder, or replace them with --overwrite."]


def _device(device: str) -> str:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise BenchError("--device cuda: PyTorch finds no usable GPU; leave it out, or give --device cpu.")
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def _origin(chosen: Chosen, sides: Geometry, predictor: Predictor) -> dict[str, Any]:
    """Return what predictions are made with, for whoever meets their files later."""
    recipe = chosen.recipes[0]
    return {
        "nuclei_bench_version": _version(),
        "models": list(chosen.origins),
        "backbone": recipe.backbone,
        "strategy": recipe.strategy,
        "options": dict(recipe.options),
        "weights": recipe.weights,
        "checkpoint_sha256": recipe.checkpoint_digest,
        "head": recipe.head,
        "image_size": recipe.image_size,
        "post_processing": dict(predictor.parameters),
        "scale": sides.scale,
        "tta": recipe.tta,
        "core_px": sides.core,
        "halo_px": sides.halo,
    }


def _version() -> str | None:
    try:
        return version("nuclei-bench")
    except PackageNotFoundError:  # run from its source, without being installed
        return None
