"""Events of a training for TensorBoard: a scalar for every epoch and column of its history."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

FOLDER = "tensorboard"
"""Folder of the events, in that of the run: `tensorboard --logdir results/runs` shows all runs that have one."""
MISSING = (
    "--log tensorboard needs the package tensorboard, which is not installed here; "
    "pip install 'nuclei-bench[tensorboard]', or leave --log out: the history of every run is kept as Parquet anyway."
)
_COSTS = ("images_per_s", "seconds", "peak_bytes")
_TRAINING = ("loss", "lr", "grad_norm")

Follow = Callable[[Sequence[Mapping[str, Any]]], None]
"""Takes the history so far, a row per epoch."""


def problem(log: str | None) -> str | None:
    """Return a sentence if a log that was asked for can't be written here."""
    return MISSING if log == "tensorboard" and find_spec("tensorboard") is None else None


@contextmanager
def writing(folder: Path, log: str | None) -> Iterator[Follow]:
    """Yield a function that adds what is new in a history to the events; it does nothing without a log.

    A training that continues writes its events anew from the saved history, so that none is missing or stands twice.

    Args:
        folder: of the run.
        log: ``tensorboard`` or None.

    Raises:
        ImportError: tensorboard is not installed.
    """
    if log is None:
        yield lambda _: None
        return
    if sentence := problem(log):
        raise ImportError(sentence)
    from torch.utils.tensorboard import SummaryWriter

    for old in (folder / FOLDER).glob("events.out.tfevents.*"):
        old.unlink(missing_ok=True)
    written = 0
    with SummaryWriter(folder / FOLDER) as writer:

        def follow(rows: Sequence[Mapping[str, Any]]) -> None:
            nonlocal written
            for row in rows[written:]:
                for name, value in row.items():
                    if value is not None and name not in ("epoch", "step"):
                        writer.add_scalar(tag(name), value, global_step=row["epoch"])
            written = len(rows)
            writer.flush()

        yield follow


def tag(column: str) -> str:
    """Return the name of a column of the history among the events: ``training/loss``, ``validation/pq``."""
    if column in _COSTS:
        return f"cost/{column}"
    return f"{'training' if column in _TRAINING or column.startswith('loss_') else 'validation'}/{column}"
