"""Download of fal's FOCUS reports (`/account/focus`, `/organization/focus`) as a stream of typed rows.

A report is never whole in memory. One that is longer than fal answers at once is fetched in pieces; each finished piece
is a file of its own, so that a fetch that broke off goes on with the first piece that is missing.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from exporter.fal.aggregation import SECOND_LOOK, Detail
from exporter.fal.client import Client
from exporter.fal.endpoints import Deadline
from exporter.fal.errors import (
    ApiError,
    BadRequestError,
    DetailRefusedError,
    FeatureError,
    NotCsvError,
    NotFoundError,
    ScopeError,
    ShapeError,
    TruncatedError,
)
from exporter.fal.focus.request import DEFAULT_TIMEFRAME, FocusRequest
from exporter.fal.rows import Rejection
from exporter.focus.findings import FocusError, MissingColumnError, TruncatedFileError
from exporter.focus.reader import Memory, Reader
from exporter.focus.timeframes import LONGEST
from exporter.unfinished import written_whole


def download(
    client: Client, request: FocusRequest, deadline: Deadline | None = None, *, track_lock: bool = True
) -> AsyncGenerator[bytes, None]:
    """Yield a report's bytes as they come in; see `Client.stream`.

    Raises:
        FocusRequestError: the window is longer than fal takes at once; raised before the call.
        ApiError: every kind of failure; see `exporter.fal.errors`.
    """
    until = deadline or client.deadline(client.limits.report_deadline)
    return client.stream(request.call, request.parameters(), until, track_lock=track_lock)


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a fetch.

    Attributes:
        number, pieces: the piece that is coming in, from 1 on, and how many there are.
        size: the bytes of it that are there.
        done: whether it is complete; also reported of a piece that an earlier fetch has left.
    """

    number: int
    pieces: int
    path: Path
    size: int
    done: bool


def _ignored(progress: Progress) -> None:
    del progress


async def fetch(
    client: Client,
    request: FocusRequest,
    folder: Path,
    *,
    longest: timedelta = LONGEST,
    resume: bool = True,
    on_progress: Callable[[Progress], None] = _ignored,
) -> tuple[Path, ...]:
    """Fetch a report of any length into files, one a piece, in order of time; return them all.

    Args:
        client: the account's own.
        request: what to fetch.
        folder: where the files are made; it is there already.
        longest: how long a piece of an estimate is, at most.
        resume: whether pieces that are there already are kept. Estimates change, so that an old piece may not be what
            fal would say now. What cannot have been whole when it was fetched is always fetched again: the latest
            invoice, which will be another one, and an estimate of a time that was not over.
        on_progress: called with every part that comes in.

    Raises:
        ApiError: a piece could not be had; those before it are kept.
        OSError: a file cannot be written.
    """
    pieces = list(request.pieces(longest))
    paths = tuple(folder / file_name(piece) for piece in pieces)
    for number, (piece, path) in enumerate(zip(pieces, paths, strict=True), 1):
        if resume and path.exists() and _was_over(piece, path):
            on_progress(Progress(number, len(pieces), path, path.stat().st_size, done=True))
            continue
        size = 0
        with written_whole(path) as file:
            async with aclosing(download(client, piece)) as body:
                async for data in body:
                    size += file.write(data)
                    on_progress(Progress(number, len(pieces), path, size, done=False))
        on_progress(Progress(number, len(pieces), path, size, done=True))
    return paths


def _was_over(piece: FocusRequest, path: Path) -> bool:
    """Return whether a piece was about the past alone when its file was written."""
    return not piece.is_latest and (piece.end is None or path.stat().st_mtime >= piece.end.timestamp())


def file_name(piece: FocusRequest) -> str:
    """Return a name that tells what is in the file, and that no other piece has."""
    words = ["focus", "organization" if piece.organization else "account", piece.source]
    if piece.is_latest:
        words.append("latest")
    elif piece.start is not None and piece.end is not None:
        words += [piece.timeframe or DEFAULT_TIMEFRAME, _stamp(piece.start), _stamp(piece.end)]
    elif piece.charge_month:
        words += ["charged", piece.charge_month]
    else:
        words += ["billed", piece.billing_month]
    if piece.expand:
        words.append("by-team")
    if piece.team_username:
        words.append("".join(char if char.isalnum() else f"%{ord(char):x}" for char in piece.team_username))
    return "-".join(words) + ".csv"


def _stamp(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y%m%dT%H%M%SZ}"


RowT = TypeVar("RowT", bound=tuple[object, ...])

