"""Cost services get each month once, as their published contracts say, and what changes takes the place of the old."""

import csv
import io
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from queries.focus.test_push import FLUX, NOW, OCTOBER, Pushed
from queries.focus.test_push import pushed as pushed  # noqa: PLC0414  a fixture

from exporter.app.focus.delivery import run_upload
from exporter.charges import HOUR, Amounts, Window
from exporter.errors import ConfigurationError
from exporter.focus.charge import FocusCharge
from exporter.queries.focus.cost_services import (
    MOST_BYTES,
    MOST_ROWS,
    CostServiceError,
    Datadog,
    cost_lines,
    datadog_files,
    service_of,
    vantage_files,
)
from exporter.queries.focus.upload import UploadState

DAY = re.compile(r"\d{4}-\d\d-\d\d")
CATEGORIES = {"Credit", "Refund", "Discount", "Tax", "Usage"}


def vantage_cost(body: bytes) -> Decimal:
    """Take a file as Vantage documents it, and return its sum."""
    assert len(body) <= 2_000_000
    rows = list(csv.DictReader(io.StringIO(body.decode())))
    assert 0 < len(rows) <= 10_000
    for row in rows:
        assert row["ChargeCategory"] in CATEGORIES
        assert DAY.fullmatch(row["ChargePeriodStart"])
        assert row["ServiceName"]
        assert isinstance(json.loads(row["Tags"] or "{}"), dict)
    return sum((Decimal(row["BilledCost"]) for row in rows), Decimal(0))


def datadog_cost(body: bytes) -> Decimal:
    """Take line items as Datadog documents them, and return their sum."""
    items = json.loads(body, parse_float=Decimal, parse_int=Decimal)
    required = ["ProviderName", "ChargeDescription", "ChargePeriodStart", "ChargePeriodEnd", "BilledCost"]
    for item in items:
        assert list(item) == [*required, "BillingCurrency", "Tags"]
        assert all(DAY.fullmatch(item[name]) for name in required[2:4])
        assert item["ChargePeriodStart"] <= item["ChargePeriodEnd"] <= f"{NOW:%Y-%m-%d}", "no future dates"
        assert isinstance(item["BilledCost"], Decimal)
        assert item["BillingCurrency"] == "USD"
        texts = [item["ProviderName"], item["ChargeDescription"], *item["Tags"], *item["Tags"].values()]
        assert all(isinstance(text, str) and 0 < len(text) <= 1_000 for text in texts)
    return sum((item["BilledCost"] for item in items), Decimal(0))


class Handler(BaseHTTPRequestHandler):
    stand_in: "StandIn"

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, document: object = None) -> None:
        body = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def do_POST(self) -> None:
        body = self._body()
        if self.headers["Authorization"] != "Bearer vantage-secret":
            self._answer(401, {"errors": [f"no such token: {self.headers['Authorization']}"]})
            return
        assert self.path == "/v2/integrations/accss_1/costs.csv"
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        _, part = BytesParser().parsebytes(head + body).walk()
        assert part.get_param("name", header="Content-Disposition") == "csv"
        assert str(part.get_filename()).startswith("fal-exporter-2026-1")
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        self._take("usr_csts_upld", lambda: vantage_cost(content), 201, "token")

    def do_PUT(self) -> None:
        body = self._body()
        assert self.path == "/api/v2/cost/custom_costs"
        assert self.headers["Content-Type"] == "application/json"
        assert (self.headers["DD-API-KEY"], self.headers["DD-APPLICATION-KEY"]) == ("dd-api", "dd-app")
        self._take("file", lambda: datadog_cost(body), 202, "data")

    def _take(self, prefix: str, read: Callable[[], Decimal], status: int, key: str) -> None:
        if self.stand_in.refused:
            self.stand_in.refused -= 1
            self._answer(500, {"errors": ["later"]})
            return
        identity = f"{prefix}_{len(self.stand_in.calls)}"
        try:
            self.stand_in.files[identity] = read()
        except (AssertionError, ValueError, KeyError) as error:
            self._answer(400, {"errors": [f"the contract is broken: {error}"]})
            return
        self.stand_in.calls.append("upload")
        self._answer(status, {key: identity if key == "token" else {"id": identity, "type": "custom_cost"}})

    def do_DELETE(self) -> None:
        identity = self.path.rpartition("/")[2]
        self.stand_in.calls.append("delete")
        self._answer(204 if self.stand_in.files.pop(identity, None) is not None else 404)


