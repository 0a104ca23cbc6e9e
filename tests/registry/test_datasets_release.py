"""Release of a dataset: official folds, where to get it, and whether the images at hand are it."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from registry import datasets, layout, pairs, pixels
from registry.contract import CheckReport, Sample
from registry.datasets import nuinsseg, synthetic
from registry.release import Release, Verification, content_digest, names_digest, verify

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
BLANK = np.zeros((2, 3, 3), np.uint8)
NO_NUCLEI = np.zeros((2, 3), np.int32)


class Picture(NamedTuple):
    stem: str
    organ: str = "o"
    pixels: np.ndarray = BLANK
    label_map: np.ndarray = NO_NUCLEI


PICTURES = (Picture("a"), Picture("b", label_map=NO_NUCLEI + 1))
NAMES = hashlib.sha256(b"o/a\no/b").hexdigest()


class Written:
    """A dataset of a third party, written before datasets had a release."""

    name, summary, published_images = "written", "", 7

    def samples(self, root: Path) -> tuple[Sample, ...]:
        return ()

    def check(self, root: Path) -> CheckReport:
        return CheckReport(root, {}, ())


def test_content_digest_is_of_size_and_values() -> None:
    assert content_digest(BLANK) == hashlib.sha256(b"2 3\n" + bytes(18)).hexdigest()[:32]
    expected = hashlib.sha256(b"2 3\n" + b"\1\0\0\0" * 6).hexdigest()[:32]
    for dtype in ("int32", ">i4", "uint16"):
        assert content_digest((NO_NUCLEI + 1).astype(dtype)) == expected
    assert content_digest(NO_NUCLEI) != content_digest(NO_NUCLEI.reshape(3, 2))


def test_names_without_digests_are_official_and_not_verified() -> None:
    assert verify(Release(names_sha256=NAMES), PICTURES[::-1]) == Verification(
        True, 4, 0, (), "names as released, content not verified"
    )


def test_known_content_is_compared() -> None:
    blank, empty, full = content_digest(BLANK), content_digest(NO_NUCLEI), content_digest(NO_NUCLEI + 1)
    some = Release(names_sha256=NAMES, content={"a": (blank, empty), "b": (None, full)})
    assert verify(some, PICTURES) == Verification(
        True, 4, 3, (), "names as released; content of 3 of 4 files verified, of the others not"
    )
    every = Release(names_sha256=NAMES, content={"a": (blank, empty), "b": (blank, full)})
    assert verify(every, PICTURES).detail == "names and content as released"


def test_edited_labels_under_the_releases_names_are_not_official() -> None:
    release = Release(names_sha256=NAMES, content={"a": (content_digest(BLANK), content_digest(NO_NUCLEI + 1))})
    assert verify(release, PICTURES) == Verification(
        False, 4, 1, ("a (labels)",), "not the release: names as released, but other content: a (labels)"
    )


def test_other_names_are_not_official() -> None:
    release = Release(names_sha256=NAMES)
    text = "not the release: other images, or not all of them"
    assert verify(release, PICTURES[:1]) == Verification(False, 2, 0, (), text)
    part = Release(names_sha256=NAMES, content={"a": (content_digest(BLANK), content_digest(NO_NUCLEI))})
    assert verify(part, PICTURES[:1]).detail == "not the whole release: 1 of its images, content as released"
    assert not verify(part, PICTURES[:1]).official


def test_a_dataset_without_a_release_is_never_official() -> None:
    assert verify(Release(), PICTURES) == Verification(False)
    assert verify(Release(), []).detail == ""


def test_images_are_taken_one_by_one() -> None:
    alive = []

    def pictures() -> Iterator[Picture]:
        for k in range(3):
            alive.append(k)
            yield Picture(str(k))

    assert verify(Release(names_sha256="0"), pictures()).n_files == 6
    assert alive == [0, 1, 2]


# --- what the harness asks for


def test_release_of_nuinsseg() -> None:
    release = datasets.release("nuinsseg")
    assert release is datasets.release(datasets.get("nuinsseg")) is nuinsseg.RELEASE
    assert (release.n_splits, release.fold_seed, release.real_tissue, release.made_here) == (5, 19, True, False)
    assert release.obtain == "bench data fetch nuinsseg"
    assert release.has_folds(5, 19) and not release.has_folds(5, 0) and not release.has_folds(4, 19)
    assert len(release.content) == 25 and release.names_sha256 is not None


def test_release_of_synthetic() -> None:
    release = datasets.release("synthetic")
    assert release is synthetic.RELEASE
    assert (release.made_here, release.real_tissue, release.names_sha256) == (True, False, None)
    assert release.obtain == "bench data synth DIR" and not release.has_folds(5, 19)


def test_datasets_of_third_parties_and_unknown_names_have_neutral_facts() -> None:
    written = Written()
    assert datasets.release(written) == datasets.release("absent here") == Release()  # type: ignore[arg-type]
    assert datasets.verify(written, PICTURES) == Verification(False)  # type: ignore[arg-type]
    assert not Release().has_folds(5, 19) and not Release().made_here and Release().real_tissue


def test_the_released_files_at_hand_have_the_digests() -> None:
    folder = SHARED / "nuinsseg-spleen"
    if not folder.is_dir():
        pytest.skip("shared/data/nuinsseg-spleen is not beside the checkout")
    report = datasets.get("nuinsseg").check(folder)
    assert report.release == "not the whole release: 23 of its images, content as released"
    assert (report.problems, report.notes) == ((), ())
    bladder = SHARED / "nuinsseg-labels-only" / "human bladder" / "label masks modify"
    for stem in ("human_bladder_01", "human_bladder_02"):
        label_map, _ = pixels.read_label(bladder / f"{stem}.tif")
        assert nuinsseg.RELEASE.content[stem] == (None, content_digest(label_map))


def released() -> list[Picture]:
    """All names of the release with blank images."""
    listed = SHARED / "nuinsseg_files_and_folds.csv"
    if not listed.is_file():
        pytest.skip("shared/data/nuinsseg_files_and_folds.csv is not beside the checkout")
    with listed.open() as file:
        return [Picture(Path(row["file"]).stem, row["organ"]) for row in csv.DictReader(file)]


def test_the_releases_names_on_other_images_are_not_official() -> None:
    verification = datasets.verify("nuinsseg", released())
    assert names_digest(released()) == nuinsseg.RELEASE.names_sha256
    assert (verification.official, verification.n_files, len(verification.differing)) == (False, 1330, 48)
    assert "human_bladder_01 (labels), human_bladder_02 (labels), human_spleen_01 (image)" in verification.detail
    assert verification.detail.endswith(" and 43 more")


def test_the_release_is_official_and_partly_verified() -> None:
    folder = SHARED / "nuinsseg-spleen"
    if not folder.is_dir():
        pytest.skip("shared/data/nuinsseg-spleen is not beside the checkout")
    dataset = datasets.get("nuinsseg")
    real = {s.stem: Picture(s.stem, s.organ, *dataset.read(s)) for s in dataset.samples(folder)}
    bladder = SHARED / "nuinsseg-labels-only" / "human bladder" / "label masks modify"
    for stem in ("human_bladder_01", "human_bladder_02"):
        real[stem] = Picture(stem, "human bladder", BLANK, pixels.read_label(bladder / f"{stem}.tif")[0])
    whole = [real.get(picture.stem, picture) for picture in released()]
    verification = datasets.verify(dataset, whole)
    assert (verification.official, verification.n_verified) == (True, 48)
    assert verification.detail == "names as released; content of 48 of 1,330 files verified, of the others not"
    edited = [Picture(p.stem, p.organ, p.pixels, p.label_map + 1) if p.stem == "human_spleen_01" else p for p in whole]
    assert datasets.verify(dataset, edited).differing == ("human_spleen_01 (labels)",)


def test_the_check_reports_changed_content_under_released_names_as_a_problem(tmp_path):
    from bench.cli import catalog

    synthetic.write(tmp_path / "data", n_images=2, image_size=64, organs=2, seed=3)
    samples = layout.samples(tmp_path / "data", obtain=None)
    names = names_digest(samples)
    known = {sample.stem: (None, "0" * 32) for sample in samples}
    report = pairs.check(tmp_path / "data", release=Release(names_sha256=names, content=known))
    assert len(report.problems) == 1 and "names as released, but other content" in report.problems[0]
    verified = pairs.check(tmp_path / "data", release=Release(names_sha256=names))
    assert verified.problems == () and verified.release == "names as released, content not verified"
    printed = [str(part) for part in catalog.check_report(verified)]
    assert printed[-2:] == ["[dim]release[/] names as released, content not verified", "[green]no problems[/]"]


def test_official_folds_are_those_of_the_dataset_that_has_all_stems() -> None:
    whole = nuinsseg.RELEASE.folds
    assert whole is not None
    folds = whole()
    assert len(folds) == 665 and [list(folds.values()).count(fold) for fold in range(1, 6)] == [133] * 5
    some = ("human_spleen_01", "mouse_subscapula_07", "human_tonsile_2")
    assert datasets.official_folds(some, n_splits=5, fold_seed=19) == {stem: folds[stem] for stem in some}
    assert datasets.official_folds([*some, "human_tonsile_02"], n_splits=5, fold_seed=19) is None
    assert datasets.official_folds(some, n_splits=4, fold_seed=19) is None
    assert datasets.official_folds(some, n_splits=5, fold_seed=42) is None
