import gzip
import io
import math
import os
import subprocess
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_fd_to_metric_families as read_openmetrics
from prometheus_client.parser import text_fd_to_metric_families as read_text

from exporter.charges import NANO
from exporter.metrics.catalogue import CATALOGUE, RENAMED, Family
from exporter.metrics.encoding import PAGES_PER_PIECE, Encoder, Rendered, deflated, gzip_end, gzip_start, rendered
from exporter.metrics.snapshot import Snapshot, Table
from exporter.publication import Exposition, Rendering
from exporter.samples import Page, Sample, paged


def assembled(pieces: list[bytes], tail: bytes) -> bytes:
    plain = b"".join(pieces)
    end = gzip_end(tail, checksum=zlib.crc32(plain), length=len(plain))
    return gzip_start(deflated(piece) for piece in pieces) + end


@given(st.lists(st.binary(max_size=2000), max_size=8), st.binary(max_size=500))
def test_any_pieces_and_tail_are_one_gzip_member(pieces: list[bytes], tail: bytes) -> None:
    member = assembled(pieces, tail)
    decoder = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    assert decoder.decompress(member) == b"".join(pieces) + tail
    assert decoder.eof
    assert decoder.unused_data == b""
    assert gzip.decompress(member) == b"".join(pieces) + tail


def test_the_gzip_program_finds_no_fault(gzip_program: str) -> None:
    lines = [b'fal_spend_usd_total{account="a",model="m%d"} 1.5\n' % number for number in range(5000)]
    member = assembled([b"".join(lines[:3000]), b"", b"".join(lines[3000:])], b"# EOF\n")
    done = subprocess.run([gzip_program, "-t", "-v"], input=member, capture_output=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    unpacked = subprocess.run([gzip_program, "-dc"], input=member, capture_output=True, check=True, timeout=30).stdout
    assert unpacked == b"".join(lines) + b"# EOF\n"


def test_a_wrong_checksum_would_be_noticed() -> None:
    broken = gzip_start([deflated(b"one")]) + gzip_end(b"two", checksum=zlib.crc32(b"uno"), length=3)
    try:
        gzip.decompress(broken)
    except gzip.BadGzipFile as error:
        assert "CRC check failed" in str(error)  # noqa: PT017  the type and the text are both the point
    else:
        raise AssertionError("the decoder took a broken member")


def test_created_is_not_exposed_and_the_end_is_left_open() -> None:
    registry = CollectorRegistry()
    Counter("a_total", "A.", registry=registry).inc()
    Histogram("b_seconds", "B.", registry=registry, buckets=(1.0,)).observe(0.5)
    lines = rendered(registry)
    assert lines.text == (
        b"# HELP a_total A.\n# TYPE a_total counter\na_total 1.0\n# HELP b_seconds B.\n# TYPE b_seconds histogram\n"
        b'b_seconds_bucket{le="1.0"} 1.0\nb_seconds_bucket{le="+Inf"} 1.0\nb_seconds_count 1.0\nb_seconds_sum 0.5\n'
    )
    assert b"created" not in lines.openmetrics
    assert b"# TYPE a counter\na_total 1.0\n" in lines.openmetrics
    assert b"EOF" not in lines.openmetrics


def test_a_gauge_that_is_called_created_is_kept() -> None:
    registry = CollectorRegistry()
    Gauge("a_created", "A.", registry=registry)
    assert b"a_created 0.0\n" in rendered(registry).text


def test_a_family_without_samples_is_left_out() -> None:
    registry = CollectorRegistry()
    Gauge("a", "A.", ("label",), registry=registry)
    assert rendered(registry).text == b""


AT = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)
GOLDEN = Path(__file__).parent / "golden"

