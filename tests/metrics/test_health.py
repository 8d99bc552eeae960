import io
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from metrics.protobuf_reader import created_of, families
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.openmetrics.parser import text_fd_to_metric_families
from prometheus_client.openmetrics.parser import text_string_to_metric_families as text_string_to_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from published_health import exposition_of, value_of

from exporter.metrics.catalogue import CATALOGUE
from exporter.metrics.encoding import END, rendered
from exporter.metrics.health import _POLL_SECONDS, Health

AT = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def health(registry: CollectorRegistry) -> Health:
    health = Health(
        registry,
        failure_reasons=("timeout", "scope"),
        rejection_reasons=("currency",),
        lock_reasons=("exhausted_balance", "other"),
        jobs=("current", "deep"),
    )
    health.expect_account("a")
    health.expect_source("a", "models")
    return health


Value = Callable[..., float | None]


@pytest.fixture
def value(health: Health) -> Value:
    def read(name: str, **labels: str) -> float | None:
        return value_of(health, name, labels)

    return read


SOURCE = {"account": "a", "source": "models"}


@pytest.mark.usefixtures("health")
def test_what_may_go_wrong_exists_at_zero_before_it_does(value: Value) -> None:
    assert value("fal_exporter_polls_total", **SOURCE) == 0
    assert value("fal_exporter_poll_failures_total", **SOURCE, reason="timeout") == 0
    assert value("fal_exporter_poll_failures_total", **SOURCE, reason="scope") == 0
    assert value("fal_exporter_poll_duration_seconds_count", **SOURCE) == 0
    assert value("fal_exporter_missed_runs_total", job="deep") == 0
    assert value("fal_account_locked", account="a", reason="exhausted_balance") == 0


@pytest.mark.usefixtures("health")
def test_a_source_is_neither_up_nor_down_before_its_first_poll(value: Value) -> None:
    assert value("fal_source_up", **SOURCE) is None
    assert value("fal_source_partial", **SOURCE) is None
    assert value("fal_exporter_rejected_rows", **SOURCE, reason="currency") is None


def test_a_poll_that_failed_moves_no_stamp_of_success(health: Health, value: Value) -> None:
    health.poll_began("a", "models", AT)
    health.poll_failed("a", "models", reason="timeout", seconds=3)
    assert value("fal_source_up", **SOURCE) == 0
    assert value("fal_exporter_polls_total", **SOURCE) == 1
    assert value("fal_exporter_poll_failures_total", **SOURCE, reason="timeout") == 1
    assert value("fal_exporter_poll_duration_seconds_sum", **SOURCE) == 3
    assert value("fal_exporter_last_poll_attempt_timestamp_seconds", **SOURCE) == AT.timestamp()
    assert value("fal_exporter_last_poll_success_timestamp_seconds", **SOURCE) is None


def test_a_poll_that_succeeded_says_when_it_began(health: Health, value: Value) -> None:
    health.poll_failed("a", "models", reason="timeout", seconds=3)
    health.poll_succeeded("a", "models", began_at=AT, seconds=1.5)
    assert value("fal_source_up", **SOURCE) == 1
    assert value("fal_exporter_last_poll_success_timestamp_seconds", **SOURCE) == AT.timestamp()


def test_rows_that_cannot_be_read_are_shown_as_they_are_now(health: Health, value: Value) -> None:
    health.rows_rejected("a", "models", {"currency": 2, "shape": 1}, cost=2_500_000_001)
    assert value("fal_exporter_rejected_rows", **SOURCE, reason="currency") == 2
    assert value("fal_exporter_rejected_rows", **SOURCE, reason="shape") == 1
    assert value("fal_source_partial", **SOURCE) == 1
    assert value("fal_unreadable_usd", **SOURCE) == 2.500000001
    health.rows_rejected("a", "models", {"shape": 1}, cost=0)
    assert value("fal_exporter_rejected_rows", **SOURCE, reason="currency") == 0
    assert value("fal_unreadable_usd", **SOURCE) == 0
    health.rows_rejected("a", "models", {}, cost=0)
    assert value("fal_exporter_rejected_rows", **SOURCE, reason="shape") == 0
    assert value("fal_source_partial", **SOURCE) == 0


def test_calls_are_counted_by_code_and_their_retries_start_at_zero(health: Health, value: Value) -> None:
    health.answered("a", "/models/usage", "429", 0.2)
    assert value("fal_exporter_api_retries_total", account="a", call="/models/usage") == 0
    health.retried("a", "/models/usage")
    health.answered("a", "/models/usage", "200", 0.3)
    assert value("fal_exporter_api_retries_total", account="a", call="/models/usage") == 1
    assert value("fal_exporter_api_requests_total", account="a", call="/models/usage", code="429") == 1
    assert value("fal_exporter_api_requests_total", account="a", call="/models/usage", code="200") == 1
    assert value("fal_exporter_api_request_duration_seconds_count", account="a", call="/models/usage") == 2


def test_an_account_is_locked_until_it_is_unlocked_whatever_the_reason(health: Health, value: Value) -> None:
    health.locked("a", "exhausted_balance")
    health.locked("a", "a reason nobody knew")
    assert value("fal_account_locked", account="a", reason="exhausted_balance") == 1
    health.unlocked("a")
    assert value("fal_account_locked", account="a", reason="exhausted_balance") == 0
    assert value("fal_account_locked", account="a", reason="a reason nobody knew") == 0


