import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from html import unescape
from urllib.parse import urljoin, urlsplit

import httpx
import pytest

from exporter.overview import AccountOverview, LedgerOverview, Overview
from exporter.publication import Publication
from exporter.web.application import HEALTHY_WITHOUT_LEDGER, NOT_READY, UNHEALTHY, Application

Publish = Callable[..., Publication]
Serve = Callable[[Application], Awaitable[httpx.AsyncClient]]


async def test_it_is_unhealthy_while_a_restart_would_help_the_collector(serve: Serve) -> None:
    problems = ["the collector has ended 5 times in a row", ""]
    client = await serve(Application(collector_problem=lambda: problems.pop(0)))
    answer = await client.get("/-/healthy")
    assert (answer.status_code, answer.text) == (
        503,
        "unhealthy: the collector has ended 5 times in a row; restart the exporter\n",
    )
    assert (await client.get("/-/healthy")).status_code == 200


@pytest.mark.parametrize("path", ["/-/healthy", "/healthz"])
async def test_the_process_is_healthy_while_it_lives(serve: Serve, path: str) -> None:
    answer = await (await serve(Application())).get(path)
    assert (answer.status_code, answer.text) == (200, "healthy\n")
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("ledger", "status", "text"),
    [
        (LedgerOverview(events=("it was deleted and written anew",)), 200, "healthy\n"),
        (LedgerOverview("another file /data/x has its place", restart_helps=True), 503, UNHEALTHY),
        (LedgerOverview("the file /data/x is lost"), 200, HEALTHY_WITHOUT_LEDGER),
    ],
)
async def test_without_its_ledger_it_is_healthy_unless_a_restart_would_help(
    serve: Serve, publication: Publish, ledger: LedgerOverview, status: int, text: str
) -> None:
    application = Application()
    client = await serve(application)
    made = publication(1, ready=True)
    application.publish(replace(made, overview=replace(made.overview, ledger=ledger)))
    answer = await client.get("/-/healthy")
    assert (answer.status_code, answer.text) == (status, text)
    assert "/data/x" not in answer.text, "everybody may ask the probes"


@pytest.mark.parametrize("path", ["/-/ready", "/readyz"])
async def test_readiness_comes_with_the_first_ready_publication_and_stays(
    serve: Serve, publication: Publish, path: str
) -> None:
    application = Application()
    client = await serve(application)
    answers = [await client.get(path)]
    for number, ready in enumerate((False, True, False)):
        application.publish(publication(number, ready=ready))
        answers.append(await client.get(path))
    assert [answer.status_code for answer in answers] == [503, 503, 200, 200]
    assert {answer.headers["cache-control"] for answer in answers} == {"no-store"}
    assert answers[0].text == NOT_READY
    assert answers[2].text == "ready\n"


async def test_what_is_not_there_is_answered_in_two_words(serve: Serve) -> None:
    client = await serve(Application())
    answer = await client.get("/metrics/")
    assert (answer.status_code, answer.text) == (404, "Not Found")
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("path", ["/", "/healthz", "/-/ready"])
async def test_a_wrong_method_is_told_the_right_ones(serve: Serve, path: str) -> None:
    answer = await (await serve(Application())).post(path)
    assert (answer.status_code, answer.text) == (405, "Method Not Allowed")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


async def test_the_landing_page_is_at_the_root(serve: Serve, publication: Publish) -> None:
    application = Application()
    client = await serve(application)
    application.publish(publication())
    answer = await client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "version 1.2.3" in answer.text


async def test_many_scrapers_at_once_are_all_answered(serve: Serve, publication: Publish) -> None:
    application = Application()
    client = await serve(application)
    application.publish(publication(series=2000))
    answers = await asyncio.gather(*(client.get("/metrics") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text.count("fal_credit_balance_usd{") for answer in answers}) == 1


async def test_a_proxy_may_serve_it_under_a_prefix_that_it_removes(serve: Serve, publication: Publish) -> None:
    accounts = tuple(AccountOverview(name, ()) for name in ("studio", "research"))
    application = Application(rest=None)
    application.publish(publication(overview=Overview("1.2.3", accounts)))
    client = await serve(application)
    page = (await client.get("/", params={"account": "stu", "refresh": "5"})).text
    addresses = re.findall(r'(?:href|action)="(?!data:)([^"]*)"', page)
    paths = {urlsplit(urljoin("https://tools.example/fal/", unescape(address))).path for address in addresses}
    assert {"/fal/", "/fal/metrics", "/fal/docs", "/fal/-/ready"} <= paths
    for path in paths - {"/fal/docs"}:
        assert path.startswith("/fal/")
        assert (await client.get(path.removeprefix("/fal"))).status_code == 200
