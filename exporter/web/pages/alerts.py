"""What is wrong, most urgent first, by the thresholds of the shipped alert rules."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from exporter.forecasting.state import BudgetOutlook
from exporter.publication import AccountOverview, LedgerOverview, Publication
from exporter.web.pages.formatting import dollars, instant, span
from exporter.web.pages.layout import Markup, fill, join

_LATE = timedelta(hours=3)
_RUNWAY_SHORT = timedelta(days=3)
_RUNWAY_CRITICAL = timedelta(hours=6)
_STALLED = timedelta(minutes=5)
_SHOWN = 5
"""Alarms that are shown without being asked for."""


class Alarm(NamedTuple):
    """One thing that is wrong.

    Attributes:
        severity: bad needs somebody now, waiting may be looked at later.
        about: the account, the budget or the part that it concerns.
    """

    severity: Literal["bad", "waiting"]
    about: str
    text: str


def alarms(publication: Publication, now: datetime) -> tuple[Alarm, ...]:
    """Return everything that is wrong at an instant."""
    found = [*_of_exporter(publication, now), *_of_ledger(publication.overview.ledger)]
    for account in publication.overview.accounts:
        found += _of_account(account, now)
    for it in publication.outlook.accounts:
        if it.runway is not None and it.runway < _RUNWAY_SHORT and (it.balance or 0) > 0:
            severity: Literal["bad", "waiting"] = "bad" if it.runway < _RUNWAY_CRITICAL else "waiting"
            found.append(Alarm(severity, it.account, f"The credit lasts {span(it.runway.total_seconds())} more."))
    for budget in publication.outlook.budgets:
        found += _of_budget(budget)
    return tuple(sorted(found, key=lambda it: it.severity != "bad"))


def banner(found: tuple[Alarm, ...], accounts: tuple[AccountOverview, ...]) -> Markup:
    """Return the banner: what is wrong, or that nothing is and how far the data reach."""
    if not found:
        reach = [it.data_through for account in accounts for it in account.sources]
        known = [it for it in reach if it is not None]
        if not known or len(known) < len(reach):
            return _LOADING
        return fill(_WELL, at=instant(min(known)))
    urgent = sum(it.severity == "bad" for it in found)
    rest = len(found) - urgent
    parts = [f"{urgent} urgent"] * bool(urgent) + [f"{rest} to look at"] * bool(rest)
    return fill(
        _BANNER,
        severity=found[0].severity,
        title=" · ".join(parts),
        alarms=join(map(_item, found[:_SHOWN])),
        rest=fill(_REST, count=len(found) - _SHOWN, alarms=join(map(_item, found[_SHOWN:])))
        if found[_SHOWN:]
        else Markup(),
    )


def _item(alarm: Alarm) -> Markup:
    return fill("<li><strong>{about}</strong> {text}</li>", about=alarm.about, text=alarm.text)


def _of_exporter(publication: Publication, now: datetime) -> Iterator[Alarm]:
    if now - publication.at > _STALLED:
        age = span((now - publication.at).total_seconds())
        yield Alarm(
            "bad", "Exporter", f"These figures are {age} old: the ledger cannot be read, or the collector hangs."
        )


def _of_ledger(ledger: LedgerOverview) -> Iterator[Alarm]:
    if ledger.problem:
        yield Alarm("bad", "Ledger", f"{_sentence(ledger.problem)}")
    for event in ledger.events:
        yield Alarm("waiting", "Ledger", _sentence(event))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _of_account(account: AccountOverview, now: datetime) -> Iterator[Alarm]:
    if account.locked:
        yield Alarm("bad", account.name, f"Locked by fal: {account.locked}")
    elif account.balance is not None and account.balance <= 0:
        yield Alarm(
            "bad", account.name, f"The credit balance is {dollars(account.balance)}: fal refuses further calls."
        )
    for problem in account.problems:
        yield Alarm("waiting", account.name, problem)
    for source in account.sources:
        if source.state == "failing":
            yield Alarm("bad", account.name, f"The source {source.name} fails: {source.problem}")
        elif source.data_through is not None and now - source.data_through > _LATE:
            age = span((now - source.data_through).total_seconds())
            yield Alarm("waiting", account.name, f"The data of the source {source.name} end {age} ago.")


def _of_budget(budget: BudgetOutlook) -> Iterator[Alarm]:
    about = f"Budget {budget.budget}"
    if budget.spend is None:
        return
    if budget.spend > budget.limit:
        over = dollars(budget.spend - budget.limit)
        yield Alarm("bad", about, f"Exceeded by {over}: {dollars(budget.spend)} of {dollars(budget.limit)}.")
    elif budget.forecast is not None and budget.forecast.expected > budget.limit:
        expected, limit = dollars(budget.forecast.expected), dollars(budget.limit)
        yield Alarm("waiting", about, f"Forecast to end at {expected}, above its limit of {limit}.")


_WELL = '<p class="well" role="status"><strong>Nothing needs attention.</strong> The data reach to {at}.</p>'
_LOADING = Markup('<p class="note" role="status">The first data are being loaded.</p>')

_REST = "<details><summary>{count} more</summary><ul>{alarms}</ul></details>"

_BANNER = """\
<section class="banner {severity}" aria-labelledby="wrong">
<h2 id="wrong">{title}</h2>
<ul>{alarms}</ul>{rest}
</section>
"""
