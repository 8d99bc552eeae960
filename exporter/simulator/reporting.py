"""The older host: `/billing/usage`, `/billing/invoices` and `/billing/user_balance`.

The published interface leaves the bodies of usage and invoices untyped; their shapes here are assumed.
"""

from exporter.simulator.calls import Answer, Call, Row, Sums
from exporter.simulator.credit import Invoice, invoices
from exporter.simulator.errors import ApiError
from exporter.simulator.exact import Exact, microseconds, stamp
from exporter.simulator.keys import need_admin
from exporter.simulator.platform import current_balance
from exporter.simulator.world import Charge

DIMENSIONS = ("model", "app", "gpu_class")


async def reported_usage(call: Call) -> Answer:
    """`GET /billing/usage`: spend of a span, by the asked dimensions; the others are null. Assumed shape."""
    need_admin(call.key)
    group_by = call.query.choices("group_by", DIMENSIONS, ())
    if call.options.single_dimension and len(group_by) > 1:
        raise ApiError(422, "group_by: only one dimension is accepted.")
    start, end = call.query.span(call.now)

    def key(charge: Charge) -> tuple[object, ...]:
        line = charge.line
        values = {"model": line.model or None, "app": line.app, "gpu_class": line.gpu_class or None}
        return tuple(values[name] if name in group_by else None for name in DIMENSIONS)

    sums = Sums()
    async for charges in call.charges((microseconds(start), microseconds(end)), lambda _: True):
        sums.add(key, charges)
    usage = [
        dict(zip(DIMENSIONS, group, strict=True))
        | {
            "requests": requests,
            "gpu_seconds": Exact(gpu_seconds),
            "spend": Exact(subtotal - discount),
        }
        for group, (requests, _, gpu_seconds, subtotal, discount) in sums.groups.items()
    ]
    body: Row = {
        "start": stamp(start),
        "end": stamp(end),
        "group_by": list(group_by),
        "currency": "USD",
        "usage": usage,
    }
    return Answer(body)


async def reported_invoices(call: Call) -> Answer:
    """`GET /billing/invoices`: an array, newest first; billing is pooled, so that only the root has any."""
    need_admin(call.key)
    if call.key.team:
        return Answer([])
    return Answer([_invoice_row(invoice) for invoice in await invoices(call.account, call.now)])


async def user_balance(call: Call) -> Answer:
    """`GET /billing/user_balance`: the credit in USD as a bare number; any key may ask."""
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
