import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from typing import TYPE_CHECKING, Any

import pytest
from app.conftest import MakeSettings

from exporter.publication import Begin, Publication, Receiving, Scraped, Stop, WriteProtobuf
from exporter.simulator import ADMIN_KEY

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

Started = tuple["subprocess.Popen[str]", "Connection[Any, Any]"]


@pytest.fixture
def start() -> Iterator[Callable[[], Started]]:
    started: list[Started] = []

    def go() -> Started:
        ours, theirs = Pipe()
        inquiries = socket.socketpair()
        with theirs, inquiries[0], inquiries[1]:
            descriptors = [theirs.fileno(), inquiries[1].fileno()]
            process = subprocess.Popen(
                [sys.executable, "-m", "exporter", "collector", *map(str, descriptors)],
                pass_fds=descriptors,
                stderr=subprocess.PIPE,
                text=True,
            )
        started.append((process, ours))
        return started[-1]

    yield go
    for process, ours in started:
        ours.close()
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_a_web_process_that_goes_before_it_began_is_no_traceback(start: Callable[[], Started]) -> None:
    process, ours = start()
    ours.close()
    assert process.communicate(timeout=40)[1] == ""
    assert process.returncode == 1


def test_ctrl_c_is_left_to_the_web_process_and_its_word_is_obeyed(
    start: Callable[[], Started], settings: MakeSettings
) -> None:
    process, ours = start()
    ours.send(Begin(settings()))
    receive = Receiving(ours)
    assert isinstance(receive(), Publication)
    process.send_signal(signal.SIGINT)
    assert isinstance(receive(), Publication)
    ours.send(Stop())
    told = process.communicate(timeout=40)[1]
    assert process.returncode == 0
    assert "Traceback" not in told
    assert ADMIN_KEY.partition(":")[2] not in told


def test_it_leaves_the_processor_to_the_web_process_first_and_ends_with_it(
    start: Callable[[], Started], settings: MakeSettings
) -> None:
    process, ours = start()
    ours.send(Begin(settings()))
    assert isinstance(Receiving(ours)(), Publication)
    assert os.getpriority(os.PRIO_PROCESS, process.pid) > os.getpriority(os.PRIO_PROCESS, os.getpid())
    ours.close()
    told = process.communicate(timeout=40)[1]
    assert process.returncode in {0, 1}
    assert "Traceback" not in told


def test_what_it_is_told_while_it_opens_the_ledger_does_not_end_it(
    start: Callable[[], Started], settings: MakeSettings
) -> None:
    process, ours = start()
    # The web process goes on serving what another collector has published.
    for message in (Begin(settings()), Scraped(5000), WriteProtobuf()):
        ours.send(message)
    assert isinstance(Receiving(ours)(), Publication)
    ours.send(Stop())
    assert "never retrieved" not in process.communicate(timeout=40)[1]
    assert process.returncode == 0


def test_an_unforeseen_error_is_a_sentence(start: Callable[[], Started], settings: MakeSettings) -> None:
    process, ours = start()
    # Settings are checked where they are read; whatever comes through all the same must not be a traceback.
    ours.send(Begin(settings().model_copy(update={"labels": 7})))
    told = Receiving(ours)()
    assert not isinstance(told, Publication)
    assert "an unexpected error, AttributeError" in told.sentence
    assert told.exit_code == 1
    assert "Traceback" not in process.communicate(timeout=40)[1]
