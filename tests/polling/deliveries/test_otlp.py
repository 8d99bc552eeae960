"""Metrics by OTLP, over HTTP and gRPC, as a receiver and a real store read them."""

import gzip
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest
from e2e.processes import free_port, running
from local_http import HTTP
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as messages
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as services
from programs import NEWER_RULERS
from prometheus_client import CollectorRegistry

from exporter.charges import NANO
from exporter.errors import ConfigurationError
from exporter.metrics.catalogue import CATALOGUE
from exporter.metrics.jobs import OtlpMetrics
from exporter.metrics.snapshot import Snapshot, Table
from exporter.polling.deliveries.otlp import OtlpError, OtlpPusher, attribute_name, exporter_for
from exporter.samples import Sample, paged

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
BORN = AT - timedelta(days=40, microseconds=5)
LABELS = ("account", "model", "app", "environment")


def snapshot(at: datetime = AT, born: datetime = BORN, series: int = 1) -> Snapshot:
    spend = [Sample(("studio", f"fal-ai/flux/{number}", "", ""), 3 * NANO // 2, born) for number in range(series)]
    own = Sample(("studio", "", "shop", "prod"), 7, born)
    month = Sample(("studio", "fal-ai/flux/0", "", ""), -NANO)
    tables = (
        Table(CATALOGUE["fal_spend_usd_total"], LABELS, paged([*spend, own])),
        Table(CATALOGUE["fal_spend_month_to_date_usd"], LABELS, paged([month])),
        Table(CATALOGUE["fal_counter_pending_usd"], LABELS, paged([month])),
        Table(CATALOGUE["fal_gpu_seconds_total"], LABELS, ()),
        Table(CATALOGUE["fal_source_up"], ("account", "source"), paged([Sample(("studio", "models"), value=True)])),
    )
    return Snapshot(1, at, tables)


@dataclass
class Receiver:
    """A receiver of both protocols, which refuses as long as it is told to."""

    http: str = ""
    grpc: str = ""
    refuses: bool = False
    requests: list[messages.ExportMetricsServiceRequest] = field(default_factory=list)

    def points(self) -> dict[tuple[str, str], tuple[int, int, float, dict[str, str]]]:
        """Return start, time, value and attributes of every point, by metric and model."""
        found = {}
        for request in self.requests:
            for metric in request.resource_metrics[0].scope_metrics[0].metrics:
                data = metric.sum if metric.HasField("sum") else metric.gauge
                for point in data.data_points:
                    named = {item.key: item.value.string_value for item in point.attributes}
                    key = metric.name, named.get("gen_ai.request.model", "")
                    assert key not in found
                    found[key] = point.start_time_unix_nano, point.time_unix_nano, point.as_double, named
        return found


@pytest.fixture
def otlp_receiver() -> Iterator[Receiver]:
    made = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/metrics"
            body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            self.send_response(400 if made.refuses else 200)
            self.end_headers()
            if not made.refuses:
                made.requests.append(messages.ExportMetricsServiceRequest.FromString(body))

        def log_message(self, *_: object) -> None:
            pass

    class Service(services.MetricsServiceServicer):
        def Export(  # noqa: N802  the name of the call
            self, request: messages.ExportMetricsServiceRequest, context: grpc.ServicerContext
        ) -> messages.ExportMetricsServiceResponse:
            if made.refuses:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not today")
            made.requests.append(request)
            return messages.ExportMetricsServiceResponse()

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    server = grpc.server(ThreadPoolExecutor(1))
    services.add_MetricsServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    made.http, made.grpc = f"http://127.0.0.1:{http.server_port}/v1/metrics", f"http://127.0.0.1:{port}"
    yield made
    server.stop(0).wait()
    http.shutdown()
    thread.join()
    http.server_close()


def pusher_to(
    url: str, protocol: str, shown: Snapshot | None, registry: CollectorRegistry, taken: list[int] | None = None
) -> OtlpPusher:
    async def pushed(sequence: int) -> None:
        if taken is not None:
            taken.append(sequence)

    return OtlpPusher(
        url,
        protocol,
        snapshot=lambda: shown,
        pushed=pushed,
        metrics=OtlpMetrics(registry),
        changed=lambda: None,
        clock=lambda: AT,
    )


@pytest.mark.parametrize("protocol", ["http", "grpc"])
async def test_counters_have_the_start_of_the_ledger_and_attributes_their_conventional_names(
    otlp_receiver: Receiver, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod")
    registry = CollectorRegistry()
    pusher = pusher_to(getattr(otlp_receiver, protocol), protocol, snapshot(), registry)
    await pusher.push()
    points = otlp_receiver.points()
    start, at = (int(instant.timestamp()) * 10**9 + instant.microsecond * 1000 for instant in (BORN, AT))
    model = {"gen_ai.request.model": "fal-ai/flux/0", "gen_ai.provider.name": "fal", "fal.account": "studio"}
    app = {"fal.account": "studio", "fal.app": "shop", "deployment.environment.name": "prod"}
    assert points == {
        ("fal_spend_usd", "fal-ai/flux/0"): (start, at, 1.5, model),
        ("fal_spend_usd", ""): (start, at, 7e-9, app),
        ("fal_spend_month_to_date_usd", "fal-ai/flux/0"): (0, at, -1.0, model),
        ("fal_source_up", ""): (0, at, 1.0, {"fal.account": "studio", "fal.source": "models"}),
    }
    (request,) = otlp_receiver.requests
    resource = {item.key: item.value.string_value for item in request.resource_metrics[0].resource.attributes}
    assert resource["service.name"] == "fal-exporter"
    assert resource["deployment.environment.name"] == "prod"
    assert "service.instance.id" not in resource, "series go on after a restart"
    spend = request.resource_metrics[0].scope_metrics[0].metrics[0]
    assert (spend.unit, spend.sum.is_monotonic, spend.sum.aggregation_temporality) == ("{USD}", True, 2)
    assert registry.get_sample_value("fal_otlp_up") == 1
    assert registry.get_sample_value("fal_otlp_points_total") == 4
    await pusher.close()


async def test_many_points_are_sent_in_several_requests(otlp_receiver: Receiver) -> None:
    pusher = pusher_to(otlp_receiver.grpc, "grpc", snapshot(series=9000), CollectorRegistry())
    await pusher.push()
    assert len(otlp_receiver.requests) == 3
    assert len(otlp_receiver.points()) == 9003
    await pusher.close()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
async def test_a_refusal_is_told_and_the_next_push_goes_on(otlp_receiver: Receiver, protocol: str) -> None:
    registry = CollectorRegistry()
    taken: list[int] = []
    pusher = pusher_to(getattr(otlp_receiver, protocol), protocol, snapshot(), registry, taken)
    otlp_receiver.refuses = True
    with pytest.raises(OtlpError, match=r"metrics cannot be sent to http://127.*: .*(400|not today|INVALID)"):
        await pusher.push()
    assert (registry.get_sample_value("fal_otlp_up"), registry.get_sample_value("fal_otlp_failures_total")) == (0, 1)
    assert not taken, "a new counter must not show its value before a receiver has its 0"
    otlp_receiver.refuses = False
    await pusher.push()
    assert taken == [1]
    assert registry.get_sample_value("fal_otlp_up") == 1
    await pusher.close()


async def test_nothing_is_sent_before_there_is_a_snapshot(otlp_receiver: Receiver) -> None:
    registry = CollectorRegistry()
    pusher = pusher_to(otlp_receiver.http, "http", None, registry)
    await pusher.push()
    assert (otlp_receiver.requests, registry.get_sample_value("fal_otlp_up")) == ([], None)
    await pusher.close()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_extra_that_is_not_installed_is_told_in_a_sentence(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, f"opentelemetry.exporter.otlp.proto.{protocol}.metric_exporter", None)
    with pytest.raises(ConfigurationError, match=r"install fal-exporter\[otlp\]"):
        exporter_for("http://127.0.0.1:1", protocol)


def test_a_tag_is_an_attribute_of_its_own() -> None:
    assert [attribute_name(label) for label in ("tag_customer", "gpu_class", "model")] == [
        "fal.tag.customer",
        "fal.gpu_class",
        "gen_ai.request.model",
    ]


@pytest.mark.long
async def test_a_real_store_has_the_names_that_are_scraped(program: Callable[[str, str], str], tmp_path: Path) -> None:
    """Prometheus 3 as Debian has it is built without its receiver; VictoriaMetrics is asked for Prometheus's names."""
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        program("victoria-metrics", NEWER_RULERS),
        f"-storageDataPath={tmp_path / 'data'}",
        f"-httpListenAddr={url.removeprefix('http://')}",
        "-opentelemetry.usePrometheusNaming",
    ]
    with running(command, url, "/health", tmp_path):
        now = snapshot(datetime.now(UTC) - timedelta(minutes=1), series=2)
        pusher = pusher_to(f"{url}/opentelemetry/v1/metrics", "http", now, CollectorRegistry())
        await pusher.push()
        await pusher.close()
        HTTP.get(f"{url}/internal/force_flush")
        asked = {"query": '{__name__=~"fal_.*"}', "nocache": "1"}
        rows = HTTP.get(f"{url}/api/v1/query", params=asked).raise_for_status().json()["data"]["result"]
    found = {f"{row['metric'].pop('__name__')} {row['value'][1]}": row["metric"] for row in rows}
    assert {*found} - {"fal_source_up 1"} == {
        "fal_spend_usd_total 1.5",
        "fal_spend_usd_total 0.000000007",
        "fal_spend_month_to_date_usd -1",
    }
    flux = found["fal_spend_month_to_date_usd -1"]
    assert (flux["gen_ai_request_model"], flux["fal_account"]) == ("fal-ai/flux/0", "studio")
    assert flux["gen_ai_provider_name"] == "fal"
