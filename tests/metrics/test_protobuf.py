import io
import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metrics.protobuf_reader import created_of, families, kind_of, labels_of, native_of, value_of
from metrics.test_encoding import snapshots, text_of
from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client import Counter as OwnCounter
from prometheus_client.parser import text_fd_to_metric_families as read_text

from exporter.charges import NANO
from exporter.events.summaries import DearRequest, ModelCosts, bucket_of
from exporter.metrics.catalogue import Family
from exporter.metrics.encoding import PAGES_PER_PIECE, Encoder, rendered
from exporter.metrics.protobuf import MOST_NATIVE_BUCKETS, ZERO_THRESHOLD, NativeHistogram
from exporter.metrics.requests import RequestMetrics
from exporter.metrics.snapshot import Snapshot, Table
from exporter.publication import Exposition
from exporter.samples import Page, Sample

AT = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)
GOLDEN = Path(__file__).parent / "golden"


FAMILY = Family("f_total", "counter", "F.", ("label",))


def encoder() -> Encoder:
    made = Encoder()
    made.writes_protobuf = True
    return made


def protobuf_of(exposition: Exposition) -> bytes:
    return b"".join(piece.plain for piece in exposition.protobuf.pieces)


Read = tuple[str, str, str, list[tuple[str, dict[str, str], str]]]


def of_protobuf(document: bytes) -> Iterator[Read]:
    for family in families(document):
        numbers = [(family.name, labels_of(metric), repr(value_of(metric))) for metric in family.metric]
        yield family.name, kind_of(family), family.help, numbers


def of_text(document: bytes) -> Iterator[Read]:
    for family in read_text(io.StringIO(document.decode(), newline="\n")):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        numbers = [(sample.name, sample.labels, repr(sample.value)) for sample in family.samples]
        yield name, family.type, family.documentation, numbers


@given(snapshots())
def test_protobuf_says_what_the_text_format_says(snapshot: Snapshot) -> None:
    exposition = encoder().encode(snapshot)
    assert list(of_protobuf(protobuf_of(exposition))) == list(of_text(text_of(exposition)))


@given(snapshots())
def test_every_counter_tells_when_it_began(snapshot: Snapshot) -> None:
    began = {
        (table.family.name, tuple(pair for pair in zip(table.labels, sample.labels, strict=True) if pair[1])): (
            sample.created.timestamp() if sample.created else None
        )
        for table in snapshot.tables
        if table.family.kind == "counter"
        for page in table.pages
        for sample in page.samples
    }
    found = {
        (family.name, tuple(labels_of(metric).items())): created_of(metric.counter)
        for family in families(protobuf_of(encoder().encode(snapshot)))
        if kind_of(family) == "counter"
        for metric in family.metric
    }
    assert found.keys() == began.keys()
    assert [at and round(at, 6) for at in found.values()] == [at and round(at, 6) for at in began.values()]


def spend(pages: tuple[Page, ...]) -> Snapshot:
    return Snapshot(1, AT, (Table(FAMILY, FAMILY.labels, pages),))


def test_a_change_of_a_number_encodes_one_piece_anew_and_a_new_series_the_head_too() -> None:
    pages = [Page((Sample((str(number),), number),)) for number in range(4 * PAGES_PER_PIECE)]
    ours = encoder()
    before = ours.encode(spend(tuple(pages))).protobuf
    pages[-1] = Page((Sample((str(len(pages) - 1),), 99),))
    after = ours.encode(spend(tuple(pages))).protobuf
    # The last piece is what the process tells of itself.
    assert [old is new for old, new in zip(before.pieces, after.pieces, strict=True)] == [
        True,
        True,
        True,
        False,
        False,
    ]
    pages.append(Page((Sample(("new",), 1),)))
    grown = ours.encode(spend(tuple(pages)))
    assert [old is new for old, new in zip(after.pieces[:4], grown.protobuf.pieces[:4], strict=True)] == [
        False,
        True,
        True,
        True,
    ]
    assert list(of_protobuf(protobuf_of(grown))) == list(of_text(text_of(grown)))


def test_nothing_is_encoded_as_protobuf_before_somebody_asks() -> None:
    ours = Encoder()
    assert ours.encode(spend((Page((Sample(("a",), 1),)),))).protobuf.pieces == ()


def test_a_delta_hands_over_protobuf_as_well() -> None:
    ours, pages = encoder(), (Page((Sample(("a",), 1),)), Page((Sample(("b",), 2),)))
    first = ours.encode(spend(pages[:1]))
    second = ours.encode(spend(pages))
    assert second.delta_from(first).apply(first) == second


