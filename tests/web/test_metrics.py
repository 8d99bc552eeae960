import asyncio
import gzip
import io
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import httpx
import pytest
from metrics.protobuf_reader import families, value_of
from prometheus_client.openmetrics.parser import text_fd_to_metric_families as read_openmetrics
from prometheus_client.parser import text_fd_to_metric_families as read_text

from exporter.metrics.catalogue import CATALOGUE
from exporter.publication import Publication
from exporter.web.application import Application
from exporter.web.metrics import Tail
from exporter.web.negotiation import Variant

AT = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)


def lines(tail: Tail) -> dict[str, float]:
    text = tail.rendered().text.decode()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in text.splitlines()) if name[0] != "#"
    }


def test_it_tells_the_version_and_the_process_from_the_start() -> None:
    found = lines(Tail(version="1.2.3", collector=lambda: None))
    assert found['fal_exporter_build_info{version="1.2.3"}'] == 1
    assert found["fal_exporter_ready"] == 0
    assert found["process_cpu_seconds_total"] > 0
    assert any(name.startswith("python_info{") for name in found)
    assert "fal_exporter_snapshot_timestamp_seconds" not in found


def test_every_variant_of_a_scrape_is_counted_from_zero() -> None:
    tail = Tail(version="1.2.3", collector=lambda: None)
    tail.scraped(Variant("openmetrics", gzip=True))
    scrapes = {name: value for name, value in lines(tail).items() if name.startswith("fal_exporter_scrapes_total")}
    assert len(scrapes) == 6
    assert sum(scrapes.values()) == 1
    assert scrapes['fal_exporter_scrapes_total{encoding="gzip",format="openmetrics"}'] == 1


def test_a_publication_moves_the_stamp_and_readiness() -> None:
    tail = Tail(version="1.2.3", collector=lambda: None)
    tail.published(AT, ready=True)
    found = lines(tail)
    assert found["fal_exporter_snapshot_timestamp_seconds"] == AT.timestamp()
    assert found["fal_exporter_ready"] == 1


def test_the_collectors_process_is_measured_under_its_own_name() -> None:
    found = lines(Tail(version="1.2.3", collector=os.getpid))
    assert found["fal_exporter_collector_process_resident_memory_bytes"] > 0


def test_a_collector_that_is_gone_leaves_no_trace() -> None:
    assert not any("collector_process" in name for name in lines(Tail(version="1.2.3", collector=lambda: 2**22 + 1)))


def test_help_is_the_catalogues() -> None:
    text = Tail(version="1.2.3", collector=lambda: None).rendered().text.decode()
    for name in ("fal_exporter_build_info", "fal_exporter_ready", "fal_exporter_scrapes_total"):
        assert f"# HELP {name} {CATALOGUE[name].help}\n" in text


PROTOBUF = {"accept": "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"}
OPENMETRICS = {"accept": "application/openmetrics-text;version=1.0.0"}
PLAIN = {"accept-encoding": "identity"}

Publish = Callable[..., Publication]
Serve = Callable[[Application], Awaitable[httpx.AsyncClient]]


async def raw(client: httpx.AsyncClient, headers: dict[str, str]) -> tuple[httpx.Response, bytes]:
    async with client.stream("GET", "/metrics", headers=headers) as answer:
        return answer, b"".join([part async for part in answer.aiter_raw()])


async def test_before_the_first_publication_the_exporter_tells_of_itself(serve: Serve) -> None:
    client = await serve(Application())
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert "fal_exporter_build_info{" in answer.text
    assert "process_cpu_seconds_total" in answer.text


async def test_a_scrape_is_the_publication_followed_by_the_exporters_own_families(
    serve: Serve, publication: Publish
) -> None:
    application = Application()
    client = await serve(application)
    application.publish(publication(7, series=3))
    answer = await client.get("/metrics")
    found = {metric.name: metric for metric in read_text(io.StringIO(answer.text, newline="\n"))}
    assert [sample.value for sample in found["fal_credit_balance_usd"].samples] == [7.0, 7.0, 7.0]
    assert found["fal_exporter_build_info"].samples
    assert next(iter(found)) == "fal_credit_balance_usd"


@pytest.mark.parametrize("headers", [{}, {"accept": "*/*"}, {"x-agent": "application/openmetrics-text, gzip"}])
async def test_who_asks_for_nothing_else_gets_the_text_format_as_it_is(serve: Serve, headers: dict[str, str]) -> None:
    answer, body = await raw(await serve(Application()), {**PLAIN, **headers})
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b"# EOF" not in body
    assert body.decode().startswith("# HELP ")


async def test_openmetrics_ends_once_and_reads(serve: Serve, publication: Publish) -> None:
    application = Application()
    client = await serve(application)
    application.publish(publication())
    answer = await client.get("/metrics", headers=OPENMETRICS)
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert answer.text.endswith("\n# EOF\n")
    names = [metric.name for metric in read_openmetrics(io.StringIO(answer.text, newline="\n"))]
    assert "fal_credit_balance_usd" in names
    assert "fal_exporter_scrapes" in names


@pytest.mark.parametrize("accept", [{}, OPENMETRICS])
@pytest.mark.parametrize("series", [0, 2, 5000])
async def test_gzip_and_identity_say_the_same(
    serve: Serve, publication: Publish, accept: dict[str, str], series: int
) -> None:
    application = Application(tail_interval=3600)
    client = await serve(application)
    application.publish(publication(series=series))
    plain, plain_bytes = await raw(client, {**accept, **PLAIN})
    packed, packed_bytes = await raw(client, {**accept, "accept-encoding": "gzip"})
    assert gzip.decompress(packed_bytes) == plain_bytes
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) == len(packed_bytes)
    assert "content-encoding" not in plain.headers
    assert int(plain.headers["content-length"]) == len(plain_bytes)


