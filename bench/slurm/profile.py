"""Cluster profile (slurm/*.toml): the sbatch options of one site."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from bench.errors import ClusterError
from bench.slurm import container as containers
from bench.slurm.container import Container
from registry.errors import unknown

FOLDER = Path(__file__).resolve().parents[2] / "slurm"


@dataclass(frozen=True)
class ClusterProfile:
    """Cluster profile: the sbatch options of one site. One job has one GPU.

    Attributes:
        partition: the partition; None leaves it to the cluster.
        account: charged account.
        qos: quality of service.
        constraint: node features, as ``--constraint`` takes them.
        gpu: kind of GPU as the cluster calls it (``--gres=gpu:KIND:1``); None takes any.
        gpus: GPUs of one job: 1, or 0 on a partition without any.
        gpu_memory_gb: memory of one GPU; decides how many runs fit on it.
        gpu_tflops: its peak in bfloat16, dense, in TFLOP/s; used by estimates of time only.
        utilisation: share of that peak which training is assumed to reach, until there are measured runs.
        cpus_per_gpu: CPUs of one job.
        memory_gb_per_gpu: host memory of one job.
        memory_per_cpu: whether memory is requested as ``--mem-per-cpu`` (the job's, divided by its CPUs), on clusters
            that refuse ``--mem``.
        time_limit_min: longest time limit of a job; runs that need less ask for less.
        signal_delay_s: seconds before its time limit at which a job is signalled to save and requeue.
        array_parallelism: jobs of one command that run at once at most, shared out among its arrays.
        requeue: whether jobs may be requeued; if not, runs that are not done are submitted again.
        runs_per_job: runs that one job executes one after another in one warm process.
        runs_per_gpu: runs that share a GPU at most, as far as their memory allows.
        lost_retries: maximum number of new attempts of a run whose job was killed, or whose node failed.
        timeout_retries: maximum number of requeues of a job at its time limit, or of new submissions of a run after it.
        out_of_memory_retries: maximum number of new attempts of a run, each with half the micro-batch.
        check_nodes: whether `bench run` and `bench plan` compare the profile with the nodes that `sinfo` lists.
        setup: shell lines before the job starts (modules, environment).
        container: image in which jobs run; None runs them on the node itself.
        extra: other options of sbatch, without the dashes.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gpu: str | None = None
    gpus: int = 1
    gpu_memory_gb: int = 40
    gpu_tflops: float = 312.0
    utilisation: float = 0.25
    cpus_per_gpu: int = 8
    memory_gb_per_gpu: int = 48
    memory_per_cpu: bool = False
    time_limit_min: int = 720
    signal_delay_s: int = 120
    array_parallelism: int = 32
    requeue: bool = True
    runs_per_job: int = 1
    runs_per_gpu: int = 1
    lost_retries: int = 3
    timeout_retries: int = 20
    out_of_memory_retries: int = 3
    check_nodes: bool = True
    setup: tuple[str, ...] = ()
    container: Container | None = None
    extra: Mapping[str, str | int] = field(default_factory=dict)


def longest_signal_delay_s(time_limit_min: int) -> float:
    """Largest `signal_delay_s`: submitit takes an earlier signal for a preemption, which it does not count."""
    return min(30.0 * time_limit_min, max(600.0, 12.0 * time_limit_min))


def profile_for_device(profile: ClusterProfile, device: str) -> ClusterProfile:
    """The profile for runs on a device: runs on CPUs request no GPU, and nothing known of GPUs estimates them."""
    return replace(profile, gpus=0) if device == "cpu" else profile


def load_profile(name: str) -> ClusterProfile:
    """Read a profile by name (``slurm/NAME.toml``, in the current folder or in the checkout) or by path.

    Raises:
        ClusterError: no such file, invalid TOML, unknown keys or values of the wrong type.
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
        raise ClusterError(unknown("cluster profile", name, known) + " Or give the path of a .toml file.") from None
    except IsADirectoryError as error:
        raise ClusterError(f"{path} is a folder; give a .toml file in it.") from error
    except tomllib.TOMLDecodeError as error:
        raise ClusterError(f"{path} is no valid TOML: {error}.") from error
    problems = _problems(values)
    if problems:
        raise ClusterError(f"{path}: " + " ".join(problems))
    if "setup" in values:
        values["setup"] = tuple(values["setup"])
    if "container" in values:
        values["container"] = containers.from_table(values["container"])
    return ClusterProfile(**values)


KINDS: dict[str, tuple[type, ...]] = {
    "str | None": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "tuple[str, ...]": (list,),
    "Container | None": (dict,),
    "Mapping[str, str | int]": (dict,),
}
EXAMPLES = {
    str: 'a text in quotes, such as "gpu"',
    int: "a whole number without unit",
    float: "a number without unit",
    bool: "true or false",
    list: 'a list, such as ["module load cuda"]',
    dict: 'a table, such as { reservation = "night" }',
}
OWN_OPTIONS = frozenset(
    (
        "account",
        "array",
        "constraint",
        "cpus-per-task",
        "error",
        "gpus-per-node",
        "gres",
        "job-name",
        "mem",
        "mem-per-cpu",
        "no-requeue",
        "nodes",
        "open-mode",
        "output",
        "partition",
        "qos",
        "requeue",
        "signal",
        "time",
    )
)
"""Options of sbatch that other keys of the profile set; refused in ``extra``."""
SMALLEST = {"gpus": 0, "lost_retries": 0, "timeout_retries": 0, "out_of_memory_retries": 0}


def _problems(values: Mapping[str, Any]) -> list[str]:
    """All problems of a profile's keys and values, a sentence each."""
    known = {f.name: KINDS[str(f.type)] for f in fields(ClusterProfile)}
    problems = [unknown("key", key, known) for key in values if key not in known]
    for key in values.keys() & known.keys():
        value, allowed = values[key], known[key]
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            example = f"a table, such as {containers.EXAMPLE}" if key == "container" else EXAMPLES[allowed[0]]
            problems.append(f"{key} = {value!r} is not of type {allowed[0].__name__}: write {example}.")
    if not problems and "container" in values:
        problems += containers.problems(values["container"], known)
    if problems:
        return problems
    given = ClusterProfile(**values)
    ranges = [
        (key, value, value >= SMALLEST.get(key, 1), f"at least {SMALLEST.get(key, 1)}")
        for key, value in vars(given).items()
        if known[key][0] is int
    ]
    ranges += [
        ("gpus", given.gpus, given.gpus <= 1, "1, since a run uses one GPU, or 0 for a partition without any"),
        ("utilisation", given.utilisation, 0 < given.utilisation <= 1, "above 0 and at most 1"),
        ("gpu_tflops", given.gpu_tflops, given.gpu_tflops > 0, "above 0"),
        ("setup", given.setup, all(isinstance(line, str) for line in given.setup), "a list of shell lines"),
        ("gpu", given.gpu, not given.gpu or ":" not in given.gpu, "a kind alone, such as 'a100'"),
        (
            "extra",
            dict(given.extra),
            not OWN_OPTIONS & given.extra.keys(),
            f"without {', '.join(sorted(OWN_OPTIONS & given.extra.keys()))}: other keys of the profile say that",
        ),
        (
            "extra",
            dict(given.extra),
            not any(key.startswith("-") for key in given.extra),
            "options without their dashes",
        ),
        (
            "extra",
            dict(given.extra),
            all(isinstance(value, str | int) for value in given.extra.values()),
            "texts or whole numbers by the names of sbatch's options",
        ),
        (
            "signal_delay_s",
            given.signal_delay_s,
            given.signal_delay_s <= longest_signal_delay_s(given.time_limit_min),
            f"at most {longest_signal_delay_s(given.time_limit_min):.0f} (seconds) with time_limit_min = "
            f"{given.time_limit_min}",
        ),
    ]
    return [f"{key} = {value!r} must be {allowed}." for key, value, fine, allowed in ranges if not fine]
