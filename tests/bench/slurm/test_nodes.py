"""Nodes as sinfo lists them, compared with profiles."""

from __future__ import annotations

import pytest
from slurm_commands import put_commands

from bench.slurm import nodes
from bench.slurm.nodes import NodeGroup
from bench.slurm.profile import ClusterProfile

SINFO = """\
gpu|gpu*|1-00:00:00|16|128000|gpu:a100:4(S:0-1),nvme:1|a100,ib
gpu|gpu*|1-00:00:00|8|64000+|gpu:v100:2|v100
cpu|cpu|infinite|64|1|(null)|(null)
CLUSTER: other
"""
SMALL = ClusterProfile(cpus_per_gpu=8, memory_gb_per_gpu=48)


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
    assert nodes.read() == () and nodes.problems(SMALL, ()) == []


def test_a_profile_that_a_node_serves_has_no_problems(groups):
    assert nodes.problems(SMALL, groups) == []
    assert nodes.problems(ClusterProfile(partition="cpu,gpu", gpus=0, cpus_per_gpu=64), groups) == []


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
        (ClusterProfile(partition="gpuu"), "partition = 'gpuu': unknown partition 'gpuu'. Did you mean 'gpu'?"),
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
    (problem,) = nodes.problems(profile, groups)
    assert problem.startswith(sentence)


def test_constraints_in_words_and_other_clusters_are_left_to_slurm(groups):
    assert nodes.problems(ClusterProfile(constraint="a100&h100"), groups) == []
    assert nodes.problems(ClusterProfile(cpus_per_gpu=32, extra={"clusters": "other"}), groups) == []


def test_a_time_limit_above_the_partitions_is_named(groups):
    long = ClusterProfile(time_limit_min=2880)
    assert nodes.time_limit_problem(long, 1440, groups) is None  # no job asks for more
    assert nodes.time_limit_problem(long, 2880, groups) == (
        "time_limit_min = 2880: a job asks for 2880 minutes, and partition gpu allows 1440; write time_limit_min = "
        "1440 in the profile, or choose another partition."
    )
    assert nodes.time_limit_problem(ClusterProfile(partition="cpu"), 2880, groups) is None
