"""Choice of the executor."""

from __future__ import annotations

import pytest
from slurm_commands import put_commands

from bench.errors import ClusterError
from bench.slurm import client
from bench.submission.executor import check_detachable, choose_executor


def test_auto_is_slurm_where_a_cluster_answers(tmp_path, monkeypatch):
    put_commands(tmp_path / "up", monkeypatch, sbatch="exit 0", sinfo="echo gpu up")
    assert choose_executor("auto") == "slurm"
    put_commands(tmp_path / "down", monkeypatch, sbatch="exit 0", sinfo="exit 1")
    monkeypatch.setattr(client, "is_configured", lambda: False)  # packages without a cluster
    assert choose_executor("auto") == "local"
    # A named profile, or a configured cluster that is silent: not the moment to train on a login node.
    with pytest.raises(ClusterError, match=r"SLURM does not answer .*or use --cluster local to run here"):
        choose_executor("auto", "my_cluster")
    monkeypatch.setattr(client, "is_configured", lambda: True)
    with pytest.raises(ClusterError, match="SLURM does not answer"):
        choose_executor("auto")
    monkeypatch.setattr(client, "is_installed", lambda: False)
    assert choose_executor("auto") == "local"
    assert choose_executor("inline") == "inline"


def test_executors_that_are_not_there_are_refused(monkeypatch):
    monkeypatch.setattr(client, "is_installed", lambda: False)
    with pytest.raises(ClusterError, match="there is no sbatch on this machine; use --cluster local or inline"):
        choose_executor("slurm")
    with pytest.raises(ClusterError, match="--cluster 'pbs': use auto, inline, local, slurm"):
        choose_executor("pbs")


def test_only_slurm_can_be_left_to_itself():
    check_detachable(True, "slurm")
    with pytest.raises(ClusterError, match="--detach needs SLURM"):
        check_detachable(True, "local")
