"""Calls about the account itself: balance, invoices, prices and teams.

The published interface of the older host leaves the body of `/billing/invoices` untyped; its shape here is assumed.
"""

from exporter.simulator.account import Invoice, balance, invoices
from exporter.simulator.calls import Answer, ApiError, Call, Row, need_admin, need_enterprise, need_root
from exporter.simulator.exact import HOUR, Exact, microseconds, stamp
from exporter.simulator.lines import MODEL_APIS

_FOUNDED = "2024-01-15T09:30:00Z"


async def account_billing(call: Call) -> Answer:
    """Answer `GET /account/billing`: username and, with `expand=credits`, the balance, never below 0 here."""
    need_admin(call.key)
    body: Row = {"username": call.key.team or call.account.world.teams[0]}
    if "credits" in call.query.choices("expand", ("credits",), ()):
        body["credits"] = {"current_balance": Exact(max(0, await current_balance(call))), "currency": "USD"}
    return Answer(body)


async def current_balance(call: Call) -> int:
    """Return the credit balance in nano-USD that every call reports; may be negative."""
    return await balance(call.account, call.now) if call.balance is None else call.balance


async def pricing(call: Call) -> Answer:
    """Answer `GET /models/pricing`: list prices of model endpoints."""
    endpoints = call.query.values("endpoint_id")
    if not endpoints:
        raise ApiError(400, "endpoint_id: at least one endpoint is required.")
    world = call.account.world
    lines = {
        line.model: line
        for line in (*world.lines, *world.previews(microseconds(call.now) // HOUR))
        if line.product == MODEL_APIS
    }
    for endpoint in endpoints:
        if endpoint not in lines:
            raise ApiError(404, f"Endpoint {endpoint!r} was not found.")
    prices = [
        {
            "endpoint_id": endpoint,
            "unit_price": Exact(lines[endpoint].price),
            "unit": lines[endpoint].unit,
            "currency": "USD",
        }
        for endpoint in endpoints
    ]
    return Answer({"next_cursor": None, "has_more": False, "prices": prices})


async def teams(call: Call) -> Answer:
    """Answer `GET /organization/teams`: the organization's teams, its root first."""
    need_root(call.key)
    need_enterprise(call)
    rows = [
        {
            "username": username,
            "name": username.replace("-", " ").title(),
            "is_org_root": position == 0,
            "created_at": _FOUNDED,
        }
        for position, username in enumerate(call.account.world.teams)
    ]
    return Answer({"teams": rows})


async def reported_invoices(call: Call) -> Answer:
    """Answer `GET /billing/invoices`: an array, newest first; billing is pooled, so that only the root has any."""
    need_admin(call.key)
    if call.key.team:
        return Answer([])
    return Answer([_invoice_row(invoice) for invoice in await invoices(call.account, call.now)])


async def user_balance(call: Call) -> Answer:
    """Answer `GET /billing/user_balance`: the credit in USD as a bare number; any key may ask."""
    return Answer(Exact(await current_balance(call)))


def _invoice_row(invoice: Invoice) -> Row:
    return {
        "id": invoice.id,
        "number": invoice.number,
        "status": invoice.status,
        "period_start": stamp(invoice.period_start),
        "period_end": stamp(invoice.period_end),
        "issued_at": stamp(invoice.issued_at) if invoice.issued_at else None,
        "due_at": stamp(invoice.due_at) if invoice.due_at else None,
        "currency": "USD",
        "subtotal": Exact(invoice.subtotal),
        "credits": Exact(invoice.credits),
        "tax": Exact(invoice.tax),
        "total": Exact(invoice.total),
    }
