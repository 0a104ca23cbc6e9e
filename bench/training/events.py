"""Events of a training for TensorBoard: a scalar for every epoch and column of its history."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.results.history import MIDDLE, SECOND_TRAINING, TIMINGS_AND_MEMORY
from registry.names import shown

logger = logging.getLogger(__name__)

FOLDER = "tensorboard"
"""Folder of the events, in that of the run: `tensorboard --logdir results/runs` shows all runs that have one."""
AGAIN = "again_"
"""Start of the tags of a second training (``train.refit``)."""
MISSING = (
    "--log tensorboard needs the package tensorboard, which is not installed here; "
    "pip install 'nuclei-bench[tensorboard]', or leave --log out: the history of every run is kept as Parquet anyway."
)

Follow = Callable[[Sequence[Mapping[str, Any]]], None]
"""Takes the history so far, a row per epoch."""


def problem(log: str | None) -> str | None:
    """Return a sentence if a log that was asked for can't be written here."""
    return MISSING if log == "tensorboard" and find_spec("tensorboard") is None else None


@contextmanager
def writing(folder: Path, log: str | None) -> Iterator[Follow]:
    """Yield a function that adds what is new in a history to the events; it does nothing without a log.

    A training that continues writes its events anew from the saved history, so that none is missing or stands twice.
    Events that can't be written, on a full disk say, are left out from there on with a warning.

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

    target, writer, written = folder / FOLDER, None, 0
    with _warning(target):
        for old in target.glob("events.out.tfevents.*"):
            old.unlink(missing_ok=True)
        writer = SummaryWriter(target)

    def follow(rows: Sequence[Mapping[str, Any]]) -> None:
        nonlocal writer, written
        if writer is None:
            return
        used, writer = writer, None  # stays so if this fails: the thread of a writer that failed has ended
        with _warning(target):
            for row in rows[written:]:
                prefix = AGAIN if row.get("training") == SECOND_TRAINING else ""
                for name, value in row.items():
                    if value is not None and name not in ("training", "epoch", "step"):
                        used.add_scalar(prefix + tag(name), value, global_step=row["epoch"])
            used.flush()
            writer, written = used, len(rows)
        if writer is None:
            with suppress(OSError):
                used.close()

    try:
        yield follow
    finally:
        if writer is not None:
            with _warning(target):
                writer.close()


@contextmanager
def _warning(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        logger.warning("Events can't be written to %s (%s); the training goes on without them.", shown(folder), error)


def tag(column: str) -> str:
    """Return the name of a column of the history among the events: ``training/loss``, ``validation/pq``."""
    if column in TIMINGS_AND_MEMORY:
        return f"cost/{column}"
    return f"{'training' if column in ('loss', *MIDDLE) or column.startswith('loss_') else 'validation'}/{column}"
