"""Synthetic tissue: same bytes for the same seed, NuInsSeg's layout, and tissue that can be learned."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage.color import rgb2hed
from skimage.filters import gaussian, threshold_otsu

from registry import datasets, painter, pixels
from registry.datasets import synthetic
from registry.errors import DataError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "set"
    synthetic.write(root, n_images=8, organs=4, seed=3)
    return root


def test_layout_counts_and_soundness(root: Path) -> None:
    report = datasets.get("synthetic").check(root)
    assert (report.problems, report.notes) == ((), ())
    assert {organ: counts["samples"] for organ, counts in report.organs.items()} == {
        f"synthetic organ {k:02d}": 2 for k in (1, 2, 3, 4)
    }
    samples = datasets.get("synthetic").samples(root)
    assert samples[0].stem == "synthetic_organ_01_0001"
    assert datasets.fingerprint(samples) == datasets.fingerprint(datasets.get("nuinsseg").samples(root))
    assert [path.name for path in root.parent.iterdir()] == ["set"]


def test_label_maps(root: Path) -> None:
    dataset = datasets.get("synthetic")
    touching = 0
    for sample in dataset.samples(root):
        image, label_map = dataset.read(sample)
        assert image.shape == (256, 256, 3)
        labels, areas = np.unique(label_map, return_counts=True)
        np.testing.assert_array_equal(labels, np.arange(len(labels)))
        assert 8 <= len(labels) - 1 <= 60
        assert areas[1:].min() >= 25
        assert 0.02 < 1 - areas[0] / label_map.size < 0.4
        touching += len(labels) - 1 - ndimage.label(label_map, np.ones((3, 3)))[1]
    assert touching > 20  # nuclei that a threshold can't tell apart


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    digests = []
    for name, seed, n_images in (("a", 5, 4), ("b", 5, 4), ("c", 6, 4), ("d", 5, 6)):
        synthetic.write(tmp_path / name, n_images=n_images, image_size=64, organs=2, seed=seed)
        samples = datasets.get("synthetic").samples(tmp_path / name)
        digests.append(datasets.fingerprint([s for s in samples if s.stem[-4:] in ("0001", "0002")]))
    assert digests[0] == digests[1] == digests[3] != digests[2]


def test_a_threshold_finds_most_but_not_all(root: Path) -> None:
    """Haematoxylin by Otsu's threshold: the tissue is learnable, and something is left to learn."""
    dataset, dice = datasets.get("synthetic"), []
    for sample in dataset.samples(root):
        image, label_map = dataset.read(sample)
        haematoxylin = gaussian(rgb2hed(image)[..., 0], 1)
        predicted, true = haematoxylin > threshold_otsu(haematoxylin), label_map > 0
        dice.append(2 * (predicted & true).sum() / (predicted.sum() + true.sum()))
    assert 0.72 < np.mean(dice) < 0.93


def test_nuclei_absorb_by_the_haematoxylin_vector() -> None:
    """A pure stain keeps its direction in optical density (Beer and Lambert), whatever its amount."""
    rng = np.random.default_rng(0)
    look = painter.Tissue(
        radius=12,
        spread=0.0,
        aspect=0.9,
        haematoxylin=1.0,
        eosin=0.0,
        fibre=0.0,
        angle=0.0,
        lumen=0.0,
        touching=0.0,
        faint=0.0,
        blurred=0.0,
        hue=(0.0, 0.0, 0.0),
    )
    image, label_map = painter.paint(rng, look, size=128, n_nuclei=12)
    density = -np.log(image[label_map > 0].mean(axis=0) / 255 / 0.96)
    expected = np.asarray(painter.HAEMATOXYLIN) / np.linalg.norm(painter.HAEMATOXYLIN)
    assert label_map.max() == 12
    assert density @ expected / np.linalg.norm(density) > 0.995


def test_prepare_writes_the_default_set_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []
    monkeypatch.setattr(synthetic, "write", written.append)
    datasets.get("synthetic").prepare(tmp_path / "absent")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    datasets.get("synthetic").prepare(tmp_path / "full")
    assert written == [tmp_path / "absent"]


def test_missing_folder_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="To get it: `bench data synth DIR`"):
        datasets.get("synthetic").samples(tmp_path / "absent")


def test_31_organs_look_different(tmp_path: Path) -> None:
    synthetic.write(tmp_path / "set", n_images=31, image_size=64, organs=31)
    samples = datasets.get("synthetic").samples(tmp_path / "set")
    assert len({sample.organ for sample in samples}) == 31
    means = np.array([datasets.get("synthetic").read(sample)[0].mean((0, 1)) for sample in samples])
    assert means.std(axis=0).max() > 8


def test_refuses_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(DataError, match="exists and is not an empty folder; name another one, or remove it first"):
        synthetic.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(DataError, match=r"could not be written to .*File exists"):
        synthetic.write(tmp_path / "file" / "below", n_images=1, organs=1, image_size=64)


def test_all_wrong_numbers_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        synthetic.write(tmp_path / "set", n_images=3, image_size=10, organs=32, seed=-1, nuclei=(9, 2))
    assert str(caught.value) == (
        "no synthetic dataset can be made: organs is 32, allowed are 1…31; "
        "n_images is 3, needed are at least as many as organs (32); "
        "image_size is 10 pixels, allowed are 64…4096; "
        "seed is -1, allowed are 0, 1, 2, …; nuclei is 9…2, needed is 0 ≤ fewest ≤ most."
    )


def test_an_interrupted_set_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pixels, "write_label", full_disk)
    with pytest.raises(DataError, match=r"could not be written to .*No space left on device"):
        synthetic.write(tmp_path / "set", n_images=1, organs=1, image_size=64)
    assert list(tmp_path.iterdir()) == []


def test_a_set_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        synthetic.write(tmp_path / "set", n_images=1, organs=1, image_size=64)
    finally:
        os.umask(before)
    folders = [tmp_path / "set", *(p for p in (tmp_path / "set").rglob("*") if p.is_dir())]
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o750}


def test_labels_beyond_16_bits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="labels 0…70000 do not fit uint16"):
        pixels.write_label(tmp_path / "a.tif", np.array([[0, 70000]]))
