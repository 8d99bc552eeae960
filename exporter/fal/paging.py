"""Answers of several pages, followed to the end and judged as they come.

A sequence of pages that repeats a cursor, a page or the end of one, that promises more without a cursor, or that
exceeds the limit is an error: half of it would lose charges, and twice the same rows would double them.

A cursor that jumps leaves rows out, and nothing on the pages shows it. What shows it is fal's own summary of the same
call, which costs one request more: the first page of several is asked for again, with the summary. fal documents that
it can be asked for (`expand=summary`) but not its form, so that an answer without one, or fal's refusal, is no error.
Only less on the pages than in the summary is: charges that arrive between two pages are in none but the pages.
"""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from exporter.charges import ATTO_PER_NANO, NANO
from exporter.fal.buckets import Allowance
from exporter.fal.client import Client
from exporter.fal.endpoints import Deadline, Endpoint, Parameters
from exporter.fal.errors import ApiError, BadRequestError, PagingError, ShapeError
from exporter.fal.rows import RejectedError, fine_amount, is_sendable

Page = list[object]
"""The `time_series` of one page."""

EMPTY_PAGES = 20
"""Pages without rows, one after the other, that are taken for a sequence that does not end."""


async def pages(
    client: Client,
    call: Endpoint,
    parameters: Parameters,
    deadline: Deadline,
    *,
    rows: str = "time_series",
    limited: bool = True,
    track_lock: bool = True,
    allowance: Allowance | None = None,
    most_rows: int | None = None,
    summed: bool = False,
) -> AsyncIterator[Page]:
    """Yield the rows of every page, to the end.

    Args:
        client: asks.
        call: which interface.
        parameters: its query, without those of paging.
        deadline: ends all requests.
        rows: the field that holds the rows of a page.
        limited: whether to ask for so many rows at once as the client is set to; else fal decides.
        track_lock: as for `Client.get`.
        allowance: the calls that may be made; None for any number.
        most_rows: how many rows all pages together may have; None for as many as the client's limits allow.
        summed: whether the rows have costs, which are compared with fal's own summary of them.

    Raises:
        TooMuchError: there are more pages than calls are allowed.
        PagingError: the sequence repeats itself, does not end, has more rows than it may have, or leaves rows out.
        ShapeError: a page is not one.
        ApiError: a page could not be had.
    """
    most = client.limits.rows if most_rows is None else most_rows
    most_pages = client.limits.pages + most // client.limits.page_rows
    sequence = _Sequence(client, call, most)
    sums = _Sums()
    query = {**parameters, "limit": str(client.limits.page_rows)} if limited else dict(parameters)
    for number in range(1, most_pages + 1):
        if allowance is not None:
            allowance.take()
        answer = await client.get(call, query, deadline, track_lock=track_lock)
        page, cursor = _page(client, call, answer, rows)
        if number == 1 and summed and cursor is not None and (allowance is None or allowance.left):
            if allowance is not None:
                allowance.take()
            with suppress(BadRequestError, ShapeError):
                wider = _with_summary(query)
                answer = await client.get(call, wider, deadline, track_lock=track_lock)
                page, cursor = _page(client, call, answer, rows)
                query, sums = wider, _Sums(answer)
        sequence.judge(page, number)
        sums.add(page)
        yield page
        if cursor is None:
            await _refuse_if_left_out(client, call, query, deadline, sums, track_lock=track_lock)
            return
        sequence.follow(cursor)
        query["cursor"] = cursor
    raise client.failure(PagingError, call, f"fal's response has more than {most_pages} pages")


