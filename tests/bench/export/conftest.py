"""Runs whose models are exported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from exported_run import Trained, make
from planned_run import RUN

from bench.grid import Run


@pytest.fixture(scope="session")
def lora_run(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run of lora_qv that no test changes."""
    return make(tmp_path_factory.mktemp("lora") / "results")


@pytest.fixture
def own_run(tmp_path: Path) -> Callable[..., Trained]:
    """Make a run in a results folder of the test's own; see `make`."""

    def call(run: Run = RUN, **blocks: Any) -> Trained:
        return make(tmp_path / "results", run, **blocks)

    return call
