"""Remote write into a store that decodes: nothing twice, nothing left out, whatever the store and the network do."""

import re
import ssl
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from polling.remote_store import V2, RemoteStore, remote_store
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from exporter.charges import HOUR, NANO, Amounts, Charge, Dimensions, Window, hour_of
from exporter.errors import ConfigurationError
from exporter.ledger import Ledger, Rules
from exporter.metrics import remote_write as wire
from exporter.metrics.health import Health
from exporter.metrics.jobs import RemoteWriteMetrics
from exporter.polling.async_ledger import AsyncLedger
from exporter.polling.deliveries import remote_write
from exporter.polling.deliveries.remote_write import RemoteWriteError, RemoteWriter, Store

NOON = datetime(2026, 11, 20, 12, 5, tzinfo=UTC)
START = datetime(2026, 11, 19, tzinfo=UTC)
FLUX = Dimensions("main", product="model_apis", model="flux", unit="image")
VEO = Dimensions("main", product="model_apis", model="veo", gpu_class="H100", unit="second")
SPEND = "fal_hourly_spend_usd"


class Bench:
    """A ledger of a day and a half, a store, and what sends from one to the other."""

    def __init__(self, store: RemoteStore, folder: Path) -> None:
        self.store = store
        self.target = Store(store.url, timedelta(days=31))
        self.address = f"sqlite:///{folder / 'ledger.sqlite'}"
        self.now = NOON
        self.registry = CollectorRegistry()
        self.metrics, self.health = RemoteWriteMetrics(self.registry), Health(self.registry)
        self.truth: Counter[tuple[datetime, Dimensions]] = Counter()
        self.slept: list[float] = []
        self.ledger = AsyncLedger()
        for hour in Window(START, hour_of(NOON)).hours():
            self.truth[hour, FLUX] = 2 * NANO
            if hour.hour % 5 == 0:
                self.truth[hour, VEO] = NANO // 3

    async def open(self) -> None:
        await self.ledger.open(lambda: Ledger(self.address, rules=Rules(), clock=lambda: self.now))
        await self.ledger.activate({"main": ["models"]})

    async def restart(self) -> None:
        await self.ledger.close()
        self.ledger = AsyncLedger()
        await self.open()

    async def poll(self) -> None:
        window = Window(START, hour_of(self.now) + HOUR)
        charges = [
            Charge(hour, of, Amounts(3 * cost, cost if of.gpu_class else 0, cost, 0, cost))
            for (hour, of), cost in self.truth.items()
            if cost
        ]
        at = self.now
        await self.ledger.run(lambda ledger: ledger.restate("main", "models", window, charges, at=at))

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    @asynccontextmanager
    async def writer(self) -> AsyncIterator[RemoteWriter]:
        writer = RemoteWriter(
            self.target,
            ledger=self.ledger,
            metrics=self.metrics,
            health=self.health,
            changed=lambda: None,
            clock=lambda: self.now,
            sleep=self._sleep,
        )
        try:
            yield writer
        finally:
            await writer.close()

    async def write(self) -> None:
        await self.poll()
        async with self.writer() as writer:
            await writer.write()

    def truth_by_model(self) -> dict[str, float]:
        sums: Counter[str] = Counter()
        for (_, of), cost in self.truth.items():
            sums[of.model] += cost
        return {model: round(cost / NANO, 9) for model, cost in sums.items()}

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"fal_remote_write_{name}", labels)


@pytest.fixture
def store() -> Iterator[RemoteStore]:
    with remote_store() as running:
        yield running


