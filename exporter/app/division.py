"""Division of calls: each account's calls to fal go out from the replica that owns it.

The leader schedules, paces, books and publishes as ever. A call of an account that it owns it makes itself; one of an
account of another replica it lays down as an errand (`exporter.replicas.errands`), and reads what is brought back as if
fal had answered it. Every replica renews what it owns (`exporter.replicas.owners`), does the errands of that, and
counts itself out by its own clock before its ownership runs out. A replica that does not reach fal gives back what it
owns, and so does one whose settings lack the account or have another key for it.

All of it runs on the event loop, so that a replica that hangs renews nothing; the database is asked in a thread.
"""

import asyncio
import threading
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import httpx
import structlog

from exporter import __version__
from exporter.charges import uptime
from exporter.errors import ConfigurationError, LedgerError
from exporter.fal import Client
from exporter.fal.carriage import NO_CONTACT, Answer, Errand, Send
from exporter.ledger.tables.database import ledger_url
from exporter.replicas import errands, owners
from exporter.replicas.contact import Contact, Reach
from exporter.replicas.errands import Due, Laid
from exporter.replicas.session import Session
from exporter.settings.credentials import Account

if TYPE_CHECKING:
    from exporter.settings import Settings

_log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0
"""Interval at which it is looked whether something is due, announced or not."""

_POOLED_LOOK_SECONDS = 0.25
"""Interval at which errands are looked for where none can be announced, behind a pooler."""

_DIVIDE_SECONDS = 1.0

_MARGIN = 1.0
"""Seconds by which an owner counts itself out before its ownership runs out, to end the calls that are under way."""

_WATCH_SECONDS = 0.25

_PIN_SECONDS = 60.0
"""For so long the leader keeps an account that another replica has refused: a key is being rotated."""

_AWAY_SECONDS = 15.0
_LONGEST_AWAY = 600.0
"""For so long a replica that did not reach fal is given no account, twice as long each time, up to this."""

_TAKING_OVER_SECONDS = 60.0
"""Within so long the leader has taken an account over, to stream a report by itself."""

_TABLES_LOCK = 0x66616C65
"""Number of the advisory lock under which the tables are made."""

_IDLE_LIMIT = "5s"
_CSV = "text/csv"

_Result = TypeVar("_Result")


@dataclass(slots=True, eq=False)
class _Held:
    """An account that this replica owns.

    Attributes:
        good_until: by `uptime`.
        under_way: calls that are.
        is_returning: whether it is given back once none is, and no other begins.
        is_refused: whether it is given back because these settings do not do for it.
    """

    token: str
    good_until: float
    under_way: int = 0
    is_returning: bool = False
    is_refused: bool = False
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def is_good(self) -> bool:
        return uptime() < self.good_until


