"""The rows of fal's FOCUS reports: a download and the reader of the format, joined."""

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import TypeVar

from exporter.fal.client import Client
from exporter.fal.errors import (
    BadRequestError,
    CallError,
    FeatureError,
    NotCsvError,
    NotFoundError,
    ScopeError,
    ShapeError,
    TruncatedError,
)
from exporter.fal.focus import download
from exporter.fal.focus_request import FocusRequest
from exporter.fal.limits import Deadline
from exporter.fal.rejections import Rejection
from exporter.focus.errors import FocusError, MissingColumnError, TruncatedFileError
from exporter.focus.plain import Memory
from exporter.focus.reader import Reader

RowT = TypeVar("RowT", bound=tuple[object, ...])

_NO = (BadRequestError, ScopeError, FeatureError, NotFoundError)


class FocusReports:
    """Reads reports of `/account/focus` for one account.

    Args:
        client: the account's own.
        source: under which name rows that are not understood are counted and logged.
        by_team: whether to ask for the teams of an organization. That is the right of its root alone; where fal refuses
            it, the report is asked for without, and so from then on.
        heed_lock: as for `Client.get`.
    """

    def __init__(self, client: Client, source: str, *, by_team: bool, heed_lock: bool = True) -> None:
        self._client = client
        self._source = source
        self._by_team = by_team
        self._heed_lock = heed_lock
        self._memory = Memory()

    async def rows(
        self, shape: type[RowT], request: FocusRequest, deadline: Deadline, rejected: Counter[str]
    ) -> AsyncGenerator[list[RowT], None]:
        """Yield the rows of a report as they come in, some at a time; those that can be read.

        Args:
            shape: the columns that are wanted; see `exporter.focus.shape`.
            request: what to ask for; `expand` is set here.
            deadline: for the report and all attempts at it.
            rejected: counts, by reason, the rows that cannot be read.

        Raises:
            CallError: every kind of failure; see `exporter.fal.errors`. A report that is none, lacks a column or ends
                too early is a failure; the rows before it are no result.
        """
        if self._by_team:
            expanded = replace(request, expand="organization")
            try:
                async with aclosing(self._read(shape, expanded, deadline, rejected)) as lists:
                    async for rows in lists:
                        yield rows
            except _NO:
                pass
            else:
                return
        async with aclosing(self._read(shape, request, deadline, rejected)) as lists:
            async for rows in lists:
                self._by_team = False
                yield rows

    async def _read(
        self, shape: type[RowT], request: FocusRequest, deadline: Deadline, rejected: Counter[str]
    ) -> AsyncGenerator[list[RowT], None]:
        client = self._client
        reader = Reader(shape, keep=1, memory=self._memory)
        try:
            async with aclosing(download(client, request, deadline, heed_lock=self._heed_lock)) as body:
                async for piece in body:
                    yield reader.feed(piece)
            yield reader.finish()
        except FocusError as error:
            raise client.failure(_kind(error), request.call, f"of fal's report {error}") from None
        problems = reader.problems
        if problems.rows:
            client.rejections.reject(rejected, self._source, Rejection.UNREADABLE, str(problems.first[0]))
            rejected[Rejection.UNREADABLE.value] += problems.rows - 1


def _kind(error: FocusError) -> type[CallError]:
    if isinstance(error, TruncatedFileError):
        return TruncatedError
    return ShapeError if isinstance(error, MissingColumnError) else NotCsvError
