"""Answer cache: answers as bytes, made once by few threads for all who ask the same."""

import asyncio
import gzip
import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType

from starlette.types import Message, Send

from exporter.web.auth import JSON
from exporter.web.rest.question_queue import Check, Question, QuestionQueue

NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_WORTH_COMPRESSING = 1000
_LEVEL = 5
_DIGEST = 20


@dataclass(slots=True)
class Answer:
    """A whole answer.

    Attributes:
        tag: tells this body from others.
        headers: beside those that follow from the body, in lower case.
        packed: the body with gzip; None until a caller wants it, and where that is not worth it.
    """

    media_type: str
    body: bytes
    tag: str
    headers: Mapping[str, str]
    packed: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes that it takes in memory, more or less; a body that is packed later takes at most as much again."""
        return len(self.body) + len(self.body if self._is_unpacked else self.packed or b"") + 1000

    def pack(self) -> None:
        """Have the body packed, where that is worth it."""
        if self._is_unpacked:
            self.packed = gzip.compress(self.body, _LEVEL, mtime=0)

    @property
    def _is_unpacked(self) -> bool:
        return self.packed is None and len(self.body) > _WORTH_COMPRESSING

    async def send(self, send: Send, *, gzipped: bool, known: str) -> None:
        """Send it, or say that the caller has it already; to HEAD the server leaves out the body.

        Args:
            send: of the request.
            gzipped: whether the caller takes gzip.
            known: the header `If-None-Match`.
        """
        if gzipped and self._is_unpacked:
            await asyncio.to_thread(self.pack)
        packed = self.packed if gzipped else None
        # Strong tags are of bytes, so that the packed body needs one of its own.
        tag = f'"{self.tag}"' if packed is None else f'"{self.tag}-gzip"'
        headers = {
            "content-type": self.media_type if self.media_type == JSON else f"{self.media_type}; charset=utf-8",
            **self.headers,
            "etag": tag,
            "cache-control": "private, no-cache",
            "vary": "Accept, Accept-Encoding, Authorization",
            "x-content-type-options": "nosniff",
        }
        if is_known(known, self.tag):
            await send(_start(HTTPStatus.NOT_MODIFIED, headers))
            await send({"type": "http.response.body", "body": b""})
            return
        body = self.body if packed is None else packed
        headers["content-length"] = str(len(body))
        if packed is not None:
            headers["content-encoding"] = "gzip"
        await send(_start(HTTPStatus.OK, headers))
        await send({"type": "http.response.body", "body": body})


def answer_of(text: str, media_type: str, headers: Mapping[str, str] = NO_HEADERS) -> Answer:
    """Return the answer with a text as its body."""
    body = text.encode()
    return Answer(media_type, body, hashlib.sha256(body).hexdigest()[:_DIGEST], headers)


def is_known(if_none_match: str, tag: str) -> bool:
    """Return whether a caller holds an answer, in whatever encoding (RFC 9110, section 13.1.2)."""
    held = [item.strip().removeprefix("W/").strip('"') for item in if_none_match.split(",")]
    return "*" in held or tag in held or f"{tag}-gzip" in held


def _start(status: int, headers: Mapping[str, str]) -> Message:
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": int(status), "headers": encoded}


_REMEMBERED = 32 * 2**20
"""Bytes of answers that are kept."""

_THREADS = 2 if (os.cpu_count() or 1) > 2 else 1  # noqa: PLR2004


class BusyError(Exception):
    """There are too many questions already."""


class _Making:
    """An answer under way, and how many wait for it."""

    def __init__(self, question: Question[Answer]) -> None:
        self.question = question
        self.future = asyncio.wrap_future(question.future)
        self.waiting = 0


class AnswerCache:
    """Has answers made and keeps them, those that were asked for last.

    Args:
        threads: how many answers are made at a time; one processor is left to scrapes.
        most: how many may be under way or waiting.
        remembered: bytes of answers that are kept.
    """

    def __init__(self, *, threads: int = _THREADS, most: int = 64, remembered: int = _REMEMBERED) -> None:
        self._questions: QuestionQueue[Answer] = QuestionQueue(threads)
        self._most = most
        self._remembered = remembered
        self._answers: OrderedDict[Hashable, tuple[Answer, int]] = OrderedDict()
        self._size = 0
        self._making: dict[Hashable, _Making] = {}

    def known(self, key: Hashable) -> Answer | None:
        """Return an answer that has been made before."""
        found = self._answers.get(key)
        if found is None:
            return None
        self._answers.move_to_end(key)
        return found[0]

    async def answer(self, key: Hashable, make: Callable[[Check], Answer], *, kind: Hashable = None) -> Answer:
        """Return the answer to a question, made now or before; who asks what is being made waits for that.

        An answer that all have ceased to wait for, because they were cancelled, is not made.

        Args:
            key: tells the question, and the state that it is answered from.
            make: called in a thread; what it raises is raised to all who wait.
            kind: tells about how long the question takes; the cheap ones come first.

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
            making = self._making[key] = _Making(self._questions.ask(kind, make))
            making.future.add_done_callback(lambda made: self._made(key, made))
        making.waiting += 1
        try:
            return await asyncio.shield(making.future)
        finally:
            making.waiting -= 1
            if not making.waiting and not making.future.done():
                # Its place among those that wait is free at once; who asks the same from now on asks anew.
                making.question.withdraw()
                making.future.cancel()
                self._making.pop(key, None)

    def forget(self, key: Hashable) -> None:
        """Keep an answer no longer, as it is of a state that is over; nothing happens where there is none."""
        found = self._answers.pop(key, None)
        if found is not None:
            self._size -= found[1]

    def close(self) -> None:
        """Begin nothing more; what is under way ends by itself."""
        self._questions.close()

    def _made(self, key: Hashable, made: asyncio.Future[Answer]) -> None:
        if made.cancelled():
            return
        del self._making[key]
        if made.exception() is not None:
            return
        answer = made.result()
        # Kept beside the answer, which may be packed later and then is of another size.
        size = answer.size
        if size > self._remembered // 4:
            return
        self._answers[key] = answer, size
        self._size += size
        while self._size > self._remembered:
            _, (_, freed) = self._answers.popitem(last=False)
            self._size -= freed
