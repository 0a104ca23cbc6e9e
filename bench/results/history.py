"""History of a training: `history.parquet` beside the record, a row per epoch.

| column                | value                                                                                 |
|-----------------------|---------------------------------------------------------------------------------------|
| training              | 1 or 2: the second training of a run with ``train.refit``; elsewhere there is no such |
|                       | column                                                                                |
| epoch, step           | number of the epoch, from 1, and optimiser steps done by its end                      |
| loss, loss_<term>     | mean over the epoch's images of the loss, and of each of the terms that the head names |
| lr, encoder_lr        | learning rates of the epoch's last step: of the decoder, and of what is trained in    |
|                       | the encoder; the latter is null where nothing is, and where `lr` served both          |
| grad_norm             | mean over the epoch's steps of the gradient's norm, before it is clipped              |
| pq, aji, dice, …      | mean scores on the inner validation images; null in an epoch that was not validated   |
| searched_pq           | with ``train.choose_by=searched_pq``: the highest mean PQ of a few choices of         |
|                       | post-processing; the scores before it are those of the head's default one             |
| validation_loss       | with ``train.choose_by=loss``: mean over the validation images of the head's loss     |
| images_per_s, seconds | of training alone, without validation; null where other runs used the device          |
| validation_seconds    | seconds of predicting the validation images; likewise                                 |
| post_processing_seconds | seconds in which only their post-processing and scores were computed; likewise      |
| peak_bytes            | peak memory of the training so far                                                    |

Losses, learning rates, norms and scores are the same whether a training was interrupted or not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.errors import RecordError
from bench.results.record import HISTORY_FILENAME
from registry.atomic import replacing

INTEGERS = ("training", "epoch", "step", "peak_bytes")
FIRST_TRAINING, SECOND_TRAINING = 1, 2
FIRST = ("epoch", "step", "loss")
MIDDLE = ("lr", "encoder_lr", "grad_norm")
TIMINGS = ("images_per_s", "seconds", "validation_seconds", "post_processing_seconds")
TIMINGS_AND_MEMORY = ("images_per_s", "peak_bytes", "seconds", *TIMINGS[2:])
"""Columns that differ between two trainings of one run."""


def columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of all columns of some rows in the order of the table above."""
    known = list(dict.fromkeys(name for row in rows for name in row))
    terms = [name for name in known if name.startswith("loss_")]
    place = [name for name in known if name == "training"]
    scores = [name for name in known if name not in (*place, *FIRST, *MIDDLE, *TIMINGS_AND_MEMORY, *terms)]
    return [*place, *FIRST, *terms, *MIDDLE, *scores, *TIMINGS_AND_MEMORY]


def write(folder: Path, rows: Sequence[Mapping[str, Any]], *, sync: bool = True) -> None:
    """Write ``history.parquet`` to a run's folder: whole, or not at all.

    Args:
        folder: of the run.
        rows: a row per epoch; what a row lacks is null.
        sync: see `registry.atomic.replacing`.
    """
    import pyarrow
    from pyarrow import parquet

    fields = [(name, pyarrow.int64() if name in INTEGERS else pyarrow.float64()) for name in columns(rows)]
    values = {name: [row.get(name) for row in rows] for name, _ in fields}
    with replacing(folder / HISTORY_FILENAME, sync=sync) as temporary:
        parquet.write_table(pyarrow.table(values, schema=pyarrow.schema(fields)), temporary)


def read(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's history, sorted by training and epoch; none if it has none. NaN is None.

    Raises:
        RecordError: the file can't be read, or has no column ``epoch``.
    """
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    path = folder / HISTORY_FILENAME
    try:
        with ParquetFile(path) as file:
            rows: list[dict[str, Any]] = file.read(use_threads=False).to_pylist()
            is_history = "epoch" in file.schema_arrow.names
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError, ArrowException) as error:
        raise RecordError(f"{path} can't be read ({error}); copy it again, or remove it.") from error
    if not is_history or any(not isinstance(row["epoch"], int) for row in rows):
        raise RecordError(f"{path} is not the history of a training (no epochs); copy it again, or remove it.")
    missing = [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in rows]
    return sorted(missing, key=lambda row: (row.get("training") or FIRST_TRAINING, row["epoch"]))


def of_first_training(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of the training that was validated; all, where there is no second one."""
    return [row for row in rows if row.get("training") in (None, FIRST_TRAINING)]


def of_record(cost: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return the history that records of earlier versions hold in their costs: validated epochs, losses and scores."""
    rows = (cost or {}).get("history")
    if not isinstance(rows, list):
        return []
    known = [row for row in rows if isinstance(row, Mapping) and isinstance(row.get("epoch"), int)]
    return [{"loss" if name == "mean_loss" else name: value for name, value in row.items()} for row in known]