@pytest.fixture
async def bench(store: RemoteStore, tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(store, tmp_path)
    await made.open()
    yield made
    await made.ledger.close()


async def test_version_2_is_sent_with_units_and_kinds_and_labels_of_the_setting(bench: Bench) -> None:
    bench.target = replace(bench.target, labels={"cluster": "prod"}, headers={"X-Scope-OrgID": "team"})
    await bench.write()
    assert bench.store.sums(SPEND) == bench.truth_by_model()
    assert bench.store.sums("fal_hourly_usage_quantity", "unit")["image"] == 3 * bench.truth_by_model()["flux"]
    assert {version for version, _ in bench.store.requests} == {"2.0.0"}
    assert bench.store.headers["X-Scope-OrgID"] == "team"
    assert bench.store.metadata[SPEND] == (2, wire.HOURLY["cost"][0].help, "usd")
    assert bench.store.metadata["fal_spend_by_hour_usd_total"][0] == 1
    labels = {"account": "main", "cluster": "prod", "gpu_class": "H100", "model": "veo", "product": "model_apis"}
    assert tuple(sorted({"__name__": SPEND, **labels}.items())) in bench.store.series
    ends = {
        at % 3_600_000 for name in bench.store.series if ("__name__", SPEND) in name for at in bench.store.series[name]
    }
    assert ends == {3_599_999}, "each sample is of its true hour"
    assert bench.value("up") == 1
    assert bench.value("told_through_timestamp_seconds") == hour_of(NOON).timestamp()
    assert bench.value("samples_total") == sum(map(len, bench.store.series.values()))


@pytest.mark.parametrize("refuses", [True, False])
async def test_a_store_that_knows_1_only_is_sent_1(bench: Bench, refuses: bool) -> None:  # noqa: FBT001  a parameter
    bench.store.knows_2, bench.store.refuses_2 = False, refuses
    await bench.write()
    assert bench.store.sums(SPEND) == bench.truth_by_model()
    assert [content == V2 for _, content in bench.store.requests][:2] == [True, False]
    assert [version for version, _ in bench.store.requests].count("2.0.0") == 1, "it is asked once"


async def test_late_charges_and_refunds_are_further_samples_of_their_hour(bench: Bench) -> None:
    await bench.write()
    before = {labels: dict(kept) for labels, kept in bench.store.series.items()}
    bench.truth[START + 3 * HOUR, FLUX] += NANO
    bench.truth[START + 4 * HOUR, FLUX] -= NANO // 2
    await bench.write()
    assert bench.store.sums(SPEND) == bench.truth_by_model()
    assert all(bench.store.series[labels].items() >= kept.items() for labels, kept in before.items())
    assert bench.value("counters_waiting_usd") == 0.5
    sent = len(bench.store.requests)
    await bench.write()
    assert len(bench.store.requests) == sent, "there is nothing to tell"


async def test_nothing_is_sent_twice_or_left_out_where_answers_are_lost_and_the_exporter_restarts(bench: Bench) -> None:
    await bench.poll()
    bench.store.loses = 7
    for _ in range(2):
        async with bench.writer() as writer:
            try:
                await writer.write()
            except RemoteWriteError as error:
                assert "cannot be reached" in str(error)  # noqa: PT017  only the first fails
        # What fal corrects while a request is on its way is told afterwards.
        bench.truth[START + HOUR, VEO] += NANO
        await bench.restart()
        await bench.poll()
    await bench.write()
    assert bench.store.loses == 0
    assert bench.store.sums(SPEND) == bench.truth_by_model()
    assert bench.value("failures_total") == 1


async def test_a_store_without_late_samples_gets_them_with_the_next_hour(bench: Bench) -> None:
    bench.store.window = 0
    await bench.write()
    # The exporter does not know whether the last request has arrived, and sends it again.
    bench.now += HOUR
    bench.truth[hour_of(NOON), FLUX] = 5 * NANO
    bench.store.loses = 1
    await bench.write()
    assert bench.store.sums(SPEND) == bench.truth_by_model()
    bench.truth[START + 3 * HOUR, FLUX] += NANO
    bench.truth[START + 4 * HOUR, VEO] += NANO
    await bench.write()
    assert bench.value("refused_total", outcome="next_hour") == 5, "two of spend, two of quantity, one of GPU time"
    bench.now += HOUR
    await bench.write()
    # Spend, and with it quantity and GPU time, are told once each.
    assert bench.store.sums(SPEND) == bench.truth_by_model()
    assert bench.store.sums("fal_hourly_gpu_seconds") == {"veo": bench.truth_by_model()["veo"]}


async def test_history_that_a_store_finds_too_old_is_left_out_and_what_is_new_is_not(bench: Bench) -> None:
    bench.store.window = 0
    bench.store.series[(("__name__", "up"),)] = {int(NOON.timestamp()) * 1000: 1.0}
    await bench.write()
    taken = bench.store.sums(SPEND)
    assert 0 < taken["flux"] < bench.truth_by_model()["flux"]
    assert bench.value("refused_total", outcome="history") > 0
    assert bench.value("refused_total", outcome="next_hour") == 0
    assert len(bench.store.requests) < 50, "what is too old is asked hour by hour, not sample by sample"
    bench.now += HOUR
    bench.truth[hour_of(NOON), FLUX] = 5 * NANO
    await bench.write()
    assert bench.store.sums(SPEND)["flux"] == taken["flux"] + 5


async def test_a_busy_store_is_left_alone_as_long_as_it_asks(bench: Bench) -> None:
    bench.store.answers = [(503, {}, ""), (429, {"Retry-After": "7"}, "slow down")]
    await bench.write()
    assert bench.slept[1:] == [7.0]
    bench.now += HOUR
    bench.truth[hour_of(NOON), FLUX] = 5 * NANO
    bench.store.answers = [(429, {"Retry-After": "600"}, "slow down")]
    await bench.poll()
    async with bench.writer() as writer:
        with pytest.raises(RemoteWriteError, match="answered 429: slow down"):
            await writer.write()
        sent = len(bench.store.requests)
        bench.now += timedelta(minutes=9)
        await writer.write()
        assert len(bench.store.requests) == sent, "it is not the time yet"
        bench.now += timedelta(minutes=2)
        await writer.write()
    assert bench.store.sums(SPEND) == bench.truth_by_model()


@pytest.mark.parametrize("asked", ["999999999", "9" * 30, "Fri, 31 Dec 9999 23:59:59 GMT"])
async def test_a_store_that_asks_for_years_is_written_to_again_within_an_hour(bench: Bench, asked: str) -> None:
    bench.store.answers = [(429, {"Retry-After": asked}, "slow down")] * 5
    await bench.poll()
    async with bench.writer() as writer:
        with pytest.raises(RemoteWriteError, match="answered 429: slow down"):
            await writer.write()
        bench.store.answers = []
        bench.now += timedelta(hours=1)
        await writer.write()
    assert bench.store.sums(SPEND) == bench.truth_by_model()


async def test_an_answer_that_cannot_be_unpacked_is_no_refusal(bench: Bench) -> None:
    """Refused samples are told with the next hour; by an answer that is not read they would be told twice."""
    broken = {"Content-Encoding": "gzip"}
    bench.store.answers = [(204, {}, ""), (400, broken, "no gzip"), (500, broken, "no gzip"), (200, broken, "no gzip")]
    bench.store.knows_2 = False
    bench.store.loses = 1
    await bench.write()
    assert bench.value("refused_total", outcome="next_hour") == 0
    assert bench.slept == [pytest.approx(1, rel=0.3), pytest.approx(2, rel=0.3)]
    assert bench.health.remote_write_problem == ""


async def test_an_answer_that_never_ends_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_write, "_LONGEST_EXCHANGE", 0.05)
    bench.store.trickles = True
    await bench.poll()
    async with bench.writer() as writer:
        with pytest.raises(RemoteWriteError, match="its answer did not end within"):
            await writer.write()
    bench.store.trickles = False
    monkeypatch.undo()
    await bench.write()
    assert bench.store.sums(SPEND) == bench.truth_by_model()


