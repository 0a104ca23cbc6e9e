"""Checkpoints are fetched whole, verified, and loaded without running what they hold."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import official_files
import pytest
import torch

from registry import backbones, weights
from registry.card import Checkpoint
from registry.errors import UnknownNameError, WeightsError
from registry.sam import Sam

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
BLOB_SHA1 = hashlib.sha1(b"blob 1048576\0" + CONTENT).hexdigest()
FILE = "model.pt"


@dataclass
class Mirror:
    """What the server sends, and what it was asked for."""

    url: str = ""
    content: bytes = CONTENT
    cut_after: int | None = None
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    state = Mirror()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers["Range"]
            state.asked.append(asked)
            if self.path != f"/weights/{FILE}":
                self.send_error(404)
                return
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and state.ranges else 0
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


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """mobile_sam's card names the test's file with its sha256."""
    return publish(monkeypatch, sha256=SHA256, size_bytes=len(CONTENT))


def publish(monkeypatch: pytest.MonkeyPatch, **fields: object) -> Checkpoint:
    checkpoint = Checkpoint(url="https://weights.invalid/elsewhere", filename=FILE, **fields)  # type: ignore[arg-type]
    card = replace(backbones.card("mobile_sam"), checkpoint=checkpoint)
    monkeypatch.setattr(backbones, "card", lambda _name: card)
    return checkpoint


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_fetch_downloads_once(mirror: Mirror, published: Checkpoint, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    for _ in range(2):
        path = weights.fetch("mobile_sam", folder, progress=False)
        assert path == folder / FILE
        assert path.read_bytes() == CONTENT
    assert mirror.asked == [None]
    assert names(folder) == {FILE}
    assert weights.check("mobile_sam", folder) == weights.Status("mobile_sam", path, "ok", "sha256 as published")


def test_progress_is_drawn(
    mirror: Mirror, published: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights.fetch("mobile_sam", tmp_path, progress=True)
    assert FILE in capsys.readouterr().out


def test_a_cut_download_is_kept_and_continued(mirror: Mirror, published: Checkpoint, tmp_path: Path) -> None:
    mirror.cut_after = 400_000
    with pytest.raises(WeightsError, match=r"broke off: .* bytes are kept in .*model\.pt\.part; run the same"):
        weights.fetch("mobile_sam", tmp_path, progress=False)
    assert names(tmp_path) == {f"{FILE}.part"}
    assert weights.check("mobile_sam", tmp_path).state == "missing"
    kept = (tmp_path / f"{FILE}.part").stat().st_size
    assert 0 < kept <= 400_000
    mirror.cut_after = None
    assert weights.fetch("mobile_sam", tmp_path, progress=False).read_bytes() == CONTENT
    assert mirror.asked == [None, f"bytes={kept}-"]
    assert names(tmp_path) == {FILE}


def test_a_server_without_ranges_is_read_from_the_start(mirror: Mirror, published: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / f"{FILE}.part").write_bytes(CONTENT[:1000])
    mirror.ranges = False
    assert weights.fetch("mobile_sam", tmp_path, progress=False).read_bytes() == CONTENT


@pytest.mark.parametrize("part", [CONTENT, CONTENT + b"more"], ids=["complete", "too long"])
def test_a_part_that_needs_no_more_bytes(mirror: Mirror, published: Checkpoint, tmp_path: Path, part: bytes) -> None:
    (tmp_path / f"{FILE}.part").write_bytes(part)
    assert weights.fetch("mobile_sam", tmp_path, progress=False).read_bytes() == CONTENT
    assert mirror.asked[0] == f"bytes={len(part)}-"
    assert len(mirror.asked) == (1 if part == CONTENT else 2)


@pytest.mark.parametrize("content", [CONTENT[:-1], b"x" + CONTENT[1:]], ids=["truncated", "altered"])
def test_a_wrong_download_is_kept_aside(mirror: Mirror, published: Checkpoint, tmp_path: Path, content: bytes) -> None:
    mirror.content = content
    message = rf"model\.pt was refused: its sha256 is \w+, not {SHA256} \({len(content):,} of 1,048,576 bytes"
    with pytest.raises(WeightsError, match=message) as raised:
        weights.fetch("mobile_sam", tmp_path, progress=False)
    assert str(tmp_path / f"{FILE}.rejected") in str(raised.value)
    assert names(tmp_path) == {f"{FILE}.rejected"}
    assert (tmp_path / f"{FILE}.rejected").read_bytes() == content
    mirror.content = CONTENT
    assert weights.fetch("mobile_sam", tmp_path, progress=False).read_bytes() == CONTENT


def test_a_wrong_file_in_place_is_told_and_kept_aside(mirror: Mirror, published: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(CONTENT[:-1])
    status = weights.check("mobile_sam", tmp_path)
    assert status.state == "wrong digest"
    assert re.match(rf"1,048,575 bytes, sha256 \w+ instead of {SHA256}; move it away", status.detail)
    assert names(tmp_path) == {FILE}
    with pytest.raises(WeightsError, match="was refused"):
        weights.fetch("mobile_sam", tmp_path, progress=False)
    assert names(tmp_path) == {f"{FILE}.rejected"}
    assert mirror.asked == []


def test_git_vouches_for_a_blob(mirror: Mirror, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    publish(monkeypatch, git_blob_sha1=BLOB_SHA1)
    path = weights.fetch("mobile_sam", tmp_path, progress=False)
    assert weights.git_blob_sha1(path) == BLOB_SHA1
    assert weights.check("mobile_sam", tmp_path).detail == "git blob sha1 as published"
    path.write_bytes(b"another")
    assert weights.check("mobile_sam", tmp_path).state == "wrong digest"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files whose sha256 was computed, in order."""
    found: list[Path] = []
    digest = hashlib.file_digest

    def counted(file: Any, kind: str) -> Any:
        found.append(Path(file.name))
        return digest(file, kind)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    return found


