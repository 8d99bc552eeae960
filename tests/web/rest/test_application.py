import asyncio
import csv
import gc
import gzip
import io
import json
import os
import re
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from itertools import groupby

import httpx
import pytest
from queries.conftest import APP, HISTORY, LONG_STATEMENTS, NOW, charges_of
from sqlalchemy import Engine, event

from exporter.charges import NANO, Invoice, Window
from exporter.forecasting.state import AccountOutlook, BudgetOutlook, Outlook
from exporter.inquiry import AnswerWriter, Inquirer, Inquiry, InquiryError, Responder
from exporter.ledger import Ledger
from exporter.ledger.reader import LedgerReader, LedgerSnapshot
from exporter.overview import AccountOverview, Overview, SourceOverview
from exporter.publication import Publication
from exporter.web.application import Application
from exporter.web.rest import question_queue
from exporter.web.rest.answer_cache import Answer
from exporter.web.rest.calls import CALLS
from exporter.web.rest.entrance import FOCUS_HEADERS
from exporter.web.rest.focus import MOST_AT_ONCE
from exporter.web.rest.question_queue import Check, Question, QuestionQueue

Serve = Callable[[Application], Awaitable[httpx.AsyncClient]]
Make = Callable[..., Application]

USAGE = "/v1/billing/usage"
ESTIMATE = "/v1/billing/focus?source=estimate"
HOURS = len(HISTORY)
WINDOW = {"start": "2026-10-30", "end": "2026-11-03T11:00Z"}
OF_LEDGER = [call.path for call in CALLS if call.answer is not None and call.made_from != "requests"]
JSON_CALLS = [call.path for call in CALLS if call.answer is not None]


def error(answer: httpx.Response) -> dict[str, str]:
    """Return what an error tells; its shape is always the same."""
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert list(body) == ["error"]
    assert {"type", "message"} <= body["error"].keys() <= {"type", "message", "docs_url"}
    found: dict[str, str] = body["error"]
    return found


async def test_usage_is_exact_as_numbers_and_as_texts(client: httpx.AsyncClient) -> None:
    numbers = json.loads((await client.get(USAGE, params=WINDOW)).text, parse_float=Decimal)
    texts = (await client.get(USAGE, params=WINDOW | {"amounts": "string"})).json()
    assert numbers["total"]["spend"] == HOURS * Decimal("1.44")
    assert texts["total"]["spend"] == str(HOURS * Decimal("1.44"))
    assert texts["total"]["quantities"]["image"] == str(HOURS * 3)


async def test_a_question_that_cannot_be_understood_is_400_and_names_the_parameter(client: httpx.AsyncClient) -> None:
    for path, named in (
        (f"{USAGE}?start=yesterday", "start"),
        (f"{USAGE}?group_by=colour", "group_by"),
        (f"{USAGE}?groupby=model", "group_by"),
        (f"{USAGE}?start=2026-11-01&start=2026-11-02", "start is given more than once; it takes one value"),
        (f"{USAGE}?group_by=model&group_by=model", "group_by is not a comma-separated list"),
        (f"{USAGE}?amounts=floats", "amounts is not one of number, string"),
        (f"{USAGE}?{'&'.join(f'x{n}=1' for n in range(60))}", "query has more than 50 parameters"),
        ("/v1/billing/invoices?status=late", "status"),
        ("/v1/billing/balance?account=", "account"),
        ("/v1/billing/focus?source=bill", "source is not one of invoice, estimate, tagged-estimate"),
        ("/v1/billing/focus?charge_month=2026-10&timeframe=day", "charge_month belongs to source=invoice"),
        ("/v1/billing/focus?source=estimate&account=nobody", "account"),
    ):
        answer = await client.get(path)
        assert answer.status_code == 400, path
        told = error(answer)
        assert told["type"] == "validation_error"
        assert named in told["message"]


async def test_the_documentation_of_the_call_is_named_in_the_error(client: httpx.AsyncClient) -> None:
    told = error(await client.get(USAGE, params={"start": "x"}))
    page = (await client.get("/docs")).text
    assert told["docs_url"] == "/docs#usage"
    assert '<section id="usage">' in page


