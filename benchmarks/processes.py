"""Statements measured in a process of their own: seconds of each lap and of the whole, processor time, peak memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
_PROGRAM = """
import json, os, sys, time
laps = {{}}

def lap(name, call):
    start = time.perf_counter()
    value = call()
    laps[name] = time.perf_counter() - start
    return value

{statements}
# Not getrusage: its peak begins with that of the process that started this one.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
used = os.times()
print(json.dumps({{**laps, "cpu_s": used.user + used.system, "peak_mb": int(peak.split()[1]) / 1024}}))
"""


def measured(statements: str, *arguments: object, env: Mapping[str, str] | None = None) -> dict[str, float]:
    """Run Python statements in a new process, in the folder of the project.

    The statements see ``sys.argv[1:]`` as the arguments, and may call ``lap(name, call)``, which returns the call's
    value and stores its seconds, or store numbers in ``laps`` themselves. Their output goes nowhere.

    Returns:
        The laps; ``cpu_s``: processor time; ``peak_mb``: peak resident memory; ``process``: wall time of all.

    Raises:
        AssertionError: the process failed; with its standard error.
    """
    command = [sys.executable, "-c", _PROGRAM.format(statements=statements), *map(str, arguments)]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, check=False)
    seconds = time.perf_counter() - start
    assert done.returncode == 0, done.stderr
    values: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {**values, "process": seconds}
