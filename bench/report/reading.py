"""Reading of all records below a results folder, for tables and figures."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from bench.errors import BenchError
from bench.report.frame import record_frame
from bench.results.record import read_all

logger = logging.getLogger(__name__)


def read_records(results: Path) -> pd.DataFrame:
    """Return a frame of all records below a results folder; files that can't be read are logged.

    Raises:
        BenchError: there are no records.
    """
    unreadable: list[str] = []
    frame = record_frame(read_all(results, unreadable, history=False))
    for sentence in unreadable:
        logger.warning(sentence)
    if frame.empty:
        raise BenchError(f"no records below {results / 'runs'}; run `bench run --grid quick` first.")
    return frame