async def test_the_calls_that_the_documentation_shows_are_answered(client: httpx.AsyncClient) -> None:
    shown = re.findall(r"curl '(http://localhost:8080/v1/\S+)'", unescape((await client.get("/docs")).text))
    assert f"http://localhost:8080{USAGE}?start=2026-10-01&end=2026-11-01&group_by=model,gpu_class" in shown
    assert len(shown) == len(CALLS)
    for address in shown:
        answer = await client.get(address.removeprefix("http://localhost:8080"))
        # Without a publication there are no balances yet, and single requests are not read here.
        assert answer.status_code in ({404} if "/requests" in address else {200, 503}), address


async def test_what_is_not_there_is_404_whatever_is_wanted_of_it(client: httpx.AsyncClient) -> None:
    for path in ("/v1", "/v1/", "/v1/billing", "/v1/billing/usage/", "/v1/billing/nothing", "/docs/x"):
        answer = await client.post(path)
        assert (answer.status_code, error(answer)["type"]) == (404, "not_found"), path


async def test_other_methods_are_405_and_told_which_to_use(client: httpx.AsyncClient) -> None:
    for path in [*JSON_CALLS, "/v1/billing/focus", "/openapi.json", "/docs"]:
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            answer = await client.request(method, path)
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD"), (method, path)
            assert error(answer)["type"] == "method_not_allowed"


async def test_what_cannot_be_had_as_wanted_is_406(client: httpx.AsyncClient) -> None:
    for path, accept, status in (
        (USAGE, "application/json", 200),
        (USAGE, "text/html,*/*;q=0.8", 200),
        (USAGE, "application/*", 200),
        (USAGE, "text/csv", 406),
        (USAGE, "application/json;q=0, */*", 406),
        ("/v1/billing/focus", "application/json", 406),
        ("/v1/billing/focus?source=estimate", "text/*", 200),
        ("/docs", "application/json", 406),
    ):
        answer = await client.get(path, headers={"accept": accept})
        assert answer.status_code == status, (path, accept)
        if status == 406:
            assert error(answer)["type"] == "not_acceptable"


async def test_a_body_and_a_long_address_are_refused(client: httpx.AsyncClient) -> None:
    body = await client.request("GET", USAGE, content=b"{}")
    assert (body.status_code, error(body)["type"]) == (413, "request_too_large")
    long = await client.get(USAGE, params={"model": "m" * 9000})
    assert (long.status_code, error(long)["type"]) == (414, "request_too_large")


