"""Download and unpacking of the release, against a server on this machine and against hostile archives."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import shutil
import stat
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from registry import archive, datasets, layout
from registry.datasets import nuinsseg
from registry.errors import DataError


def release(top: str = "NuInsSeg/") -> bytes:
    """A tiny archive in the release's layout, with folders that are not needed."""
    image, label = io.BytesIO(), io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)).save(image, "PNG")
    Image.fromarray(np.eye(32, dtype=np.uint16)).save(label, "TIFF", compression="packbits")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for stem in ("human_brain_1", "human_brain_10"):
            file.writestr(f"{top}human brain/tissue images/{stem}.png", image.getvalue())
            file.writestr(f"{top}human brain/label masks modify/{stem}.tif", label.getvalue())
            file.writestr(f"{top}human brain/vague areas/mask binary/{stem}.png", image.getvalue())
            file.writestr(f"{top}human brain/label masks/{stem}.tif", label.getvalue())
            file.writestr(f"{top}human brain/mask binary/{stem}.png", image.getvalue())
        file.writestr(f"{top}human brain/Imagj_zips/roi.zip", bytes(3_000_000))
        file.writestr(f"{top}human brain/tissue images/.DS_Store", b"x")
        file.writestr(f"__MACOSX/{top}human brain/tissue images/._human_brain_1.png", b"x")
    return content.getvalue()


class Server:
    """Serves one body under any name; can refuse ranges and cut the body; keeps the requested ranges."""

    def __init__(self, body: bytes) -> None:
        self.body, self.ranges, self.cut, self.requests = body, True, 0, []  # type: ignore[var-annotated]
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                requested = self.headers.get("Range")
                outer.requests.append(requested)
                start = int(requested.removeprefix("bytes=").rstrip("-")) if requested and outer.ranges else 0
                status = 404 if not self.path.endswith(".zip") else 416 if start >= len(outer.body) else 200
                self.send_response(206 if start and status == 200 else status)
                self.send_header("Content-Length", str(len(outer.body) - start if status == 200 else 0))
                self.end_headers()
                if status == 200:
                    self.wfile.write(outer.body[start : outer.cut or None])

            def log_message(self, *_: object) -> None:
                """Nothing on the terminal."""

        self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_port}"
        threading.Thread(target=self.httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server(release())
    monkeypatch.setenv("BENCH_DATA_MIRROR", server.url + "/")
    monkeypatch.delenv("BENCH_DATA_SHA256", raising=False)
    yield server
    server.httpd.shutdown()
    server.httpd.server_close()


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# --- download


def test_prepare_downloads_unpacks_what_is_needed_and_is_done(server: Server, tmp_path: Path) -> None:
    root = tmp_path / "data" / "nuinsseg"
    datasets.get("nuinsseg").prepare(root)
    assert files_below(root) == [
        "NuInsSeg/human brain/label masks modify/human_brain_1.tif",
        "NuInsSeg/human brain/label masks modify/human_brain_10.tif",
        "NuInsSeg/human brain/tissue images/human_brain_1.png",
        "NuInsSeg/human brain/tissue images/human_brain_10.png",
        "NuInsSeg/human brain/vague areas/mask binary/human_brain_1.png",
        "NuInsSeg/human brain/vague areas/mask binary/human_brain_10.png",
    ]
    assert datasets.get("nuinsseg").check(root).organs == {"human brain": {"samples": 2, "nuclei": 2, "problems": 0}}
    assert sorted(path.name for path in root.parent.iterdir()) == ["NuInsSeg.zip", "nuinsseg"]
    datasets.get("nuinsseg").prepare(root)  # there already
    shutil.rmtree(root)
    datasets.get("nuinsseg").prepare(root)  # from the archive that was kept
    assert server.requests == [None]


def test_a_cut_download_continues(server: Server, tmp_path: Path) -> None:
    server.cut = 2_000_000
    with pytest.raises(DataError, match="broke off") as caught:
        datasets.get("nuinsseg").prepare(tmp_path / "nuinsseg")
    assert "NuInsSeg.zip.part; run the same again to continue." in str(caught.value)
    arrived = (tmp_path / "NuInsSeg.zip.part").stat().st_size
    assert 0 < arrived <= 2_000_000
    server.cut = 0
    datasets.get("nuinsseg").prepare(tmp_path / "nuinsseg")
    assert server.requests == [None, f"bytes={arrived}-"]
    assert (tmp_path / "NuInsSeg.zip").read_bytes() == server.body


def test_without_ranges_it_starts_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "NuInsSeg.zip.part").write_bytes(b"some other beginning")
    datasets.get("nuinsseg").prepare(tmp_path / "nuinsseg")
    assert server.requests == ["bytes=20-"]
    assert (tmp_path / "NuInsSeg.zip").read_bytes() == server.body


