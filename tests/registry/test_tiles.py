"""Tiles of an image and its label map: the same pixels, as a dataset that is read again."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from registry import datasets, tiles
from registry.errors import DataError

IMAGE = np.random.default_rng(0).integers(0, 256, (150, 200, 3)).astype(np.uint8)
LABEL = np.zeros((150, 200), np.uint32)
LABEL[10:30, 10:30], LABEL[60:80, 50:80], LABEL[120:150, 190:] = 1, 300, 65535


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    Image.fromarray(IMAGE).save(tmp_path / "slide.png")
    tifffile.imwrite(tmp_path / "slide.tif", LABEL)
    return tmp_path / "slide.png", tmp_path / "slide.tif"


def test_tiles_are_a_sound_dataset_of_the_same_pixels(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    organ = tmp_path / "data" / "organ"
    assert tiles.main([*map(str, pair), str(organ), "--side", "64"]) == 0
    assert f"Wrote 12 tiles to {organ}. To keep them in one fold, give them one group" in capsys.readouterr().out
    samples = datasets.get("nuinsseg").samples(tmp_path / "data")
    assert [s.stem for s in samples][:2] == ["slide_y00000_x00000", "slide_y00000_x00064"]
    image, label_map = np.zeros_like(IMAGE), np.zeros_like(LABEL)
    for sample in samples:
        top, left = int(sample.stem[-12:-7]), int(sample.stem[-5:])
        pixels_, labels = datasets.get("nuinsseg").read(sample)
        height, width = labels.shape
        image[top : top + height, left : left + width] = pixels_
        label_map[top : top + height, left : left + width] = labels
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(label_map, LABEL)


def test_errors_are_one_sentence(pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, labels = map(str, pair)
    assert tiles.main([image, labels, str(tmp_path)]) == 1
    assert "exists and is not an empty folder; name another one" in capsys.readouterr().err
    tifffile.imwrite(labels, LABEL[:100])
    assert tiles.main([image, labels, str(tmp_path / "new")]) == 1
    assert "has 150 × 200 pixels (height × width)" in capsys.readouterr().err
    tifffile.imwrite(labels, LABEL + 5)
    assert tiles.main([image, labels, str(tmp_path / "new")]) == 1
    assert "do not fit uint16" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    with pytest.raises(SystemExit):
        tiles.main([image, labels, str(tmp_path / "new"), "--side", "10"])
    assert "--side is 10; 64 pixels or more are allowed." in capsys.readouterr().err


def test_images_of_any_size_are_taken(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """The data of this one are missing, which is only said of a size that is allowed."""
    data = pair[0].read_bytes()
    header = b"IHDR" + struct.pack(">II", 14_000, 14_000) + data[24:29]
    pair[0].write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
    with pytest.raises(DataError, match=r"its image data end after [0-9,]+ of 588,014,000 bytes"):
        tiles.cut(*pair, tmp_path / "new")


def test_the_command_that_messages_name(pair: tuple[Path, Path], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "registry.tiles", *map(str, pair), str(tmp_path / "organ")]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Wrote 1 tiles to ") and done.stderr == ""