async def test_before_anything_has_been_read_it_is_503_with_the_time_to_ask_again(
    serve: Serve, application: Make, address: str
) -> None:
    client = await serve(application())
    for path in [*OF_LEDGER, ESTIMATE]:
        answer = await client.get(path)
        assert (answer.status_code, error(answer)["type"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert address.removeprefix("sqlite:///") not in answer.text


@pytest.mark.parametrize(
    ("reason", "status"), [("too_much", 400), ("busy", 429), ("late", 503), ("server_error", 503), ("gone", 503)]
)
async def test_a_question_that_fal_must_answer_and_does_not_is_refused_by_why(
    serve: Serve, application: Make, ledger: Ledger, reason: str, status: int
) -> None:
    del ledger

    async def refuse(_: Inquiry, __: AnswerWriter) -> None:
        raise InquiryError(reason, "Fal is away.")

    responder = Responder({"usage": refuse})
    client = await serve(application(inquirer=Inquirer(responder.connect)))
    asked = {"start": "2026-10-01", "end": "2026-11-01"}
    refused = await client.get(USAGE, params=asked | {"live": "true"})
    assert (refused.status_code, error(refused)["message"]) == (status, "Fal is away.")
    assert ("retry-after" in refused.headers) == (status != 400)
    told = (await client.get(USAGE, params=asked)).json()
    assert (told["complete"], told["live"]) == (False, [])
    assert sum("did not answer: Fal is away." in note for note in told["notes"]) == 2, "of each account"
    await responder.close()


async def test_balances_budgets_and_forecasts_are_those_that_were_published(
    serve: Serve, application: Make, publication: Callable[..., Publication]
) -> None:
    served = application()
    client = await serve(served)
    served.publish(publication(1))
    assert (await client.get("/v1/billing/budgets")).json()["budgets"] == []
    assert (await client.get("/v1/billing/balance")).status_code == 503  # no account is known yet


async def test_of_a_question_that_is_asked_for_weeks_the_latest_answer_is_kept(
    serve: Serve, application: Make, publication: Callable[..., Publication]
) -> None:
    served = application()
    client = await serve(served)
    month = Window(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
    for number in range(1, 21):
        accounts = (AccountOutlook("studio", month, number * NANO, NOW),)
        served.publish(replace(publication(number), outlook=Outlook(accounts)))
        await client.get("/v1/billing/balance")
    gc.collect()
    assert sum(isinstance(item, Answer) for item in gc.get_objects()) < 10


async def test_a_balance_is_that_of_the_latest_publication(
    serve: Serve, application: Make, publication: Callable[..., Publication]
) -> None:
    served = application()
    client = await serve(served)
    month = Window(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
    for number in (1, 2):
        accounts = (AccountOutlook("studio", month, number * NANO, NOW),)
        served.publish(replace(publication(number), outlook=Outlook(accounts)))
        answer = await client.get("/v1/billing/balance")
        assert answer.json()["accounts"][0]["balance"] == number


async def test_what_no_figure_has_is_said_beside_figures_and_only_as_long_as_it_is_so(
    serve: Serve, application: Make, publication: Callable[..., Publication], ledger: Ledger
) -> None:
    del ledger
    served = application()
    client = await serve(served)
    words = "The charges of compute machines are not in these figures: this key cannot read compute."
    read = SourceOverview("models", "", "up", NOW, NOW)
    month = Window(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
    ahead = Outlook(
        (AccountOutlook("studio", month), AccountOutlook("research", month)),
        (BudgetOutlook("all", "month", month, NANO, {}),),
    )
    paths = ("usage", "drivers", "forecast", "budgets")
    for number, lacks in enumerate(((), (words,), ()), 1):
        accounts = (AccountOverview("studio", (read,), lacks=lacks), AccountOverview("research", (read,)))
        served.publish(replace(publication(number, overview=Overview("1", accounts)), outlook=ahead))
        for path in paths:
            for account, told in (("", True), ("studio", True), ("research", False)):
                if account and path == "budgets":
                    continue
                query = {"account": account} if account else {}
                notes = (await client.get(f"/v1/billing/{path}", params=query)).raise_for_status().json()["notes"]
                assert (f"studio: {words}" in notes) == bool(lacks and told), (path, account)


async def test_what_no_figure_has_is_said_when_it_was_published_while_the_ledger_was_read(
    serve: Serve, application: Make, publication: Callable[..., Publication], ledger: Ledger
) -> None:
    del ledger
    words = "The charges of compute machines are not in these figures: this key cannot read compute."
    read = SourceOverview("models", "", "up", NOW, NOW)

    def publish(number: int, *lacks: str) -> None:
        accounts = (AccountOverview("studio", (read,), lacks=lacks),)
        served.publish(publication(number, overview=Overview("1", accounts)))

    def reader(address: str) -> LedgerReader:
        publish(2, words)
        return LedgerReader(address)

    served = application(reader=reader)
    client = await serve(served)
    publish(1)
    assert (await client.get(USAGE)).raise_for_status().json()["total"]["spend"] > 0
    assert f"studio: {words}" in (await client.get(USAGE)).json()["notes"]


async def test_the_ledger_is_opened_once(serve: Serve, application: Make, ledger: Ledger) -> None:
    del ledger
    opened: list[str] = []

    def reader(address: str) -> LedgerReader:
        opened.append(address)
        return LedgerReader(address)

    client = await serve(application(reader=reader))
    assert opened == []
    await asyncio.gather(*(client.get(path) for path in (USAGE, "/v1/billing/invoices", f"{USAGE}?group_by=model")))
    assert len(opened) == 1


@pytest.mark.parametrize("path", [*JSON_CALLS[:2], "/openapi.json", "/docs"])
async def test_head_has_the_headers_of_get_and_no_body(client: httpx.AsyncClient, path: str) -> None:
    get, head = await client.get(path), await client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert {**get.headers, "date": ""} == {**head.headers, "date": ""}


async def test_an_error_to_head_has_no_body(client: httpx.AsyncClient) -> None:
    answer = await client.head(USAGE, params={"start": "x"})
    assert (answer.status_code, answer.content) == (400, b"")


async def test_an_unchanged_answer_is_304_until_the_ledger_says_otherwise(
    client: httpx.AsyncClient, ledger: Ledger
) -> None:
    first = await client.get(USAGE, params=WINDOW)
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "private, no-cache"
    for held in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = await client.get(USAGE, params=WINDOW, headers={"if-none-match": held})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    assert (await client.get(USAGE, params=WINDOW, headers={"if-none-match": '"other"'})).status_code == 200
    ledger.restate("research", "serverless", HISTORY, charges_of(APP, 10), at=NOW)
    changed = await client.get(USAGE, params=WINDOW, headers={"if-none-match": tag})
    assert changed.status_code == 200
    assert changed.json()["total"]["spend"] > first.json()["total"]["spend"]


async def test_gzip_is_the_same_smaller_and_tagged_apart(client: httpx.AsyncClient) -> None:
    parameters = WINDOW | {"group_by": "hour,model"}
    plain = await client.get(USAGE, params=parameters, headers={"accept-encoding": "identity"})
    async with client.stream("GET", USAGE, params=parameters, headers={"accept-encoding": "gzip"}) as packed:
        raw = b"".join([piece async for piece in packed.aiter_raw()])
    assert gzip.decompress(raw) == plain.content
    assert int(packed.headers["content-length"]) == len(raw) < len(plain.content) / 5
    assert packed.headers["etag"] != plain.headers["etag"]
    assert "Accept-Encoding" in plain.headers["vary"]
    held = {"if-none-match": packed.headers["etag"], "accept-encoding": "identity"}
    assert (await client.get(USAGE, params=parameters, headers=held)).status_code == 304


async def test_the_same_question_is_answered_from_the_ledger_once(
    serve: Serve, application: Make, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    unwatched = LedgerSnapshot.invoices

    def invoices(snapshot: LedgerSnapshot) -> tuple[Invoice, ...]:
        read.append(snapshot)
        return unwatched(snapshot)

    monkeypatch.setattr(LedgerSnapshot, "invoices", invoices)
    client = await serve(application())
    answers = await asyncio.gather(*(client.get("/v1/billing/invoices") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(read) == 1
    ledger.restate("research", "serverless", HISTORY, charges_of(APP, 10), at=NOW + timedelta(minutes=1))
    await client.get("/v1/billing/invoices")
    assert len(read) == 2


async def test_a_question_asked_again_is_answered_without_the_ledger_or_its_parameters(
    client: httpx.AsyncClient, ledger: Ledger, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = address.removeprefix("sqlite:///")
    longer_ago = time.time() - 60
    for path in (file, f"{file}-wal"):
        os.utime(path, (longer_ago, longer_ago))
    first = await client.get(USAGE, params=WINDOW)
    with monkeypatch.context() as patch:
        patch.setattr(LedgerReader, "snapshot", None)
        patch.setattr("exporter.web.rest.application.Given", None)
        again = await client.get(USAGE, params=WINDOW)
        assert (again.status_code, again.content) == (200, first.content)
        other = await client.get(USAGE, params=WINDOW | {"group_by": "model"})
        assert other.status_code == 500
    ledger.restate("research", "serverless", HISTORY, charges_of(APP, 10), at=NOW)
    assert (await client.get(USAGE, params=WINDOW)).json()["total"]["spend"] > first.json()["total"]["spend"]


async def test_a_question_whose_caller_has_left_is_not_answered(
    serve: Serve, application: Make, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    del ledger
    asked, begun, go = [], threading.Event(), threading.Event()

    def held(snapshot: LedgerSnapshot, *_: object, **__: object) -> tuple[()]:
        asked.append(snapshot)
        begun.set()
        assert go.wait(10)
        return ()

    monkeypatch.setattr(LedgerSnapshot, "usage", held)
    withdraw, withdrawn = Question.withdraw, threading.Event()

    def note(question: Question[Answer]) -> None:
        withdraw(question)
        withdrawn.set()

    monkeypatch.setattr(Question, "withdraw", note)
    client = await serve(application())
    first = asyncio.create_task(client.get(USAGE, params={**WINDOW, "group_by": "model"}))
    assert await asyncio.to_thread(begun.wait, 10)
    with pytest.raises(httpx.ReadTimeout):
        await client.get(USAGE, params={**WINDOW, "group_by": "app"}, timeout=0.3)
    assert await asyncio.to_thread(withdrawn.wait, 10)
    last = asyncio.create_task(client.get(USAGE, params={**WINDOW, "group_by": "team"}))
    go.set()
    assert [(await answer).status_code for answer in (first, last)] == [200, 200]
    assert len(set(map(id, asked))) == 2


async def test_what_the_ledger_is_asked_ends_within_the_database_when_the_caller_leaves(
    serve: Serve, application: Make, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    del ledger
    usage, ended = LedgerSnapshot.usage, threading.Event()

    def ask_long(snapshot: LedgerSnapshot, *_: object, **__: object) -> tuple[()]:
        monkeypatch.setattr(LedgerSnapshot, "usage", usage)
        try:
            snapshot._connection.exec_driver_sql(LONG_STATEMENTS["sqlite"]).scalar()
        except Exception:
            ended.set()
            raise
        return ()

    monkeypatch.setattr(LedgerSnapshot, "usage", ask_long)
    client = await serve(application())
    with pytest.raises(httpx.ReadTimeout):
        await client.get(USAGE, params={**WINDOW, "group_by": "app"}, timeout=0.3)
    assert await asyncio.to_thread(ended.wait, 10)
    assert (await client.get(USAGE, params={**WINDOW, "group_by": "app"})).status_code == 200


async def test_an_answer_that_takes_too_long_is_given_up_within_the_database(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask_long(snapshot: LedgerSnapshot, *_: object, **__: object) -> None:
        snapshot._connection.exec_driver_sql(LONG_STATEMENTS["sqlite"]).scalar()

    monkeypatch.setattr(LedgerSnapshot, "usage", ask_long)
    monkeypatch.setattr(question_queue, "LONGEST_SECONDS", 0.05)
    refused = await client.get(USAGE, params=WINDOW)
    assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
    assert "ask for a shorter window" in error(refused)["message"]


async def test_questions_of_a_kind_are_known_to_take_about_as_long(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, kinds = QuestionQueue.ask, []

    def note(queue: QuestionQueue[Answer], kind: object, make: Callable[[Check], Answer]) -> Question[Answer]:
        kinds.append(kind)
        return ask(queue, kind, make)

    monkeypatch.setattr(QuestionQueue, "ask", note)
    for start, by in (("11-01", "model"), ("11-02", "model"), ("11-02", "hour"), ("10-30", "model")):
        (
            await client.get(USAGE, params={"start": f"2026-{start}", "end": "2026-11-03", "group_by": by})
        ).raise_for_status()
    day, another, by_hour, days = kinds
    assert by_hour not in {day, another}
    assert days not in {day, another}
    await client.get("/v1/billing/invoices")
    assert kinds[-1] == ("/v1/billing/invoices",)


async def test_a_window_that_follows_the_clock_moves_as_the_hour_turns(
    serve: Serve, application: Make, ledger: Ledger
) -> None:
    del ledger
    now = NOW
    client = await serve(application(clock=lambda: now))
    first = (await client.get(USAGE)).json()
    now += timedelta(hours=1)
    second = (await client.get(USAGE)).json()
    assert datetime.fromisoformat(second["end"]) - datetime.fromisoformat(first["end"]) == timedelta(hours=1)


async def test_who_fails_tells_the_log_and_not_the_caller(
    serve: Serve,
    application: Make,
    ledger: Ledger,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def scopes(snapshot: LedgerSnapshot) -> tuple[()]:
        raise RuntimeError(f"a secret thing of {snapshot}")

    del ledger, caplog
    monkeypatch.setattr(LedgerSnapshot, "scopes", scopes)
    answer = await (await serve(application())).get(USAGE)
    assert (answer.status_code, error(answer)["type"]) == (500, "server_error")
    assert "secret" not in answer.text


async def test_a_focus_file_is_streamed_and_adds_up(client: httpx.AsyncClient) -> None:
    parameters = {"start": "2026-10-30", "end": "2026-11-03T11:00Z", "timeframe": "month", "live": "false"}
    answer = await client.get("/v1/billing/focus", params=parameters)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="focus-20261001T000000Z-20261201T000000Z.csv"'
    # October before the ledger begins, and the running hour.
    assert answer.headers["fal-exporter-missing-hours"] == str(29 * 24 + 1)
    assert answer.headers["fal-exporter-answered-by"] == "ledger"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert sum(Decimal(row["BilledCost"]) for row in rows) == HOURS * Decimal("1.44")
    head = await client.head("/v1/billing/focus", params=parameters)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["fal-exporter-missing-hours"] == str(29 * 24 + 1)


async def test_only_so_many_files_are_written_at_once(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(client.get(ESTIMATE) for _ in range(MOST_AT_ONCE + 2)))
    assert sorted(answer.status_code for answer in answers) == [200] * MOST_AT_ONCE + [429] * 2
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert error(refused)["type"] == "rate_limited"
    assert refused.headers["retry-after"]
    assert (await client.get(ESTIMATE)).status_code == 200


async def test_web_pages_of_other_origins_may_ask_only_if_configured(
    client: httpx.AsyncClient, serve: Serve, application: Make
) -> None:
    origin = {"origin": "https://finops.example.com"}
    assert "access-control-allow-origin" not in (await client.get(USAGE, headers=origin)).headers
    open_one = await serve(application(cors_origins=("https://finops.example.com",)))
    answer = await open_one.get(USAGE, headers=origin)
    assert answer.headers["access-control-allow-origin"] == "https://finops.example.com"
    readable = answer.headers["access-control-expose-headers"].lower()
    assert set(readable.split(", ")) == {"etag", "retry-after", "www-authenticate", *FOCUS_HEADERS}
    leave = {**origin, "access-control-request-method": "GET", "access-control-request-headers": "authorization"}
    assert (await open_one.options(USAGE, headers=leave)).status_code == 200
    stranger = await open_one.get(USAGE, headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in stranger.headers


async def test_scrapes_and_probes_do_not_depend_on_the_ledger(serve: Serve, application: Make) -> None:
    client = await serve(application(reader=lambda _: pytest.fail("the ledger is not asked")))
    for path in ("/metrics", "/", "/-/healthy"):
        assert (await client.get(path)).status_code == 200


@pytest.fixture
def ways() -> Iterator[set[tuple[str, ...]]]:
    """Collect the modules of the exporter that lead to each SQL statement, from the outermost on."""
    found: set[tuple[str, ...]] = set()

    def note(*_: object) -> None:
        names = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_stack(None)]
        modules = [name for name, _ in groupby(name for name in names[::-1] if name.startswith("exporter."))]
        # The thread that it runs in is no part of the way.
        found.add(tuple(modules[1:] if modules[0] == "exporter.web.rest.question_queue" else modules))

    event.listen(Engine, "before_cursor_execute", note)
    yield found
    event.remove(Engine, "before_cursor_execute", note)


@pytest.mark.parametrize("call", ["usage?group_by=model,day", "invoices"])
async def test_a_question_passes_at_most_five_modules_from_its_route_to_sql(
    client: httpx.AsyncClient, ways: set[tuple[str, ...]], call: str
) -> None:
    assert (await client.get(f"/v1/billing/{call}")).status_code == 200
    assert any(way[0] == "exporter.web.rest.application" and len(way) == 5 for way in ways)
    assert not [way for way in ways if len(way) > 5]
