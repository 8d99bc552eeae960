import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta

import pytest
from app.conftest import MakeSettings
from structlog.testing import capture_logs

from exporter.app.reloading import FIXED, Reloader
from exporter.app.supervision import CollectorError
from exporter.errors import ConfigurationError, FalExporterError
from exporter.settings import Listen, Settings


class Stage:
    """A reloader, what it reads, and what it has made of it."""

    def __init__(self, settings: Settings) -> None:
        self.read: Settings | ConfigurationError = settings
        self.refusal: CollectorError | None = None
        self.in_use = [settings]
        self.reloads: asyncio.Queue[bool] = asyncio.Queue()
        self.hung_up = asyncio.Event()
        self.reloader = Reloader(settings, self.reread, self.change, ["main"], self.reloaded)
        self.running = asyncio.create_task(self.reloader.run(self.hung_up))

    def reread(self) -> Settings:
        if isinstance(self.read, ConfigurationError):
            raise self.read
        return self.read

    async def change(self, settings: Settings) -> FalExporterError | None:
        if self.refusal is None:
            self.in_use.append(settings)
        return self.refusal

    def reloaded(self, *, is_good: bool) -> None:
        self.reloads.put_nowait(is_good)

    async def reload(self) -> bool:
        self.hung_up.set()
        async with asyncio.timeout(30):
            return await self.reloads.get()


@pytest.fixture
async def stage(settings: MakeSettings) -> AsyncIterator[Stage]:
    made = Stage(settings())
    assert await made.reloads.get(), "the read at the start counts"
    yield made
    made.running.cancel()
    with suppress(asyncio.CancelledError):
        await made.running


async def test_what_has_changed_takes_effect(stage: Stage, settings: MakeSettings) -> None:
    stage.read = settings(account="studio", poll_interval=timedelta(minutes=1))
    assert await stage.reload()
    assert stage.in_use[-1] == stage.read
    assert stage.reloader.accounts == ["studio"]


async def test_where_nothing_has_changed_the_collector_goes_on(stage: Stage, settings: MakeSettings) -> None:
    stage.read = settings()
    with capture_logs() as logs:
        assert await stage.reload()
    assert len(stage.in_use) == 1
    assert [(log["event"], log["has_changed"]) for log in logs] == [("the configuration has been reloaded", False)]


async def test_a_configuration_that_cannot_be_read_changes_nothing_and_is_told(
    stage: Stage, settings: MakeSettings
) -> None:
    stage.read = ConfigurationError("poll_interval is not a duration")
    with capture_logs() as logs:
        assert not await stage.reload()
    assert len(stage.in_use) == 1
    (told,) = logs
    assert (told["log_level"], told["problem"]) == ("error", "poll_interval is not a duration")
    stage.read = settings(account="studio")
    assert await stage.reload()


async def test_a_configuration_by_which_no_collector_begins_changes_nothing_and_is_told(
    stage: Stage, settings: MakeSettings
) -> None:
    stage.read, stage.refusal = settings(account="studio"), CollectorError("two accounts are one")
    with capture_logs() as logs:
        assert not await stage.reload()
    assert logs[0]["problem"] == "two accounts are one"
    assert stage.reloader.accounts == ["main"]
    stage.refusal = None
    assert await stage.reload(), "it is tried again although it has not changed since"


async def test_what_needs_a_restart_is_named_and_stays(stage: Stage, settings: MakeSettings) -> None:
    before = stage.in_use[0]
    stage.read = settings(listen=Listen("127.0.0.1", 1), access_log=True, account="studio")
    with capture_logs() as logs:
        assert await stage.reload()
    assert logs[0]["event"] == "these settings take effect only with a restart"
    assert logs[0]["settings"] == "FAL_EXPORTER_ACCESS_LOG, FAL_EXPORTER_LISTEN"
    in_use = stage.in_use[-1]
    assert (in_use.listen, in_use.access_log, in_use.account) == (before.listen, before.access_log, "studio")


def test_what_needs_a_restart_are_settings() -> None:
    assert Settings.model_fields.keys() >= FIXED
