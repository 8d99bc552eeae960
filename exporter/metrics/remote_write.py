"""Remote write: hourly samples as Prometheus's protocol has them, 1.0 and 2.0.

The wire format is written by the libraries of the extra `remote-write`: protobuf, whose messages are declared here, and
Snappy from cramjam. They are imported when the first request is made.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from exporter.charges import NANO
from exporter.errors import ConfigurationError
from exporter.ledger.accounting.remote import HourSamples, Sample
from exporter.ledger.tables.remote import Parcel
from exporter.metrics.catalogue.family import Family, charged

if TYPE_CHECKING:
    from google.protobuf.message import Message

_GAUGE = "An hour's {0}, at the hour's last millisecond; corrections are further samples of the hour: sum_over_time."
_COUNTER = "An hour's {0}, as a counter that begins at 0 in every hour: increase over whole hours."

HOURLY: Mapping[str, tuple[Family, Family]] = {
    measure: (
        charged(gauge, "gauge", _GAUGE.format(of), labels),
        charged(counter, "counter", _COUNTER.format(of), labels),
    )
    for measure, of, gauge, counter, labels in (
        ("cost", "spend in US dollars", "fal_hourly_spend_usd", "fal_spend_by_hour_usd_total", ()),
        ("discount", "discounts in US dollars", "fal_hourly_discount_usd", "fal_discount_by_hour_usd_total", ()),
        ("gpu_seconds", "GPU time", "fal_hourly_gpu_seconds", "fal_gpu_by_hour_seconds_total", ()),
        ("quantity", "units", "fal_hourly_usage_quantity", "fal_usage_quantity_by_hour_total", ("unit",)),
    )
}
"""The gauge and the counter of each measure. They are sent only: the exposition has none of them."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """A version of the protocol.

    Attributes:
        headers: of its requests.
    """

    version: str
    headers: Mapping[str, str]


V1 = Protocol(
    "1.0",
    {
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "snappy",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    },
)
V2 = Protocol(
    "2.0",
    {
        "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        "Content-Encoding": "snappy",
        "X-Prometheus-Remote-Write-Version": "2.0.0",
    },
)

_Line = tuple[Family, tuple[tuple[str, str], ...], list[Sample]]
"""A family, the labels of one of its series, sorted by name, and its samples, ascending in time."""


def encoded(protocol: Protocol, parcel: Parcel, places: Sequence[int], labels: Mapping[str, str]) -> tuple[bytes, int]:
    """Return the body of a request with some of a parcel's samples, and how many samples these are.

    Args:
        protocol: the version to write.
        parcel: the parcel.
        places: of the samples by series and hour.
        labels: that every series is given besides its own.

    Raises:
        ConfigurationError: the extra is not installed.
    """
    lines = _lines(parcel, [parcel.samples[place] for place in places], labels)
    message = _version_2(lines) if protocol is V2 else _version_1(lines)
    return _compressed(message.SerializeToString()), sum(len(samples) for _, _, samples in lines)


def check_libraries() -> None:
    """Raise ConfigurationError where the extra is not installed."""
    _messages()
    _compressed(b"")


def _lines(parcel: Parcel, chosen: Iterable[HourSamples], labels: Mapping[str, str]) -> list[_Line]:
    found: dict[tuple[object, ...], _Line] = {}
    for of in chosen:
        for family, samples in zip(HOURLY[of.key.measure], (of.gauge, of.counter), strict=True):
            if not samples:
                continue
            line = found.get((family.name, of.key))
            if line is None:
                values = dict(zip(parcel.labels, parcel.label_sets[of.key.label_set], strict=True))
                named = {"__name__": family.name, **labels, **values, "unit": of.key.unit}
                line = (family, tuple(sorted((name, value) for name, value in named.items() if value)), [])
                found[family.name, of.key] = line
            line[2].extend(samples)
    for line in found.values():
        line[2].sort()
    return list(found.values())


def _version_1(lines: Iterable[_Line]) -> "Message":
    request = _messages()["prometheus.WriteRequest"]()
    for _, labels, samples in lines:
        series = request.timeseries.add()
        for name, value in labels:
            series.labels.add(name=name, value=value)
        for at, amount in samples:
            series.samples.add(value=amount / NANO, timestamp=at)
    return request


def _version_2(lines: Iterable[_Line]) -> "Message":
    request = _messages()["io.prometheus.write.v2.Request"]()
    symbols: dict[str, int] = {"": 0}

    def number(text: str) -> int:
        return symbols.setdefault(text, len(symbols))

    for family, labels, samples in lines:
        series = request.timeseries.add()
        series.labels_refs.extend(number(text) for label in labels for text in label)
        series.metadata.type = {"counter": 1, "gauge": 2}[family.kind]
        series.metadata.help_ref, series.metadata.unit_ref = number(family.help), number(family.unit)
        for at, amount in samples:
            series.samples.add(value=amount / NANO, timestamp=at)
    request.symbols.extend(symbols)
    return request


def _compressed(body: bytes) -> bytes:
    try:
        from cramjam import snappy  # noqa: PLC0415  an extra
    except ImportError:
        raise _lacking() from None
    return bytes(snappy.compress_raw(body))


def _lacking() -> ConfigurationError:
    return ConfigurationError(
        "FAL_EXPORTER_REMOTE_WRITE_URL is set, and libraries that remote write needs are not installed; install "
        "fal-exporter[remote-write]"
    )


_DOUBLE, _INT64, _UINT32, _STRING, _INT32 = 1, 3, 13, 9, 5
_SCHEMA: Mapping[str, Mapping[str, Sequence[tuple[int, str, int | str, bool]]]] = {
    "prometheus": {
        "Label": ((1, "name", _STRING, False), (2, "value", _STRING, False)),
        "Sample": ((1, "value", _DOUBLE, False), (2, "timestamp", _INT64, False)),
        "TimeSeries": ((1, "labels", "Label", True), (2, "samples", "Sample", True)),
        "WriteRequest": ((1, "timeseries", "TimeSeries", True),),
    },
    "io.prometheus.write.v2": {
        "Sample": ((1, "value", _DOUBLE, False), (2, "timestamp", _INT64, False)),
        # Its type is an enumeration, which is written as a number of 32 bits.
        "Metadata": ((1, "type", _INT32, False), (3, "help_ref", _UINT32, False), (4, "unit_ref", _UINT32, False)),
        "TimeSeries": (
            (1, "labels_refs", _UINT32, True),
            (2, "samples", "Sample", True),
            (5, "metadata", "Metadata", False),
        ),
        "Request": ((4, "symbols", _STRING, True), (5, "timeseries", "TimeSeries", True)),
    },
}
"""The messages that are written, by package: number, name and type of each field, and whether it is repeated."""


@cache
def _messages() -> Mapping[str, "type[Message]"]:
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # noqa: PLC0415  an extra
    except ImportError:
        raise _lacking() from None
    field = descriptor_pb2.FieldDescriptorProto
    pool = descriptor_pool.DescriptorPool()
    found = {}
    for package, messages in _SCHEMA.items():
        file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
        for name, fields in messages.items():
            message = file.message_type.add(name=name)
            for number, field_name, kind, is_repeated in fields:
                label = field.LABEL_REPEATED if is_repeated else field.LABEL_OPTIONAL
                if isinstance(kind, str):
                    message.field.add(
                        name=field_name,
                        number=number,
                        label=label,
                        type=field.TYPE_MESSAGE,
                        type_name=f".{package}.{kind}",
                    )
                else:
                    message.field.add(name=field_name, number=number, label=label, type=kind)
        pool.Add(file)
        for name in messages:
            found[f"{package}.{name}"] = message_factory.GetMessageClass(
                pool.FindMessageTypeByName(f"{package}.{name}")
            )
    return found
