"""Questions about single requests, over HTTP, beside a store that is filled."""

import asyncio
import json
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import httpx
import pytest
from click.testing import CliRunner, Result
from events.requests_of import request as request_of
from queries.conftest import HISTORY, NOW, UTC_ZONE
from web.rest.conftest import Make, Serve

from exporter.charges import HOUR, NANO, ApiKey
from exporter.cli import commands
from exporter.errors import ConfigurationError, EventsError
from exporter.events.parquet_store import ParquetStore
from exporter.events.store import EventReader, SharedReader, open_store
from exporter.ledger import Ledger, LedgerReader
from exporter.queries.requests import NoRequestsError
from exporter.web.mcp.request_tools import top_requests_tool
from exporter.web.mcp.tool import Known
from exporter.web.rest import question_queue
from exporter.web.rest.calls import CALLS

REQUESTS = "/v1/billing/requests"
HOUR_OF_ALL = NOW.replace(minute=0) - HOUR


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A store with five requests of an hour that the ledger has, which cost 10 to 50 cents."""
    store = open_store(f"file://{tmp_path}/requests")
    requests = [
        request_of(
            number,
            number * NANO // 10,
            hour=HOUR_OF_ALL,
            model="fal-ai/flux",
            tags=json.dumps({"customer": f"c{number % 2}"}),
        )
        for number in range(1, 6)
    ]
    store.keep_hour("studio", HOUR_OF_ALL, NOW, 0, requests)
    store.close()
    return f"file://{tmp_path}/requests"


@pytest.fixture
async def client(serve: Serve, application: Make, ledger: Ledger, url: str) -> httpx.AsyncClient:
    ledger.names.record_api_keys("studio", [ApiKey("studio", "key-1", "checkout")])
    return await serve(application(requests=SharedReader(url)))


async def read(client: httpx.AsyncClient, path: str = REQUESTS, **query: str) -> dict[str, object]:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = json.loads(answer.text, parse_float=Decimal)
    return found


def ids(found: dict[str, object]) -> list[str]:
    rows = found["requests"]
    assert isinstance(rows, list)
    return [row["request_id"] for row in rows]


async def test_the_dearest_come_first_page_by_page_and_exactly(client: httpx.AsyncClient) -> None:
    first = await read(client, limit="3")
    assert ids(first) == ["id-5", "id-4", "id-3"]
    rows = first["requests"]
    assert isinstance(rows, list)
    assert (rows[0]["cost"], rows[0]["tags"], rows[0]["api_key"]) == (Decimal("0.5"), {"customer": "c1"}, "checkout")
    assert (rows[0]["team"], rows[0]["time"]) == (None, f"{HOUR_OF_ALL + timedelta(seconds=5):%Y-%m-%dT%H:%M:%SZ}")
    following = await read(client, limit="3", cursor=str(first["next_cursor"]))
    assert (ids(following), following["next_cursor"]) == (["id-2", "id-1"], None)
    assert (await read(client, amounts="string", limit="1"))["requests"][0]["cost"] == "0.5"


async def test_filters_narrow_what_is_told(client: httpx.AsyncClient) -> None:
    assert ids(await read(client, tag="customer=c0", sort="time")) == ["id-4", "id-2"]
    assert ids(await read(client, cost_above="0.35", api_key="checkout")) == ["id-5", "id-4"]
    assert ids(await read(client, account="research")) == []
    assert ids(await read(client, end=f"{HOUR_OF_ALL:%Y-%m-%dT%H:00:02Z}")) == ["id-1"]


async def test_one_request_is_found_by_its_id(client: httpx.AsyncClient) -> None:
    found = await read(client, f"{REQUESTS}/id-3")
    assert (found["request_id"], found["account"], found["cost"]) == ("id-3", "studio", Decimal("0.3"))
    assert (await read(client, f"{REQUESTS}/id-3", amounts="string"))["cost"] == "0.3"


async def test_requests_stand_beside_the_ledger(client: httpx.AsyncClient) -> None:
    window = {"start": HISTORY.start.isoformat(), "end": (HOUR_OF_ALL + HOUR).isoformat()}
    answer = await read(client, f"{REQUESTS}/differences", **window)
    accounts = answer["accounts"]
    assert isinstance(accounts, list)
    assert [account["account"] for account in accounts] == ["studio"]
    assert accounts[0]["hours"] == 0, "the hour is not settled yet"


def ask_long(store: ParquetStore, ended: threading.Event) -> None:
    try:
        with store._parquet.cursor() as cursor:
            cursor.execute("SELECT sum(hash(a.range, b.range)) FROM range(10000000) a, range(100000) b").fetchall()
    finally:
        ended.set()


async def test_the_store_ends_a_statement_when_the_caller_leaves_and_answers_the_next(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    with monkeypatch.context() as patched:
        patched.setattr(ParquetStore, "select", lambda store, *_, **__: ask_long(store, ended))
        with pytest.raises(httpx.ReadTimeout):
            await client.get(REQUESTS, timeout=0.3)
        assert await asyncio.to_thread(ended.wait, 10)
    assert len(ids(await read(client))) == 5


async def test_the_store_is_given_up_when_an_answer_takes_too_long(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ParquetStore, "select", lambda store, *_, **__: ask_long(store, threading.Event()))
    monkeypatch.setattr(question_queue, "LONGEST_SECONDS", 0.05)
    answer = await client.get(REQUESTS)
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
    assert "ask for a shorter window" in answer.text


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        (f"{REQUESTS}/nobody", 404, "no request with this id is known"),
        (f"{REQUESTS}/{'x' * 201}", 400, "is not an id of 1 to 200 characters"),
        (f"{REQUESTS}/", 400, "is not an id of 1 to 200 characters"),
        (f"{REQUESTS}/id-3/more", 404, "there is no such call"),
        (f"{REQUESTS}/id-3?model=x", 400, "model is not"),
        (f"{REQUESTS}?cost_above=much", 400, "is not an amount in US dollars"),
        (f"{REQUESTS}?start=2026-11-03&end=2026-11-02", 400, "is not before end"),
    ],
)
async def test_what_cannot_be_answered_is_said(client: httpx.AsyncClient, path: str, status: int, words: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]


async def test_where_requests_are_not_read_the_setting_is_named(
    serve: Serve, application: Make, ledger: Ledger
) -> None:
    del ledger
    client = await serve(application())
    for call in CALLS:
        if call.made_from == "requests":
            answer = await client.get(call.path.format(request_id="id-1"))
            assert answer.status_code == 404
            assert "set FAL_EXPORTER_EVENTS=true" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "problem", [EventsError("the store is away"), ConfigurationError("install fal-exporter[events]")]
)
async def test_a_store_that_cannot_be_read_is_503_and_asked_again(
    serve: Serve, application: Make, ledger: Ledger, url: str, problem: Exception
) -> None:
    del ledger
    problems = [problem]

    def opened() -> EventReader:
        while problems:
            raise problems.pop()
        return SharedReader(url)()

    client = await serve(application(requests=opened))
    answer = await client.get(REQUESTS)
    assert (answer.status_code, answer.json()["error"]["message"]) == (503, str(problem))
    assert (await client.get(REQUESTS)).status_code == 200


async def test_what_has_come_since_is_told_at_once(client: httpx.AsyncClient, url: str) -> None:
    assert len(ids(await read(client))) == 5
    store = open_store(url)
    store.keep_hour("studio", HOUR_OF_ALL - HOUR, NOW, 0, [request_of(9, 7 * NANO, hour=HOUR_OF_ALL - HOUR)])
    store.close()
    assert ids(await read(client))[0] == "id-9"


FILTERS: tuple[dict[str, str], ...] = (
    {},
    {"tag": "customer=c1"},
    {"cost_above": "0.2", "sort": "time"},
    {"api_key": "checkout", "model": "fal-ai/flux", "account": "studio"},
    {"member": "nobody"},
    {"limit": "2"},
)


@pytest.mark.parametrize("query", FILTERS, ids=str)
async def test_rest_mcp_and_the_command_agree_on_the_same_window(
    client: httpx.AsyncClient, url: str, address: str, query: dict[str, str]
) -> None:
    window = {"start": (HOUR_OF_ALL - HOUR).isoformat(), "end": (HOUR_OF_ALL + HOUR).isoformat(), **query}
    found = await read(client, **window, amounts="string")
    known = Known(LedgerReader(address), lambda: None, UTC_ZONE, lambda: NOW, requests=SharedReader(url))
    arguments = {name: int(text) if name == "limit" else text for name, text in window.items()}
    assert top_requests_tool(known).answer({"limit": 100} | arguments).document == found
    known.reader.close()
    flags = [text for name, value in window.items() for text in (f"--{name.replace('_', '-')}", value)]
    store = ["--ledger-url", address, "--events", "--events-url", url]
    runner = CliRunner(env={"FAL_KEY": "a:b"})
    done = await asyncio.to_thread(runner.invoke, commands, ["requests", "top", *store, *flags])
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.stdout.splitlines()]
    requests = found["requests"]
    assert isinstance(requests, list)
    assert [(row["cost"], row["request_id"], row["model"]) for row in requests] == [
        (cost, request_id, model) for cost, _, request_id, model in rows
    ]
    notes = found["notes"]
    assert isinstance(notes, list)
    assert len(notes) == (1 if "account" in query else 2)
    assert all(note in done.stderr for note in notes)
    assert (found["next_cursor"] is None) == ("--cursor" not in done.stderr)


def command(url: str, address: str, *words: str) -> Result:
    runner = CliRunner(env={"FAL_KEY": "a:b"})
    store = ["--ledger-url", address, "--events", "--events-url", url]
    return runner.invoke(commands, ["requests", *words, *store], standalone_mode=False)


def test_the_command_tells_all_of_one_request(ledger: Ledger, url: str, address: str) -> None:
    ledger.names.record_api_keys("studio", [ApiKey("studio", "key-1", "checkout")])
    told = dict(line.split(maxsplit=1) for line in command(url, address, "get", "id-3").stdout.splitlines())
    assert told["cost"] == "0.3"
    assert told["api_key"] == "checkout"
    assert told["tags"] == '{"customer": "c1"}'
    assert told["time"] == (HOUR_OF_ALL + timedelta(seconds=3)).isoformat()
    unknown = command(url, address, "get", "id-99")
    assert isinstance(unknown.exception, NoRequestsError)


def test_the_command_writes_the_requests_of_a_window_as_parquet(
    ledger: Ledger, url: str, address: str, tmp_path: Path
) -> None:
    del ledger
    file = tmp_path / "requests.parquet"
    window = ("--start", HOUR_OF_ALL.isoformat(), "--end", (HOUR_OF_ALL + HOUR).isoformat())
    done = command(url, address, "export", str(file), *window, "--cost-above", "0.2")
    assert done.return_value == 0, done.output
    assert f"3 requests written to {file}" in done.stderr
    found = duckdb.read_parquet(str(file)).aggregate("count(*), sum(cost_nano_usd)::BIGINT").fetchall()
    assert found == [(3, 12 * NANO // 10)]


def test_the_command_ends_with_1_where_requests_differ_from_the_ledger_or_nothing_was_compared(
    ledger: Ledger, url: str, address: str
) -> None:
    del ledger
    first = datetime(2026, 11, 1, 5, tzinfo=UTC)
    store = open_store(url)
    for hour, flux in ((first, 45), (first + HOUR, 40)):
        costs = [(1, "fal-ai/flux", flux), (2, "fal-ai/veo3", 90)]
        requests = [request_of(number, cents * NANO // 100, hour=hour, model=model) for number, model, cents in costs]
        store.keep_hour("studio", hour, NOW, 0, requests)
    store.close()

    def differences(start: datetime, end: datetime) -> Result:
        return command(url, address, "differences", "--start", start.isoformat(), "--end", end.isoformat())

    same = differences(first, first + HOUR)
    assert (same.return_value, same.stdout) == (
        0,
        "studio: 1 settled hours compared; requests 1.35, ledger 1.35, 0 hours and models differ\n",
    )
    different = differences(first - HOUR, first + 2 * HOUR)
    assert (different.return_value, different.stdout.splitlines()) == (
        1,
        [
            (
                "studio: 2 settled hours compared, 1 settled hours not read; requests 2.65, ledger 2.7, 1 hours and "
                "models differ"
            ),
            "2026-11-01T06:00Z  fal-ai/flux  requests 0.4  ledger 0.45  difference -0.05",
        ],
    )
    nothing = differences(first + 2 * HOUR, first + 3 * HOUR)
    assert nothing.return_value == 1
    assert nothing.stdout.startswith("studio: 0 settled hours compared, 1 settled hours not read;")
