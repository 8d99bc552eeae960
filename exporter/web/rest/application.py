"""The ASGI application of the calls, their description and its page."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import cache, partial
from http import HTTPStatus
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import structlog
from starlette.types import Receive, Scope, Send

from exporter.charges import Clock, hour_of
from exporter.errors import ConfigurationError, EventsError, LedgerError
from exporter.interruption import wanted_until
from exporter.publication import Publication
from exporter.queries.coverage import lacking, why_nothing
from exporter.queries.exact_json import exact_json
from exporter.queries.focus.question import parse_focus_question
from exporter.queries.focus.report import ReportSources
from exporter.queries.live import LiveError, LivePart, ask_live
from exporter.queries.parameters import UNREADABLE, Given, NoDataYetError, QuestionError
from exporter.queries.requests import NoRequestsError
from exporter.queries.usage import UsageQuestion, parse_usage_question
from exporter.web.auth import JSON, RETRY, Refusal
from exporter.web.callers import caller_gone
from exporter.web.negotiation import accepts
from exporter.web.pages.rendering import HEADERS
from exporter.web.rest.answer_cache import Answer, AnswerCache, BusyError, answer_of
from exporter.web.rest.calls import AMOUNTS, CALLS, Call, Request, Sources, answer_text, read_request
from exporter.web.rest.documentation import description, page
from exporter.web.rest.entrance import DOCS, OPENAPI, RestOptions
from exporter.web.rest.focus import FocusFiles
from exporter.web.rest.question_queue import Check, OverdueError

if TYPE_CHECKING:
    from exporter.ledger.accounting.coverage import ScopeState
    from exporter.ledger.reader import LedgerReader

HTML = "text/html"

_DOCUMENTATION: Mapping[str, str] = {OPENAPI: JSON, DOCS: HTML}
"""Media types of the documentation's two forms."""

_MOST_ASKED = 1000
"""Queries whose answers are found without reading the query."""

_MOST_REQUEST_QUESTIONS = 16
"""Questions about single requests that are answered or wait."""

_log = structlog.get_logger(__name__)


