"""A small world in which whole runs take seconds: six synthetic images, the smallest backbone, one epoch."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

GRID = """\"\"\"Two folds of six small images.\"\"\"
from bench.grid import FoldSettings, Grid, Settings, TrainSettings

GRID = Grid(
    name="tiny",
    backbones=("sam_nano",),
    strategies=("zero_shot", "decoder_only", "lora_qv"),
    settings=Settings(
        dataset="synthetic", weights="random", image_size=64, folds=FoldSettings(n_splits=2),
        train=TrainSettings(epochs=2, batch_size=2, warmup_steps=1),
    ),
)
"""


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from registry.datasets import synthetic

    root = tmp_path_factory.mktemp("data") / "synthetic"
    synthetic.write(root, n_images=6, image_size=64, organs=2, seed=1, nuclei=(4, 8))
    return root


@pytest.fixture(scope="session")
def tiny_grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("grid") / "tiny.py"
    path.write_text(GRID)
    return path


@pytest.fixture
def bench_run(tiny_data: Path, tiny_grid: Path) -> Callable[..., tuple[int, str]]:
    """`bench run` on the small world, in this process; returns the exit code and what was printed."""

    def call(results: Path, **changes: object) -> tuple[int, str]:
        from bench.submission import prepare

        arguments = {
            "assignments": (),
            "only": (),
            "data": tiny_data,
            "weights_folder": None,
            "results": results,
            "cluster": "inline",
            "device": "cpu",
        }
        prepared = prepare.prepare(str(changes.pop("grid", tiny_grid)), **(arguments | changes))  # type: ignore[arg-type]
        printed = StringIO()
        code = prepare.run(prepared, console=Console(file=printed, width=200))
        return code, printed.getvalue()

    return call
