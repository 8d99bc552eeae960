"""The parts of a line that both encoders write: a family's header, a series' labels, a number."""

from exporter.metrics.catalogue import Family
from exporter.samples import Page

_UNLIKE_GO = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def openmetrics_header(family: Family) -> str:
    """Write what OpenMetrics says of a family before its samples."""
    name = family.base_name
    unit = f"# UNIT {name} {family.unit}\n" if family.unit else ""
    return f"# HELP {name} {family.help.translate(_ESCAPES)}\n# TYPE {name} {family.kind}\n{unit}"


def series_of(labels: tuple[str, ...], page: Page) -> list[str]:
    """Write each sample's labels; one that is empty is absent to Prometheus and left out."""
    written: tuple[dict[str, str], ...] = tuple({"": ""} for _ in labels)
    series = []
    for values, _, _ in page.samples:
        pairs = []
        for name, known, value in zip(labels, written, values, strict=True):
            pair = known.get(value)
            if pair is None:
                pair = known[value] = f'{name}="{value.translate(_ESCAPES)}"'
            if pair:
                pairs.append(pair)
        series.append("{" + ",".join(pairs) + "}" if pairs else "")
    return series


def number_text(value: float, scale: int) -> str:
    """Write the float64 nearest to the exact value: Python divides integers with one correct rounding."""
    try:
        text = repr(value / scale)
    except OverflowError:
        return "+Inf" if value > 0 else "-Inf"
    return _UNLIKE_GO.get(text, text)
