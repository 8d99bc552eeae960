"""`python -m exporter`, and the command `fal-exporter`."""

import gc
import os
import resource
import runpy
import signal
import sys
from importlib.util import find_spec
from types import FrameType
from typing import NoReturn

from exporter.failure import INTERRUPTED, TERMINATED
from exporter.outlet import without_waiting

_UNUSED = ("rich", "pygments", "better_exceptions")
"""Libraries for terminals that structlog and httpx import wherever they are installed, and `serve` never uses."""

_UNUSED_BY_COLLECTOR = ("click", "zstandard")
"""Of httpx: for its command, and for encodings that fal does not use."""

_UNUSED_BY_WEB = ("python_multipart", "multipart")
"""Of starlette, for forms."""

_WORKER_WORDS, _COLLECTOR_WORDS = 3, 4
"""Words of these two command lines; with fewer, somebody has typed an unknown command."""


def run() -> int:
    """Carry out the command line of this process and return its exit code.

    `serve` ends well when it is told to stop, also while its libraries are still being imported; the rest of it takes
    over what signals do as soon as it has something to end.
    """
    _leave_no_core()
    if sys.argv[1:2] == ["worker"] and len(sys.argv) == _WORKER_WORDS:
        # No command for people either: `worker` starts processes so, and looks for garbage again.
        if not _is_module(sys.argv[2]):
            sys.stderr.write(
                f"fal-exporter: worker: there is no module {sys.argv[2]!r} to run; see fal-exporter --help\n"
            )
            return 2
        gc.disable()
        _import_less()
        runpy.run_module(sys.argv[2], run_name="__main__", alter_sys=True)
        return 0
    if sys.argv[1:2] == ["collector"] and len(sys.argv) >= _COLLECTOR_WORDS:
        # No command for people: `serve` starts its other process so. To look for garbage in what is imported and stays
        # takes a sixth of the time.
        gc.disable()
        sys.stderr = without_waiting(sys.stderr)
        _import_less(_UNUSED_BY_COLLECTOR)
        from exporter.app import collector_process  # noqa: PLC0415  not before it is known what is left out

        gc.freeze()
        gc.enable()
        return collector_process.main(*map(int, sys.argv[2:]))
    serves = sys.argv[1:2] == ["serve"]
    if serves:
        _open_what_is_closed()
        sys.stderr = without_waiting(sys.stderr)
        gc.disable()  # until `run_serve` has imported everything
        _import_less(_UNUSED_BY_WEB)
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if not serves:
        return _do_until_told()
    try:
        return _serve_or_do()
    finally:
        # What ends well is not to be killed by being told once more; handlers are gone while Python finishes.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)


def _leave_no_core() -> None:
    """Have a crash leave no image of the memory, in which keys are, on a disk; for processes started from here, too.

    With a limit of one byte Linux neither writes a file nor starts a program that would (core(5): such a program gets
    the image whatever other limit there is). Whoever is after a crash can raise it by `prlimit`.
    """
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (1 if most else 0, most))


def _do_until_told() -> int:
    """Carry out a command line, and end at SIGTERM without leaving anywhere what is only begun.

    It ends in the handler: an error that a handler raises is lost where Python can raise none, as amid an import.
    """
    signal.signal(signal.SIGTERM, _end)
    try:
        return _do()
    except KeyboardInterrupt:
        # While the command was still being imported.
        return INTERRUPTED


def _end(number: int, frame: FrameType | None) -> NoReturn:
    del frame
    signal.signal(number, signal.SIG_DFL)
    if (files := sys.modules.get("exporter.unfinished")) is not None:
        files.abandon()
    os._exit(TERMINATED)


def _open_what_is_closed() -> None:
    """Have standard input, output and error lead nowhere where the process was started without them.

    Else the next file that is opened takes their place, and is written to, or closed, for what it is not.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest that is free; for processes that are started from here, too.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003  the library's signature
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  as long as the process lives
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  likewise


def _do() -> int:
    """Carry out a command line as people write it."""
    from exporter.cli import main  # noqa: PLC0415  not before the signals are taken

    return main()


def _serve_or_do() -> int:
    """Serve by settings that this process has read and checked before it was executed anew; or begin by that."""
    from exporter.app.handover import is_handed, serve_as_handed  # noqa: PLC0415  not before the signals are taken

    return serve_as_handed() if is_handed() else _do()


def _is_module(name: str) -> bool:
    """Return whether a module of this name can be run."""
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.submodule_search_locations is None


def _import_less(further: tuple[str, ...] = ()) -> None:
    """Leave out of a process that runs for months what its libraries import only because it is installed: 9 MB."""
    for name in (*_UNUSED, *further):
        # `None` is how Python itself notes that there is no such module.
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(run())
