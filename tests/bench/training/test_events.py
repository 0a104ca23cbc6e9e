"""Events for TensorBoard where they can't be written; what they hold is tested with a run."""

from __future__ import annotations

import pytest

from bench.training import events

pytest.importorskip("tensorboard")

ROWS = [{"epoch": epoch, "step": epoch, "loss": 1.0} for epoch in (1, 2, 3)]


def full(*_, **__):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("method", ["__init__", "add_scalar", "flush", "close"])
def test_events_that_cannot_be_written_are_left_out_with_one_warning(tmp_path, monkeypatch, caplog, method):
    monkeypatch.setattr(f"torch.utils.tensorboard.SummaryWriter.{method}", full)
    with events.writing(tmp_path, "tensorboard") as follow:
        for number in range(4):
            follow(ROWS[:number])
    assert caplog.messages == [
        f"Events can't be written to {tmp_path / 'tensorboard'} ([Errno 28] No space left on device); the training "
        "goes on without them."
    ]


def test_file_in_place_of_the_folder_of_events_is_said(tmp_path, caplog):
    (tmp_path / "tensorboard").write_text("")
    with events.writing(tmp_path, "tensorboard") as follow:
        follow(ROWS)
    assert len(caplog.messages) == 1


def test_device_without_room_below_the_events_is_said(tmp_path, monkeypatch, caplog):
    """Through the thread of TensorBoard's writer, which hands its error to the next call."""
    monkeypatch.setattr("threading.excepthook", lambda _: None)
    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", full)
    with events.writing(tmp_path, "tensorboard") as follow:
        for number in range(4):
            follow(ROWS[:number])
    assert len(caplog.messages) == 1 and "No space left" in caplog.messages[0]
