"""The closed sets of values that the command line offers."""

from __future__ import annotations

from enum import StrEnum


class Cluster(StrEnum):
    """Where runs are executed."""

    auto = "auto"
    inline = "inline"
    local = "local"
    slurm = "slurm"


class Device(StrEnum):
    """What runs compute on."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Format(StrEnum):
    """How a table is written."""

    terminal = "terminal"
    markdown = "markdown"
    csv = "csv"


class Axis(StrEnum):
    """What accuracy is plotted against."""

    parameters = "parameters"
    latency = "latency"
    memory = "memory"


class Category(StrEnum):
    """What can be listed."""

    backbones = "backbones"
    strategies = "strategies"
    heads = "heads"
    datasets = "datasets"
    grids = "grids"
    settings = "settings"
