"""Paths that jobs in a container would not find are named before anything is submitted."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.grid import FoldSettings, Grid, Settings
from bench.planning import plan
from bench.submission import container_paths
from bench.worker.code import code_version

GRID = Grid("g", ("sam_nano",), ("full",), Settings(weights="random", folds=FoldSettings(n_splits=2)), classical=False)
RUNS = plan.make(GRID, "d").runs
CODE = code_version().path


@pytest.fixture
def found(tmp_path):
    """Return the problems of a profile with these lines, for folders below `tmp_path`."""

    def problems(*lines: str, runs=RUNS, results: Path = tmp_path / "results") -> list[str]:
        path = tmp_path / "profile.toml"
        path.write_text("\n".join(lines))
        return container_paths.problems(
            runs, profile_name=str(path), results=results, data=tmp_path / "data", weights=tmp_path / "weights"
        )

    return problems


def test_without_a_container_nothing_is_said(found):
    assert found("gpus = 1") == [] and found("no toml") == []


def test_what_no_mount_shows_is_named_with_the_mounts_to_add(found, tmp_path):
    (sentence,) = found("[container]", "image = 'ubuntu'", "python = 'python3'")
    assert sentence == (
        f"profile {tmp_path / 'profile.toml'}: container: no mount shows the results folder ({tmp_path / 'results'}), "
        f"the images ({tmp_path / 'data'}), the code ({CODE}) at the same path as here; add to mounts: "
        + ", ".join(f'"{path}:{path}"' for path in sorted([CODE, str(tmp_path / "data"), str(tmp_path / "results")]))
        + ". If the nodes show it all the same, write check_paths = false in the container."
    )
    assert found("[container]", "image = 'ubuntu'", "check_paths = false") == []
    mounts = f"mounts = ['{tmp_path}:{tmp_path}', '{CODE}:{CODE}']"
    assert found("[container]", "image = 'ubuntu'", "python = 'python3'", mounts) == []
    (other,) = found("[container]", "image = 'ubuntu'", "python = 'python3'", mounts.replace(f"{tmp_path}:", "/tmp:"))
    assert "the results folder" in other and "the code" not in other


def test_the_environment_is_needed_unless_the_image_has_its_own_python(found):
    (sentence,) = found("[container]", "image = 'ubuntu'")
    assert f"its Python environment ({sys.prefix})" in sentence
    assert 'Or name the Python of the image: python = "python3".' in sentence


def test_no_mount_over_the_image_s_own_system_is_asked_for(found, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))
    monkeypatch.setattr(sys, "base_prefix", "/usr/local")
    (sentence,) = found("[container]", "image = 'ubuntu'", f"mounts = ['{tmp_path}:{tmp_path}', '{CODE}:{CODE}']")
    assert (
        "no mount shows the Python of this environment (/usr/local) at the same path as here. Or name the" in sentence
    )


def test_cached_embeddings_need_their_cache(found, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cached = [replace(run, embeddings="cached") for run in RUNS]
    (sentence,) = found("[container]", "image = 'ubuntu'", "python = 'python3'", runs=cached)
    assert f"the cache of embeddings ({tmp_path / 'cache' / 'nuclei-bench' / 'embeddings'})" in sentence


def test_checkpoints_are_needed_by_runs_that_start_from_them(found, tmp_path):
    official = [replace(run, weights="official") for run in RUNS]
    (sentence,) = found("[container]", "image = 'ubuntu'", "python = 'python3'", runs=official)
    assert f"the checkpoints ({tmp_path / 'weights'})" in sentence


def test_images_and_sources_that_are_not_here_and_read_only_results_are_refused(found, tmp_path):
    mounts = f"mounts = ['{tmp_path}:{tmp_path}:ro', '{CODE}:{CODE}', '/nowhere:/nowhere']"
    image, source, read_only = found("[container]", "image = '/no/such.sqsh'", "python = 'python3'", mounts)
    assert "there is no image /no/such.sqsh." in image
    assert "there is no /nowhere, which mounts = '/nowhere:/nowhere' shows." in source
    assert f"the mount that shows the results folder {tmp_path / 'results'} is read-only." in read_only
