"""Work in a separate process, so that it does not hold up scrapes: an order, a head, a body.

The process reads its order from standard input to the end. It writes to standard output one line, the head, and after
it the body. It ends with exit code 0 when the body is whole. A refusal is a head too.
"""

import asyncio
import gc
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import IO

from exporter.errors import FalExporterError

_PIECE = 2**16
_NICENESS = 10


class WorkerError(Exception):
    """The process has ended too early, or has written what nobody asked for."""


class Worker:
    """The output of a process that has got its order.

    Args:
        output: its standard output.
        exit_code: waits for its end.
    """

    def __init__(self, output: asyncio.StreamReader, exit_code: "asyncio.Task[int]") -> None:
        self._output = output
        self._exit_code = exit_code

    async def head(self) -> bytes:
        """Return the first line.

        Raises:
            WorkerError: there is none, or it is longer than 64 KiB.
        """
        try:
            line = await self._output.readline()
        except ValueError:
            raise WorkerError("the head has no end") from None
        if not line.endswith(b"\n"):
            raise WorkerError("the process ended before its head did")
        return line

    async def piece(self) -> bytes:
        """Return the next piece of the body; nothing where the body is whole.

        Raises:
            WorkerError: the process has failed, so that the body is cut off.
        """
        piece = await self._output.read(_PIECE)
        # Shielded, as whoever waits too long for a piece does not end the waiting for the process.
        if not piece and await asyncio.shield(self._exit_code) != 0:
            raise WorkerError("the process failed before its body was complete")
        return piece

    async def body(self, most: int) -> bytes:
        """Return the whole body.

        Args:
            most: bytes that it may have.

        Raises:
            WorkerError: the process has failed, or the body is longer.
        """
        body = bytearray()
        while piece := await self.piece():
            body += piece
            if len(body) > most:
                raise WorkerError(f"the body is longer than {most:,} bytes")
        return bytes(body)


@asynccontextmanager
async def worker(module: str, order: bytes) -> AsyncIterator[Worker]:
    """Start a process of a module of this program and give it its order; at the end of the block it is gone.

    The caller sets the time that it may take, by `asyncio.timeout`.
    """
    # The order may hold a password, so it is no argument; a traceback could, so nothing is taken from standard error.
    # Ctrl-C is for the caller, which ends this process.
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "exporter", "worker", module),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        start_new_session=True,
    )
    ending = asyncio.ensure_future(process.wait())
    try:
        if process.stdin is None or process.stdout is None:
            raise TypeError("the process was started without pipes")
        process.stdin.write(order)
        process.stdin.close()
        yield Worker(process.stdout, ending)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await ending


def serve(work: Callable[[bytes, IO[bytes]], None]) -> int:
    """Serve one order in this process and return the exit code, which is 0 for a refusal too.

    Args:
        work: takes the order, and where to write head and body.
    """
    # What has been imported stays: `__main__` has not looked for garbage in it.
    gc.freeze()
    gc.enable()
    # Scrapes go first where processors are few.
    os.nice(_NICENESS)
    try:
        work(sys.stdin.buffer.read(), sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except (FalExporterError, OSError):
        # The caller sees that the body is cut off, or has gone.
        return 1
    return 0
