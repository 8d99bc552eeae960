"""Values of the summary: the month against its forecast, today, this hour, balance and runway, and each account's."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from exporter.calendar import periods_at
from exporter.charges import NANO
from exporter.forecasting.state import AccountOutlook, Forecast
from exporter.forecasting.what_if import WhatIf
from exporter.overview import AccountOverview, Gap, IdleApp, IdleMonth
from exporter.publication import Publication
from exporter.web.pages.alerts import Alert
from exporter.web.pages.chart import Band, band
from exporter.web.pages.formatting import ago, dollars, instant, percent, runway

_MANY_TIMES = 2.0
"""Share of change from which it is told as a multiple."""

_TROUBLE = {"bad": 2, "waiting": 1, "noted": 0}


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure with its title and a note below it."""

    title: str
    amount: str
    note: str
    is_low: bool = False


@dataclass(frozen=True, slots=True)
class MonthForecast:
    """The forecast of the month, with its places on the meter.

    Attributes:
        spent: what is spent, in percent of the meter's width.
        meaning: what low and high enclose.
    """

    expected: str
    low: str
    high: str
    meaning: str
    spent: float
    band: Band


@dataclass(frozen=True, slots=True)
class Month:
    """Spend of the month.

    Attributes:
        forecast: None where one of the accounts has none, or nothing is spent.
        no_forecast: why there is none.
        compared: how much more or less it is than the same part of the last month; empty where that is not known.
        last_month: empty where nothing is known of it and nothing will be.
        billed: how the last month compares with its invoices; empty where nothing has been compared.
    """

    amount: str
    forecast: MonthForecast | None
    no_forecast: str
    compared: str
    last_month: str
    billed: str


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account in the table of accounts; its state is up, waiting, partial or failing.

    Attributes:
        moved: by how much the month differs from the same part of the last one.
    """

    name: str
    month: str
    moved: str
    forecast: str
    today: str
    balance: str
    runway: str
    state: str
    state_text: str


def tiles(publication: Publication, now: datetime) -> tuple[Tile, ...]:
    """Return the figures of all accounts together."""
    accounts = publication.overview.accounts
    balances = [
        account.balance_at for account in accounts if account.balance is not None and account.balance_at is not None
    ]
    runways = [account.runway for account in publication.outlook.accounts if account.runway is not None]
    balance = _total(account.balance for account in accounts)
    left_out = _without([account for account in accounts if account.balance is None]) if balance is not None else ""
    note = f"read {ago(min(balances), now)}" if balances else "not known yet"
    if runways:
        note = f"lasts {runway(min(runways))}" + (" (shortest account)" if len(accounts) > 1 else "")
    return (
        Tile("Today", figure(accounts, "today"), f"since midnight, {publication.overview.time_zone}"),
        Tile("This hour", figure(accounts, "current_hour"), "so far; charges often arrive late"),
        Tile("Last hour", figure(accounts, "last_hour"), "last complete hour"),
        Tile("Credit balance", dollars(balance) + left_out, note, is_low=balance is not None and balance <= 0),
        *_idle(publication.overview.observations.idle_month),
    )


def _idle(of_month: IdleMonth | None) -> Iterator[Tile]:
    """Yield what idle runners cost, where runners are known."""
    if of_month is not None:
        share = _share(of_month.idle, of_month.cost)
        lacking = f"; of {dollars(of_month.unknown)} it is not known" if of_month.unknown > 0 else ""
        yield Tile("Idle this month", dollars(of_month.idle), f"{share} for own apps{lacking}")


def _share(idle: int, cost: int) -> str:
    """Return which part of a cost was idle, to the nearest percent, as the dashboards have it."""
    return f"{(200 * idle + cost) // (2 * cost)}% of {dollars(cost)}"


@dataclass(frozen=True, slots=True)
class IdleRow:
    """An app with idle runners this month.

    Attributes:
        app: its name, with its environment where that is another than the main one.
        settings: those that keep runners warm, in words; empty where they are not known.
        what_if: what a lower setting would have saved in the last week, in words.
        is_saving: whether one would likely have saved something.
    """

    account: str
    app: str
    idle: str
    share: str
    settings: str
    what_if: str
    is_saving: bool


_NO_SAVING, _NOT_TRIED = "none that would likely have saved anything", "not known"


def idle_rows(publication: Publication) -> tuple[IdleRow, ...]:
    """Return the apps with the most idle money of the month; accounts are named where there are several."""
    of_month = publication.overview.observations.idle_month
    return () if of_month is None else tuple(_idle_row(app, publication) for app in of_month.apps)


def _idle_row(app: IdleApp, publication: Publication) -> IdleRow:
    settings = [] if app.min_concurrency is None else [f"min_concurrency {app.min_concurrency}"]
    settings += [] if app.keep_alive is None else [f"keep_alive {app.keep_alive} s"]
    return IdleRow(
        account=app.account if len(publication.overview.accounts) > 1 else "",
        app=f"{app.app} ({app.environment})" if app.environment else app.app,
        idle=dollars(app.idle),
        share=_share(app.idle, app.cost) if app.cost > 0 else "",
        settings=", ".join(settings),
        what_if=_what_if(app.what_if) if app.what_if else _NO_SAVING if app.is_tried else _NOT_TRIED,
        is_saving=app.what_if is not None,
    )


def _what_if(told: WhatIf) -> str:
    setting, value = told.changed
    unit = " s" if setting == "keep_alive" else ""
    more = f"up to {told.most_starts:,} more cold starts, likely {told.likely_starts:,}"
    starts = more if told.most_starts else "no more cold starts"
    return (
        f"{setting} {value}{unit}: likely {dollars(told.likely)} less "
        f"({dollars(told.least)} to {dollars(told.most)}), {starts}"
    )


def month(publication: Publication) -> Month:
    """Return the spend of the month, of all accounts together."""
    accounts = publication.overview.accounts
    spent, last = _whole(accounts, "month_to_date"), _whole(accounts, "last_month")
    is_last_awaited = last is not None or bool(gap_text(accounts, "last_month"))
    spending = [account for account in accounts if not _spends_nothing(account)]
    forecasts = [account.forecast for account in publication.outlook.accounts if account.forecast is not None]
    return Month(
        amount=figure(accounts, "month_to_date"),
        forecast=None
        if spent is None or not forecasts or len(forecasts) < len(spending)
        else _month_forecast(spent, forecasts, last or 0),
        no_forecast="No forecast yet: it needs the month to date and a few days before it."
        if spending or not accounts
        else "No forecast: nothing has been spent since the start of last month.",
        compared="" if spent is None else _compared(accounts),
        last_month=figure(accounts, "last_month") if is_last_awaited else "",
        billed=_billed(accounts, publication),
    )


def _spends_nothing(account: AccountOverview) -> bool:
    """Return whether nothing has been spent in this month and the last; such an account is not forecast."""
    return account.month_to_date == 0 and account.last_month == 0


def _moved(spent: int | None, before: int | None) -> str:
    if spent is None or before is None:
        return "unknown"
    if before <= 0:
        return "new" if spent > 0 else "none"
    share = (spent - before) / before
    return f"{spent / before:.1f} times" if share >= _MANY_TIMES else f"{share:+.0%}"


def _compared(accounts: Sequence[AccountOverview]) -> str:
    """Return how the month has moved; empty where the last month of an account with spend is not known."""
    with_spend = [account for account in accounts if account.sources]
    if any(account.last_month_to_date is None for account in with_spend):
        return ""
    before = _total(account.last_month_to_date for account in with_spend)
    spent = _total(account.month_compared for account in with_spend)
    if spent is None or not before or before < 0:
        return ""
    change = spent - before
    share = abs(change) / before
    words = "more" if change > 0 else "less"
    if share >= _MANY_TIMES:
        return f"{spent / before:.1f} times the same part of last month, {dollars(before)}"
    return f"{share:.0%} {words} than the same part of last month, {dollars(before)}"


def _billed(accounts: Sequence[AccountOverview], publication: Publication) -> str:
    """Return how the last month compares with what is billed of it, which is a month of UTC."""
    # The last month that stands beside it is that of all accounts: what only some are billed is not to be compared.
    if any(account.bill is None and account.sources and account.last_month != 0 for account in accounts):
        return ""
    bills = [account.bill for account in accounts if account.bill is not None]
    if not bills or any(bill.difference is None for bill in bills):
        return ""
    zone = ZoneInfo(publication.overview.time_zone)
    shown, billed = (periods_at(publication.at, of).last_month for of in (zone, ZoneInfo("UTC")))
    if f"{shown.start.astimezone(zone):%Y-%m}" != f"{billed.start:%Y-%m}":
        return ""  # in the hours in which the month has turned in one of them only
    difference = sum(bill.difference or 0 for bill in bills)
    which = f"invoice {bills[0].number}, {bills[0].status}" if len(bills) == 1 else f"{len(bills)} invoices"
    where = "" if shown == billed else "in UTC "
    if abs(difference) < NANO // 200:
        return f"{where}equal to {which}"
    return f"{where}{dollars(abs(difference))} {'more' if difference > 0 else 'less'} than {which}"


def _month_forecast(spent: int, forecasts: list[Forecast], last: int) -> MonthForecast:
    together = Forecast(
        expected=sum(forecast.expected for forecast in forecasts),
        low=sum(forecast.low for forecast in forecasts),
        high=sum(forecast.high for forecast in forecasts),
    )
    whole = max(spent, together.high, last) * 105 // 100
    return MonthForecast(
        expected=dollars(together.expected),
        low=dollars(together.low),
        high=dollars(together.high),
        meaning="80% band" if len(forecasts) == 1 else "sum of the accounts' 80% bands",
        spent=percent(spent, whole),
        band=band(together, whole),
    )


def account_rows(publication: Publication, found: Iterable[Alert]) -> tuple[AccountRow, ...]:
    """Return a row for each account where there are several: the one in most trouble first, then by spend."""
    accounts = publication.overview.accounts
    if len(accounts) < 2:  # noqa: PLR2004  one account is what the figures are of
        return ()
    ahead = {account.account: account for account in publication.outlook.accounts}
    trouble = {account.name: 0 for account in accounts}
    for alert in found:
        if alert.about in trouble:
            trouble[alert.about] = max(trouble[alert.about], _TROUBLE[alert.severity])
    return tuple(
        _account_row(account, ahead.get(account.name), trouble[account.name])
        for account in sorted(
            accounts, key=lambda account: (-trouble[account.name], -(account.month_to_date or 0), account.name)
        )
    )


def _account_row(account: AccountOverview, ahead: AccountOutlook | None, trouble: int) -> AccountRow:
    state, state_text = _state(account)
    if state == "up" and trouble >= _TROUBLE["waiting"]:
        # Its sources work, and something else is wrong: nothing is green beside an alert.
        state, state_text = ("failing" if trouble == _TROUBLE["bad"] else "partial"), "Attention"
    return AccountRow(
        name=account.name,
        month=figure((account,), "month_to_date"),
        moved="unknown"
        if account.month_to_date is None
        else _moved(account.month_compared, account.last_month_to_date),
        forecast=dollars(ahead.forecast.expected) if ahead is not None and ahead.forecast is not None else "none",
        today=figure((account,), "today"),
        balance=dollars(account.balance),
        runway=runway(ahead.runway) if ahead is not None and ahead.runway is not None else "none",
        state=state,
        state_text=state_text,
    )


def _state(account: AccountOverview) -> tuple[str, str]:
    states = {source.state for source in account.sources}
    if account.locked:
        return "failing", "Locked"
    if "failing" in states:
        return "failing", "Failing"
    if "partial" in states:
        return "partial", "Partial"
    return ("up", "Up") if states == {"up"} else ("waiting", "Waiting")


def figure(accounts: Sequence[AccountOverview], name: str) -> str:
    """Return the sum of a figure over accounts, or what the account that lacks most of it waits for.

    An account whose key can read no usage keeps no sum waiting, as it may never be read; the sum names it.

    Args:
        accounts: those that are added up.
        name: of an amount of AccountOverview.
    """
    gap, amount = gap_text(accounts, name), _whole(accounts, name)
    if gap or amount is None:
        return gap or dollars(amount)
    unread = [account for account in accounts if not account.sources and getattr(account, name) is None]
    return dollars(amount) + _without(unread)


def _without(accounts: Sequence[AccountOverview]) -> str:
    """Return what a sum leaves out, in words; empty for nothing."""
    if not accounts:
        return ""
    return f" without {accounts[0].name if len(accounts) == 1 else f'{len(accounts)} accounts'}"


def gap_text(accounts: Sequence[AccountOverview], name: str) -> str:
    """Return what a figure lacks, in words; empty where it is whole."""
    gaps = [(account.gaps[name], account.name) for account in accounts if name in account.gaps]
    if not gaps:
        return ""
    gap, account = min(gaps, key=lambda found: (found[0].ratio, found[1]))
    return _words(gap) + (f" ({account})" if len(accounts) > 1 else "")


def _words(gap: Gap) -> str:
    if gap.known_from is None or gap.known_until is None:
        return "not yet"
    if gap.reason == "loading":
        return f"loading, {int(100 * gap.ratio)}%"
    if gap.reason == "short":
        return f"known since {gap.known_from.day} {gap.known_from:%b}"
    return f"read until {instant(gap.known_until.astimezone(UTC))}"


def _whole(accounts: Sequence[AccountOverview], name: str) -> int | None:
    """Return the sum of a figure; None where an account lacks a part of it."""
    return None if gap_text(accounts, name) else _total(getattr(account, name) for account in accounts)


def _total(amounts: Iterable[int | None]) -> int | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if known else None
