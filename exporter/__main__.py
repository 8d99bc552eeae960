"""`python -m exporter`, and the command `fal-exporter`."""

import os
import signal
import sys


def run() -> int:
    """Carry out the command line of this process and return its exit code.

    `serve` ends well when it is told to stop, also while its libraries are still being imported; the rest of it takes
    over what signals do as soon as it has something to end.
    """
    serves = sys.argv[1:2] == ["serve"]
    if serves:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from exporter.cli import main  # noqa: PLC0415  not before the signals are taken

    try:
        return main()
    finally:
        if serves:
            # What ends well is not to be killed by being told once more; handlers are gone while Python finishes.
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(run())
