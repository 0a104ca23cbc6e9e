"""Small studies for all tests that only read them."""

from __future__ import annotations

from pathlib import Path

import hostile_study
import pytest
from small_study import write_study


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with seven rows; see `small_study`."""
    results = tmp_path_factory.mktemp("study") / "results"
    write_study(results)
    return results


@pytest.fixture(scope="session")
def study_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with names that are markup, a failed run and kept predictions; see `hostile_study`."""
    return hostile_study.write_study(tmp_path_factory.mktemp("hostile") / "results")


@pytest.fixture(scope="session")
def study_report(study_results: Path) -> Path:
    """The report page of `study_results`, ``index.html``."""
    from bench.report.site import write_report

    return write_report(study_results)