def test_wrong_digest_is_kept_aside(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DATA_SHA256", "00ff")
    digest = hashlib.sha256(server.body).hexdigest()
    with pytest.raises(DataError, match=f"has the SHA-256 {digest} instead of 00ff. It is kept aside as .*rejected"):
        datasets.get("nuinsseg").prepare(tmp_path / "nuinsseg")
    assert [path.name for path in tmp_path.iterdir()] == ["NuInsSeg.zip.rejected"]
    monkeypatch.setenv("BENCH_DATA_SHA256", digest)
    datasets.get("nuinsseg").prepare(tmp_path / "nuinsseg")


def test_wrong_size_is_kept_aside(server: Server, tmp_path: Path) -> None:
    size = len(server.body)
    with pytest.raises(DataError, match=f"has {size:,} bytes instead of 7. It is kept aside"):
        archive.fetch(f"{server.url}/a.zip", tmp_path / "a.zip", size_bytes=7, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip.rejected"]


def test_absent_file_and_absent_server(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="broke off: 404"):
        archive.fetch(f"{server.url}/a.txt", tmp_path / "a.zip", progress=False)
    server.httpd.shutdown()
    server.httpd.server_close()
    with pytest.raises(DataError, match="broke off"):
        archive.fetch(f"{server.url}/b.zip", tmp_path / "b.zip", progress=False)
    assert not list(tmp_path.glob("*.zip"))


def test_full_disk_is_reported_before_anything_is_written(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(DataError, match=r"not enough space to download .* MiB free. Nothing was written"):
        archive.fetch(f"{server.url}/a.zip", tmp_path / "a.zip", size_bytes=len(server.body), progress=False)
    assert server.requests == []
    (tmp_path / "NuInsSeg.zip").write_bytes(server.body)
    with pytest.raises(DataError, match="not enough space to unpack"):
        datasets.get("nuinsseg").prepare(tmp_path / "nuinsseg")
    assert [path.name for path in tmp_path.iterdir()] == ["NuInsSeg.zip"]


def test_prepare_leaves_other_files_alone(server: Server, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("text")
    with pytest.raises(DataError, match="exists and holds something else; name an empty or new folder"):
        datasets.get("nuinsseg").prepare(tmp_path)
    assert server.requests == []


# --- unpacking


def write_zip(path: Path, *members: zipfile.ZipInfo | str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for member in members:
            file.writestr(member, b"content")
    return path


def link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    ("member", "why"),
    [
        ("../outside.png", "leads out of the target folder"),
        ("organ/tissue images/../../../outside.png", "leads out of the target folder"),
        ("/etc/outside.png", "is an absolute path or one of another system"),
        ("C:/outside.png", "is an absolute path or one of another system"),
        ("..\\outside.png", "is an absolute path or one of another system"),
        (link("organ/tissue images/s.png"), "is a symbolic link"),
    ],
)
def test_hostile_members_are_refused(tmp_path: Path, member: zipfile.ZipInfo | str, why: str) -> None:
    path = write_zip(tmp_path / "a.zip", "organ/tissue images/good.png", member)
    with pytest.raises(DataError, match=f"is not safe to unpack: its member .* {why}. Nothing was unpacked"):
        archive.unpack(path, tmp_path / "target", lambda _: True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zip"]


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", "organ/s.png")
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"its member 'organ/s\.png' is encrypted"):
        archive.unpack(path, tmp_path / "target", lambda _: True)


def test_damaged_archives(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(release()[:900])
    with pytest.raises(DataError, match=r"is damaged or no zip archive .*; remove it and fetch it again"):
        archive.unpack(path, tmp_path / "target", lambda _: True)
    content = bytearray(write_zip(path, "organ/s.png").read_bytes())
    content[content.index(b"content")] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="Bad CRC-32"):
        archive.unpack(path, tmp_path / "target", lambda _: True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zip"]


def test_names_that_are_not_what_the_archive_says_of_them(tmp_path: Path) -> None:
    """Marked as UTF-8, and no UTF-8."""
    path = write_zip(tmp_path / "a.zip", "organ/é.png")
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xfe"))
    with pytest.raises(DataError, match=r"is damaged or no zip archive .*; remove it and fetch it again"):
        archive.unpack(path, tmp_path / "target", lambda _: True)


def test_damaged_lzma_members(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as file:
        file.writestr("organ/s.png", bytes(range(256)) * 8)
    content = bytearray(path.read_bytes())
    at = content.index(b"organ/s.png") + len("organ/s.png") + 4
    content[at : at + 5] = b"\xff" * 5  # the properties of the coder
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"is damaged or no zip archive .*; remove it and fetch it again"):
        archive.unpack(path, tmp_path / "target", lambda _: True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zip"]


def test_folders_follow_the_umask(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", "organ/s.png")
    before = os.umask(0o027)
    try:
        archive.unpack(path, tmp_path / "target", lambda _: True)
    finally:
        os.umask(before)
    assert {p.stat().st_mode & 0o777 for p in (tmp_path / "target", tmp_path / "target" / "organ")} == {0o750}


def test_archive_without_anything_wanted(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", "other/file.txt")
    with pytest.raises(DataError, match="holds none of the wanted files; is it the right archive"):
        archive.unpack(path, tmp_path / "target", nuinsseg._is_needed)


def test_target_that_holds_something(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", "organ/s.png")
    with pytest.raises(DataError, match="exists and is not an empty folder"):
        archive.unpack(path, tmp_path, lambda _: True)
    (tmp_path / "empty").mkdir()
    assert archive.unpack(path, tmp_path / "empty", lambda _: True) == 1
    assert (tmp_path / "empty" / "organ" / "s.png").read_bytes() == b"content"


def test_layout_names_are_those_that_are_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(release(top=""))
    assert archive.unpack(path, tmp_path / "target", nuinsseg._is_needed) == 6
    assert len(layout.samples(tmp_path / "target", obtain="")) == 2
