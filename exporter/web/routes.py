"""Every route that is served, for the documentation's table.

Apart from the application, as the calls of REST are not loaded before somebody asks.
"""

from collections.abc import Mapping
from types import MappingProxyType

from exporter.web.application import LANDING, METRICS
from exporter.web.rest.calls import CALLS
from exporter.web.rest.entrance import DOCS, OPENAPI

ROUTES: Mapping[str, str] = MappingProxyType(
    {
        METRICS: "the exposition: text 0.0.4, OpenMetrics 1.0 or delimited protobuf by `Accept`, gzip by "
        "`Accept-Encoding`",
        LANDING: "the landing page; `?refresh=5` reloads it every five seconds, `?account=text` shows those accounts; "
        "with `Accept: text/plain` its figures as text",
        "/-/healthy": "200 while the process works, even without its ledger; 503 once a restart would help",
        "/healthz": "the same",
        "/-/ready": "503 until the current month has been loaded, then 200, even while fal is unavailable",
        "/readyz": "the same",
        **{call.path: call.told for call in CALLS},
        OPENAPI: "the calls above under `/v1`, described in OpenAPI 3.1",
        DOCS: "the same as a web page",
    }
)
"""Every route and what it answers; the documentation's table."""
