"""Cost services that take files over HTTP: custom providers of Vantage, and Datadog's Custom Costs.

A month of charges goes there by the day. Vantage takes CSV files of at most 10,000 rows and 2 MB, a subset of FOCUS;
Datadog JSON arrays of line items, whose last day is inclusive and whose values are never blank. Lines of the same day,
product and tags are added up, exactly.

Each file that was taken has an id, by which it is deleted. Both add up whatever they are given, so that it is for
the caller to delete what a new file replaces.
"""

import csv
import io
import json
import os
import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from http import HTTPStatus
from typing import NamedTuple, Protocol
from urllib.parse import quote, unquote, urlsplit

import httpx
from pydantic import SecretStr

from exporter.errors import ConfigurationError, FalExporterError
from exporter.focus.charge import FocusCharge
from exporter.focus.writer import PROVIDER, decimal_text, values
from exporter.logs import hidden_secrets, hide, redact
from exporter.network import is_loopback, named_authorities, proxy_for

MOST_ROWS = 10_000
MOST_BYTES = 2_000_000
_LONGEST = 1_000
"""Characters of a value that Datadog takes."""


class CostLine(NamedTuple):
    """Identity of a line.

    Attributes:
        last: its last day, inclusive.
        tags: names and values, none of them empty.
    """

    first: date
    last: date
    category: str
    service_category: str
    service: str
    sku: str
    unit: str
    description: str
    tags: tuple[tuple[str, str], ...]


Costs = Mapping[CostLine, int]
"""Nano-USD by line."""


def cost_lines(charges: Iterable[FocusCharge]) -> dict[CostLine, int]:
    """Add charges up by day, in their order; lines that cost nothing are left out."""
    found: dict[CostLine, int] = {}
    for charge in charges:
        line = _line(charge)
        found[line] = found.get(line, 0) + charge.amounts.cost
    return {line: cost for line, cost in found.items() if cost}


def _line(charge: FocusCharge) -> CostLine:
    columns = values(charge)
    own = {
        "account": columns["BillingAccountId"],
        "team": columns["SubAccountId"],
        "product": columns.get("x_FalProduct", ""),
        "gpu_class": columns.get("x_GpuClass", ""),
        "invoice": columns["InvoiceId"],
    }
    tags = json.loads(columns["Tags"] or "{}")
    named = {**{name: str(value) for name, value in tags.items()}, **own}
    return CostLine(
        charge.start.date(),
        (charge.end - timedelta(microseconds=1)).date(),
        columns["ChargeCategory"],
        columns["ServiceCategory"],
        columns["ServiceName"],
        columns.get("SkuId", ""),
        columns.get("x_FalUnit", ""),
        columns["ChargeDescription"],
        tuple(sorted((name, value) for name, value in named.items() if name and value)),
    )


_VANTAGE = (
    *("ChargePeriodStart", "ChargeCategory", "BilledCost", "ResourceId", "ResourceType", "ServiceCategory"),
    *("ServiceName", "Tags"),
)


def vantage_files(costs: Costs) -> list[bytes]:
    """Return CSV files for a custom provider of Vantage.

    Its categories have no Adjustment: one that lowers the bill is a Credit, one that raises it Usage.
    """

    def rows() -> Iterator[bytes]:
        for line, cost in costs.items():
            category = line.category
            if category == "Adjustment":
                category = "Credit" if cost < 0 else "Usage"
            yield _csv(
                (
                    line.first.isoformat(),
                    category,
                    decimal_text(cost),
                    line.sku or line.description,
                    line.unit,
                    line.service_category,
                    line.service,
                    json.dumps(dict(line.tags), ensure_ascii=False) if line.tags else "",
                )
            )

    header = _csv(_VANTAGE)
    return [header + b"".join(part) for part in _divided(rows(), MOST_BYTES - len(header))]


