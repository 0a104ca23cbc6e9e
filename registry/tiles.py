"""Cut an image and its label map into tiles: `python -m registry.tiles IMAGE.png LABELS.tif NEW_ORGAN_FOLDER`.

For images of more pixels than a run takes (`registry.pixels.MAX_PIXELS`). A program of our own, because ImageMagick
writes tiles without nuclei as 1-bit files, and changes labels of 32 bits.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image

from registry import layout, pixels
from registry.errors import DataError
from registry.names import shown
from registry.whole_folder import filling, require_empty


def cut(image_path: Path, label_path: Path, folder: Path, *, side: int = 1024) -> int:
    """Write the tiles of one image as an organ folder; nuclei at the edges are cut, as the image is.

    Args:
        image_path: an 8-bit colour PNG of any size.
        label_path: its label map.
        folder: an organ folder that does not exist yet, or is empty.
        side: side of the square tiles in pixels; those at the right and the bottom are smaller.

    Returns:
        The number of tiles.

    Raises:
        DataError: files that can't be read, of two sizes, or labels that do not fit 16 bits; a folder that can't be
            written.
    """
    require_empty(folder)
    image, _ = pixels.read_image(image_path, max_pixels=None)
    label_map, _ = pixels.read_label(label_path, max_pixels=None)
    height, width = label_map.shape
    if image.shape[:2] != (height, width):
        raise DataError(
            f"sizes differ: {shown(image_path)} has {image.shape[0]} × {image.shape[1]} pixels (height × width), "
            f"{shown(label_path)} has {height} × {width}; both must be of one size."
        )
    corners = [(top, left) for top in range(0, height, side) for left in range(0, width, side)]
    try:
        with filling(folder) as temporary:
            for name in (layout.IMAGES, layout.LABELS):
                (temporary / name).mkdir()
            for top, left in corners:
                tile = slice(top, top + side), slice(left, left + side)
                stem = f"{image_path.stem}_y{top:05d}_x{left:05d}"
                Image.fromarray(image[tile]).save(temporary / layout.IMAGES / f"{stem}.png")
                pixels.write_label(temporary / layout.LABELS / f"{stem}.tif", label_map[tile])
    except OSError as error:
        raise DataError(f"the tiles could not be written to {shown(folder)}: {error}.") from error
    return len(corners)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m registry.tiles", description="Cut an image into tiles.")
    parser.add_argument("image", type=Path, help="an 8-bit colour PNG")
    parser.add_argument("labels", type=Path, help="its label map, TIFF")
    parser.add_argument("folder", type=Path, help="a new organ folder")
    parser.add_argument("--side", type=int, default=1024, help="side of the tiles in pixels (1024)")
    options = parser.parse_args(arguments)
    if options.side < 64:
        parser.error(f"--side is {options.side}; 64 pixels or more are allowed.")
    try:
        n_tiles = cut(options.image, options.labels, options.folder, side=options.side)
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"Wrote {n_tiles} tiles to {shown(options.folder)}. To keep them in one fold, give them one group in "
        f"{layout.MANIFEST} (columns id, group) beside the organ folders."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
