import fcntl
import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from exporter.unfinished import ScratchFolder, abandon, written_whole


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


HOLDING = """
import sys
from pathlib import Path
from exporter.unfinished import ScratchFolder
folder = ScratchFolder(Path(sys.argv[1]))
(folder.path / "rows").write_text("a")
print(folder.path, flush=True)
sys.stdin.read()
"""


def holder(place: Path) -> tuple[subprocess.Popen[str], Path]:
    """Start a process that holds a scratch folder; return it with the folder's path."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_scratch_folder_goes_with_what_is_in_it(tmp_path: Path) -> None:
    with ScratchFolder(tmp_path) as path:
        assert path.stat().st_mode & 0o777 == 0o700
        (path / "deep").mkdir()
        (path / "deep" / "rows").write_text("a")
    assert not [*tmp_path.iterdir()]
    forgotten = ScratchFolder(tmp_path)
    assert forgotten.path.is_dir()
    del forgotten
    gc.collect()
    assert not [*tmp_path.iterdir()]


def test_a_process_that_ends_without_closing_its_folder_leaves_nothing(tmp_path: Path) -> None:
    process, path = holder(tmp_path)
    with process:
        assert (path / "rows").read_text() == "a"
    assert process.returncode == 0
    assert not [*tmp_path.iterdir()]


def test_what_a_killed_process_has_left_goes_with_the_next_one_and_nothing_else(tmp_path: Path) -> None:
    killed, left = holder(tmp_path)
    with killed:
        killed.kill()
    assert left.is_dir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("a")
    link = tmp_path / left.name.replace(".", ".a", 1)
    link.symlink_to(elsewhere)
    (tmp_path / ".hidden").mkdir()
    living, kept = holder(tmp_path)
    with living:
        ScratchFolder(tmp_path).close()
        assert (kept / "rows").read_text() == "a", "its process lives"
    assert not left.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"elsewhere", ".hidden", link.name}
    assert (elsewhere / "precious").read_text() == "a"


def test_a_folder_that_is_taken_before_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, taken = fcntl.flock, list[Path]()

    def late(descriptor: int, operation: int) -> None:
        if not taken:
            taken.extend(tmp_path.iterdir())
            taken[0].rmdir()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with ScratchFolder(tmp_path) as path:
        assert path != taken[0]
        assert path.is_dir()


def test_what_is_begun_is_abandoned_and_what_was_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_bytes(b"old")
    folder = ScratchFolder(tmp_path)
    with pytest.raises(FileNotFoundError), written_whole(path) as file:  # noqa: PT012  begun, and not finished
        file.write(b"half")
        abandon()
        assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("out.csv", b"old")]
    assert not folder.path.exists()


def test_what_is_finished_is_not_abandoned(tmp_path: Path) -> None:
    with written_whole(tmp_path / "out.csv") as file:
        file.write(b"new")
    abandon()
    assert (tmp_path / "out.csv").read_bytes() == b"new"
