"""One small study for all tests that only read it."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_study import write_study


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with seven rows; see `small_study`."""
    results = tmp_path_factory.mktemp("study") / "results"
    write_study(results)
    return results
