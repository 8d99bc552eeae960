"""Counters of a ledger whose server has lost its newest writes: none falls, nothing is lost or counted twice."""

import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from ledger.conftest import Clock
from ledger.standby import ServerPair, server_pair
from ledger.test_machines import SHOP, SHOP_SETTINGS, runners
from sqlalchemy import create_engine, text
from structlog.testing import capture_logs

from exporter.charges import HOUR, NANO, Amounts, Charge, Dimensions, Window, hour_of
from exporter.errors import LedgerError
from exporter.forecasting.state import Outlook
from exporter.ledger import Ledger, LedgerReader, LedgerView, Rules, take_collector_lock
from exporter.ledger import reader as reader_module
from exporter.ledger.heights import Heights
from exporter.ledger.loss import LostLedgerError
from exporter.metrics.encoding import Encoder
from exporter.metrics.snapshot import snapshot_of
from exporter.overview import LedgerOverview, Overview
from exporter.publication import Publication
from exporter.replicas.shown import heights_shown
from exporter.samples import Pages
from exporter.tags import TaggedCharge, TaggedReading

TAGS = ("customer-id",)
RULES = Rules(birth_hold=timedelta(0), tags=TAGS)
ODD = 'fal-ai/"odd\\name\n'


class Fal:
    """States all that it ever has, at every poll; a poll that finds nothing new changes nothing."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.hour = hour_of(clock.now)
        self.costs: dict[Dimensions, int] = {}

    def charge(self, dollars: float, dimensions: Dimensions) -> None:
        self.costs[dimensions] = self.costs.get(dimensions, 0) + round(dollars * NANO)

    def poll(self, ledger: Ledger) -> None:
        now = self.clock.now
        window = Window(self.hour - HOUR, hour_of(now) + HOUR)
        charges = [
            Charge(self.hour, dimensions, Amounts(cost, cost * 3, cost * 2, cost, cost))
            for dimensions, cost in self.costs.items()
        ]
        ledger.restate("prod", "serverless", window, charges, at=now)
        if hour_of(now) > self.hour:
            ledger.machines.record_runners("prod", window, {"shop": [runners(self.hour, 1, 2, 0, 1)]})
            tagged = tuple(
                TaggedCharge(self.hour, item.model, item.unit, ("acme",), Amounts(cost, 0, cost, 0, cost))
                for item, cost in self.costs.items()
                if item.model
            )
            stated = dict.fromkeys(window.hours(), 0) | {self.hour: sum(item.amounts.cost for item in tagged)}
            ledger.tags.record(TaggedReading("prod", window, TAGS, tagged, stated, {}), at=now)


@pytest.fixture
def fal(clock: Clock) -> Fal:
    return Fal(clock)


def opened(address: str, clock: Clock, heights: Heights | None = None) -> Ledger:
    ledger = Ledger(address, rules=RULES, clock=clock, heights=heights)
    ledger.activate({"prod": ["serverless"]})
    return ledger


def scraped(ledger: Ledger) -> LedgerView:
    """Return the figures once every new counter has been seen at 0."""
    ledger.scraped(ledger.view().sequence)
    return ledger.view()


def flat(pages: Pages) -> dict[tuple[str, ...], float]:
    return {sample.labels: sample.value for page in pages for sample in page.samples}


def counters(view: LedgerView) -> dict[str, dict[tuple[str, ...], float]]:
    """Return every counter of the ledger."""
    return {
        "spend": flat(view.spend),
        "discount": flat(view.discount),
        "gpu_seconds": flat(view.gpu_seconds),
        "quantity": flat(view.quantity),
        "by state": flat(view.machines.spend),
        "gpu time by state": flat(view.machines.gpu_seconds),
        "tagged": flat(view.tags.spend),
        "restated": {
            (scope.source,): scope.restated_up + scope.restated_down + scope.restated_hours + scope.relabelled
            for scope in view.scopes
        },
        "overflowed": {(): view.overflowed_series},
    }


def begun(view: LedgerView) -> dict[tuple[str, ...], object]:
    return {sample.labels: sample.created for page in view.spend for sample in page.samples}


def published(view: LedgerView) -> Publication:
    """Return what a follower holds of a view."""
    exposition = Encoder().encode(snapshot_of(view, {}, Outlook()))
    ledger = LedgerOverview(born_at=view.born_at, revision=view.revision)
    return Publication(view.sequence, view.at, exposition, Overview("0.3.0", ledger=ledger), ready=True)


@pytest.fixture
def behind(sqlite_address: str, clock: Clock, fal: Fal, tmp_path: Path) -> tuple[str, LedgerView]:
    """A ledger that lacks the newest writes, and what has been served of them."""
    with closing(opened(sqlite_address, clock)) as ledger:
        ledger.machines.record_settings("prod", [SHOP_SETTINGS])
        ledger.tags.record(TaggedReading("prod", Window(fal.hour - HOUR, fal.hour), TAGS, (), {}, {}), at=clock.now)
        fal.poll(ledger)
        clock.now += HOUR
        fal.hour += HOUR
        fal.charge(3, SHOP)
        fal.charge(1, Dimensions("prod", product="model_apis", model="flux", unit="image"))
        clock.now += 6 * HOUR
        fal.poll(ledger)
        scraped(ledger)
    earlier = tmp_path / "earlier.sqlite"
    shutil.copy(tmp_path / "ledger.sqlite", earlier)
    with closing(opened(sqlite_address, clock)) as ledger:
        fal.charge(2, SHOP)
        fal.charge(0.25, Dimensions("prod", product="model_apis", model=ODD, team="a,b", unit="image"))
        fal.charge(0.5, Dimensions("prod", product="serverless", app="other", unit="GPU second"))
        clock.forward(minutes=1)
        fal.poll(ledger)
        ledger.scraped(ledger.view().sequence)
        clock.forward(minutes=1)
        view = ledger.view()
    return f"sqlite:///{earlier}", view


def test_a_follower_takes_a_ledger_that_lacks_what_it_has_served_and_no_counter_falls(
    behind: tuple[str, LedgerView], clock: Clock, fal: Fal
) -> None:
    address, before = behind
    assert all(values and max(values.values()) for name, values in counters(before).items() if name != "overflowed")
    heights = heights_shown(published(before), before.labels, TAGS)
    with closing(opened(address, clock, heights)) as ledger:
        assert ledger.fail_overs == 1
        (event,) = ledger.condition.events
        assert "lacks the newest" in event
        taken_up = ledger.view()
        assert counters(taken_up) == counters(before)
        assert begun(taken_up) == begun(before), "a later beginning would have all of it counted again"
        assert sum(flat(taken_up.pending).values()) == round(2.75 * NANO), "what is to be read again"
        assert taken_up.revision > before.revision, "readers know the numbers of states that are lost"
    with closing(opened(address, clock)) as ledger:
        assert counters(ledger.view()) == counters(before), "heights outlive the process"
        fal.poll(ledger)
        again = counters(scraped(ledger))
        for name in ("spend", "discount", "gpu_seconds", "quantity", "by state", "gpu time by state", "tagged"):
            assert again[name] == counters(before)[name], name
        assert not any(flat(ledger.view().pending).values())
        fal.charge(4, SHOP)
        fal.poll(ledger)
        after = counters(scraped(ledger))["spend"]
        assert sum(after.values()) - sum(again["spend"].values()) == 4 * NANO


def test_what_was_served_of_another_ledger_or_of_an_earlier_state_moves_nothing(
    behind: tuple[str, LedgerView], sqlite_address: str, clock: Clock
) -> None:
    address, before = behind
    with closing(opened(address, clock)) as ledger:
        earlier = ledger.view()
    with closing(opened(sqlite_address, clock, heights_shown(published(earlier), before.labels, TAGS))) as ledger:
        assert counters(ledger.view()) == counters(before)
        assert ledger.fail_overs == 0
    with closing(opened("sqlite://", clock, heights_shown(published(before), before.labels, TAGS))) as ledger:
        assert counters(ledger.view())["spend"] == {}
        assert ledger.fail_overs == 0
    assert (
        heights_shown(Publication(1, clock.now, published(before).exposition, Overview(""), ready=True), (), ()) is None
    )


@pytest.fixture
def pair() -> Iterator[ServerPair]:
    with server_pair() as servers:
        yield servers


@pytest.mark.long
def test_a_fail_over_to_a_standby_that_is_behind_takes_nothing_back(pair: ServerPair, clock: Clock, fal: Fal) -> None:
    lock = take_collector_lock(pair.address)
    with (
        closing(Ledger(pair.address, rules=RULES, clock=clock, lock=lock)) as ledger,
        closing(LedgerReader(pair.address)) as reader,
    ):
        ledger.activate({"prod": ["serverless"]})
        clock.now += HOUR
        fal.hour += HOUR
        fal.charge(3, SHOP)
        fal.poll(ledger)
        scraped(ledger)
        pair.catch_up()
        pair.fall_behind()
        fal.charge(2, SHOP)
        fal.charge(1, Dimensions("prod", product="model_apis", model=ODD))
        fal.poll(ledger)
        before = scraped(ledger)
        cached = reader.revision()
        pair.kill_primary()
        with pytest.raises(LedgerError, match="cannot be used"):
            fal.poll(ledger)
        with pytest.raises(LedgerError):
            ledger.view()
        pair.fail_over()
        shown = ledger.view()
        assert counters(shown) == counters(before)
        assert begun(shown) == begun(before)
        assert ledger.fail_overs == 1
        assert ledger.condition.problem == ""
        assert reader.revision() > cached
        fal.poll(ledger)
        assert counters(scraped(ledger)) == counters(before)
        fal.charge(1, SHOP)
        fal.poll(ledger)
        after = scraped(ledger)
        assert sum(flat(after.spend).values()) - sum(flat(before.spend).values()) == NANO
        assert ledger.fail_overs == 1
        engine = create_engine(pair.address_for_reading.replace("postgresql:", "postgresql+psycopg:"))
        with engine.begin() as connection:
            # As a dump that is being restored does: no fail-over, and not to be written to.
            connection.execute(text("UPDATE fact SET value = '1' WHERE name = 'revision'"))
        engine.dispose()
        with pytest.raises(LostLedgerError, match="contains a different state"):
            fal.poll(ledger)


def behind_and_ahead(reader: LedgerReader, primary: LedgerReader) -> bool:
    """Return whether a reader answers from an earlier state than the primary's."""
    return reader.revision() < primary.revision()


