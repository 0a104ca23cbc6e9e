"""The NuInsSeg layout on disk: organ folders with images and label maps, found and paired.

Mahbod et al., "NuInsSeg", Scientific Data 11:295 (2024); Zenodo record 10518968. Any dataset that is
stored this way can be found by these functions.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from registry import manifest_groups
from registry.contract import Sample
from registry.errors import DataError
from registry.names import composed, name_problem, shown, stem_problem

IMAGES = "tissue images"
LABELS = "label masks modify"
RAW_LABELS = "label masks"  # overlaps are summed into new values there: never evaluate on it
MANIFEST = "manifest.csv"
_SUFFIXES = {IMAGES: (".png",), LABELS: (".tif", ".tiff")}
_LISTED = 20


@dataclass(frozen=True)
class Problem:
    """A fault of a layout; `organ` is None where it concerns the whole folder."""

    organ: str | None
    text: str


def samples(root: Path, *, obtain: str | None) -> tuple[Sample, ...]:
    """Return all samples below `root`, sorted by stem as plain strings. No image is decoded.

    Stems and organs are in the Unicode form NFC, whatever form the names on disk have.

    Args:
        root: the folder that holds the organ folders, or holds one folder that does.
        obtain: the command that makes or downloads the dataset, for the message where it is missing.

    Raises:
        DataError: lists every problem of the layout at once.
    """
    complete, problems = scan(root, obtain=obtain)
    if problems:
        raise DataError(listing(root, [problem.text for problem in problems]))
    return complete


def scan(root: Path, *, obtain: str | None) -> tuple[tuple[Sample, ...], tuple[Problem, ...]]:
    """Return the complete samples below `root`, and everything that is wrong with the layout."""
    root = Path(root)
    problems: list[Problem] = []
    how = f" To get it: `{obtain}`; or name" if obtain else " Name"
    if not _is_folder(root, problems):
        if problems:
            return (), tuple(problems)
        what = "is a file, not a folder" if root.exists() else "does not exist"
        text = f"the data folder {shown(root)} {what}.{how} another folder with --data."
        return (), (Problem(None, text),)
    base, organs = _organ_folders(root, problems)
    if wrong := name_problem(str(base)):
        return (), (Problem(None, f"the data folder {shown(base)} {wrong}"),)
    if not organs and not problems:
        text = (
            f"{shown(root)} holds no organ folder: there must be folders with '{IMAGES}' and '{LABELS}' in them, "
            "in it or in its only sub-folder."
        )
        return (), (Problem(None, text + (f" To get the dataset: `{obtain}`." if obtain else "")),)
    complete = [sample for organ in _sound_names(organs, problems) for sample in _pairs(organ, problems)]
    complete = _unique(complete, problems)
    groups, faults = manifest_groups.read(base / MANIFEST, {sample.stem for sample in complete})
    problems += [Problem(None, text) for text in faults]
    grouped = (
        Sample(s.stem, s.organ, s.image_path, s.label_path, group=groups.get(s.stem) or s.stem) for s in complete
    )
    return tuple(sorted(grouped, key=lambda sample: sample.stem)), tuple(problems)


def listing(root: Path, problems: list[str]) -> str:
    """Return the message that names all problems of a folder, the first twenty in full."""
    if len(problems) == 1:
        return problems[0]
    lines = [f"{len(problems)} problems below {shown(root)}:", *(f"  - {text}" for text in problems[:_LISTED])]
    if len(problems) > _LISTED:
        lines.append(f"  … and {len(problems) - _LISTED} more")
    return "\n".join(lines)


def _entries(folder: Path, problems: list[Problem], organ: str | None = None) -> list[Path]:
    """Return the visible entries of a folder, by name; `.DS_Store` and its like are left out."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        problems.append(Problem(organ, f"{shown(folder)} can't be listed: {error.strerror}; check its permissions."))
        return []


def _is_organ(folder: Path, problems: list[Problem]) -> bool:
    inner = (IMAGES, LABELS, RAW_LABELS)
    return _is_folder(folder, problems) and any(_is_folder(folder / name, problems) for name in inner)


def _is_folder(folder: Path, problems: list[Problem]) -> bool:
    try:
        return folder.is_dir()
    except OSError as error:
        problems.append(Problem(None, f"{shown(folder)} can't be entered: {error.strerror}; check its permissions."))
        return False


def _organ_folders(root: Path, problems: list[Problem]) -> tuple[Path, list[Path]]:
    """Return the folder that holds the organs (the root, or its one sub-folder that does), and the organs."""
    entries = _entries(root, problems)
    if organs := [entry for entry in entries if _is_organ(entry, problems)]:
        return root, organs
    below = {
        top: organs
        for top in entries
        if _is_folder(top, problems)
        and (organs := [entry for entry in _entries(top, problems) if _is_organ(entry, problems)])
    }
    if len(below) > 1:
        names = ", ".join(f"'{shown(top.name)}'" for top in below)
        problems.append(Problem(None, f"{shown(root)} holds several datasets: {names}; name one of them with --data."))
        return root, []
    return next(iter(below.items()), (root, []))