class Division:
    """This replica's part in asking fal; a `Carrier` while it leads. To be made and used on one event loop.

    Args:
        settings: with the accounts.
        replica: its name.
        client_of: makes the client of an account of another's calls.
        reach: asks fal without a key.

    Attributes:
        shares: how many accounts each replica owns, by name, as of the last renewal.
    """

    def __init__(
        self, settings: "Settings", replica: str, *, client_of: Callable[[Account], Client], reach: Reach
    ) -> None:
        self.shares: Mapping[str, int] = {}
        self._settings = settings
        self._client_of = client_of
        self._replica = replica
        self._contact = Contact(settings.platform_url, interval=settings.poll_interval, reach=reach)
        self._accounts = {account.name: account for account in settings.accounts}
        self._clients: dict[str, Client] = {}
        session = partial(
            Session,
            ledger_url(settings.ledger_url.get_secret_value()),
            tables=owners.TABLES | errands.TABLES,
            lock=_TABLES_LOCK,
            channel=errands.channel_of(replica),
            idle_limit=_IDLE_LIMIT,
        )
        # One waits for announcements while the other is at work.
        self._session, self._ears = session(), session()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="division")
        self._ended = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._held: dict[str, _Held] = {}
        self._doing: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._pending: dict[str, tuple[Errand, asyncio.Future[Answer]]] = {}
        self._to_lay: list[str] = []
        self._done: list[str] = []
        self._pins: Counter[str] = Counter()
        self._refused: dict[str, float] = {}
        self._lease = ""
        self._changes = -1
        self._renewed_at = self._divided_at = self._failed_at = float("-inf")
        self._failures = 0
        self._was_able = True
        self._not_before = 0.0
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    @property
    def owned(self) -> int:
        """Number of accounts that this replica asks fal for."""
        return sum(held.is_good for held in self._held.values())

    @property
    def under_way(self) -> int:
        """Number of the leader's calls that are made here."""
        return len(self._doing)

    @property
    def reaches_fal(self) -> bool | None:
        """True if fal answered the last try after a call that did not reach it; None where none is made."""
        return self._contact.reaches

    @property
    def problem(self) -> str:
        """Why this replica does not reach fal; empty where it does."""
        return self._contact.problem

    def start(self) -> None:
        """Begin to own what the leader assigns, whichever that is."""
        threading.Thread(target=self._listen, name="division-ears", daemon=True).start()
        self._tasks = (self._loop.create_task(self._run()), self._loop.create_task(self._watch()))

    def lead(self, lease: str) -> None:
        """Assign accounts from now on, under the lease with this token."""
        self._lease, self._divided_at = lease, float("-inf")
        self._woken.set()

    def follow(self) -> None:
        """Assign nothing more; what waits for another replica fails."""
        self._lease = ""
        self._pins.clear()
        for _, future in self._pending.values():
            if not future.done():
                future.set_exception(httpx.ReadError("this replica does not lead any more"))

    async def close(self) -> None:
        """End the calls that are under way, and give back what is owned."""
        self._ended.set()
        self.follow()
        for task in (*self._tasks, *self._doing.values()):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._doing.values(), return_exceptions=True)
        tokens = {account: held.token for account, held in self._held.items()}
        self._held.clear()
        with suppress(LedgerError):
            if self._session.is_open:
                await self._do(partial(owners.leave, self._session, self._replica, tokens))
        for client in self._clients.values():
            await client.aclose()
        await self._contact.close()
        self._thread.shutdown(wait=True)
        self._session.close()

    async def send(self, request: httpx.Request, errand: Errand, direct: Send) -> httpx.Response:
        """Make a call of the leader's by the owner of its account.

        A report, which may be of any length, is not carried: the leader takes the account over while it lasts.

        Raises:
            httpx.TransportError: there is no answer.
        """
        if errand.accept == _CSV:
            return await self._here(request, errand.account, direct)
        held = self._begun(errand.account)
        if held is not None:
            return await self._directly(request, direct, lambda: self._end(held))
        return (await self._brought(errand)).response(request)

    async def _here(self, request: httpx.Request, account: str, direct: Send) -> httpx.Response:
        self._pins[account] += 1
        until = self._loop.time() + _TAKING_OVER_SECONDS
        held = None
        try:
            while (held := self._begun(account)) is None:
                if self._loop.time() >= until:
                    raise httpx.ConnectTimeout("another replica has not given the account back in time")
                await asyncio.sleep(_WATCH_SECONDS)
        finally:
            if held is None:
                self._pins[account] -= 1

        def end() -> None:
            self._pins[account] -= 1
            self._end(held)

        return await self._directly(request, direct, end)

    async def _directly(self, request: httpx.Request, direct: Send, end: Callable[[], None]) -> httpx.Response:
        """Ask fal from here; `end` is called when the response is closed, or there is none."""
        try:
            response = await direct(request)
        except BaseException as error:
            end()
            if isinstance(error, httpx.TransportError):
                self._unanswered(type(error).__name__)
            raise
        response.stream = _Closing(response.stream, end)
        return response

    async def _brought(self, errand: Errand) -> Answer:
        number = uuid.uuid4().hex
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._pending[number] = errand, future
        self._to_lay.append(number)
        self._woken.set()
        try:
            return await future
        finally:
            del self._pending[number]
            if not future.done() or future.cancelled() or future.exception() is not None:
                self._done.append(number)
                self._woken.set()

    def _begun(self, account: str) -> _Held | None:
        """Begin a call of an account, if it may be made here now."""
        held = self._held.get(account)
        if held is None or held.is_returning or not held.is_good:
            return None
        held.under_way += 1
        return held

    def _end(self, held: _Held) -> None:
        held.under_way -= 1
        if held.is_returning:
            self._woken.set()

    def _listen(self) -> None:
        while not self._ended.is_set():
            self._ears.wait(_POOLED_LOOK_SECONDS if self._ears.is_pooled else _LOOK_SECONDS)
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._woken.set)
        self._ears.close()

    async def _run(self) -> None:
        problem = ""
        while True:
            await self._woken.wait()
            self._woken.clear()
            try:
                await self._turn()
            except LedgerError as error:
                if str(error) != problem:
                    _log.warning("who asks fal for which account could not be agreed on", problem=str(error))
                problem = str(error)
                await asyncio.sleep(_LOOK_SECONDS)
                continue
            problem = ""

    async def _turn(self) -> None:
        """Do once what is to be done with the database."""
        now = self._loop.time()
        if self._lease:
            await self._lay_and_collect()
        due, changes = await self._do(partial(errands.due, self._session, self._replica))
        self._try_fal()
        worker = self._worker()
        is_due = now - self._renewed_at >= owners.RENEW_SECONDS
        if is_due or changes != self._changes or worker.is_able != self._was_able:
            await self._renew(worker)
            self._changes, self._renewed_at, self._was_able = changes, now, worker.is_able
        self._begin_errands(due)
        for account, held in list(self._held.items()):
            if held.is_returning and not held.under_way and not held.tasks:
                del self._held[account]
                give_back = partial(owners.give_back, self._session, account, held.token, refused=held.is_refused)
                await self._do(give_back)
        if self._lease and now - self._divided_at >= _DIVIDE_SECONDS:
            self._divided_at = now
            await self._divide(now)

    async def _lay_and_collect(self) -> None:
        laid, self._to_lay = self._to_lay, []
        done, self._done = self._done, []
        new = [Laid(number, self._pending[number][0]) for number in laid if number in self._pending]
        try:
            if new or done:
                await self._do(partial(errands.lay, self._session, self._replica, new, done))
        except LedgerError:
            self._to_lay += laid
            self._done += done
            raise
        if self._pending:
            for number, answer in (await self._do(partial(errands.collect, self._session, self._replica))).items():
                _, future = self._pending.get(number, (None, None))
                if future is not None and not future.done():
                    future.set_result(answer)

    async def _renew(self, worker: owners.Worker) -> None:
        """Renew what is owned, and take note of what has come and of what is to be given back."""
        asked_at = uptime()
        owned, self.shares = await self._do(partial(owners.renew, self._session, worker))
        good_until = asked_at + owners.TERM - _MARGIN
        before, self._held = self._held, {}
        for account, token, is_recalled in owned:
            held = before.get(account)
            if held is None or held.token != token:
                held = _Held(token, good_until)
            held.good_until = good_until
            held.is_returning |= is_recalled
            self._held[account] = held
        for held in {*before.values()} - {*self._held.values()}:
            _cancel(held)

    def _worker(self) -> owners.Worker:
        able = self._loop.time() >= self._not_before and self._contact.reaches is not False
        return owners.Worker(self._replica, __version__, self._settings.replica_digest, able)

    async def _divide(self, now: float) -> None:
        pinned = {account for account, count in self._pins.items() if count > 0}
        pinned |= {account for account, until in self._refused.items() if until > now}
        divide = partial(
            owners.divide, self._session, self._worker(), self._accounts.keys(), lease=self._lease, pinned=pinned
        )
        plan, refused = await self._do(divide)
        for account in refused:
            _log.warning(
                "a replica has another key of an account, or none; this one asks for it meanwhile", account=account
            )
            self._refused[account] = now + _PIN_SECONDS
        if plan.assigned:
            self._woken.set()
        # A server that has crashed has forgotten the errands.
        lying = await self._do(partial(errands.waiting, self._session, self._replica))
        self._to_lay += [number for number in self._pending if number not in lying and number not in self._to_lay]

    def _begin_errands(self, due: Collection[Due]) -> None:
        known = {(item.id, item.token) for item in due}
        for key, task in self._doing.items():
            if key not in known:
                # Nobody waits for it any more, or it is another's by now.
                task.cancel()
        for item in due:
            held = self._held.get(item.errand.account)
            key = item.id, item.token
            if held is None or held.token != item.token or key in self._doing:
                continue
            if self._begun(item.errand.account) is not None:
                task = self._loop.create_task(self._do_errand(item, held))
                self._doing[key] = task
                held.tasks.add(task)
                task.add_done_callback(partial(self._errand_ended, key, held))

    def _errand_ended(self, key: tuple[str, str], held: _Held, task: asyncio.Task[None]) -> None:
        del self._doing[key]
        held.tasks.discard(task)
        self._end(held)

    async def _do_errand(self, due: Due, held: _Held) -> None:
        answer = await self._asked(due.errand)
        if answer is not None and not answer.status:
            self._unanswered(answer.failure)
        if answer is None or (answer.lacks_contact and not self._lease):
            held.is_returning = True
            held.is_refused |= answer is None
        elif held.is_good:
            with suppress(LedgerError):
                await self._do(partial(errands.answer, self._session, due.id, due.token, answer))

    async def _asked(self, errand: Errand) -> Answer | None:
        """Return what came of an errand; None where these settings do not do for it."""
        account = self._accounts.get(errand.account)
        if account is None:
            return None
        client = self._clients.get(errand.account)
        if client is None:
            client = self._clients[errand.account] = self._client_of(account)
        try:
            if client.key_hash() != errand.key_hash and not self._lease:
                return None
            async with asyncio.timeout(self._settings.poll_deadline.total_seconds()):
                return await client.fetch(errand)
        except ConfigurationError:
            return None
        except TimeoutError:
            return Answer(failure="ReadTimeout")

    def _unanswered(self, failure: str) -> None:
        """Note that fal has not answered a call from here.

        Where it was not reached, the accounts are given to others, if there are any that reach it. Else it may be slow,
        which it is for others, too; what a try without a key comes to says which.
        """
        now = self._loop.time()
        self._contact.try_again()
        if failure in NO_CONTACT and now >= self._not_before:
            self._failures = self._failures + 1 if now - self._failed_at < _LONGEST_AWAY else 1
            self._failed_at = now
            self._not_before = now + min(_AWAY_SECONDS * (1 << min(self._failures - 1, 16)), _LONGEST_AWAY)
            self._woken.set()

    def _try_fal(self) -> None:
        """Try again where fal could not be reached, and have what is owned elsewhere."""
        if self._contact.reaches:
            self._contact.forget()
        elif self._contact.reaches is False:
            self._contact.try_again()
            if not self._lease:
                for held in self._held.values():
                    held.is_returning = True
                    _cancel(held)

    async def _watch(self) -> None:
        """End the calls of what is owned no more, whatever the database does."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            for held in self._held.values():
                if not held.is_good:
                    _cancel(held)

    async def _do(self, call: Callable[[], _Result]) -> _Result:
        return await self._loop.run_in_executor(self._thread, call)


def _cancel(held: _Held) -> None:
    for task in held.tasks:
        task.cancel()


class _Closing(httpx.AsyncByteStream):
    """A body that says when it is closed."""

    def __init__(self, stream: httpx.SyncByteStream | httpx.AsyncByteStream, closed: Callable[[], None]) -> None:
        if not isinstance(stream, httpx.AsyncByteStream):
            raise TypeError("the response must come from an asynchronous client")
        self._stream = stream
        self._closed: Callable[[], None] | None = closed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            yield piece

    async def aclose(self) -> None:
        closed, self._closed = self._closed, None
        try:
            await self._stream.aclose()
        finally:
            if closed is not None:
                closed()
