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
            ├── TooLargeError       too_large     the body is larger than the limit, unpacked or parsed
            └── PagingError         endless_pages a page sequence that repeats itself, leaves rows out or never ends

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

    advice = "check fal's status page, and report the problem if it persists"
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
    """No complete response arrived."""

    reason = "no_answer"
    transient = True


class UnreachableError(NoAnswerError):
    """The connection failed, or broke before a response arrived."""

    reason = "connection"
    advice = "check the URL, DNS resolution, and that the network allows outgoing connections"


class ProxyError(NoAnswerError):
    """The proxy refuses the connection, usually because it requires a user and a password."""

    reason = "proxy"
    advice = "check the proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names, including its user and password"


class TlsError(NoAnswerError):
    """The TLS handshake failed, usually because the certificate is not trusted."""

    reason = "tls"
    advice = (
        "check the URL and the machine's clock; behind a proxy that decrypts TLS, set SSL_CERT_FILE to its "
        "certificate authority"
    )
    transient = False


class ReadTimeoutError(NoAnswerError):
    """Fal sent nothing for longer than the timeout."""

    reason = "timeout"
    advice = "it is retried at the next poll; raise FAL_EXPORTER_REQUEST_TIMEOUT if fal is always this slow"


class DeadlineError(NoAnswerError):
    """The poll's total time ran out."""

    reason = "deadline"
    advice = "it is retried at the next poll; raise FAL_EXPORTER_POLL_DEADLINE if polls always take this long"
    transient = False


class TruncatedError(NoAnswerError):
    """The response was cut off."""

    reason = "truncated"
    advice = "it is retried at the next poll; a proxy in between may cut off long responses"


class RefusalError(ApiError):
    """Fal refused the call."""

    reason = "refused"


class KeyRejectedError(RefusalError):
    """Fal does not know the key (401)."""

    reason = "key_rejected"
    advice = "check that the key is complete (`id:secret`) and has not been revoked"


class ScopeError(RefusalError):
    """The key is valid but not permitted to make this call (403)."""

    reason = "scope"
    advice = "use a key with admin scope for the account; a key with API scope can read only the credit balance"


class FeatureError(RefusalError):
    """The account lacks the feature behind this call (403 or 501)."""

    reason = "feature"
    advice = "ask fal to enable it for the account, or remove this source from the configuration"


class LockedError(RefusalError):
    """The account is locked (403).

    Attributes:
        lock: why, as one of `exporter.fal.answers.LOCK_REASONS`.
    """

    reason = "locked"
    advice = "see the runbook of FalAccountLocked; a top-up resolves only some of the reasons"
    lock = "unknown"


class NotFoundError(RefusalError):
    """The call does not exist there (404)."""

    reason = "not_found"
    advice = "check the URL, or remove this source from the configuration"


class RateLimitedError(RefusalError):
    """Fal limits the rate of requests (429)."""

    reason = "rate_limited"
    advice = "it is retried at the next poll; poll less often if it persists"
    transient = True


class ServerError(RefusalError):
    """Fal failed to answer (5xx)."""

    reason = "server_error"
    advice = "it is retried at the next poll; check fal's status page if it persists"
    transient = True


class BadRequestError(RefusalError):
    """Fal does not accept the request (any other 4xx)."""

    reason = "bad_request"
    advice = "if the response does not say why, fal's API may have changed: check for a newer version of the exporter"


class DetailRefusedError(RefusalError):
    """Fal refuses a detail that it has reported before (400, 403 or 404)."""

    reason = "detail_refused"
    advice = (
        "nothing was counted, because charges without the detail would be counted again under other labels; it is "
        "retried at the next poll. If it persists, remove the source from the sources, restart, and add it again"
    )


class RedirectError(RefusalError):
    """Fal redirects elsewhere (3xx); the key is not sent there."""

    reason = "redirected"
    advice = "set the URL to the address that answers the calls"


class BadAnswerError(ApiError):
    """Fal answered, but not as its API promises."""

    reason = "bad_answer"


class NotJsonError(BadAnswerError):
    """The body is not JSON; usually it is the page of a proxy."""

    reason = "not_json"
    advice = "check that the URL is that of fal's API, and that no proxy answers in its place"


class NotCsvError(BadAnswerError):
    """The body of a report is not CSV with FOCUS columns; usually it is the page of a proxy."""

    reason = "not_csv"
    advice = "check that the URL is that of fal's API, and that no proxy answers in its place"


class ShapeError(BadAnswerError):
    """The JSON is not what the API promises."""

    reason = "shape"
    advice = "fal's API may have changed: check for a newer version of the exporter"


class TooLargeError(BadAnswerError):
    """The body is larger than the limit."""

    reason = "too_large"
    advice = "lower FAL_EXPORTER_PAGE_SIZE, or raise FAL_EXPORTER_MAX_ANSWER_SIZE"
    advice_on_reports = "nothing of it was counted; ask for a shorter window if the account is really that large"


class PagingError(BadAnswerError):
    """A page sequence repeats itself, leaves rows out, never ends, or has more rows than it may have."""

    reason = "endless_pages"
    advice = "nothing from it was counted; it is retried at the next poll"


REASONS = tuple(
    kind.reason
    for family in (NoAnswerError, RefusalError, BadAnswerError)
    for kind in (family, *family.__subclasses__())
)
"""Every value the `reason` of a `ApiError` can have."""