def _sound_names(organs: list[Path], problems: list[Problem]) -> list[Path]:
    """Return the organ folders whose names can be used, each name once."""
    by_name: dict[str, Path] = {}
    for organ in organs:
        if wrong := name_problem(organ.name):
            problems.append(Problem(shown(organ.name), f"{shown(organ)} {wrong}"))
        elif (twin := by_name.setdefault(composed(organ.name), organ)) is not organ:
            text = f"{shown(organ.parent)} holds two folders {_both_forms(twin, organ)}; move their files into one."
            problems.append(Problem(composed(organ.name), text))
    return list(by_name.values())


def _files(organ: Path, name: str, problems: list[Problem]) -> dict[str, Path]:
    """Return the files of one folder of an organ, by stem."""
    folder, suffixes, title = organ / name, _SUFFIXES[name], composed(organ.name)
    if not folder.is_dir():
        hint = ""
        if name == LABELS and (organ / RAW_LABELS).is_dir():
            hint = f" (the '{RAW_LABELS}' that is there sums overlaps into new values and can't stand in)"
        problems.append(Problem(title, f"{organ} has no folder '{name}'{hint}; add it with its files."))
        return {}
    entries = _entries(folder, problems, title)
    files: dict[str, Path] = {}
    unusable = False
    for path in entries:
        if path.suffix.lower() not in suffixes:
            continue
        if wrong := stem_problem(composed(path.stem)):
            problems.append(Problem(title, f"{shown(path)} {wrong}"))
            unusable = True
            continue
        if path.is_symlink() and not path.exists():
            text = f"{path} is a broken link to {shown(path.readlink())}; fix or remove it."
            problems.append(Problem(title, text))
        twin = files.setdefault(composed(path.stem), path)
        if twin is not path:
            names = f"both {twin.name} and {path.name}"
            if twin.stem != path.stem:
                names = f"two files {_both_forms(twin, path)}"
            problems.append(Problem(title, f"{folder} holds {names}; remove one of them."))
    if entries and not files and not unusable:
        kinds = ", ".join(sorted({shown(path.suffix or path.name) for path in entries}))
        text = f"{folder} holds no {suffixes[0]} file (found: {kinds}); convert the files to {suffixes[0]}."
        problems.append(Problem(title, text))
    return files


def _both_forms(first: Path, second: Path) -> str:
    return f"of the name {composed(first.name)!r} in two Unicode forms ({first.name!a} and {second.name!a})"


def _pairs(organ: Path, problems: list[Problem]) -> list[Sample]:
    images, labels = _files(organ, IMAGES, problems), _files(organ, LABELS, problems)
    title = composed(organ.name)
    if (organ / IMAGES).is_dir() and (organ / LABELS).is_dir():  # otherwise said once, for the folder
        for stem in sorted(images.keys() - labels.keys()):
            text = f"image without label: {images[stem]} needs '{LABELS}/{stem}.tif' beside it."
            problems.append(Problem(title, text + _other_format(organ / LABELS, stem)))
        for stem in sorted(labels.keys() - images.keys()):
            text = f"label without image: {labels[stem]} needs '{IMAGES}/{stem}.png' beside it."
            problems.append(Problem(title, text + _other_format(organ / IMAGES, stem)))
        if not images and not labels and not any(problem.organ == title for problem in problems):
            problems.append(Problem(title, f"{organ} is empty: no .png in '{IMAGES}', no .tif in '{LABELS}'."))
    return [
        Sample(stem, title, images[stem], labels[stem], group=stem)
        for stem in sorted(images.keys() & labels.keys())
        if images[stem].exists() and labels[stem].exists()  # broken links are reported already
    ]


def _other_format(folder: Path, stem: str) -> str:
    """Return the sentence about a file of that stem in another format; empty where there is none."""
    suffixes = _SUFFIXES[folder.name]
    others = [p.name for p in _entries(folder, []) if composed(p.stem) == stem and p.suffix.lower() not in suffixes]
    return f" {shown(others[0])} is there in another format: convert it to {suffixes[0]}." if others else ""


def _unique(complete: list[Sample], problems: list[Problem]) -> list[Sample]:
    """Return one sample for each stem: folds are assigned by stem, so a second one is a problem."""
    by_stem: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in complete:
        by_stem[sample.stem].append(sample)
    for stem, twins in by_stem.items():
        for twin in twins[1:]:
            text = f"duplicate stem {stem!r} in the organs {twins[0].organ!r} and {twin.organ!r}; rename one."
            problems.append(Problem(twin.organ, text))
        if (other := by_stem.get(f"{stem}.overlay")) is not None:
            text = f"the stems {stem!r} and {other[0].stem!r} share a file that a run writes; rename one."
            problems.append(Problem(other[0].organ, text))
    return [twins[0] for twins in by_stem.values()]