def test_runs_of_one_process_verify_a_file_once(published: Checkpoint, tmp_path: Path, hashed: list[Path]) -> None:
    path = tmp_path / FILE
    path.write_bytes(CONTENT)
    for _ in range(3):
        assert weights.check("mobile_sam", tmp_path).state == "ok"
        assert weights.digest(path) == SHA256
    assert hashed == [path]


def test_a_file_that_has_changed_is_verified_again(published: Checkpoint, tmp_path: Path, hashed: list[Path]) -> None:
    path, found = tmp_path / FILE, tmp_path / "new"
    path.write_bytes(CONTENT)
    assert weights.check("mobile_sam", tmp_path).state == "ok"
    before = path.stat()
    found.write_bytes(CONTENT[::-1])  # of the same size, made to look as old
    os.utime(found, ns=(before.st_atime_ns, before.st_mtime_ns))
    found.replace(path)
    assert weights.check("mobile_sam", tmp_path).state == "wrong digest"
    assert weights.check("mobile_sam", tmp_path).state == "wrong digest"
    assert hashed == [path, path]


def test_a_download_is_verified_from_its_bytes(
    mirror: Mirror, published: Checkpoint, tmp_path: Path, hashed: list[Path]
) -> None:
    weights.fetch("mobile_sam", tmp_path, progress=False)
    weights.fetch("mobile_sam", tmp_path, progress=False)  # looks at what stands there
    assert [file.name for file in hashed] == [f"{FILE}.part", FILE]


