"""MCP over streamable HTTP: each request stands by itself, so that any replica can answer it."""

from collections.abc import Iterable, Sequence

from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp

from exporter.settings.tokens import TokenFile
from exporter.web.access import AccessLog
from exporter.web.mcp.gate import PATH, Gate, Hosts
from exporter.web.mcp.server import mcp_server
from exporter.web.mcp.tool import Tool
from exporter.web.tokens import Guard

LARGEST_REQUEST = 2 * 2**20
"""Bytes; a FOCUS file to check is the largest there is."""


def endpoint(
    tools: Sequence[Tool],
    *,
    hosts: Iterable[str] = (),
    tokens: TokenFile | None = None,
    access: AccessLog | None = None,
) -> ASGIApp:
    """Return an application that answers with these tools at `PATH`.

    Args:
        tools: what can be called.
        hosts: names by which it may be called, beside this machine's own and addresses; see `Hosts`.
        tokens: who may ask; None for everybody.
        access: where requests are logged; None for nowhere.
    """
    application: ASGIApp = mcp_server(tools).streamable_http_app(
        streamable_http_path=PATH,
        json_response=True,
        stateless_http=True,
        max_request_body_size=LARGEST_REQUEST,
        # The gate knows more: addresses, and names below a name.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    return Gate(application if tokens is None else Guard(application, tokens), Hosts(hosts), access=access)