def test_a_poll_of_one_account_of_many_has_only_its_own_pages_made_anew() -> None:
    health = Health(CollectorRegistry(), failure_reasons=map(str, range(20)), jobs=("current",))
    for number in range(200):
        for source in ("models", "balance", "invoices"):
            health.expect_source(f"account-{number}", source)
    before = {id(page) for table in health.tables() for page in table.pages}
    assert len(before) > 80
    health.poll_began("account-7", "models", AT)
    health.poll_failed("account-7", "models", reason="3", seconds=1)
    after = [page for table in health.tables() for page in table.pages]
    assert sum(id(page) not in before for page in after) <= 5


def test_histograms_are_written_as_the_client_library_writes_them() -> None:
    registry, ours = CollectorRegistry(), Health(CollectorRegistry())
    family = CATALOGUE["fal_exporter_poll_duration_seconds"]
    theirs = Histogram(family.name, family.help, family.labels, registry=registry, buckets=_POLL_SECONDS)
    ours.expect_source("empty", "models")
    theirs.labels("empty", "models")
    for account, seconds in (('the "first"', 0.0), ("b", 0.1), ("b", 0.1000001), ("b", 3), ("c", 1e5)):
        ours.poll_succeeded(account, "models", began_at=AT, seconds=seconds)
        theirs.labels(account, "models").observe(seconds)
    expected, found = rendered(registry), exposition_of(ours)
    for read, whole, pieces in (
        (text_string_to_metric_families, expected.text, found.text),
        (text_string_to_openmetrics, expected.openmetrics + END, found.openmetrics),
    ):
        end = END if whole.endswith(END) else b""
        (theirs_read,) = read(whole.decode())
        text = (b"".join(piece.plain for piece in pieces.pieces) + end).decode()
        (ours_read,) = [item for item in read(text) if item.name == family.name]
        assert ours_read.samples == theirs_read.samples
    ours_whole = b"".join(piece.plain for piece in found.protobuf.pieces)
    (read,) = [item for item in families(ours_whole) if item.name == family.name]
    (told,) = [item for item in families(expected.protobuf) if item.name == family.name]
    for mine, its in zip(read.metric, told.metric, strict=True):
        assert abs((created_of(mine.histogram) or 0) - (created_of(its.histogram) or 0)) < 60
        mine.histogram.created_timestamp.CopyFrom(its.histogram.created_timestamp)
        assert mine == its


def test_a_missed_run_is_counted(health: Health, value: Value) -> None:
    health.run_missed("deep")
    assert value("fal_exporter_missed_runs_total", job="deep") == 1


def test_steps_of_the_clock_are_counted_and_how_it_differs_is_unknown_at_first(health: Health, value: Value) -> None:
    assert value("fal_exporter_clock_steps_total") == 0
    assert value("fal_exporter_clock_skew_seconds") is None
    health.clock_stepped()
    assert value("fal_exporter_clock_steps_total") == 1
    for ahead in (-7200, 0.5):
        health.clock_compared(ahead)
        assert value("fal_exporter_clock_skew_seconds") == ahead


def test_the_ledger_is_up_or_not(health: Health, value: Value) -> None:
    health.ledger_seen(up=True)
    assert value("fal_exporter_ledger_up") == 1
    health.ledger_seen(up=False)
    assert value("fal_exporter_ledger_up") == 0


def test_what_is_rendered_is_in_the_catalogue_and_lacks_created(
    health: Health, promtool_findings: Callable[[bytes], set[str]]
) -> None:
    health.poll_began("a", "models", AT)
    health.poll_succeeded("a", "models", began_at=AT, seconds=1)
    health.rows_rejected("a", "models", {}, cost=0)
    health.answered("a", "/models/usage", "200", 0.3)
    health.clock_compared(1)
    lines = exposition_of(health)
    text, in_openmetrics = (b"".join(piece.plain for piece in of.pieces) for of in (lines.text, lines.openmetrics))
    found = {
        metric.name: metric
        for metric in text_fd_to_metric_families(io.StringIO((in_openmetrics + END).decode(), newline="\n"))
    }
    catalogue = {family.base_name: family for family in CATALOGUE.values()}
    assert len(found) == 17
    for name, metric in found.items():
        assert (metric.documentation, metric.type) == (catalogue[name].help, catalogue[name].kind)
    assert b"_created" not in text + in_openmetrics
    assert promtool_findings(text) == set()


def test_requests_that_fal_itself_does_not_answer_are_known_since_the_first(
    health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("exporter.metrics.health.time.monotonic", lambda: now)
    assert (health.unanswered_since, health.answered_at) == (None, None)
    health.answered("a", "/models/usage", "error", 30)
    assert health.unanswered_since == 970, "when it began, not when it was given up"
    now = 1100.0
    for code in ("407", "503", "error"):
        health.answered("a", "/models/usage", code, 1)
        assert health.unanswered_since == 970, code
    health.answered("b", "/account/billing", "401", 1)
    assert (health.unanswered_since, health.answered_at) == (None, 1100), "a refusal is an answer"
    now = 1105.0
    health.answered("a", "/models/usage", "error", 30)
    assert health.unanswered_since == 1100, "fal answered another one while it was under way"
