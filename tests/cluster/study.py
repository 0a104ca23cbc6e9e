"""A small grid on the dev cluster, with its commands, records and jobs."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.results import progress, record, run_lock, submissions
from bench.results.record import RunRecord
from bench.slurm import client

GRID = """\"\"\"A small grid.\"\"\"
from bench.grid import FoldSettings, Grid, Settings, TrainSettings

GRID = Grid(
    name="small",
    backbones=("sam_nano",),
    strategies={strategies!r},
    folds={folds!r},
    classical={classical!r},
    settings=Settings(
        dataset="synthetic", weights="random", image_size={image_size}, folds=FoldSettings(n_splits=2),
        train=TrainSettings(
            epochs={epochs}, batch_size=2, warmup_steps=1, patience=0, validate_every={epochs},
        ),
    ),
)
"""
PROFILE = """\
gpus = 1
memory_gb_per_gpu = 4
"""
LIMIT_S = 600.0  # a busy machine takes minutes for what an idle one does in seconds


def wait_until(what: str, condition: Callable[[], Any], explain: Callable[[], str], limit_s: float = LIMIT_S) -> Any:
    """Poll until `condition` holds; return its value, or fail with an explanation."""
    pause, deadline = threading.Event(), time.monotonic() + limit_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {limit_s:.0f} s for {what}:\n{explain()}")
        pause.wait(0.1)
    return value


@dataclass(frozen=True)
class Listed:
    """A job of the queue."""

    id: str
    state: str
    node: str
    name: str


@dataclass
class Command:
    """A `bench` command that was started; its output goes to a file, which can be read meanwhile."""

    process: subprocess.Popen[bytes]
    path: Path

    @property
    def output(self) -> str:
        return self.path.read_text(errors="replace")


@dataclass
class Study:
    """A grid, its images and its results folder.

    Attributes:
        folder: of the grid's file, the profile and the commands' output.
        results: the results folder.
        images: the dataset's folder.
        env: the environment of all commands.
        commands: all that were started, in this order.
    """

    folder: Path
    results: Path
    images: Path
    env: dict[str, str]
    commands: list[Command] = field(default_factory=list)

    @classmethod
    def make(
        cls,
        folder: Path,
        results: Path,
        images: Path,
        env: Mapping[str, str],
        profile: str,
        *,
        strategies: tuple[str, ...] = ("decoder_only",),
        folds: tuple[int, ...] = (1, 2),
        epochs: int = 2,
        image_size: int = 64,
        classical: bool = False,
    ) -> Study:
        """Write the grid and the profile, to which the lines of `profile` are added."""
        text = GRID.format(
            strategies=strategies, folds=folds, epochs=epochs, image_size=image_size, classical=classical
        )
        (folder / "small.py").write_text(text)
        cpus = "" if "cpus_per_gpu" in profile else "cpus_per_gpu = 2\n"
        limit = "" if "time_limit_min" in profile else "time_limit_min = 20\nsignal_delay_s = 30\n"
        (folder / "dev.toml").write_text(PROFILE + cpus + limit + profile)
        return cls(folder, results, images, dict(env))

    # ── commands ──

    def start(self, *words: str, before: tuple[str, ...] = ()) -> Command:
        """Start a command, as a shell does: in a process group of its own; `before` are words that start it."""
        path = self.folder / f"command-{len(self.commands)}.out"
        with path.open("wb") as output:
            process = subprocess.Popen(
                [*before, sys.executable, "-m", "bench.cli", *words],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.commands.append(Command(process, path))
        return self.commands[-1]

    def run(self, *more: str, cluster: str = "slurm", before: tuple[str, ...] = ()) -> Command:
        """Start `bench run` of the grid."""
        return self.start(
            "run",
            "--grid",
            str(self.folder / "small.py"),
            "--data",
            str(self.images),
            "--results",
            str(self.results),
            "--cluster",
            cluster,
            "--profile",
            str(self.folder / "dev.toml"),
            "--device",
            "cpu",
            *more,
            before=before,
        )

    def do(self, verb: str, *words: str, expect: int | None = 0) -> str:
        """Run `bench VERB` about the results folder to its end; return its output."""
        return self.finish(self.start(verb, *words, "--results", str(self.results)), expect=expect)

    def finish(self, command: Command, *, expect: int | None = 0, limit_s: float = LIMIT_S) -> str:
        """Wait for a command's end; return its output."""
        self.until("the end of a command", lambda: command.process.poll() is not None, limit_s=limit_s)
        if expect is not None and command.process.returncode != expect:
            raise AssertionError(f"exit code {command.process.returncode}, not {expect}\n{self.explain()}")
        return command.output

    def end(self) -> None:
        """Kill the commands that still run."""
        for command in self.commands:
            if command.process.poll() is None:
                command.process.kill()
            command.process.wait()

    # ── runs and jobs ──

    def records(self) -> dict[str, RunRecord]:
        """All records, by run id."""
        return {found.id: found for found in record.read_all(self.results)}

    def at_work(self) -> dict[str, dict[str, Any]]:
        """Locks that living processes hold, by run id, with the progress of the run."""
        found = {}
        for name in sorted(record.folders(self.results)):
            place = record.folder(self.results, name)
            holder = run_lock.holder(place)
            if holder is not None:
                found[name] = {**holder, **(progress.read(place) or {})}
        return found

    def training(self, step: int = 1) -> dict[str, dict[str, Any]]:
        """Locked runs that train and have done so many steps."""
        return {name: told for name, told in self.at_work().items() if int(told.get("step", 0)) >= step}

    def given(self) -> Counter[str]:
        """Number of array tasks that each run was given to."""
        ledger = submissions.read(self.results)
        return Counter(run for one in (*ledger.closed, *ledger.open) for task in one.tasks for run in task)

    def queue(self) -> dict[str, Listed]:
        """This user's jobs by id, as SLURM lists them."""
        command = ["squeue", "--noheader", "--array", "--states=all", f"--format={client.FORMAT}"]
        text = subprocess.run(command, env=self.env, capture_output=True, text=True, check=True).stdout
        lines = [line.split("|", 6) for line in text.splitlines()]
        return {one[0]: Listed(one[0], one[1], one[2], one[6]) for one in lines}

    def live_jobs(self) -> list[str]:
        """Ids of the jobs that wait or run."""
        return [job.id for job in self.queue().values() if job.state not in client.FINISHED_STATES]

    def ask(self, *command: str) -> str:
        """Output of one of SLURM's commands."""
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}\n{self.explain()}"
        return done.stdout

    # ── waiting, and explaining failures ──

    def until(
        self, what: str, condition: Callable[[], Any], *, of: Command | None = None, limit_s: float = LIMIT_S
    ) -> Any:
        """Wait for `condition`, which the command `of` brings about; fail with an explanation if it ends before."""

        def look() -> Any:
            ended = of is not None and of.process.poll() is not None
            value = condition()
            assert value or not ended, f"the command ended before {what}:\n{self.explain()}"
            return value

        return wait_until(what, look, self.explain, limit_s)

    def when_training(self, count: int, *, of: Command | None) -> dict[str, dict[str, Any]]:
        """Wait until so many runs train at once."""
        found: dict[str, dict[str, Any]] = {}

        def enough() -> bool:
            found.clear()
            found.update(self.training())
            return len(found) >= count

        self.until(f"{count} runs trained at once", enough, of=of)
        return found

    def explain(self) -> str:
        """State of everything at a failure: the queue, the commands, `bench status`, the ends of the logs."""
        parts = [("squeue", self._output("squeue", "--states=all", "--array"))]
        parts += [("sinfo", self._output("sinfo", "-N"))]
        parts += [(" ".join(map(str, one.process.args[2:])), one.output) for one in self.commands]  # type: ignore[index]
        status = [sys.executable, "-m", "bench.cli", "status", "--results", str(self.results)]
        parts += [("bench status", self._output(*status))]
        logs = [*self.results.glob("runs/*/log.txt"), *self.results.glob("jobs/**/*_log.*")]
        parts += [(str(path), path.read_text(errors="replace")) for path in sorted(logs)]
        parts += [(str(path), path.read_text()) for path in sorted(self.results.glob("ledger/*/*.json"))]
        return "\n".join(f"── {name}\n{tail(text)}" for name, text in parts)

    def _output(self, *command: str) -> str:
        try:
            done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60, check=False)
        except subprocess.TimeoutExpired:
            return "no answer in 60 s"
        return done.stdout + done.stderr


def tail(text: str, lines: int = 25) -> str:
    """The last lines of a text."""
    return "\n".join(text.rstrip().splitlines()[-lines:])


def tensors(results: Path) -> dict[tuple[str, str, str], bytes]:
    """Every trained tensor's bytes, by run, file and name."""
    from safetensors.numpy import load_file

    return {
        (path.parts[-3], path.name, name): value.tobytes()
        for path in sorted(results.glob("runs/*/trained/*.safetensors"))
        for name, value in load_file(path).items()
    }


def leftovers(results: Path) -> list[str]:
    """Files that no finished run leaves behind, and records, weights and states that can't be read."""
    import torch
    from safetensors.numpy import load_file

    found = [str(path) for path in results.rglob("*") if path.suffix in (".tmp", ".dead", ".damaged")]
    unreadable: list[str] = []
    list(record.read_all(results, unreadable))
    for path in results.glob("runs/*/trained/*.safetensors"):
        load_file(path)
    for path in results.glob("runs/*/state.pt"):
        torch.load(path, weights_only=True, map_location="cpu")
    return found + unreadable
