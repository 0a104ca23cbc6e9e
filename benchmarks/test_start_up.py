"""Start of the program: `bench --help`, `bench show`, and a worker up to its first training step.

Processor time of processes of their own, started in turns on a warm disk: wall time would measure other programs too.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import processes
import ratios

ROUNDS = 3
BENCH = ("-m", "bench.cli")
WORKER = """
import torch
imported = time.process_time()
from bench.cli import main
from bench.training import loop

def first_step(*arguments, **options):
    print(json.dumps({"start": time.process_time() - imported, "torch": imported}), flush=True)
    os._exit(0)

loop.fit = first_step
grid, results = sys.argv[1:]
sys.argv = ["bench", "run", "--grid", grid, "--cluster", "inline", "--only", "fold=1", "--results", results]
main()
"""
"""A run in this process, up to its first training step: what a worker does, and the planning before it."""
GRID = """'''One model of the grid check.'''
from dataclasses import replace
from bench.grids.check import GRID as CHECK

GRID = replace(CHECK, name="start", backbones=("sam_nano",), strategies=("{strategy}",), classical=False)
"""


def processor_seconds(*arguments: str) -> float:
    """Return the processor time of a Python process, and of those that it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=processes.ROOT, check=False)
    assert done.returncode == 0, done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def in_turns(*commands: tuple[str, ...], rounds: int = ROUNDS) -> list[float]:
    """Return the least processor time of each command."""
    times = [[processor_seconds(*command) for command in commands] for _ in range(rounds)]
    return [min(column) for column in zip(*times, strict=True)]


def test_help_against_importing_typer_and_rich() -> None:
    own, floor = in_turns((*BENCH, "--help"), ("-c", "import typer, rich"), rounds=7)
    detail = f"{1000 * own:.0f} ms against {1000 * floor:.0f} ms of importing typer and rich, processor time"
    ratios.report("bench --help", own / floor, 2, better="lower", detail=detail)


def test_show_against_importing_torch() -> None:
    models = (("sam_vit_b",), ("mobile_sam",), ("mobile_sam", "lora_qv"))
    *own, floor = in_turns(*((*BENCH, "show", *model) for model in models), ("-c", "import torch"))
    for model, seconds in zip(models, own, strict=True):
        detail = f"{seconds:.2f} s against {floor:.2f} s of importing torch, processor time"
        ratios.report(f"bench show {' '.join(model)}", seconds / floor, 2, better="lower", detail=detail)


def test_a_worker_up_to_its_first_step(tmp_path: Path) -> None:
    for strategy in ("decoder_only", "lora_qv"):
        grid = tmp_path / f"{strategy}.py"
        grid.write_text(GRID.format(strategy=strategy))
        rounds = [processes.measured(WORKER, grid, tmp_path / f"{strategy}{n}") for n in range(ROUNDS)]
        best = min(rounds, key=lambda one: one["start"])
        detail = f"SAM nano, {strategy}: plan, images, model, audit; importing torch took {best['torch']:.2f} s before"
        ratios.report(f"first training step, {strategy}", best["start"], 3, "s", "lower", f"{detail}; processor time")