_NO = (BadRequestError, ScopeError, FeatureError, NotFoundError)

_REFUSALS = 2
"""Refusals of the teams, one after the other, that are believed while it is not known whether fal reports them."""


class FocusReports:
    """Reads reports of `/account/focus` for one account.

    Args:
        client: the account's own.
        source: under which name rows that are not understood are counted and logged.
        by_team: whether to ask for the teams of an organization. That is the right of its root alone: where fal refuses
            it, the reports are read without.
        track_lock: as for `Client.get`.

    Attributes:
        detail: whether fal reports the teams; the first report finds out where that is not known.
    """

    def __init__(self, client: Client, source: str, *, by_team: bool, track_lock: bool = True) -> None:
        self.detail = Detail.UNKNOWN if by_team else Detail.REDUCED
        self._client = client
        self._source = source
        self._track_lock = track_lock
        self._memory = Memory()

    async def rows(
        self,
        shape: type[RowT],
        request: FocusRequest,
        deadline: Deadline,
        rejected: Counter[str],
        unreadable: Callable[[Mapping[str, object]], None] | None = None,
    ) -> AsyncGenerator[list[RowT], None]:
        """Yield the rows of a report as they come in, some at a time; those that can be read.

        Args:
            shape: the columns that are wanted; see `exporter.focus.row_schema`.
            request: what to ask for; `expand` is set here.
            deadline: for the report and all attempts at it.
            rejected: counts, by reason, the rows that cannot be read.
            unreadable: takes what can be read of such a row; see `exporter.focus.reader.Reader`.

        Raises:
            DetailRefusedError: fal refuses the teams that it has reported before.
            ApiError: every kind of failure; see `exporter.fal.errors`. A report that is none, lacks a column or ends
                too early is a failure; the rows before it are no result.
        """
        expanded = replace(request, expand="organization")
        refusals = 0
        while self.detail is not Detail.REDUCED and refusals < _REFUSALS:
            try:
                async with aclosing(self._read(shape, expanded, deadline, rejected, unreadable)) as lists:
                    async for rows in lists:
                        yield rows
            except _NO as error:
                if self.detail is Detail.FULL:
                    # Where the report itself is refused, that is the error.
                    await self._is_given(request, deadline)
                    what = f"fal refuses expand=organization, which it accepted before: {error}"
                    raise self._client.failure(DetailRefusedError, request.call, what) from error
                refusals += 1
                if refusals < _REFUSALS:
                    await self._client.pause(SECOND_LOOK)
            else:
                self.detail = Detail.FULL
                return
        async with aclosing(self._read(shape, request, deadline, rejected, unreadable)) as lists:
            async for rows in lists:
                self.detail = Detail.REDUCED
                yield rows

    async def ask_for_teams(self, request: FocusRequest, deadline: Deadline) -> None:
        """Ask for the teams again where fal has refused them, and for every report from now on where it gives them.

        Raises:
            ApiError: the answer says neither yes nor no.
        """
        if self.detail is not Detail.REDUCED:
            return
        with suppress(*_NO):
            await self._is_given(replace(request, expand="organization"), deadline)
            self.detail = Detail.FULL

    async def _is_given(self, request: FocusRequest, deadline: Deadline) -> None:
        """Begin a report, and raise what fal has against it."""
        async with aclosing(download(self._client, request, deadline, track_lock=self._track_lock)) as body:
            await anext(body)

    async def _read(
        self,
        shape: type[RowT],
        request: FocusRequest,
        deadline: Deadline,
        rejected: Counter[str],
        unreadable: Callable[[Mapping[str, object]], None] | None,
    ) -> AsyncGenerator[list[RowT], None]:
        client = self._client
        reader = Reader(shape, keep=1, memory=self._memory, unreadable=unreadable)
        try:
            async with aclosing(download(client, request, deadline, track_lock=self._track_lock)) as body:
                async for piece in body:
                    yield reader.feed(piece)
            yield reader.finish()
        except FocusError as error:
            raise client.failure(_kind(error), request.call, f"of fal's report {error}") from None
        problems = reader.problems
        if problems.rows:
            client.rejections.reject(rejected, self._source, Rejection.UNREADABLE, str(problems.first[0]))
            rejected[Rejection.UNREADABLE.value] += problems.rows - 1


def _kind(error: FocusError) -> type[ApiError]:
    if isinstance(error, TruncatedFileError):
        return TruncatedError
    return ShapeError if isinstance(error, MissingColumnError) else NotCsvError
