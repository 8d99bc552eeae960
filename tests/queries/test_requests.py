"""Questions about requests, answered from a store of files."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from events.requests_of import HOUR_13
from events.requests_of import request as request_of

from exporter.charges import HOUR, Amounts, ApiKey, Charge, Dimensions, Window
from exporter.events.progress import first_progress, written
from exporter.events.questions import RequestsQuestion
from exporter.events.store import EventStore, open_store
from exporter.ledger import Ledger, LedgerReader, Rules
from exporter.ledger.reader import LedgerSnapshot
from exporter.queries.parameters import QuestionError
from exporter.queries.requests import (
    NoRequestsError,
    RequestsAnswer,
    answer_differences,
    answer_request,
    answer_requests,
    charged_by_hour,
    parse_requests_question,
)

NOW = HOUR_13 + 2 * HOUR
LABELS = {("default", "key-1"): "checkout"}


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A ledger that counts two accounts, of one of which there are requests."""
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    ledger = Ledger(url, rules=Rules(settle_delay=2 * HOUR), clock=lambda: NOW)
    ledger.activate({"default": ("models",), "second": ("models", "serverless")})
    ledger.names.record_api_keys("default", [ApiKey("default", "key-1", "checkout")])
    yield url
    ledger.close()


@pytest.fixture
def ledger(address: str) -> Iterator[LedgerSnapshot]:
    reader = LedgerReader(address)
    with reader.snapshot() as snapshot:
        yield snapshot
    reader.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    made = open_store(f"file://{tmp_path}/requests")
    requests = [request_of(number, 10 * number, tags=f'{{"customer":"c{number % 2}"}}') for number in range(1, 6)]
    made.keep_hour("default", HOUR_13, NOW, 0, requests)
    yield made
    made.close()


def parsed(**texts: str) -> RequestsQuestion:
    return parse_requests_question(texts, now=NOW, zone=ZoneInfo("UTC"), key_labels=LABELS)


Ask = Callable[..., RequestsAnswer]


@pytest.fixture
def asked(store: EventStore, ledger: LedgerSnapshot) -> Ask:
    def ask(**texts: str) -> RequestsAnswer:
        return answer_requests(store, parsed(**texts), ledger, now=NOW)

    return ask


def ids(answer: RequestsAnswer) -> list[str]:
    return [row.request.request_id for row in answer.requests]


def test_the_dearest_come_first_under_the_label_of_their_key(asked: Ask) -> None:
    answer = asked()
    assert ids(answer) == ["id-5", "id-4", "id-3", "id-2", "id-1"]
    assert {row.api_key for row in answer.requests} == {"checkout"}
    assert (answer.start, answer.end, answer.next_cursor) == (NOW - timedelta(hours=24), NOW, None)


def test_filters_take_labels_tags_and_amounts(asked: Ask) -> None:
    assert ids(asked(api_key="checkout", tag="customer=c0")) == ["id-4", "id-2"]
    assert ids(asked(cost_above="0.00000003", sort="time")) == ["id-5", "id-4"]
    assert ids(asked(model="other")) == []
    assert ids(asked(end="2026-11-27T13:00:03Z")) == ["id-2", "id-1"]


def test_an_answer_is_complete_only_where_every_hour_and_row_was_read(asked: Ask, store: EventStore) -> None:
    hour = {"start": "2026-11-27T13:00Z", "end": "2026-11-27T14:00Z"}
    alone = asked(**hour, account="default")
    assert (alone.complete, alone.notes) == (True, ())
    both = asked(**hour)
    assert not both.complete
    assert both.notes == (
        (
            "1 of 1 hour of account second has not been read to the end (2026-11-27T13:00Z to 2026-11-27T14:00Z); "
            "requests of that time can be missing."
        ),
    )
    store.keep_hour("default", HOUR_13, NOW + HOUR, 0, [request_of(1)], rejected=2)
    assert asked(**hour, account="default").notes == (
        "2 rows that fal reported for account default cannot be read; the requests are missing.",
    )


def test_hours_around_those_that_were_read_are_named(asked: Ask, store: EventStore) -> None:
    for past in (0, 2, 4, 6, 8):
        store.keep_hour("default", HOUR_13 - past * HOUR, NOW, 0, [])
    (note,) = asked(account="default").notes
    assert note.startswith(
        "19 of 24 hours of account default have not been read to the end (2026-11-26T15:00Z to 2026-11-27T05:00Z, "
        "2026-11-27T06:00Z to 2026-11-27T07:00Z, 2026-11-27T08:00Z to 2026-11-27T09:00Z, and 3 later spans)"
    ), note


