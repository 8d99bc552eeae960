"""The collector process as the web process sees it."""

import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing import Pipe

import structlog

from exporter.app.pipe import Begin, GaveUp, Receiving, Scraped, Stop, ToCollector
from exporter.errors import FalExporterError
from exporter.metrics.publication import Publication
from exporter.settings import Settings

PATIENCE = 4.0
"""Seconds the collector is given to finish; Docker gives the whole ten."""

_log = structlog.get_logger(__name__)


class CollectorError(FalExporterError):
    """The collector has given up, or ended without a word."""

    def __init__(self, sentence: str, exit_code: int = 1) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class CollectorProcess:
    """Starts the collector, passes on what it publishes, and ends it.

    Args:
        patience: seconds the collector is given to finish.
    """

    def __init__(self, *, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._stopping = False
        self._ours, theirs = Pipe()
        descriptor = theirs.fileno()
        self._process = subprocess.Popen(  # noqa: S603  our own interpreter and module
            [sys.executable, "-m", "exporter.app.collecting", str(descriptor)], pass_fds=[descriptor]
        )
        theirs.close()
        self._follower: threading.Thread | None = None

    @property
    def pid(self) -> int:
        """The collector's process id."""
        return self._process.pid

    def start(
        self,
        settings: Settings,
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
        self._say(Begin(settings))
        self._follower = threading.Thread(target=self._follow, args=(publish, ended), name="collector", daemon=True)
        self._follower.start()

    def scraped(self, sequence: int) -> None:
        """Tell the collector that a publication has been scraped; a few bytes, written at once."""
        self._say(Scraped(sequence))

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
            _log.warning("the collector has not stopped in time and is killed", seconds=self._patience)
            self._process.kill()
            code = self._process.wait()
        if self._follower is not None:
            self._follower.join()
        self._ours.close()
        return code

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
            error = CollectorError(received.sentence, received.exit_code)
        except (EOFError, OSError):
            code = self._process.wait()
            error = CollectorError(
                f"the collector process ended unexpectedly with code {code}; start the exporter again"
            )
        if not self._stopping:
            ended(error)