def datadog_files(costs: Costs) -> list[bytes]:
    """Return JSON arrays of line items for Datadog's Custom Costs."""

    def items() -> Iterator[bytes]:
        for line, cost in costs.items():
            tags = {"service": line.service, "sku": line.sku, "unit": line.unit, "charge_category": line.category}
            named = {**dict(line.tags), **{name: value for name, value in tags.items() if value}}
            item = {
                "ProviderName": PROVIDER,
                "ChargeDescription": line.description[:_LONGEST],
                "ChargePeriodStart": line.first.isoformat(),
                "ChargePeriodEnd": line.last.isoformat(),
                "BilledCost": None,
                "BillingCurrency": "USD",
                "Tags": {name[:_LONGEST]: value[:_LONGEST] for name, value in named.items()},
            }
            # A number of JSON with all its digits, which no float has passed.
            text = json.dumps(item, ensure_ascii=False).replace(
                '"BilledCost": null', f'"BilledCost": {decimal_text(cost)}'
            )
            yield text.encode()

    return [b"[" + b",\n".join(part) + b"]" for part in _divided(items(), MOST_BYTES - MOST_ROWS * 2)]


def _divided(rows: Iterable[bytes], most: int) -> Iterator[Sequence[bytes]]:
    part: list[bytes] = []
    size = 0
    for row in rows:
        if part and (len(part) == MOST_ROWS or size + len(row) > most):
            yield part
            part, size = [], 0
        part.append(row)
        size += len(row)
    if part:
        yield part


