"""Handover of the settings: the process that has read and checked them becomes the one that serves by them.

pydantic, the types of settings and the command line take 13 MiB, and serving needs values alone. So the process that
reads them writes the values to memory that has no name, and then executes this program anew: its process id, its
command line, its place under a supervisor and what it was told by signals stay. No setting stands in the environment or
on the command line that did not stand there before.

To read the settings again, the same command line is started as a process that answers with the values and ends.
"""

import fcntl
import os
import pickle
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from exporter import __version__
from exporter.errors import ConfigurationError, FalExporterError
from exporter.failure import INTERRUPTED, fail, fail_unexpectedly
from exporter.settings.plain import plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.settings import Settings

_HANDED = "_FAL_EXPORTER_SETTINGS"
"""Variable with the descriptor that the settings are read from; only between the two programs of the process."""

_ASKED = "_FAL_EXPORTER_SETTINGS_WANTED"
"""Variable of a process that is to write the settings to standard output."""

_HELD_BACK = (signal.SIGINT, signal.SIGTERM)
"""Signals that wait while one program becomes the other, which would otherwise end by them at once, and not well."""

_NAME = Path("/proc/self/comm")
"""The process's short name, as `ps` and `pgrep` show it."""

_FRUGAL = MappingProxyType({"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "131072"})
"""Settings of glibc, where nobody has set others: memory that has been freed goes back to the system.

They are for this program when it is executed anew, and for the collector that it starts.
"""

_PATIENCE = 60.0
"""Seconds that reading the settings again may take."""


def serve_by(read: "Callable[[], Settings]") -> int:
    """Read the settings and serve by them, as another program of this process where the system can do that.

    Args:
        read: reads the settings, and logs by them.

    Returns:
        The exit code.

    Raises:
        ConfigurationError: the settings cannot be used, or the address cannot be listened on.
        CollectorError: see `exporter.app.serve.run_serve`.
    """
    if os.environ.get(_ASKED):
        return _answer(read)
    settings = plain(read())
    for name, value in _FRUGAL.items():
        os.environ.setdefault(name, value)
    with suppress(OSError):  # memory or the system lacks something: this program serves as well
        _become(settings)
    from exporter.app.serve import run_serve  # noqa: PLC0415  not in vain

    return run_serve(settings, lambda: plain(read()))


def _become(settings: "Settings") -> None:
    """Execute this program anew, with the settings; return only where that cannot be done.

    Raises:
        OSError: it cannot be done now.
    """
    if not (hasattr(os, "memfd_create") and hasattr(fcntl, "F_ADD_SEALS") and sys.executable):
        return
    descriptor = os.memfd_create("settings", os.MFD_ALLOW_SEALING)
    name = b""
    with suppress(OSError):
        # The system cuts it after 15 bytes, also amid a character.
        name = _NAME.read_bytes().strip()
    with os.fdopen(descriptor, "wb") as file:
        file.write(__version__.encode() + b"\n")
        pickle.dump((name, settings), file)
        file.flush()
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, _seals())
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
        try:
            os.execve(  # noqa: S606  our own program
                sys.executable,
                [sys.executable, *sys.orig_argv[1:]],
                {**os.environ, _HANDED: str(descriptor)},
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _seals() -> int:
    """Return the seals of memory that nobody can change: by them what was handed is told from other files."""
    return fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def is_handed() -> bool:
    """Return whether this program has been handed settings, by itself before it was executed anew."""
    return _HANDED in os.environ


def serve_as_handed() -> int:
    """Serve by the settings that this program has been handed; return the exit code. What fails is told on stderr."""
    try:
        # What came meanwhile is acted on now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_BACK)
        name, settings = _handed(os.environ.pop(_HANDED))
        with suppress(OSError):
            _NAME.write_bytes(name)
        _log_by(settings)
        from exporter.app.serve import run_serve  # noqa: PLC0415  not before signals are acted on

        return run_serve(settings, read_again)
    except FalExporterError as error:
        return fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001  the last resort: a user is never shown a traceback unasked
        return fail_unexpectedly(error)


def _handed(descriptor: str) -> "tuple[bytes, Settings]":
    """Return the name of the process and the settings that a descriptor holds.

    A descriptor that is not such memory is neither read nor closed.

    Raises:
        ConfigurationError: it holds none, since somebody else has set the variable; or another version has written it.
    """
    try:
        number = int(descriptor)
        is_ours = fcntl.fcntl(number, fcntl.F_GET_SEALS) == _seals()
    except (OSError, ValueError, OverflowError, AttributeError):
        # No number, no descriptor, no memory, or a system without seals.
        is_ours = False
    if not is_ours:
        raise ConfigurationError(
            f"the environment variable {_HANDED} is set to what serve has not written; unset it, it is for serve alone"
        )
    with os.fdopen(number, "rb") as file:
        file.seek(0)
        version, content = file.readline().rstrip(b"\n"), file.read()
    return cast("tuple[bytes, Settings]", _read(version, content))


def _read(version: bytes, content: bytes) -> object:
    """Return what another process of this program has written.

    Raises:
        ConfigurationError: another version has written it, or something else stands there.
    """
    if version.decode("ascii", "replace") != __version__:
        # What it has written may be of types that are not known here.
        raise ConfigurationError("another version has been installed meanwhile; start serve again to use it")
    try:
        return pickle.loads(content)  # noqa: S301  our own
    except Exception:  # noqa: BLE001  of what is cut off or mixed with other output, pickle raises whatever it meets
        raise ConfigurationError(
            "what the process that reads the configuration has written is damaged; start serve again"
        ) from None


def read_again() -> "Settings":
    """Return the settings as another process of this command line reads them now, and log by them.

    Raises:
        ConfigurationError: they cannot be used.
    """
    try:
        done = subprocess.run(  # noqa: S603  our own program
            [sys.executable, *sys.orig_argv[1:]],
            env={**os.environ, _ASKED: "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=_PATIENCE,
            check=False,
        )
        version, separator, content = done.stdout.partition(b"\n")
    except (OSError, subprocess.TimeoutExpired):
        separator = b""
    if not separator or done.returncode:
        raise ConfigurationError("the process that reads the configuration has failed; the log says why")
    answer = _read(version, content)
    if isinstance(answer, str):
        raise ConfigurationError(answer)
    settings = cast("Settings", answer)
    _log_by(settings)
    return settings


def _answer(read: "Callable[[], Settings]") -> int:
    """Write the settings, or a sentence that says why they cannot be used, to standard output."""
    answer: object
    try:
        answer = plain(read())
    except FalExporterError as error:
        answer = str(error)
    sys.stdout.buffer.write(__version__.encode() + b"\n" + pickle.dumps(answer))
    sys.stdout.flush()
    return 0


def _log_by(settings: "Settings") -> None:
    from exporter.logs import configure_logging  # noqa: PLC0415  not before signals are acted on

    configure_logging(
        log_format=settings.log_format,
        level=settings.log_level,
        stream=sys.stderr,
        secrets=[*(account.key() for account in settings.accounts), *settings.remote_write_secrets],
    )
