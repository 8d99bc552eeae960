"""What a request asks for, and whether it can be read at all."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qsl

from starlette.types import Scope

from exporter.billing.errors import QuestionError
from exporter.billing.parameters import Given, Parameter
from exporter.web.negotiation import wants_gzip
from exporter.web.refusals import Refusal

_LONGEST_URL = 8192
_MOST_PARAMETERS = 50


@dataclass(frozen=True, slots=True)
class Request:
    """A request without a body.

    Attributes:
        gzipped: whether gzip is taken.
        known: what `If-None-Match` says.
    """

    path: str
    query: str
    method: str
    accept: str
    gzipped: bool
    known: str

    @property
    def is_head(self) -> bool:
        """Whether only the headers are wanted."""
        return self.method == "HEAD"

    def texts(self, known: Iterable[Parameter[object]]) -> Mapping[str, str]:
        """Return the parameters that were given.

        Raises:
            QuestionError: there are too many, one is given twice, or one is not among those that are known.
        """
        try:
            pairs = parse_qsl(self.query, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
        except ValueError:
            raise QuestionError("query", f"has more than {_MOST_PARAMETERS} parameters") from None
        texts = dict(pairs)
        Given(texts, known)
        for name, count in Counter(name for name, _ in pairs).items():
            if count > 1:
                raise QuestionError(name, "is given more than once; write several values as a comma list")
        return texts


def read_request(scope: Scope) -> Request | Refusal:
    """Return a request, or why it is refused whatever it asks for."""
    query: bytes = scope["query_string"]
    if len(scope.get("raw_path") or b"") + len(query) > _LONGEST_URL:
        return Refusal(
            HTTPStatus.REQUEST_URI_TOO_LONG, f"the address is longer than {_LONGEST_URL} bytes; ask for less"
        )
    if scope["method"] not in {"GET", "HEAD"}:
        message = "this only answers questions: use GET or HEAD"
        return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, message, headers={"allow": "GET, HEAD"})
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        headers[name] = headers[name] + b"," + value if name in headers else value
    if headers.get(b"content-length", b"0").strip() != b"0" or b"transfer-encoding" in headers:
        message = "a question has no body; put its parameters into the address"
        return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message, headers={"connection": "close"})
    return Request(
        path=scope["path"],
        query=query.decode("latin-1"),
        method=scope["method"],
        accept=headers.get(b"accept", b"").decode("latin-1"),
        gzipped=wants_gzip(headers.get(b"accept-encoding", b"").decode("latin-1")),
        known=headers.get(b"if-none-match", b"").decode("latin-1"),
    )
