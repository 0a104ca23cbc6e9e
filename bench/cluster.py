"""slurm/*.toml → ClusterProfile: what a cluster wants to hear before it gives a GPU."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from bench.errors import ClusterError
from registry.errors import unknown

FOLDER = Path(__file__).resolve().parent.parent / "slurm"


@dataclass(frozen=True)
class ClusterProfile:
    """How runs are submitted to SLURM.

    Attributes:
        partition: the partition; None leaves it to the cluster.
        account: charged account.
        qos: quality of service.
        constraint: node features, e.g. a GPU kind.
        gpus: GPUs of one job.
        cpus: CPUs of one job.
        memory_gb: host memory of one job.
        time_limit_min: time limit of one job.
        array_parallelism: jobs that run at once at most.
        runs_per_job: runs that one job executes one after another.
        setup: shell lines before the job starts (modules, environment).
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gpus: int = 1
    cpus: int = 8
    memory_gb: int = 48
    time_limit_min: int = 720
    array_parallelism: int = 32
    runs_per_job: int = 1
    setup: tuple[str, ...] = field(default=())


def load(name: str) -> ClusterProfile:
    """A profile by name (``slurm/NAME.toml``, here or in the checkout) or by path.

    Raises:
        ClusterError: no such file, no TOML, unknown keys or values of the wrong type.
    """
    path = Path(name) if name.endswith(".toml") else Path("slurm") / f"{name}.toml"
    if not path.is_file() and not name.endswith(".toml"):
        path = FOLDER / f"{name}.toml"
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if name == "default":  # installed without the checkout's slurm/ folder
            return ClusterProfile()
        known = sorted(p.stem for p in FOLDER.glob("*.toml"))
        raise ClusterError(
            unknown("cluster profile", name, known) + " Or give the path of a .toml file."
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ClusterError(f"{path} is no valid TOML: {error}.") from error
    defaults: dict[str, Any] = {f.name: f.default for f in fields(ClusterProfile)}
    for key, value in values.items():
        if key not in defaults:
            raise ClusterError(f"{path}: " + unknown("key", key, defaults))
        wanted = list if key == "setup" else int if isinstance(defaults[key], int) else str
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise ClusterError(f"{path}: {key} = {value!r} is not of type {wanted.__name__}.")
    if "setup" in values:
        values["setup"] = tuple(values["setup"])
    return ClusterProfile(**values)
