"""The NuInsSeg layout on disk: organ folders with images and label maps, found and paired.

Mahbod et al., "NuInsSeg", Scientific Data 11:295 (2024); Zenodo record 10518968. Any dataset that is
stored this way can be found by these functions.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from registry.contract import Sample
from registry.errors import DataError

IMAGES = "tissue images"
LABELS = "label masks modify"
RAW_LABELS = "label masks"  # overlaps are summed into new values there: never evaluate on it
MANIFEST = "manifest.csv"
_SUFFIXES = {IMAGES: (".png",), LABELS: (".tif", ".tiff")}
_LISTED = 20


@dataclass(frozen=True)
class Problem:
    """What is wrong with a layout; `organ` is None where it concerns the whole folder."""

    organ: str | None
    text: str


def samples(root: Path, *, obtain: str) -> tuple[Sample, ...]:
    """All samples below `root`, sorted by stem as plain strings. No image is decoded.

    Args:
        root: the folder that holds the organ folders, or holds one folder that does.
        obtain: the command that makes or downloads the dataset, for the message where it is missing.

    Raises:
        DataError: lists every problem of the layout at once.
    """
    found, problems = scan(root, obtain=obtain)
    if problems:
        raise DataError(listing(root, [problem.text for problem in problems]))
    return found


def scan(root: Path, *, obtain: str) -> tuple[tuple[Sample, ...], tuple[Problem, ...]]:
    """The complete samples below `root`, and everything that is wrong with the layout."""
    root = Path(root)
    problems: list[Problem] = []
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        text = f"the data folder {root} {what}. To get it: `{obtain}`; or name another folder with --data."
        return (), (Problem(None, text),)
    base, organs = _organ_folders(root, problems)
    if not organs and not problems:
        text = (
            f"{root} holds no organ folder: there must be folders with '{IMAGES}' and '{LABELS}' in them, "
            f"in it or in its only sub-folder. To get the dataset: `{obtain}`."
        )
        return (), (Problem(None, text),)
    found = [sample for organ in organs for sample in _pairs(organ, problems)]
    found = _unique(found, problems)
    groups = _groups(base, {sample.stem for sample in found}, problems)
    grouped = (Sample(s.stem, s.organ, s.image_path, s.label_path, group=groups.get(s.stem) or s.stem) for s in found)
    return tuple(sorted(grouped, key=lambda sample: sample.stem)), tuple(problems)


def listing(root: Path, problems: list[str]) -> str:
    """The message that names all problems of a folder, the first twenty in full."""
    if len(problems) == 1:
        return problems[0]
    lines = [f"{len(problems)} problems below {root}:", *(f"  - {text}" for text in problems[:_LISTED])]
    if len(problems) > _LISTED:
        lines.append(f"  … and {len(problems) - _LISTED} more")
    return "\n".join(lines)


def _entries(folder: Path, problems: list[Problem], organ: str | None = None) -> list[Path]:
    """What is visible in a folder, by name; `.DS_Store` and its like are left out."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        problems.append(Problem(organ, f"{folder} can't be listed: {error.strerror}; check its permissions."))
        return []


def _is_organ(folder: Path, problems: list[Problem]) -> bool:
    try:
        return folder.is_dir() and any((folder / name).is_dir() for name in (IMAGES, LABELS, RAW_LABELS))
    except OSError as error:
        problems.append(Problem(None, f"{folder} can't be entered: {error.strerror}; check its permissions."))
        return False


def _organ_folders(root: Path, problems: list[Problem]) -> tuple[Path, list[Path]]:
    """The folder that holds the organs (the root, or its one sub-folder that does), and the organs."""
    entries = _entries(root, problems)
    if organs := [entry for entry in entries if _is_organ(entry, problems)]:
        return root, organs
    below = {
        top: organs
        for top in entries
        if top.is_dir() and (organs := [entry for entry in _entries(top, problems) if _is_organ(entry, problems)])
    }
    if len(below) > 1:
        names = ", ".join(repr(top.name) for top in below)
        problems.append(Problem(None, f"{root} holds several datasets: {names}; name one of them with --data."))
        return root, []
    return next(iter(below.items()), (root, []))


