"""Pixels of another mode to 8-bit RGB, with a sentence that says what was done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

from registry.errors import DataError

Conversion = Callable[[Shaped[np.ndarray, "h w *c"]], UInt8[np.ndarray, "h w 3"]]
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6  # photometric interpretations
_JPEG = (6, 7, 34892, 33007)
"""Compressions whose decoder returns RGB where YCbCr is stored."""
GREY = "is a grey image; its values are repeated in red, green and blue, but the models were trained on H&E in colour."
ALPHA = "has an alpha channel; it is dropped, the colours are read as stored."
YCBCR = "has YCbCr colours; they are converted to RGB."
SIXTEEN_BITS = "has 16 bits per channel; they are divided by 257 (65535 becomes 255)."


def of_tiff(page: Any) -> tuple[Conversion, tuple[str, ...]]:
    """Return the conversion of rows of a TIFF page (h, w) or (h, w, samples), and what it does where it does a thing.

    Args:
        page: a `tifffile.TiffPage`.

    Raises:
        DataError: values or channels that are no picture; the text goes after the file's name.
    """
    samples, bits, photometric = page.samplesperpixel, page.bitspersample, int(page.photometric)
    if page.dtype is None or page.dtype.kind not in "bu" or bits not in (1, 8, 16):
        raise DataError(
            f"holds values of {bits} bits ({page.dtype}); a picture has 8 or 16 bits per channel: convert it to 8-bit "
            "RGB."
        )
    scale, notes = _scale(bits)
    if photometric == _PALETTE and samples == 1:
        colours = _colours(page)
        return lambda rows: colours[rows.astype(np.intp)], ("has a palette; it is read as RGB.",)
    if photometric in (_MIN_IS_WHITE, _MIN_IS_BLACK) and samples in (1, 2):
        grey = _inverted(scale) if photometric == _MIN_IS_WHITE else scale
        notes += (GREY,) if bits > 1 else ()
        alpha = (ALPHA,) if samples == 2 else ()
        return lambda rows: _repeated(grey(rows if rows.ndim == 2 else rows[..., 0])), (*notes, *alpha)
    if photometric == _YCBCR and int(page.compression) not in _JPEG:
        _require_plain_ycbcr(page)
        return lambda rows: _converted(rows, "YCbCr"), (YCBCR,)
    if photometric in (_RGB, _YCBCR) and samples in (3, 4):
        return lambda rows: scale(rows[..., :3]), notes + ((ALPHA,) if samples == 4 else ())
    if photometric == _CMYK and samples == 4:
        return lambda rows: _converted(scale(rows), "CMYK"), (
            *notes,
            "has CMYK colours; they are converted to RGB without a profile.",
        )
    raise DataError(
        f"holds {samples} channels of {bits} bits (photometric interpretation {photometric}), which are no RGB, grey, "
        "palette or CMYK picture: convert it to 8-bit RGB."
    )


def of_pillow(image: Any) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[str, ...]]:
    """Return the RGB pixels of a Pillow image that is loaded, and what was done where a thing was done.

    Raises:
        DataError: a mode that is no picture of 8 or 16 bits; the text goes after the file's name.
    """
    mode = image.mode
    if mode.startswith("I;16"):
        return _repeated((np.asarray(image) // 257).astype(np.uint8)), (SIXTEEN_BITS, GREY)
    if mode in ("I", "F"):
        raise DataError(f"holds values of 32 bits (mode {mode}); convert it to 8-bit RGB.")
    notes: tuple[str, ...] = ()
    if mode in ("RGBA", "LA", "PA", "La", "RGBa", "RGBX") or "transparency" in image.info:
        notes += (ALPHA,)
    if mode == "1":
        notes += ("has 1 bit per pixel; it is read as black and white.",)
    elif mode in ("L", "LA", "La"):
        notes += (GREY,)
    elif mode in ("P", "PA"):
        notes += ("has a palette; it is read as RGB.",)
    elif mode == "CMYK":
        notes += ("has CMYK colours; they are converted to RGB without a profile.",)
    elif mode not in ("RGB", "RGBA", "RGBX", "RGBa"):
        notes += (f"has colours in the mode {mode}; they are converted to RGB.",)
    return np.asarray(image.convert("RGB")), notes


def _scale(bits: int) -> tuple[Conversion, tuple[str, ...]]:
    if bits == 1:
        return lambda rows: rows.astype(np.uint8) * 255, ("has 1 bit per pixel; it is read as black and white.",)
    if bits == 16:
        return lambda rows: (rows // 257).astype(np.uint8), (SIXTEEN_BITS,)
    return lambda rows: rows, ()


def _inverted(scale: Conversion) -> Conversion:
    return lambda rows: 255 - scale(rows)


def _repeated(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    return np.repeat(grey[..., None], 3, axis=-1)


def _converted(rows: UInt8[np.ndarray, "h w c"], mode: str) -> UInt8[np.ndarray, "h w 3"]:
    from PIL import Image

    return np.asarray(Image.fromarray(np.ascontiguousarray(rows), mode=mode).convert("RGB"))


def _colours(page: Any) -> UInt8[np.ndarray, "n 3"]:
    """Return the RGB colours of a palette; raises `DataError` where there is none."""
    colormap = page.colormap
    if colormap is None:
        raise DataError("has palette indices but no palette (the tag ColorMap is missing); save it anew as 8-bit RGB.")
    colours = np.asarray(colormap).T
    # TIFF 6.0 has values up to 65535; some programs write 8 bits, as libtiff's tools tell by the same rule.
    return (colours if colours.max() <= 255 else colours // 257).astype(np.uint8)


def _require_plain_ycbcr(page: Any) -> None:
    """Refuse what Pillow's conversion is not made for; defaults are those of TIFF 6.0, section 21."""
    coefficients = _ratios(page, 529) or [0.299, 0.587, 0.114]
    reference = _ratios(page, 532) or [0, 255, 128, 255, 128, 255]
    if (
        (page.samplesperpixel, page.bitspersample) != (3, 8)
        or page.is_subsampled
        or not np.allclose(coefficients, [0.299, 0.587, 0.114], atol=1e-3)
        or not np.allclose(reference, [0, 255, 128, 255, 128, 255])
    ):
        raise DataError(
            "has YCbCr colours that are stored in a rare way (subsampled, of other depths or of other coefficients): "
            "convert it to 8-bit RGB."
        )


def _ratios(page: Any, tag: int) -> list[float]:
    """Return the values of a tag of fractions; empty where the tag is missing."""
    values = page.tags.valueof(tag, ())
    return [above / below for above, below in zip(values[::2], values[1::2], strict=True)]