class Rest:
    """Answers the calls.

    Args:
        options: what it is made of.
        published: returns the latest publication; None before the first.
        clock: returns the present.
    """

    def __init__(self, options: RestOptions, *, published: Callable[[], Publication | None], clock: Clock) -> None:
        needs_token = options.tokens is not None
        self._options = options
        self._reader: LedgerReader | None = None
        self._lock = Lock()
        self._reading: asyncio.Future[_LedgerState] | None = None
        self._read: tuple[object, _LedgerState] | None = None
        self._asked: OrderedDict[tuple[str, str], _Asked] = OrderedDict()
        self._lacks: tuple[Publication | None, tuple[str, ...]] = (None, ())
        self._counted: tuple[Publication | None, int] = (None, 0)
        self._focus = FocusFiles(
            ReportSources(options.ledger_url.get_secret_value(), options.inquirer, options.accounts)
        )
        self._published = published
        self._clock = clock
        self._answers = AnswerCache()
        # Apart from the others, which are quick, and never kept: the store has no revision.
        self._request_answers = AnswerCache(threads=1, most=_MOST_REQUEST_QUESTIONS, remembered=0)
        self._calls = {call.path: call for call in CALLS}
        self._description = cache(lambda: answer_of(exact_json(description(guarded=needs_token)), JSON))
        self._page = cache(lambda: answer_of(page(guarded=needs_token), HTML, HEADERS))

    def close(self) -> None:
        """Take no more questions and let go of the ledger."""
        self._answers.close()
        self._request_answers.close()
        if self._reader is not None:
            self._reader.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        refused = await self._answer(scope, receive, send)
        if refused is not None:
            await refused.send(send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> Refusal | None:
        path = scope["path"]
        call, in_path = self._called(path)
        media_type = call.media_type if call else _DOCUMENTATION.get(path)
        if media_type is None:
            return Refusal(HTTPStatus.NOT_FOUND, f"there is no such call; {DOCS} lists them all", DOCS)
        request = read_request(scope)
        if isinstance(request, Refusal):
            return request
        if not accepts(request.accept, media_type):
            return Refusal(
                HTTPStatus.NOT_ACCEPTABLE, f"this call answers only {media_type}; accept it, or send no Accept header"
            )
        answer: Answer | Refusal | None
        if call is None:
            # Both are made when somebody reads the documentation first, off the loop that serves scrapes.
            answer = await asyncio.to_thread(self._description if path == OPENAPI else self._page)
        elif call.answer is None:
            answer = await _heeding(call, self._file(call, request, receive, send))
        else:
            answer = await _heeding(call, self._known_or_made(call, request, in_path, receive))
        if isinstance(answer, Answer):
            await answer.send(send, gzipped=request.gzipped, known=request.known)
            return None
        return answer

    def _called(self, path: str) -> tuple[Call | None, Mapping[str, str]]:
        """Return the call that a path is of, and the parameters that stand in it."""
        call = self._calls.get(path)
        if call is not None and not call.path_parameters:
            return call, {}
        for call in CALLS:
            found = call.matched(path) if call.path_parameters else None
            if found is not None:
                return call, found
        return None, {}

    async def _file(self, call: Call, request: Request, receive: Receive, send: Send) -> Refusal | None:
        question = parse_focus_question(request.texts(call.parameters), now=self._clock())
        return await self._focus.answer(question, request, receive, send)

    def _repeated(self, call: Call, request: Request) -> Answer | None:
        """Return the answer to the same query of the same state; costs a look at the files of the ledger."""
        asked = self._asked.get((call.path, request.query))
        if asked is None or asked.hour != hour_of(self._clock()):
            return None
        is_of_ledger = call.made_from == "ledger"
        state = self._fresh() if is_of_ledger else self._published()
        if state is None or state is not asked.state or (is_of_ledger and asked.lacks != self._lacking()):
            return None
        return self._answers.known(asked.key)

    def _count_of(self, publication: Publication | None) -> int:
        """Count the publications that are answered from; a collector that begins anew may number two alike."""
        newest, count = self._counted
        if newest is not publication:
            count += 1
            self._counted = publication, count
        return count

    def _lacking(self) -> tuple[str, ...]:
        """Return what the figures of the ledger lack; worked out once for each publication."""
        publication = self._published()
        of, lacks = self._lacks
        if of is not publication:
            lacks = lacking(publication)
            self._lacks = publication, lacks
        return lacks

    def _remember(self, call: Call, request: Request, asked: "_Asked") -> None:
        before = self._asked.get((call.path, request.query))
        if before is not None and before.key != asked.key:
            # A dashboard asks the same for weeks: what it was answered before would fill all that may be kept.
            self._answers.forget(before.key)
        self._asked[call.path, request.query] = asked
        self._asked.move_to_end((call.path, request.query))
        if len(self._asked) > _MOST_ASKED:
            self._asked.popitem(last=False)

    def _fresh(self) -> "_LedgerState | None":
        """Return the state that was read last if nothing has been written since."""
        if self._reader is None or self._read is None:
            return None
        files, state = self._read
        return state if files is not None and files == self._reader.files() else None

    async def _known_or_made(
        self, call: Call, request: Request, in_path: Mapping[str, str], receive: Receive
    ) -> Answer:
        repeated = self._repeated(call, request)
        return repeated or await _while_waited_for(receive, self._document(call, request, in_path))

    async def _document(self, call: Call, request: Request, in_path: Mapping[str, str]) -> Answer:
        texts = dict(request.texts(call.parameters))
        quoted = Given(texts, call.parameters).get(AMOUNTS) == "string"
        texts.pop(AMOUNTS.name, None)
        texts |= in_path
        now, publication = self._clock(), self._published()
        # Of the same publication as the answer, which may not be the latest any more once the ledger has been asked.
        lacks = self._lacking() if call.made_from == "ledger" else ()
        live: tuple[LivePart, ...] = ()
        question: UsageQuestion | None = None
        # Questions of a kind take about as long: those of one call with the same terms, and windows of about a size.
        kind: Hashable = (call.path, *sorted(texts))
        if call.made_from == "requests":
            return await self._of_requests(call, request, texts, now, quoted=quoted)
        if call.made_from == "ledger":
            ledger = self._fresh() or await self._state()
            of: object = ledger
            state: object = (ledger.revision, lacks)
            if call.is_usage:
                question = parse_usage_question(texts, now=now, zone=self._options.zone)
                live = await self._live(question, ledger, now)
                kind = call.path, question.group_by, *sorted(question.where), len(question.window).bit_length()
        else:
            of = publication
            state = self._count_of(publication)
        answered = tuple((part.account, part.window, part.as_of, part.problem) for part in live)
        # Windows without an edge follow the clock, by whole hours.
        key = (call.path, tuple(sorted(texts.items())), quoted, state, answered, hour_of(now))
        sources = Sources(self._ledger, publication, self._options.zone, now, live, usage_question=question)
        make = partial(_made, call=call, sources=sources, texts=texts, quoted=quoted, gzipped=request.gzipped)
        try:
            answer = await self._answers.answer(key, make, kind=kind)
        except NoDataYetError as error:
            raise why_nothing(error, publication) from None
        if not live:
            self._remember(call, request, _Asked(of, hour_of(now), key, lacks))
        return answer

    async def _of_requests(
        self, call: Call, request: Request, texts: Mapping[str, str], now: datetime, *, quoted: bool
    ) -> Answer:
        sources = Sources(self._ledger, None, self._options.zone, now, requests=self._options.requests)
        make = partial(_made, call=call, sources=sources, texts=texts, quoted=quoted, gzipped=request.gzipped)
        key = (call.path, tuple(sorted(texts.items())), quoted)
        return await self._request_answers.answer(key, make, kind=(call.path, *sorted(texts)))

    async def _live(self, question: UsageQuestion, ledger: "_LedgerState", now: datetime) -> tuple[LivePart, ...]:
        asked = question.live_questions(ledger.scopes, ledger.kept_from, now)
        return await ask_live(self._options.inquirer, asked, must=question.live == "true")

    def _ledger(self) -> "LedgerReader":
        with self._lock:
            if self._reader is None:
                self._reader = self._options.reader(self._options.ledger_url.get_secret_value())
            return self._reader

    async def _state(self) -> "_LedgerState":
        """Return the state of the ledger; who asks while it is being read shares that reading."""
        reading = self._reading
        if reading is None or reading.done():
            reading = self._reading = asyncio.ensure_future(asyncio.to_thread(self._read_state))
        return await asyncio.shield(reading)

    def _read_state(self) -> "_LedgerState":
        reader = self._ledger()
        files = reader.files()
        with reader.snapshot() as ledger:
            state = _LedgerState(ledger.revision, ledger.scopes(), ledger.kept_from())
        self._read = files, state
        return state


class _LedgerState(NamedTuple):
    """State of the ledger: its revision, and from where on it has the hours of each account."""

    revision: int
    scopes: "tuple[ScopeState, ...]"
    kept_from: datetime | None


class _Asked(NamedTuple):
    """A query that has been answered: from which state, in which hour, and under which key the answer is kept.

    Attributes:
        lacks: what the figures of the ledger lacked.
    """

    state: object
    hour: datetime
    key: Hashable
    lacks: tuple[str, ...] = ()


def _made(
    check: Check, call: Call, sources: Sources, texts: Mapping[str, str], *, quoted: bool, gzipped: bool
) -> Answer:
    if call.answer is None:
        raise TypeError(f"{call.path} has no document")
    with wanted_until(check):
        found = call.answer(replace(sources, check=check), texts)
    check()
    answer = answer_of(answer_text(found, quoted=quoted), JSON)
    if gzipped:
        answer.pack()
    return answer


async def _while_waited_for(receive: Receive, answering: Coroutine[None, None, Answer]) -> Answer:
    """Wait for an answer, and cease to do so when the caller goes away."""
    task, gone = asyncio.ensure_future(answering), asyncio.ensure_future(caller_gone(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
        return await task
    finally:
        task.cancel()
        gone.cancel()


async def _heeding(call: Call, answering: Awaitable[Answer | Refusal | None]) -> Answer | Refusal | None:
    """Wait for an answer and turn what is raised into a refusal."""
    try:
        return await answering
    except asyncio.CancelledError:
        return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "the exporter is shutting down", headers=RETRY)
    except Exception as error:  # noqa: BLE001  whatever happens, a caller gets an answer and the log no stack trace
        return _refusal(call, error)


def _refusal(call: Call, error: Exception) -> Refusal:
    match error:
        case QuestionError() | LiveError(reason="too_much"):
            return Refusal(HTTPStatus.BAD_REQUEST, str(error), f"{DOCS}#{call.name}")
        case BusyError() | LiveError(reason="busy"):
            message = str(error) or "too many requests at once; try again in a moment"
            return Refusal(HTTPStatus.TOO_MANY_REQUESTS, message, headers=RETRY)
        case NoRequestsError():
            return Refusal(HTTPStatus.NOT_FOUND, str(error), f"{DOCS}#{call.name}")
        case NoDataYetError() | LiveError() | EventsError() | ConfigurationError() | OverdueError():
            return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers=RETRY)
        case LedgerError():
            _log.info("a request could not be answered", path=call.path, problem=str(error))
            return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, UNREADABLE, headers=RETRY)
        case _:
            _log.error("a request failed", path=call.path, error=type(error).__name__)
            _log.debug("traceback of the unexpected error", exc_info=error)
            return Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "the request failed; see the exporter's log")
