"""A real SLURM for the tests of this folder: two nodes on this machine, up once, taken down at the end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from study import Study, wait_until

ROOT = Path(__file__).resolve().parents[2]
DEVCLUSTER = ROOT / "slurm" / "devcluster"
UNABLE = 3  # devcluster's exit code for "this machine cannot do it"


@dataclass(frozen=True)
class Cluster:
    """A dev cluster.

    Attributes:
        folder: its own.
        env: the environment of all that is to find it.
    """

    folder: Path
    env: Mapping[str, str]

    def ask(self, *command: str) -> str:
        """Output of one of SLURM's commands."""
        done = subprocess.run(command, env=dict(self.env), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def up(self, *flags: str) -> subprocess.CompletedProcess[str]:
        """Start it, or start again what died."""
        command = [sys.executable, str(DEVCLUSTER), "--dir", str(self.folder), "up", *flags]
        return subprocess.run(command, env=dict(self.env), capture_output=True, text=True, check=False)

    def pid(self, daemon: str) -> int:
        """A daemon's process."""
        return int((self.folder / f"{daemon}.pid").read_text())

    def clear(self) -> None:
        """End all jobs, and wait until both nodes are idle again: no test finds what another left."""
        states = "PENDING,RUNNING,SUSPENDED,COMPLETING,CONFIGURING"
        self.ask("scancel", f"--user={os.getuid()}")
        wait_until(
            "an empty queue",
            lambda: not self.ask("squeue", "--noheader", f"--states={states}").split(),
            lambda: self.ask("squeue", "--states=all"),
        )
        done = self.up()
        assert done.returncode == 0, done.stderr


def made(cache: Path, *flags: str) -> Iterator[Cluster]:
    """A cluster in a folder of its own; skips where this machine cannot do it."""
    # Not pytest's folder, whose path may be longer than SLURM allows.
    folder = Path(tempfile.mkdtemp(prefix="nuclei-bench-"))
    folder.chmod(0o755)  # munge wants its socket within reach of all
    outside = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SBATCH"))}
    cluster = Cluster(
        folder,
        {
            **outside,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
            "XDG_CACHE_HOME": str(cache),
        },
    )
    try:
        done = cluster.up(*flags)
        if done.returncode == UNABLE:
            pytest.skip(done.stderr.strip().splitlines()[-1])
        assert done.returncode == 0, done.stderr
        yield cluster
    finally:
        command = [sys.executable, str(DEVCLUSTER), "--dir", str(folder), "down"]
        subprocess.run(command, env=dict(cluster.env), capture_output=True, check=False)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the tests' own: nothing of the user's is read or written."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def plain_cluster(cache: Path) -> Iterator[Cluster]:
    yield from made(cache)


@pytest.fixture(scope="session")
def accounted_cluster(cache: Path) -> Iterator[Cluster]:
    yield from made(cache, "--accounting")


@pytest.fixture
def cluster(plain_cluster: Cluster) -> Iterator[Cluster]:
    """The cluster without accounting; both nodes are idle before and after."""
    yield plain_cluster
    plain_cluster.clear()


@pytest.fixture
def accounted(accounted_cluster: Cluster) -> Iterator[Cluster]:
    """The cluster where sacct answers."""
    yield accounted_cluster
    accounted_cluster.clear()


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight small synthetic images of two organs."""
    from registry.datasets import synthetic

    root = tmp_path_factory.mktemp("images") / "synthetic"
    synthetic.write(root, n_images=8, image_size=128, organs=2, seed=1, nuclei=(4, 8))
    return root


@pytest.fixture
def study(tmp_path: Path, images: Path) -> Iterator[Callable[..., Study]]:
    """Make a `Study`; the commands that it started are ended after the test."""
    studies: list[Study] = []

    def make(cluster: Cluster, *, results: Path | None = None, profile: str = "", **grid: object) -> Study:
        folder = tmp_path / f"study-{len(studies)}"
        folder.mkdir()
        studies.append(Study.make(folder, results or folder / "results", images, cluster.env, profile, **grid))
        return studies[-1]

    yield make
    for one in studies:
        one.end()
