"""Negotiation of the variant of the exposition by `Accept` and `Accept-Encoding` (RFC 9110, section 12.5)."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROTOBUF = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"

_OTHERS = {
    ("application/openmetrics-text", None),
    ("application/openmetrics-text", "1.0.0"),
    ("text/plain", None),
    ("text/plain", "0.0.4"),
}

_MOST_ANSWERS = 64
_LONGEST_HEADER = 512


Format = Literal["text", "openmetrics", "protobuf"]


class Variant(NamedTuple):
    """One way to write the exposition."""

    format: Format
    gzip: bool


class _Choice(NamedTuple):
    value: str
    parameters: dict[str, str]
    quality: float


class Negotiation:
    """Remembers its answers: a Prometheus sends the same headers with every scrape."""

    def __init__(self) -> None:
        self._answers: dict[tuple[bytes, bytes], Variant] = {}

    def variant(self, accept: bytes, accept_encoding: bytes) -> Variant:
        """Return the variant for a client's headers (empty where it sent none)."""
        headers = (accept, accept_encoding)
        answer = self._answers.get(headers)
        if answer is None:
            answer = Variant(wanted_format(accept.decode("latin-1")), wants_gzip(accept_encoding.decode("latin-1")))
            if max(map(len, headers)) <= _LONGEST_HEADER:
                if len(self._answers) >= _MOST_ANSWERS:
                    self._answers.clear()
                self._answers[headers] = answer
        return answer


def wants_openmetrics(accept: str) -> bool:
    """Return whether a client asks for OpenMetrics 1.0 by name and likes it no less than the text format.

    Whoever accepts neither gets the text format, the default: a browser must show something.
    """
    openmetrics = text = 0.0
    for value, parameters, quality in _choices(accept):
        version = parameters.get("version")
        if value == "application/openmetrics-text" and version in {None, "1.0.0"}:
            openmetrics = max(openmetrics, quality)
        elif value == "text/plain" and version in {None, "0.0.4"}:
            text = max(text, quality)
    return openmetrics > 0 and openmetrics >= text


def wants_protobuf(accept: str) -> bool:
    """Return whether a client asks for delimited protobuf by name and likes it no less than the other formats."""
    protobuf = other = 0.0
    for value, parameters, quality in _choices(accept):
        version = parameters.get("version")
        if value == "application/vnd.google.protobuf":
            asked = (parameters.get("proto"), parameters.get("encoding"))
            if asked == ("io.prometheus.client.metricfamily", "delimited"):
                protobuf = max(protobuf, quality)
        elif (value, version) in _OTHERS:
            other = max(other, quality)
    return protobuf > 0 and protobuf >= other


def wanted_format(accept: str) -> Format:
    """Return the format to answer with."""
    if wants_protobuf(accept):
        return "protobuf"
    return "openmetrics" if wants_openmetrics(accept) else "text"


def wants_gzip(accept_encoding: str) -> bool:
    """Return whether a client takes gzip and likes it no less than no compression."""
    qualities = {value: quality for value, _, quality in _choices(accept_encoding)}
    anything = qualities.get("*", 0.0)
    gzip = qualities.get("gzip", qualities.get("x-gzip", anything))
    return gzip > 0 and gzip >= qualities.get("identity", 0.0)


def accepts(accept: str, media_type: str) -> bool:
    """Return whether a client takes a media type; one that sends no `Accept` takes any."""
    if not accept.strip():
        return True
    kind = media_type.partition("/")[0]
    ranks = {media_type: 2, f"{kind}/*": 1, "*/*": 0}
    best, quality = -1, 0.0
    for value, _, its_quality in _choices(accept):
        if ranks.get(value, -1) > best:
            best, quality = ranks[value], its_quality
    return quality > 0


def _choices(header: str) -> Iterator[_Choice]:
    for item in header.lower().split(","):
        value, *rest = (part.strip() for part in item.split(";"))
        parameters = {name.strip(): text.strip().strip('"') for name, _, text in (part.partition("=") for part in rest)}
        yield _Choice(value, parameters, _quality(parameters.get("q", "1")))


def _quality(text: str) -> float:
    try:
        quality = float(text)
    except ValueError:
        return 0.0
    return quality if 0 <= quality <= 1 else 0.0
