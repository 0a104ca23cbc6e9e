"""The state of a training on disk: what an interrupted run goes on from."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass
class State:
    """All that changes while training; what a resumed run starts from."""

    step: int = 0
    best_score: tuple[float, ...] | None = None
    best_step: int = 0
    stale: int = 0
    micro_batch: int = 0
    peak_bytes: int | None = None
    stopped: bool = False
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def save(
    path: Path,
    state: State,
    best: Mapping[str, Tensor],
    trained: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write the state: whole, or not at all.

    Args:
        path: the file to write or replace.
        state: counters and history.
        best: the best checkpoint so far, by parameter name.
        trained: the parameters as they are.
        optimizer: with all it remembers.

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
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except RuntimeError as error:  # what torch makes of a write that failed
        if shutil.disk_usage(path.parent).free < 2**20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def restore(
    path: Path, trained: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> tuple[State, dict[str, Tensor]] | None:
    """Put parameters and optimiser back to where an interrupted training was.

    Returns:
        The state and the best checkpoint; None, with the file kept aside as ``*.damaged``, if it can't be read.

    Raises:
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
    if content["trained"].keys() != trained.keys():
        raise ValueError(f"{path} belongs to other parameters; remove it to train this run from the start.")
    with torch.no_grad():
        for name, p in trained.items():
            p.copy_(content["trained"][name])
    optimizer.load_state_dict(content["optimizer"])
    state = State(**content["state"])
    if state.best_score is not None:
        state.best_score = tuple(state.best_score)
    return state, content["best"]
