"""fal's own FOCUS reports on demand: each downloaded once, at a measured pace, into a file that everybody reads.

The collector downloads, since it alone reaches fal; the web process reads the file while it grows. The bytes are
fal's, untouched.
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from exporter.atomic_file import written_whole
from exporter.charges import Clock
from exporter.errors import ConfigurationError
from exporter.fal import (
    ApiError,
    BadRequestError,
    Client,
    FeatureError,
    FocusRequest,
    NotFoundError,
    ScopeError,
    download,
    report_file_name,
)
from exporter.ledger.tables.database import ledger_url
from exporter.upstream import Answer, NoAnswer, ReportPart, ReportQuestion

_ESTIMATE_FRESH_FOR = timedelta(minutes=15)
"""Age up to which a downloaded estimate answers: fal refreshes tagged ones on a schedule of its own."""

_REFUSED_FOR = timedelta(hours=1)
"""Time for which an account that may not read a source is not asked again."""

_KEPT_FILES = 24
_TOLD_EVERY = 2**18
_INVOICE = "invoice"

_log = structlog.get_logger(__name__)


def report_folder(ledger_address: str) -> Path:
    """Return a folder for reports that is readable by this user only: beside a SQLite ledger, else a temporary one."""
    url = ledger_url(ledger_address)
    if url.get_backend_name() == "sqlite" and url.database:
        folder = Path(f"{url.database}-reports")
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            # What a killed collector has left unfinished.
            for unfinished in folder.glob(".*.csv.*"):
                unfinished.unlink(missing_ok=True)
        except OSError as error:
            _log.info("FOCUS reports go to a temporary folder", folder=str(folder), problem=error.strerror)
        else:
            return folder
    return Path(tempfile.mkdtemp(prefix="fal-exporter-reports-"))


@dataclass(slots=True)
class _Download:
    """One report that is being downloaded, for all who wait for it."""

    read_at: datetime
    task: asyncio.Task[None] | None = None
    part: ReportPart | None = None
    problem: ApiError | None = None
    ended: bool = False
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def tell(self, part: ReportPart) -> None:
        async with self.changed:
            self.part = part
            self.changed.notify_all()

    async def end(self) -> None:
        async with self.changed:
            self.ended = True
            self.changed.notify_all()


class FocusReports:
    """Answers questions for reports.

    Args:
        clients: of the accounts, by their names.
        ledger_address: of the ledger, beside which the files are kept.
        invoice_fresh_for: age up to which a downloaded invoice answers; an invoiced month may get a correction.
        clock: tells the present.
    """

    def __init__(
        self, clients: Mapping[str, Client], ledger_address: str, *, invoice_fresh_for: timedelta, clock: Clock
    ) -> None:
        self._clients = clients
        self._ledger_address = ledger_address
        self._invoice_fresh_for = invoice_fresh_for
        self._clock = clock
        self._folder: Path | None = None
        self._under_way: dict[Path, _Download] = {}
        self._pace = {account: asyncio.Lock() for account in clients}
        self._refused: dict[tuple[str, str], tuple[datetime, NoAnswer]] = {}

    async def answer(self, question: ReportQuestion) -> AsyncGenerator[Answer, None]:
        """Yield how far the file has come until it is whole; see `exporter.upstream.Upstream`."""
        client = self._clients.get(question.account)
        if client is None:
            yield NoAnswer("lacking", f"there is no account {question.account!r}")
            return
        refused = self._refused.get((question.account, question.source))
        if refused is not None and self._clock() - refused[0] < _REFUSED_FOR:
            yield refused[1]
            return
        try:
            request = _request(question)
            path = await asyncio.to_thread(self._path, question.account, request)
        except (ConfigurationError, OSError) as error:
            yield NoAnswer("failed", f"fal's report cannot be fetched: {error}")
            return
        kept = self._kept(path, question)
        if kept is not None and kept.fresh:
            yield kept.part
            return
        async with aclosing(self._followed(client, request, path)) as parts:
            async for part in parts:
                if isinstance(part, ApiError):
                    yield kept.part if kept is not None and _is_passing(part) else self._no_answer(question, part)
                else:
                    yield part

    async def close(self) -> None:
        """Give up the downloads that are under way."""
        tasks = [download.task for download in self._under_way.values() if download.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _path(self, account: str, request: FocusRequest) -> Path:
        if self._folder is None or not self._folder.is_dir():
            self._folder = report_folder(self._ledger_address)
        # Accounts may be named like paths.
        name = "".join(char if char.isalnum() else f"%{ord(char):x}" for char in account)
        return self._folder / f"{name}-{report_file_name(request)}"

    def _kept(self, path: Path, question: ReportQuestion) -> "_Kept | None":
        try:
            status = path.stat()
        except OSError:
            return None
        now = self._clock()
        read_at = datetime.fromtimestamp(status.st_mtime, tz=now.tzinfo)
        longest = self._invoice_fresh_for if question.source == _INVOICE else _ESTIMATE_FRESH_FOR
        fresh = timedelta(0) <= now - read_at < longest
        return _Kept(ReportPart(path, status.st_size, whole=True, read_at=read_at), fresh)

    async def _followed(
        self, client: Client, request: FocusRequest, path: Path
    ) -> AsyncGenerator[ReportPart | ApiError, None]:
        """Yield how far a download has come; begin it where nobody has."""
        current = self._under_way.get(path)
        if current is None:
            current = self._under_way[path] = _Download(self._clock())
            current.task = asyncio.create_task(self._download(client, request, path, current))
        told: ReportPart | None = None
        while True:
            async with current.changed:
                while current.part is told and not current.ended:
                    await current.changed.wait()
                part, ended = current.part, current.ended
            if part is not None and part is not told:
                told = part
                yield part
            elif ended:
                break
        if current.problem is not None:
            yield current.problem

    async def _download(self, client: Client, request: FocusRequest, path: Path, current: _Download) -> None:
        try:
            # One at a time: a report can be gigabytes, and polls of the same account go on beside it.
            async with self._pace[client.account]:
                size, told = 0, 0
                with written_whole(path) as file:
                    unfinished = Path(file.name)
                    async with aclosing(download(client, request, track_lock=False)) as body:
                        async for data in body:
                            size += await asyncio.to_thread(file.write, data)
                            if size - told >= _TOLD_EVERY or not told:
                                await asyncio.to_thread(file.flush)
                                told = size
                                await current.tell(ReportPart(unfinished, size, whole=False, read_at=current.read_at))
                stamp = current.read_at.timestamp()
                await asyncio.to_thread(os.utime, path, (stamp, stamp))
                await asyncio.to_thread(self._forget_oldest, path)
                await current.tell(ReportPart(path, size, whole=True, read_at=current.read_at))
        except ApiError as error:
            current.problem = error
        except OSError as error:
            what = f"its file cannot be written: {error.strerror}"
            current.problem = client.failure(ApiError, request.call, what)
        finally:
            self._under_way.pop(path, None)
            await current.end()

    def _forget_oldest(self, newest: Path) -> None:
        files = sorted(newest.parent.glob("*.csv"), key=lambda file: file.stat().st_mtime, reverse=True)
        for file in files[_KEPT_FILES:]:
            if file != newest:
                file.unlink(missing_ok=True)

    def _no_answer(self, question: ReportQuestion, error: ApiError) -> NoAnswer:
        if isinstance(error, BadRequestError) and question.source == _INVOICE:
            said = f": {error.fal_message}" if error.fal_message else ""
            return NoAnswer("lacking", f"fal has no such invoice of account {question.account!r}{said}")
        if _is_passing(error):
            return NoAnswer("failed", f"fal does not answer now: {error}")
        answer = NoAnswer("unavailable", str(error))
        self._refused[question.account, question.source] = self._clock(), answer
        return answer


@dataclass(frozen=True, slots=True)
class _Kept:
    """A report that has been downloaded before."""

    part: ReportPart
    fresh: bool


def _is_passing(error: ApiError) -> bool:
    """Return whether an error says nothing about what the account may read."""
    return not isinstance(error, ScopeError | FeatureError | NotFoundError | BadRequestError)


def _request(question: ReportQuestion) -> FocusRequest:
    estimate = question.source != _INVOICE
    return FocusRequest(
        source=question.source,
        billing_month=question.billing_month,
        charge_month=question.charge_month,
        start=question.start,
        end=question.end,
        timezone=question.timezone,
        timeframe=question.timeframe,
        # The window has been widened already, where it was to be.
        bound_to_timeframe=False if estimate else None,
    )
