"""Page of `bench ablation`: what each setting is worth, changed alone, and which of them the rule makes a default."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from bench.columns import Column
from bench.console import PLAIN
from bench.errors import BenchError
from bench.report.baselines import baseline_frame
from bench.report.changes import Ablation, Change, ablations, mean_seconds, mean_steps
from bench.report.frame import SECTION_KEYS, leaderboard_frame
from bench.report.intervals import FEWEST_ORGANS, RESAMPLES
from bench.report.output import SUFFIXES, chosen_format, write_text
from bench.report.paired import SCORES, ScoreFiles
from bench.report.reading import read_records
from bench.report.section import sections
from bench.report.table import Block, markdown, terminal
from bench.units import SCORE_TITLES, duration

FORMATS = ("terminal", "markdown", "csv")
MINUS = "−"
VERDICTS = {"better": "better: kept", "worse": "worse", "mixed": "mixed", "not shown": "not shown"}
RULE = (
    "A setting is kept as a default only if it is better: the 95 % interval of its difference in PQ lies above zero, "
    "and that of no other score below. Mixed: PQ rises, and another score falls. Not shown: PQ's interval holds zero. "
    "The intervals are not adjusted for their number."
)
SCORE_ORDER = ("dice", "aji", "pq")


def show_ablation(
    results: Path,
    base: Sequence[str] = (),
    *,
    format: str | None = None,
    output: Path | None = None,
    console: Console | None = None,
) -> Path | None:
    """Print what single changes of settings are worth, or write it to a file and print the file's path.

    Args:
        results: the results folder.
        base: ``KEY=VALUE`` texts of the base row; none: the row from which most others differ in one setting.
        format: ``terminal``, ``markdown`` or ``csv``; None: by the ending of `output`, or the terminal without it.
        output: the file; ``-`` is standard output.
        console: what is printed on; None takes stdout.

    Returns:
        The file written; None for the terminal and for what is no file.

    Raises:
        BenchError: no records, no row that differs from another in one setting alone, several rows that could be the
            base, or a file that can't be written.
    """
    console = console or Console()
    format = chosen_format(format, output)
    if format not in FORMATS:
        raise BenchError(f"an ablation has no format {format}; choose {', '.join(FORMATS)}.")
    records = read_records(results)
    parts = _parts(records, base, ScoreFiles(results))
    blocks = [block for title, found in parts for ablation in found for block in ablation_blocks(ablation, title)]
    if format == "terminal":
        console.print(terminal(blocks, width=console.width, encoding=console.encoding))
        return None
    text = page(blocks, records) if format == "markdown" else frame(parts).to_csv(index=False)
    path = output or results / "tables" / f"ablation{SUFFIXES[format]}"
    if not write_text(path, text):
        return None
    console.print(str(path), **PLAIN)
    return path


def _parts(records: pd.DataFrame, base: Sequence[str], files: ScoreFiles) -> list[tuple[str, list[Ablation]]]:
    titles = {part.keys: part.title for part in sections(leaderboard_frame(records), baseline_frame(None))}
    parts = [
        (titles[keys], ablations(runs, base, files)) for keys, runs in records.groupby(list(SECTION_KEYS), sort=True)
    ]
    if not any(found for _, found in parts):
        chosen = f" with {' and '.join(base)}" if base else ""
        raise BenchError(
            f"no row{chosen} differs from another in one setting alone; plan changes of one setting each with "
            '`Grid(changes=({"train.ema": 0.99},))`, or see `bench run --grid ablations`.'
        )
    return parts


def page(blocks: Sequence[Block], records: pd.DataFrame) -> str:
    """Return the Markdown page: the rule, the blocks, and what measured them."""
    devices = ", ".join(sorted({str(name) for name in records["device_name"].dropna()})) or "unknown"
    commits = ", ".join(sorted({str(commit)[:10] for commit in records["commit"].dropna()})) or "unknown"
    return (
        f"# Settings, changed one at a time\n\nMade by `bench ablation` from {len(records)} records; nothing is typed "
        f"by hand. Device: {devices}. Commits of the code: {commits}.\n\n{RULE}\n\n{markdown(blocks)}"
    )


def ablation_blocks(ablation: Ablation, title: str) -> list[Block]:
    """Return the blocks of an ablation: its base row, what is better, and what is not.

    Args:
        ablation: with at least one change or note.
        title: of its section.
    """
    kept = [change for change in ablation.changes if change.verdict == "better"]
    others = [change for change in ablation.changes if change.verdict != "better"]
    name = ablation.base.name
    blocks = [_base_block(ablation, title)]
    if kept:
        blocks.append(Block(f"{name}: what helped", _columns(kept), _notes(kept), _caption(kept)))
    if others:
        blocks.append(Block(f"{name}: what did not help", _columns(others), _notes(others), _caption(others)))
    blocks[-1].notes.extend(ablation.notes)
    return blocks


def frame(parts: Sequence[tuple[str, Sequence[Ablation]]]) -> pd.DataFrame:
    """Return a row for each change; scores as fractions, seconds and steps as means over runs.

    Args:
        parts: title and ablations of each section.
    """
    return pd.DataFrame(
        [
            {
                **{"section": title, "row": ablation.base.name},
                **{"setting": change.setting, "before": change.before, "after": change.after},
                **{
                    f"{score}_{name}": value
                    for score, difference in change.differences.items()
                    for name, value in (
                        ("difference", difference.mean),
                        ("low", difference.interval.low),
                        ("high", difference.interval.high),
                    )
                },
                **_counts(change),
                **{"steps": mean_steps(change.runs), "seconds": mean_seconds(change.runs)},
                **{"verdict": change.verdict, "notes": " ".join(change.pairing.notes)},
            }
            for title, found in parts
            for ablation in found
            for change in ablation.changes
        ]
    )


def _counts(change: Change) -> dict[str, int]:
    images = change.pairing.images
    return {"seeds": change.n_seeds, "folds": int(images["fold"].nunique()), "images": len(images)}


def _base_block(ablation: Ablation, title: str) -> Block:
    runs = ablation.base.ok
    means = runs[list(SCORES)].apply(pd.to_numeric).groupby(runs["fold"]).mean().mean()
    columns = [
        *(Column(SCORE_TITLES[score], [f"{100 * means[score]:.1f}"]) for score in SCORE_ORDER),
        Column("seeds", [str(runs["seed"].nunique())]),
        Column("folds", [str(runs["fold"].nunique())]),
        Column("steps", [_number(mean_steps(runs))]),
        Column("time a run", [_time(mean_seconds(runs))]),
    ]
    settings = ", ".join(f"{key}={value}" for key, value in ablation.settings.items())
    return Block(
        f"{ablation.base.name}: base", columns, [f"Settings: {settings}."], f"{title}. Means over folds, in percent."
    )


def _columns(changes: Sequence[Change]) -> list[Column]:
    def differences(score: str) -> Column:
        return Column(f"Δ {SCORE_TITLES[score]}", [_interval(change, score) for change in changes])

    counts = [_counts(change) for change in changes]
    return [
        Column("setting", [change.setting for change in changes], right=False),
        Column("value", [f"{change.before} → {change.after}" for change in changes], right=False),
        *map(differences, SCORE_ORDER),
        *(Column(name, [str(count[name]) for count in counts], drop=3) for name in ("seeds", "folds", "images")),
        Column("steps", [_number(mean_steps(change.runs)) for change in changes], drop=2),
        Column("time a run", [_time(mean_seconds(change.runs)) for change in changes], drop=1),
        Column("verdict", [VERDICTS[change.verdict] for change in changes], right=False),
    ]


def _caption(changes: Sequence[Change]) -> str:
    return "Changed minus base in points, with the 95 % interval of the paired difference."


def _notes(changes: Sequence[Change]) -> list[str]:
    organs = min(change.pairing.images["organ"].nunique() for change in changes)
    drawn = "organs, each with all its images," if organs >= FEWEST_ORGANS else "images"
    notes = [
        f"Intervals: {drawn} drawn with replacement {RESAMPLES:,} times; an image counts once, with the mean over its "
        "seeds."
    ]
    if min(change.n_seeds for change in changes) == 1:
        notes.append("With one seed, an interval is about these trained models, not about training them again.")
    notes += [f"{change.setting}={change.after}: {note}" for change in changes for note in change.pairing.notes]
    return list(dict.fromkeys(notes))


def _interval(change: Change, score: str) -> str:
    difference = change.differences[score]
    low, high = difference.interval.low, difference.interval.high
    return f"{_points(difference.mean)} [{_points(low)}, {_points(high)}]"


def _points(value: float) -> str:
    return f"{100 * value:+.2f}".replace("-", MINUS)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def _time(seconds: float | None) -> str:
    return "–" if seconds is None else duration(seconds)
