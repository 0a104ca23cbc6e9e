"""Names that this process knows and a fresh one would not, because only this one has imported what registers them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import bench
from bench.errors import PluginError
from bench.planning import plugins
from registry import backbones, datasets, heads, strategies
from registry.errors import RegistryError
from registry.store import local_names

_LOOK_UP = {"backbone": backbones.card, "strategy": strategies.get, "head": heads.get, "dataset": datasets.get}
_FOLDER = Path(bench.__file__).parent / "worker" / "import_path"  # the path of workers, see its `__init__`
_CODE = """import sys
sys.path.insert(0, sys.argv[1])
from bench.planning import fresh_process
fresh_process.print_problems(sys.argv[2])
"""
_ANSWER = "problems of the plug-ins: "


def problems(names: Mapping[str, Sequence[str]], sources: Sequence[Path]) -> list[str]:
    """Return a sentence for each name that a fresh process does not find. Workers are such processes.

    The process is started only if a name is neither this program's own nor an entry point's.

    Args:
        names: by kind: ``backbone``, ``strategy``, ``head``, ``dataset``. Names unknown in this process are left out.
        sources: plug-ins that the process loads first.
    """
    local = local_names()
    wanted = [(kind, name) for kind, listed in names.items() for name in listed if (kind, name) in local]
    if not wanted:
        return []
    request = json.dumps({"sources": [str(source) for source in sources], "names": wanted})
    # -P: a file in the current folder must not take the place of a package.
    command = [sys.executable, "-P", "-c", _CODE, str(_FOLDER), request]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    for line in done.stdout.splitlines():  # a plug-in may print, too
        if line.startswith(_ANSWER):
            return [str(problem) for problem in json.loads(line.removeprefix(_ANSWER))]
    said = done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
    return [f"a fresh Python process, as workers are, can't load the plug-ins: {said}"]


def print_problems(request: str) -> None:
    """Load the plug-ins, look the names up, and print what is wrong as a JSON list in one line; see `problems`."""
    wanted = json.loads(request)
    sentences: list[str] = []
    try:
        plugins.load([Path(source) for source in wanted["sources"]])
    except PluginError as error:
        sentences.append(str(error))
    for kind, name in wanted["names"] if not sentences else ():
        try:
            _LOOK_UP[kind](name)
        except RegistryError:
            sentences.append(
                f"the {kind} {name!r} is registered in this process, but a worker would not find it: register it in "
                "the grid file, in a file that the grid file imports from its own folder, or with --plugins DIR."
            )
    print("\n" + _ANSWER + json.dumps(sentences))
