"""Published scores, which are shown beside the runs."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pandas as pd

from bench.errors import BenchError

COLUMNS = (
    "model",
    "parameters_millions",
    "trainable_millions",
    "parameters_verified",
    "dice",
    "aji",
    "pq",
    "pq_corrected",
    "source",
    "protocol",
    "folds",
    "folds_note",
    "selected_on_test",
    "selected_on_test_note",
    "trained_on_folds",
    "scoring",
    "note",
    "dataset",
    "dataset_title",
)
FACTS = {
    "folds": ("official", "other", "unknown"),
    "selected_on_test": ("yes", "no", "unknown"),
    "scoring": ("same", "other", "unknown"),
}
"""Columns of what is known about how a row came about, with their values."""
COMPARABLE = {"folds": "official", "selected_on_test": "no", "scoring": "same"}
"""What must be known of a row before it is ranked with measured ones."""


def baseline_frame(path: Path | None = None) -> pd.DataFrame:
    """Return published scores in percent, as their sources give them; ``dataset`` is the registered name.

    ``comparable`` is derived: whether everything in `COMPARABLE` is known to agree with the protocol of the runs.

    Args:
        path: a CSV file with `COLUMNS`; None takes all files of ``results/baselines``.

    Raises:
        BenchError: no such file, a column is missing or has an unknown value, ``comparable`` is given, or a row has no
            source.
    """
    paths = sorted(_shipped_folder().glob("*.csv")) if path is None else [path]
    if not paths:
        raise BenchError(f"there are no baselines (*.csv) in {_shipped_folder()}; install nuclei-bench again.")
    return pd.concat([_read(path) for path in paths], ignore_index=True)


def _read(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise BenchError(
            f"the baselines {path} can't be read ({error}); give a CSV file, see results/baselines."
        ) from error
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise BenchError(f"the baselines {path} lack the columns {', '.join(missing)}; all are: {', '.join(COLUMNS)}.")
    unsourced = table.loc[table["source"].isna(), "model"].tolist()
    if unsourced:
        raise BenchError(f"the baselines {path} give no source for {', '.join(unsourced)}; add one or remove the row.")
    if "comparable" in table:
        rule = ", ".join(f"{name} = {value}" for name, value in COMPARABLE.items())
        raise BenchError(f"the baselines {path} give 'comparable', which follows from {rule}; remove that column.")
    for name, allowed in FACTS.items():
        others = sorted(set(table[name].astype(str)) - set(allowed))
        if others:
            raise BenchError(f"the baselines {path}: {name} is {', '.join(others)}; known: {', '.join(allowed)}.")
    agrees = [table[name] == value for name, value in COMPARABLE.items()]
    return table.assign(comparable=pd.concat(agrees, axis=1).all(axis=1))


def _shipped_folder() -> Path:
    """Return the folder of the baselines: of the checkout where they are edited, or of a wheel (`data-files`)."""
    checkout = Path(__file__).resolve().parents[2] / "results" / "baselines"
    return checkout if checkout.is_dir() else Path(sysconfig.get_path("data")) / "share" / "nuclei-bench" / "baselines"
