"""Stand-ins for the object stores of Google and Azure, by their published contracts.

Google: the XML API, to which the library speaks. Azure: the Blob service with its Shared Key, whose signature is
calculated here too and compared; deletions come as a batch. What is not of the contract is answered 400 and kept in
`broken`, so that a test can show that nothing was.
"""

import base64
import hashlib
import hmac
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

ACCOUNT, KEY = "acme", base64.b64encode(b"a key of sixteen").decode()
_AT = "Sat, 28 Nov 2026 10:00:00 GMT"
_ISO = "2026-11-28T10:00:00.000Z"
_BATCHED = re.compile(rb"\r\nDELETE ([^ ]+) HTTP/1.1\r\n")


class StandIn(ThreadingHTTPServer):
    """Server on a free port of this machine.

    Attributes:
        objects: content by bucket or container and name.
        broken: requests that break the contract, in words.
        refuses: whether nobody may read or write.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.objects: dict[str, bytes] = {}
        self.broken: list[str] = []
        self.refuses = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def environment(self) -> dict[str, str]:
        """Return what leads the tools of both providers here."""
        google = {"gcs_base_url": self.address, "disable_oauth": True}
        google |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
        return {
            "AWS_ALLOW_HTTP": "true",
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": KEY,
            "AZURE_STORAGE_ENDPOINT": f"{self.address}/{ACCOUNT}",
            "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(google),
        }


@contextmanager
def serving() -> Iterator[StandIn]:
    """Serve until the end of the block."""
    with StandIn() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Request(BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name is http.server's
        """Say nothing."""

    def do_any(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        path = unquote(parts.path).lstrip("/")
        is_azure = path.startswith(f"{ACCOUNT}/")
        problem = self._problem_of_azure(parts.path, query) if is_azure else ""
        if self.server.refuses:
            self._answer(HTTPStatus.FORBIDDEN, b"<Error><Code>AccessDenied</Code></Error>")
        elif problem:
            self.server.broken.append(f"{self.command} {self.path}: {problem}")
            self._answer(HTTPStatus.BAD_REQUEST, problem.encode())
        elif is_azure and query.get("comp") == "batch":
            self._delete_batch()
        elif query.keys() & {"list-type", "comp"}:
            self._list(path, query.get("prefix", ""), is_azure=is_azure)
        else:
            self._object(path.removeprefix(f"{ACCOUNT}/"), is_azure=is_azure)

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = do_any  # noqa: N815  names of http.server

    def _problem_of_azure(self, path: str, query: dict[str, str]) -> str:
        """Return what a request to the Blob service lacks."""
        if not self.headers.get("x-ms-version"):
            return "x-ms-version is missing"
        if self.command == "PUT" and not query and self.headers.get("x-ms-blob-type") != "BlockBlob":
            return "x-ms-blob-type is missing"
        signed = hmac.new(base64.b64decode(KEY), self._to_sign(path, query).encode(), hashlib.sha256).digest()
        expected = f"SharedKey {ACCOUNT}:{base64.b64encode(signed).decode()}"
        return "" if self.headers.get("authorization") == expected else "the signature is another one"

    def _to_sign(self, path: str, query: dict[str, str]) -> str:
        length = self.headers.get("content-length", "")
        names = [
            *("content-encoding", "content-language", "", "content-md5", "content-type", "date"),
            *("if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range"),
        ]
        values = [self.headers.get(name, "") if name else ("" if length == "0" else length) for name in names]
        own = sorted((name.lower(), value) for name, value in self.headers.items() if name.lower().startswith("x-ms-"))
        resource = f"/{ACCOUNT}{path}" + "".join(f"\n{name}:{value}" for name, value in sorted(query.items()))
        return "\n".join([self.command, *values, *(f"{name}:{value}" for name, value in own), resource])

    def _object(self, name: str, *, is_azure: bool) -> None:
        objects = self.server.objects
        if self.command == "PUT":
            objects[name] = self.body
            self._answer(HTTPStatus.CREATED if is_azure else HTTPStatus.OK)
        elif name not in objects:
            self._answer(HTTPStatus.NOT_FOUND, b"<Error><Code>NoSuchKey</Code></Error>")
        elif self.command == "DELETE":
            del objects[name]
            self._answer(HTTPStatus.ACCEPTED if is_azure else HTTPStatus.NO_CONTENT)
        else:
            self._answer(HTTPStatus.OK, objects[name])

    def _list(self, path: str, prefix: str, *, is_azure: bool) -> None:
        bucket = path.removeprefix(f"{ACCOUNT}/").rstrip("/")
        named = {name.removeprefix(f"{bucket}/"): content for name, content in sorted(self.server.objects.items())}
        found = {name: content for name, content in named.items() if name.startswith(prefix)}
        if is_azure:
            blobs = "".join(
                f"<Blob><Name>{escape(name)}</Name><Properties><Last-Modified>{_AT}</Last-Modified><Etag>1</Etag>"
                f"<Content-Length>{len(content)}</Content-Length><Content-Type>text/csv</Content-Type></Properties></Blob>"
                for name, content in found.items()
            )
            text = f"<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker/></EnumerationResults>"
        else:
            items = "".join(
                f"<Contents><Key>{escape(name)}</Key><LastModified>{_ISO}</LastModified><ETag>1</ETag>"
                f"<Size>{len(content)}</Size></Contents>"
                for name, content in found.items()
            )
            text = f"<ListBucketResult>{items}<IsTruncated>false</IsTruncated></ListBucketResult>"
        self._answer(HTTPStatus.OK, text.encode(), kind="application/xml")

    def _delete_batch(self) -> None:
        parts = []
        for number, path in enumerate(_BATCHED.findall(self.body)):
            name = unquote(path.decode()).lstrip("/").removeprefix(f"{ACCOUNT}/")
            status = "202 Accepted" if self.server.objects.pop(name, None) is not None else "404 Not Found"
            parts.append(
                f"--part\r\nContent-Type: application/http\r\nContent-ID: {number}\r\n\r\nHTTP/1.1 {status}\r\n"
                "x-ms-version: 2023-11-03\r\n\r\n\r\n"
            )
        body = "".join([*parts, "--part--\r\n"]).encode()
        self._answer(HTTPStatus.ACCEPTED, body, kind="multipart/mixed; boundary=part")

    def _answer(self, status: HTTPStatus, body: bytes = b"", *, kind: str = "application/octet-stream") -> None:
        self.send_response(status)
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", _AT)
        self.send_header("Content-Type", kind)
        if status is not HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status is not HTTPStatus.NO_CONTENT:
            self.wfile.write(body)