def _files(organ: Path, name: str, problems: list[Problem]) -> dict[str, Path]:
    """The files of one folder of an organ, by stem."""
    folder, suffixes = organ / name, _SUFFIXES[name]
    if not folder.is_dir():
        hint = ""
        if name == LABELS and (organ / RAW_LABELS).is_dir():
            hint = f" (the '{RAW_LABELS}' that is there sums overlaps into new values and can't stand in)"
        problems.append(Problem(organ.name, f"{organ} has no folder '{name}'{hint}; restore it from the release."))
        return {}
    entries = _entries(folder, problems, organ.name)
    files: dict[str, Path] = {}
    for path in entries:
        if path.suffix.lower() not in suffixes:
            continue
        if path.is_symlink() and not path.exists():
            problems.append(Problem(organ.name, f"{path} is a broken link to {path.readlink()}; mend or remove it."))
        if path.stem in files:
            text = f"{folder} holds both {files[path.stem].name} and {path.name}; remove one of them."
            problems.append(Problem(organ.name, text))
        else:
            files[path.stem] = path
    if entries and not files:
        kinds = ", ".join(sorted({path.suffix or path.name for path in entries}))
        text = f"{folder} holds no {suffixes[0]} file (found: {kinds}); convert the files to {suffixes[0]}."
        problems.append(Problem(organ.name, text))
    return files


def _pairs(organ: Path, problems: list[Problem]) -> list[Sample]:
    images, labels = _files(organ, IMAGES, problems), _files(organ, LABELS, problems)
    if (organ / IMAGES).is_dir() and (organ / LABELS).is_dir():  # otherwise said once, for the folder
        for stem in sorted(images.keys() - labels.keys()):
            text = f"image without label: {images[stem]} needs '{LABELS}/{stem}.tif' beside it."
            problems.append(Problem(organ.name, text))
        for stem in sorted(labels.keys() - images.keys()):
            text = f"label without image: {labels[stem]} needs '{IMAGES}/{stem}.png' beside it."
            problems.append(Problem(organ.name, text))
        if not images and not labels:
            problems.append(Problem(organ.name, f"{organ} is empty: no .png in '{IMAGES}', no .tif in '{LABELS}'."))
    return [
        Sample(stem, organ.name, images[stem], labels[stem], group=stem)
        for stem in sorted(images.keys() & labels.keys())
        if images[stem].exists() and labels[stem].exists()  # broken links are reported already
    ]


def _unique(found: list[Sample], problems: list[Problem]) -> list[Sample]:
    """One sample for each stem: folds are assigned by stem, so a second one is a problem."""
    by_stem: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in found:
        by_stem[sample.stem].append(sample)
    for stem, twins in by_stem.items():
        for twin in twins[1:]:
            text = f"duplicate stem {stem!r} in the organs {twins[0].organ!r} and {twin.organ!r}; rename one."
            problems.append(Problem(twin.organ, text))
    return [twins[0] for twins in by_stem.values()]


def _groups(base: Path, stems: set[str], problems: list[Problem]) -> dict[str, str]:
    """Stem → group of ``manifest.csv`` (columns ``id``, ``group``); an empty group stands for the stem."""
    path = base / MANIFEST
    if not path.exists():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problems.append(Problem(None, f"{path} can't be read: {error}; save it as CSV in UTF-8."))
        return {}
    if missing := [name for name in ("id", "group") if name not in columns]:
        lacking, has = " and ".join(map(repr, missing)), ", ".join(columns) or "none"
        text = f"{path} lacks the column {lacking}; it has: {has}. Add it, or remove the manifest."
        problems.append(Problem(None, text))
        return {}
    times = Counter(row["id"] for row in rows)
    for what, ids, remedy in (
        ("has more than one row for", [name for name, n in times.items() if n > 1], "keep one of each"),
        ("names ids that have no complete sample:", sorted(times.keys() - stems), "remove the rows or add the files"),
        # Without a row an image would be its own group, and could leak from training into the test fold.
        ("has no row for", sorted(stems - times.keys()), "add them, or remove the manifest"),
    ):
        if ids:
            more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
            problems.append(Problem(None, f"{path} {what} {', '.join(map(repr, ids[:5]))}{more}; {remedy}."))
    return {row["id"]: (row["group"] or "").strip() for row in rows}
