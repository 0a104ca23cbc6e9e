"""Containers of cluster profiles: what is refused, and the options and commands that start them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import ClusterError
from bench.slurm.container import Container
from bench.slurm.profile import load_profile

PYXIS = Container("/images/bench.sqsh", mounts=("/shared:/shared", "/data:/data:ro"), arguments=("--no-container-x",))


def profile_text(tmp_path: Path, text: str) -> str:
    path = tmp_path / "profile.toml"
    path.write_text(text)
    return str(path)


def test_a_container_is_read_with_its_profile(tmp_path):
    text = """
        partition = "gpu"
        [container]
        runtime = "apptainer"
        image = "docker://pytorch/pytorch:2.6.0"
        mounts = ["/shared:/shared"]
        python = "python3"
    """
    profile = load_profile(profile_text(tmp_path, text))
    assert profile.container == Container(
        "docker://pytorch/pytorch:2.6.0", mounts=("/shared:/shared",), runtime="apptainer", python="python3"
    )
    assert str(profile.container) == "apptainer: docker://pytorch/pytorch:2.6.0, mounts /shared:/shared"


def test_pyxis_is_started_by_options_of_srun():
    assert PYXIS.srun_arguments() == [
        "--container-image=/images/bench.sqsh",
        "--container-mounts=/shared:/shared,/data:/data:ro",
        "--no-container-x",
    ]
    assert PYXIS.command(has_gpu=True) == ""
    assert Container("nvcr.io#nvidia/pytorch:24.01").srun_arguments() == [
        "--container-image=nvcr.io#nvidia/pytorch:24.01"
    ]


def test_apptainer_is_a_command_before_python():
    container = Container("/a b.sif", mounts=("/s:/s",), runtime="apptainer", arguments=("--cleanenv",))
    assert container.srun_arguments() == []
    assert container.command(has_gpu=True) == "apptainer exec --nv --bind /s:/s --cleanenv '/a b.sif'"
    assert container.command(has_gpu=False) == "apptainer exec --bind /s:/s --cleanenv '/a b.sif'"
    rocm = Container("/x.sif", runtime="singularity", arguments=("--rocm",))
    assert rocm.command(has_gpu=True) == "singularity exec --rocm /x.sif"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("container = 'x.sqsh'", "is not of type dict: write a table, such as { image = "),
        ("container = {}", 'container has no image: write container = { image = "/shared/images/bench.sqsh"'),
        ("container = { imag = '/x' }", "unknown key of container 'imag'. Did you mean 'image'?"),
        ("[container]\nimage = '/x'\nqos = 'a'", "container.qos: qos is a key of the profile itself; write it above"),
        ("container = { image = 'x.sqsh' }", "container.image = 'x.sqsh' is a relative path"),
        ("container = { image = './x' }", "container.image = './x' is a relative path"),
        ("container = { image = ' ' }", "container.image = ' ' must be a text in quotes."),
        (
            "container = { image = 'a/b:1', runtime = 'apptainer' }",
            "apptainer takes a path from / or an address such as 'docker://a/b:1'.",
        ),
        (
            "container = { image = '/x', runtime = 'aptainer' }",
            "unknown container.runtime 'aptainer'. Did you mean 'apptainer'? Known: pyxis, apptainer, singularity.",
        ),
        (
            "container = { image = '/x', mounts = '/a:/a' }",
            "container.mounts = '/a:/a' must be a list of texts, such as [\"/shared:/shared\"].",
        ),
        (
            "container = { image = '/x', mounts = ['/a'] }",
            "container.mounts: '/a' has no colon: write SOURCE:TARGET, such as '/a:/a'.",
        ),
        ("container = { image = '/x', mounts = ['/a:'] }", "'/a:' is not SOURCE:TARGET or SOURCE:TARGET:FLAGS"),
        ("container = { image = '/x', mounts = ['/a:/a,/b:/b'] }", "has a comma, which separates mounts"),
        ("container = { image = '/x', mounts = ['data:/data'] }", "'data' is a relative path; write it from /."),
        (
            "container = { image = '/x', arguments = ['--container-mounts=/a:/a'] }",
            "container.arguments: '--container-mounts=/a:/a' is what container.mounts says.",
        ),
        ("container = { image = '/x', python = 'bin/python' }", "container.python = 'bin/python' is a relative path"),
        ("container = { image = '/x', check_paths = 1 }", "container.check_paths = 1 must be true or false."),
    ],
)
def test_what_no_container_could_be_is_refused(tmp_path, text, message):
    with pytest.raises(ClusterError) as caught:
        load_profile(profile_text(tmp_path, text))
    assert message in str(caught.value)


def test_a_path_is_shown_if_its_longest_mount_keeps_its_name(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    container = Container("/x", mounts=("/shared:/shared", "/a:/shared/b", "/c/:/c:ro+rprivate"))
    assert container.shows(Path("/shared/results")) and container.shows(Path("/shared"))
    assert not container.shows(Path("/shared/b/c"))  # /a lies there
    assert not container.shows(Path("/shared2")) and not container.shows(Path("/a"))
    assert container.is_read_only(Path("/c/d")) and not container.is_read_only(Path("/shared/results"))
    assert not container.shows(Path("/home/me/x"))
    assert Container("/x", arguments=("--container-mount-home",)).shows(Path("/home/me/x"))
    assert Container("/x", runtime="apptainer").shows(Path("/home/me/x"))
    assert not Container("/x", runtime="apptainer", arguments=("--containall",)).shows(Path("/home/me/x"))
