"""The ledger's thread: all work on the ledger is done there, one piece after the other."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from exporter.ledger import Ledger

Result = TypeVar("Result")


class LedgerDesk:
    """Hands work to the thread that owns the ledger, so that the event loop never waits for the disk.

    Opening happens there too, since a database connection belongs to the thread that opened it.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._ledger: Ledger | None = None

    async def open(self, opener: Callable[[], Ledger]) -> None:
        """Open the ledger.

        Raises:
            ConfigurationError, LedgerError: what the opener raises.
        """
        try:
            self._ledger = await asyncio.get_running_loop().run_in_executor(self._thread, opener)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise

    async def run(self, work: Callable[[Ledger], Result]) -> Result:
        """Do a piece of work on the open ledger and return its result."""
        if self._ledger is None:
            raise RuntimeError("the ledger is not open")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._ledger)

    async def close(self) -> None:
        """Finish the work that has been handed in, and close the ledger."""
        if self._ledger is not None:
            await self.run(Ledger.close)
        self._thread.shutdown(wait=True)