LABEL_VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["", '"', "\\", "\n", '\\"', "\\n", "a\r\nb", "}", '{a="b"}', " # x", "\u2028", "ünï", "\x00"]
)
INTEGERS = st.integers(-(10**30), 10**30) | st.integers(-(10**400), 10**400)
FLOATS = st.floats()


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    tables = []
    for number in range(draw(st.integers(0, 3))):
        labels = tuple(f"label_{index}" for index in range(draw(st.integers(0, 3))))
        scale = draw(st.sampled_from([1, NANO]))
        help_text = draw(st.text(st.characters(exclude_categories=["Cs", "Z", "C"]), max_size=12))
        unit = draw(st.sampled_from(["", "_usd", "_seconds", "_things"]))
        if draw(st.booleans()):
            family = Family(f"f{number}{unit}_total", "counter", help_text, labels, scale=scale)
            values = st.integers(0, 10**30) | st.floats(0, allow_nan=False)
            created = st.none() | st.just(AT) | st.datetimes(datetime(2020, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  the strategy adds the zone
        else:
            family = Family(f"f{number}{unit}", "gauge", help_text, labels, scale=scale)
            values, created = INTEGERS | FLOATS, st.none()
        keys = draw(st.lists(st.tuples(*[LABEL_VALUES] * len(labels)), unique=True, max_size=5))
        samples = [Sample(key, draw(values), draw(created)) for key in keys]
        tables.append(Table(family, labels, paged(samples)))
    return Snapshot(1, AT, tuple(tables))


def plain(whole: Rendering) -> bytes:
    return b"".join(piece.plain for piece in whole.pieces)


def text_of(exposition: Exposition) -> bytes:
    return plain(exposition.text)


def openmetrics_of(exposition: Exposition) -> bytes:
    return plain(exposition.openmetrics) + b"# EOF\n"


def nearest(value: float, scale: int) -> float:
    if isinstance(value, float):
        return value / scale
    try:
        return float(Fraction(value, scale))
    except OverflowError:
        return math.inf if value > 0 else -math.inf


class Families:
    """A snapshot as prometheus_client would have it: the judge of our encoder."""

    def __init__(self, snapshot: Snapshot, *, created: bool) -> None:
        self._snapshot = snapshot
        self._created = created

    def collect(self) -> Iterator[Metric]:
        for table in self._snapshot.tables:
            family = table.family
            metric = Metric(family.base_name, family.help, family.kind, family.unit)
            for page in table.pages:
                for values, value, created in page.samples:
                    labels = {name: text for name, text in zip(table.labels, values, strict=True) if text}
                    metric.add_sample(family.name, labels, nearest(value, family.scale))
                    if created and self._created:
                        metric.add_sample(f"{family.base_name}_created", labels, created.timestamp())
            if metric.samples:
                yield metric


Reader = Callable[[io.StringIO], Iterable[Metric]]


def read(reader: Reader, exposition: bytes) -> list[tuple[object, ...]]:
    found = reader(io.StringIO(exposition.decode(), newline="\n"))
    return [
        (
            metric.name,
            metric.documentation,
            metric.type,
            metric.unit,
            [(sample.name, sample.labels, repr(sample.value), sample.timestamp) for sample in metric.samples],
        )
        for metric in found
    ]


@given(snapshots())
def test_the_text_format_reads_as_prometheus_clients_own_does(snapshot: Snapshot) -> None:
    ours = read(read_text, text_of(Encoder().encode(snapshot)))
    assert ours == read(read_text, generate_latest(Families(snapshot, created=False)))


@given(snapshots())
def test_openmetrics_reads_as_prometheus_clients_own_does(snapshot: Snapshot) -> None:
    ours = read(read_openmetrics, openmetrics_of(Encoder().encode(snapshot)))
    assert ours == read(read_openmetrics, generate_openmetrics(Families(snapshot, created=True)))


@given(st.integers(-(2**70), 2**70))
def test_money_is_the_float_nearest_to_the_exact_amount(amount: int) -> None:
    table = Table(CATALOGUE["fal_credit_balance_usd"], ("account",), paged([Sample(("a",), amount)]))
    line = text_of(Encoder().encode(Snapshot(1, AT, (table,)))).splitlines()[-1]
    assert float(line.split()[-1]) == float(Fraction(amount, NANO))


PAGES = [Page((Sample((str(number),), number),)) for number in range(9)]
LAYOUTS = st.lists(
    st.tuples(st.sampled_from(["f0", "f1", "f2", "f3"]), st.lists(st.sampled_from(PAGES), unique=True, max_size=9)),
    unique_by=lambda item: item[0],
)


@given(st.lists(LAYOUTS, min_size=1, max_size=5))
def test_encoding_after_any_changes_of_pages_equals_encoding_from_scratch(
    layouts: list[list[tuple[str, list[Page]]]],
) -> None:
    incremental = Encoder()
    numbered: dict[int, bytes] = {}
    for layout in layouts:
        tables = tuple(Table(Family(name, "gauge", "F."), ("label",), tuple(pages)) for name, pages in layout)
        snapshot = Snapshot(1, AT, tables)
        ours, fresh = incremental.encode(snapshot), Encoder().encode(snapshot)
        assert (text_of(ours), openmetrics_of(ours)) == (text_of(fresh), openmetrics_of(fresh))
        assert (ours.text.checksum, ours.text.length) == (fresh.text.checksum, fresh.text.length)
        for piece in ours.pieces().values():
            assert numbered.setdefault(piece.number, piece.plain) == piece.plain


def spend(pages: tuple[Page, ...]) -> Snapshot:
    return Snapshot(1, AT, (Table(Family("f", "gauge", "F."), ("label",), pages),))


def test_a_changed_page_replaces_its_piece_and_no_other() -> None:
    pages = tuple(Page((Sample((str(number),), number),)) for number in range(5 * PAGES_PER_PIECE))
    encoder = Encoder()
    before = encoder.encode(spend(pages)).text.pieces
    after = encoder.encode(spend((*pages[:6], Page((Sample(("x",), 1),)), *pages[7:]))).text.pieces
    assert [old is new for old, new in zip(before, after, strict=True)] == [True, False, True, True, True]


def test_what_is_laid_out_anew_and_says_the_same_is_not_encoded_again() -> None:
    def laid_out(value: int) -> Exposition:
        samples = [Sample((str(number),), number) for number in range(300)]
        return encoder.encode(spend(paged([*samples, Sample(("last",), value)])))

    encoder = Encoder()
    first = laid_out(1)
    assert laid_out(1).text.pieces == first.text.pieces
    changed = laid_out(2)
    assert changed.text.pieces != first.text.pieces
    assert b'"last"} 2.0' in b"".join(piece.plain for piece in changed.text.pieces)


def test_a_small_table_that_grows_leaves_the_pieces_of_a_large_one_alone() -> None:
    large = Table(Family("large", "gauge", "L."), ("label",), tuple(Page((Sample((str(n),), n),)) for n in range(20)))
    encoder = Encoder()

    def pieces(*samples: Sample) -> set[int]:
        small = Table(Family("small", "gauge", "S."), ("label",), paged(samples))
        return set(encoder.encode(Snapshot(1, AT, (small, large))).pieces())

    before = pieces(Sample(("a",), 1))
    after = pieces(Sample(("a",), 1), Sample(("b",), 1))
    assert len(before) == len(after) == 6
    assert len(before & after) == 5


def test_pages_that_vanished_are_forgotten() -> None:
    encoder = Encoder()
    encoder.encode(spend(tuple(PAGES)))
    encoder.encode(spend(()))
    assert not encoder._kept


def test_a_piece_without_created_is_held_once_for_both_formats() -> None:
    pages = tuple(Page((Sample((str(number),), number),)) for number in range(2 * PAGES_PER_PIECE))
    exposition = Encoder().encode(spend(pages))
    assert exposition.text.pieces[1] is exposition.openmetrics.pieces[1]


def test_families_of_the_exporter_follow_the_tables() -> None:
    own = Rendered(b"own 1\n", b"own 2\n")
    exposition = Encoder().encode(spend((PAGES[0],)), own)
    assert text_of(exposition).endswith(b'f{label="0"} 0.0\nown 1\n')
    assert openmetrics_of(exposition).endswith(b'f{label="0"} 0.0\nown 2\n# EOF\n')


def test_an_unpaired_surrogate_from_a_json_escape_does_not_stop_the_exposition() -> None:
    page = Page((Sample(("\ud800",), 1),))
    assert b'f{label="?"} 1.0\n' in text_of(Encoder().encode(spend((page,))))


def test_the_assembled_gzip_is_the_plain_exposition(every_family: Snapshot) -> None:
    whole = Encoder().encode(every_family).openmetrics
    member = gzip_start(piece.deflated for piece in whole.pieces)
    member += gzip_end(b"# EOF\n", checksum=whole.checksum, length=whole.length)
    assert gzip.decompress(member) == plain(whole) + b"# EOF\n"


@pytest.mark.parametrize(
    ("name", "expose"), [("every_family.txt", text_of), ("every_family.openmetrics.txt", openmetrics_of)]
)
def test_the_exposition_of_every_family_is_the_golden_file(
    every_family: Snapshot, name: str, expose: Callable[[Exposition], bytes]
) -> None:
    exposition = expose(Encoder().encode(every_family))
    if "UPDATE_GOLDEN" in os.environ:
        (GOLDEN / name).write_bytes(exposition)
    assert exposition == (GOLDEN / name).read_bytes()


def without_former_names(snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, tables=tuple(table for table in snapshot.tables if table.family.name not in RENAMED))


def test_promtool_finds_nothing(every_family: Snapshot, promtool_findings: Callable[[bytes], set[str]]) -> None:
    assert promtool_findings(text_of(Encoder().encode(without_former_names(every_family)))) == set()


def test_what_promtool_finds_are_the_names_that_end_with_the_next_version(
    every_family: Snapshot, promtool_findings: Callable[[bytes], set[str]]
) -> None:
    findings = promtool_findings(text_of(Encoder().encode(every_family)))
    assert {finding.split()[0] for finding in findings} == set(RENAMED)
