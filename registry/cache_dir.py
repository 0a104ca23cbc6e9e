"""Folders of the user's cache, by the XDG convention: checkpoints, datasets, estimates, embeddings, probes."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

from registry.errors import CacheDirError


def root() -> Path:
    """Return ``$XDG_CACHE_HOME/nuclei-bench``, or ``~/.cache/nuclei-bench``.

    A relative ``XDG_CACHE_HOME`` is ignored, as the XDG Base Directory Specification demands: jobs have working
    directories of their own.

    Raises:
        CacheDirError: there is no home folder: neither variable is set and the user has no passwd entry.
    """
    configured = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if configured.is_absolute():
        return configured / "nuclei-bench"
    try:
        return Path.home() / ".cache" / "nuclei-bench"
    except RuntimeError:
        raise CacheDirError(
            "there is no folder for the cache: HOME and XDG_CACHE_HOME are not set, and user "
            f"{os.getuid()} has no passwd entry. Set HOME or XDG_CACHE_HOME to a folder that can be written."
        ) from None


def weights() -> Path:
    """Return the folder of the official checkpoints."""
    return root() / "weights"


def data(dataset: str) -> Path:
    """Return the folder of a dataset."""
    return root() / "data" / dataset


def estimates() -> Path:
    """Return the folder of the counts that estimates are made from."""
    return root() / "estimates"


def embeddings() -> Path:
    """Return the folder of the embeddings of frozen encoders."""
    return root() / "embeddings"


def probes() -> Path:
    """Return the folder of what was measured once about this machine."""
    return root() / "probes"


def set_missing_user_name() -> None:
    """Set ``LOGNAME`` to ``uid_N`` for a user without name, since torch's compiler and others name caches after it.

    Without a name in the environment or in passwd (containers), `getpass.getuser` raises wherever a library calls it.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):  # KeyError before Python 3.13
        os.environ["LOGNAME"] = f"uid_{os.getuid()}"
