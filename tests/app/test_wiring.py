from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from app.conftest import MakeSettings
from pydantic import SecretStr, ValidationError

from exporter.app.wiring import client_of, open_left_half
from exporter.charges import utc_now
from exporter.errors import ConfigurationError, EventsError, LedgerError
from exporter.fal import Silent
from exporter.ledger import take_collector_lock
from exporter.polling.key_owners import KeyOwners
from exporter.publication import Publication


async def test_a_client_keeps_to_the_settings(settings: MakeSettings) -> None:
    chosen = settings(request_timeout=timedelta(seconds=3), poll_deadline=timedelta(seconds=9), page_size=17)
    client = client_of(chosen.accounts[0], chosen, Silent(), lambda: datetime(2026, 1, 1, tzinfo=UTC))
    limits = client.limits
    assert (limits.connect_timeout, limits.read_timeout) == (timedelta(seconds=3), timedelta(seconds=3))
    assert (limits.deadline, limits.page_rows, limits.attempts) == (timedelta(seconds=9), 17, 1)
    assert client.now() == datetime(2026, 1, 1, tzinfo=UTC)
    await client.aclose()


def discard(_: Publication) -> None:
    pass


async def test_other_labels_than_before_are_told(settings: MakeSettings) -> None:
    with structlog.testing.capture_logs() as logs:
        for labels in (("account", "model"), ("account", "model"), ("account", "app")):
            half = await open_left_half(settings(labels=labels), emit=discard, clock=utc_now)
            await half.close()
    warned = [entry["event"] for entry in logs if entry["log_level"] == "warning"]
    assert len(warned) == 1
    assert "all counters start at 0 again" in warned[0]


async def test_bookings_are_compared_where_a_source_is_set(settings: MakeSettings, tmp_path: Path) -> None:
    source = SecretStr(str(tmp_path / "bookings.csv"))
    with pytest.raises(ValidationError, match="there are no single requests to compare it with"):
        settings(booked_source=source)
    half = await open_left_half(settings(events=True, booked_source=source), emit=discard, clock=utc_now)
    assert half.collector._booked is not None
    await half.close()
    half = await open_left_half(settings(events=True), emit=discard, clock=utc_now)
    assert half.collector._booked is None
    await half.close()


async def test_a_store_of_requests_that_is_away_at_the_start_is_no_reason_not_to_start(settings: MakeSettings) -> None:
    away = SecretStr("clickhouse://127.0.0.1:1/requests")
    half = await open_left_half(settings(events=True, events_url=away), emit=discard, clock=utc_now)
    assert half.requests is not None
    with pytest.raises(EventsError, match=r"ClickHouse at 127\.0\.0\.1:1"):
        await half.requests.run(lambda: None)
    await half.close()


async def test_a_ledger_that_cannot_be_read_at_the_start_is_given_back(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: KeyOwners) -> None:
        raise LedgerError("the ledger is busy")

    with monkeypatch.context() as patched:
        patched.setattr(KeyOwners, "recall", fail)
        with pytest.raises(LedgerError, match="the ledger is busy"):
            await open_left_half(settings(), emit=discard, clock=utc_now)
    lock = take_collector_lock(settings().ledger_url.get_secret_value(), patience=0)
    lock.release()


async def test_each_destination_of_focus_files_has_its_pusher(
    settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(focus_push_url=tmp_path.as_uri(), focus_upload=("datadog",))
    monkeypatch.delenv("DD_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="DD_API_KEY is not set"):
        await open_left_half(chosen, emit=discard, clock=utc_now)
    monkeypatch.setenv("DD_API_KEY", "one")
    monkeypatch.setenv("DD_APP_KEY", "two")
    half = await open_left_half(chosen, emit=discard, clock=utc_now)
    assert [pusher.destination for pusher in half.collector._pushers] == ["store", "datadog"]
    await half.close()
