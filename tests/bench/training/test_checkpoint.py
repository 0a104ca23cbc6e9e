"""State of a training on disk."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from bench.training import checkpoint
from bench.training.checkpoint import State


def parts() -> tuple[dict[str, Tensor], torch.optim.Optimizer]:
    torch.manual_seed(0)
    net = nn.Linear(2, 1)
    return dict(net.named_parameters()), torch.optim.AdamW(net.parameters())


def save(path: Path, state: State) -> dict[str, Tensor]:
    trained, optimizer = parts()
    checkpoint.save(path, state, {name: p.detach() + 1 for name, p in trained.items()}, trained, optimizer)
    return trained


def test_state_is_restored_as_it_was_saved(tmp_path):
    state = State(step=5, best_score=(0.1, 0.2, 0.3), best_step=4, history=[{"epoch": 1, "loss": 0.1 + 0.2}])
    state.epoch_sums, state.shared = {"loss": 0.1 + 0.7, "images": 3}, True
    saved = save(tmp_path / "state.pt", state)
    trained, optimizer = parts()
    with torch.no_grad():
        trained["weight"].zero_()
    restored = checkpoint.restore(tmp_path / "state.pt", trained, optimizer)
    assert restored is not None
    assert restored[0] == state
    assert torch.equal(trained["weight"], saved["weight"])
    assert torch.equal(restored[1]["weight"], saved["weight"] + 1)


def test_state_of_version_0_1_0_is_read_with_the_sums_of_its_epoch_unknown(tmp_path):
    trained, optimizer = parts()
    old = {
        "step": 7,
        "best_score": [0.5, 0.4, 0.3],
        "best_step": 6,
        "stale": 0,
        "micro_batch": 4,
        "peak_bytes": None,
        "stopped": False,
        "seconds": 1.5,
        "history": [{"epoch": 1, "loss": 0.25, "pq": 0.5}],
    }
    content = {"state": old, "best": {}, "trained": {name: p.detach() for name, p in trained.items()}}
    torch.save({**content, "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    restored = checkpoint.restore(tmp_path / "state.pt", trained, optimizer)
    assert restored is not None
    assert (restored[0].step, restored[0].best_score, restored[0].history) == (7, (0.5, 0.4, 0.3), old["history"])
    assert restored[0].epoch_sums is None
    assert restored[0].shared is False


def test_state_follows_the_umask(tmp_path):
    earlier = os.umask(0o027)
    try:
        save(tmp_path / "state.pt", State())
    finally:
        os.umask(earlier)
    assert stat.S_IMODE((tmp_path / "state.pt").stat().st_mode) == 0o640


def write_some_and_fail(content: object, file: object) -> None:
    file.write(b"torn")  # type: ignore[attr-defined]
    raise RuntimeError("unexpected pos 704 vs 598")  # torch's words for a write that failed


def test_state_that_does_not_fit_the_disk_is_a_full_disk_and_leaves_the_earlier_state(tmp_path, monkeypatch):
    save(tmp_path / "state.pt", State(step=1))
    before = (tmp_path / "state.pt").read_bytes()

    def full_while_the_torn_file_exists(folder: Path) -> SimpleNamespace:
        return SimpleNamespace(free=0 if list(folder.glob(".*.tmp")) else 2**30)

    monkeypatch.setattr(torch, "save", write_some_and_fail)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", full_while_the_torn_file_exists)
    with pytest.raises(OSError, match="No space left on device") as raised:
        save(tmp_path / "state.pt", State(step=2))
    assert raised.value.errno == errno.ENOSPC
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
    assert (tmp_path / "state.pt").read_bytes() == before


def test_error_of_the_system_behind_a_failed_write_is_raised(tmp_path, monkeypatch):
    def over_quota(content: object, file: object) -> None:
        try:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        except OSError:
            write_some_and_fail(content, file)

    monkeypatch.setattr(torch, "save", over_quota)
    with pytest.raises(OSError, match="Disk quota exceeded") as raised:
        save(tmp_path / "state.pt", State())
    assert raised.value.errno == errno.EDQUOT
    assert list(tmp_path.iterdir()) == []


def test_other_errors_of_a_write_are_not_called_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "save", write_some_and_fail)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**30))
    with pytest.raises(RuntimeError, match="unexpected pos"):
        save(tmp_path / "state.pt", State())
    assert list(tmp_path.iterdir()) == []