def _csv(row: Iterable[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue().encode()


_TIMEOUT = 60.0

VANTAGE_URL = "https://api.vantage.sh"


class CostServiceError(FalExporterError):
    """A cost service cannot be reached, or refuses."""


class CostService(Protocol):
    """A service.

    Attributes:
        name: of the service, and of the account with it.
        target: method and URL of an upload.
    """

    name: str
    target: str

    def files(self, costs: Costs) -> list[bytes]:
        """Return the files of a month's costs, as the service takes them."""

    def upload(self, name: str, content: bytes) -> str:
        """Hand over a file and return its id.

        Raises:
            CostServiceError: it is not taken.
        """

    def delete(self, identity: str) -> None:
        """Delete a file; one that is gone already is passed over.

        Raises:
            CostServiceError: it is not deleted.
        """


class Vantage:
    """A custom provider of Vantage.

    Args:
        token: of the API, with write access.
        integration: token of the custom provider's integration.
        url: of the API.
    """

    def __init__(self, token: SecretStr, integration: str, url: str) -> None:
        self._base = f"{checked_url(url)}/v2/integrations/{quote(integration, safe='')}"
        self._headers = {"Authorization": f"Bearer {token.get_secret_value()}"}
        self.name = f"vantage:{integration}"
        self.target = f"POST {self._base}/costs.csv"

    def files(self, costs: Costs) -> list[bytes]:
        """Return CSV files."""
        return vantage_files(costs)

    def upload(self, name: str, content: bytes) -> str:
        """Hand over a file."""
        files = {"csv": (f"{name}.csv", content, "text/csv")}
        answer = _call("Vantage", "POST", f"{self._base}/costs.csv", self._headers, files=files)
        return _text(answer, "Vantage", "token")

    def delete(self, identity: str) -> None:
        """Delete a file."""
        _call("Vantage", "DELETE", f"{self._base}/costs/{quote(identity, safe='')}", self._headers, gone=True)


class Datadog:
    """Custom Costs of Datadog.

    Args:
        api_key: of the organization.
        application_key: of a user who may write cloud costs.
        site: of Datadog, such as `datadoghq.eu`.
        url: of the API; None for the site's.
    """

    def __init__(
        self, api_key: SecretStr, application_key: SecretStr, site: str = "datadoghq.com", url: str | None = None
    ) -> None:
        self._base = f"{checked_url(url or f'https://api.{site}')}/api/v2/cost/custom_costs"
        self._headers = {
            "DD-API-KEY": api_key.get_secret_value(),
            "DD-APPLICATION-KEY": application_key.get_secret_value(),
        }
        self.name = f"datadog:{site}"
        self.target = f"PUT {self._base}"

    def files(self, costs: Costs) -> list[bytes]:
        """Return JSON arrays."""
        return datadog_files(costs)

    def upload(self, name: str, content: bytes) -> str:
        """Hand over a file."""
        del name  # Datadog names what comes as the body itself
        headers = {**self._headers, "Content-Type": "application/json"}
        answer = _call("Datadog", "PUT", self._base, headers, content=content)
        return _text(answer, "Datadog", "data", "id")

    def delete(self, identity: str) -> None:
        """Delete a file."""
        _call("Datadog", "DELETE", f"{self._base}/{quote(identity, safe='')}", self._headers, gone=True)


def service_of(name: str, *, integration: str | None, site: str, url: str | None, dry: bool) -> CostService:
    """Return a service with the keys of the environment.

    Args:
        name: `vantage` or `datadog`.
        integration: token of the integration, with Vantage; a word stands for it where nothing will be sent.
        site: of Datadog.
        url: of the API; None for the service's own.
        dry: whether nothing will be sent, so that no keys are needed.

    Raises:
        ConfigurationError: a key or the integration is missing, or the URL is not encrypted.
    """
    if name == "datadog":
        return Datadog(_key("DD_API_KEY", dry=dry), _key("DD_APP_KEY", dry=dry), site, url)
    if not integration and dry:
        integration = "INTEGRATION"
    if not integration:
        raise ConfigurationError(
            "--integration (VANTAGE_INTEGRATION_TOKEN) is missing; create a custom provider in Vantage, and name the "
            "token of its integration"
        )
    return Vantage(_key("VANTAGE_API_TOKEN", dry=dry), integration, url or VANTAGE_URL)


def service_from_environment(name: str) -> CostService:
    """Return a service that `serve` uploads to, by the variables that its own tools take.

    Raises:
        ConfigurationError: one is missing.
    """
    return service_of(
        name,
        integration=os.environ.get("VANTAGE_INTEGRATION_TOKEN"),
        site=os.environ.get("DD_SITE") or "datadoghq.com",
        url=None,
        dry=False,
    )


def _key(variable: str, *, dry: bool) -> SecretStr:
    key = SecretStr(os.environ.get(variable, "").strip())
    if not key and not dry:
        raise ConfigurationError(f"{variable} is not set; set it to a key of the service that may write costs")
    if key:
        hide([key])
    return key


def checked_url(url: str) -> str:
    """Return the base of an API without a slash at its end.

    Raises:
        ConfigurationError: keys would travel unencrypted.
    """
    parts = urlsplit(url)
    if parts.password:
        hide([SecretStr(parts.password), SecretStr(unquote(parts.password))])
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise ConfigurationError(f"{redact(url)} does not begin with https://, so that keys would travel unencrypted")
    return url.rstrip("/")


def _call(
    service: str,
    method: str,
    url: str,
    headers: Mapping[str, str],
    *,
    content: bytes | None = None,
    files: Mapping[str, tuple[str, bytes, str]] | None = None,
    gone: bool = False,
) -> httpx.Response:
    try:
        with _client(url) as client:
            answer = client.request(method, url, headers=headers, content=content, files=files)
    except httpx.HTTPError as error:
        what = _said(str(error)) or type(error).__name__
        raise CostServiceError(
            f"{service} cannot be reached ({method} {redact(url)}): {what}; try again later"
        ) from None
    if answer.is_success or (gone and answer.status_code == HTTPStatus.NOT_FOUND):
        return answer
    said = _said(answer.text)
    raise CostServiceError(
        f"{service} refused {method} {redact(url)} with {answer.status_code}: {said or 'no reason'}; check the keys, "
        "and what they may do"
    )


def _client(url: str) -> httpx.Client:
    """Return a client that keeps to the proxies and certificate authorities of the environment.

    Raises:
        ConfigurationError: a variable that names them is wrong.
    """
    proxy = proxy_for(url)
    # Without TLS nobody need be trusted, and a wrong SSL_CERT_FILE does not matter.
    needs_tls = url.startswith("https:") or bool(proxy and proxy.is_tls)
    trusted = named_authorities() if needs_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx.Client(
        timeout=_TIMEOUT,
        trust_env=False,
        verify=trusted or True,
        proxy=httpx.Proxy(proxy.url, ssl_context=trusted if proxy.is_tls else None) if proxy else None,
    )


def _said(text: str) -> str:
    """Return the beginning of what a service says, in one line and without the keys, which it may repeat."""
    return redact(" ".join(text.split()), hidden_secrets())[:300]


def _text(answer: httpx.Response, service: str, *path: str) -> str:
    try:
        found: object = json.loads(answer.text)
        for key in path:
            found = found[key] if isinstance(found, dict) else None
    except (ValueError, KeyError):
        found = None
    if not isinstance(found, str) or not found:
        raise CostServiceError(
            f"{service} has taken a file, but its answer has no {'.'.join(path)}, by which it could be replaced; "
            "delete the file there before the next upload"
        )
    return found
