from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from queries.conftest import APP, BERLIN, FLUX, HISTORY, NOW, UTC_ZONE, VEO, charges_of

from exporter.charges import HOUR, NANO, Amounts, Charge, Dimensions, Window
from exporter.forecasting.drivers import Parts
from exporter.ledger import Ledger
from exporter.ledger.reader import LedgerReader
from exporter.queries.drivers import DriversAnswer, answer_drivers, parse_drivers_question
from exporter.queries.parameters import QuestionError

DAYS = {"window": "2026-11-02/2026-11-03", "compare": "2026-11-01/2026-11-02"}


def asked(reader: LedgerReader, **given: str) -> DriversAnswer:
    with reader.snapshot() as snapshot:
        return answer_drivers(snapshot, parse_drivers_question(given, now=NOW, zone=UTC_ZONE))


def windows(given: dict[str, str], now: datetime = NOW, zone: ZoneInfo = UTC_ZONE) -> tuple[str, str]:
    question = parse_drivers_question(given, now=now, zone=zone)
    return str(question.window), str(question.compare)


@pytest.mark.parametrize(
    ("given", "window", "compare"),
    [
        ({}, "2026-11-01T00Z/2026-11-03T10Z", "2026-10-01T00Z/2026-10-03T10Z"),
        ({"window": "last_month"}, "2026-10-01T00Z/2026-11-01T00Z", "2026-09-01T00Z/2026-10-01T00Z"),
        ({"window": "today"}, "2026-11-03T00Z/2026-11-03T10Z", "2026-11-02T00Z/2026-11-02T10Z"),
        ({"window": "yesterday"}, "2026-11-02T00Z/2026-11-03T00Z", "2026-11-01T00Z/2026-11-02T00Z"),
        ({"window": "last_24_hours"}, "2026-11-02T10Z/2026-11-03T10Z", "2026-11-01T10Z/2026-11-02T10Z"),
        ({"window": "last_7_days"}, "2026-10-27T10Z/2026-11-03T10Z", "2026-10-20T10Z/2026-10-27T10Z"),
        ({"window": "2026-11-02/2026-11-03"}, "2026-11-02T00Z/2026-11-03T00Z", "2026-11-01T00Z/2026-11-02T00Z"),
        ({"compare": "2026-01-01/2026-01-02"}, "2026-11-01T00Z/2026-11-03T10Z", "2026-01-01T00Z/2026-01-02T00Z"),
        (
            {"window": "yesterday", "timezone": "Europe/Berlin"},
            "2026-11-01T23Z/2026-11-02T23Z",
            "2026-10-31T23Z/2026-11-01T23Z",
        ),
    ],
)
def test_windows_by_name_end_with_the_last_hour_that_is_over(given: dict[str, str], window: str, compare: str) -> None:
    assert windows(given) == (window, compare)


def test_a_long_month_is_compared_with_all_of_a_short_one_and_a_first_hour_with_the_first() -> None:
    assert windows({}, datetime(2026, 3, 31, 5, tzinfo=UTC)) == (
        "2026-03-01T00Z/2026-03-31T05Z",
        "2026-02-01T00Z/2026-03-01T00Z",
    )
    assert windows({}, datetime(2026, 11, 1, 0, 10, tzinfo=UTC)) == (
        "2026-11-01T00Z/2026-11-01T01Z",
        "2026-10-01T00Z/2026-10-01T01Z",
    )
    # Clocks went back on 25 October, so that this day has an hour more than the one before.
    assert windows({"window": "today"}, datetime(2026, 10, 25, 22, 30, tzinfo=UTC), BERLIN) == (
        "2026-10-24T22Z/2026-10-25T22Z",
        "2026-10-23T22Z/2026-10-24T22Z",
    )


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"window": "week"}, "window is not month, last_month, today"),
        ({"window": "2026-11-01"}, "window is not month"),
        ({"window": "2026-11-02/2026-11-01"}, "window does not start before its end"),
        ({"compare": "2026-11-02/2026-11-02"}, "compare does not start before its end"),
        ({"compare": "month"}, "compare is not previous or two times with a slash"),
        ({"start": "2026-11-01"}, "start is not"),
        ({"account": "nobody"}, "account is not an account"),
        ({"limit": "1001"}, "limit is not a whole number"),
    ],
)
def test_a_wrong_question_is_answered_by_what_is_accepted(
    reader: LedgerReader, given: dict[str, str], sentence: str
) -> None:
    with pytest.raises(QuestionError, match=sentence):
        asked(reader, **given)