class _Sequence:
    """The pages of one answer so far, by which the next one is judged."""

    def __init__(self, client: Client, call: Endpoint, most: int) -> None:
        self._client = client
        self._call = call
        self._most = most
        self._cursors: set[str] = set()
        self._before: Page = []
        self._pages: set[int] = set()
        self._count = self._empty = 0

    def judge(self, page: Page, number: int) -> None:
        """Take the next page.

        Raises:
            PagingError: it repeats one or the end of one, is one too many without rows, or has too many rows.
        """
        if page and (page == self._before or _is_repeated(page, self._pages)):
            raise self._failure(f"fal sent the same page twice, page {number} the second time")
        if overlap := _overlap(self._before, page):
            rows_again = "the last row" if overlap == 1 else f"the last {overlap} rows"
            raise self._failure(f"fal's pages overlap: page {number} begins with {rows_again} of the page before")
        # Refused as it comes in: thousands of pages that end nowhere are as many calls, and as much memory.
        self._count += _row_count(page)
        if self._count > self._most:
            raise self._failure(f"fal sent more than {self._most} rows, in {number} pages")
        self._empty = 0 if page else self._empty + 1
        if self._empty >= EMPTY_PAGES:
            raise self._failure(f"fal sent {self._empty} pages without rows, one after the other")
        self._before = page

    def follow(self, cursor: str) -> None:
        """Take the cursor of the page after.

        Raises:
            PagingError: it has been followed before.
        """
        if cursor in self._cursors:
            raise self._failure("fal's pages form a loop")
        self._cursors.add(cursor)

    def _failure(self, what: str) -> ApiError:
        return self._client.failure(PagingError, self._call, what)


_HOUR = timedelta(hours=1)
_ATTO = ATTO_PER_NANO * NANO
_PER_ROW = _ATTO // 1_000_000
_PER_DOLLAR = 1_000_000


class _Sums:
    """The cost on the pages of an answer, and in fal's summary of it.

    Args:
        answer: with the summary; None where there is none.

    Attributes:
        stated: by the summary, in atto-USD; 0 where it states nothing that can be read.
        read: of the rows so far, in atto-USD; None from the first on that cannot be read, which is reported as
            rejected.
        last_stamp: of the last bucket with rows; empty for none.
    """

    def __init__(self, answer: object = None) -> None:
        rows = answer.get("summary") if isinstance(answer, dict) else None
        self.stated = (_cost(rows) or 0) if isinstance(rows, list) else 0
        self.read: int | None = 0
        self.last_stamp = ""
        self._rows = 0

    def add(self, page: Page) -> None:
        """Add the rows of a page, where there is something to compare them with."""
        if not self.stated or self.read is None:
            return
        stamped = list(_bucket_rows(page))
        rows = [row for _, row in stamped]
        self.last_stamp = str(stamped[-1][0]) if stamped else self.last_stamp
        cost = _cost(rows)
        self.read = None if cost is None else self.read + cost
        self._rows += len(rows)

    @property
    def falls_short(self) -> bool:
        """True if the pages have less than the summary, by more than sums of rounded numbers can differ."""
        return self.read is not None and self.stated - self.read > self._rows * _PER_ROW + self.stated // _PER_DOLLAR


def _cost(rows: Iterable[object]) -> int | None:
    """Return the sum of the costs of rows in atto-USD, None if one of them cannot be read."""
    total = 0
    try:
        for row in rows:
            if not isinstance(row, dict):
                return None
            cost = row.get("cost_total")
            total += fine_amount(row.get("cost") if cost is None else cost)
    except RejectedError:
        return None
    return total


def _with_summary(query: Parameters) -> Parameters:
    expand = query.get("expand", "time_series")
    return {**query, "expand": [*([expand] if isinstance(expand, str) else expand), "summary"]}


