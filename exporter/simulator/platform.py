"""The platform's small calls: the account's billing, price list and teams."""

from exporter.simulator.calls import Answer, Call, Row
from exporter.simulator.credit import balance
from exporter.simulator.errors import ApiError
from exporter.simulator.exact import HOUR, Exact, microseconds
from exporter.simulator.keys import need_admin, need_root
from exporter.simulator.lines import MODEL_APIS
from exporter.simulator.usage import need_enterprise

_FOUNDED = "2024-01-15T09:30:00Z"


async def account_billing(call: Call) -> Answer:
    """`GET /account/billing`: who is billed and, with `expand=credits`, the credit left; never below 0 here."""
    need_admin(call.key)
    body: Row = {"username": call.key.team or call.account.world.teams[0]}
    if "credits" in call.query.choices("expand", ("credits",), ()):
        body["credits"] = {"current_balance": Exact(max(0, await current_balance(call))), "currency": "USD"}
    return Answer(body)


async def current_balance(call: Call) -> int:
    """Return the credit balance in nano-USD that every call tells of; it may be negative."""
    return await balance(call.account, call.now) if call.balance is None else call.balance


async def pricing(call: Call) -> Answer:
    """`GET /models/pricing`: list prices of model endpoints."""
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
    """`GET /organization/teams`: the organization's teams, its root first."""
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
