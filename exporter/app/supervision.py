"""Supervision of the collector: it is started, watched, started again when it dies, and replaced on a reload.

The web process goes on serving the last publication meanwhile. Only what another start would meet again ends the
exporter: a collector that gives up before it has ever published, or because the ledger is another's.
"""

import asyncio
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from typing import TYPE_CHECKING, Protocol

import structlog

from exporter.errors import FalExporterError
from exporter.inquiry import Channel, Inquirer
from exporter.publication import (
    LEFT_TO_THE_WEB_PROCESS,
    Begin,
    GaveUp,
    Publication,
    Receiving,
    Scraped,
    Stop,
    ToCollector,
    WriteProtobuf,
)
from exporter.settings.plain import plain

if TYPE_CHECKING:
    from exporter.settings import Settings

_log = structlog.get_logger(__name__)

PATIENCE = 2.5
"""Seconds the collector is given to finish; what it is writing then is undone, and lost by no kill."""

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_STEADY_SECONDS = 120.0
"""A collector that has lived so long is started again after the first pause."""

_FAILURES_IN_A_ROW = 5
"""So many starts without a lasting success are a matter for a restart of the whole exporter."""

_SILENCE_SECONDS = 600.0
"""A collector publishes every few seconds; one that has not for so long hangs."""

_IN_USE = 2


class CollectorError(FalExporterError):
    """The collector has given up, or ended without a word.

    Attributes:
        gave_up: whether it has said why.
    """

    def __init__(self, sentence: str, exit_code: int = 1, *, gave_up: bool = False) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code
        self.gave_up = gave_up


