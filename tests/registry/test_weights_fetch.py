"""Download, verification and digests of official checkpoints."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from registry import backbones, weights
from registry.card import Card, Checkpoint
from registry.errors import WeightsError

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
BLOB_SHA1 = hashlib.sha1(b"blob 1048576\0" + CONTENT).hexdigest()
FILE = "model.pt"


@dataclass
class Mirror:
    """A local HTTP server: its answer, and the ``Range`` header of every request."""

    url: str = ""
    content: bytes = CONTENT
    cut_after: int | None = None
    ranges: bool = True
    requested: list[str | None] = field(default_factory=list)


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    state = Mirror()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given_range = self.headers["Range"]
            state.requested.append(given_range)
            if self.path != f"/weights/{FILE}":
                self.send_error(404)
                return
            start = int(given_range.removeprefix("bytes=").removesuffix("-")) if given_range and state.ranges else 0
            if start and start >= len(state.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(state.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = state.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if state.cut_after is None else body[: state.cut_after])

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/weights/"
    monkeypatch.setenv("BENCH_WEIGHTS_MIRROR", state.url)
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def card_of(**fields: Any) -> Card:
    """mobile_sam's card with the test's file as its checkpoint."""
    checkpoint = Checkpoint(url="https://weights.invalid/elsewhere", filename=FILE, **fields)
    return replace(backbones.card("mobile_sam"), checkpoint=checkpoint)


CARD = card_of(sha256=SHA256, size_bytes=len(CONTENT))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_fetch_downloads_once(mirror: Mirror, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    for _ in range(2):
        path = weights.fetch(CARD, folder, progress=False)
        assert path == folder / FILE
        assert path.read_bytes() == CONTENT
    assert mirror.requested == [None]
    assert names(folder) == {FILE}
    assert weights.check(CARD, folder) == weights.Status("mobile_sam", path, "ok", "sha256 as published")


def test_a_progress_bar_is_drawn(mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights.fetch(CARD, tmp_path, progress=True)
    assert FILE in capsys.readouterr().out


def test_a_cut_download_is_kept_and_continued(mirror: Mirror, tmp_path: Path) -> None:
    mirror.cut_after = 400_000
    with pytest.raises(WeightsError, match=r"broke off: .* bytes are kept in .*model\.pt\.part; run the same"):
        weights.fetch(CARD, tmp_path, progress=False)
    assert names(tmp_path) == {f"{FILE}.part"}
    assert weights.check(CARD, tmp_path).state == "missing"
    kept = (tmp_path / f"{FILE}.part").stat().st_size
    assert 0 < kept <= 400_000
    mirror.cut_after = None
    assert weights.fetch(CARD, tmp_path, progress=False).read_bytes() == CONTENT
    assert mirror.requested == [None, f"bytes={kept}-"]
    assert names(tmp_path) == {FILE}


def test_a_server_without_ranges_is_read_from_the_start(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / f"{FILE}.part").write_bytes(CONTENT[:1000])
    mirror.ranges = False
    assert weights.fetch(CARD, tmp_path, progress=False).read_bytes() == CONTENT


@pytest.mark.parametrize("part", [CONTENT, CONTENT + b"more"], ids=["complete", "too long"])
def test_a_part_that_needs_no_more_bytes(mirror: Mirror, tmp_path: Path, part: bytes) -> None:
    (tmp_path / f"{FILE}.part").write_bytes(part)
    assert weights.fetch(CARD, tmp_path, progress=False).read_bytes() == CONTENT
    assert mirror.requested[0] == f"bytes={len(part)}-"
    assert len(mirror.requested) == (1 if part == CONTENT else 2)


@pytest.mark.parametrize("content", [CONTENT[:-1], b"x" + CONTENT[1:]], ids=["truncated", "altered"])
def test_a_wrong_download_is_kept_aside(mirror: Mirror, tmp_path: Path, content: bytes) -> None:
    mirror.content = content
    message = rf"model\.pt was refused: its sha256 is \w+, not {SHA256} \({len(content):,} of 1,048,576 bytes"
    with pytest.raises(WeightsError, match=message) as raised:
        weights.fetch(CARD, tmp_path, progress=False)
    assert str(tmp_path / f"{FILE}.rejected") in str(raised.value)
    assert names(tmp_path) == {f"{FILE}.rejected"}
    assert (tmp_path / f"{FILE}.rejected").read_bytes() == content
    mirror.content = CONTENT
    assert weights.fetch(CARD, tmp_path, progress=False).read_bytes() == CONTENT


def test_a_wrong_file_in_place_is_reported_and_kept_aside(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(CONTENT[:-1])
    status = weights.check(CARD, tmp_path)
    assert status.state == "wrong digest"
    assert re.match(rf"1,048,575 bytes, sha256 \w+ instead of {SHA256}; move it away", status.detail)
    assert names(tmp_path) == {FILE}
    with pytest.raises(WeightsError, match="was refused"):
        weights.fetch(CARD, tmp_path, progress=False)
    assert names(tmp_path) == {f"{FILE}.rejected"}
    assert mirror.requested == []


def test_a_git_blob_digest_is_compared(mirror: Mirror, tmp_path: Path) -> None:
    card = card_of(git_blob_sha1=BLOB_SHA1)
    path = weights.fetch(card, tmp_path, progress=False)
    assert weights.check(card, tmp_path).detail == "git blob sha1 as published"
    path.write_bytes(b"another")
    assert weights.check(card, tmp_path).state == "wrong digest"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of files whose sha256 was computed, in order."""
    names: list[str] = []
    original = hashlib.file_digest

    def file_digest(file: Any, kind: str) -> Any:
        names.append(Path(file.name).name)
        return original(file, kind)

    monkeypatch.setattr(hashlib, "file_digest", file_digest)
    return names