@pytest.mark.long
def test_a_standby_answers_questions_while_it_is_there_and_not_far_behind(
    pair: ServerPair, clock: Clock, fal: Fal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "_STANDBY_REST", 0.0)
    with (
        closing(opened(pair.address, clock)) as ledger,
        closing(LedgerReader(pair.address)) as primary,
        closing(LedgerReader(pair.address, standby=pair.address_for_reading)) as reader,
        capture_logs() as logs,
    ):
        fal.charge(3, SHOP)
        fal.poll(ledger)
        pair.catch_up()
        with reader.snapshot() as snapshot:
            assert snapshot.seconds_behind() == 0
        assert reader.revision() == primary.revision()
        pair.fall_behind()
        fal.charge(2, SHOP)
        fal.poll(ledger)
        with reader.snapshot() as snapshot:
            assert 0 < snapshot.seconds_behind() < 60
            (spent,) = snapshot.usage(Window(fal.hour, fal.hour + HOUR), ["app"])
            assert spent.amounts.cost == 3 * NANO, "an answer of one state"
        assert behind_and_ahead(reader, primary)
        monkeypatch.setattr(reader_module, "_MOST_BEHIND", 0.0)
        assert not behind_and_ahead(reader, primary)
        monkeypatch.setattr(reader_module, "_MOST_BEHIND", 600.0)
        assert behind_and_ahead(reader, primary)
        pair.control("standby", "-m", "immediate", "stop")
        for _ in range(2):
            assert not behind_and_ahead(reader, primary)
        pair.control("standby", "-o", pair.options_of_standby, "start")
        assert behind_and_ahead(reader, primary)
        pair.fail_over()
        assert not behind_and_ahead(reader, primary), "it goes its own way, and the primary is still there"
    assert "takes writes itself; name a standby" in logs[-1]["problem"]
    told = [entry["event"] for entry in logs if "standby" in entry["event"]]
    assert told == ["the standby cannot answer questions; the primary does", "the standby answers questions"] * 2 + [
        "the standby cannot answer questions; the primary does"
    ]