def test_without_a_published_digest_the_first_download_is_trusted(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish(monkeypatch)
    path = weights.fetch("mobile_sam", tmp_path, progress=False)
    assert (tmp_path / f"{FILE}.sha256").read_text() == f"{SHA256}  {FILE}\n"
    assert weights.check("mobile_sam", tmp_path).detail == "sha256 as at the first download"
    path.unlink()
    mirror.content = CONTENT[::-1]
    with pytest.raises(WeightsError, match=f"not {SHA256}"):
        weights.fetch("mobile_sam", tmp_path, progress=False)
    (tmp_path / f"{FILE}.sha256").unlink()
    path.write_bytes(CONTENT)
    status = weights.check("mobile_sam", tmp_path)
    assert (status.state, SHA256 in status.detail) == ("unverified", True)


def test_no_connection_and_no_file_are_told(
    mirror: Mirror, published: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_WEIGHTS_MIRROR", f"{mirror.url}nowhere")
    with pytest.raises(WeightsError, match=r"nowhere/model\.pt broke off: 404 Client Error"):
        weights.fetch("mobile_sam", tmp_path, progress=False)
    monkeypatch.setenv("BENCH_WEIGHTS_MIRROR", "http://127.0.0.1:1")
    with pytest.raises(WeightsError, match=r"the download of http://127\.0\.0\.1:1/model\.pt broke off"):
        weights.fetch("mobile_sam", tmp_path, progress=False)
    assert not (tmp_path / FILE).exists()


def test_two_at_once_do_not_mix(mirror: Mirror, published: Checkpoint, tmp_path: Path) -> None:
    import fcntl

    with (tmp_path / f"{FILE}.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(WeightsError, match=r"another process is writing .*model\.pt\.part"):
            weights.fetch("mobile_sam", tmp_path, progress=False)


def test_names_without_weights_are_told() -> None:
    with pytest.raises(WeightsError, match="sam_nano has no official weights"):
        weights.path("sam_nano")
    with pytest.raises(UnknownNameError, match="Did you mean 'tiny_sam'"):
        weights.check("tinysam")


def test_the_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights.path("sam_vit_b") == tmp_path / "nuclei-bench" / "weights" / "sam_vit_b_01ec64.pth"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert weights.cache_dir() == Path.home() / ".cache" / "nuclei-bench" / "weights"
    assert weights.path("mobile_sam", tmp_path) == tmp_path / "mobile_sam.pt"


# Loading


@cache
def model(name: str) -> Sam:
    """A model to load into; what one test leaves in it does not matter to another."""
    return backbones.get(name).build(64)


def load(name: str, path: Path) -> None:
    weights.load(model(name), backbones.get(name), path)


@pytest.mark.parametrize("name", ["mobile_sam", "efficient_sam_s"])
def test_a_second_model_is_as_published_whatever_became_of_the_first(name: str, tmp_path: Path) -> None:
    path = official_files.write(name, tmp_path)
    content = path.read_bytes()
    first = backbones.build(name, 64, path)
    published = {key: value.clone() for key, value in first.state_dict().items()}
    with torch.no_grad():
        for value in (*first.parameters(), *first.buffers()):
            value.zero_()
    second = backbones.build(name, 64, path)
    assert all(torch.equal(value, published[key]) for key, value in second.state_dict().items())
    assert path.read_bytes() == content


def test_a_checkpoint_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    tensors = official_files.state_dict("mobile_sam")
    path = official_files.write("mobile_sam", tmp_path, tensors)
    key = "mask_decoder.iou_token.weight"
    load("mobile_sam", path)
    kept = model("mobile_sam").state_dict()[key].clone()
    official_files.write("mobile_sam", tmp_path, {**tensors, key: tensors[key] + 1})
    load("mobile_sam", path)
    assert torch.equal(model("mobile_sam").state_dict()[key], kept + 1)


def test_missing_and_left_over_tensors_are_named(tmp_path: Path) -> None:
    tensors = official_files.state_dict("efficient_sam_ti")
    lost = [key for key in tensors if "blocks.3.mlp" in key] + [
        "mask_decoder.iou_token.weight",
        "image_encoder.pos_embed",
    ]
    for key in lost:
        del tensors[key]
    tensors["extra.weight"] = torch.zeros(1)
    tensors["prompt_encoder.invalid_points.weight"] = torch.zeros(1, 128)
    path = official_files.write("efficient_sam_ti", tmp_path, tensors)
    with pytest.raises(WeightsError) as raised:
        load("efficient_sam_ti", path)
    text = str(raised.value)
    assert "does not fit efficient_sam_ti: 6 missing (" in text
    assert text.count("blocks.3.mlp") + text.count("pos_embed") + text.count("iou_token") == 5
    assert "; 1 unexpected (extra.weight)" in text
    assert "1 wrong shape (prompt_encoder.invalid_points.weight (1, 128) instead of (1, 256))" in text


def test_another_models_checkpoint_is_recognised(tmp_path: Path) -> None:
    path = official_files.write("mobile_sam", tmp_path)
    with pytest.raises(WeightsError, match=r"It looks like the checkpoint of mobile_sam or tiny_sam\.$"):
        load("efficient_sam_ti", path)


def test_nothing_is_loaded_from_a_file_that_does_not_fit(tmp_path: Path) -> None:
    entry, sam = backbones.get("efficient_sam_ti"), model("efficient_sam_ti")
    before = {key: value.clone() for key, value in sam.state_dict().items()}
    tensors = official_files.state_dict("efficient_sam_ti")
    del tensors["mask_decoder.iou_token.weight"]
    with pytest.raises(WeightsError):
        weights.load(sam, entry, official_files.write("efficient_sam_ti", tmp_path, tensors))
    assert all(torch.equal(value, before[key]) for key, value in sam.state_dict().items())


def test_tensors_named_as_unused_may_be_there(tmp_path: Path) -> None:
    entry = backbones.get("efficient_sam_ti")
    assert entry.card.checkpoint is not None
    card = replace(entry.card, checkpoint=replace(entry.card.checkpoint, unused_keys=("extra.weight",)))
    tensors = official_files.state_dict("efficient_sam_ti") | {"extra.weight": torch.zeros(1)}
    path = official_files.write("efficient_sam_ti", tmp_path, tensors)
    weights.load(model("efficient_sam_ti"), replace(entry, card=card), path)


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("how", ["zip", "legacy", "pickle", "zipped"])
def test_code_is_refused_and_not_run(how: str, tmp_path: Path) -> None:
    trap, path, name = {"model": Trap(tmp_path / "sprung")}, tmp_path / "evil.pt", "mobile_sam"
    if how == "pickle":
        path.write_bytes(pickle.dumps(trap, protocol=2))
    else:
        torch.save(trap, path, _use_new_zipfile_serialization=how != "legacy")
    if how == "zipped":
        name = "efficient_sam_s"
        with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
            archive.write(path, "../efficient_sam_vits.pt")
        path = tmp_path / "evil.zip"
    with pytest.raises(WeightsError, match=r"was refused: it holds code, .* Nothing was executed\."):
        load(name, path)
    assert not (tmp_path / "sprung").exists()
    pickle.loads(pickle.dumps(trap))
    assert (tmp_path / "sprung").exists()


def test_only_the_named_member_is_unpacked(tmp_path: Path) -> None:
    path = official_files.write("efficient_sam_s", tmp_path)
    (tmp_path / "efficient_sam_vits.pt").unlink()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../outside.txt", "x")
        archive.writestr("__MACOSX/efficient_sam_vits.pt", "x")
    load("efficient_sam_s", path)
    assert names(tmp_path) == {path.name}
    assert not (tmp_path.parent / "outside.txt").exists()


def test_files_that_are_no_checkpoints_are_told(tmp_path: Path) -> None:
    good = tmp_path / "good.pt"
    torch.save({"a": torch.zeros(3)}, good)
    contents = {
        "text.pt": b"hello world" * 100,
        "empty.pt": b"",
        "cut.pt": good.read_bytes()[:200],
        "noise.pt": bytes(range(256)),
    }
    for file, content in contents.items():
        (tmp_path / file).write_bytes(content)
        with pytest.raises(WeightsError, match=rf"{file} (is damaged or no torch checkpoint \(.+\)|was refused)"):
            load("mobile_sam", tmp_path / file)
    with pytest.raises(WeightsError, match=r"is a folder; give the file, or fetch it with `bench weights fetch"):
        load("mobile_sam", tmp_path)
    with pytest.raises(WeightsError, match=r"absent\.pt does not exist"):
        load("mobile_sam", tmp_path / "absent.pt")
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "settings.pt")
    with pytest.raises(WeightsError, match=r"holds no state dict at the top level; it holds: epoch, lr\."):
        load("mobile_sam", tmp_path / "settings.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(WeightsError, match=r"holds no state dict under the key 'model'; it holds: list\."):
        load("efficient_sam_ti", tmp_path / "list.pt")
