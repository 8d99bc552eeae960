"""Questions about requests, answered from a store of files."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from events.requests_of import HOUR_13
from events.requests_of import request as request_of

from exporter.charges import HOUR
from exporter.events.questions import RequestsQuestion
from exporter.events.store import EventStore, open_store
from exporter.queries.parameters import QuestionError
from exporter.queries.requests import (
    NoRequestsError,
    RequestsAnswer,
    answer_request,
    answer_requests,
    parse_requests_question,
)

NOW = HOUR_13 + 2 * HOUR
LABELS = {("default", "key-1"): "checkout"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    made = open_store(f"file://{tmp_path}/requests")
    requests = [request_of(number, 10 * number, tags=f'{{"customer":"c{number % 2}"}}') for number in range(1, 6)]
    made.keep_hour("default", HOUR_13, NOW, 0, requests)
    yield made
    made.close()


def parsed(**texts: str) -> RequestsQuestion:
    return parse_requests_question(texts, now=NOW, zone=ZoneInfo("UTC"), key_labels=LABELS)


def asked(store: EventStore, **texts: str) -> RequestsAnswer:
    return answer_requests(store, parsed(**texts), LABELS)


def ids(answer: RequestsAnswer) -> list[str]:
    return [row.request.request_id for row in answer.requests]


def test_the_dearest_come_first_under_the_label_of_their_key(store: EventStore) -> None:
    answer = asked(store)
    assert ids(answer) == ["id-5", "id-4", "id-3", "id-2", "id-1"]
    assert {row.api_key for row in answer.requests} == {"checkout"}
    assert (answer.start, answer.end, answer.next_cursor) == (NOW - timedelta(hours=24), NOW, None)


def test_filters_take_labels_tags_and_amounts(store: EventStore) -> None:
    assert ids(asked(store, api_key="checkout", tag="customer=c0")) == ["id-4", "id-2"]
    assert ids(asked(store, cost_above="0.00000003", sort="time")) == ["id-5", "id-4"]
    assert ids(asked(store, model="other")) == []
    assert ids(asked(store, end="2026-11-27T13:00:03Z")) == ["id-2", "id-1"]


def test_pages_hold_every_request_once(store: EventStore) -> None:
    window = {"start": "2026-11-27", "end": "2026-11-28"}
    first = asked(store, **window, limit="3")
    assert first.next_cursor is not None
    second = asked(store, **window, limit="3", cursor=first.next_cursor)
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
