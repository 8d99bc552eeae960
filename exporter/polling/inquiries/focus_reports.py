"""fal's own FOCUS reports on demand: each downloaded once, at a measured pace, into a file that everybody reads.

The handler of the inquiries of `exporter.queries.focus.question`. The web process gets the file's bytes while it grows;
they are fal's, untouched. A report that has been downloaded answers until it is too old, and also later while fal does
not answer.
"""

import asyncio
import errno
import os
import shutil
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import structlog

from exporter.charges import Clock
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
from exporter.inquiry import AnswerWriter, Inquiry, InquiryError
from exporter.ledger.tables.database import ledger_url
from exporter.queries.focus.question import FAILED, LACKING, UNAVAILABLE
from exporter.unfinished import ScratchFolder, written_whole

_ESTIMATE_FRESH_FOR = timedelta(minutes=15)
"""Age up to which a downloaded estimate answers: fal refreshes tagged ones on a schedule of its own."""

_REFUSED_FOR = timedelta(hours=1)
"""Time for which an account that may not read a source is not asked again."""

_KEPT_FILES = 24

LEFT_FREE = 256 * 2**20
"""Bytes that a report leaves free on the disk, which may be that of the ledger."""

_PIECE = 2**16
_TOLD_EVERY = 2**18
_INVOICE = "invoice"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Part:
    """A report's file, as far as it has been written."""

    path: Path
    size: int
    read_at: datetime
    whole: bool


@dataclass(slots=True)
class _Download:
    """One report that is being downloaded, for all who wait for it."""

    read_at: datetime
    task: asyncio.Task[None] | None = None
    part: _Part | None = None
    problem: ApiError | OSError | None = None
    ended: bool = False
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def tell(self, part: _Part) -> None:
        async with self.changed:
            self.part = part
            self.changed.notify_all()

    async def end(self) -> None:
        async with self.changed:
            self.ended = True
            self.changed.notify_all()

    async def parts(self) -> AsyncGenerator[_Part, None]:
        """Yield how far it has come, the latest state each time, until it has ended.

        Raises:
            ApiError, OSError: it has failed.
        """
        told: _Part | None = None
        while True:
            async with self.changed:
                while self.part is told and not self.ended:
                    await self.changed.wait()
                part, ended = self.part, self.ended
            if part is not None and part is not told:
                told = part
                yield part
            elif ended:
                break
        if self.problem is not None:
            raise self.problem


