"""Reasons for which jobs wait."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from bench.slurm import never_starts
from bench.slurm.profile import ClusterProfile


@pytest.mark.parametrize(
    ("reason", "permanent"),
    [
        ("PartitionConfig", True),
        ("PartitionTimeLimit (state saved)", True),
        ("MaxMemPerLimit", True),
        ("QOSMinGRES", True),
        ("ReservationDeleted", True),
        ("PartitionNodeLimit", False),  # also while nodes are down
        ("Priority", False),
        ("ReqNodeNotAvail, UnavailableNodes:node1", False),
        ("", False),
    ],
)
def test_reasons_that_do_not_pass_are_known(reason, permanent):
    assert never_starts.is_permanent(reason) is permanent


def test_every_reason_names_keys_of_the_profile():
    assert {key for keys in never_starts.KEYS.values() for key in keys} <= {one.name for one in fields(ClusterProfile)}


def test_the_advice_names_reasons_keys_and_commands():
    assert never_starts.advice({"PartitionConfig", "MaxMemPerLimit"}, Path("results")) == (
        "MaxMemPerLimit, PartitionConfig: no node can take these; change memory_gb_per_gpu, partition, cpus_per_gpu or "
        "gpu in the cluster profile, then bench cancel --all and bench retry --profile NAME"
    )


def test_the_advice_has_a_sentence_for_each_cause():
    assert never_starts.advice({"InvalidAccount", "InvalidQOS", "PartitionTimeLimit"}, Path("results")) == (
        "InvalidAccount: the account may not be used; change account in the cluster profile. InvalidQOS: the QOS may "
        "not be used; change qos in the cluster profile. PartitionTimeLimit: the time limit is longer than allowed; "
        "change time_limit_min or partition in the cluster profile, then bench cancel --all and bench retry --profile "
        "NAME"
    )
