import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.web.negotiation import Negotiation, Variant, wanted_format, wants_gzip, wants_openmetrics, wants_protobuf

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;"
    "q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
PROMETHEUS_3_PROTOBUF = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6," + PROMETHEUS_3
)
# As Prometheus 2.42 sends it where native histograms are switched on.
PROMETHEUS_2_PROTOBUF = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,"
    "application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        (PROMETHEUS_2, True),
        (PROMETHEUS_3, True),
        (PROMETHEUS_3_PROTOBUF, True),
        (BROWSER, False),
        ("", False),
        ("*/*", False),
        ("application/*", False),
        ("application/json", False),
        ("application/openmetrics-text", True),
        ("Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8", True),
        ('application/openmetrics-text; version="1.0.0"', True),
        ("application/openmetrics-text; version=0.0.1", False),
        ("application/openmetrics-text; version=2.0.0", False),
        ("application/openmetrics-text; q=0", False),
        ("application/openmetrics-text;q=0.5, text/plain;q=0.8", False),
        ("text/plain;q=0.5, application/openmetrics-text;q=0.8", True),
        ("text/plain;q=0.5, application/openmetrics-text;q=0.5", True),
        ("text/plain;version=0.0.4;q=1;*/*;q=0.1", False),
        ("application/openmetrics-text;q=high", False),
        ("application/openmetrics-text;q=nan", False),
        ("application/openmetrics-text;q=7", False),
    ],
)
def test_openmetrics_is_for_those_who_ask_for_it_by_name(accept: str, *, openmetrics: bool) -> None:
    assert wants_openmetrics(accept) is openmetrics


DELIMITED = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (PROMETHEUS_2, "openmetrics"),
        (PROMETHEUS_2_PROTOBUF, "protobuf"),
        (PROMETHEUS_3, "openmetrics"),
        (PROMETHEUS_3_PROTOBUF, "protobuf"),
        (BROWSER, "text"),
        (DELIMITED, "protobuf"),
        ("application/vnd.google.protobuf", "text"),
        ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text", "text"),
        ("application/vnd.google.protobuf;proto=other;encoding=delimited", "text"),
        (f"{DELIMITED};q=0", "text"),
        (f"{DELIMITED};q=0.3,application/openmetrics-text;version=1.0.0;q=0.5", "openmetrics"),
        (f"{DELIMITED};q=0.3,text/plain;version=0.0.4;q=0.5", "text"),
        (f"{DELIMITED};q=0.3,text/plain;version=1.0.0;q=0.5", "protobuf"),
        (f"{DELIMITED};q=0.5,text/plain;q=0.5", "protobuf"),
    ],
)
def test_protobuf_is_for_those_who_like_it_best(accept: str, wanted: str) -> None:
    assert wanted_format(accept) == wanted
    assert wants_protobuf(accept) is (wanted == "protobuf")


@pytest.mark.parametrize(
    ("accept_encoding", "gzip"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("gzip, deflate, br", True),
        ("gzip;q=0.5", True),
        ("*", True),
        ("identity;q=0.5, *;q=0.7", True),
        ("", False),
        ("identity", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("gzip;q=0.3, identity;q=0.9", False),
        ("notgzip", False),
    ],
)
def test_gzip_is_for_those_who_accept_it(accept_encoding: str, *, gzip: bool) -> None:
    assert wants_gzip(accept_encoding) is gzip


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_header_has_an_answer_and_the_same_one_again(accept: bytes, accept_encoding: bytes) -> None:
    negotiation = Negotiation()
    answer = negotiation.variant(accept, accept_encoding)
    assert answer == Variant(wanted_format(accept.decode("latin-1")), wants_gzip(accept_encoding.decode("latin-1")))
    assert negotiation.variant(accept, accept_encoding) == answer


def test_what_is_remembered_is_bounded() -> None:
    negotiation = Negotiation()
    for number in range(1000):
        negotiation.variant(b"text/%d" % number, b"gzip")
    negotiation.variant(b"x" * 10_000, b"gzip")
    assert 0 < len(negotiation._answers) <= 64
    assert max(len(accept) for accept, _ in negotiation._answers) < 100
