from __future__ import annotations

import subprocess

from bench.worker import provenance


def test_the_commit_is_that_of_this_checkout():
    found, dirty = provenance.commit()
    asked = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    assert found == (asked.stdout.strip() if asked.returncode == 0 else None)
    assert dirty in (True, False) if found else dirty is None


def test_outside_a_checkout_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "bench" / "provenance.py"))
    provenance.commit.cache_clear()
    assert provenance.commit() == (None, None)
    provenance.commit.cache_clear()


def test_versions_of_what_can_change_a_number_are_told():
    versions = provenance.package_versions()
    assert all(versions[name] for name in ("python", "torch", "timm", "peft", "segment-anything", "numpy"))


def test_the_machine_is_told():
    machine = provenance.machine("cpu")
    assert machine["device"] == "cpu" and machine["gpu"] is None and machine["cpu_threads"] >= 1
