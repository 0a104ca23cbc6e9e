"""Reading of all records below a results folder, for tables and figures."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from bench.errors import BenchError
from bench.report.frame import record_frame
from bench.results.record import read_all

logger = logging.getLogger(__name__)


def read_records(results: Path, unreadable: list[str] | None = None) -> pd.DataFrame:
    """Return a frame of all records below a results folder.

    Args:
        results: the results folder.
        unreadable: a sentence for each file that can't be read is added here; None logs them.

    Raises:
        BenchError: there are no records.
    """
    sentences: list[str] = []
    frame = record_frame(read_all(results, sentences, history=False))
    if unreadable is None:
        for sentence in sentences:
            logger.warning(sentence)
    else:
        unreadable += sentences
    if frame.empty:
        raise BenchError(f"no records below {results / 'runs'}; run `bench run --grid quick` first.")
    return frame
