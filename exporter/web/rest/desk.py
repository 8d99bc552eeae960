"""Where answers are made: by few threads, so that scrapes get their turn, and each only once."""

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor

from exporter.web.rest.answers import Answer

_REMEMBERED = 32 * 2**20
"""Bytes of answers that are kept."""

_THREADS = 2 if (os.cpu_count() or 1) > 2 else 1  # noqa: PLR2004


class BusyError(Exception):
    """There are too many questions already."""


class Desk:
    """Makes answers in threads and keeps them, those that were asked for last.

    Args:
        threads: how many answers are made at a time; one processor is left to scrapes.
        most: how many may be under way or waiting.
        remembered: bytes of answers that are kept.
    """

    def __init__(self, *, threads: int = _THREADS, most: int = 64, remembered: int = _REMEMBERED) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="rest")
        self._most = most
        self._remembered = remembered
        self._answers: OrderedDict[Hashable, Answer] = OrderedDict()
        self._size = 0
        self._making: dict[Hashable, asyncio.Future[Answer]] = {}

    def known(self, key: Hashable) -> Answer | None:
        """Return an answer that has been made before."""
        found = self._answers.get(key)
        if found is not None:
            self._answers.move_to_end(key)
        return found

    async def answer(self, key: Hashable, make: Callable[[], Answer]) -> Answer:
        """Return the answer to a question, made now or before; who asks what is being made waits for that.

        Args:
            key: tells the question, and the state that it is answered from.
            make: called in a thread; what it raises is raised to all who wait.

        Raises:
            BusyError: too many questions are waiting.
        """
        found = self.known(key)
        if found is not None:
            return found
        making = self._making.get(key)
        if making is None:
            if len(self._making) >= self._most:
                raise BusyError
            making = asyncio.get_running_loop().run_in_executor(self._threads, make)
            self._making[key] = making
            making.add_done_callback(lambda made: self._made(key, made))
        return await asyncio.shield(making)

    def close(self) -> None:
        """Begin nothing more; what is under way ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _made(self, key: Hashable, made: asyncio.Future[Answer]) -> None:
        del self._making[key]
        if made.cancelled() or made.exception() is not None:
            return
        answer = made.result()
        if answer.size > self._remembered // 4:
            return
        self._answers[key] = answer
        self._size += answer.size
        while self._size > self._remembered:
            _, oldest = self._answers.popitem(last=False)
            self._size -= oldest.size