@pytest.mark.parametrize("window", [None, 0])
async def test_a_day_without_the_store_is_told_when_it_is_back(bench: Bench, window: int | None) -> None:
    """Some requests are refused, some taken without an answer; fal corrects meanwhile, and the exporter restarts."""
    bench.store.window = window
    await bench.write()
    for turn in range(26):
        bench.truth[hour_of(bench.now), FLUX] += 3 * NANO
        bench.truth[hour_of(bench.now) - 3 * HOUR, VEO] += NANO // 4
        bench.now += HOUR
        bench.store.answers = [(500, {}, "disk full")] * 5
        bench.store.loses = 5 if turn % 4 == 0 else 0
        if turn % 4 == 0:
            bench.store.answers = []
        await bench.poll()
        async with bench.writer() as writer:
            with pytest.raises(RemoteWriteError, match=r"answered 500: disk full|cannot be reached"):
                await writer.write()
        assert bench.value("up") == 0
        if turn % 5 == 0:
            await bench.restart()
    assert bench.value("pending_requests")
    bench.store.answers, bench.store.loses = [], 0
    # What a store without late samples has refused is told with the next hour.
    for _ in range(2):
        await bench.write()
        bench.now += HOUR
        bench.truth[hour_of(bench.now) - HOUR, FLUX] += NANO
    await bench.write()
    assert bench.store.sums(SPEND) == pytest.approx(bench.truth_by_model(), abs=1e-9)
    assert bench.value("up") == 1
    assert bench.value("pending_requests") == 0


