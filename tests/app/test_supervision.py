"""Supervision of collectors that end, hang, or are to work by other settings; the collectors are stand-ins."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest
from app.conftest import MakeSettings, Publications
from structlog.testing import capture_logs

from exporter.app.supervision import CollectorError, Supervisor
from exporter.publication import Publication
from exporter.settings import Settings


class Stage:
    """A supervisor and its collectors, one after the other."""

    def __init__(self, settings: Settings, publications: Publications) -> None:
        self.publications = publications
        self.loop = asyncio.get_running_loop()
        self.collectors: asyncio.Queue[Collector] = asyncio.Queue()
        self.published: list[Publication] = []
        self.restarts = 0
        self.refusals: list[OSError] = []
        self.now = 1000.0
        self.supervisor = Supervisor(
            settings,
            publish=self.published.append,
            restarted=self.restarted,
            make=self.make,
            first_pause=0.001,
            monotonic=lambda: self.now,
        )
        self.running = asyncio.create_task(self.supervisor.run())

    def restarted(self) -> None:
        self.restarts += 1

    def make(self) -> "Collector":
        if self.refusals:
            raise self.refusals.pop()
        return Collector(self)

    async def next(self) -> "Collector":
        """Return the next collector once it has begun."""
        async with asyncio.timeout(30):
            return await self.collectors.get()


class Collector:
    """A collector that does what the test says."""

    pid = 4711

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.scrapes: list[int] = []
        self.is_stopped = False

    def start(
        self, settings: Settings, *, publish: Callable[[Publication], None], ended: Callable[[CollectorError], None]
    ) -> None:
        self.settings, self._publish, self.end = settings, publish, ended
        self._stage.loop.call_soon_threadsafe(self._stage.collectors.put_nowait, self)

    async def publish(self) -> Publication:
        """Publish, and wait until that has arrived."""
        published = len(self._stage.published)
        self._publish(self._stage.publications())
        async with asyncio.timeout(30):
            while len(self._stage.published) == published:  # noqa: ASYNC110  a list has no event
                await asyncio.sleep(0)
        return self._stage.published[-1]

    def write_protobuf(self) -> None:
        raise AssertionError("nobody asks for protobuf")

    def scraped(self, sequence: int) -> None:
        self.scrapes.append(sequence)

    def connect(self) -> socket.socket:
        raise OSError("a stand-in is asked nothing")

    def stop(self) -> int:
        self.is_stopped = True
        return 0

    def kill(self) -> None:
        self.is_stopped = True


KILLED = CollectorError("the collector process ended unexpectedly with code -9")


@pytest.fixture
async def stage(settings: MakeSettings, publication: Publications) -> AsyncIterator[Stage]:
    made = Stage(settings(), publication)
    yield made
    made.running.cancel()
    with suppress(asyncio.CancelledError):
        await made.running
    await made.supervisor.stop()


async def test_a_collector_that_dies_is_started_again_counted_and_logged(stage: Stage) -> None:
    first = await stage.next()
    await first.publish()
    with capture_logs() as logs:
        first.end(KILLED)
        second = await stage.next()
    assert stage.restarts == 1
    (told,) = logs
    assert told["log_level"] == "warning"
    assert told["problem"] == str(KILLED)
    assert first.is_stopped
    assert second.settings == first.settings
    stage.supervisor.scraped(6)
    stage.supervisor.write_protobuf()
    await second.publish()
    stage.supervisor.scraped(7)
    assert (first.scrapes, second.scrapes) == ([], [7]), "what is served before is the first one's"


async def test_a_collector_that_dies_before_it_has_published_is_started_again(stage: Stage) -> None:
    (await stage.next()).end(KILLED)
    await stage.next()
    assert stage.restarts == 1


async def test_a_collector_that_cannot_be_started_for_want_of_memory_is_tried_again(stage: Stage) -> None:
    collector = await stage.next()
    stage.refusals.append(OSError(errno.ENOMEM, "Cannot allocate memory"))
    with capture_logs() as logs:
        collector.end(KILLED)
        await stage.next()
    assert [log["problem"] for log in logs] == [
        str(KILLED),
        "the collector process cannot be started: Cannot allocate memory",
    ]
    assert stage.restarts == 2


@pytest.mark.parametrize(("published", "exit_code"), [(0, 1), (0, 2), (1, 2)])
async def test_what_another_start_would_meet_again_ends_it(stage: Stage, published: int, exit_code: int) -> None:
    collector = await stage.next()
    for _ in range(published):
        await collector.publish()
    error = CollectorError("the ledger has another collector", exit_code, gave_up=True)
    collector.end(error)
    async with asyncio.timeout(30):
        assert await stage.running is error


async def test_a_collector_that_gives_up_later_is_started_again(stage: Stage) -> None:
    collector = await stage.next()
    await collector.publish()
    collector.end(CollectorError("the ledger is locked", gave_up=True))
    await stage.next()
    assert stage.restarts == 1


async def test_pauses_grow_while_starts_do_not_last_and_a_restart_of_all_is_advised(stage: Stage) -> None:
    with capture_logs() as logs:
        for _ in range(5):
            assert stage.supervisor.problem == ""
            (await stage.next()).end(KILLED)
        await stage.next()
    assert [log["pause_seconds"] for log in logs] == [0.001, 0.002, 0.004, 0.008, 0.016]
    assert stage.supervisor.problem == "the collector has ended 5 times in a row"
    stage.now += 600
    assert stage.supervisor.problem == "", "the sixth has lasted"


async def test_a_collector_that_has_lasted_is_started_again_without_a_long_pause(stage: Stage) -> None:
    with capture_logs() as logs:
        for _ in range(3):
            (await stage.next()).end(KILLED)
        lasting = await stage.next()
        stage.now += 600
        lasting.end(KILLED)
        await stage.next()
    assert logs[-1]["pause_seconds"] == 0.001


async def test_a_collector_that_publishes_nothing_any_more_is_a_matter_for_a_restart(stage: Stage) -> None:
    collector = await stage.next()
    stage.now += 3600
    assert stage.supervisor.problem == "", "the first publication may take long"
    await collector.publish()
    stage.now += 590
    assert stage.supervisor.problem == ""
    stage.now += 20
    assert stage.supervisor.problem == "the collector has published nothing for 10 minutes"
    await collector.publish()
    assert stage.supervisor.problem == ""


async def test_other_settings_take_effect_with_a_new_collector(stage: Stage, settings: MakeSettings) -> None:
    first = await stage.next()
    await first.publish()
    changing = asyncio.create_task(stage.supervisor.change(settings(account="studio")))
    second = await stage.next()
    assert first.is_stopped
    assert second.settings.account == "studio"
    assert not changing.done()
    await second.publish()
    assert await changing is None
    second.end(KILLED)
    assert (await stage.next()).settings.account == "studio", "they stay"
    assert stage.restarts == 1, "to change settings is none"


@pytest.mark.parametrize("error", [KILLED, CollectorError("two accounts are one", 2, gave_up=True)])
async def test_settings_by_which_no_collector_can_begin_give_way_to_the_former(
    stage: Stage, settings: MakeSettings, error: CollectorError
) -> None:
    await (await stage.next()).publish()
    changing = asyncio.create_task(stage.supervisor.change(settings(account="studio")))
    (await stage.next()).end(error)
    assert await changing is error
    third = await stage.next()
    assert third.settings.account != "studio"
    await third.publish()
    third.end(KILLED)
    assert (await stage.next()).settings.account != "studio"


async def test_of_changes_that_overtake_each_other_the_last_holds(stage: Stage, settings: MakeSettings) -> None:
    await (await stage.next()).publish()
    changes: list[Awaitable[CollectorError | None]] = [
        asyncio.create_task(stage.supervisor.change(settings(account=name))) for name in ("one", "two", "three")
    ]
    collector = await stage.next()
    await collector.publish()
    answers = await asyncio.gather(*changes)
    assert [answer is None for answer in answers] == [False, False, True]
    assert collector.settings.account == "three"


async def test_a_late_publication_of_a_collector_that_has_been_replaced_is_not_served(
    stage: Stage, settings: MakeSettings
) -> None:
    first = await stage.next()
    await first.publish()
    changing = asyncio.create_task(stage.supervisor.change(settings(account="studio")))
    second = await stage.next()
    first._publish(stage.publications())
    last = await second.publish()
    assert len(stage.published) == 2
    assert stage.published[-1] is last
    await changing


async def test_between_two_collectors_nobody_can_be_asked_or_told(stage: Stage) -> None:
    collector = await stage.next()
    stage.supervisor.expect_end()
    collector.end(KILLED)
    async with asyncio.timeout(30):
        while stage.supervisor.pid is not None:  # noqa: ASYNC110  nothing announces it
            await asyncio.sleep(0)
    stage.supervisor.scraped(1)
    with pytest.raises(OSError, match="no collector"):
        stage.supervisor.connect()
    assert stage.restarts == 0, "an end that was asked for"
