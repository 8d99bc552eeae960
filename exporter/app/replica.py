"""Replica: one of several exporters on a ledger, that follows until it holds the lease and leads until it has lost it.

The leader polls, writes the ledger and publishes, for its own web process and for the board. A follower polls nothing
and serves what lies on the board. While the database cannot be reached nobody leads, and every replica goes on serving
what it had last, with the instant that is of. A leader that does not reach fal makes place for one that does.
"""

import asyncio
import os
import socket
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeVar

import structlog

from exporter import __version__
from exporter.app.division import Division
from exporter.app.wiring import LeftHalf, client_of, open_left_half
from exporter.charges import utc_now
from exporter.errors import LedgerError
from exporter.fal import Silent
from exporter.fal.transport import reach
from exporter.inquiry import AnswerWriter, Channel, Inquiry, InquiryError, Responder
from exporter.ledger import LedgerInUseError
from exporter.overview import REPLICA_PROBLEMS, ReplicasOverview
from exporter.publication import Publication
from exporter.queries import live
from exporter.queries.focus.question import REPORT, UNAVAILABLE
from exporter.replicas.board import Board, UnreadablePublicationError
from exporter.replicas.contact import Contact
from exporter.replicas.lease import Candidate, Leader, Lease, Leases, is_newer

if TYPE_CHECKING:
    from exporter.settings import Settings

_log = structlog.get_logger(__name__)

_LOOK_SECONDS = 0.2
"""Interval at which a leader looks whether it still leads."""

_REPORT_SECONDS = 2.0
"""Interval at which a replica reports that it lives, and what has been scraped of it."""

_REPEAT_SECONDS = 60.0
"""A follower sends what it has at least so often, so that its web process knows that it lives."""

_AWAY_SECONDS = 15.0
"""For so long a leader that has made place for another, or could not begin, does not ask for the lease.

So long, too, a replica that does not reach fal leaves a lease to others that is free.
"""

_HEARING_SECONDS = 3.0
"""For so long who is about to lead waits for the others after the database was lost, to go on from what they show."""

_LOSS_SECONDS = 60.0
"""After so long a loss of the database has been seen by all."""

_SETTLED_SECONDS = 15.0
"""For so long another state of the ledger than the leader's has to stand before it is gone on from.

It is a dump that somebody restores, and may be in the middle of that.
"""

_FAL_SECONDS = 0.5
"""Interval at which a leader looks whether fal answers."""

_Result = TypeVar("_Result")