def test_windows_are_widened_to_whole_hours_and_a_note_says_so(reader: LedgerReader) -> None:
    answer = asked(reader, window="2026-11-02T00:30Z/2026-11-02T02:00Z", compare="2026-11-01/2026-11-01T01:30Z")
    assert (answer.window.start, answer.compare.end) == (
        datetime(2026, 11, 2, tzinfo=UTC),
        datetime(2026, 11, 1, 2, tzinfo=UTC),
    )
    assert sum("was widened" in note for note in answer.notes) == 2


def test_steady_spend_has_no_drivers(reader: LedgerReader) -> None:
    answer = asked(reader, **DAYS)
    assert answer.window.spend == answer.compare.spend == 24 * 144 * NANO // 100
    assert (answer.difference, answer.parts) == (0, Parts())
    assert answer.window.complete
    assert answer.compare.complete
    assert answer.notes == ()


def test_the_ledgers_charges_are_explained_by_item(reader: LedgerReader, ledger: Ledger) -> None:
    day = Window(datetime(2026, 11, 2, tzinfo=UTC), datetime(2026, 11, 3, tzinfo=UTC))

    def restated(source: tuple[str, str], *kinds: tuple[Dimensions, Amounts]) -> None:
        charges = [Charge(hour, dimensions, amounts) for hour in day.hours() for dimensions, amounts in kinds]
        ledger.restate(*source, day, charges, at=NOW)

    # Twice as many images at the same price, videos at half the discount; an hour of the app at a surge price.
    flux, veo = (charges_of(kind, cents)[0].amounts for kind, cents in ((FLUX, 45), (VEO, 90)))
    restated(
        ("studio", "models"),
        (FLUX, flux.plus(flux)),
        (VEO, veo._replace(discount=veo.discount // 2, cost=veo.list_cost - veo.discount // 2)),
    )
    app = charges_of(APP, 9, gpu_seconds=7)[0].amounts
    surge = Amounts(NANO, NANO, 10 * NANO, NANO, 9 * NANO)
    restated(("research", "serverless"), (APP, app), (APP._replace(surge="surge"), surge))

    answer = asked(reader, **DAYS)
    by_name = {driver.item.model or driver.item.app: driver for driver in answer.items}
    assert by_name.keys() == {"fal-ai/flux", "fal-ai/veo3", "train"}
    assert by_name["fal-ai/flux"].parts == Parts(volume=24 * flux.cost)
    assert by_name["fal-ai/veo3"].parts == Parts(discount=24 * (veo.discount - veo.discount // 2))
    train = by_name["train"]
    assert train.after.quantity == 24 * 4 * NANO
    assert train.parts.surge > 0
    assert train.parts.price == train.parts.discount == 0
    assert sum(train.parts) == train.difference == 24 * 9 * NANO
    assert sum(answer.parts) == answer.difference == sum(driver.difference for driver in answer.items)
    assert sum(sum(driver.parts) for driver in answer.items) == answer.difference


def test_items_beyond_the_limit_are_summed_up(reader: LedgerReader) -> None:
    given = {"window": "2026-11-01/2026-11-03", "compare": "2026-10-31/2026-11-01"}
    whole, first = asked(reader, **given), asked(reader, **given, limit="1")
    assert first.items == whole.items[:1]
    assert first.others.count == 2
    assert first.items[0].difference + first.others.difference == whole.difference
    assert first.items[0].parts.plus(first.others.parts) == whole.parts == first.parts
    assert whole.others == type(whole.others)(0, 0, Parts())


def test_filters_are_those_of_usage(reader: LedgerReader) -> None:
    assert {driver.item.model for driver in asked(reader, **DAYS, model="fal-ai/veo3").items} == {"fal-ai/veo3"}
    assert {driver.item.app for driver in asked(reader, **DAYS, gpu_class="h100").items} == {"train"}


def test_hours_that_the_ledger_lacks_are_said_of_their_window(reader: LedgerReader) -> None:
    before = Window(HISTORY.start - 24 * HOUR, HISTORY.start)
    answer = asked(reader, window="2026-10-30/2026-10-31", compare=f"{before.start:%Y-%m-%d}/{before.end:%Y-%m-%d}")
    assert (answer.window.complete, answer.compare.complete, answer.compare.spend) == (True, False, 0)
    (note,) = answer.notes
    assert note.startswith(f"{before}: The ledger has every hour from")
    assert answer.parts == Parts(new=answer.window.spend)
