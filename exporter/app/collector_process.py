"""The collector process: the left half by itself, at the other end of a pipe.

Started by `exporter.app.supervision` as `python -m exporter collector FD FD`: the pipe of publications, and the
socket that inquiries come through. It is a process of its own because
working in a large poll would otherwise hold up scrapes: a thread cannot help, as only one of a process's threads runs
Python at a time.
"""

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

import structlog

from exporter.app.wiring import LeftHalf, open_left_half
from exporter.charges import utc_now
from exporter.errors import FalExporterError
from exporter.inquiry import Channel
from exporter.logs import configure_logging
from exporter.publication import (
    LEFT_TO_THE_WEB_PROCESS,
    Begin,
    FromCollector,
    GaveUp,
    Scraped,
    Sending,
    ToCollector,
    WriteProtobuf,
)

if TYPE_CHECKING:
    from exporter.settings import Settings

_log = structlog.get_logger(__name__)

_LONGEST_END = 3.0
"""Seconds after the word to stop, or the end of the web process, at which this process ends whatever it is doing."""

_NICENESS = 5
"""Scrapes go first where processors are few."""


def main(descriptor: int, inquiries: int) -> int:
    """Serve the pipe with this file descriptor until it is closed or says to stop; return the exit code.

    Args:
        descriptor: of the pipe.
        inquiries: file descriptor of the socket that hands over the streams of inquiries.

    Raises:
        TypeError: the other end is no web process.
    """
    # They reach the whole process group; the web process, which has blocked them for us, decides what happens then.
    for number in LEFT_TO_THE_WEB_PROCESS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, LEFT_TO_THE_WEB_PROCESS)
    os.nice(_NICENESS)
    connection: Connection[FromCollector, ToCollector] = Connection(descriptor)
    try:
        begin = connection.recv()
    except EOFError:
        return 1
    if not isinstance(begin, Begin):
        raise TypeError(f"the first message must be {Begin.__name__}")
    settings = begin.settings
    try:
        secrets = [*(account.key() for account in settings.accounts), *settings.remote_write_secrets]
        configure_logging(log_format=settings.log_format, level=settings.log_level, stream=sys.stderr, secrets=secrets)
        with socket.socket(fileno=inquiries) as control:
            collect = _replicate if settings.replicated else _collect
            asyncio.run(collect(settings, connection, Channel(control)))
    except ConnectionError:
        return 1
    except FalExporterError as error:
        return _give_up(connection, str(error), error.exit_code)
    except Exception as error:  # noqa: BLE001  the last resort: a user is never shown a traceback unasked
        _log.debug("traceback of the unexpected error", exc_info=error)
        name = type(error).__name__
        sentence = (
            f"an unexpected error, {name} ({error}), ended the collector; run it with --log-level debug to see "
            "the traceback"
        )
        return _give_up(connection, sentence, 1)
    return 0


def _give_up(connection: "Connection[FromCollector, ToCollector]", sentence: str, exit_code: int) -> int:
    with suppress(OSError):
        connection.send(GaveUp(sentence, exit_code))
    return exit_code


async def _replicate(
    settings: "Settings", connection: "Connection[FromCollector, ToCollector]", channel: Channel
) -> None:
    # What is for replicas alone is not loaded by an exporter without replicas.
    from exporter.app.replica import Replica  # noqa: PLC0415

    stop = asyncio.Event()
    replica = Replica(settings, send=Sending(connection), channel=channel)

    async def scraped(sequence: int) -> None:
        replica.scraped(sequence)

    listening = asyncio.create_task(_listen(connection, scraped, replica.write_protobuf, stop))
    try:
        await replica.run(stop)
    finally:
        listening.cancel()


async def _collect(
    settings: "Settings", connection: "Connection[FromCollector, ToCollector]", channel: Channel
) -> None:
    stop = asyncio.Event()
    half: LeftHalf | None = None

    async def scraped(sequence: int) -> None:
        # Before there is a ledger, what is scraped is what another collector has published.
        if half is not None:
            await half.ledger.scraped(sequence)

    def write_protobuf() -> None:
        if half is not None:
            half.publisher.write_protobuf()

    # From the start on: opening a ledger may take long.
    listening = asyncio.create_task(_listen(connection, scraped, write_protobuf, stop))
    half = await open_left_half(settings, emit=Sending(connection), clock=utc_now)
    take_no_more = channel.accept(half.responder.serve)
    try:
        if not stop.is_set():
            await half.collector.run(stop)
    finally:
        take_no_more()
        listening.cancel()
        await half.close()


async def _listen(
    connection: "Connection[FromCollector, ToCollector]",
    scraped: Callable[[int], Awaitable[None]],
    write_protobuf: Callable[[], None],
    stop: asyncio.Event,
) -> None:
    """Heed what the web process says; stop when it says so or is gone.

    This process then ends even if it has not done so by itself in time, as nothing is lost by that.
    """
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(connection.fileno(), arrived.set)
    try:
        while True:
            await arrived.wait()
            arrived.clear()
            while connection.poll():
                message = connection.recv()
                if isinstance(message, WriteProtobuf):
                    write_protobuf()
                elif isinstance(message, Scraped):
                    await scraped(message.sequence)
                else:
                    return
    except (EOFError, OSError):
        _log.warning("the web process has ended; stopping the collector")
    except FalExporterError as error:
        _log.error("what the web process says cannot be heeded; stopping the collector", problem=str(error))
    finally:
        # The system's timer is for a thread that comes to nothing, because another does not let Python go on.
        signal.setitimer(signal.ITIMER_REAL, _LONGEST_END + 0.5)
        threading.Thread(target=_end_in_time, daemon=True).start()
        loop.remove_reader(connection.fileno())
        stop.set()


def _end_in_time() -> None:
    time.sleep(_LONGEST_END)
    os._exit(0)