async def test_a_wrong_token_holds_the_position_and_is_in_no_message(bench: Bench) -> None:
    bench.store.wants = "Bearer right-token-of-the-store"
    bench.target = replace(bench.target, token=SecretStr("wrong-token-of-nobody"))
    with pytest.raises(RemoteWriteError, match=r"answered 401.*check the URL, the credentials") as raised:
        await bench.write()
    assert "wrong-token" not in str(raised.value)
    assert bench.health.remote_write_problem == str(raised.value)
    assert (bench.value("up"), bench.store.series) == (0, {})
    bench.target = replace(bench.target, token=SecretStr("right-token-of-the-store"))
    await bench.write()
    assert bench.store.sums(SPEND) == bench.truth_by_model()
    assert (bench.value("up"), bench.health.remote_write_problem) == (1, "")


async def test_a_user_and_a_password_are_basic_authentication(bench: Bench) -> None:
    bench.store.wants = "Basic YWRhOnBhc3N3b3Jk"
    bench.target = replace(bench.target, user="ada", password=SecretStr("password"))
    await bench.write()
    assert bench.store.sums(SPEND) == bench.truth_by_model()


async def test_a_request_that_is_too_large_is_halved(bench: Bench) -> None:
    bench.store.answers = [(413, {}, "too large")]
    bench.store.knows_2 = False
    await bench.write()
    assert bench.store.sums(SPEND) == bench.truth_by_model()


async def test_what_is_older_than_the_reach_is_told_with_the_next_hour(bench: Bench) -> None:
    bench.target = replace(bench.target, reach=timedelta(hours=6))
    await bench.write()
    told = {"flux": 12.0, "veo": round(2 / 3, 9)}
    assert bench.store.sums(SPEND)["flux"] == told["flux"], "history begins where the store's window does"
    bench.now += 8 * HOUR
    for hour in range(8):
        bench.truth[hour_of(NOON) + hour * HOUR, FLUX] = NANO
    await bench.write()
    bench.truth[hour_of(NOON), FLUX] += 3 * NANO
    await bench.write()
    assert bench.store.sums(SPEND)["flux"] == told["flux"] + 8, "it waits for the next hour"
    bench.now += HOUR
    await bench.write()
    assert bench.store.sums(SPEND)["flux"] == told["flux"] + 11


async def test_a_store_with_tls_asks_for_the_certificate_of_the_exporter(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("exporter.example.com").private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    with remote_store(context) as store:
        bench = Bench(store, tmp_path)
        await bench.open()
        for ca_file in (None, tmp_path / "ca.pem"):
            bench.target = Store(store.url, timedelta(days=31), ca_file=ca_file)
            with pytest.raises(RemoteWriteError, match="cannot be reached"):
                await bench.write()
        bench.target = replace(bench.target, cert_file=tmp_path / "own.pem")
        await bench.write()
        assert store.sums(SPEND) == bench.truth_by_model()
        await bench.ledger.close()


def test_libraries_and_certificates_that_are_missing_are_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = Store("https://127.0.0.1:1/", timedelta(days=1), ca_file=tmp_path / "ca.pem")
    with pytest.raises(ConfigurationError, match=r"REMOTE_WRITE_CA_FILE: .*ca\.pem has no certificates"):
        nowhere.client()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with pytest.raises(ConfigurationError, match=r"REMOTE_WRITE_CERT_FILE: .*ca\.pem and its key cannot be used"):
        Store("https://127.0.0.1:1/", timedelta(days=1), cert_file=tmp_path / "ca.pem").client()
    monkeypatch.setitem(sys.modules, "cramjam", None)
    with pytest.raises(ConfigurationError, match=re.escape("install fal-exporter[remote-write]")):
        wire.check_libraries()
