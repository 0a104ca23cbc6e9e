"""NuInsSeg's layout: samples that are read, and messages about folders and files that can't be used."""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from registry import datasets
from registry.contract import Sample
from registry.datasets import nuinsseg
from registry.errors import DataError
from registry.release import names_digest

SHARED = Path(__file__).parents[2].parent / "shared"
IMAGE = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
LABEL = np.zeros((6, 8), np.uint16)
LABEL[1:3, 1:3], LABEL[4, 5] = 1, 700


def add(root: Path, organ: str, stem: str, image: np.ndarray | None = IMAGE, label: np.ndarray | None = LABEL):
    """Write one pair; None leaves the file out, and the folders are there all the same."""
    for name in ("tissue images", "label masks modify"):
        (root / organ / name).mkdir(parents=True, exist_ok=True)
    image_path = root / organ / "tissue images" / f"{stem}.png"
    label_path = root / organ / "label masks modify" / f"{stem}.tif"
    if image is not None:
        Image.fromarray(image).save(image_path)
    if label is not None:
        Image.fromarray(label).save(label_path, compression="packbits" if label.dtype == np.uint16 else None)
    return image_path, label_path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two organs, three samples, and the clutter of a real copy."""
    root = tmp_path / "data"
    add(root, "human bladder", "human_bladder_02")
    add(root, "human bladder", "human_bladder_10")
    add(root, "human brain", "human_brain_1")
    (root / ".DS_Store").write_bytes(b"x")
    (root / "human brain" / "tissue images" / ".DS_Store").write_bytes(b"x")
    (root / "human brain" / "tissue images" / "._human_brain_1.png").write_bytes(b"x")
    (root / "human brain" / "vague areas" / "mask binary").mkdir(parents=True)
    (root / "notes").mkdir()
    (root / "readme.txt").write_text("text")
    return root


def problem_of(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        datasets.get("nuinsseg").samples(root)
    return str(caught.value)


def refusal_of(image_path: Path, label_path: Path) -> str:
    with pytest.raises(DataError) as caught:
        nuinsseg.read(Sample("s", "o", image_path, label_path, "s"))
    return str(caught.value)


# --- sound datasets


def test_samples_are_sorted_by_stem_and_are_their_own_group(root: Path) -> None:
    samples = datasets.get("nuinsseg").samples(root)
    assert [(s.stem, s.organ, s.group) for s in samples] == [
        ("human_bladder_02", "human bladder", "human_bladder_02"),
        ("human_bladder_10", "human bladder", "human_bladder_10"),
        ("human_brain_1", "human brain", "human_brain_1"),
    ]


def test_stems_sort_as_plain_strings(tmp_path: Path) -> None:
    for number in (1, 2, 10, 11):
        add(tmp_path, "human brain", f"b_{number}")
    assert [s.stem for s in datasets.get("nuinsseg").samples(tmp_path)] == ["b_1", "b_10", "b_11", "b_2"]


def test_one_top_folder_is_accepted_with_its_manifest(root: Path, tmp_path: Path) -> None:
    top = tmp_path / "release"
    shutil.copytree(root, top / "NuInsSeg")
    (top / "__MACOSX").mkdir()
    rows = "id,group\nhuman_bladder_02,a\nhuman_bladder_10,a\nhuman_brain_1,\n"
    (top / "NuInsSeg" / "manifest.csv").write_text(rows)
    assert [s.group for s in datasets.get("nuinsseg").samples(top)] == ["a", "a", "human_brain_1"]


def test_reads_image_and_label(root: Path) -> None:
    image, label_map = nuinsseg.read(datasets.get("nuinsseg").samples(root)[0])
    assert (image.dtype, label_map.dtype) == (np.uint8, np.int32)
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(label_map, LABEL)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "uint32"])
def test_reads_labels_of_other_integer_types(tmp_path: Path, dtype: str) -> None:
    image_path, label_path = add(tmp_path, "o", "s", label=None)
    tifffile.imwrite(label_path, (LABEL % 200).astype(dtype))
    _, label_map = nuinsseg.read(Sample("s", "o", image_path, label_path, "s"))
    assert label_map.dtype == np.int32
    np.testing.assert_array_equal(label_map, LABEL % 200)


def test_the_releases_own_label_files_are_read() -> None:
    folder = SHARED / "data" / "nuinsseg-labels-only" / "human bladder"
    if not folder.is_dir():
        pytest.skip("shared/data/nuinsseg-labels-only is not beside the checkout")
    from registry import pixels

    for stem, nuclei in (("human_bladder_01", 24), ("human_bladder_02", 3)):
        label_map, notes = pixels.read_label(folder / "label masks modify" / f"{stem}.tif")
        assert (label_map.shape, int(label_map.max()), notes) == ((512, 512), nuclei, ())
    assert "has no folder 'tissue images'" in problem_of(folder.parent)


def test_real_tissue_is_sound() -> None:
    folder = SHARED / "data" / "dsb-he-512"
    if not folder.is_dir():
        pytest.skip("shared/data/dsb-he-512 is not beside the checkout")
    report = datasets.get("nuinsseg").check(folder)
    assert report.problems == ()
    with (folder / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(counts["samples"] for counts in report.organs.values()) == len(rows) == 19
    assert sum(counts["nuclei"] for counts in report.organs.values()) == sum(int(r["nuclei"]) for r in rows)
    groups = {s.stem: s.group for s in datasets.get("nuinsseg").samples(folder)}
    assert groups == {row["id"]: row["group"] for row in rows}


def has_released_names(samples: Sequence[Sample]) -> bool:
    return names_digest(samples) == nuinsseg.RELEASE.names_sha256


def test_names_of_the_release_are_official_and_others_are_not() -> None:
    listed = SHARED / "data" / "nuinsseg_files_and_folds.csv"
    if not listed.is_file():
        pytest.skip("shared/data/nuinsseg_files_and_folds.csv is not beside the checkout")
    here = Path()
    with listed.open() as file:
        release = [Sample(Path(r["file"]).stem, r["organ"], here, here, "") for r in csv.DictReader(file)]
    assert has_released_names(release) and has_released_names(release[::-1])
    assert not has_released_names(release[:-1])
    assert not has_released_names([*release[:-1], Sample("another", "human liver", here, here, "")])


def test_fingerprint_is_the_digest_of_names_groups_and_bytes(root: Path) -> None:
    samples = datasets.get("nuinsseg").samples(root)
    lines = "".join(
        f"{s.organ}/{s.stem}\t{s.group}\t{hashlib.sha256(s.image_path.read_bytes()).hexdigest()}"
        f"\t{hashlib.sha256(s.label_path.read_bytes()).hexdigest()}\n"
        for s in samples
    )
    before = datasets.fingerprint(samples)
    assert before == hashlib.sha256(lines.encode()).hexdigest() == datasets.fingerprint(reversed(samples))
    add(root, "human brain", "human_brain_1", label=LABEL + 1)
    assert datasets.fingerprint(samples) != before
    samples[0].image_path.unlink()
    with pytest.raises(DataError, match=r"human_bladder_02\.png can't be read: No such file"):
        datasets.fingerprint(samples)


# --- faults of the layout


def test_missing_folder_says_how_to_get_it(tmp_path: Path) -> None:
    text = problem_of(tmp_path / "absent")
    assert text == (
        f"the data folder {tmp_path / 'absent'} does not exist. To get it: `bench data fetch nuinsseg`; "
        "or name another folder with --data."
    )
    (tmp_path / "file").write_text("")
    assert "file is a file, not a folder" in problem_of(tmp_path / "file")


def test_folder_without_organs(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    text = problem_of(tmp_path)
    assert "holds no organ folder" in text
    assert "'tissue images' and 'label masks modify'" in text and "bench data fetch nuinsseg" in text


def test_two_datasets_in_one_folder(root: Path) -> None:
    shutil.copytree(root, root.parent / "other")
    assert "holds several datasets: 'data', 'other'; name one of them" in problem_of(root.parent)


def test_missing_pairs_are_all_reported_at_once(root: Path) -> None:
    add(root, "human bladder", "human_bladder_03", label=None)
    add(root, "human brain", "human_brain_9", image=None)
    text = problem_of(root)
    assert text.startswith(f"2 problems below {root}:")
    assert "image without label: " in text and "needs 'label masks modify/human_bladder_03.tif' beside it" in text
    assert "label without image: " in text and "needs 'tissue images/human_brain_9.png' beside it" in text


def test_long_lists_are_cut_with_a_count(tmp_path: Path) -> None:
    for number in range(30):
        add(tmp_path, "o", f"s_{number:02d}", label=None if number < 27 else LABEL)
    lines = problem_of(tmp_path).splitlines()
    assert lines[0] == f"27 problems below {tmp_path}:"
    assert len(lines) == 22 and "s_19.png" in lines[20]
    assert lines[-1] == "  … and 7 more"


def test_raw_label_masks_do_not_stand_in(root: Path) -> None:
    (root / "human brain" / "label masks modify").rename(root / "human brain" / "label masks")
    text = problem_of(root)
    assert "has no folder 'label masks modify'" in text
    assert "the 'label masks' that is there sums overlaps into new values and can't stand in" in text


def test_images_of_another_format(root: Path) -> None:
    folder = root / "human brain" / "tissue images"
    (folder / "human_brain_1.png").rename(folder / "human_brain_1.jpg")
    assert "holds no .png file (found: .jpg); convert the files to .png" in problem_of(root)


def test_empty_organ_folder(root: Path) -> None:
    add(root, "human cardia", "none", image=None, label=None)
    assert "cardia is empty: no .png in 'tissue images', no .tif in 'label masks modify'" in problem_of(root)


def test_duplicate_stems(root: Path) -> None:
    add(root, "human cardia", "human_brain_1")
    text = "duplicate stem 'human_brain_1' in the organs 'human brain' and 'human cardia'; rename one."
    assert problem_of(root) == text
    shutil.rmtree(root / "human cardia")
    twin = root / "human brain" / "label masks modify" / "human_brain_1.tiff"
    shutil.copy(twin.with_suffix(".tif"), twin)
    assert "holds both human_brain_1.tif and human_brain_1.tiff; remove one of them" in problem_of(root)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ("name,group\nhuman_brain_1,a\n", "lacks the column 'id'; it has: name, group"),
        ("id\nhuman_brain_1\n", "lacks the column 'group'; it has: id"),
        ("", "lacks the column 'id' and 'group'; it has: none"),
        (
            "id,group\nhuman_bladder_02,a\nhuman_bladder_10,a\nhuman_brain_1,b\nghost,b\n",
            "names ids that have no complete sample: 'ghost'; remove the rows or add the files.",
        ),
        (
            "id,group\nhuman_bladder_02,a\n",
            "has no row for 'human_bladder_10', 'human_brain_1'; add them, or remove the manifest.",
        ),
        (
            "id,group\nhuman_bladder_02,a\nhuman_bladder_02,b\nhuman_bladder_10,a\nhuman_brain_1,b\n",
            "has more than one row for 'human_bladder_02'; keep one of each.",
        ),
    ],
)
def test_bad_manifests(root: Path, rows: str, text: str) -> None:
    (root / "manifest.csv").write_text(rows)
    assert text in problem_of(root)


def test_manifest_that_is_no_text(root: Path) -> None:
    (root / "manifest.csv").write_bytes(b"id,group\n\xff\xfe\xfd,a\n")
    assert "manifest.csv can't be read" in problem_of(root)


def test_links_are_followed_and_broken_ones_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(root)
    assert len(datasets.get("nuinsseg").samples(tmp_path / "linked")) == 3
    path = root / "human brain" / "tissue images" / "human_brain_1.png"
    path.unlink()
    path.symlink_to("elsewhere.png")
    assert problem_of(root) == f"{path} is a broken link to elsewhere.png; fix or remove it."


def test_folder_that_can_not_be_listed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated: the superuser may list everything."""
    real = Path.iterdir

    def iterdir(self: Path):
        if self.name == "tissue images":
            raise PermissionError(13, "Permission denied")
        return real(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert "tissue images can't be listed: Permission denied; check its permissions." in problem_of(root)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_file_that_may_not_be_read(root: Path) -> None:
    sample = datasets.get("nuinsseg").samples(root)[0]
    sample.image_path.chmod(0)
    assert "can't be read as a PNG image: Permission denied" in refusal_of(sample.image_path, sample.label_path)


# --- faults of a file


def png16(path: Path) -> None:
    """A 16-bit RGB PNG, which Pillow can't write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = (b"\0" + bytes(8 * 6)) * 6
    header = struct.pack(">IIBBBBB", 8, 6, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def test_rgba_is_read_as_rgb_and_noted(tmp_path: Path) -> None:
    rgba = np.dstack([IMAGE, np.full(IMAGE.shape[:2], 255, np.uint8)])
    image_path, label_path = add(tmp_path, "o", "s", image=rgba)
    image, _ = nuinsseg.read(Sample("s", "o", image_path, label_path, "s"))
    np.testing.assert_array_equal(image, IMAGE)
    note = datasets.get("nuinsseg").check(tmp_path).notes
    assert note == (f"{image_path} has an alpha channel (opaque); it is dropped and the image read as RGB.",)
    rgba[0, 0, 3] = 10
    add(tmp_path, "o", "s", image=rgba)
    np.testing.assert_array_equal(nuinsseg.read(Sample("s", "o", image_path, label_path, "s"))[0], IMAGE)
    assert "alpha channel (partly transparent: check its colours)" in datasets.get("nuinsseg").check(tmp_path).notes[0]


def test_16_bit_images_are_refused(tmp_path: Path) -> None:
    image_path, label_path = add(tmp_path, "o", "s")
    png16(image_path)
    text = f"{image_path} has 16 bits per channel; convert it to 8-bit RGB PNG."
    assert refusal_of(image_path, label_path) == text
    add(tmp_path, "o", "s", image=IMAGE[..., 0].astype(np.uint16))
    assert refusal_of(image_path, label_path) == text


def test_grey_images_are_refused(tmp_path: Path) -> None:
    text = refusal_of(*add(tmp_path, "o", "s", image=IMAGE[..., 0]))
    assert "s.png is a grey image (mode L); H&E needs colour" in text


def test_grey_stored_as_rgb_is_noted(tmp_path: Path) -> None:
    add(tmp_path, "o", "s", image=np.repeat(IMAGE[..., :1], 3, axis=2))
    assert "without any colour" in datasets.get("nuinsseg").check(tmp_path).notes[0]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
def test_labels_that_are_no_integers_of_32_bits(tmp_path: Path, dtype: str) -> None:
    image_path, label_path = add(tmp_path, "o", "s")
    tifffile.imwrite(label_path, LABEL.astype(dtype))
    text = f"{label_path} holds {dtype} values; a label map holds integers up to 32 bits: save it as uint16."
    assert refusal_of(image_path, label_path) == text


def test_other_labels_that_are_refused(tmp_path: Path) -> None:
    image_path, label_path = add(tmp_path, "o", "s", label=IMAGE)
    assert "is a colour image (mode RGB); a label map has one channel of integers" in refusal_of(image_path, label_path)
    Image.fromarray(LABEL > 0).save(label_path)
    assert "is a binary mask; a label map gives every nucleus its own integer" in refusal_of(image_path, label_path)
    tifffile.imwrite(label_path, np.stack([LABEL, LABEL]), photometric="minisblack")
    assert "holds 2 pages; a label map is one page of integers" in refusal_of(image_path, label_path)
    tifffile.imwrite(label_path, LABEL.astype(np.int32) - 1)
    assert "holds labels outside 0…2147483647; save it as uint16" in refusal_of(image_path, label_path)


def test_sizes_that_differ(tmp_path: Path) -> None:
    image_path, label_path = add(tmp_path, "o", "s", label=LABEL[:5, :4])
    assert refusal_of(image_path, label_path) == (
        f"sizes differ: {image_path} has 6 × 8 pixels (height × width), {label_path} has 5 × 4; "
        "both must be of one size."
    )


def test_empty_label_maps_are_legal_and_noted(tmp_path: Path) -> None:
    _, label_path = add(tmp_path, "o", "s", label=np.zeros_like(LABEL))
    add(tmp_path, "o", "t", label=255 * (LABEL > 0).astype(np.uint8))
    report = datasets.get("nuinsseg").check(tmp_path)
    assert report.problems == ()
    assert report.organs == {"o": {"samples": 2, "nuclei": 1, "problems": 0}}
    assert report.notes[0] == f"{label_path} is all zero: an image without nuclei."
    assert "holds the one label 255: is it a binary mask" in report.notes[1]


@pytest.mark.parametrize("kept", [0, 10, 30, 0.5, 0.9])
def test_truncated_files(tmp_path: Path, kept: float) -> None:
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    label = np.random.default_rng(1).integers(0, 9, (64, 64)).astype(np.uint16)
    image_path, label_path = add(tmp_path, "o", "s", image=image, label=label)
    whole = image_path.read_bytes()
    image_path.write_bytes(whole[: int(kept if kept > 1 else kept * len(whole))])
    assert "s.png can't be read as a PNG image" in refusal_of(image_path, label_path)
    image_path.write_bytes(whole)
    label_path.write_bytes(label_path.read_bytes()[: int(kept if kept > 1 else kept * label_path.stat().st_size)])
    assert "s.tif can't be read as a TIFF label map" in refusal_of(image_path, label_path)


def test_files_of_another_kind(tmp_path: Path) -> None:
    image_path, label_path = add(tmp_path, "o", "s")
    Image.fromarray(IMAGE).save(image_path, format="JPEG")
    assert "can't be read as a PNG image: its content is something else, or damaged" in refusal_of(
        image_path, label_path
    )


def test_check_counts_per_organ_and_never_raises(root: Path, tmp_path: Path) -> None:
    add(root, "human brain", "human_brain_2", image=IMAGE[..., 0])
    add(root, "human brain", "human_brain_3", label=None)
    (root / "human cardia" / "label masks").mkdir(parents=True)
    report = datasets.get("nuinsseg").check(root)
    assert report.organs == {
        "human bladder": {"samples": 2, "nuclei": 4, "problems": 0},
        "human brain": {"samples": 1, "nuclei": 2, "problems": 2},
        "human cardia": {"samples": 0, "nuclei": 0, "problems": 2},
    }
    assert len(report.problems) == 4 and report.root == root
    absent = datasets.get("nuinsseg").check(tmp_path / "absent")
    assert absent.organs == {} and "does not exist" in absent.problems[0]