async def _refuse_if_left_out(
    client: Client, call: Endpoint, query: Parameters, deadline: Deadline, sums: _Sums, *, track_lock: bool
) -> None:
    """Refuse pages that cost less than their summary, where a summary is one of what is on pages.

    It may be of newer data than the rows, or of other prices: fal does not document it. That shows where there are no
    pages, in a single hour: in the last one, or in the last with rows where that one has none. Only a summary that
    agrees there with the rows says something about pages; of an hour of several pages it is taken to.

    Raises:
        PagingError: rows are left out.
        ApiError: a single hour could not be had.
    """
    if not sums.falls_short:
        return
    end = datetime.fromisoformat(str(query["end"]))
    hours = [end - _HOUR]
    if sums.last_stamp and query.get("timeframe") == "hour":
        with suppress(ValueError):
            hours.append(datetime.fromisoformat(sums.last_stamp).astimezone(UTC))
    for start in hours:
        within = {"start": start, "end": min(start + _HOUR, end)}
        of_hour = {name: value for name, value in query.items() if name != "cursor"}
        of_hour |= {name: f"{instant:%Y-%m-%dT%H:%M:%SZ}" for name, instant in within.items()}
        answer = await client.get(call, of_hour, deadline, track_lock=track_lock)
        page, cursor = _page(client, call, answer, "time_series")
        sums_of_hour = _Sums(answer)
        sums_of_hour.add(page)
        if sums_of_hour.stated > 0:
            break
    else:
        return
    if cursor is None and sums_of_hour.falls_short:
        return
    read, stated = ((amount or 0) / _ATTO for amount in (sums.read, sums.stated))
    text = f"fal's pages leave rows out: they cost {read:.2f} US dollars, and {stated:.2f} by fal's own summary of them"
    raise client.failure(PagingError, call, text)


def _overlap(before: Page, page: Page) -> int:
    """Return how many rows of buckets at the end of a page come again, in the same order, at the start of the next.

    fal states a rate in one row, so that rows that are the same in every field do not follow one another by chance. A
    cursor that points at the last row, not behind it, would count every one of them twice.
    """
    following = list(_bucket_rows(page))
    if not following:
        return 0
    ended = list(_bucket_rows(before))
    for place, row in enumerate(ended):
        if row == following[0] and ended[place:] == following[: len(ended) - place]:
            return len(ended) - place
    return 0


def _bucket_rows(page: Page) -> Iterator[tuple[object, object]]:
    """Yield stamp and row of each row in buckets; the items of other listings are known by their ids."""
    for item in page:
        results = item.get("results") if isinstance(item, dict) else None
        if isinstance(item, dict) and isinstance(results, list):
            yield from ((item.get("bucket"), row) for row in results)


def _is_repeated(page: Page, seen: set[int]) -> bool:
    """Return whether a page with rows has come before, under another cursor and however long ago.

    No row comes twice, so that pages differ in the first or the last row of one of their lists.
    """
    marks = tuple(_marks(page))
    if not marks:
        return False
    digest = hash(marks)
    if digest in seen:
        return True
    seen.add(digest)
    return False


def _marks(page: Page) -> Iterator[tuple[str, int, str, str]]:
    """Yield stamp, length, first and last row of each list of a page that is not empty."""
    buckets = [item for item in page if isinstance(item, dict) and isinstance(item.get("results"), list)]
    if len(buckets) < len(page):
        yield "", len(page), repr(page[0]), repr(page[-1])
        return
    for bucket in buckets:
        if results := bucket["results"]:
            yield repr(bucket.get("bucket")), len(results), repr(results[0]), repr(results[-1])


def _row_count(page: Page) -> int:
    """Return the number of rows of a page, those in buckets counted one by one."""
    count = 0
    for item in page:
        results = item.get("results") if isinstance(item, dict) else None
        count += len(results) + 1 if isinstance(results, list) else 1
    return count


def _page(client: Client, call: Endpoint, answer: object, rows: str) -> tuple[Page, str | None]:
    """Return a page and the cursor of the next, or None after the last."""
    if not isinstance(answer, dict):
        raise client.misshapen(call, "is not an object")
    page = answer.get(rows)
    # An answer without the list must not pass for an empty one: it would take back every charge of the window.
    if not isinstance(page, list):
        raise client.misshapen(call, f"`{rows}` is not a list")
    more = answer.get("has_more")
    if not isinstance(more, bool):
        raise client.misshapen(call, "`has_more` is neither true nor false")
    if not more:
        return page, None
    cursor = answer.get("next_cursor")
    if not is_sendable(cursor):
        raise client.misshapen(call, "`has_more` is true but `next_cursor` is not text")
    return page, cursor