class FocusReports:
    """Downloads reports and hands them out.

    Args:
        clients: of the accounts, by their names.
        ledger_address: of the ledger. The files are kept beside a SQLite ledger, else in a temporary folder.
        invoice_fresh_for: age up to which a downloaded invoice answers; an invoiced month may get a correction.
        clock: returns the present.
    """

    def __init__(
        self, clients: Mapping[str, Client], ledger_address: str, *, invoice_fresh_for: timedelta, clock: Clock
    ) -> None:
        self._clients = clients
        self._ledger_address = ledger_address
        self._invoice_fresh_for = invoice_fresh_for
        self._clock = clock
        self._folder: Path | None = None
        self._temporary: ScratchFolder | None = None
        self._under_way: dict[Path, _Download] = {}
        self._pace = {account: asyncio.Lock() for account in clients}
        self._refused: dict[tuple[str, str], tuple[datetime, str]] = {}

    async def answer(self, inquiry: Inquiry, answer: AnswerWriter) -> None:
        """Send a report: when it was read as the head, and its bytes.

        Raises:
            InquiryError: there is none. The reason is `unavailable` where the account may not read it, `lacking` where
                fal has none of that month, `failed` where it may be had later.
        """
        client = self._clients.get(inquiry.account)
        if client is None:
            raise InquiryError(LACKING, "account is not an account that is polled")
        source = inquiry.fields["source"]
        request = _request(inquiry.fields)
        try:
            path = await asyncio.to_thread(self._path, inquiry.account, request)
            kept = await asyncio.to_thread(self._kept, path)
            longest = self._invoice_fresh_for if source == _INVOICE else _ESTIMATE_FRESH_FOR
            if kept is not None and timedelta(0) <= self._clock() - kept.read_at < longest:
                await _send_kept(kept, answer)
                return
            refused = self._refused.get((inquiry.account, source))
            if refused is not None and self._clock() - refused[0] < _REFUSED_FOR:
                raise InquiryError(UNAVAILABLE, refused[1])
            try:
                await self._send_new(client, request, path, answer)
            except ApiError as error:
                if kept is None or not _is_passing(error):
                    raise
                _log.info("fal does not answer; handing out its previous report", problem=str(error))
                await _send_kept(kept, answer)
        except ApiError as error:
            failure = _failure(source, error)
            if failure.reason == UNAVAILABLE:
                self._refused[inquiry.account, source] = self._clock(), str(failure)
            raise failure from None
        except OSError as error:
            raise InquiryError(FAILED, f"fal's report cannot be kept in a file: {error.strerror}") from None

    async def close(self) -> None:
        """Give up the downloads that are under way."""
        tasks = [current.task for current in self._under_way.values() if current.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._temporary is not None:
            self._temporary.close()

    def _path(self, account: str, request: FocusRequest) -> Path:
        if self._folder is None or not self._folder.is_dir():
            self._folder = self._made_folder()
        # Accounts may be named like paths.
        name = "".join(char if char.isalnum() else f"%{ord(char):x}" for char in account)
        zone = request.timezone.replace("/", "%2f")
        return self._folder / "-".join(filter(None, (name, zone, report_file_name(request))))

    def _made_folder(self) -> Path:
        """Return a folder that is readable by this user only."""
        url = ledger_url(self._ledger_address)
        if url.get_backend_name() == "sqlite" and url.database:
            folder = Path(f"{url.database}-reports")
            try:
                folder.mkdir(mode=0o700, exist_ok=True)
                # What a killed collector has left unfinished.
                for unfinished in folder.glob(".*.csv.*"):
                    unfinished.unlink(missing_ok=True)
            except OSError as error:
                _log.info(
                    "FOCUS reports are stored in a temporary directory", folder=str(folder), problem=error.strerror
                )
            else:
                return folder
        self._temporary = ScratchFolder()
        return self._temporary.path

    def _kept(self, path: Path) -> _Part | None:
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        read_at = datetime.fromtimestamp(status.st_mtime, tz=self._clock().tzinfo)
        return _Part(path, status.st_size, read_at, whole=True)

    async def _send_new(self, client: Client, request: FocusRequest, path: Path, answer: AnswerWriter) -> None:
        """Send a report as it comes in; whoever asks for one that is under way gets the same.

        Raises:
            ApiError: fal has not answered, or the account is refused; nothing has been sent.
            InquiryError: the report has broken off.
        """
        current = self._under_way.get(path)
        if current is None:
            current = self._under_way[path] = _Download(self._clock())
            current.task = asyncio.create_task(self._download(client, request, path, current))
        file: BinaryIO | None = None
        try:
            async with aclosing(current.parts()) as parts:
                async for part in parts:
                    if file is None:
                        try:
                            file = part.path.open("rb", buffering=0)
                        except FileNotFoundError:
                            # It has got its name meanwhile, which the next part tells.
                            continue
                        await answer.head({"read_at": part.read_at.isoformat()})
                    await _send(file, part.size - file.tell(), answer)
        except ApiError as error:
            if file is None:
                raise
            raise InquiryError(FAILED, f"fal's report was cut off: {error}") from None
        finally:
            if file is not None:
                file.close()

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
                                await asyncio.to_thread(_flush, file)
                                told = size
                                await current.tell(_Part(unfinished, size, current.read_at, whole=False))
                stamp = current.read_at.timestamp()
                os.utime(path, (stamp, stamp))
                await asyncio.to_thread(_forget_oldest, path)
                await current.tell(_Part(path, size, current.read_at, whole=True))
        except (ApiError, OSError) as error:
            current.problem = error
        finally:
            self._under_way.pop(path, None)
            await current.end()


def _flush(file: BinaryIO) -> None:
    """Write what is buffered, unless the disk is nearly full.

    Raises:
        OSError: it cannot be written.
    """
    file.flush()
    if shutil.disk_usage(file.fileno()).free < LEFT_FREE:
        raise OSError(errno.ENOSPC, f"less than {LEFT_FREE // 2**20} MiB are free on its disk")


def _forget_oldest(newest: Path) -> None:
    files = sorted(newest.parent.glob("*.csv"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files[_KEPT_FILES:]:
        if file != newest:
            file.unlink(missing_ok=True)


async def _send_kept(kept: _Part, answer: AnswerWriter) -> None:
    with kept.path.open("rb", buffering=0) as file:
        await answer.head({"read_at": kept.read_at.isoformat()})
        await _send(file, kept.size, answer)


async def _send(file: BinaryIO, count: int, answer: AnswerWriter) -> None:
    while count > 0 and (piece := await asyncio.to_thread(file.read, min(count, _PIECE))):
        await answer.piece(piece)
        count -= len(piece)


def _failure(source: str, error: ApiError) -> InquiryError:
    if _is_passing(error):
        return InquiryError(FAILED, f"fal does not answer at the moment: {error}")
    if isinstance(error, BadRequestError):
        what = error.fal_message or str(error)
        return InquiryError(LACKING, f"fal has no such report with source={source}: {what}")
    return InquiryError(UNAVAILABLE, str(error))


def _is_passing(error: ApiError) -> bool:
    """Return whether an error says nothing about what the account may read."""
    return not isinstance(error, ScopeError | FeatureError | NotFoundError | BadRequestError)


def _request(fields: Mapping[str, str]) -> FocusRequest:
    instants = {name: datetime.fromisoformat(fields[name]) for name in ("start", "end") if name in fields}
    return FocusRequest(
        source=fields["source"],
        billing_month=fields.get("billing_month", ""),
        charge_month=fields.get("charge_month", ""),
        start=instants.get("start"),
        end=instants.get("end"),
        timezone=fields.get("timezone", ""),
        timeframe=fields.get("timeframe", ""),
        # The window has been widened already, where it was to be.
        bound_to_timeframe=False if instants else None,
    )
