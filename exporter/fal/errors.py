"""Errors between the exporter and fal.

    UpstreamError
    └── ApiError                 one call to fal failed; holds the call, and what fal said
        ├── NoAnswerError         no whole answer came
        │   ├── UnreachableError    connection    no connection, or it broke before an answer
        │   ├── ProxyError          proxy         the proxy refuses the connection
        │   ├── TlsError            tls           the certificate or the handshake failed
        │   ├── ReadTimeoutError    timeout       fal was silent for longer than the time-out
        │   ├── DeadlineError       deadline      the poll's total time ran out
        │   └── TruncatedError      truncated     the answer broke off in the middle
        ├── RefusalError          fal answered, and the answer is no
        │   ├── KeyRejectedError    key_rejected  401
        │   ├── ScopeError          scope         403, the key lacks the scope
        │   ├── FeatureError        feature       403 or 501, the account lacks the feature
        │   ├── LockedError         locked        403, the account is locked, with the lock's reason
        │   ├── NotFoundError       not_found     404
        │   ├── RateLimitedError    rate_limited  429
        │   ├── ServerError         server_error  5xx
        │   ├── BadRequestError     bad_request   any other 4xx
        │   ├── DetailRefusedError  detail_refused  a refusal of what the interface has reported before
        │   └── RedirectError       redirected    3xx: a key is never carried to where it points
        └── BadAnswerError        fal answered yes, but not as its interface promises
            ├── NotJsonError        not_json      the body is no JSON
            ├── NotCsvError         not_csv       the body of a report is no CSV
            ├── ShapeError          shape         the JSON is not the promised one
            ├── TooLargeError       too_large     the body is larger than the limit
            └── PagingError         endless_pages a page sequence that repeats itself or never ends

The word in the middle column is the error's `reason`, the value of the `reason` label. No message holds a key: what
fal says is cleaned of it before it gets here (see `exporter.fal.answers`).
"""

from exporter.errors import UpstreamError


class ApiError(UpstreamError):
    """One call to fal failed.

    Attributes:
        account: the account's name in the configuration.
        call: the path of the call, such as `/models/usage`.
        status: the HTTP status, or None when no answer came.
        fal_type: fal's own word for the kind of error, such as `authorization_error`; empty when it gave none.
        fal_message: fal's own message; empty when it gave none.
        request_id: fal's id of the request, for its support; empty when it gave none.
        retry_after: the seconds fal asked to wait, or None.
    """

    advice = "see fal's status page, and report it if it stays"
    transient = False
    """True if the same call may succeed a moment later."""

    def __init__(
        self,
        what: str,
        *,
        account: str,
        call: str,
        status: int | None = None,
        fal_type: str = "",
        fal_message: str = "",
        request_id: str = "",
        retry_after: float | None = None,
        advice: str = "",
    ) -> None:
        self.account = account
        self.call = call
        self.status = status
        self.fal_type = fal_type
        self.fal_message = fal_message
        self.request_id = request_id
        self.retry_after = retry_after
        if advice:
            self.advice = advice
        request = f" (request {request_id})" if request_id else ""
        super().__init__(f"GET {call} of account {account!r} failed: {what}{request}; {self.advice}.")


class NoAnswerError(ApiError):
    """No whole answer came."""

    reason = "no_answer"
    transient = True


class UnreachableError(NoAnswerError):
    """No connection could be made, or it broke before an answer came."""

    reason = "connection"
    advice = "check the URL, the name resolution, and that the network lets the exporter out"


class ProxyError(NoAnswerError):
    """The proxy refuses the connection, most often because it wants a user and a password."""

    reason = "proxy"
    advice = "check the proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names, with its user and password"


class TlsError(NoAnswerError):
    """The TLS handshake failed, most often because the certificate is not trusted."""

    reason = "tls"
    advice = "check the URL, the machine's clock, and that SSL_CERT_FILE names the authority of a proxy in between"
    transient = False


