"""FOCUS report as a stream of bytes: fal's own through the collector, or the ledger's through a process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus

from exporter.errors import FalExporterError
from exporter.inquiry import Answer, Inquirer, InquiryError
from exporter.queries.focus.question import LACKING, TAGGED_ESTIMATE, UNAVAILABLE, WRITER, FocusQuestion, Head, Order
from exporter.worker import Worker, WorkerError, worker

PATIENCE = 60.0
"""Seconds until a report begins, and that a piece of it may take."""


class NoReportError(FalExporterError):
    """There is no report.

    Attributes:
        status: as HTTP says it; with 503 and 429 it may be there later.
    """

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class BrokenOffError(FalExporterError):
    """A report that has begun cannot be read to its end."""


@dataclass(frozen=True, slots=True)
class ReportSources:
    """Sources of reports.

    Attributes:
        address: of the ledger.
        inquirer: asks the collector; None where there is none.
        accounts: those that are polled.
    """

    address: str
    inquirer: Inquirer | None = None
    accounts: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """A report that has begun.

    Attributes:
        answered_by: `fal` or `ledger`.
        name: of a file, without its ending.
        piece: returns the next bytes, none at the end; raises BrokenOffError.
        missing: hours of the window that the ledger has not read to their end; None of a report of fal's.
        read_at: when a report of fal's was read; empty for one from the ledger.
        note: what it is made of, where that does not go without saying.
        gzipped: whether the bytes are compressed.
    """

    answered_by: str
    name: str
    piece: Callable[[], Awaitable[bytes]]
    missing: int | None = None
    read_at: str = ""
    note: str = ""
    gzipped: bool = False


@asynccontextmanager
async def opened_report(
    question: FocusQuestion, sources: ReportSources, *, gzipped: bool = False, patience: float = PATIENCE
) -> AsyncIterator[Report]:
    """Begin a report: of fal's own where it is asked for and to be had, else of the ledger where that may answer.

    Args:
        question: what is asked.
        sources: who may answer.
        gzipped: whether a report from the ledger is to be compressed; fal's is as it is.
        patience: seconds until it begins.

    Raises:
        QuestionError: it is not clear of which account fal's report is wanted.
        NoReportError: there is none.
    """
    async with AsyncExitStack() as stack:
        report = await _of_fal(stack, question, sources, patience) if question.asks_fal else None
        yield report or await _of_ledger(stack, question, sources.address, gzipped=gzipped, patience=patience)


async def _of_fal(
    stack: AsyncExitStack, question: FocusQuestion, sources: ReportSources, patience: float
) -> Report | None:
    """Begin fal's own report; return None where it has none for the account, and the ledger may answer."""
    if sources.inquirer is None:
        if question.may_ask_ledger:
            return None
        only = InquiryError(UNAVAILABLE, "only a running exporter (fal-exporter serve) can ask fal")
        raise _refusal(question, only)
    inquiry = question.inquiry(sources.accounts)
    try:
        answer = await stack.enter_async_context(sources.inquirer.ask(inquiry, patience=patience))
    except InquiryError as error:
        if error.reason == UNAVAILABLE and question.may_ask_ledger:
            return None
        raise _refusal(question, error) from None
    fields = inquiry.fields
    words = [fields.get(name, "") for name in ("source", "charge_month", "billing_month", "start", "end")]
    name = "-".join(["focus-fal", inquiry.account, *map(_stamp, filter(None, words))])
    return Report("fal", name, _pieces_of(answer), read_at=str(answer.head["read_at"]))


async def _of_ledger(
    stack: AsyncExitStack, question: FocusQuestion, address: str, *, gzipped: bool, patience: float
) -> Report:
    order = Order(address, question, gzipped)
    process = await stack.enter_async_context(worker(WRITER, order.written))
    try:
        async with asyncio.timeout(patience):
            head = Head.read(await process.head())
    except (TimeoutError, ValueError, WorkerError):
        what = "the file could not be written: the process that writes it ended or stalled before it began"
        raise NoReportError(HTTPStatus.INTERNAL_SERVER_ERROR, what) from None
    if head.status != HTTPStatus.OK:
        raise NoReportError(HTTPStatus(head.status), head.message)
    return Report(
        "ledger",
        f"focus-{_stamp(head.start)}-{_stamp(head.end)}",
        _pieces_written(process),
        missing=head.missing,
        note=head.note,
        gzipped=gzipped,
    )


def _refusal(question: FocusQuestion, error: InquiryError) -> NoReportError:
    sentence = str(error).rstrip(".")
    if error.reason == "busy":
        return NoReportError(HTTPStatus.TOO_MANY_REQUESTS, sentence)
    ledger = (
        "; source=estimate answers from the ledger"
        if question.source == TAGGED_ESTIMATE
        else "; live=false answers from the ledger"
    )
    if error.reason in {LACKING, UNAVAILABLE}:
        return NoReportError(HTTPStatus.NOT_FOUND, f"{sentence}{ledger}")
    if error.reason == "late":
        sentence = "fal's report has not started in time; it is kept once it has arrived, so try again later"
    return NoReportError(HTTPStatus.SERVICE_UNAVAILABLE, f"{sentence}{ledger}")


def _pieces_of(answer: Answer) -> Callable[[], Awaitable[bytes]]:
    pieces = answer.pieces()

    async def piece() -> bytes:
        try:
            async with asyncio.timeout(PATIENCE):
                return await anext(pieces, b"")
        except TimeoutError:
            raise BrokenOffError("fal's report has stalled") from None
        except InquiryError as error:
            raise BrokenOffError(str(error)) from None

    return piece


def _pieces_written(process: Worker) -> Callable[[], Awaitable[bytes]]:
    async def piece() -> bytes:
        try:
            async with asyncio.timeout(PATIENCE):
                return await process.piece()
        except TimeoutError:
            raise BrokenOffError("the process that writes the file has stalled") from None
        except WorkerError:
            raise BrokenOffError("the ledger could not be read to the end") from None

    return piece


def _stamp(text: str) -> str:
    """Return an instant without what file names do not take; other words as they are."""
    return text.replace("-", "").replace(":", "").replace("+0000", "Z") if "T" in text else text
