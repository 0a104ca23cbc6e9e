"""File names of a dataset: Unicode forms, bytes that are not UTF-8, and names too long for the files of a run."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from registry import datasets, names
from registry.contract import CheckReport, Sample
from registry.errors import DataError

IMAGE = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
LABEL = np.zeros((6, 8), np.uint16)
LABEL[1:3, 1:3], LABEL[4, 5] = 1, 7
NFC, NFD = (unicodedata.normalize(form, "Ärzte_é_1") for form in ("NFC", "NFD"))
LATIN = os.fsdecode(b"r\xe9nal_1")  # "rénal_1" as Windows archives hold it


def add(root: Path, organ: str, image: str | None, label: str | None) -> None:
    for folder in ("tissue images", "label masks modify"):
        (root / organ / folder).mkdir(parents=True, exist_ok=True)
    if image is not None:
        Image.fromarray(IMAGE).save(root / organ / "tissue images" / f"{image}.png")
    if label is not None:
        path = root / organ / "label masks modify" / f"{label}.tif"
        with path.open("wb") as file:  # tifffile itself refuses names that are not UTF-8
            tifffile.imwrite(file, LABEL)


def problem_of(root: Path) -> str:
    """The refusal of `samples`, which a terminal and a file in UTF-8 must take."""
    with pytest.raises(DataError) as caught:
        datasets.get("nuinsseg").samples(root)
    return str(caught.value).encode().decode()


def checked(root: Path) -> CheckReport:
    report = datasets.get("nuinsseg").check(root)
    for text in (str(report.root), *report.organs, *report.problems, *report.notes, report.release):
        text.encode()
    return report


# --- Unicode forms


def test_image_and_label_in_two_unicode_forms_are_paired(tmp_path: Path) -> None:
    add(tmp_path, "o", NFD, NFC)
    add(tmp_path, "p", "b", "b")
    found = datasets.get("nuinsseg").samples(tmp_path)
    assert [sample.stem for sample in found] == ["b", NFC]
    assert found[1].image_path.stem == NFD and found[1].image_path.exists()
    assert checked(tmp_path).problems == ()
    np.testing.assert_array_equal(datasets.get("nuinsseg").read(found[1])[1], LABEL)


def test_the_fingerprint_does_not_depend_on_the_unicode_form(tmp_path: Path) -> None:
    digests = []
    for name, organ, image, label in (("a", NFC, NFC, NFC), ("b", NFD, NFD, NFC)):
        add(tmp_path / name, organ, image, label)
        digests.append(datasets.fingerprint(datasets.get("nuinsseg").samples(tmp_path / name)))
    assert digests[0] == digests[1]


def test_one_name_in_two_unicode_forms_is_a_duplicate(tmp_path: Path) -> None:
    add(tmp_path, "o", NFD, NFC)
    add(tmp_path, "o", NFC, None)
    text = problem_of(tmp_path)
    assert f"holds two files of the name '{NFC}.png' in two Unicode forms ('A\\u0308rzte_e\\u0301_1.png' and" in text
    assert text.endswith("; remove one of them.")


def test_stems_of_two_organs_that_are_equal_in_nfc_are_duplicates(tmp_path: Path) -> None:
    add(tmp_path, "o", NFD, NFD)
    add(tmp_path, "p", NFC, NFC)
    assert problem_of(tmp_path) == f"duplicate stem {NFC!r} in the organs 'o' and 'p'; rename one."


def test_organ_folders_in_two_unicode_forms(tmp_path: Path) -> None:
    add(tmp_path, NFD, "a", "a")
    add(tmp_path, NFC, "b", "b")
    assert f"holds two folders of the name {NFC!r} in two Unicode forms" in problem_of(tmp_path)
    assert checked(tmp_path).organs == {NFC: {"samples": 1, "nuclei": 2, "problems": 1}}


def test_manifest_in_another_unicode_form(tmp_path: Path) -> None:
    add(tmp_path, "o", NFD, NFD)
    (tmp_path / "manifest.csv").write_text(f"id,group\n{NFC},g\n", encoding="utf-8")
    assert [s.group for s in datasets.get("nuinsseg").samples(tmp_path)] == ["g"]
    (tmp_path / "manifest.csv").write_text(f"id,group\n{NFC},g\n{NFD},g\n", encoding="utf-8")
    assert f"has more than one row for {NFC!r}" in problem_of(tmp_path)


# --- bytes that are not UTF-8


def test_file_names_that_are_not_utf8(tmp_path: Path) -> None:
    add(tmp_path, "o", LATIN, LATIN)
    add(tmp_path, "o", "sound", "sound")
    lines = problem_of(tmp_path).splitlines()
    assert lines[0] == f"2 problems below {tmp_path}:"
    folder = tmp_path / "o" / "tissue images"
    assert lines[1] == (
        f"  - {folder}/r\\xe9nal_1.png has a name that is not UTF-8, as archives made on Windows hold them; rename it, "
        "or convert the names of a whole folder: `convmv -r -f cp1252 -t utf-8 --notest FOLDER`."
    )
    assert checked(tmp_path).organs == {"o": {"samples": 1, "nuclei": 2, "problems": 2}}


def test_a_folder_of_nothing_but_such_names_is_not_called_empty(tmp_path: Path) -> None:
    add(tmp_path, "o", LATIN, LATIN)
    report = checked(tmp_path)
    assert len(report.problems) == 2 and all("not UTF-8" in problem for problem in report.problems)


def test_organ_names_that_are_not_utf8(tmp_path: Path) -> None:
    add(tmp_path, LATIN, "a", "a")
    assert f"{tmp_path}/r\\xe9nal_1 has a name that is not UTF-8" in problem_of(tmp_path)
    assert checked(tmp_path).organs == {"r\\xe9nal_1": {"samples": 0, "nuclei": 0, "problems": 1}}


@pytest.mark.parametrize("below", [True, False])
def test_data_folders_whose_names_are_not_utf8(tmp_path: Path, below: bool) -> None:
    """The folder itself, or the one folder in it that holds the organs."""
    add(tmp_path / LATIN, "o", "a", "a")
    given = tmp_path if below else tmp_path / LATIN
    assert "the data folder" in problem_of(given) and "r\\xe9nal_1" in problem_of(given)
    assert len(checked(given).problems) == 1
    assert "does not exist" in problem_of(tmp_path / os.fsdecode(b"absent\xff"))


def test_such_names_beside_the_data_do_no_harm(tmp_path: Path) -> None:
    add(tmp_path, "o", "a", "a")
    (tmp_path / "o" / "tissue images" / os.fsdecode(b"notes\xff.txt")).write_text("")
    (tmp_path / os.fsdecode(b"pictures\xff")).mkdir()
    assert len(datasets.get("nuinsseg").samples(tmp_path)) == 1


def test_names_with_control_characters(tmp_path: Path) -> None:
    """A line break in a name could make the fingerprint's lines of two datasets equal."""
    add(tmp_path, "o", "a\nb", "a\nb")
    report = checked(tmp_path)
    assert (
        "a\\nb.png has a control character (a line break or a tab, say) in its name; rename it." in report.problems[0]
    )
    assert len(report.problems) == 2


