"""Memory of a prediction: it grows with an image's width, not with its height."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import resource, sys
from pathlib import Path
import numpy as np
from scipy import ndimage
from bench.predict import blocks, files

height, folder = int(sys.argv[1]), Path(sys.argv[2])

class Drawn:
    height, width, notes = int(sys.argv[1]), 600, ()

    def rows(self, top, bottom):
        y, x = np.mgrid[top:bottom, :600]
        disc = (y % 100 - 50) ** 2 + (x % 100 - 50) ** 2 < 150
        return np.repeat((255 - 255 * disc).astype(np.uint8)[..., None], 3, axis=-1)

overlay = files.Overlay(height, 600)
plan = blocks.plan(height, 600, side=300, halo=50)
bands = blocks.stitched(Drawn(), plan, lambda pixels: ndimage.label(pixels[..., 0] == 0)[0], seen=overlay.see)
n = files.write(folder, "a", bands, overlay, height=height, width=600, origin={})
print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.release
def test_an_image_of_ten_times_the_height_needs_no_more_memory(tmp_path: Path) -> None:
    used = {}
    for height in (1500, 15_000):
        command = [sys.executable, "-c", SCRIPT, str(height), str(tmp_path / str(height))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        n, used[height] = (int(word) for word in done.stdout.split())
        assert n == height // 100 * 6
    # The larger one has 27 MB of pixels and 36 MB of labels; kB are compared.
    assert used[15_000] < used[1500] + 20_000