async def test_caches_are_told_what_the_answer_depends_on_and_not_to_keep_it(serve: Serve) -> None:
    answer = await (await serve(Application())).get("/metrics")
    assert answer.headers["vary"] == "Accept, Accept-Encoding"
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers


async def test_a_header_sent_twice_counts_as_one_list(serve: Serve) -> None:
    client = await serve(Application())
    headers = [("accept", "text/html"), ("accept", "application/openmetrics-text")]
    answer = await client.get("/metrics", headers=headers)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")


async def test_head_has_the_headers_of_get_and_no_body(serve: Serve, publication: Publish) -> None:
    application = Application(tail_interval=3600)
    client = await serve(application)
    application.publish(publication())
    get, head = await client.get("/metrics", headers=PLAIN), await client.head("/metrics", headers=PLAIN)
    assert head.content == b""
    without_date = [{**answer.headers, "date": ""} for answer in (get, head)]
    assert without_date[0] == without_date[1]
    assert (await client.get("/metrics")).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_other_methods_are_told_which_to_use(serve: Serve, method: str) -> None:
    answer = await (await serve(Application())).request(method, "/metrics")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"
    assert answer.text == "use GET or HEAD\n"


async def test_each_publication_is_reported_once_when_a_scrape_has_had_it(serve: Serve, publication: Publish) -> None:
    scraped: list[int] = []
    application = Application(on_scrape=scraped.append)
    client = await serve(application)
    await client.get("/metrics")
    application.publish(publication(4))
    await client.head("/metrics")
    assert scraped == []
    for _ in range(3):
        await client.get("/metrics")
    application.publish(publication(5))
    application.publish(publication(6))
    await client.get("/metrics")
    assert scraped == [4, 6]


async def test_the_tail_keeps_being_read_and_counts_scrapes(serve: Serve) -> None:
    client = await serve(Application(tail_interval=0.01))
    await client.get("/metrics", headers=PLAIN)

    async def counted() -> None:
        line = 'fal_exporter_scrapes_total{encoding="identity",format="text"} 0.0\n'
        while line in (await client.get("/metrics", headers=PLAIN)).text:
            pass

    await asyncio.wait_for(counted(), 10)


async def test_a_new_publication_does_not_touch_an_answer_under_way(serve: Serve, publication: Publish) -> None:
    application = Application()
    client = await serve(application)
    application.publish(publication(1, series=50_000))
    async with client.stream("GET", "/metrics", headers=PLAIN) as answer:
        parts = answer.aiter_raw()
        first = await anext(parts)
        application.publish(publication(2, series=3))
        body = first + b"".join([part async for part in parts])
    assert body.count(b"} 1.0\n") >= 50_000
    assert b"} 2.0\n" not in body.replace(b"python", b"")[: 50_000 * 30]


async def test_repeated_scrapes_send_the_same_bytes_not_copies(publication: Publish) -> None:
    application = Application(tail_interval=3600)
    application.publish(publication(series=5000))
    sent: list[list[object]] = []

    for _ in range(2):
        bodies: list[object] = []

        async def send(message: dict[str, object], bodies: list[object] = bodies) -> None:
            bodies.append(message.get("body"))

        scope = {"type": "http", "method": "GET", "path": "/metrics", "headers": [(b"accept-encoding", b"gzip")]}
        await application(scope, None, send)  # type: ignore[arg-type]  # a scrape receives nothing
        sent.append(bodies)
    assert len(sent[0]) == 2
    assert all(one is other for one, other in zip(*sent, strict=True))


async def test_protobuf_is_the_publication_and_the_exporters_own_families_in_both_encodings(
    serve: Serve, publication: Publish
) -> None:
    application = Application()
    client = await serve(application)
    application.publish(publication(7, series=3, protobuf=True))
    answer, body = await raw(client, {**PROTOBUF, **PLAIN})
    assert answer.headers["content-type"] == (
        "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
    )
    found = {family.name: family for family in families(body)}
    assert [value_of(metric) for metric in found["fal_credit_balance_usd"].metric] == [7.0, 7.0, 7.0]
    assert "process_cpu_seconds_total" in found
    packed, again = await raw(client, {**PROTOBUF, "accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert [family.name for family in families(gzip.decompress(again))] == list(found)


async def test_who_asks_for_protobuf_first_has_it_made_and_gets_what_it_likes_second(
    serve: Serve, publication: Publish
) -> None:
    asked: list[bool] = []
    application = Application(on_protobuf=lambda: asked.append(True))
    client = await serve(application)
    headers = {"accept": f"{PROTOBUF['accept']},application/openmetrics-text;version=1.0.0;q=0.5"}
    assert (await raw(client, headers))[0].headers["content-type"].startswith("application/openmetrics-text")
    assert not asked
    application.publish(publication(7))
    for _ in range(2):
        assert (await raw(client, headers))[0].headers["content-type"].startswith("application/openmetrics-text")
        assert (await raw(client, PROTOBUF))[0].headers["content-type"].startswith("text/plain")
    assert asked == [True]
    application.publish(publication(8, protobuf=True))
    assert (await raw(client, headers))[0].headers["content-type"].startswith("application/vnd.google.protobuf")
    assert asked == [True]