class ReadTimeoutError(NoAnswerError):
    """Fal was silent for longer than the time-out."""

    reason = "timeout"
    advice = "it is tried again at the next poll; raise the time-out if fal is always this slow"


class DeadlineError(NoAnswerError):
    """The poll's total time ran out."""

    reason = "deadline"
    advice = "it is tried again at the next poll; raise the deadline if polls are always this long"
    transient = False


class TruncatedError(NoAnswerError):
    """The answer broke off in the middle."""

    reason = "truncated"
    advice = "it is tried again at the next poll; a proxy in between may cut long answers"


class RefusalError(ApiError):
    """Fal answered, and the answer is no."""

    reason = "refused"


class KeyRejectedError(RefusalError):
    """Fal does not know the key (401)."""

    reason = "key_rejected"
    advice = "check that the key is whole (`id:secret`) and has not been revoked"


class ScopeError(RefusalError):
    """The key is right but may not make this call (403)."""

    reason = "scope"
    advice = "give the account a key with admin scope; a key with API scope can read the credit balance only"


class FeatureError(RefusalError):
    """The account lacks the feature behind this call (403 or 501)."""

    reason = "feature"
    advice = "ask fal to enable it for the account, or take this source out of the configuration"


class LockedError(RefusalError):
    """The account is locked (403).

    Attributes:
        lock: why, as one of `exporter.fal.answers.LOCK_REASONS`.
    """

    reason = "locked"
    advice = "see the runbook of FalAccountLocked; a top-up cures some reasons only"
    lock = "unknown"


class NotFoundError(RefusalError):
    """The call does not exist there (404)."""

    reason = "not_found"
    advice = "check the URL, or take this source out of the configuration"


class RateLimitedError(RefusalError):
    """Fal asks for fewer requests (429)."""

    reason = "rate_limited"
    advice = "it is tried again at the next poll; poll less often if it stays"
    transient = True


class ServerError(RefusalError):
    """Fal failed to answer (5xx)."""

    reason = "server_error"
    advice = "it is tried again at the next poll; see fal's status page if it stays"
    transient = True


class BadRequestError(RefusalError):
    """Fal does not accept the request (any other 4xx)."""

    reason = "bad_request"
    advice = "if that does not tell why, fal's interface may have changed: look for a newer version of the exporter"


class DetailRefusedError(RefusalError):
    """Fal refuses a detail that it has reported before (400, 403 or 404)."""

    reason = "detail_refused"
    advice = (
        "nothing was counted, as charges without the detail would be counted again under other labels; it is tried "
        "again at the next poll. If it stays, take the source out of the sources, restart, and add it again"
    )


class RedirectError(RefusalError):
    """Fal points elsewhere (3xx); the key is not carried there."""

    reason = "redirected"
    advice = "set the URL to where the calls are answered"


class BadAnswerError(ApiError):
    """Fal answered yes, but not as its interface promises."""

    reason = "bad_answer"


class NotJsonError(BadAnswerError):
    """The body is no JSON, most often the page of a proxy."""

    reason = "not_json"
    advice = "check that the URL is fal's interface and that no proxy answers in its place"


class NotCsvError(BadAnswerError):
    """The body of a report is no CSV of FOCUS columns, most often the page of a proxy."""

    reason = "not_csv"
    advice = "check that the URL is fal's interface and that no proxy answers in its place"


class ShapeError(BadAnswerError):
    """The JSON is not what the interface promises."""

    reason = "shape"
    advice = "its interface may have changed: look for a newer version of the exporter"


class TooLargeError(BadAnswerError):
    """The body is larger than the limit."""

    reason = "too_large"
    advice = "lower the number of rows a page, or raise the limit"


class PagingError(BadAnswerError):
    """A page sequence repeats itself or never ends."""

    reason = "endless_pages"
    advice = "nothing was taken from it; it is tried again at the next poll"


REASONS = tuple(
    kind.reason
    for family in (NoAnswerError, RefusalError, BadAnswerError)
    for kind in (family, *family.__subclasses__())
)
"""Every value the `reason` of a `ApiError` can have."""
