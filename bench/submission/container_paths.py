"""Paths that jobs in a container need: found missing before anything is submitted."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bench.errors import ClusterError
from bench.grid import Run
from bench.slurm.container import Container
from bench.slurm.profile import load_profile
from bench.worker.code import code_version
from registry import cache_dir

SKIP = "If the nodes show it all the same, write check_paths = false in the container."


SYSTEM = Path("/usr")
ENVIRONMENT, BASE = "its Python environment", "the Python of this environment"
OF_PYTHON = frozenset((ENVIRONMENT, BASE))


def problems(
    runs: Sequence[Run],
    *,
    profile_name: str,
    results: Path,
    data: Path,
    weights: Path | None,
    plugins: Iterable[Path] = (),
) -> list[str]:
    """Return what jobs would not find in the container of a profile, a sentence each; none without a container.

    Args:
        runs: planned ones.
        profile_name: of the profile; nothing is said of one that can't be read, which is a problem of its own.
        results: the results folder.
        data: the dataset's folder.
        weights: folder of the official checkpoints; None is the cache.
        plugins: files and folders that register names.
    """
    try:
        container = load_profile(profile_name).container
    except ClusterError:
        return []
    if container is None or not container.check_paths:
        return []
    needed = {"the results folder": results.resolve(), "the images": data.absolute()}
    if any(run.weights == "official" for run in runs):
        needed["the checkpoints"] = (weights or cache_dir.weights()).absolute()
    if any(run.embeddings == "cached" for run in runs):
        needed["the cache of embeddings"] = cache_dir.embeddings().absolute()
    needed |= {f"the plug-in {path.name}": path.absolute() for path in plugins}
    needed |= _code(container)
    sentences = [*_absent(container), *_hidden(container, needed)]
    if container.is_read_only(needed["the results folder"]):
        sentences.append(f"the mount that shows the results folder {needed['the results folder']} is read-only.")
    return [f"profile {profile_name}: container: {sentence} {SKIP}" for sentence in sentences]


def _code(container: Container) -> dict[str, Path]:
    """The code that submits and, unless the image has a Python of its own, its environment."""
    places = {"the code": Path(code_version().path)}
    if container.python is None:
        places[ENVIRONMENT] = Path(sys.prefix)
        places[BASE] = Path(sys.base_prefix)
    return places


def _absent(container: Container) -> list[str]:
    """What the profile names and is not on this machine, whose file systems the nodes share."""
    found = []
    if container.image.startswith("/") and not _is_here(Path(container.image)):
        found.append(f"there is no image {container.image}.")
    for mount in container.mounts:
        source = mount.split(":")[0]
        if not _is_here(Path(source)):
            found.append(f"there is no {source}, which mounts = {mount!r} shows.")
    return found


def _is_here(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # in a folder that may not be searched
        return False


def _hidden(container: Container, needed: Mapping[str, Path]) -> list[str]:
    """One sentence for all that no mount shows under its own path, with the mounts to add."""
    hidden = {name: path for name, path in needed.items() if not container.shows(path)}
    if not hidden:
        return []
    listed = ", ".join(f"{name} ({path})" for name, path in hidden.items())
    # An image has a system of its own, which a mount over it would break.
    folders = sorted({str(path) for path in hidden.values() if not path.is_relative_to(SYSTEM)})
    outer = [path for path in folders if not any(path != other and _is_below(path, other) for other in folders)]
    mounts = ", ".join(f'"{path}:{path}"' for path in outer)
    add = f"; add to mounts: {mounts}" if mounts else ""
    own = ' Or name the Python of the image: python = "python3".' if OF_PYTHON & hidden.keys() else ""
    return [f"no mount shows {listed} at the same path as here{add}.{own}"]


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip(os.sep) + os.sep)