def test_families_of_a_registry_are_told_whole() -> None:
    registry = CollectorRegistry()
    OwnCounter("a_total", "A.", ("label",), registry=registry).labels("x").inc(2)
    Gauge("b_ratio", "B.", registry=registry).set(0.5)
    histogram = Histogram("c_seconds", "C.", registry=registry, buckets=(1.0, 2.0))
    histogram.observe(1.5)
    counter, gauge, classic = families(rendered(registry).protobuf)
    assert (counter.name, kind_of(counter), value_of(counter.metric[0])) == ("a_total", "counter", 2)
    assert labels_of(counter.metric[0]) == {"label": "x"}
    assert (created_of(counter.metric[0].counter) or 0) > AT.timestamp() - 10**9
    assert (gauge.name, gauge.unit, value_of(gauge.metric[0])) == ("b_ratio", "ratio", 0.5)
    told = classic.metric[0].histogram
    assert (told.sample_count, told.sample_sum) == (1, 1.5)
    assert [(bucket.upper_bound, bucket.cumulative_count) for bucket in told.bucket] == [
        (1, 0),
        (2, 1),
        (float("inf"), 1),
    ]
    assert not told.HasField("schema")


@given(st.dictionaries(st.integers(-300, 400), st.integers(0, 10**12), max_size=400), st.integers(0, 10**9))
def test_a_native_histogram_has_bounded_buckets_and_loses_no_request(buckets: dict[int, int], zeros: int) -> None:
    reduced = NativeHistogram(3, zeros, buckets).within(40)
    assert len(reduced.buckets) <= 40
    assert sum(reduced.buckets.values()) == sum(buckets.values())
    step = 2 ** (3 - reduced.schema)
    expected: Counter[int] = Counter()
    for index, count in buckets.items():
        # Bucket i ends at 2 ** (i / 8): a coarser one holds those that end within it.
        expected[-(-index // step)] += count
    assert reduced.buckets == +expected


def metrics(costs: ModelCosts, samples: list[DearRequest]) -> CollectorRegistry:
    registry = CollectorRegistry()
    shown = RequestMetrics(registry)
    shown.expect("main")
    shown.counted("main", {"fal-ai/veo3": costs}, samples)
    return registry


AMOUNTS = st.lists(st.integers(0, 10**13), max_size=60)


def costs_of(amounts: list[int]) -> ModelCosts:
    from math import ceil, log2  # noqa: PLC0415

    return ModelCosts(
        sum(amounts),
        Counter((bucket_of(amount), ceil(log2(amount / NANO) * 8) if amount else None) for amount in amounts),
    )


@given(AMOUNTS, AMOUNTS)
def test_the_native_and_the_classic_histogram_of_a_family_agree(first: list[int], again: list[int]) -> None:
    costs = costs_of(first)
    costs.raise_to(costs_of(again))
    (family,) = families(rendered(metrics(costs, [])).protobuf)
    told = family.metric[0].histogram
    native = native_of(told)
    # Prometheus refuses a native histogram whose buckets do not add up to its count.
    assert told.zero_count + sum(native.values()) == told.sample_count == told.bucket[-1].cumulative_count
    assert native == NativeHistogram(3, 0, costs.native).within().buckets
    assert len(native) <= MOST_NATIVE_BUCKETS
    assert (told.zero_threshold, told.zero_count) == (ZERO_THRESHOLD, costs.free)
    assert created_of(told) is None
    assert told.positive_span


def test_exemplars_name_the_request() -> None:
    sample = DearRequest(30_000_000, "id-1", "fal-ai/veo3", AT + timedelta(minutes=1))
    (family,) = families(rendered(metrics(costs_of([30_000_000]), [sample])).protobuf)
    (exemplar,) = [bucket.exemplar for bucket in family.metric[0].histogram.bucket if bucket.HasField("exemplar")]
    assert labels_of(exemplar) == {"request_id": "id-1"}
    assert (exemplar.value, exemplar.timestamp.seconds) == (0.03, int(AT.timestamp()) + 60)


def test_protobuf_of_every_family_is_the_golden_file(every_family: Snapshot) -> None:
    lines = []
    for family in families(protobuf_of(encoder().encode(every_family))):
        lines.append(f"{family.name} {kind_of(family)} {family.unit}".rstrip())
        for metric in family.metric:
            began = f" {created_of(metric.counter)}" if metric.HasField("counter") else ""
            lines.append(f"  {labels_of(metric)} {value_of(metric)!r}{began}")
    told = "\n".join(lines) + "\n"
    path = GOLDEN / "every_family.protobuf.txt"
    if "UPDATE_GOLDEN" in os.environ:
        path.write_text(told)
    assert told == path.read_text()


def test_created_lines_can_be_left_out_of_openmetrics() -> None:
    page = Page((Sample(("a",), 1, AT),))
    with_them, without = Encoder().encode(spend((page,))), Encoder(created=False).encode(spend((page,)))
    assert b"f_created" in b"".join(piece.plain for piece in with_them.openmetrics.pieces)
    assert b"_created" not in b"".join(piece.plain for piece in without.openmetrics.pieces)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400, -(10**400), 0.1])
def test_numbers_at_the_edges_are_those_of_the_text_format(value: float) -> None:
    exposition = encoder().encode(Snapshot(1, AT, (Table(FAMILY, FAMILY.labels, (Page((Sample(("a",), value),)),)),)))
    assert list(of_protobuf(protobuf_of(exposition))) == list(of_text(text_of(exposition)))