class StandIn:
    """Both services, on this machine; a request that breaks their contract is answered 400."""

    def __init__(self) -> None:
        self.files: dict[str, Decimal] = {}
        self.calls: list[str] = []
        self.refused = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("OwnHandler", (Handler,), {"stand_in": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    for name, value in {"VANTAGE_API_TOKEN": "vantage-secret", "DD_API_KEY": "dd-api", "DD_APP_KEY": "dd-app"}.items():
        monkeypatch.setenv(name, value)
    found = StandIn()
    yield found
    found.close()


def upload(pushed: Pushed, stand_in: StandIn, service: str, *months: str, dry: bool = False) -> None:
    chosen = service_of(service, integration="accss_1", site="datadoghq.eu", url=stand_in.url, dry=dry)
    assert run_upload(pushed.settings(), chosen, months, state=None, dry=dry, clock=lambda: pushed.now) == 0


@pytest.mark.parametrize("service", ["vantage", "datadog"])
def test_months_are_at_the_service_once_whatever_happens(
    service: str, pushed: Pushed, stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    upload(pushed, stand_in, service)
    assert sorted(stand_in.files.values()) == [Decimal("0.18"), Decimal("0.744")]
    assert [line.split()[:4] for line in capsys.readouterr().out.splitlines()] == [
        ["new", "2026-10", "31", "lines"],
        ["new", "2026-11", "3", "lines"],
    ]
    upload(pushed, stand_in, service)
    assert stand_in.calls == ["upload", "upload"], "what has not changed is not sent again"

    pushed.charge(Window(OCTOBER.start, OCTOBER.start + HOUR), 2_000_000)
    stand_in.refused = 1
    with pytest.raises(CostServiceError, match=r"refused .* with 500: .*later"):
        upload(pushed, stand_in, service)
    assert sorted(stand_in.files.values()) == [Decimal("0.18"), Decimal("0.744")], "the old month is still there"
    upload(pushed, stand_in, service)
    assert sorted(stand_in.files.values()) == [Decimal("0.18"), Decimal("0.745")]
    assert stand_in.calls == ["upload", "upload", "upload", "delete"]


@pytest.mark.parametrize("service", ["vantage", "datadog"])
def test_what_was_uploaded_is_not_replaced_by_less(
    service: str, pushed: Pushed, stand_in: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A ledger that has been lost is read anew, the newest hours first."""
    upload(pushed, stand_in, service)
    assert capsys.readouterr().err == ""
    (tmp_path / "new").mkdir()
    anew = Pushed(tmp_path / "new")
    state = Path(f"{pushed.address.removeprefix('sqlite:///')}-uploads.json")
    shutil.copy(state, f"{anew.address.removeprefix('sqlite:///')}-uploads.json")
    hour = NOW.replace(minute=0)
    told = []
    for start, november in (
        (hour - 5 * HOUR, "0.18"),
        (OCTOBER.end - 5 * HOUR, "0.06"),
        (OCTOBER.start, "0.06"),
    ):
        anew.charge(Window(start, hour), 1_000_000)
        upload(anew, stand_in, service)
        assert sorted(stand_in.files.values()) == [Decimal(november), Decimal("0.744")]
        told.append(capsys.readouterr().err)
    assert "2026-10 is left out: the ledger has nothing of" in told[0]
    assert "2026-11 is left as it was uploaded: the ledger has less of it than it had then" in told[0]
    assert "2026-10 is left as it was uploaded" in told[1]
    assert "2026-11" not in told[1]
    assert told[2] == ""
    anew.ledger.close()


def test_what_an_interrupted_run_has_left_is_deleted_by_the_next(pushed: Pushed, stand_in: StandIn) -> None:
    upload(pushed, stand_in, "datadog")
    state = UploadState(Path(f"{pushed.address.removeprefix('sqlite:///')}-uploads.json"), "datadog:datadoghq.eu")
    stand_in.files["file_half"] = Decimal(7)
    state.months["2026-10"].stale = ["file_half", "file_gone"]
    state.save()
    upload(pushed, stand_in, "datadog")
    assert sorted(stand_in.files.values()) == [Decimal("0.18"), Decimal("0.744")]
    assert stand_in.calls == ["upload", "upload", "delete", "delete"]


def test_a_dry_run_shows_what_would_be_sent_and_needs_no_keys(
    pushed: Pushed, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DD_API_KEY")
    upload(pushed, stand_in, "datadog", "2026-10", dry=True)
    told = capsys.readouterr()
    assert f"PUT {stand_in.url}/api/v2/cost/custom_costs" in told.out
    assert '"ProviderName": "fal"' in told.out
    assert "nothing was sent" in told.err
    assert stand_in.calls == []
    with pytest.raises(ConfigurationError, match="DD_API_KEY is not set"):
        upload(pushed, stand_in, "datadog")


def test_a_refusal_is_told_without_the_key(pushed: Pushed, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VANTAGE_API_TOKEN", "a-wrong-secret")
    with pytest.raises(CostServiceError, match=r"Vantage refused POST .* with 401") as told:
        upload(pushed, stand_in, "vantage")
    assert "a-wrong-secret" not in str(told.value)
    with pytest.raises(ConfigurationError, match="VANTAGE_INTEGRATION_TOKEN"):
        service_of("vantage", integration=None, site="", url=None, dry=False)
    with pytest.raises(ConfigurationError, match="unencrypted"):
        service_of("datadog", integration=None, site="", url="http://dd.example.com", dry=True)
    # Nothing is sent, so nothing is needed.
    assert "INTEGRATION" in service_of("vantage", integration=None, site="", url=None, dry=True).target


def test_the_address_of_datadog_is_that_of_the_site() -> None:
    service = service_of("datadog", integration=None, site="us3.datadoghq.com", url=None, dry=True)
    assert isinstance(service, Datadog)
    assert service.target == "PUT https://api.us3.datadoghq.com/api/v2/cost/custom_costs"


def test_files_are_divided_by_rows_and_bytes_and_add_up_exactly() -> None:
    (line,) = cost_lines([FocusCharge(OCTOBER.start, OCTOBER.start + HOUR, FLUX, Amounts(1, 0, 1, 0, 1))])
    many = {line._replace(sku=str(number), tags=()): 3 for number in range(MOST_ROWS + 1)}
    large = {line._replace(sku=str(number), tags=(("team", "t" * 990),)): 3 for number in range(2_100)}
    for costs, total in ((many, Decimal("0.000030003")), (large, Decimal("0.0000063"))):
        for files, read in ((vantage_files(costs), vantage_cost), (datadog_files(costs), datadog_cost)):
            assert len(files) > 1
            assert all(len(content) <= MOST_BYTES for content in files)
            assert sum(read(content) for content in files) == total


def test_hours_of_a_day_are_one_line_and_lines_that_cost_nothing_are_left_out() -> None:
    start = datetime(2026, 10, 1, tzinfo=UTC)
    charges = [
        FocusCharge(start + number * HOUR, start + (number + 1) * HOUR, FLUX, Amounts(1, 0, cost, 0, cost))
        for number, cost in enumerate([3] * 24 + [5, -5])
    ]
    ((line, cost),) = cost_lines(charges).items()
    assert (line.first, line.last, cost) == (date(2026, 10, 1), date(2026, 10, 1), 72)
    assert dict(line.tags) == {"account": "main", "product": "model_apis"}