class Replica:
    """Plays both roles. To be made and used on one event loop.

    Args:
        settings: what the leader works by.
        send: takes each publication; may wait.
        channel: hands over inquiries.
    """

    def __init__(self, settings: "Settings", *, send: Callable[[Publication], None], channel: Channel) -> None:
        self._settings = settings
        self._send = send
        self._channel = channel
        self._name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        address = settings.ledger_url.get_secret_value()
        self._candidate = Candidate(self._name, __version__, settings.replica_digest)
        self._leases = Leases(address, self._candidate)
        self._contact = Contact(settings.platform_url, interval=settings.poll_interval, reach=reach)
        self._board = Board(address, replica=self._name)
        self._division: Division | None = None
        if settings.divide_polling:
            client = partial(client_of, settings=settings, observer=Silent())
            self._division = Division(settings, self._name, client_of=client, reach=reach)
        # One thread for what is asked of the database beside the ledger: the board and the lease are for one at a time.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="replica")
        self._half: LeftHalf | None = None
        self._held: Publication | None = None
        self._scraped: int | None = None
        self._sent_at = float("-inf")
        self._owned: int | None = None
        self._sentence = ""
        self._replicas = ReplicasOverview(self._name)
        self._difference = ""
        self._not_before = self._led_at = 0.0
        self._others_reach_fal = False
        self._others: frozenset[str] = frozenset()
        self._has_connected = False
        self._reconnected_at = float("-inf")
        self._latest: Publication | None = None
        self._loop = asyncio.get_running_loop()
        self._has_news = asyncio.Event()

    def scraped(self, sequence: int) -> None:
        """Note that a scrape has been answered from the publication with this number."""
        self._scraped = sequence

    def write_protobuf(self) -> None:
        """Have publications encoded as protobuf, too, while this replica leads."""
        if self._half is not None:
            self._half.publisher.write_protobuf()

    async def run(self, stop: asyncio.Event) -> None:
        """Follow and lead by turns until `stop` is set.

        Raises:
            LedgerError: the database cannot be used at the start, when there is nothing to serve.
            ConfigurationError: the settings cannot be used.
        """
        if self._division is not None:
            self._division.start()
        try:
            while not stop.is_set():
                lease = await self._follow(stop)
                if lease is not None:
                    try:
                        await self._lead(lease, stop)
                    finally:
                        # It goes with the ledger, unless that could not be opened.
                        await self._do(lease.release)
        finally:
            await self._contact.close()
            if self._division is not None:
                await self._division.close()
            with suppress(LedgerError):
                await self._do(self._board.leave)
            self._thread.shutdown(wait=True)
            self._leases.close()
            self._board.close()

    async def _follow(self, stop: asyncio.Event) -> Lease | None:
        """Serve what the leader publishes until this replica is the leader; None when it has been stopped."""
        responder = Responder(dict.fromkeys((REPORT, live.NAME), _refuse))
        take_no_more = self._channel.accept(responder.serve)
        reported_at = float("-inf")
        loop = self._loop
        self._led_at = loop.time()
        try:
            while not stop.is_set():
                try:
                    await self._restore()
                    if self._may_lead():
                        found = await self._do(self._leases.ask)
                        if isinstance(found, Lease):
                            return found
                        self._difference = self._differs_from(found)
                    if loop.time() - reported_at >= _REPORT_SECONDS:
                        await self._report()
                        reported_at = loop.time()
                    publication = await self._do(lambda: self._board.read(self._held))
                    self._held = publication or self._held
                    await self._tell(self._own_sentences(), is_new=publication is not None)
                    await self._do(lambda: self._board.wait(1.0))
                except UnreadablePublicationError as error:
                    await self._ask_to_yield(error)
                    await self._tell(str(error), is_new=False)
                    await _pause(1.0, stop)
                except LedgerError as error:
                    if self._held is None:
                        raise
                    await self._tell(f"No newer figures can be had: {error}.", is_new=False)
                    await _pause(1.0, stop)
            return None
        finally:
            take_no_more()
            await responder.close()

    async def _lead(self, lease: Lease, stop: asyncio.Event) -> None:
        """Collect until the lease is lost or the replica is stopped."""
        _log.info("this replica collects from now on", replica=self._name)
        if self._held is None or self._loop.time() - self._reconnected_at < _LOSS_SECONDS:
            await self._hear_others(lease)
        if self._held is not None:
            lease.go_on_from(self._held.sequence)
        try:
            half = await open_left_half(
                self._settings,
                emit=self._emit,
                clock=utc_now,
                lease=lease,
                shown=self._held,
                carrier=self._division,
            )
        except LedgerError as error:
            if self._held is None:
                raise
            _log.warning("this replica could not become the collector", problem=str(error))
            self._stay_away()
            return
        self._half, self._latest = half, None
        if self._division is not None:
            self._division.lead(lease.token)
        take_no_more = self._channel.accept(half.responder.serve)
        ended = asyncio.Event()
        tasks = (
            asyncio.create_task(self._watch(lease, stop, ended)),
            asyncio.create_task(self._watch_fal(half, ended)),
            asyncio.create_task(self._announce(lease, half)),
        )
        try:
            await half.collector.run(ended)
        except LedgerInUseError as error:
            _log.warning("this replica collects no more", problem=str(error))
        finally:
            take_no_more()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._half = None
            if self._division is not None:
                self._division.follow()
            await half.close()
            self._sentence = ""

    async def _restore(self) -> None:
        """Lay on the board what this replica has shown, if that was lost with the database."""
        held = self._held
        if held is not None and await self._do(lambda: self._board.restore(held)):
            # The first connection is no loss.
            self._reconnected_at = self._loop.time() if self._has_connected else self._reconnected_at
            self._has_connected = True

    async def _hear_others(self, lease: Lease) -> None:
        """Hold the newest publication that any replica has shown: each lays its own on the board before it reports."""
        until = self._loop.time() + _HEARING_SECONDS
        try:
            while lease.is_held:
                members = await self._do(self._board.members)
                heard = {member.replica for member in members if member.seen_at > lease.since}
                known = self._others | {member.replica for member in members if member.is_alive}
                await self._restore()
                self._held = await self._do(lambda: self._board.read(self._held)) or self._held
                if not known - heard - {self._name} or self._loop.time() >= until:
                    return
                await self._do(lambda: self._board.wait(0.2))
        except LedgerError as error:
            _log.warning("the other replicas could not be asked what they have shown", problem=str(error))

    def _emit(self, publication: Publication) -> None:
        """Serve a publication here, and have it announced to the others."""
        replicas = self._shown(replace(self._replicas, leader=self._name))
        mine = replace(publication, role="leader", overview=replace(publication.overview, replicas=replicas))
        self._send(mine)
        self._held = self._latest = mine
        self._loop.call_soon_threadsafe(self._has_news.set)

    async def _watch(self, lease: Lease, stop: asyncio.Event, ended: asyncio.Event) -> None:
        """Say that the leader's time is over when it is."""
        same_at = self._loop.time()
        while not stop.is_set():
            if self._latest is None or not self._latest.overview.ledger.restart_helps:
                same_at = self._loop.time()
            if self._loop.time() - same_at >= _SETTLED_SECONDS:
                _log.warning(
                    "the ledger contains a different state than before; whichever replica leads next opens it anew and "
                    "continues from there",
                    replica=self._name,
                )
                break
            if not lease.is_held:
                _log.warning("the lease of the ledger is lost; this replica follows from now on", replica=self._name)
                break
            if lease.successor and is_newer(lease.successor, than=__version__):
                _log.info("this replica makes place for a newer version", version=lease.successor)
                self._stay_away()
                break
            await _pause(_LOOK_SECONDS, stop)
        ended.set()

    async def _watch_fal(self, half: LeftHalf, ended: asyncio.Event) -> None:
        """Say that the leader's time is over when fal answers another replica, and not this one."""
        self._difference = ""
        while True:
            await asyncio.sleep(_FAL_SECONDS)
            since = half.health.unanswered_since
            if since is None and half.health.answered_at is not None:
                self._contact.answered()
            elif self._contact.is_to_be_tried(since):
                self._contact.try_again()
            if self._contact.is_lost(since) and self._others_reach_fal:
                _log.warning(
                    "fal answers another replica, and not this one, which makes place", problem=self._contact.problem
                )
                self._contact.hand_over()
                ended.set()
                return

    async def _announce(self, lease: Lease, half: LeftHalf) -> None:
        """Lay publications on the board, the newest where they come faster; note what all replicas have shown."""
        problem = ""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_REPORT_SECONDS):
                    await self._has_news.wait()
            try:
                if self._has_news.is_set() and self._latest is not None:
                    self._has_news.clear()
                    await self._do(partial(self._board.publish, self._latest, leader=lease.token))
                await self._report()
                scraped = await self._do(self._board.scraped_by_all)
            except LedgerError as error:
                if str(error) != problem:
                    _log.warning("the other replicas could not be told of a publication", problem=str(error))
                problem = str(error)
                self._has_news.set()
                await asyncio.sleep(1.0)
                continue
            problem = ""
            if scraped is not None:
                await half.ledger.scraped(scraped)

    async def _tell(self, sentence: str, *, is_new: bool) -> None:
        """Hand what is held to the web process, where it or what is to be said of it is new, or time has passed."""
        now = self._loop.time()
        if sentence and sentence != self._sentence:
            _log.warning("this replica serves figures that are not its own", problem=sentence)
        replicas = self._shown(self._replicas)
        is_new = is_new or sentence != self._sentence or replicas.owned != self._owned
        if self._held is None or not (is_new or now - self._sent_at >= _REPEAT_SECONDS):
            return
        self._sentence, self._sent_at, self._owned = sentence, now, replicas.owned
        role: Literal["follower"] = "follower"
        overview = replace(self._held.overview, replicas=replicas)
        if sentence:
            overview = replace(overview, notes=(*overview.notes, sentence))
        shown = replace(self._held, role=role, overview=overview)
        await asyncio.to_thread(self._send, shown)

    async def _report(self) -> None:
        """Report what this replica is, and look what the others are."""
        reaches = self._contact.reaches
        await self._do(lambda: self._board.report(self._scraped, reaches_fal=reaches))
        members = await self._do(self._board.members)
        alive = [member for member in members if member.is_alive]
        others = [member for member in alive if member.replica != self._name]
        leader = next((member for member in alive if member.leads), None)
        self._replicas = ReplicasOverview(self._name, "" if leader is None else leader.replica, len(alive))
        self._others = frozenset(member.replica for member in others)
        self._others_reach_fal = any(member.reaches_fal for member in others)
        if self._half is not None:
            return
        if leader in others:
            self._led_at = self._loop.time()
        if reaches is False or any(member.leads and member.reaches_fal is False for member in others):
            self._contact.try_again()
        else:
            self._contact.forget()

    def _may_lead(self) -> bool:
        """Return whether to ask for the lease: not where another has just been preferred, or reaches fal."""
        now = self._loop.time()
        return now >= self._not_before and (self._reaches_fal is not False or now - self._led_at >= _AWAY_SECONDS)

    def _shown(self, replicas: ReplicasOverview) -> ReplicasOverview:
        """Return what the page says of the replicas, with what this one knows of itself."""
        found = {"configuration": bool(self._difference), "fal": self._reaches_fal is False}
        problems = tuple(reason for reason in REPLICA_PROBLEMS if found[reason])
        if self._division is None:
            return replace(replicas, problems=problems)
        shares = tuple(sorted(self._division.shares.items()))
        return replace(replicas, problems=problems, owned=self._division.owned, shares=shares)

    @property
    def _reaches_fal(self) -> bool | None:
        """True if fal answered the last try, as leader or as the owner of accounts; None where none was made."""
        if self._division is not None and self._division.reaches_fal is False:
            return False
        return self._contact.reaches

    def _own_sentences(self) -> str:
        """Return what is to be said of this follower; empty where all is well."""
        lost = self._contact.problem or (self._division.problem if self._division else "")
        beyond = f"This replica does not reach fal ({lost}) and leaves collecting to others." if lost else ""
        return " ".join(filter(None, (self._difference, beyond)))

    async def _ask_to_yield(self, error: UnreadablePublicationError) -> None:
        if is_newer(__version__, than=error.version):
            with suppress(LedgerError):
                await self._do(self._leases.ask_to_yield)

    def _differs_from(self, leader: Leader) -> str:
        if leader.configuration == self._candidate.configuration:
            return ""
        return (
            f"This replica's configuration differs from that of {leader.replica}, which collects and whose figures are "
            "shown; give all replicas the same configuration."
        )

    def _stay_away(self) -> None:
        self._not_before = self._loop.time() + _AWAY_SECONDS

    async def _do(self, call: Callable[[], _Result]) -> _Result:
        return await self._loop.run_in_executor(self._thread, call)


async def _refuse(inquiry: Inquiry, answer: AnswerWriter) -> None:
    del answer
    raise InquiryError(
        UNAVAILABLE,
        f"this replica follows another, which alone has fal asked ({inquiry.name}); repeat the request until it "
        "reaches that one, or do without live figures",
    )


async def _pause(seconds: float, stop: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
