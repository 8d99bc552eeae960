"""`/v1/billing/focus`: a file, streamed while it is being written or downloaded."""

import asyncio
from http import HTTPStatus

import structlog
from starlette.types import Receive, Send

from exporter.queries.focus.question import FocusQuestion
from exporter.queries.focus.report import PATIENCE, BrokenOffError, NoReportError, Report, ReportSources, opened_report
from exporter.web.auth import RETRY, Refusal
from exporter.web.callers import caller_gone
from exporter.web.rest.calls import Request
from exporter.web.rest.entrance import ANSWERED_BY, MISSING_HOURS, NOTE, READ_AT

MOST_AT_ONCE = 2
"""Files that are written at a time."""

_LATER = (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS)

_log = structlog.get_logger(__name__)


class FocusFiles:
    """Streams files."""

    def __init__(self, sources: ReportSources) -> None:
        self._sources = sources
        self._under_way = 0

    async def answer(self, question: FocusQuestion, request: Request, receive: Receive, send: Send) -> Refusal | None:
        """Send a file, or return why there is none.

        One that cannot be finished is broken off, so that the caller sees that it is not whole.

        Raises:
            QuestionError: it is not clear whose report is asked for.
        """
        if self._under_way >= MOST_AT_ONCE:
            message = f"{MOST_AT_ONCE} files are being written already; ask again when one is done"
            return Refusal(HTTPStatus.TOO_MANY_REQUESTS, message, headers=RETRY)
        self._under_way += 1
        try:
            async with opened_report(question, self._sources, gzipped=request.gzipped) as report:
                await send({"type": "http.response.start", "status": int(HTTPStatus.OK), "headers": _headers(report)})
                if request.is_head:
                    await send({"type": "http.response.body", "body": b""})
                else:
                    await _stream(report, request, receive, send)
        except NoReportError as error:
            if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
                _log.warning("a FOCUS file could not be written", path=request.path, problem=str(error))
            return Refusal(error.status, str(error), headers=RETRY if error.status in _LATER else {})
        finally:
            self._under_way -= 1
        return None


async def _stream(report: Report, request: Request, receive: Receive, send: Send) -> None:
    """Pass a file on, unless the caller goes away. Without its end, the server breaks the answer off."""
    gone = asyncio.ensure_future(caller_gone(receive))
    try:
        while not gone.done():
            piece = await report.piece()
            async with asyncio.timeout(PATIENCE):
                await send({"type": "http.response.body", "body": piece, "more_body": bool(piece)})
            if not piece:
                return
    except TimeoutError:
        _log.warning("a FOCUS file was broken off: its reader stood still", path=request.path)
    except BrokenOffError as error:
        _log.warning("a FOCUS file was broken off", path=request.path, problem=str(error))
    finally:
        gone.cancel()


def _headers(report: Report) -> list[tuple[bytes, bytes]]:
    name = "".join(char for char in report.name if char.isascii() and (char.isalnum() or char in "-_."))
    missing = "" if report.missing is None else str(report.missing)
    said = {ANSWERED_BY: report.answered_by, MISSING_HOURS: missing, READ_AT: report.read_at, NOTE: report.note}
    headers = [
        (b"content-type", b"text/csv; charset=utf-8"),
        (b"content-disposition", f'attachment; filename="{name}.csv"'.encode()),
        *((header.encode(), text.encode("latin-1", "replace")) for header, text in said.items() if text),
        (b"cache-control", b"private, no-store"),
        (b"vary", b"Accept, Accept-Encoding, Authorization"),
        (b"x-content-type-options", b"nosniff"),
    ]
    return [*headers, (b"content-encoding", b"gzip")] if report.gzipped else headers