def test_a_refusal_of_fal_is_named_where_hours_are_missing(asked: Ask, store: EventStore) -> None:
    refused = first_progress(NOW).switched_off("GET /models/billing-events answered 403", NOW + HOUR)
    store.keep_document("progress/default", written(refused))
    (note,) = asked(account="default").notes
    assert note.endswith("can be missing. fal refuses: GET /models/billing-events answered 403")
    assert asked(account="default", start="2026-11-27T13:00Z", end="2026-11-27T14:00Z").complete


def test_a_window_of_the_future_and_one_of_all_time_are_not_complete(asked: Ask) -> None:
    assert asked(start="2026-11-28", end="2026-11-29").notes == ("The window has not begun yet.",)
    assert asked(start="2000-01-01", account="default").notes[0].startswith("235,862 of 235,863 hours of")


def test_an_account_that_is_not_polled_is_refused(asked: Ask) -> None:
    with pytest.raises(QuestionError, match=r"^account is not .* polled; accepted are default, second$"):
        asked(account="nobody")


def test_hours_with_rows_that_cannot_be_read_are_compared_in_no_room(store: EventStore, tmp_path: Path) -> None:
    """They would differ from the ledger by what cannot be read, as if two interfaces of fal disagreed."""
    url = f"sqlite:///{tmp_path / 'compared.sqlite'}"
    summaries = [store.keep_hour("default", HOUR_13 + step * HOUR, NOW, 0, [request_of(1)]) for step in (0, 1)]
    window = Window(HOUR_13, HOUR_13 + 2 * HOUR)
    cost = summaries[0].models["fal-ai/flux/dev"].cost
    dimensions = Dimensions("default", product="model_apis", model="fal-ai/flux/dev", unit="image")
    charges = [Charge(hour, dimensions, Amounts(0, 0, cost, 0, cost)) for hour in window.hours()]
    late = window.end + 9 * HOUR
    with closing(Ledger(url, rules=Rules(settle_delay=2 * HOUR), clock=lambda: late)) as ledger:
        ledger.activate({"default": ("models",)})
        ledger.restate("default", "models", window, charges, at=late)

    def told() -> tuple[int, int, int, int]:
        with closing(LedgerReader(url)) as reader, reader.snapshot() as snapshot:
            texts = {"start": f"{window.start:%Y-%m-%dT%H:%MZ}", "end": f"{window.end:%Y-%m-%dT%H:%MZ}"}
            (account,) = answer_differences(store, snapshot, texts, now=late).accounts
            charged = charged_by_hour(snapshot, "default", window)
            summaries = store.summaries("default", window)
            again = charged.compare(summaries, charged.through, with_rejected=True).differences
        return account.hours, account.not_read, len(account.differences), len(again)

    assert told() == (2, 0, 0, 0)
    store.keep_hour("default", HOUR_13, late, 0, [], rejected=1)
    assert told() == (1, 1, 0, 1), "the hour is read again for its difference, and not shown with it"


def test_requests_of_accounts_that_are_polled_no_more_are_told_where_they_are_named(
    asked: Ask, store: EventStore
) -> None:
    """After an account has got another name, its requests are read again under it."""
    store.keep_hour("old", HOUR_13, NOW, 0, [request_of(number) for number in range(1, 4)])
    assert ids(asked()) == ["id-5", "id-4", "id-3", "id-2", "id-1"]
    assert {row.account for row in asked().requests} == {"default"}
    assert {row.account for row in asked(account="old").requests} == {"old"}
    assert len(asked(account="old,default").requests) == 8


def test_pages_hold_every_request_once(asked: Ask) -> None:
    window = {"start": "2026-11-27", "end": "2026-11-28"}
    first = asked(**window, limit="3")
    assert first.next_cursor is not None
    second = asked(**window, limit="3", cursor=first.next_cursor)
    assert (ids(first) + ids(second), second.next_cursor) == (["id-5", "id-4", "id-3", "id-2", "id-1"], None)
    with pytest.raises(QuestionError, match="belongs to another question"):
        parsed(**window, sort="time", cursor=first.next_cursor)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tag", "customer"),
        ("tag", "Customer=a"),
        ("cost_above", "-1"),
        ("cost_above", "1e3"),
        ("sort", "model"),
        ("limit", "0"),
        ("cursor", "x"),
        ("start", "2027-01-01"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(QuestionError, match=f"^{name} "):
        parsed(**{name: text})


def test_one_request_is_found_by_its_id(store: EventStore) -> None:
    found = answer_request(store, "id-3", LABELS)
    assert (found.account, found.api_key, found.request.cost) == ("default", "checkout", 30)
    assert found.request.at == datetime(2026, 11, 27, 13, 0, 3, tzinfo=UTC)
    with pytest.raises(NoRequestsError, match="no request with this id"):
        answer_request(store, "id-9", LABELS)
    with pytest.raises(QuestionError, match="request_id"):
        answer_request(store, "x" * 201, LABELS)
