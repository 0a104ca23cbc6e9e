"""Kind of a file by its first bytes, for messages about files that are not what their names say."""

from __future__ import annotations

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"II+\0", "a BigTIFF image"),
    (b"MM\0+", "a BigTIFF image"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file"),
    (b"MATLAB 5", "a MATLAB file"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"version https://git-lfs", "a Git LFS pointer: fetch the file itself with `git lfs pull`"),
)


def of(head: bytes) -> str | None:
    """Return what a file is whose first bytes are `head` (64 are enough); None where they tell nothing."""
    if not head:
        return "nothing: the file is empty"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "a WebP image"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return "an HTML page: the download was answered by a web site, not by the file"
    if start.startswith(b"<?xml") or start.startswith(b"<svg"):
        return "an XML document"
    return next((kind for signature, kind in _SIGNATURES if head.startswith(signature)), None)
