"""Files are whole or absent, follow the umask and links, and never replace what is no regular file."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from registry import atomic


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_error_leaves_the_earlier_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    atomic.write_text(path, "old")
    with pytest.raises(ValueError, match="stop"), atomic.replacing(path) as temporary:
        temporary.write_text("new")
        raise ValueError("stop")
    assert path.read_text() == "old" and names(tmp_path) == ["a.json"]


def test_the_mode_follows_the_umask_whatever_the_writer_chose(tmp_path):
    previous = os.umask(0o027)
    try:
        with atomic.replacing(tmp_path / "a.bin") as temporary:
            temporary.write_bytes(b"1")
            temporary.chmod(0o600)
    finally:
        os.umask(previous)
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == 0o640


def test_a_link_is_followed_and_stays_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link.csv").symlink_to("there/real.csv")
    atomic.write_text(tmp_path / "link.csv", "1\n")
    assert (tmp_path / "link.csv").is_symlink() and (tmp_path / "there" / "real.csv").read_text() == "1\n"


def test_a_fifo_and_a_device_are_written_into(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_text()), daemon=True)
    reader.start()
    atomic.write_text(fifo, "through\n")
    reader.join(10)
    assert read == ["through\n"] and fifo.is_fifo()
    atomic.write_text(Path("/dev/null"), "gone")
    assert Path("/dev/null").is_char_device()


def test_a_folder_is_refused_by_name(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder; give the name of a file"):
        atomic.write_text(tmp_path, "x")


def test_a_long_name_fits_the_file_system(tmp_path):
    path = tmp_path / ("n" * 245 + ".txt")
    atomic.write_text(path, "x")
    assert path.read_text() == "x"


def test_unfinished_files_are_removed_and_others_stay(tmp_path):
    (tmp_path / ".state.pt.0123abcd.tmp").write_text("torn")
    (tmp_path / ".keep").write_text("")
    atomic.remove_unfinished(tmp_path)
    assert names(tmp_path) == [".keep"]


def test_standard_output_is_written_into_whatever_it_is(tmp_path):
    script = "from pathlib import Path; from registry import atomic; atomic.write_text(Path('/dev/stdout'), 'text\\n')"
    command = [sys.executable, "-c", script]
    assert subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout == "text\n"
    with (tmp_path / "out").open("w") as file:
        subprocess.run(command, stdout=file, check=True)
        assert os.fstat(file.fileno()).st_size == 5  # the file that was open, not another of its name


def test_standard_output_that_is_appended_to_a_file_keeps_what_is_there(tmp_path):
    log = tmp_path / "log"
    log.write_text("before\n")
    script = "from pathlib import Path; from registry import atomic; atomic.write_text(Path('/dev/stdout'), 'text\\n')"
    with log.open("a") as target:
        subprocess.run([sys.executable, "-c", script], stdout=target, check=True)
    assert log.read_text() == "before\ntext\n"


def test_a_device_that_does_not_exist_is_not_made():
    with pytest.raises(FileNotFoundError):
        atomic.write_text(Path("/dev/no-such-device"), "x")
    assert not Path("/dev/no-such-device").exists()


def test_what_can_be_replaced_and_what_is_written_into(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("file")
    streams = (Path("/dev/stdout"), Path("/dev/fd/1"), Path("/dev/null"), tmp_path / "fifo")
    files = (tmp_path / "file", tmp_path / "link", tmp_path / "new", tmp_path, Path("/dev/shm/new"))
    assert all(map(atomic.is_stream, streams)) and not any(map(atomic.is_stream, files))
