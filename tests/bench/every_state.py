"""A results folder with runs in every state, and the queue that goes with it: made up, for tests of watching."""

from __future__ import annotations

import json
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.grid import Grid, Run, Settings
from bench.planning import plan
from bench.results import plans, record, run_lock, submissions
from bench.results.index import Index
from bench.results.plans import SavedPlan
from bench.results.record import RunRecord
from bench.results.submissions import Ledger, Submission
from bench.slurm.client import Queue, QueuedJob

OWNER = "1000@test"
FAR = {"host": "gpu-07", "pid": 1, "born": "elsewhere:1", "limit_s": 1e9}
"""A claim of another host, which lives as long as its file is young enough."""


@dataclass(frozen=True)
class Place:
    """A results folder.

    Attributes:
        results: its path.
        runs: planned, by ``backbone/strategy/fold``.
    """

    results: Path
    runs: dict[str, Run]

    def id(self, name: str) -> str:
        return self.runs[name].id

    def folder(self, name: str) -> Path:
        made = record.folder(self.results, self.id(name))
        made.mkdir(parents=True, exist_ok=True)
        return made

    def finish(self, name: str, pq: float = 0.5, **changes: Any) -> None:
        run = self.runs[name]
        values: dict[str, Any] = {
            "status": "ok",
            "scores": {"pq": pq, "aji": 0.6, "dice": 0.8},
            "cost": {"train_seconds": 3000.0, "evaluate_seconds": 60.0},
            "provenance": {"ended": "2026-01-02T00:00:00+00:00", "node": "gpu-03", "job": "41_0"},
        }
        found = RunRecord(id=run.id, run=run.as_dict(), **(values | changes))
        text = json.dumps({"schema_version": 1, **asdict(found)}, indent=1)
        (self.folder(name) / record.FILENAME).write_text(text)  # not synced: hundreds of them would take seconds

    def fail(self, name: str, reason: str, attempts: int = 1, ended: str = "2026-01-02T00:00:00+00:00") -> None:
        earlier = [{"status": "failed", "reason": reason}] * (attempts - 1)
        self.finish(
            name,
            status="failed",
            reason=reason,
            scores=None,
            cost=None,
            attempts=earlier,
            provenance={"ended": ended, "node": "gpu-03"},
        )

    def claim(self, name: str, job: str | None, told: dict[str, Any] | None, **changes: Any) -> None:
        holder = {"token": "t", **FAR, "job": job, "node": "gpu-07", "restarts": 0} | changes
        (self.folder(name) / "claim.json").write_text(json.dumps(holder))
        if told is not None:
            (self.folder(name) / "progress.json").write_text(json.dumps(told))

    def save(self, name: str) -> None:
        (self.folder(name) / "state.pt").touch()

    def submit(self, job_id: str | None, *tasks: tuple[str, ...], **changes: Any) -> Submission:
        values: dict[str, Any] = {
            "token": f"20260101-0000{int(job_id or 99):02d}",
            "job_name": f"bench-{job_id}",
            "job_id": job_id,
            "tasks": tuple(tuple(self.id(name) for name in one) for one in tasks),
            "array": len(tasks) > 1,
            "folder": str(self.results / "jobs" / f"s{job_id}" / "%j"),
            "owner": OWNER,
            "submitted": "2026-01-01T12:00:00+00:00",
        }
        submission = Submission(**(values | changes))
        submissions._write(self.results, submission)
        return submission

    def index(self) -> Index:
        found = Index(self.results)
        found.refresh()
        return found

    def ledger(self) -> Ledger:
        return submissions.read(self.results)


def planned(results: Path, backbones: tuple[str, ...], strategies: tuple[str, ...], **changes: Any) -> Place:
    """A folder in which a grid was planned and nothing has happened."""
    made = plan.make(Grid("default", backbones, strategies, Settings(), classical=False), "0123456789abcdef")
    values: dict[str, Any] = {
        "grid": "default",
        "planned": "2026-01-01T00:00:00+00:00",
        "runs": made.runs,
        "skipped": made.skipped,
        "data": Path("/data"),
        "weights": None,
        "device": "auto",
        "kind": "slurm",
        "profile": "default",
    }
    plans.write(results, SavedPlan(**(values | changes)))
    return Place(results, {f"{run.backbone}/{run.strategy}/{run.fold}": run for run in made.runs})


def queue(*jobs: tuple[str, str, str]) -> Queue:
    """A queue of (id, state, reason); jobs that run have an hour left on node gpu-07."""
    listed = {}
    for job_id, state, reason in jobs:
        on_node = state != "PENDING"
        name = f"bench-{job_id.partition('_')[0]}"
        listed[job_id] = QueuedJob(
            job_id, name, state, reason, "gpu-07" if on_node else "", 60.0, 3600.0 if on_node else None
        )
    return Queue(listed, OWNER)


def everything(results: Path) -> tuple[Place, Queue]:
    """60 runs: 12 rows, every state at least once."""
    place = planned(
        results, ("mobile_sam", "efficient_sam_ti", "sam_vit_h"), ("zero_shot", "decoder_only", "lora_qv", "full")
    )
    names = list(place.runs)
    for number, name in enumerate(names[:21]):
        place.finish(name, pq=0.45 + number / 200)
    place.fail(names[21], "diverged: the loss became nan at step 120 of 3990; the learning rate may be too high.")
    place.fail(names[22], "out of memory: CUDA out of memory. Tried to allocate 2.5 GiB.", attempts=4)
    place.fail(names[23], "lost: the node failed under job 40_2.")
    place.submit("40", *((name,) for name in names[24:50]))
    lines = []
    for number, name in enumerate(names[24:30]):
        job = f"40_{number}"
        told = {
            "phase": "training",
            "epoch": 3 + 9 * number,
            "epochs": 60,
            "loss": 0.812 / (number + 1),
            "images_per_s": 12.5 - number,
            "eta_s": 900.0 * (number + 1) ** 2,
        }
        if number == 4:
            told = {"phase": "evaluating", "image": 12, "images": 133}
        place.claim(name, job, None if number == 5 else told, node=f"gpu-{number + 5:02d}", restarts=number % 2)
        lines.append((job, "RUNNING", ""))
    for number, name in enumerate(names[30:44], start=6):
        if number == 8:
            place.save(name)
        lines.append(
            (f"40_{number}", "PENDING", "BeginTime" if number == 8 else "Resources" if number % 5 else "Priority")
        )
    place.save(names[44])
    lines += [("40_20", "PREEMPTED", ""), ("40_21", "NODE_FAIL", ""), ("40_22", "CANCELLED", "")]
    submissions.write_cancelled(results, [place.id(names[47])])
    place.claim(names[50], None, None, host=socket.gethostname(), pid=2**22 + 1, born=f"{run_lock._boot()}:0")
    return place, queue(
        *lines, ("40_23", "CANCELLED", ""), *((f"40_{n}", "PENDING", "JobArrayTaskLimit") for n in (24, 25))
    )
