"""Nodes as sinfo lists them, compared with profiles."""

from __future__ import annotations

from dataclasses import replace

import pytest
from slurm_commands import put_commands

from bench.slurm import nodes
from bench.slurm.nodes import Comparison, NodeGroup
from bench.slurm.profile import ClusterProfile

SINFO = """\
gpu|gpu*|1-00:00:00|16|128000|gpu:a100:4(S:0-1),nvme:1|a100,ib
gpu|gpu*|1-00:00:00|8|64000+|gpu:v100:2|v100
cpu|cpu|infinite|64|1|(null)|(null)
"""
SMALL = ClusterProfile(cpus_per_gpu=8, memory_gb_per_gpu=48)
SKIP = " If jobs start there all the same, write check_nodes = false in the profile."
ALONE = " Jobs without a partition may wait for ever there; set partition in the profile (cpu)."


@pytest.fixture(autouse=True)
def no_settings_of_this_shell(monkeypatch):
    for name in ("SBATCH_PARTITION", "SBATCH_CLUSTERS", "SBATCH_QOS", "SINFO_PARTITION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def groups(tmp_path, monkeypatch):
    put_commands(tmp_path / "bin", monkeypatch, sinfo=f"cat <<'END'\n{SINFO}END")
    return nodes.read()


def test_groups_of_nodes_are_read_from_sinfo(groups):
    assert groups == (
        NodeGroup("gpu", True, 1440.0, 16, 128000, frozenset({"a100"}), frozenset({"a100", "ib"})),
        NodeGroup("gpu", True, 1440.0, 8, 64000, frozenset({"v100"}), frozenset({"v100"})),
        NodeGroup("cpu", False, None, 64, None, frozenset(), frozenset()),
    )


def test_without_an_answer_there_are_no_problems(tmp_path, monkeypatch):
    put_commands(tmp_path / "bin", monkeypatch, sinfo="exit 1")
    assert nodes.read() == () and nodes.compare(SMALL, ()) == Comparison()


@pytest.mark.parametrize("line", ["CLUSTER: other", "gpu|gpu*|infinite|many|64000|gpu:1|(null)", "gpu|gpu*|infinite|8"])
def test_a_list_that_is_understood_in_part_only_is_not_used(tmp_path, monkeypatch, line):
    put_commands(tmp_path / "bin", monkeypatch, sinfo=f"cat <<'END'\n{SINFO}{line}\nEND")
    assert nodes.read() == ()


def test_a_list_of_some_partitions_is_not_used_and_hidden_ones_are_listed(tmp_path, monkeypatch, groups):
    assert len(groups) == 3
    monkeypatch.setenv("SINFO_PARTITION", "cpu")
    assert nodes.read() == ()
    monkeypatch.delenv("SINFO_PARTITION")
    (tmp_path / "bin" / "sinfo").write_text(f'#!/bin/sh\ncase "$*" in *--all*) cat <<END\n{SINFO}END\n;; esac\n')
    assert nodes.read() == groups


def test_a_profile_that_a_node_serves_has_no_problems(groups):
    assert nodes.compare(SMALL, groups) == Comparison()
    both = ClusterProfile(partition="cpu,gpu", gpus=0, cpus_per_gpu=64)
    assert nodes.compare(both, groups) == Comparison()


@pytest.mark.parametrize(
    ("profile", "sentence"),
    [
        (
            ClusterProfile(cpus_per_gpu=32),
            "cpus_per_gpu = 32: no node of partition gpu has more than 16 CPUs; write cpus_per_gpu = 16 or less in the "
            "profile.",
        ),
        (
            ClusterProfile(memory_gb_per_gpu=200),
            "memory_gb_per_gpu = 200: no node of partition gpu has more than 125 GB; write memory_gb_per_gpu = 125 or "
            "less in the profile.",
        ),
        (
            ClusterProfile(partition="cpu"),
            "gpus = 1: no node of partition cpu has a GPU; partition gpu has some. Write another partition or gpus = 0 "
            "in the profile, or pass --device cpu.",
        ),
        (ClusterProfile(gpu="h100"), "gpu = 'h100': no node of partition gpu has such a GPU; there are: a100, v100."),
        (
            ClusterProfile(constraint="h100"),
            "constraint = 'h100': no node of partition gpu has this feature; there are: a100, ib, v100.",
        ),
        (
            ClusterProfile(gpu="v100", cpus_per_gpu=12),
            "no node of partition gpu has 12 CPUs (cpus_per_gpu), 48 GB (memory_gb_per_gpu) and what gpu and "
            "constraint ask for together; `sinfo -N -o '%N %P %c %m %G %f'` lists what each has.",
        ),
    ],
)
def test_requests_that_no_node_serves_are_named_with_the_key_to_change(groups, profile, sentence):
    assert nodes.compare(profile, groups) == Comparison(problems=(sentence + SKIP,))


def test_an_unlisted_partition_is_a_warning_since_the_cluster_may_rewrite_it(groups):
    assert nodes.compare(ClusterProfile(partition="gpuu"), groups) == Comparison(
        warnings=("partition = 'gpuu': unknown partition 'gpuu'. Did you mean 'gpu'? Known: gpu, cpu.",)
    )


def test_jobs_without_a_partition_are_a_problem_only_if_no_partition_serves_them(groups):
    large = ClusterProfile(gpus=0, cpus_per_gpu=32)
    sentence = (
        "cpus_per_gpu = 32: no node of partition gpu has more than 16 CPUs; write cpus_per_gpu = 16 or less in the "
        "profile."
    )
    assert nodes.compare(large, groups) == Comparison(warnings=(sentence + ALONE,))
    assert nodes.compare(large, groups[:2]) == Comparison(problems=(sentence + SKIP,))
    without_default = [replace(group, is_default=False) for group in groups]
    assert nodes.compare(large, without_default) == Comparison()
    (problem,) = nodes.compare(replace(large, cpus_per_gpu=65), without_default).problems
    assert problem.startswith("cpus_per_gpu = 65: no node of partition gpu, cpu has more than 64 CPUs")


def test_the_partition_of_the_environment_comes_before_the_profiles(groups, monkeypatch):
    large = ClusterProfile(partition="gpu", gpus=0, cpus_per_gpu=32)
    assert len(nodes.compare(large, groups).problems) == 1
    monkeypatch.setenv("SBATCH_PARTITION", "cpu")
    assert nodes.compare(large, groups) == Comparison()
    assert nodes.compare_time_limit(large, 2880, groups) == Comparison()
    monkeypatch.setenv("SBATCH_PARTITION", "fast")
    (warning,) = nodes.compare(large, groups).warnings
    assert warning.startswith("SBATCH_PARTITION = 'fast': unknown partition 'fast'.")


def test_a_profile_can_leave_the_comparison_out(groups):
    unservable = ClusterProfile(partition="cpu", check_nodes=False)
    assert nodes.compare(unservable, groups) == Comparison()
    assert nodes.compare_time_limit(replace(unservable, partition="gpu"), 2880, groups) == Comparison()


def test_constraints_in_words_and_other_clusters_are_left_to_slurm(groups, monkeypatch):
    assert nodes.compare(ClusterProfile(constraint="a100&h100"), groups) == Comparison()
    elsewhere = ClusterProfile(cpus_per_gpu=32, extra={"clusters": "other"})
    assert nodes.compare(elsewhere, groups) == Comparison()
    assert nodes.compare_time_limit(elsewhere, 2880, groups) == Comparison()
    monkeypatch.setenv("SBATCH_CLUSTERS", "other")
    assert nodes.compare(ClusterProfile(cpus_per_gpu=32), groups) == Comparison()


def test_a_time_limit_above_the_partitions_is_named(groups):
    long = ClusterProfile(partition="gpu", time_limit_min=2880)
    assert nodes.compare_time_limit(long, 1440, groups) == Comparison()  # no job asks for more
    sentence = (
        "time_limit_min = 2880: a job asks for 2880 minutes, and partition gpu allows 1440; write time_limit_min = "
        "1440 in the profile, or choose another partition."
    )
    assert nodes.compare_time_limit(long, 2880, groups) == Comparison(problems=(sentence + SKIP,))
    assert nodes.compare_time_limit(ClusterProfile(partition="cpu"), 2880, groups) == Comparison()
    with_qos = replace(long, qos="long")
    assert nodes.compare_time_limit(with_qos, 2880, groups) == Comparison(
        warnings=(f"{sentence} A QOS may allow more.",)
    )


def test_a_time_limit_above_the_default_partitions_is_a_warning_if_another_grants_it(groups):
    long = ClusterProfile(time_limit_min=2880, gpus=0)
    (warning,) = nodes.compare_time_limit(long, 2880, groups).warnings
    assert warning.endswith(ALONE)
    assert len(nodes.compare_time_limit(replace(long, gpus=1), 2880, groups).problems) == 1  # no GPU in cpu
