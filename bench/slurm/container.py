"""Container of a cluster profile: the image in which jobs run, and what they see of the node's file systems."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

from registry.errors import unknown

RUNTIMES = ("pyxis", "apptainer", "singularity")
OF_OTHER_KEYS: Mapping[str, str] = {
    "--container-image": "image",
    "--container-mounts": "mounts",
    "--bind": "mounts",
    "-B": "mounts",
    "--mount": "mounts",
}
"""Options of pyxis and apptainer that other keys of the container set; refused in ``arguments``."""
HIDES_HOME = frozenset(("--contain", "-c", "--containall", "-C", "--no-home"))
"""Options of `apptainer exec` without which it shows the home folder and /tmp."""
GPU_OPTIONS = frozenset(("--nv", "--nvccli", "--rocm"))
IMAGE_VARIABLE = "NUCLEI_BENCH_CONTAINER"
"""Environment variable that tells a job its image, for the record."""
EXAMPLE = '{ image = "/shared/images/bench.sqsh", mounts = ["/shared:/shared"] }'


@dataclass(frozen=True)
class Container:
    """Image in which the jobs of a cluster run.

    Pyxis (github.com/NVIDIA/pyxis) adds options to `srun`; apptainer and singularity are commands that start Python.

    Attributes:
        image: path of an image (.sqsh, .sif, or an unpacked folder), or an address in a registry.
        mounts: folders of the node, ``SOURCE:TARGET`` or ``SOURCE:TARGET:FLAGS``.
        runtime: of `RUNTIMES`.
        python: Python in the image; None is the one that submits, which a mount has to show.
        arguments: other options: of srun for pyxis, of ``apptainer exec`` otherwise.
        check_paths: whether an image that is not here, and folders that no mount shows, are refused.
    """

    image: str
    mounts: tuple[str, ...] = ()
    runtime: str = "pyxis"
    python: str | None = None
    arguments: tuple[str, ...] = ()
    check_paths: bool = True

    def srun_arguments(self) -> list[str]:
        """Options for `srun`; empty unless pyxis starts the container."""
        if self.runtime != "pyxis":
            return []
        mounts = [f"--container-mounts={','.join(self.mounts)}"] if self.mounts else []
        return [f"--container-image={self.image}", *mounts, *self.arguments]

    def command(self, *, has_gpu: bool) -> str:
        """Shell words that start a command in the image; empty for pyxis, where `srun` does.

        Args:
            has_gpu: whether jobs have a GPU, whose driver is then shown in the container (``--nv``).
        """
        if self.runtime == "pyxis":
            return ""
        gpu = ["--nv"] if has_gpu and not GPU_OPTIONS & set(self.arguments) else []
        binds = [word for mount in self.mounts for word in ("--bind", mount)]
        return shlex.join([self.runtime, "exec", *gpu, *binds, *self.arguments, self.image])

    def shows(self, path: Path) -> bool:
        """Return whether a path of the node is the same file in the container."""
        shown = [PurePosixPath(folder) for folder in self._shown_by_default()]
        mounts = [mount.split(":") for mount in self.mounts]
        # A mount below another hides what that one shows there: the longest target counts.
        covering = [parts for parts in mounts if path.is_relative_to(parts[1])]
        if covering:
            source, target, *_ = max(covering, key=lambda parts: len(PurePosixPath(parts[1]).parts))
            return posixpath.normpath(source) == posixpath.normpath(target)
        return any(path.is_relative_to(folder) for folder in shown)

    def is_read_only(self, path: Path) -> bool:
        """Return whether the mount that shows a path forbids to write there."""
        mounts = [mount.split(":") for mount in self.mounts]
        covering = [parts for parts in mounts if path.is_relative_to(parts[1])]
        longest = max(covering, key=lambda parts: len(PurePosixPath(parts[1]).parts), default=[])
        return len(longest) == 3 and "ro" in re.split(r"[+,]", longest[2])

    def _shown_by_default(self) -> list[str]:
        if self.runtime == "pyxis":
            return [str(Path.home())] if "--container-mount-home" in self.arguments else []
        return [] if HIDES_HOME & set(self.arguments) else [str(Path.home()), "/tmp"]

    def __str__(self) -> str:
        """The container in a line, for `bench plan`."""
        mounts = f", mounts {', '.join(self.mounts)}" if self.mounts else ", no mounts"
        return f"{self.runtime}: {self.image}{mounts}"


def from_table(table: Mapping[str, Any]) -> Container:
    """Return the container of a table in which `problems` has nothing to refuse."""
    lists = {key: tuple(value) for key, value in table.items() if isinstance(value, list)}
    return Container(**{**table, **lists})


def problems(table: Mapping[str, Any], profile_keys: Collection[str]) -> list[str]:
    """Return all problems of the table ``container`` of a profile, a sentence each.

    Args:
        table: as it is read.
        profile_keys: of the profile: below a line ``[container]`` they would be keys of the container.
    """
    known = [field.name for field in fields(Container)]
    found = []
    for key in table.keys() - set(known):
        if key in profile_keys:
            found.append(f"container.{key}: {key} is a key of the profile itself; write it above [container].")
        else:
            found.append(unknown("key of container", key, known))
    found += [sentence for key in known if key in table and (sentence := _wrong_type(key, table[key]))]
    if "image" not in table:
        found.append(f"container has no image: write container = {EXAMPLE}.")
    if found:
        return sorted(found)
    container = from_table(table)
    return [*_values(container), *(sentence for mount in container.mounts if (sentence := _wrong_mount(mount)))]


def _wrong_type(key: str, value: Any) -> str | None:
    if key in ("mounts", "arguments"):
        fine = isinstance(value, list) and all(isinstance(part, str) for part in value)
        example = '["/shared:/shared"]' if key == "mounts" else '["--container-mount-home"]'
        return None if fine else f"container.{key} = {value!r} must be a list of texts, such as {example}."
    if key == "check_paths":
        return None if isinstance(value, bool) else f"container.{key} = {value!r} must be true or false."
    fine = isinstance(value, str) and value == value.strip() != ""
    return None if fine else f"container.{key} = {value!r} must be a text in quotes."


def _values(container: Container) -> list[str]:
    found = []
    if container.runtime not in RUNTIMES:
        return [unknown("container.runtime", container.runtime, RUNTIMES)]
    image, python = container.image, container.python
    is_file = ":" not in image and not image.startswith("/") and re.search(r"\.(sqsh|sqfs|sif|simg|img)$", image)
    if is_file or image.startswith((".", "~")):
        found.append(f"container.image = {image!r} is a relative path, and jobs start elsewhere: write it from /.")
    elif container.runtime != "pyxis" and not image.startswith("/") and "://" not in image:
        found.append(
            f"container.image = {image!r}: {container.runtime} takes a path from / or an address such as "
            f"'docker://{image}'."
        )
    if python and "/" in python and not python.startswith("/"):
        found.append(f"container.python = {python!r} is a relative path: write it from /, or a name such as 'python3'.")
    for argument in container.arguments:
        if key := OF_OTHER_KEYS.get(argument.partition("=")[0]):
            found.append(f"container.arguments: {argument!r} is what container.{key} says.")
    return found


def _wrong_mount(mount: str) -> str | None:
    parts = mount.split(":")
    if len(parts) == 1:
        return f"container.mounts: {mount!r} has no colon: write SOURCE:TARGET, such as '{mount}:{mount}'."
    if len(parts) > 3 or "" in parts:
        return f"container.mounts: {mount!r} is not SOURCE:TARGET or SOURCE:TARGET:FLAGS, such as '/shared:/shared:ro'."
    if "," in mount:
        return f"container.mounts: {mount!r} has a comma, which separates mounts: write each as a text of its own."
    if relative := [part for part in parts[:2] if not part.startswith("/")]:
        return f"container.mounts: {mount!r}: {relative[0]!r} is a relative path; write it from /."
    return None
