"""State of a training on disk, from which an interrupted run continues."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.training.optimizer import load_state
from registry.atomic import replacing

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass
class State:
    """Counters and history of a training: everything that changes beside parameters and optimiser.

    Attributes:
        step: optimiser steps done.
        best_score: of the best validation, as `LoopSettings.judged` returns it; None before the first one.
        best_step: the step after which it was made.
        stale: validations since then that were no better.
        micro_batch: images that go through the model at once.
        checkpointed: activations inside the encoder's blocks are computed again in the backward pass.
        peak_bytes: peak memory so far; None where it is unknown.
        stopped: training has ended early because validation stopped improving.
        seconds: time spent in optimiser steps and in the wait for their batches, of earlier attempts too; what is lost
            with a killed process is not in it. Validations have their seconds in the history.
        history: a row per epoch, see `bench.training.history`.
        epoch_sums: sums over the current epoch; None where they are unknown, because an earlier version saved the
            state in the middle of the epoch.
        shared: other runs used the device during this attempt or an earlier one, so `seconds` says little.
        choice: of a second training, what the first one led to (see `bench.training.refit`); None in the first one.
    """

    step: int = 0
    best_score: tuple[float, ...] | None = None
    best_step: int = 0
    stale: int = 0
    micro_batch: int = 0
    checkpointed: bool = False
    peak_bytes: int | None = None
    stopped: bool = False
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    epoch_sums: dict[str, float] | None = None
    shared: bool = False
    choice: Mapping[str, Any] | None = None


def save(
    path: Path,
    state: State,
    best: Mapping[str, Tensor],
    trained: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write the state atomically.

    Args:
        path: the file to write or replace.
        state: counters and history.
        best: the best checkpoint so far, by parameter name.
        trained: the current parameters, and their averages (see `bench.training.averaging.Average.state`).
        optimizer: its state is saved too.

    Raises:
        OSError: no room or no permission; an earlier state then still stands.
    """
    import torch

    content = {
        "state": vars(state),
        "best": dict(best),
        "trained": {name: p.detach() for name, p in trained.items()},
        "optimizer": optimizer.state_dict(),
    }
    with replacing(path) as temporary:
        try:
            with temporary.open("wb") as file:
                torch.save(content, file)
        except RuntimeError as error:  # torch raises it when a write fails
            if isinstance(error.__context__, OSError):  # the system's own reason: full disk, quota, file size
                raise error.__context__ from error
            # Measured here, where the temporary file still takes its room.
            if shutil.disk_usage(path.parent).free < 2**20:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
            raise


def restore(
    path: Path, trained: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, *, is_second: bool = False
) -> tuple[State, dict[str, Tensor]] | None:
    """Load parameters and optimiser of an interrupted training.

    Args:
        path: the file.
        trained: what is loaded into, see `save`.
        optimizer: likewise.
        is_second: the training is the second one of its run, see `State.choice`.

    Returns:
        The state and the best checkpoint; None if the file can't be read, which is then kept as ``*.damaged``, and if
        it belongs to the run's other training.

    Raises:
        OSError: the file system failed.
        ValueError: the state of other parameters.
    """
    import torch

    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except OSError:
        raise  # the file system failed, not the file
    except Exception:  # torch's readers fail in many ways on a torn file
        path.replace(path.with_name(f"{path.name}.damaged"))
        return None
    if (content["state"].get("choice") is not None) != is_second:
        return None
    if content["trained"].keys() != trained.keys():
        raise ValueError(f"{path} belongs to other parameters; remove it to train this run from the start.")
    with torch.no_grad():
        for name, p in trained.items():
            p.copy_(content["trained"][name])
    load_state(optimizer, content["optimizer"])
    known = {f.name for f in fields(State)}  # what earlier versions kept besides is no longer needed
    state = State(**{name: value for name, value in content["state"].items() if name in known})
    # Earlier versions had a row per validation.
    state.history = [{"loss" if k == "mean_loss" else k: v for k, v in row.items()} for row in state.history]
    if state.best_score is not None:
        state.best_score = tuple(state.best_score)
    return state, content["best"]


def read_choice(path: Path) -> Mapping[str, Any] | None:
    """Return what the first training of a run led to if a file holds the state of its second one; else None.

    A file that can't be read holds none: `restore` moves it away, and the run starts again.

    Raises:
        OSError: the file system failed.
    """
    import torch

    try:
        content = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except FileNotFoundError:
        return None
    except OSError:
        raise
    except Exception:
        return None
    choice: Mapping[str, Any] | None = content["state"].get("choice")
    return choice
