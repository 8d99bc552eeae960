"""Alerts of the landing page, by the thresholds of the shipped alert rules."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from importlib.resources import files
from typing import Literal

from exporter.charges import nano
from exporter.forecasting.state import BudgetOutlook
from exporter.publication import AccountOverview, LedgerOverview, Publication
from exporter.web.pages.formatting import ago, dollars, instant, span

_THRESHOLD = re.compile(r"record: fal:threshold_(\w+)\n\s+expr: vector\(([\d.]+)\)")
THRESHOLDS: Mapping[str, Decimal] = {
    name: Decimal(value)
    for name, value in _THRESHOLD.findall(
        files("exporter").joinpath("app/monitoring/thresholds.yaml").read_text(encoding="utf-8")
    )
}
"""The thresholds of the shipped alert rules, from the file that Prometheus loads."""


def _seconds(name: str) -> timedelta:
    return timedelta(seconds=float(THRESHOLDS[f"{name}_seconds"]))


def _usd(name: str) -> int:
    return nano(THRESHOLDS[f"{name}_usd"])


_LATE = _seconds("data_age")
_RUNWAY_SHORT, _RUNWAY_CRITICAL = _seconds("credit_runway_warning"), _seconds("credit_runway_critical")
_LOW_BALANCE, _HOURLY_LIMIT, _DIFFERENCE = (
    _usd("credit_balance"),
    _usd("spend_hourly"),
    _usd("reconciliation_difference"),
)
_BURNS_FAST, _BURNS_SLOWLY = (float(THRESHOLDS[f"budget_burn_{pace}_ratio"]) for pace in ("fast", "slow"))
_OVERDUE = _seconds("invoice_overdue")
_STALLED = timedelta(minutes=5)
_SHOWN = 5
"""Alerts that are shown without being asked for."""


_Severity = Literal["bad", "waiting"]
"""bad needs somebody now, waiting may be looked at later."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing that is wrong.

    Attributes:
        about: the account, the budget or the part that it concerns.
        kind: what is wrong, while the amounts in the text change; empty where the text does not change.
    """

    severity: _Severity
    about: str
    text: str
    kind: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """The same for as long as the same is wrong."""
        return self.about, self.kind or self.text


@dataclass(frozen=True, slots=True)
class Banner:
    """Everything that is wrong, the most urgent first.

    Attributes:
        severity: the worst.
        title: how many alerts there are of each severity.
        folded: alerts that are shown when asked for.
    """

    severity: _Severity
    title: str
    shown: tuple[Alert, ...]
    folded: tuple[Alert, ...]


def alerts(publication: Publication, now: datetime) -> tuple[Alert, ...]:
    """Return everything that is wrong at an instant."""
    found = [*_of_exporter(publication, now), *_of_ledger(publication.overview.ledger)]
    for account in publication.overview.accounts:
        found += _of_account(account, now)
    accounts = {account.name: account for account in publication.overview.accounts}
    for ahead in publication.outlook.accounts:
        account = accounts.get(ahead.account, AccountOverview(ahead.account, ()))
        balance = account.balance if ahead.balance is None else ahead.balance
        if ahead.runway is not None and ahead.runway < _RUNWAY_SHORT:
            # One alert about credit is enough: of the time that is left, or that nothing is.
            accounts.pop(ahead.account, None)
            if (balance or 0) > account.credit_floor:
                severity: _Severity = "bad" if ahead.runway < _RUNWAY_CRITICAL else "waiting"
                text = f"Credit runs out in about {span(ahead.runway.total_seconds())}."
                found.append(Alert(severity, ahead.account, text, "runway"))
    for account in accounts.values():
        found += _of_balance(account)
    for budget in publication.outlook.budgets:
        found += _of_budget(budget)
    return tuple(sorted(found, key=lambda alert: alert.severity != "bad"))


def banner(found: tuple[Alert, ...]) -> Banner | None:
    """Return the banner; None where nothing is wrong."""
    if not found:
        return None
    urgent = sum(alert.severity == "bad" for alert in found)
    rest = len(found) - urgent
    parts = [f"{urgent} urgent"] * bool(urgent)
    if rest:
        parts.append("1 item needs attention" if rest == 1 else f"{rest} items need attention")
    return Banner(found[0].severity, " · ".join(parts), found[:_SHOWN], found[_SHOWN:])


def data_through(accounts: tuple[AccountOverview, ...]) -> str:
    """Return the instant up to which the data of every source reach; empty where one has none yet."""
    reach = [source.data_through for account in accounts for source in account.sources]
    known = [at for at in reach if at is not None]
    return instant(min(known)) if known and len(known) == len(reach) else ""


def _of_exporter(publication: Publication, now: datetime) -> Iterator[Alert]:
    if now - publication.at > _STALLED:
        age = span((now - publication.at).total_seconds())
        yield Alert(
            "bad",
            "Exporter",
            f"These figures are {age} old: the ledger cannot be read, or the collector has stalled.",
            "age",
        )


def _of_ledger(ledger: LedgerOverview) -> Iterator[Alert]:
    if ledger.problem:
        yield Alert("bad", "Ledger", f"{_sentence(ledger.problem)}")
    for event in ledger.events:
        yield Alert("waiting", "Ledger", _sentence(event))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _of_account(account: AccountOverview, now: datetime) -> Iterator[Alert]:
    if account.locked:
        yield Alert("bad", account.name, f"Locked by fal: {account.locked}")
    elif account.balance is not None and account.balance <= account.credit_floor and not account.pays_by_invoice:
        yield Alert(
            "bad",
            account.name,
            f"The credit balance is {dollars(account.balance)}: fal refuses further calls.",
            "balance",
        )
    most = max(account.last_hour or 0, account.current_hour or 0)
    if most > _HOURLY_LIMIT:
        yield Alert(
            "bad",
            account.name,
            f"An hour has cost {dollars(most)}, more than {dollars(_HOURLY_LIMIT)}.",
            "hourly limit",
        )
    yield from _of_bill(account, now)
    for problem in account.problems:
        yield Alert("waiting", account.name, problem)
    for source in account.sources:
        if source.state == "partial":
            yield Alert("waiting", account.name, f"The source {source.name} is partial: {source.problem}", "source")
        if source.state == "failing":
            yield Alert("bad", account.name, f"The source {source.name} is failing: {source.problem}", "source")
        elif source.data_through is not None and now - source.data_through > _LATE:
            age = span((now - source.data_through).total_seconds())
            yield Alert("waiting", account.name, f"The source {source.name} is {age} behind.", "source")


def _of_balance(account: AccountOverview) -> Iterator[Alert]:
    """Yield that credit is low, where nothing more urgent is said of it."""
    balance = account.balance
    if balance is None or account.pays_by_invoice or account.locked:
        return
    if account.credit_floor < balance < _LOW_BALANCE:
        text = f"The credit balance is {dollars(balance)}, below {dollars(_LOW_BALANCE)}."
        yield Alert("waiting", account.name, text, "balance")


def _of_bill(account: AccountOverview, now: datetime) -> Iterator[Alert]:
    bill = account.bill
    if bill is None:
        return
    if bill.difference is not None and abs(bill.difference) > _DIFFERENCE:
        more = "more" if bill.difference > 0 else "less"
        text = f"The ledger has {dollars(abs(bill.difference))} {more} for last month than the invoice {bill.number}."
        yield Alert("waiting", account.name, text, "bill differs")
    if bill.status == "open" and bill.due_at is not None and now - bill.due_at > _OVERDUE:
        text = f"The invoice {bill.number} of {dollars(bill.total)} was due {ago(bill.due_at, now)}."
        yield Alert("waiting", account.name, text, "bill overdue")


_BURNS: tuple[tuple[float, tuple[str, str], _Severity], ...] = (
    (_BURNS_FAST, ("6h", "1h"), "bad"),
    (_BURNS_SLOWLY, ("3d", "1d"), "waiting"),
)
"""Times the pace that uses a budget up evenly, and the windows that must both be above."""


def _of_budget(budget: BudgetOutlook) -> Iterator[Alert]:
    about = f"Budget {budget.budget}"
    if budget.spend is None:
        return
    if budget.spend > budget.limit:
        over = dollars(budget.spend - budget.limit)
        yield Alert(
            "bad", about, f"Exceeded by {over}: {dollars(budget.spend)} of {dollars(budget.limit)}.", "exceeded"
        )
        return
    if budget.forecast is not None and budget.forecast.low > budget.limit:
        expected, limit = dollars(budget.forecast.expected), dollars(budget.limit)
        yield Alert("waiting", about, f"Forecast to end at {expected}, above its limit of {limit}.", "forecast")
    elif (near := [share for share in budget.thresholds if share < 1]) and budget.spend >= max(near) * budget.limit:
        share = 100 * budget.spend // budget.limit
        yield Alert(
            "waiting", about, f"{share}% used: {dollars(budget.spend)} of {dollars(budget.limit)}.", "threshold"
        )
    for pace, windows, severity in _BURNS:
        burn = min((budget.burn or {}).get(window, 0.0) for window in windows)
        if burn > pace:
            yield Alert(severity, about, f"Spent {burn:.1f} times faster than lasts to the end of the period.", "pace")
            break
