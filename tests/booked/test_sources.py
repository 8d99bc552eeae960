"""Spend logs of LiteLLM, by its API and from its database."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import respx
from booked.conftest import HERE, WINDOW
from ledger.conftest import empty_postgresql, postgresql_address, postgresql_server
from sqlalchemy import create_engine, make_url, text

from exporter.booked.comparison import Sums, compare
from exporter.booked.sources import KEY_VARIABLE, BookingsError, Columns
from exporter.errors import ConfigurationError
from exporter.events.store import EventReader

__all__ = ["empty_postgresql", "postgresql_address", "postgresql_server"]

BASE = "https://litellm.example.com"


def log(number: int, spend: float, **fields: object) -> dict[str, object]:
    at = HERE + timedelta(minutes=number)
    return {"request_id": f"r-{number}", "spend": spend, "startTime": at.isoformat(), "model": "flux", **fields}


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> Iterator[respx.MockRouter]:
    monkeypatch.setenv(KEY_VARIABLE, "sk-secret")
    with respx.mock(base_url=BASE) as router:
        yield router


def test_spend_logs_are_read_page_by_page_with_the_key_and_every_digit(
    litellm: respx.MockRouter, reader: EventReader
) -> None:
    pages = [
        {"data": [log(1, 1e-06), log(2, 2e-06)], "page": 1, "total_pages": 2},
        {"data": [log(3, 3.000000001e-06)], "page": 2, "total_pages": 2},
    ]
    route = litellm.get("/spend/logs/v2").mock(side_effect=[httpx.Response(200, json=page) for page in pages])
    found = compare(BASE, reader, WINDOW, columns=Columns())
    assert found.total == Sums(6000, 21_000, 3, 6)
    first, second = (call.request for call in route.calls)
    assert first.headers["authorization"] == "Bearer sk-secret"
    assert (first.url.params["start_date"], first.url.params["page"]) == ("2026-11-27 12:00:00", "1")
    assert second.url.params["page"] == "2"


def test_an_older_litellm_is_asked_day_by_day_and_a_request_id_may_be_in_its_metadata(
    litellm: respx.MockRouter, reader: EventReader
) -> None:
    litellm.get("/spend/logs/v2").respond(404, json={"detail": "Not Found"})
    rows = [
        log(1, 1e-06, request_id="chatcmpl-1", metadata=json.dumps({"fal_request_id": "r-1"})),
        log(2, 2e-06, request_id="chatcmpl-2", metadata={"fal_request_id": "r-2"}),
        log(3, 9, startTime="2026-11-28T00:00:00Z", metadata={"fal_request_id": "r-3"}),
    ]
    route = litellm.get("/spend/logs").respond(200, json=rows)
    found = compare(BASE, reader, WINDOW, columns=Columns(request_id="metadata.fal_request_id"))
    assert found.total == Sums(3000, 21_000, 2, 6)
    assert dict(route.calls[0].request.url.params)["start_date"] == "2026-11-27"


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (httpx.Response(401, json={"error": "key sk-secret is wrong"}), "did not answer with spend logs"),
        (httpx.Response(200, json={"rows": []}), "has no list `data`"),
        (httpx.Response(200, text="<html>"), "did not answer with spend logs"),
    ],
)
def test_an_answer_that_is_no_spend_log_is_a_sentence_without_the_key(
    answer: httpx.Response, sentence: str, litellm: respx.MockRouter, reader: EventReader
) -> None:
    litellm.get("/spend/logs/v2").mock(return_value=answer)
    with pytest.raises(BookingsError, match=sentence) as caught:
        compare(BASE, reader, WINDOW, columns=Columns())
    assert "sk-secret" not in str(caught.value)


@respx.mock
def test_a_password_in_litellms_address_is_in_no_sentence(reader: EventReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "sk-secret")
    respx.route().respond(403)
    for address, problem in (("https", BookingsError), ("http", ConfigurationError)):
        with pytest.raises(problem) as caught:
            compare(f"{address}://admin:swordfish@litellm.example.com", reader, WINDOW, columns=Columns())
        assert "admin:[redacted]@litellm.example.com" in str(caught.value)
        assert "swordfish" not in str(caught.value)


def test_without_a_key_or_encryption_litellm_is_not_asked(reader: EventReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(ConfigurationError, match=f"{KEY_VARIABLE} is not set"):
        compare(BASE, reader, WINDOW, columns=Columns())
    monkeypatch.setenv(KEY_VARIABLE, "sk-secret")
    with pytest.raises(ConfigurationError, match="would travel unencrypted"):
        compare("http://litellm.example.com", reader, WINDOW, columns=Columns())


@pytest.mark.long
def test_spend_logs_are_read_from_litellms_database(
    postgresql_address: str, reader: EventReader, tmp_path: Path
) -> None:
    del tmp_path
    engine = create_engine(postgresql_address)
    with engine.begin() as connection:
        connection.execute(
            text(
                'CREATE TABLE "LiteLLM_SpendLogs" (request_id TEXT PRIMARY KEY, spend DOUBLE PRECISION, '
                '"startTime" TIMESTAMP, metadata JSONB)'
            )
        )
        for number in (1, 2, 3):
            connection.execute(
                text('INSERT INTO "LiteLLM_SpendLogs" VALUES (:id, :spend, :at, :metadata)'),
                {
                    "id": f"chatcmpl-{number}",
                    "spend": number / 1e6,
                    "at": (HERE + timedelta(minutes=number)).replace(tzinfo=None),
                    "metadata": json.dumps({"fal": {"request_id": f"r-{number}"}}),
                },
            )
    engine.dispose()
    url = make_url(postgresql_address).set(drivername="postgresql").render_as_string(hide_password=False)
    found = compare(url, reader, WINDOW, columns=Columns(request_id="metadata.fal.request_id"))
    assert found.total == Sums(6000, 21_000, 3, 6)
    assert compare(url, reader, WINDOW, columns=Columns()).never_charged.requests == 3
