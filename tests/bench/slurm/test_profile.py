from __future__ import annotations

import re
from dataclasses import fields

import pytest

from bench.errors import ClusterError
from bench.slurm.profile import FOLDER, ClusterProfile, load_profile


def test_the_default_profile_is_read():
    assert load_profile("default") == ClusterProfile()


def test_a_profile_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('partition = "gpu"\ntime_limit_min = 60\nsetup = ["module load cuda"]\n')
    profile = load_profile(str(path))
    assert (profile.partition, profile.time_limit_min, profile.setup) == ("gpu", 60, ("module load cuda",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partiton = 'gpu'", "unknown key 'partiton'. Did you mean 'partition'"),
        ("gpus = 'two'", r"gpus = 'two' is not of type int"),
        ("gpus = true", r"gpus = True is not of type int"),
        ("setup = 'x'", r"setup = 'x' is not of type list"),
        ("gpus = ", "is no valid TOML"),
    ],
)
def test_bad_profiles_say_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ClusterError, match=message):
        load_profile(str(path))


def test_an_unknown_profile_names_the_nearest():
    with pytest.raises(ClusterError, match=r"unknown cluster profile 'defalt'\. Did you mean 'default'\?"):
        load_profile("defalt")


def test_the_readme_explains_every_key():
    text = (FOLDER / "README.md").read_text()
    explained = {key for line in text.splitlines() if line.startswith("| `") for key in re.findall(r"`(\w+)`", line)}
    assert {f.name for f in fields(ClusterProfile)} <= explained


def test_values_out_of_range_are_told_at_once(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("gpus = 2\nutilisation = 1.5\ntime_limit_min = 1\nruns_per_job = 0\nextra = { a = [1] }\n")
    with pytest.raises(ClusterError) as caught:
        load_profile(str(path))
    text = str(caught.value)
    for part in (
        "gpus = 2 must be 1, since a run uses one GPU",
        "utilisation = 1.5 must be above 0 and at most 1.",
        "signal_delay_s = 120 must be at most 30 (seconds) with time_limit_min = 1.",
        "runs_per_job = 0 must be at least 1.",
        "extra = {'a': [1]} must be texts or whole numbers",
    ):
        assert part in text, part


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpu = 'a100:4'", r"gpu = 'a100:4' must be a kind alone, such as 'a100'"),
        ("extra = { partition = 'x' }", "must be without partition: other keys of the profile say that"),
        ("extra = { '--exclude' = 'n1' }", "must be options without their dashes"),
        ("time_limit_min = '1 h'", "write a whole number without unit"),
        ("setup = 'module load cuda'", r'write a list, such as \["module load cuda"\]'),
    ],
)
def test_what_sbatch_would_misunderstand_is_refused(tmp_path, text, message):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ClusterError, match=message):
        load_profile(str(path))
    with pytest.raises(ClusterError, match=r"is a folder; give a \.toml file in it"):
        (tmp_path / "folder.toml").mkdir(exist_ok=True)
        load_profile(str(tmp_path / "folder.toml"))
