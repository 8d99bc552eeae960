"""Reader of delimited `io.prometheus.client.MetricFamily`, by the protobuf library and a schema of the test's own."""

from collections.abc import Iterator

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

_TYPES = {
    "double": descriptor_pb2.FieldDescriptorProto.TYPE_DOUBLE,
    "uint64": descriptor_pb2.FieldDescriptorProto.TYPE_UINT64,
    "uint32": descriptor_pb2.FieldDescriptorProto.TYPE_UINT32,
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    "int32": descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
    "sint32": descriptor_pb2.FieldDescriptorProto.TYPE_SINT32,
    "sint64": descriptor_pb2.FieldDescriptorProto.TYPE_SINT64,
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
}
_SCHEMA = {
    "Instant": "seconds:int64=1 nanos:int32=2",
    "LabelPair": "name:string=1 value:string=2",
    "Gauge": "value:double=1",
    "Exemplar": "label:*LabelPair=1 value:double=2 timestamp:Instant=3",
    "Counter": "value:double=1 exemplar:Exemplar=2 created_timestamp:Instant=3",
    "Untyped": "value:double=1",
    "Bucket": "cumulative_count:uint64=1 upper_bound:double=2 exemplar:Exemplar=3 cumulative_count_float:double=4",
    "BucketSpan": "offset:sint32=1 length:uint32=2",
    "Histogram": "sample_count:uint64=1 sample_sum:double=2 bucket:*Bucket=3 schema:sint32=5 zero_threshold:double=6 "
    "zero_count:uint64=7 positive_span:*BucketSpan=12 positive_delta:*sint64=13 created_timestamp:Instant=15",
    "Metric": "label:*LabelPair=1 gauge:Gauge=2 counter:Counter=3 untyped:Untyped=5 timestamp_ms:int64=6 "
    "histogram:Histogram=7",
    "MetricFamily": "name:string=1 help:string=2 type:int32=3 metric:*Metric=4 unit:string=5",
}


def _family_class() -> type[Message]:
    file = descriptor_pb2.FileDescriptorProto(name="metrics.proto", package="judge", syntax="proto2")
    for name, fields in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for field in fields.split():
            label, _, rest = field.partition(":")
            kind, _, number = rest.partition("=")
            kind, is_repeated = kind.removeprefix("*"), kind.startswith("*")
            added = message.field.add(name=label, number=int(number))
            added.label = added.LABEL_REPEATED if is_repeated else added.LABEL_OPTIONAL
            if kind in _TYPES:
                added.type = _TYPES[kind]
            else:
                added.type, added.type_name = added.TYPE_MESSAGE, f".judge.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("judge.MetricFamily"))


_FAMILY = _family_class()
_KINDS = {0: "counter", 1: "gauge", 3: "unknown", 4: "histogram"}


def families(document: bytes) -> Iterator[Message]:
    """Read delimited families; what the schema does not know is an error."""
    at = 0
    while at < len(document):
        length = shift = 0
        while True:
            byte = document[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        family = _FAMILY()
        assert family.ParseFromString(document[at : at + length]) == length
        assert at + length <= len(document)
        # Read and written again without what is unknown, nothing is lost.
        before = family.ByteSize()
        family.DiscardUnknownFields()
        assert family.ByteSize() == before
        at += length
        yield family


def kind_of(family: Message) -> str:
    """Return the family's type."""
    return _KINDS[family.type]


def labels_of(metric: Message) -> dict[str, str]:
    """Return the labels of a metric."""
    return {pair.name: pair.value for pair in metric.label}


def value_of(metric: Message) -> float:
    """Return the number of a metric that is no histogram."""
    return next(getattr(metric, kind).value for kind in ("counter", "gauge", "untyped") if metric.HasField(kind))


def created_of(one: Message) -> float | None:
    """Return when a counter or a histogram began."""
    at = one.created_timestamp
    return at.seconds + at.nanos / 1e9 if one.HasField("created_timestamp") else None


def native_of(histogram: Message) -> dict[int, int]:
    """Return the counts by index of a native histogram's buckets, as Prometheus reads spans and deltas."""
    found: dict[int, int] = {}
    deltas = iter(histogram.positive_delta)
    index = count = 0
    for span in histogram.positive_span:
        index += span.offset
        for _ in range(span.length):
            count += next(deltas)
            found[index] = count
            index += 1
    assert next(deltas, None) is None
    return found
