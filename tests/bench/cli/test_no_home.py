"""The command line in a container whose user has neither HOME nor a passwd entry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("verb", [["weights", "check", "mobile_sam"], ["plan"], ["data", "fetch", "synthetic"]])
def test_the_command_line_without_home_ends_with_the_sentence(verb: list[str], tmp_path: Path) -> None:
    unshare = ("unshare", "--user", "--map-user=12345", "--map-group=12345")
    try:
        subprocess.run([*unshare, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a user without passwd entry can't be made here: {error}")
    command = [*unshare, sys.executable, "-m", "bench.cli", *verb]
    done = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no folder for the cache: HOME and XDG_CACHE_HOME are not set")
    assert "Traceback" not in done.stderr + done.stdout