@pytest.mark.long
def test_a_standby_of_another_ledger_is_not_asked(
    pair: ServerPair, sqlite_address: str, clock: Clock, fal: Fal
) -> None:
    with closing(opened(pair.address, clock)) as other:
        fal.charge(3, SHOP)
        fal.poll(other)
    pair.catch_up()
    clock.now += timedelta(seconds=1)
    with (
        closing(opened(sqlite_address, clock)),
        closing(LedgerReader(sqlite_address, standby=pair.address_for_reading)) as reader,
        capture_logs() as logs,
        reader.snapshot() as snapshot,
    ):
        assert not snapshot.usage(Window(fal.hour, fal.hour + HOUR), ["app"])
    (warning,) = logs
    assert "it has another ledger; name a standby" in warning["problem"]


def silent_address(server: socket.socket) -> str:
    return f"postgresql://u:secret@127.0.0.1:{server.getsockname()[1]}/x"


@pytest.mark.long
def test_a_standby_that_says_nothing_is_not_waited_for(sqlite_address: str, clock: Clock) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        closing(opened(sqlite_address, clock)),
        closing(LedgerReader(sqlite_address, standby=silent_address(silent))) as reader,
        capture_logs() as logs,
    ):
        began = time.monotonic()
        for _ in range(3):
            assert reader.revision()
        assert time.monotonic() - began < 8
    (warning,) = [entry for entry in logs if "standby" in entry["event"]]
    assert "cannot be used" in warning["problem"]
    assert "secret" not in str(warning)
