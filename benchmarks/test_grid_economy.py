"""GPU-hours of the default grid by the model of `bench plan`, per strategy: without faster forms, with them, and with
cached embeddings. ``python benchmarks/test_grid_economy.py`` writes the table into the README.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import ratios

from bench import fast_paths
from bench.estimate import estimator
from bench.grid import CLASSICAL
from bench.planning import plan, sweeps
from bench.slurm.profile import ClusterProfile
from registry import datasets

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- economy: begin -->\n", "<!-- economy: end -->\n"
PROFILE = replace(ClusterProfile(), gpu="a GPU that nobody has measured")
"""The default A100; no measurement of this user's cache is taken for it."""
HEADINGS = ("strategy", "plain forms", "faster forms", "and cached embeddings")
HIGHER_UTILISATION = 0.35


def gpu_hours(
    assignments: Sequence[str], used_paths: frozenset[str], profile: ClusterProfile = PROFILE
) -> dict[str, float]:
    """Return the GPU-hours of the default grid by strategy, on the images of the dataset's release."""
    grid, problems = sweeps.apply(plan.load_grid("default"), assignments)
    assert not problems, problems
    runs = [run for run in plan.make(grid, "").runs if run.backbone != CLASSICAL]
    estimates = estimator.estimate_resources(
        runs,
        records=(),
        profile=profile,
        n_images=datasets.get(grid.settings.dataset).published_images or 0,
        used_paths=used_paths,
    )
    hours: dict[str, float] = {}
    for run in runs:
        minutes = estimates[run.id].minutes
        assert minutes is not None, (run.backbone, run.strategy, estimates[run.id].details)
        hours[run.strategy] = hours.get(run.strategy, 0.0) + minutes / 60
    return hours


def columns() -> tuple[Mapping[str, float], ...]:
    """Return the columns of the table: GPU-hours by strategy."""
    return (
        gpu_hours([], frozenset()),
        gpu_hours([], fast_paths.DEFAULT),
        gpu_hours(["embeddings=cached"], fast_paths.DEFAULT),
    )


def table(hours: Sequence[Mapping[str, float]]) -> str:
    """Return the table in Markdown, with a row of sums."""
    rows = [(strategy, *(of[strategy] for of in hours)) for strategy in hours[0]]
    rows.append(("all", *(sum(of.values()) for of in hours)))
    lines = [f"| {' | '.join(HEADINGS)} |", "| --- | ---: | ---: | ---: |"]
    lines += [f"| {name} | {' | '.join(f'{value:.1f}' for value in values)} |" for name, *values in rows]
    return "".join(f"{line}\n" for line in lines)


def with_table(text: str, new: str) -> str:
    """Return a text whose table between the two marks is replaced."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    assert after, f"{README} has no marks {BEGIN.strip()} and {END.strip()}."
    return f"{before}{BEGIN}{new}{END}{after}"


def test_gpu_hours_of_the_default_grid() -> None:
    hours = columns()
    before, fast, cached = (sum(of.values()) for of in hours)
    images = f"{PROFILE.gpu_tflops:.0f} TFLOP/s at {100 * PROFILE.utilisation:.0f} %, counted FLOPs"
    ratios.report(
        "default grid: GPU-hours, faster forms",
        fast / before,
        None,
        better="lower",
        detail=f"{fast:.1f} of {before:.1f} h",
    )
    ratios.report(
        "default grid: GPU-hours, and cached embeddings",
        cached / before,
        0.5,
        better="lower",
        detail=f"{cached:.1f} of {before:.1f} h; {images}",
    )
    higher = replace(PROFILE, utilisation=HIGHER_UTILISATION)
    at_higher = sum(gpu_hours(["embeddings=cached"], fast_paths.DEFAULT, higher).values())
    ratios.report(
        f"default grid: the same if a GPU reaches {100 * HIGHER_UTILISATION:.0f} % of its peak",
        at_higher / before,
        None,
        better="lower",
        detail=f"{at_higher:.1f} of {before:.1f} h; not measured: what it would take to meet the target",
    )
    text = README.read_text(encoding="utf-8")
    assert with_table(text, table(hours)) == text, "README's table is outdated: python benchmarks/test_grid_economy.py"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8"), table(columns())), encoding="utf-8")
    print(f"{README}: table of GPU-hours written")
