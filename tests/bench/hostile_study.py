"""A small study with everything that the report page and its pack show; its numbers are chosen, not measured."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path
from statistics import fmean

import galleries
import pandas as pd
from compared import Scores, add
from fabricated import record, run

from bench.results.record import folder, write

HOSTILE = "<script>alert('x')</script>|_%&\"é" + "x" * 90
"""Name of a strategy."""
EXPECTED = "<script>alert('x')</script>|_%&\"é"
WEAK = ({f"liver/{n}": 0.3 + n / 100 for n in range(6)}, {f"<b>brain/{n}": 0.4 + n / 100 for n in range(6)})
OTHER_IMAGES = "fedcba987654"
HOST, HOME = "gpu-12.cluster.example.org", "/home/jdoe"


def write_study(results: Path) -> Path:
    """Write three rows of two folds, the first decisively the best, the second of a hostile name, and a failed run.

    A second section has a row that kept its predictions.
    """
    _add(results, "mobile_sam", "lora_qv", _above(0.3, 1e-4))
    _add(results, "mobile_sam", HOSTILE, WEAK)
    _add(results, "sam_vit_b", "zero_shot", _above(0, -2e-5))
    for path in sorted((results / "runs").iterdir()):
        _add_history(path / "history.parquet")
    folds = [[galleries.image(f"tile_{fold}_{place}") for place in range(3)] for fold in range(2)]
    galleries.add(results, "tiny_sam", "full", folds, galleries.with_errors, dataset_digest=OTHER_IMAGES)
    settings = run("sam_vit_b", "full", 1, n_splits=2)
    failed = record(settings, status="failed", reason=f"</script>{EXPECTED}: {HOME}/data/x.png", official=False)
    origin = {**(failed.provenance or {}), "host": HOST, "node": HOST, "commit": "c0ffee", "versions": {"torch": "2.6"}}
    trace = f'Traceback …\n  File "{HOME}/my code/run.py", line 1\nOutOfMemoryError on {HOST}'
    write(results, replace(failed, traceback=trace, provenance=origin, failure={"kind": "out_of_memory"}))
    (results / "folds").mkdir()
    (results / "folds" / "nuinsseg-0123456789ab-2-19.csv").write_text("stem,organ,group,fold\n0,liver,0,1\n")
    return results


def _above(shift: float, step: float) -> tuple[Scores, ...]:
    """`WEAK` with a number added that differs from image to image, because ties take scipy seconds."""
    places = count(1)
    return tuple({name: pq + shift + step * next(places) for name, pq in fold.items()} for fold in WEAK)


def _add(results: Path, backbone: str, strategy: str, folds: tuple[Scores, ...]) -> None:
    """Write a row whose records hold the means of its image scores."""
    add(results, backbone, strategy, folds)
    for fold, scores in enumerate(folds, 1):
        settings, pq = run(backbone, strategy, fold, n_splits=len(folds)), fmean(scores.values())
        write(results, record(settings, dice=pq + 0.3, aji=pq + 0.1, pq=pq, official=False))


def _add_history(path: Path) -> None:
    epochs = range(1, 4)
    pq = [0.1 * epoch for epoch in epochs]
    pd.DataFrame({"epoch": epochs, "loss": [1.0, 0.5, 0.25], "pq": pq}).to_parquet(path)


def record_path(results: Path) -> Path:
    """The record of the first run that is ok."""
    return next(
        path for path in sorted(folder(results, "x").parent.glob("*/record.json")) if '"ok"' in path.read_text()
    )
