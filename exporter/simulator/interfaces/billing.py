"""Calls about the account itself: balance, invoices, lock state, budgets, keys, teams and prices.

The published interface of the older host leaves the body of `/billing/invoices` untyped; its shape here is assumed.
What an invoice has beside the assumed fields stands for whatever else fal may send: a link, a list.
"""

from binascii import crc32

from exporter.simulator.interfaces.calls import (
    Answer,
    ApiError,
    Call,
    Row,
    need_admin,
    need_enterprise,
    need_root,
    paged,
)
from exporter.simulator.world.account import Invoice, balance, invoices, month_cost
from exporter.simulator.world.exact import HOUR, NANO, Exact, instant_of, microseconds, month_of, stamp
from exporter.simulator.world.lines import MODEL_APIS, MODELS

_FOUNDED = "2024-01-15T09:30:00Z"


async def account_billing(call: Call) -> Answer:
    """Answer `GET /account/billing`: username and, with `expand=credits`, the balance, never below 0 here."""
    need_admin(call.key)
    body: Row = {"username": _team(call)}
    if "credits" in call.query.choices("expand", ("credits",), ()):
        body["credits"] = {"current_balance": Exact(max(0, await current_balance(call))), "currency": "USD"}
    return Answer(body)


async def current_balance(call: Call) -> int:
    """Return the credit balance in nano-USD that every call reports; may be negative."""
    return await balance(call.account, call.now) if call.balance is None else call.balance


async def pricing(call: Call) -> Answer:
    """Answer `GET /models/pricing`: list prices of any model endpoint, used or not."""
    endpoints = call.query.values("endpoint_id")
    if not endpoints:
        raise ApiError(400, "endpoint_id: at least one endpoint is required.")
    world = call.account.world
    lines = {model.endpoint_id: (model.price, model.unit) for model in MODELS} | {
        line.model: (line.price, line.unit)
        for line in (*world.lines, *world.previews(microseconds(call.now) // HOUR))
        if line.product == MODEL_APIS
    }
    for endpoint in endpoints:
        if endpoint not in lines:
            raise ApiError(404, f"Endpoint {endpoint!r} was not found.")
    prices = [
        {
            "endpoint_id": endpoint,
            "unit_price": Exact(lines[endpoint][0]),
            "unit": lines[endpoint][1],
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
            "name": _full_name(username),
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
        "invoice_pdf": f"https://fal.example/invoices/{invoice.id}.pdf" if invoice.issued_at else None,
        "lines": [{"description": "Usage", "amount": Exact(invoice.subtotal)}],
    }


async def current_user(call: Call) -> Answer:
    """Answer `GET /users/current` of the older host: who the key belongs to and whether the account is locked."""
    team = _team(call)
    reason = await _lock_reason(call)
    body: Row = {
        "full_name": _full_name(team),
        "nickname": team,
        "user_id": _user_id(team),
        "is_personal": False,
        "is_locked": reason is not None,
        "is_paying": call.options.is_paying,
    }
    return Answer(body | ({"lock_reason": reason} if reason else {}))


async def user_details(call: Call) -> Answer:
    """Answer `GET /billing/user_details` of the older host: the lock, and the account's own monthly budgets."""
    reason = await _lock_reason(call)
    return Answer(
        {
            "user_id": _user_id(_team(call)),
            "soft_monthly_budget": call.options.soft_budget,
            "hard_monthly_budget": call.options.hard_budget,
            "lock_reason": reason,
            "is_paying": call.options.is_paying,
            "is_locked": reason is not None,
        }
    )


async def listed_keys(call: Call) -> Answer:
    """Answer `GET /keys`: the keys of the account, oldest first; with `expand=creator_info` who made them."""
    need_admin(call.key)
    with_creator = "creator_info" in call.query.choices("expand", ("creator_info",), ())
    world = call.account.world
    rows: list[Row] = []
    for key, created in (*world.created_keys, *world.unused_keys(microseconds(call.now) // HOUR)):
        if call.own_team not in {"", key.team}:
            continue
        renamed = call.alias if call.alias and call.alias[0] == key.id else None
        row: Row = {
            "key_id": key.id,
            "alias": renamed[1] if renamed else key.detail,
            "scope": "API",
            "created_at": stamp(instant_of(created * HOUR)),
        }
        if with_creator:
            row |= {"creator_nickname": key.login, "creator_email": f"{key.login}@acme.example"}
        rows.append(row)
    return paged(call, "keys", rows)


async def _lock_reason(call: Call) -> str | None:
    """Return why the account is locked, by a fault or its own hard budget, else None."""
    if call.locked:
        return call.locked
    budget = call.options.hard_budget
    if budget is None:
        return None
    spent = await month_cost(call.account, month_of(call.now), microseconds(call.now))
    return "User budget is exceeded. Raise the budget in the dashboard." if spent > budget * NANO else None


def _team(call: Call) -> str:
    return call.key.team or call.account.world.teams[0]


def _user_id(team: str) -> str:
    return f"user_{crc32(team.encode()):08x}"


def _full_name(team: str) -> str:
    return team.replace("-", " ").title()
