"""Standard error that nobody reads holds up nobody."""

import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO, cast

import pytest
import structlog

from exporter.logs import configure_logging
from exporter.outlet import DroppingText, without_waiting


class Pipe:
    """A pipe, and standard error that leads into it."""

    def __init__(self) -> None:
        self.ours, theirs = os.pipe()
        self.stream = os.fdopen(theirs, "w", encoding="utf-8")
        made = without_waiting(self.stream)
        assert isinstance(made, DroppingText)
        self.stderr = made

    def taken(self) -> str:
        """Take what is in it."""
        os.set_blocking(self.ours, False)
        found = b""
        with suppress(BlockingIOError):
            while piece := os.read(self.ours, 2**16):
                found += piece
        return found.decode()

    def close(self) -> None:
        self.stderr.close()
        self.stream.close()
        with suppress(OSError):
            os.close(self.ours)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def fill(stream: TextIO, lines: int = 2000) -> None:
    stream.writelines(f"{number:05}{'.' * 94}\n" for number in range(lines))


def test_what_a_full_pipe_does_not_take_is_dropped_and_counted(pipe: Pipe) -> None:
    fill(pipe.stderr)
    whole = pipe.taken().splitlines()
    assert 300 < len(whole) < 2000
    assert whole == [f"{number:05}{'.' * 94}" for number in range(len(whole))]
    assert pipe.stderr.take_lost() == 2000 - len(whole)
    assert pipe.stderr.take_lost() == 0
    pipe.stderr.write("it can be written again\n")
    assert pipe.taken() == "it can be written again\n"


def test_a_line_that_was_cut_off_ends_before_the_next_one(pipe: Pipe) -> None:
    pipe.stderr.write("x" * 200_000 + "\n")
    cut_off = pipe.taken()
    assert 0 < len(cut_off) < 200_000
    pipe.stderr.write("next\n")
    pipe.stderr.write("and next\n")
    assert pipe.taken() == "\nnext\nand next\n"


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_the_log_says_how_much_was_dropped_once_it_is_read_again(pipe: Pipe, log_format: str) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure_logging(log_format=log_format, level="info", stream=pipe.stderr)
        log = logging.getLogger("exporter")
        for _ in range(2000):
            log.info("." * 100)
        arrived = len(pipe.taken().splitlines())
        log.info("again")
        dropped, again = pipe.taken().splitlines()
        assert f"log lines were dropped, as nobody read them: {2000 - arrived}" in dropped
        assert "again" in again
        if log_format == "json":
            assert json.loads(dropped)["level"] == "warning"
        log.info("and again")
        assert len(pipe.taken().splitlines()) == 1
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.captureWarnings(capture=False)
        structlog.reset_defaults()


def test_a_reader_that_has_gone_is_no_error(pipe: Pipe) -> None:
    os.close(pipe.ours)
    pipe.stderr.write("nobody\n")
    assert pipe.stderr.take_lost() == 1


def test_others_wait_for_the_same_pipe_as_before(pipe: Pipe) -> None:
    fill(pipe.stderr)
    assert os.get_blocking(pipe.stderr.fileno())
    assert not pipe.stderr.isatty()


def test_where_it_cannot_be_opened_once_more_it_is_asked_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "open", refused)
    pipe = Pipe()
    fill(pipe.stderr)
    assert pipe.stderr.take_lost() == 2000 - len(pipe.taken().splitlines()) > 0
    pipe.stderr.write("again\n")
    assert pipe.taken() == "again\n"
    pipe.close()


def test_a_socket_as_a_journal_has_it_is_not_waited_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, os.fdopen(os.dup(theirs.fileno()), "w", encoding="utf-8") as stream:
        made = without_waiting(stream)
        assert isinstance(made, DroppingText)
        fill(made, 20_000)
        assert 0 < made.take_lost() < 20_000
        made.close()
        assert ours.recv(100) == f"00000{'.' * 94}\n".encode()


def test_a_file_and_no_standard_error_at_all_are_left_as_they_are(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        assert without_waiting(stream) is stream
    assert without_waiting(stream) is stream
    nothing = cast("TextIO", None)
    assert without_waiting(nothing) is nothing


def test_a_wrong_configuration_ends_though_nobody_reads_why() -> None:
    """As where the pipe is full of what was said before."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with suppress(BlockingIOError):
        while True:
            os.write(theirs, b"x" * 4096)
    os.set_blocking(theirs, True)
    done = subprocess.run([sys.executable, "-m", "exporter", "serve"], stderr=theirs, check=False, timeout=30)
    assert done.returncode == 2
    os.close(ours)
    os.close(theirs)
