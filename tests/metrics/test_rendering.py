from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from exporter.metrics.encoding import rendered


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
