"""Values of the exporter's own metrics as a scrape shows them, for tests of what counts them."""

from datetime import UTC, datetime

from prometheus_client.parser import text_string_to_metric_families

from exporter.metrics.encoding import Encoder, Rendered
from exporter.metrics.health import Health
from exporter.metrics.snapshot import Snapshot
from exporter.publication import Exposition

AT = datetime(2026, 11, 20, tzinfo=UTC)


def exposition_of(health: Health) -> Exposition:
    """Return what is published of the exporter's own metrics."""
    encoder = Encoder()
    encoder.writes_protobuf = True
    return encoder.encode(Snapshot(0, AT, health.tables()), health.rendered())


def text_of(exposition: Exposition) -> bytes:
    """Return an exposition in the text format."""
    return b"".join(piece.plain for piece in exposition.text.pieces)


def value_of(health: Health, name: str, labels: dict[str, str]) -> float | None:
    """Return the value of a series; None where there is none."""
    # Writing and reading all of it takes half of a test's time; that all of it can be read is tested with the encoding.
    tables = tuple(table for table in health.tables() if name.startswith(table.family.name.removesuffix("_total")))
    encoded = Encoder().encode(Snapshot(0, AT, tables), Rendered())
    lines = (line for line in text_of(encoded).decode().splitlines() if line.startswith(name))
    for family in text_string_to_metric_families("\n".join([*lines, ""])):
        for sample in family.samples:
            if (sample.name, sample.labels) == (name, labels):
                return float(sample.value)
    return None
