"""Encoding of families as protobuf: delimited messages `io.prometheus.client.MetricFamily`, with native histograms.

Fifteen kinds of fields are written, and nothing is read: that takes a writer of variable-length integers. The libraries
for the format make an object of every number first and load megabytes of classes, into a process whose memory counts.

A family is its length, its head, and its metrics; metrics of one family may be joined in any number of runs. So a page
of samples is encoded once and kept, and only the head depends on how long the others are.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from math import isnan

from prometheus_client import Metric
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.samples import Exemplar, Sample

from exporter.metrics.catalogue import Family
from exporter.samples import Page

ZERO_THRESHOLD = 2.0**-128
"""Upper bound of the zero bucket, as client libraries have it: far below a nano-dollar, so that it holds zeros only."""

MOST_NATIVE_BUCKETS = 160
"""Buckets of one native histogram; with more of them in use, each two neighbours become one."""

_KINDS = {"counter": 0, "gauge": 1, "info": 1, "stateset": 1, "unknown": 3, "untyped": 3, "histogram": 4}
_VARINT, _FIXED, _BYTES = 0, 1, 2
_double = struct.Struct("<d").pack


@dataclass(frozen=True, slots=True)
class NativeHistogram:
    """A native histogram of numbers that are not negative.

    Attributes:
        schema: bucket `i` ends at 2 ** (i / 2 ** schema), that bound included.
        zeros: how many are 0.
        buckets: how many are in each bucket, by its index.
    """

    schema: int
    zeros: int
    buckets: Mapping[int, int]

    def within(self, most: int = MOST_NATIVE_BUCKETS) -> "NativeHistogram":
        """Return the same numbers in no more than so many buckets."""
        schema, buckets = self.schema, {index: count for index, count in self.buckets.items() if count}
        while len(buckets) > most:
            schema -= 1
            halved: dict[int, int] = {}
            for index, count in buckets.items():
                halved[-(-index // 2)] = halved.get(-(-index // 2), 0) + count
            buckets = halved
        return NativeHistogram(schema, self.zeros, buckets)


class NativeHistogramFamily(HistogramMetricFamily):
    """A family of classic histograms that are native ones, too; the text formats show the classic buckets.

    Attributes:
        native: by the values of the labels.
    """

    def __init__(self, family: Family) -> None:
        super().__init__(family.name, family.help, labels=family.labels)
        self.native: dict[tuple[str, ...], NativeHistogram] = {}


def head(family: Family, length: int) -> bytes:
    """Return what comes before the metrics of a family, which are so long together."""
    return _head(family.name, family.help, family.kind, family.unit, length)


@lru_cache(maxsize=1024)
def _head(name: str, text: str, kind: str, unit: str, length: int) -> bytes:
    begin = _text(1, name) + _text(2, text) + _varint_field(3, _KINDS[kind])
    end = _text(5, unit) if unit else b""
    # Fields may come in any order: the unit, too, is put before the metrics.
    return _varint(len(begin) + len(end) + length) + begin + end


def metrics_of(family: Family, labels: tuple[str, ...], page: Page) -> bytes:
    """Return the metrics of a page."""
    pairs: dict[tuple[str, str], bytes] = {}
    counts = family.kind == "counter"
    written = bytearray()
    for place, (values, value, born_at) in enumerate(page.samples):
        created = born_at or page.began
        metric = b""
        for pair in zip(labels, values, strict=True):
            if pair[1]:
                metric += pairs.get(pair) or pairs.setdefault(pair, _pair(pair))
        number = _fixed(1, _number(value, family.scale))
        if page.bounds:
            metric += _nested(7, _classic(page.bounds, page.counts[place], _number(value, family.scale), created))
        elif counts:
            metric += _nested(3, number + (_instant(3, created.timestamp()) if created else b""))
        else:
            metric += _nested(2, number)
        written += _nested(4, metric)
    return bytes(written)


def _classic(bounds: tuple[float, ...], counts: tuple[int, ...], total: float, created: datetime | None) -> bytes:
    """Return a histogram of classic buckets."""
    written = _varint_field(1, counts[-1]) + _fixed(2, total)
    for bound, count in zip(bounds, counts, strict=True):
        written += _nested(3, _varint_field(1, count) + _fixed(2, bound))
    return written + (_instant(15, created.timestamp()) if created else b"")


def families_of(families: Iterable[Metric]) -> bytes:
    """Return the families of a registry, each whole; those without samples are left out."""
    return b"".join(_family(family) for family in families if family.samples)


def _family(family: Metric) -> bytes:
    name = {"counter": f"{family.name}_total", "info": f"{family.name}_info"}.get(family.type, family.name)
    metrics = _histograms(family) if family.type == "histogram" else _plain(family, name)
    unit = next((unit for unit in ("usd", "seconds", "bytes", "ratio") if family.name.endswith(f"_{unit}")), "")
    return _head(name, family.documentation, family.type, unit, len(metrics)) + metrics


def _plain(family: Metric, name: str) -> bytes:
    number = {0: 3, 1: 2, 3: 5}[_KINDS[family.type]]
    created = {_key(sample): sample.value for sample in family.samples if sample.name == f"{family.name}_created"}
    written = []
    for sample in family.samples:
        if sample.name == name:
            value = _fixed(1, sample.value)
            if family.type == "counter" and _key(sample) in created:
                value += _instant(3, created[_key(sample)])
            written.append(_nested(4, _labels(sample.labels) + _nested(number, value)))
    return b"".join(written)


def _histograms(family: Metric) -> bytes:
    found: dict[tuple[tuple[str, str], ...], list[Sample]] = {}
    for sample in family.samples:
        found.setdefault(_key(sample), []).append(sample)
    natives = family.native if isinstance(family, NativeHistogramFamily) else {}
    written = []
    for labels, samples in found.items():
        native = natives.get(tuple(value for _, value in labels))
        written.append(_nested(4, _labels(dict(labels)) + _nested(7, _histogram(family.name, samples, native))))
    return b"".join(written)


def _key(sample: Sample) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in sample.labels.items() if name != "le")


def _histogram(name: str, samples: Sequence[Sample], native: NativeHistogram | None) -> bytes:
    by_name = {sample.name: sample.value for sample in samples}
    written = _varint_field(1, int(by_name[f"{name}_count"])) + _fixed(2, by_name[f"{name}_sum"])
    for sample in samples:
        if sample.name == f"{name}_bucket":
            bucket = _varint_field(1, int(sample.value)) + _fixed(2, float(sample.labels["le"]))
            written += _nested(3, bucket + (_exemplar(sample.exemplar) if sample.exemplar else b""))
    if native:
        # No start: of one before its samples Prometheus 3.5 dies with created-timestamp-zero-ingestion.
        return written + _native(native.within())
    created = by_name.get(f"{name}_created")
    return written + (_instant(15, created) if created is not None else b"")


def _native(native: NativeHistogram) -> bytes:
    spans, deltas = b"", b""
    end, before, length = 0, 0, 0
    offset = 0
    for index in sorted(native.buckets):
        if length and index != end:
            spans += _nested(12, _varint_field(1, _zigzag(offset)) + _varint_field(2, length))
            offset, length = index - end, 0
        elif not length:
            offset = index
        length, end = length + 1, index + 1
        deltas += _varint(_zigzag(native.buckets[index] - before))
        before = native.buckets[index]
    # Without any bucket a span of no length is what marks the histogram as a native one.
    spans += _nested(12, _varint_field(1, _zigzag(offset)) + _varint_field(2, length))
    return (
        _varint_field(5, _zigzag(native.schema))
        + _fixed(6, ZERO_THRESHOLD)
        + _varint_field(7, native.zeros)
        + spans
        + (_nested(13, deltas) if deltas else b"")
    )


def _exemplar(exemplar: Exemplar) -> bytes:
    stamped = b"" if exemplar.timestamp is None else _instant(3, float(exemplar.timestamp))
    return _nested(3, _labels(exemplar.labels) + _fixed(2, exemplar.value) + stamped)


def _labels(labels: Mapping[str, str]) -> bytes:
    return b"".join(_pair(pair) for pair in labels.items() if pair[1])


def _pair(pair: tuple[str, str]) -> bytes:
    return _nested(1, _text(1, pair[0]) + _text(2, pair[1]))


def _number(value: float, scale: int) -> float:
    try:
        return value / scale
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _instant(field: int, at: float) -> bytes:
    seconds = int(at // 1)
    return _nested(field, _varint_field(1, seconds) + _varint_field(2, min(round((at - seconds) * 1e9), 999_999_999)))


def _text(field: int, text: str) -> bytes:
    return _nested(field, text.encode(errors="replace"))


def _nested(field: int, body: bytes) -> bytes:
    return bytes((field << 3 | _BYTES,)) + _varint(len(body)) + body


def _fixed(field: int, value: float) -> bytes:
    # As Prometheus reads every NaN of the text formats: one of many, and another one means that a series has ended.
    return bytes((field << 3 | _FIXED,)) + (b"\x01\0\0\0\0\0\xf8\x7f" if isnan(value) else _double(value))


def _varint_field(field: int, value: int) -> bytes:
    return bytes((field << 3 | _VARINT,)) + _varint(value)


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _varint(value: int) -> bytes:
    if 0 <= value < 0x80:  # noqa: PLR2004  seven bits a byte
        return bytes((value,))
    rest = value & 0xFFFF_FFFF_FFFF_FFFF
    written = bytearray()
    while rest >= 0x80:  # noqa: PLR2004
        written.append(rest & 0x7F | 0x80)
        rest >>= 7
    written.append(rest)
    return bytes(written)