def test_a_file_is_hashed_once_per_process(tmp_path: Path, hashed: list[str]) -> None:
    (tmp_path / FILE).write_bytes(CONTENT)
    for _ in range(3):
        assert weights.check(CARD, tmp_path).state == "ok"
    assert hashed == [FILE]


def test_a_download_is_verified_from_its_bytes(mirror: Mirror, tmp_path: Path, hashed: list[str]) -> None:
    weights.fetch(CARD, tmp_path, progress=False)
    weights.fetch(CARD, tmp_path, progress=False)  # reads the file in place
    assert hashed == [f"{FILE}.part", FILE]


def test_without_a_published_digest_the_first_download_is_trusted(mirror: Mirror, tmp_path: Path) -> None:
    card = card_of()
    path = weights.fetch(card, tmp_path, progress=False)
    assert (tmp_path / f"{FILE}.sha256").read_text() == f"{SHA256}  {FILE}\n"
    assert weights.check(card, tmp_path).detail == "sha256 as at the first download"
    path.unlink()
    mirror.content = CONTENT[::-1]
    with pytest.raises(WeightsError, match=f"not {SHA256}"):
        weights.fetch(card, tmp_path, progress=False)
    (tmp_path / f"{FILE}.sha256").unlink()
    path.write_bytes(CONTENT)
    status = weights.check(card, tmp_path)
    assert (status.state, SHA256 in status.detail) == ("unverified", True)


def test_an_http_error_and_a_refused_connection_are_reported(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_WEIGHTS_MIRROR", f"{mirror.url}nowhere")
    with pytest.raises(WeightsError, match=r"nowhere/model\.pt broke off: 404 Client Error"):
        weights.fetch(CARD, tmp_path, progress=False)
    monkeypatch.setenv("BENCH_WEIGHTS_MIRROR", "http://127.0.0.1:1")
    with pytest.raises(WeightsError, match=r"the download of http://127\.0\.0\.1:1/model\.pt broke off"):
        weights.fetch(CARD, tmp_path, progress=False)
    assert not (tmp_path / FILE).exists()


def test_a_folder_that_cannot_be_made_is_reported(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("")
    with pytest.raises(WeightsError, match=r"model\.pt could not be written: .* or name another folder with --weights"):
        weights.fetch(CARD, tmp_path / "occupied" / "folder", progress=False)


def test_a_second_download_of_the_same_file_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    import fcntl

    with (tmp_path / f"{FILE}.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(WeightsError, match=r"another process is writing .*model\.pt\.part"):
            weights.fetch(CARD, tmp_path, progress=False)


PAGE = b"<!DOCTYPE html>\n<html><body>Sign in to continue</body></html>"


@pytest.mark.parametrize("card", [CARD, card_of()], ids=["with digest", "without digest"])
def test_a_web_page_in_place_of_the_file_is_refused(card: Card, mirror: Mirror, tmp_path: Path) -> None:
    mirror.content = PAGE
    with pytest.raises(WeightsError) as raised:
        weights.fetch(card, tmp_path, progress=False)
    text = str(raised.value)
    assert text.startswith(f"{FILE} was refused: it is an HTML page: the download was answered by a web site")
    assert "it begins with '<!DOCTYPE html>'" in text
    assert text.endswith(
        f"If {mirror.url}{FILE} does not give the file, download it in a browser, or set {weights.MIRROR}."
    )
    assert names(tmp_path) == {f"{FILE}.rejected"}  # and no side file that trusts its digest
    mirror.content = CONTENT
    assert weights.fetch(card, tmp_path, progress=False).read_bytes() == CONTENT


def test_a_web_page_in_place_without_a_digest_is_not_trusted(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(PAGE)
    with pytest.raises(
        WeightsError, match=r"was refused: it is an HTML page.*run the same again to download it anew\.$"
    ):
        weights.fetch(card_of(), tmp_path, progress=False)
    assert names(tmp_path) == {f"{FILE}.rejected"}


def test_a_file_or_folder_that_cannot_be_read_has_a_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / FILE).mkdir()
    assert weights.check(CARD, tmp_path).detail.startswith("is a folder; move it away and run")

    def denied(*_: object) -> str:
        raise PermissionError(13, "Permission denied")

    (tmp_path / FILE).rmdir()
    (tmp_path / FILE).write_bytes(CONTENT)
    monkeypatch.setattr(weights, "wrong_content", denied)
    status = weights.check(CARD, tmp_path)
    assert (status.state, status.usable) == ("unreadable", False)
    assert status.detail == "Permission denied; fix its permissions or its disk"


def test_a_backbone_without_weights_is_refused() -> None:
    with pytest.raises(WeightsError, match="sam_nano has no official weights"):
        weights.path(backbones.card("sam_nano"))


def test_the_default_folder_is_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    card = backbones.card("sam_vit_b")
    assert weights.path(card) == tmp_path / "nuclei-bench" / "weights" / "sam_vit_b_01ec64.pth"
    assert weights.path(card, tmp_path) == tmp_path / "sam_vit_b_01ec64.pth"
