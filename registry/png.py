"""PNG files as bytes: what the header declares, and whether all of the file is there.

Pillow decodes PNG, but lets three kinds of damage pass: a missing end, wrong checksums, and image data that end early
(the rest of the picture is black). `require_whole` refuses them. Names as in the PNG specification (W3C, 3rd edition).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
# Adam7: first column and row of each pass, and the steps between its columns and rows.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_SRGB_GAMMA = 45455


class Damaged(ValueError):
    """Bytes that are no PNG file, or not all of one."""


@dataclass(frozen=True)
class Header:
    """Contents of the first chunk (IHDR).

    Attributes:
        depth: bits per channel.
        colour_type: 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGB with alpha.
    """

    width: int
    height: int
    depth: int
    colour_type: int
    interlaced: bool


def header(data: bytes) -> Header:
    """Return the header of a PNG file without decoding anything; raises `Damaged`."""
    if not data.startswith(SIGNATURE):
        raise Damaged("its content is something else, or damaged")
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise Damaged("its header is damaged")
    width, height, depth, colour_type, _, _, interlace = struct.unpack(">IIBBBBB", data[16:29])
    if not width or not height or colour_type not in _CHANNELS:
        raise Damaged("its header is damaged")
    return Header(width, height, depth, colour_type, bool(interlace))


def require_whole(data: bytes) -> dict[str, bytes]:
    """Verify the checksums, the end, and the length of the image data.

    Returns:
        The content of the first chunk of each kind other than image data, by the name of the chunk.

    Raises:
        Damaged: a file that is cut or altered.
    """
    head = header(data)
    image_data: list[bytes] = []
    chunks: dict[str, bytes] = {}
    for name, content in _chunks(data):
        if name == "IDAT":
            image_data.append(content)
        else:
            chunks.setdefault(name, content)
    expected = _size_bytes(head)
    try:
        found = len(zlib.decompressobj().decompress(b"".join(image_data), expected))
    except zlib.error as error:
        raise Damaged(f"its image data are damaged ({error})") from error
    if found < expected:
        raise Damaged(f"its image data end after {found:,} of {expected:,} bytes")
    return chunks


def colour_space(chunks: dict[str, bytes]) -> str | None:
    """Return the colour profile or gamma that a file declares in place of sRGB; None for sRGB and for none."""
    if "iCCP" in chunks:
        name = chunks["iCCP"].split(b"\0", 1)[0].decode("latin-1")
        return None if "srgb" in name.lower() else f"the colour profile {name!r}"
    if "gAMA" in chunks and "sRGB" not in chunks and len(chunks["gAMA"]) == 4:
        gamma = int.from_bytes(chunks["gAMA"])
        return None if abs(gamma - _SRGB_GAMMA) < 1000 else f"the gamma {gamma / 100_000:g}"
    return None


def n_frames(chunks: dict[str, bytes]) -> int:
    """Return the number of pictures: more than 1 in an animated PNG."""
    return max(1, int.from_bytes(chunks["acTL"][:4])) if "acTL" in chunks else 1


def _chunks(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each chunk up to the end chunk, which must be there."""
    at = len(SIGNATURE)
    while True:
        if len(data) < at + 12:
            raise Damaged("the file is cut: its end is missing")
        length, name = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        if len(data) < at + 12 + length:
            raise Damaged("the file is cut: its end is missing")
        content = data[at + 8 : at + 8 + length]
        if zlib.crc32(name + content) != int.from_bytes(data[at + 8 + length : at + 12 + length]):
            raise Damaged(f"the checksum of its part {name.decode('latin-1')!r} at byte {at} is wrong")
        yield name.decode("latin-1"), content
        if name == b"IEND":
            return
        at += 12 + length


def _size_bytes(head: Header) -> int:
    """Return the size of the image data when inflated: each row has a filter byte, and whole bytes."""
    bits = head.depth * _CHANNELS[head.colour_type]
    if not head.interlaced:
        return head.height * (1 + -(-head.width * bits // 8))
    total = 0
    for left, top, across, down in _PASSES:
        columns, rows = -(-(head.width - left) // across), -(-(head.height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total
