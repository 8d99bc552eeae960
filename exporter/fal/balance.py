"""The prepaid credit: from `/account/billing` with an admin key, else from `/billing/user_balance` with any key."""

from exporter.charges import Balance
from exporter.fal.calls import Call, Host, Parameters, Scope
from exporter.fal.client import Client
from exporter.fal.errors import BadAnswerError, CallError, LockedError, RefusalError
from exporter.fal.fields import number
from exporter.fal.limits import Deadline
from exporter.fal.rejections import RejectedError

ACCOUNT_BILLING = Call(Host.PLATFORM, "/account/billing")
USER_BALANCE = Call(Host.REPORTING, "/billing/user_balance", Scope.API)


async def read_balance(client: Client) -> Balance:
    """Read the credit balance, first with the call that gave it last.

    A call that fal refuses or answers in another shape gives way to the other; the one that then works is remembered,
    except after a lock, as a locked account's calls come back one by one.

    Raises:
        CallError: neither call gave it; if fal refused both, the error is that of the call tried first.
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
        except CallError as other:
            raise (error if isinstance(other, RefusalError) and not other.transient else other) from None
        if not isinstance(error, LockedError):
            _use(client, second, instead_of=first)
        return balance
    _use(client, first, instead_of=second)
    return balance


def _use(client: Client, call: Call, *, instead_of: Call) -> None:
    """Make this call from now on; the other can take a lock back no more that it has told of."""
    client.balance_call = call
    client.locks.succeeded(instead_of.path)


async def balance_by(client: Client, call: Call, deadline: Deadline, *, heed_lock: bool = True) -> Balance:
    """Read the credit balance by one of the two calls.

    Raises:
        CallError: every kind of failure; see `exporter.fal.errors`.
    """
    parameters: Parameters = {"expand": "credits"} if call is ACCOUNT_BILLING else {}
    answer = await client.get(call, parameters, deadline, heed_lock=heed_lock)
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
