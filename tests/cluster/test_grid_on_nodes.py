"""The grid `check`, every strategy on two backbones, on two nodes."""

from __future__ import annotations

import pytest
from study import leftovers


@pytest.mark.release
def test_the_grid_check_spreads_over_both_nodes(cluster, study):
    one = study(cluster)
    command = one.start(
        "run",
        "--grid",
        "check",
        "--results",
        str(one.results),
        "--cluster",
        "slurm",
        "--profile",
        "devcluster",
        "--device",
        "cpu",
    )
    output = one.finish(command, limit_s=1800)
    assert "26 runs on SLURM; 0 done already" in output
    assert "26 of 26 runs are done, 0 failed" in output
    records = one.records().values()
    assert len(records) == 26
    assert {found.status for found in records} == {"ok"}
    assert all(found.attempts == [] for found in records)
    origins = [found.provenance or {} for found in records]
    assert {origin["node"] for origin in origins} == {"node1", "node2"}
    assert {origin["cuda_visible_devices"] for origin in origins} == {None}  # --device cpu requests no GPU
    assert {origin["slurm_restart_count"] for origin in origins} == {0}
    jobs = {origin["slurm_job_id"] for origin in origins}
    assert jobs <= set(one.queue()) and len(jobs) == 7  # 26 runs in jobs of four
    assert set(one.given().values()) == {1}
    assert one.live_jobs() == [] and leftovers(one.results) == []
    again = one.finish(one.start(*command.process.args[3:]))
    assert "0 runs on SLURM; 26 done already" in again and set(one.given().values()) == {1}
    assert "26 done" in one.do("status")