def test_fingerprint_and_reading_of_names_that_a_third_party_allows(tmp_path: Path) -> None:
    add(tmp_path, "o", LATIN, LATIN)
    folder = tmp_path / "o"
    paths = folder / "tissue images" / f"{LATIN}.png", folder / "label masks modify" / f"{LATIN}.tif"
    sample = Sample(LATIN, "o", *paths, LATIN)
    assert len(datasets.fingerprint([sample])) == 64
    paths[0].write_bytes(b"")
    with pytest.raises(DataError) as caught:
        datasets.get("nuinsseg").read(sample)
    assert f"{folder}/tissue images/r\\xe9nal_1.png can't be read" in str(caught.value).encode().decode()


def test_shown_paths() -> None:
    assert names.shown(Path("/a b/é.png")) == "/a b/é.png"
    assert names.shown(os.fsdecode(b"a\xff")) == "a\\xff"
    assert names.shown("a\tb\x1b[0m") == "a\\tb\\x1b[0m"


# --- length


def test_stems_too_long_for_the_files_of_a_run(tmp_path: Path) -> None:
    longest = "é" * 121 + "e"  # 243 bytes
    add(tmp_path, "o", longest, longest)
    assert len(datasets.get("nuinsseg").samples(tmp_path)) == 1
    (tmp_path / f"{longest}.overlay.png").write_text("")  # the longest name that a run derives, in 255 bytes
    add(tmp_path, "p", longest + "e", longest + "e")
    lines = problem_of(tmp_path).splitlines()
    assert len(lines) == 3
    assert lines[1].endswith(
        "has a name of 244 bytes without its suffix; at most 243 are allowed, because a run writes files named after "
        "it (NAME.overlay.png); shorten it for the image and its label map alike."
    )


def test_stems_that_share_a_file_of_a_run(tmp_path: Path) -> None:
    """The overlay of "a" and the label map of "a.overlay" would be one file."""
    for stem in ("a", "a.overlay"):
        add(tmp_path, "o", stem, stem)
    assert problem_of(tmp_path) == "the stems 'a' and 'a.overlay' share a file that a run writes; rename one."


# --- files of another format


def test_a_partner_of_another_format_is_named(tmp_path: Path) -> None:
    add(tmp_path, "o", "a", "a")
    add(tmp_path, "o", None, "b")
    tifffile.imwrite(tmp_path / "o" / "tissue images" / "b.tif", IMAGE, photometric="rgb")
    text = problem_of(tmp_path)
    assert "needs 'tissue images/b.png' beside it. b.tif is there in another format: convert it to .png." in text


def test_a_folder_that_may_not_be_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated: the superuser may enter everything."""
    (tmp_path / "locked").mkdir()
    real = Path.is_dir

    def is_dir(self: Path) -> bool:
        if self.name == "locked":
            raise PermissionError(13, "Permission denied")
        return real(self)

    monkeypatch.setattr(Path, "is_dir", is_dir)
    assert "locked can't be entered: Permission denied; check its permissions." in problem_of(tmp_path)


def test_a_data_folder_whose_name_no_file_system_takes(tmp_path: Path) -> None:
    assert "can't be entered: File name too long" in problem_of(tmp_path / ("a" * 300))
