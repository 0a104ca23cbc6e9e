"""Files under a checkpoint's name that are none are described by what they are."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save as safetensors_bytes

from registry import backbones, weights
from registry.checkpoint_kind import wrong_content
from registry.errors import WeightsError

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:6dbb90523a35330fedd7f1d3dfc66f99\nsize 40728226\n"


def torch_bytes(**options: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(300)}, buffer, **options)
    return buffer.getvalue()


def zip_bytes(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return buffer.getvalue()


def tar_bytes(mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        archive.addfile(tarfile.TarInfo("model.pt"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "description"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", "is an HTML page"),
        (b"<html>" + b" " * 600, "is an HTML page"),
        (LFS, "is a Git LFS pointer"),
        (json.dumps({"message": "Not Found"}).encode(), 'is JSON; it begins with \'{"message": "Not Found"}\''),
        (
            "Zugriff verweigert: große Datei\n".encode() * 30,
            "is text; it begins with 'Zugriff verweigert: große Datei'",
        ),
        (b"x" * 100, "is text; it begins with 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…'"),
        (tar_bytes("w"), "is a tar archive"),
        (gzip.compress(tar_bytes("w"), mtime=0), "is a gzip archive"),
        (tar_bytes("w:xz"), "is an xz archive"),
        (torch_bytes()[:900], "is a zip archive, as torch writes it, that is cut off after 900 bytes"),
        (zip_bytes("readme.md", "a", "b", "c"), "is a zip archive that holds no checkpoint (readme.md, a, b, …)"),
        (zip_bytes(), "is a zip archive that holds no checkpoint (nothing)"),
        (safetensors_bytes({"a": torch.zeros(3)}), "is a safetensors file; torch's own format (.pt, .pth) is needed"),
    ],
)
def test_what_is_no_checkpoint_is_described(content: bytes, description: str, tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    file.write_bytes(content)
    assert wrong_content(file).startswith(description)


@pytest.mark.parametrize("beginning", ["<!DOCTYPE html>", "version https://git-lfs.github.com/spec/…"])
def test_the_first_line_is_quoted(beginning: str, tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    file.write_bytes(LFS if "lfs" in beginning else b"\xef\xbb\xbf<!DOCTYPE html>\r\n<html>")
    assert wrong_content(file).endswith(f"; it begins with {beginning!r}")


@pytest.mark.parametrize(
    "content",
    [
        torch_bytes(),
        torch_bytes(_use_new_zipfile_serialization=False),
        pickle.dumps(OrderedDict(a=1), protocol=0),  # text, and parsed as a pickle that may hold code
        zip_bytes("folder/efficient_sam_vits.pt"),
        bytes(range(256)),
    ],
    ids=["zip", "legacy", "protocol 0", "member", "unknown"],
)
def test_what_may_be_a_checkpoint_is_not_described(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    file.write_bytes(content)
    assert wrong_content(file, member="efficient_sam_vits.pt") == ""


@pytest.mark.parametrize("content", [b"<!DOCTYPE html><p>", LFS, b"", torch_bytes()[:900], b'{"error": 1}'])
def test_loading_says_what_the_file_is(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "mobile_sam.pt"
    file.write_bytes(content)
    with pytest.raises(WeightsError) as raised:
        backbones.build("mobile_sam", 64, file)
    text = str(raised.value)
    assert text == f"{file} {wrong_content(file)}. Fetch the official file with `bench weights fetch mobile_sam`."
    assert "code" not in text


def test_checking_says_what_the_file_is(tmp_path: Path) -> None:
    card = backbones.card("mobile_sam")
    (tmp_path / "mobile_sam.pt").write_bytes(LFS)
    status = weights.check(card, tmp_path)
    assert (status.state, status.usable) == ("wrong digest", False)
    assert "; the file is a Git LFS pointer: fetch the file itself with `git lfs pull`; it begins" in status.detail
    (tmp_path / "tinysam_42.3.pth").write_bytes(b"<!DOCTYPE html><p>")  # no digest is published
    status = weights.check(backbones.card("tiny_sam"), tmp_path)
    assert (status.state, status.usable) == ("not a checkpoint", False)
    assert status.detail.startswith("is an HTML page")
    assert status.detail.endswith("; move it away and run `bench weights fetch tiny_sam`")
