"""Jobs that no node can serve: refused before they are submitted, and reported once if they were all the same."""

from __future__ import annotations

GRID = {"strategies": ("decoder_only",), "epochs": 2}
PROFILE = "cpus_per_gpu = 8\nruns_per_job = 1\n"


def test_a_profile_larger_than_any_node_is_refused_with_the_key_to_change(cluster, study):
    one = study(cluster, profile=PROFILE, **GRID)
    output = one.finish(one.run(), expect=2)
    assert "cpus_per_gpu = 8: no node of partition gpu has more than 2 CPUs; write cpus_per_gpu = 2 or less" in output
    assert one.live_jobs() == [] and not (one.results / "ledger").exists()


def test_jobs_that_wait_for_ever_are_reported_once_and_can_be_cancelled(cluster, study):
    one = study(cluster, profile=PROFILE, **GRID)
    folder = one.folder / "bin"
    folder.mkdir()
    (folder / "sinfo").write_text("#!/bin/sh\nexit 0\n")  # SLURM answers, and lists no nodes
    (folder / "sinfo").chmod(0o755)
    one.env["PATH"] = f"{folder}:{one.env['PATH']}"
    command = one.run()
    sentence = "2 jobs can never start, PartitionConfig: no node can take these; change cpus_per_gpu, "
    one.until("the sentence", lambda: sentence in command.output, of=command)
    status = one.do("status")
    assert "queued for PartitionConfig: no node can take these; change cpus_per_gpu, memory_gb_per_gpu" in status
    assert "Cancelled 2 runs; 2 jobs ended." in one.do("cancel", "--all")
    assert "2 runs were cancelled already." in one.do("cancel", "--all")
    output = one.finish(command, expect=1)
    assert output.count(sentence) == 1 and "0 of 2 runs are done, 0 failed, 2 cancelled." in output
    (folder / "sinfo").unlink()
    assert "cpus_per_gpu = 8: no node of partition gpu has more than 2 CPUs" in one.do("retry", expect=2)
    profile = one.folder / "dev.toml"
    profile.write_text(profile.read_text().replace("cpus_per_gpu = 8", "cpus_per_gpu = 2"))
    assert "2 of 2 runs are done, 0 failed." in one.do("retry", "--profile", str(profile))
