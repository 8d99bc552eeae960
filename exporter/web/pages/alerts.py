"""Alerts of the landing page, by the thresholds of the shipped alert rules."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from exporter.forecasting.state import BudgetOutlook
from exporter.publication import AccountOverview, LedgerOverview, Publication
from exporter.web.pages.formatting import dollars, instant, span

_LATE = timedelta(hours=3)
_RUNWAY_SHORT = timedelta(days=3)
_RUNWAY_CRITICAL = timedelta(hours=6)
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
    """

    severity: _Severity
    about: str
    text: str


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
    floors = {account.name: account.credit_floor for account in publication.overview.accounts}
    for ahead in publication.outlook.accounts:
        has_credit = (ahead.balance or 0) > floors.get(ahead.account, 0)
        if ahead.runway is not None and ahead.runway < _RUNWAY_SHORT and has_credit:
            severity: _Severity = "bad" if ahead.runway < _RUNWAY_CRITICAL else "waiting"
            found.append(
                Alert(severity, ahead.account, f"Credit runs out in about {span(ahead.runway.total_seconds())}.")
            )
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
            "bad", "Exporter", f"These figures are {age} old: the ledger cannot be read, or the collector has stalled."
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
            "bad", account.name, f"The credit balance is {dollars(account.balance)}: fal refuses further calls."
        )
    for problem in account.problems:
        yield Alert("waiting", account.name, problem)
    for source in account.sources:
        if source.state == "partial":
            yield Alert("waiting", account.name, f"The source {source.name} is partial: {source.problem}")
        if source.state == "failing":
            yield Alert("bad", account.name, f"The source {source.name} is failing: {source.problem}")
        elif source.data_through is not None and now - source.data_through > _LATE:
            age = span((now - source.data_through).total_seconds())
            yield Alert("waiting", account.name, f"The source {source.name} is {age} behind.")


def _of_budget(budget: BudgetOutlook) -> Iterator[Alert]:
    about = f"Budget {budget.budget}"
    if budget.spend is None:
        return
    if budget.spend > budget.limit:
        over = dollars(budget.spend - budget.limit)
        yield Alert("bad", about, f"Exceeded by {over}: {dollars(budget.spend)} of {dollars(budget.limit)}.")
    elif budget.forecast is not None and budget.forecast.expected > budget.limit:
        expected, limit = dollars(budget.forecast.expected), dollars(budget.limit)
        yield Alert("waiting", about, f"Forecast to end at {expected}, above its limit of {limit}.")