class CollectorProcess:
    """Starts the collector, passes on what it publishes, and ends it.

    Args:
        patience: seconds the collector is given to finish.
    """

    def __init__(self, *, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._stopping = False
        self._ours, theirs = Pipe()
        self._control, their_control = socket.socketpair()
        with theirs, their_control:
            descriptors = [theirs.fileno(), their_control.fileno()]
            command = [sys.executable, "-m", "exporter", "collector", *map(str, descriptors)]
            # Signals to the whole process group are this process's to act on, also before the collector ignores them.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_THE_WEB_PROCESS)
            try:
                self._process = subprocess.Popen(command, pass_fds=descriptors)  # noqa: S603  our own module
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._channel = Channel(self._control)
        self._follower: threading.Thread | None = None

    @property
    def pid(self) -> int:
        """The collector's process id."""
        return self._process.pid

    def start(
        self,
        settings: "Settings",
        *,
        publish: Callable[[Publication], None],
        ended: Callable[[CollectorError], None],
    ) -> None:
        """Have the collector begin.

        Args:
            settings: what it works by; sent through the pipe, since they hold keys.
            publish: takes each publication, in a thread.
            ended: told, in that thread, why the collector has ended before it was stopped.
        """
        self._say(Begin(plain(settings)))
        self._follower = threading.Thread(target=self._follow, args=(publish, ended), name="collector", daemon=True)
        self._follower.start()

    def connect(self) -> socket.socket:
        """Return one end of a stream whose other end the collector serves; may be called in any thread.

        Raises:
            OSError: the collector is gone.
        """
        return self._channel.connect()

    def scraped(self, sequence: int) -> None:
        """Report to the collector that a publication has been scraped; a few bytes, written at once."""
        self._say(Scraped(sequence))

    def write_protobuf(self) -> None:
        """Have publications encoded as protobuf, too."""
        self._say(WriteProtobuf())

    def stop(self) -> int:
        """Have the collector finish, and kill it if it takes too long.

        Returns:
            The exit code it has ended with; negative, the signal's number, where a signal was its end.
        """
        self._stopping = True
        self._say(Stop())
        try:
            code = self._process.wait(self._patience)
        except subprocess.TimeoutExpired:
            _log.warning("the collector did not stop in time; killing it", seconds=self._patience)
            self._process.kill()
            code = self._process.wait()
        if self._follower is not None:
            self._follower.join()
        self._ours.close()
        self._control.close()
        return code

    def kill(self) -> None:
        """End the collector at once; may be called in any thread."""
        self._process.kill()

    def _say(self, message: ToCollector) -> None:
        try:
            self._ours.send(message)
        except OSError:
            # It is gone; the thread that reads from it tells why.
            return

    def _follow(self, publish: Callable[[Publication], None], ended: Callable[[CollectorError], None]) -> None:
        receive = Receiving(self._ours)
        try:
            while not isinstance(received := receive(), GaveUp):
                publish(received)
            error = CollectorError(received.sentence, received.exit_code, gave_up=True)
        except (EOFError, OSError):
            code = self._process.wait()
            error = CollectorError(f"the collector process ended unexpectedly with code {code}")
        if not self._stopping:
            ended(error)


class Process(Protocol):
    """A collector, as `CollectorProcess` is one."""

    @property
    def pid(self) -> int:
        """Its process id."""

    def start(
        self, settings: "Settings", *, publish: Callable[[Publication], None], ended: Callable[[CollectorError], None]
    ) -> None:
        """Have it begin."""

    def connect(self) -> socket.socket:
        """Return one end of a stream whose other end it serves."""

    def scraped(self, sequence: int) -> None:
        """Tell it that a publication has been scraped."""

    def write_protobuf(self) -> None:
        """Have it encode publications as protobuf, too."""

    def stop(self) -> int:
        """Have it finish; return its exit code."""

    def kill(self) -> None:
        """End it at once."""


@dataclass(frozen=True, slots=True)
class _Change:
    """Settings that are wanted, and what became of them."""

    settings: "Settings"
    answer: "asyncio.Future[CollectorError | None]"


class Supervisor:
    """Keeps a collector running. To be used on one event loop, but for `connect`.

    Args:
        settings: what the collector works by.
        publish: takes each publication.
        restarted: told of every start after a sudden end.
        make: makes a collector.
        first_pause: seconds before the first new start; doubled at each that follows soon.
        monotonic: tells seconds.
    """

    def __init__(
        self,
        settings: "Settings",
        *,
        publish: Callable[[Publication], None],
        restarted: Callable[[], None],
        make: Callable[[], Process] = CollectorProcess,
        first_pause: float = _FIRST_PAUSE,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._publish = publish
        self._restarted = restarted
        self._make = make
        self._first_pause = first_pause
        self._monotonic = monotonic
        self._process: Process | None = None
        self._published_at: float | None = None
        self._failures = 0
        self._began_at = monotonic()
        self._is_stopping = False
        self._has_begun = False
        self._former: Settings | None = None
        self._wanted: _Change | None = None
        self._tried: _Change | None = None
        self._changed = asyncio.Event()
        self._beginning: asyncio.Future[Process] | None = None
        self.inquirer = Inquirer(self.connect)

    @property
    def pid(self) -> int | None:
        """The collector's process id; None while there is none."""
        return None if self._process is None else self._process.pid

    @property
    def problem(self) -> str:
        """Why the whole exporter had better be started again, in a sentence; empty while it had not."""
        if self._failures >= _FAILURES_IN_A_ROW and not self._is_steady:
            return f"the collector has ended {self._failures} times in a row"
        if self._published_at is not None and self._monotonic() - self._published_at > _SILENCE_SECONDS:
            return f"the collector has published nothing for {_SILENCE_SECONDS / 60:.0f} minutes"
        return ""

    @property
    def _is_steady(self) -> bool:
        return self._monotonic() - self._began_at >= _STEADY_SECONDS

    def connect(self) -> socket.socket:
        """Return one end of a stream whose other end the collector serves; may be called in any thread.

        Raises:
            OSError: there is no collector now.
        """
        if self._process is None:
            raise OSError("no collector runs now")
        return self._process.connect()

    def scraped(self, sequence: int) -> None:
        """Tell the collector that a publication has been scraped, unless it is one of the collector before."""
        if self._process is not None and self._has_begun:
            self._process.scraped(sequence)

    def write_protobuf(self) -> None:
        """Have the collector encode publications as protobuf, too; a new one is told when it is asked for again."""
        if self._process is not None and self._has_begun:
            self._process.write_protobuf()

    async def run(self) -> CollectorError:
        """Keep a collector running; return the error that another start would meet again."""
        while True:
            self._take_change()
            self._began_at = self._monotonic()
            error = await self._run_one()
            if error is None:
                continue
            if self._former is not None and not self._has_begun:
                self._settings, self._former = self._former, None
                self._answer(error)
                continue
            if error.gave_up and (self._published_at is None or error.exit_code == _IN_USE):
                return error
            if self._is_steady:
                self._failures = 0
            pause = min(self._first_pause * 2**self._failures, _LONGEST_PAUSE)
            self._failures += 1
            _log.warning(
                "the collector has ended and is started again; the last publication is served meanwhile",
                problem=str(error),
                pause_seconds=pause,
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            self._restarted()

    async def change(self, settings: "Settings") -> CollectorError | None:
        """Have a collector with other settings take the place of the one that runs.

        Returns:
            None once it has published; or why it could not begin, when one with the former settings goes on.
        """
        change = _Change(settings, asyncio.get_running_loop().create_future())
        if self._wanted is not None:
            self._wanted.answer.set_result(CollectorError("the configuration has been reloaded again meanwhile"))
        self._wanted = change
        self._changed.set()
        return await change.answer

    def expect_end(self) -> None:
        """Take an end of the collector for what was asked for, from now on."""
        self._is_stopping = True

    async def stop(self) -> None:
        """Have the collector finish; to be called when `run` has ended or been cancelled."""
        self.expect_end()
        if self._beginning is not None:
            await asyncio.gather(self._beginning, return_exceptions=True)
        if self._process is not None:
            await asyncio.to_thread(self._process.stop)

    def kill(self) -> None:
        """End the collector at once; may be called in any thread."""
        if self._process is not None:
            self._process.kill()

    async def _run_one(self) -> CollectorError | None:
        """Run one collector; return why it has ended, or None when it has been stopped for a change of the settings."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[CollectorError] = loop.create_future()
        self._has_begun = False

        def note_end(error: CollectorError) -> None:
            if not ended.done():
                ended.set_result(error)

        def begin() -> Process:
            # Noted at once: whoever stops in this moment must find it.
            process = self._process = self._make()

            def publish(publication: Publication) -> None:
                loop.call_soon_threadsafe(self._published, process, publication)

            def ended_with(error: CollectorError) -> None:
                loop.call_soon_threadsafe(note_end, error)

            process.start(
                self._settings,
                publish=publish,
                ended=ended_with,
            )
            return process

        self._beginning = asyncio.ensure_future(asyncio.to_thread(begin))
        try:
            process = await asyncio.shield(self._beginning)
        except OSError as error:
            # The system lacks memory or processes, for now.
            return CollectorError(f"the collector process cannot be started: {error.strerror}")
        changed = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait((ended, changed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
        await asyncio.to_thread(process.stop)
        self._process = None
        if self._is_stopping:
            await asyncio.Event().wait()
        return ended.result() if ended.done() else None

    def _published(self, process: Process, publication: Publication) -> None:
        if process is not self._process:
            return
        if not self._has_begun:
            self._has_begun = True
            self._former = None
            self._answer(None)
        self._published_at = self._monotonic()
        self._publish(publication)

    def _take_change(self) -> None:
        if self._wanted is None:
            return
        if self._has_begun:
            self._former = self._settings
        self._answer(CollectorError("the configuration has been reloaded again meanwhile"))
        self._tried, self._wanted = self._wanted, None
        self._settings = self._tried.settings
        self._changed.clear()

    def _answer(self, error: CollectorError | None) -> None:
        """Answer the change that is being tried, if one is."""
        if self._tried is not None:
            self._tried.answer.set_result(error)
            self._tried = None
