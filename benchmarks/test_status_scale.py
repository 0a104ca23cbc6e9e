"""Time that `bench status` takes over a large results folder, in a process of its own.

The folder is made up: records as a training of 60 epochs leaves them, a plan, ten submissions, and a `squeue` that
answers at once.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path

import processes
import pytest
import ratios
from rich.console import Console

from bench.grid import Run
from bench.results import plans, record, run_lock, submissions
from bench.results.plans import SavedPlan
from bench.results.record import RunRecord
from bench.results.submissions import Submission
from bench.status import live

BACKBONES = ("mobile_sam", "tiny_sam", "efficient_sam_ti", "efficient_sam_s", "sam_vit_b", "sam_vit_l", "sam_vit_h")
STRATEGIES = ("zero_shot", "decoder_only", "full", "lora_qv", "lora_all_linear", "adapter")
TRAIN = {"epochs": 60, "batch_size": 8, "lr": 0.005, "weight_decay": 0.1, "warmup_steps": 250, "schedule": "cosine"}
HISTORY = (
    json.dumps(
        {
            "": {
                "history": [
                    {
                        "epoch": n,
                        "mean_loss": 3 / n,
                        "dice": 0.8,
                        "aji": 0.6,
                        "pq": 0.5,
                        "sq": 0.7,
                        "dq": 0.7,
                        "f1": 0.7,
                        "precision": 0.7,
                    }
                    for n in range(1, 61)
                ]
            }
        },
        indent=1,
    )
    .partition("{\n  ")[2]
    .rpartition("\n }")[0]
)
"""As it stands in a record; made once, since it is nine tenths of it."""
STATUS = """
from pathlib import Path
from rich.console import Console
from bench.status import page, summary
status = summary.read(Path(sys.argv[1]))
page.show(status, Console(width=120, file=sys.stderr))
laps.update(status.counts())
"""


def runs(count: int) -> list[Run]:
    """Runs as a grid of all backbones and strategies over several seeds plans them."""
    return [
        Run(
            backbone=BACKBONES[n // 5 % 7],
            strategy=STRATEGIES[n // 35 % 6],
            head="distance",
            dataset="nuinsseg",
            dataset_digest="0123456789abcdef",
            fold=n % 5 + 1,
            n_splits=5,
            fold_seed=19,
            validation_fraction=0.2,
            seed=n // 210,
            weights="official",
            image_size=1024,
            scale=None,
            options={"rank": 4},
            train=TRAIN,
        )
        for n in range(count)
    ]


def fill(results: Path, count: int) -> list[Run]:
    """Make a folder up: of every 100 runs 90 are done, 3 failed, 2 run, the others queue."""
    planned = runs(count)
    plan = SavedPlan("large", "2026-01-01", tuple(planned), (), Path("/data"), None, "auto", "slurm", "default")
    plans.write(results, plan)
    origin = {
        "ended": "2026-01-02T00:00:00+00:00",
        "node": "gpu-01",
        "job": "1_0",
        "versions": {f"p{i}": "1.2" for i in range(10)},
    }
    for n, run in enumerate(planned):
        folder = record.folder(results, run.id)
        cost = {"train_seconds": 3000.0, "evaluate_seconds": 60.0, "history": None}
        scores = {"pq": 0.5, "aji": 0.6, "dice": 0.8}
        found = RunRecord(run.id, "ok", run.as_dict(), scores=scores, cost=cost, provenance=origin)
        if n % 100 >= 97:
            found = replace(found, status="failed", reason="diverged: the loss became nan", scores=None, cost=None)
        if n % 100 not in range(90, 97):
            folder.mkdir(parents=True)
            text = json.dumps({"schema_version": 1, **asdict(found)}, indent=1)
            (folder / record.FILENAME).write_text(text.replace('"history": null', HISTORY))
        elif n % 100 < 92:
            folder.mkdir(parents=True)
            holder = {"token": "t", "host": "far", "pid": 1, "born": "x", "job": None, "node": "gpu-01", "limit_s": 1e9}
            (folder / run_lock.FILENAME).write_text(json.dumps(holder))
            told = {"phase": "training", "epoch": 3, "epochs": 60, "loss": 0.5, "images_per_s": 12.0, "eta_s": 900.0}
            (folder / "progress.json").write_text(json.dumps(told))
    share = count // 10
    for number in range(10):
        tasks = tuple((run.id,) for run in planned[number * share : (number + 1) * share])
        submissions._write(
            results,
            Submission(
                f"2026{number}",
                f"bench-{number}",
                str(number),
                tasks,
                str(results / "jobs" / "%j"),
                "2026",
                True,
                OWNER,
            ),
        )
    return planned


OWNER = f"{os.getuid()}@test"


def commands(folder: Path, planned: list[Run]) -> dict[str, str]:
    """An environment whose `squeue` shows the last tenth of the runs pending."""
    share = len(planned) // 10
    lines = [
        f"{n // share}_{n % share}|PENDING||0:00|12:00:00|Priority|bench-{n // share}"
        for n in range(len(planned))
        if n % 100 in range(92, 97)
    ]
    (folder / "queue").write_text("\n".join(lines) + "\n")
    for name, does in (("squeue", f"cat {folder}/queue"), ("scontrol", "echo ClusterName = test"), ("sacct", "true")):
        (folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Run]]:
    """A folder of 10,000 runs."""
    results = tmp_path_factory.mktemp("large") / "results"
    return results, fill(results, 10_000)


@pytest.mark.parametrize(("count", "target_s"), [(200, 1.0), (10_000, 3.0)])
def test_bench_status(tmp_path: Path, large: tuple[Path, list[Run]], count: int, target_s: float) -> None:
    results, planned = large if count == 10_000 else (tmp_path / "results", fill(tmp_path / "results", count))
    (tmp_path / "bin").mkdir()
    environment = commands(tmp_path / "bin", planned)
    rounds = [processes.measured(STATUS, results, env=environment) for _ in range(3)]
    share = count // 100
    for one in rounds:
        counts = {name: one[name] for name in ("done", "running", "queued", "failed")}
        assert counts == {"done": 90 * share, "running": 2 * share, "queued": 5 * share, "failed": 3 * share}
    # Processor time, which other programs hardly change.
    seconds = min(one["cpu_s"] for one in rounds)
    ratios.report(f"bench status, {count:,} runs", seconds, target_s, "s", "lower", "processor time of the process")
    memory = rounds[0]["peak_mb"]
    ratios.report(f"bench status, {count:,} runs: memory", memory, 500, "MB", "lower", "VmHWM of the process")


@pytest.mark.parametrize("done", [True, False])
def test_the_live_view_when_nothing_changed(tmp_path: Path, large: tuple[Path, list[Run]], done: bool) -> None:
    results, planned = large if done else (tmp_path, large[1])
    console = Console(file=StringIO(), width=120)
    view = live.View(results=tmp_path, runs=planned, is_final=lambda one: one.status == "failed", console=console)
    view.ledger = submissions.read(results)
    polls = []
    for _ in range(7):
        start = time.perf_counter()
        view.refresh()
        polls.append(time.perf_counter() - start)
        console.print(view)
    state = "95 % done" if done else "none begun"
    ratios.report(f"live view, 10,000 runs, {state}: one poll", 1000 * min(polls), 50, "ms", "lower", "nothing changed")
