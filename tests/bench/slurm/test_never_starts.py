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
    assert never_starts.advice({"InvalidAccount", "InvalidQOS"}, Path("results")) == (
        "InvalidAccount, InvalidQOS: no node can take these; change account or qos in the cluster profile, then "
        "bench cancel --all and bench retry --profile NAME"
    )
