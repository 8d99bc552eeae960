"""An answer as the bytes that are sent, made once for all who ask the same."""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType

from starlette.types import Message, Send

from exporter.web.refusals import JSON

NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_WORTH_COMPRESSING = 1000
_LEVEL = 5
_DIGEST = 20


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer.

    Attributes:
        packed: the body with gzip; None where that is not worth it.
        tag: tells this body from others.
        headers: beside those that follow from the body, in lower case.
    """

    media_type: str
    body: bytes
    packed: bytes | None
    tag: str
    headers: Mapping[str, str]

    @property
    def size(self) -> int:
        """Bytes that it takes in memory, more or less."""
        return len(self.body) + len(self.packed or b"") + 1000

    async def send(self, send: Send, *, gzipped: bool, known: str) -> None:
        """Send it, or say that the caller has it already; to HEAD the server leaves out the body.

        Args:
            send: of the request.
            gzipped: whether the caller takes gzip.
            known: the header `If-None-Match`.
        """
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
    packed = gzip.compress(body, _LEVEL, mtime=0) if len(body) > _WORTH_COMPRESSING else None
    tag = hashlib.sha256(body).hexdigest()[:_DIGEST]
    return Answer(media_type, body, packed, tag, headers)


def is_known(if_none_match: str, tag: str) -> bool:
    """Tell whether a caller holds an answer, in whatever encoding (RFC 9110, section 13.1.2)."""
    held = [item.strip().removeprefix("W/").strip('"') for item in if_none_match.split(",")]
    return "*" in held or tag in held or f"{tag}-gzip" in held


def _start(status: int, headers: Mapping[str, str]) -> Message:
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": int(status), "headers": encoded}
