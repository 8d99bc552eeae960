import os
import threading
from pathlib import Path

import pytest

from exporter.atomic_file import written_whole


def test_a_file_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_bytes(b"old")
    with written_whole(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert [found.name for found in tmp_path.iterdir()] == ["out.csv"]


def test_after_a_failure_the_old_file_is_there_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with written_whole(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["out.csv"]


def test_a_full_disk_leaves_nothing_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device", str(self), None, str(target))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"), written_whole(tmp_path / "out.csv") as file:
        file.write(b"whole")
    assert list(tmp_path.iterdir()) == []


def test_through_a_link_the_file_it_names_is_replaced(tmp_path: Path) -> None:
    path, link = tmp_path / "out.csv", tmp_path / "link"
    link.symlink_to(path)
    with written_whole(link) as file:
        file.write(b"new")
    assert (link.is_symlink(), path.read_bytes()) == (True, b"new")


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with written_whole(pipe) as file:
        file.write(b"new")
    reader.join()
    assert (read, pipe.is_fifo()) == ([b"new"], True)
