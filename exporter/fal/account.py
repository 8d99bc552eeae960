"""The account itself: its credit balance, its lock and its invoices.

The prepaid credit: from `/account/billing` with an admin key, else from `/billing/user_balance` with any key.

Whether the account is locked: from `/users/current` and `/billing/user_details`, which answer a locked account too.

`/billing/invoices`: the invoices of the account.

The published description leaves the body open; what is read here is assumed: an array of `{"id", "number", "status",
"period_start", "period_end", "issued_at", "due_at", "currency", "subtotal", "credits", "tax", "total"}`, `period_end`
exclusive.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from exporter.charges import Balance, Invoice
from exporter.fal.answers import stated_reason
from exporter.fal.client import Client
from exporter.fal.endpoints import Deadline, Endpoint, Host, Parameters, Scope
from exporter.fal.errors import (
    ApiError,
    BadAnswerError,
    FeatureError,
    LockedError,
    NotFoundError,
    RefusalError,
    ScopeError,
)
from exporter.fal.rows import (
    RejectedError,
    Rejection,
    Row,
    amount,
    in_dollars,
    instant,
    json_text,
    number,
    optional_text,
    row_of,
    text,
)

ACCOUNT_BILLING = Endpoint(Host.PLATFORM, "/account/billing")
USER_BALANCE = Endpoint(Host.REPORTING, "/billing/user_balance", Scope.API)
CURRENT_USER = Endpoint(Host.REPORTING, "/users/current", Scope.API)
USER_DETAILS = Endpoint(Host.REPORTING, "/billing/user_details", Scope.API)

_STANDING_WITHIN = timedelta(seconds=30)
"""Time for both calls; they are made again with every poll of the balance."""


async def read_balance(client: Client) -> Balance:
    """Read the credit balance, first with the call that gave it last.

    A call that fal refuses or answers in another shape gives way to the other; the one that then works is remembered,
    except after a lock, as a locked account's calls come back one by one.

    Raises:
        ApiError: neither call gave it; if fal refused both, the error is that of the call tried first.
    """
    deadline = client.deadline()
    first = client.balance_call or ACCOUNT_BILLING
    second = USER_BALANCE if first is ACCOUNT_BILLING else ACCOUNT_BILLING
    try:
        balance = await balance_by(client, first, deadline)
    except (RefusalError, BadAnswerError) as error:
        if error.transient:
            raise
        try:
            balance = await balance_by(client, second, deadline)
        except ApiError as other:
            raise (error if isinstance(other, RefusalError) and not other.transient else other) from None
        if not isinstance(error, LockedError):
            _use(client, second, instead_of=first)
        return balance
    _use(client, first, instead_of=second)
    return balance


@dataclass(frozen=True, slots=True)
class Standing:
    """State of the account as fal reports it.

    Attributes:
        lock: why it is locked (one of `LOCK_REASONS`); None if it is not locked, or fal does not state it.
        is_stated: whether fal states that it is locked or not.
        is_paying: whether fal counts it among its paying customers; None where it does not say.
        budgets: the account's own monthly budgets by kind (soft or hard), in nano-USD; None where fal does not say. fal
            does not document their unit: whole US dollars are assumed.
        problems: sentences on the calls that gave no answer.
    """

    lock: str | None = None
    is_stated: bool = False
    is_paying: bool | None = None
    budgets: Mapping[str, int] | None = None
    problems: tuple[str, ...] = ()


async def read_standing(client: Client) -> Standing:
    """Ask fal for the account's lock and budgets by both calls that state them; note the lock in the client's locks.

    The account is locked if either states so. No failure is raised: where neither states it, the locks stay as they
    are.
    """
    deadline = client.deadline(_STANDING_WITHIN)
    stated: list[str | None] = []
    refused: list[str | None] = []
    problems = []
    is_paying: bool | None = None
    budgets: Mapping[str, int] | None = None
    for call in (CURRENT_USER, USER_DETAILS):
        try:
            answer = await client.get(call, {}, deadline, track_lock=False)
        except LockedError as error:
            refused.append(error.lock)
        except ApiError as error:
            problems.append(str(error))
        else:
            found = answer if isinstance(answer, dict) else {}
            is_locked = found.get("is_locked")
            if isinstance(is_locked, bool):
                reason = found.get("lock_reason")
                stated.append(stated_reason(reason if isinstance(reason, str) else "") if is_locked else None)
            if isinstance(found.get("is_paying"), bool):
                is_paying = found["is_paying"]
            if call is USER_DETAILS and isinstance(answer, dict):
                budgets = _budgets(found)
    # An answer outweighs a refusal.
    decided = stated or refused
    reasons = [item for item in decided if item is not None]
    lock = next((item for item in reasons if item != "unknown"), reasons[0] if reasons else None)
    if decided:
        client.locks.stated(lock)
    return Standing(lock, bool(decided), is_paying, budgets, tuple(problems))


def _budgets(details: Row) -> Mapping[str, int]:
    budgets = {}
    for kind in ("soft", "hard"):
        try:
            budgets[kind] = amount(details.get(f"{kind}_monthly_budget"))
        except RejectedError:
            continue  # there is none
    return budgets


async def read_username(client: Client) -> str:
    """Return the username of the fal account that the key belongs to; empty where fal does not say it to this key.

    Raises:
        ApiError: there was no answer, or none that can be read.
    """
    try:
        answer = await client.get(ACCOUNT_BILLING, {"expand": "credits"}, client.deadline(), track_lock=False)
    except (ScopeError, FeatureError, NotFoundError, LockedError):
        return ""
    username = answer.get("username") if isinstance(answer, dict) else None
    return username if isinstance(username, str) else ""


def _use(client: Client, call: Endpoint, *, instead_of: Endpoint) -> None:
    """Make this call from now on; the other can no longer take back a lock that it has reported."""
    client.balance_call = call
    client.locks.succeeded(instead_of.path)


async def balance_by(client: Client, call: Endpoint, deadline: Deadline, *, track_lock: bool = True) -> Balance:
    """Read the credit balance by one of the two calls.

    Raises:
        ApiError: every kind of failure; see `exporter.fal.errors`.
    """
    parameters: Parameters = {"expand": "credits"} if call is ACCOUNT_BILLING else {}
    answer = await client.get(call, parameters, deadline, track_lock=track_lock)
    stated = _credit(answer) if call is ACCOUNT_BILLING else answer
    try:
        amount = number(stated)
    except RejectedError as error:
        raise client.misshapen(call, f"the credit balance cannot be read ({error})") from None
    return Balance(client.account, amount, client.now())


def _credit(answer: object) -> object:
    """Return the balance in dollars within an answer of `/account/billing`, or None."""
    credit = answer.get("credits") if isinstance(answer, dict) else None
    if not isinstance(credit, dict) or credit.get("currency") != "USD":
        return None
    return credit.get("current_balance")


CALL = Endpoint(Host.REPORTING, "/billing/invoices")


Period = tuple[datetime, datetime]


class Invoices(tuple[Invoice, ...]):  # noqa: SLOT001  a tuple's subclass can have no slots of its own
    """The invoices of one answer.

    Attributes:
        rejected: how many were not understood, by reason (one of `REJECTIONS`).
        unread: the period of each of these, half-open; None where that cannot be read either.
        foreign: the ids of those in another currency than US dollars: what was known of them in dollars is not so.
    """

    rejected: Mapping[str, int]
    unread: tuple[Period | None, ...]
    foreign: frozenset[str]

    def __new__(
        cls,
        invoices: Iterable[Invoice],
        rejected: Mapping[str, int],
        unread: Iterable[Period | None] = (),
        foreign: Iterable[str] = (),
    ) -> Self:
        """Keep all."""
        made = super().__new__(cls, invoices)
        made.rejected = rejected
        made.unread = tuple(unread)
        made.foreign = frozenset(foreign)
        return made


async def read_invoices(client: Client) -> Invoices:
    """Read all invoices of the account; one that is not understood is left out and counted.

    Raises:
        ApiError: every kind of failure; see `exporter.fal.errors`.
    """
    answer = await client.get(CALL, {}, client.deadline(), track_lock=False)
    if not isinstance(answer, list):
        raise client.misshapen(CALL, "is not a list of invoices")
    invoices = []
    rejected: Counter[str] = Counter()
    unread: list[Period | None] = []
    foreign: set[str] = set()
    for row in answer:
        try:
            invoices.append(invoice(client.account, row_of(row)))
        except RejectedError as error:
            client.rejections.reject(rejected, "invoices", error.reason, row)
            unread.append(_period(row))
            if error.reason is Rejection.CURRENCY and isinstance(row, dict):
                foreign.add(str(row.get("id")))
    return Invoices(invoices, dict(rejected), unread, foreign - {invoice.id for invoice in invoices})


def _period(row: object) -> Period | None:
    """Return the period of an invoice of which something else cannot be read; None where it cannot be read either."""
    try:
        found = row_of(row)
        return instant(found.get("period_start")), instant(found.get("period_end"))
    except RejectedError:
        return None


def invoice(account: str, row: Row) -> Invoice:
    """Read one invoice; credits and totals may be below zero.

    Raises:
        RejectedError: a needed field is absent or not what it should be.
    """
    in_dollars(row.get("currency"))
    total = number(row.get("total"))
    subtotal = row.get("subtotal")
    return Invoice(
        account=account,
        id=text(row.get("id")),
        number=optional_text(row.get("number")),
        status=text(row.get("status")).lower(),
        period_start=instant(row.get("period_start")),
        period_end=instant(row.get("period_end")),
        issued_at=_optional_instant(row.get("issued_at")),
        due_at=_optional_instant(row.get("due_at")),
        currency="USD",
        subtotal=total if subtotal is None else number(subtotal),
        credits=_optional_number(row.get("credits")),
        tax=_optional_number(row.get("tax")),
        total=total,
        stated=json_text(row),
    )


def _optional_instant(value: object) -> datetime | None:
    return None if value is None else instant(value)


def _optional_number(value: object) -> int:
    return 0 if value is None else number(value)
