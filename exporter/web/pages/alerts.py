"""Alerts of the landing page: the shipped alert rules, by their thresholds and severities, without Prometheus.

Each alert of the page names the rule that says the same in Prometheus, and is as urgent as that. The page knows no
`for`: what a rule reports after some minutes, it shows at once. `NOT_SHOWN` lists the rules that it cannot evaluate.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.resources import files
from types import MappingProxyType
from typing import Literal

from exporter.charges import NANO, hour_of, nano
from exporter.forecasting.state import BudgetOutlook, Outlook
from exporter.overview import AccountOverview, Bookings, IdleApp, KeyOverview, LedgerOverview, Observations
from exporter.publication import Publication
from exporter.web.pages.chart import product_name
from exporter.web.pages.formatting import ago, dollars, instant, share_of_limit, span

_RULES = files("exporter").joinpath("app/monitoring")
_THRESHOLD = re.compile(r"record: fal:threshold_(\w+)\n\s+expr: vector\(([\d.]+)\)")
THRESHOLDS: Mapping[str, Decimal] = {
    name: Decimal(value)
    for name, value in _THRESHOLD.findall(_RULES.joinpath("thresholds.yaml").read_text(encoding="utf-8"))
}
"""The thresholds of the shipped alert rules, from the file that Prometheus loads."""

Severity = Literal["bad", "waiting", "noted"]
"""bad needs somebody now, waiting today, noted is worth knowing: critical, warning and info of the rules."""

_SEVERITIES: Mapping[str, Severity] = {"critical": "bad", "warning": "waiting", "info": "noted"}
_RULE = re.compile(r"- alert: (\w+)\n.*?labels: \{severity: (\w+)\}", re.DOTALL)
SEVERITIES: Mapping[str, Severity] = {
    name: _SEVERITIES[severity]
    for name, severity in reversed(_RULE.findall(_RULES.joinpath("alerts.yaml").read_text(encoding="utf-8")))
}
"""The severity of each rule, the first where a rule has two, from the file that Prometheus loads."""

NOT_SHOWN: Mapping[str, str] = MappingProxyType(
    {
        "FalExporterDown": "an exporter that is down has no page",
        "FalReplicaDown": "an exporter that is down has no page, and one that is cut off does not know of the others",
        "FalReplicaImpaired": "the page of a replica says so in a sentence at its top",
        "FalQueueGrowing": "it compares a queue with what it was before, which the exporter does not keep",
        "FalThresholdsMissing": "it is about rules that Prometheus lacks, which the exporter cannot see",
    }
)
"""Rules that the page cannot evaluate, and why."""


def _seconds(name: str) -> timedelta:
    return timedelta(seconds=float(THRESHOLDS[f"{name}_seconds"]))


def _usd(name: str) -> int:
    return nano(THRESHOLDS[f"{name}_usd"])


def _ratio(name: str) -> float:
    return float(THRESHOLDS[f"{name}_ratio"])


_LATE = _seconds("data_age")
_RUNWAY_SHORT, _RUNWAY_CRITICAL = _seconds("credit_runway_warning"), _seconds("credit_runway_critical")
_LOW_BALANCE, _HOURLY_LIMIT, _DIFFERENCE = (
    _usd("credit_balance"),
    _usd("spend_hourly"),
    _usd("reconciliation_difference"),
)
_UNUSUAL, _NEW, _RESTATED = _usd("spend_unusual"), _usd("new_model"), _usd("restatement")
_BURNS_FAST, _BURNS_SLOWLY = _ratio("budget_burn_fast"), _ratio("budget_burn_slow")
_PRICE_CHANGE, _PROVIDER_BUDGET = _ratio("unit_price_change"), _ratio("provider_budget_used")
_OVERDUE, _KEY_UNUSED = _seconds("invoice_overdue"), _seconds("api_key_unused")
_IDLE, _IDLE_SHARE = _usd("app_idle"), _ratio("app_idle")
_BOOKED_OFF, _BOOKED_SHARE = _usd("booked_difference"), _ratio("booked_difference")
_BOOKED_AGE = _seconds("booked_age")
_STALLED = timedelta(minutes=5)
_DAY = timedelta(days=1)
_CLOCK_SECONDS = 60
_FIRST_DAYS = 3
"""Of a month, in which the last hours of the month before still change."""

_SHOWN = 5
"""Alerts that are shown without being asked for."""

_NAMED = 3
"""API keys that are named before the rest are counted."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing that is wrong, or worth knowing.

    Attributes:
        about: the account, the budget or the part that it concerns.
        kind: what is wrong, while the amounts in the text change; empty where the text does not change.
        rule: the shipped alert that says the same; empty where none does.
        action: a sentence with what to do; empty where the text says it.
        link: title and address of the place to look at, on this page or at fal; None for none.
        is_ahead: stands before others that are as urgent.
    """

    severity: Severity
    about: str
    text: str
    kind: str = ""
    rule: str = ""
    action: str = ""
    link: tuple[str, str] | None = None
    is_ahead: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """The same for as long as the same is wrong."""
        return self.about, self.kind or self.text

    @property
    def told(self) -> str:
        """The text, with what to do."""
        return f"{self.text} {self.action}".rstrip()


def _of(rule: str, about: str, text: str, kind: str = "") -> Alert:
    """Return the alert that says what a shipped rule does, as urgent as that."""
    return Alert(SEVERITIES[rule], about, text, kind, rule)


@dataclass(frozen=True, slots=True)
class Banner:
    """Everything that is wrong, the most urgent first.

    Attributes:
        severity: the worst.
        title: how many alerts there are of each severity.
        shown: what is said of several, once.
        folded: what is shown when asked for.
    """

    severity: Severity
    title: str
    shown: tuple[Alert, ...]
    folded: tuple[Alert, ...]


_ORDER: tuple[Severity, ...] = ("bad", "waiting", "noted")


def alerts(publication: Publication, now: datetime, broken_files: Sequence[str] = ()) -> tuple[Alert, ...]:
    """Return everything that is wrong at an instant, the most urgent first.

    Args:
        publication: what is served.
        now: an aware instant.
        broken_files: settings that name a file of tokens or users which cannot be used as it is.
    """
    overview = publication.overview
    found = [*_of_exporter(publication, now, broken_files), *_of_ledger(overview.ledger)]
    for account in overview.accounts:
        found += _of_account(account, now)
    found += _of_credit(overview.accounts, publication.outlook, now)
    for budget in furthest_first(publication.outlook.budgets):
        found += _of_budget(budget)
    found += _of_spend(overview.observations)
    found += _of_prices(overview.observations)
    found += _of_bills(overview.observations, overview.accounts, now)
    found += _of_machines(overview.observations)
    found += _of_bookings(overview.observations.bookings, now)
    found += _of_keys(overview.observations, overview.accounts, now)
    return tuple(sorted(found, key=lambda alert: (_ORDER.index(alert.severity), not alert.is_ahead)))


def furthest_first(budgets: Sequence[BudgetOutlook]) -> list[BudgetOutlook]:
    """Return budgets in the order in which they need somebody.

    Those that are exceeded first, then those that will be and those that probably will be, each by the share of the
    limit that is spent.
    """

    def rank(budget: BudgetOutlook) -> tuple[bool, bool, bool, float]:
        spend, limit, forecast = budget.spend or 0, budget.limit, budget.forecast
        will, likely = (
            forecast is not None and forecast.low > limit,
            forecast is not None and forecast.expected > limit,
        )
        return spend > limit, will, likely, spend / limit if limit > 0 else float(spend)

    return sorted(budgets, key=rank, reverse=True)


def _of_credit(accounts: Sequence[AccountOverview], outlook: Outlook, now: datetime) -> Iterator[Alert]:
    """Yield one alert about credit for each account: of the time that is left, else of the amount."""
    left = {account.name: account for account in accounts}
    for ahead in outlook.accounts:
        account = left.get(ahead.account, AccountOverview(ahead.account, ()))
        balance = account.balance if ahead.balance is None else ahead.balance
        if ahead.runway is not None and ahead.runway < _RUNWAY_SHORT:
            left.pop(ahead.account, None)
            if (balance or 0) > account.credit_floor:
                rule = "FalCreditRunwayShort"
                severity: Severity = SEVERITIES[rule] if ahead.runway < _RUNWAY_CRITICAL else "waiting"
                text = f"Credit runs out in about {span(ahead.runway.total_seconds())}; then fal serves nothing."
                end = (now + ahead.runway).astimezone(UTC)
                # By the hour, as it is an estimate, unless that hour has begun.
                until = hour_of(end) if hour_of(end) > now else end
                action = f"Top up before {until:%Y-%m-%d %H:%M} UTC."
                yield Alert(severity, ahead.account, text, "runway", rule, action, _BILLING)
    for account in left.values():
        yield from _of_balance(account)


def banner(found: tuple[Alert, ...]) -> Banner | None:
    """Return the banner; None where nothing is wrong."""
    if not found:
        return None
    urgent, rest, noted = (sum(alert.severity == severity for alert in found) for severity in _ORDER)
    parts = [f"{urgent} urgent"] * bool(urgent)
    if rest:
        parts.append("1 item needs attention" if rest == 1 else f"{rest} items need attention")
    if noted:
        parts.append(f"{noted} worth knowing")
    items = _together(found)
    return Banner(found[0].severity, " · ".join(parts), items[:_SHOWN], items[_SHOWN:])


def _together(found: tuple[Alert, ...]) -> tuple[Alert, ...]:
    """Put what is said of several in one item, where the first stood: a fault at fal is said of every account."""
    groups: dict[tuple[str, str, str], list[Alert]] = {}
    for alert in found:
        groups.setdefault((alert.severity, alert.rule, alert.text), []).append(alert)
    return tuple(replace(group[0], about=_list_of(sorted({item.about for item in group}))) for group in groups.values())


def _list_of(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + rest


def unjudged(outlook: Outlook) -> str:
    """Say of which budgets it is not known yet what has been spent, so that no alert can be right; empty for none."""
    names = [budget.budget for budget in outlook.budgets if budget.spend is None]
    if not names:
        return ""
    of = f"budget {names[0]}" if len(names) == 1 else f"{len(names)} budgets"
    return f"What has been spent of {of} is not known yet."


def data_through(accounts: tuple[AccountOverview, ...]) -> str:
    """Return the instant up to which the data of every source reach; empty where one has none yet."""
    reach = [source.data_through for account in accounts for source in account.sources]
    known = [at for at in reach if at is not None]
    return instant(min(known)) if known and len(known) == len(reach) else ""


def _of_exporter(publication: Publication, now: datetime, broken_files: Sequence[str]) -> Iterator[Alert]:
    if now - publication.at > _STALLED:
        age = span((now - publication.at).total_seconds())
        text = f"These figures are {age} old: the ledger cannot be read, or the collector has stalled."
        yield _of("FalPublicationStalled", "Exporter", text, "age")
    for setting in broken_files:
        text = "The file cannot be used as it is: some callers may be refused. The log names the line that is wrong."
        yield _of("FalAccessFileBroken", setting, text)
    seen = publication.overview.observations
    if seen.clock_ahead is not None and abs(seen.clock_ahead) > _CLOCK_SECONDS:
        side = "ahead of" if seen.clock_ahead > 0 else "behind"
        text = f"The system clock is {span(abs(seen.clock_ahead))} {side} fal's: synchronize it."
        yield _of("FalClockWrong", "Exporter", text, "clock")
    elif seen.clock_steps:
        text = "The system clock has been set within the last half hour: check that it is synchronized."
        yield _of("FalClockWrong", "Exporter", text, "clock")
    for destination, problem in sorted(seen.focus_push_problems.items()):
        yield _of("FalFocusPushFailing", f"FOCUS files ({destination})", f"They cannot be pushed: {problem}.", "push")
    if seen.remote_write_problem:
        text = f"Hourly samples cannot be sent: {seen.remote_write_problem}."
        yield _of("FalRemoteWriteFailing", "Remote write", text, "push")
    if seen.folded_series:
        text = (
            f"{seen.folded_series:,} more combinations of labels are published as __other__ since a day ago: raise "
            "FAL_EXPORTER_MAX_SERIES, or remove a label."
        )
        yield _of("FalSeriesOverflow", "Exporter", text, "series")


def _of_ledger(ledger: LedgerOverview) -> Iterator[Alert]:
    if ledger.problem:
        yield _of("FalLedgerLost", "Ledger", f"{_sentence(ledger.problem)}")
    for event in ledger.events:
        yield Alert("waiting", "Ledger", _sentence(event))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _of_account(account: AccountOverview, now: datetime) -> Iterator[Alert]:
    name = account.name
    if account.locked:
        yield _of("FalAccountLocked", name, f"Locked by fal: {account.locked}")
    elif account.balance is not None and account.balance <= account.credit_floor and not account.pays_by_invoice:
        text = f"The credit balance is {dollars(account.balance)}: fal refuses further calls."
        yield replace(_of("FalCreditRunwayShort", name, text, "balance"), action="Top up now.", link=_BILLING)
    most = max(account.last_hour or 0, account.current_hour or 0)
    if most > _HOURLY_LIMIT:
        text = f"An hour has cost {dollars(most)}, more than {dollars(_HOURLY_LIMIT)}."
        alert = _of("FalSpendAboveHourlyLimit", name, text, "hourly limit")
        yield replace(alert, action="If it is not intended, stop the job or revoke its key.")
    yield from _of_bill(account, now)
    yield from _of_gaps(account)
    for problem in account.problems:
        yield Alert("waiting", name, problem)
    for source in account.sources:
        if source.state == "partial":
            text = f"The source {source.name} is partial: {source.problem}"
            yield _of("FalRowsRejected", name, text, "source")
        if source.state == "failing":
            text = f"The source {source.name} is failing: {source.problem}"
            yield _of("FalPollFailing", name, text, "source")
        elif source.data_through is not None and now - source.data_through > _LATE:
            age = span((now - source.data_through).total_seconds())
            yield _of("FalUsageDataStale", name, f"The source {source.name} is {age} behind.", "source")


_MONTHS = {"month_to_date": "this month", "last_month": "last month"}


def _of_gaps(account: AccountOverview) -> Iterator[Alert]:
    """Yield that the loaded history is too short for a month, which no later poll will mend."""
    short = {name: account.gaps[name] for name in _MONTHS if name in account.gaps}
    starts = [gap.known_from for gap in short.values() if gap.reason == "short" and gap.known_from is not None]
    if starts:
        months = " and ".join(_MONTHS[name] for name, gap in short.items() if gap.reason == "short")
        text = (
            f"Nothing before {instant(min(starts).astimezone(UTC))} is loaded, so that {months} cannot be shown. "
            "FAL_EXPORTER_HISTORY says how far back to load."
        )
        yield Alert("waiting", account.name, text, "history")


def _of_balance(account: AccountOverview) -> Iterator[Alert]:
    """Yield that credit is low, where nothing more urgent is said of it."""
    balance = account.balance
    if balance is None or account.pays_by_invoice or account.locked or balance <= account.credit_floor:
        return
    if balance - account.credit_floor < _LOW_BALANCE:
        left = dollars(balance - account.credit_floor)
        text = f"The credit balance is {dollars(balance)}, below {dollars(_LOW_BALANCE)}."
        if account.credit_floor:
            floor = dollars(account.credit_floor)
            text = f"Credit of {left} is left above the floor of {floor}, below {dollars(_LOW_BALANCE)}."
        action = "Top up: at its end fal serves nothing."
        yield replace(_of("FalCreditBalanceLow", account.name, text, "balance"), action=action, link=_BILLING)


def _of_bill(account: AccountOverview, now: datetime) -> Iterator[Alert]:
    bill = account.bill
    if bill is None:
        return
    if bill.difference is not None and abs(bill.difference) > _DIFFERENCE and now.day > _FIRST_DAYS:
        more = "more" if bill.difference > 0 else "less"
        text = f"The ledger has {dollars(abs(bill.difference))} {more} for last month than the invoice {bill.number}."
        yield _of("FalReconciliationDrift", account.name, text, "bill differs")


def _of_spend(seen: Observations) -> Iterator[Alert]:
    for hour in seen.unusual_hours:
        beyond = hour.cost - hour.usual
        if beyond > _UNUSUAL:
            on = f" on {product_name(hour.product)}" if hour.product else ""
            text = f"An hour has cost {dollars(hour.cost)}{on}, {dollars(beyond)} beyond what is usual."
            alert = _of("FalSpendUnusual", hour.account, text, f"unusual {hour.product}")
            yield replace(alert, action="If the job is not planned, stop it.")
    for new in seen.new_names:
        if new.cost > _NEW:
            text = f"{new.name} is new since {instant(new.first_seen)} and has cost {dollars(new.cost)} in a day."
            alert = _of("FalNewModelSpending", new.account, text, f"new {new.name}")
            yield replace(alert, action="If its use is unexpected, ask the holders of the account's keys.")
    for change in seen.restated:
        if change.amount > _RESTATED:
            text = f"fal has changed past hours {change.direction} by {dollars(change.amount)} within an hour."
            alert = _of("FalLargeRestatement", change.account, text, f"restated {change.direction}")
            yield replace(alert, action="If it surprises you, see which model it is and ask fal's support.")


def _of_prices(seen: Observations) -> Iterator[Alert]:
    for lost in seen.discounts:
        if lost.previous > lost.discount:
            text = (
                f"{lost.name} has lost {100 * (lost.previous - lost.discount):.3g}% of discount for each {lost.unit} "
                "within the last day."
            )
            alert = _of("FalDiscountLost", lost.account, text, f"discount {lost.name} {lost.unit}")
            yield replace(alert, action="Check whether an agreement with fal has ended.")
    for price in seen.prices:
        if price.previous and abs(price.price / price.previous - 1) >= _PRICE_CHANGE:
            text = f"{price.name} costs {_price(price.price)} per {price.unit} now, before {_price(price.previous)}."
            yield _of("FalUnitPriceChanged", price.account, text, f"price {price.name} {price.unit}")


def _price(amount: int) -> str:
    """Write a price with all its digits, at least two places."""
    whole, part = divmod(amount, NANO)
    return f"${whole:,}.{f'{part:09d}'.rstrip('0'):0<2}"


def _of_bookings(found: Bookings | None, now: datetime) -> Iterator[Alert]:
    if found is None:
        return
    reach = f" The last comparison reaches to {instant(found.through)}." if found.through else ""
    if found.off > _BOOKED_OFF and found.off > _BOOKED_SHARE * found.charged:
        text = (
            f"{dollars(found.too_high)} too much and {dollars(found.off - found.too_high)} too little is booked for "
            f"requests, for which fal charged {dollars(found.charged)}.{reach}"
        )
        action = "fal-exporter reconcile lists the requests; the dashboard fal / Requests has the models."
        yield replace(_of("FalBookingsDiffer", "Bookings", text, "differ"), action=action)
    if found.problem:
        yield _of("FalBookingsNotCompared", "Bookings", f"They are not compared: {found.problem}.{reach}", "compared")
    elif found.through is not None and now - found.through > _BOOKED_AGE:
        yield _of("FalBookingsNotCompared", "Bookings", f"They are not compared any more.{reach}", "compared")


_AGAINST = {"focus_invoice": "fal's FOCUS invoice", "focus_estimate": "fal's FOCUS estimate"}


def _of_machines(seen: Observations) -> Iterator[Alert]:
    for app in seen.idle_apps:
        if app.idle > _IDLE and app.idle / app.cost > _IDLE_SHARE:
            where = f" ({app.environment})" if app.environment else ""
            text = (
                f"Idle runners of the app {app.app}{where} cost {dollars(app.idle)} in 24 hours, "
                f"{app.idle / app.cost:.0%} of its cost."
            )
            alert = _of("FalAppIdle", app.account, text, f"idle {app.app} {app.environment}")
            shown = seen.idle_month is not None and seen.idle_month.apps
            yield replace(alert, action=_what_to_change(app), link=("Idle runners", "#idle") if shown else None)
    for ceiling in seen.burn_ceilings:
        if ceiling.amount > ceiling.left >= 0:
            text = (
                f"The apps of the budget can burn {dollars(ceiling.amount)} an hour, more than the "
                f"{dollars(ceiling.left)} that are left of it."
            )
            yield _of("FalBurnCeilingAboveBudget", ceiling.budget, text, "burn ceiling")


def _what_to_change(app: IdleApp) -> str:
    # More cold starts can cost more than is saved, so that the page does not say which value is right.
    if app.min_concurrency:
        return f"Consider a lower min_concurrency: with {app.min_concurrency} it never stops entirely."
    return f"Consider a keep_alive below its {app.keep_alive} seconds." if app.keep_alive else ""


def _of_bills(seen: Observations, accounts: Sequence[AccountOverview], now: datetime) -> Iterator[Alert]:
    for invoice in seen.open_invoices:
        if now - invoice.due_at > _OVERDUE:
            text = f"The invoice {invoice.number} of {dollars(invoice.total)} was due {ago(invoice.due_at, now)}."
            alert = _of("FalInvoiceOverdue", invoice.account, text, f"overdue {invoice.number}")
            yield replace(alert, action="Pay it, or check whether the payment has arrived.")
    for bill in seen.bills:
        if abs(bill.amount) > _DIFFERENCE and now.day > _FIRST_DAYS:
            more = "more" if bill.amount > 0 else "less"
            against = _AGAINST.get(bill.against, bill.against)
            text = f"The ledger has {dollars(abs(bill.amount))} {more} for last month than {against}."
            yield _of("FalReconciliationDrift", bill.account, text, f"differs {bill.against}")
    spent = {account.name: account.month_to_date for account in accounts}
    for name, budget in seen.provider_budgets.items():
        of_month = spent.get(name)
        if of_month is not None and budget > 0 and of_month / budget > _PROVIDER_BUDGET:
            text = (
                f"{share_of_limit(of_month, budget)} of the hard budget set at fal is used: {dollars(of_month)} of "
                f"{dollars(budget)} a month. Above it fal locks the account."
            )
            alert = _of("FalProviderBudgetNear", name, text, "provider budget")
            yield replace(alert, action="Raise it in fal's dashboard, or find out what spends it and stop that.")


def _of_keys(seen: Observations, accounts: Sequence[AccountOverview], now: datetime) -> Iterator[Alert]:
    """Yield one alert for the keys of an account that are new, and one for those that are not used."""
    for account in accounts:
        keys = [key for key in seen.keys if key.account == account.name]
        new = [key for key in keys if key.created_at is not None and now - key.created_at < _DAY]
        if new:
            text = f"{_named(new)} created within the last day. Delete what nobody knows, at fal.ai/dashboard/keys."
            yield _of("FalApiKeyCreated", account.name, text, "keys created")
        reach = [source.data_through for source in account.sources if source.data_through is not None]
        if not reach or now - max(reach) >= _DAY:
            continue
        idle = [key for key in keys if key.unused_since is not None and now - key.unused_since > _KEY_UNUSED]
        if idle:
            text = f"{_named(idle)} not used for more than {_KEY_UNUSED.days} days. Delete what nobody needs."
            yield _of("FalApiKeyUnused", account.name, text, "keys unused")


def _named(keys: Sequence[KeyOverview]) -> str:
    return f"API key{'s' if len(keys) > 1 else ''} {_list_of([key.label for key in keys])}:"


_BILLING = ("fal.ai/dashboard/billing", "https://fal.ai/dashboard/billing")
_BUDGETS = ("Budgets", "#budgets")
_SPEND_LESS = "Spend less, or raise the limit."

_BURNS: tuple[tuple[str, float, tuple[str, str]], ...] = (
    ("FalBudgetBurnFast", _BURNS_FAST, ("6h", "1h")),
    ("FalBudgetBurnSlow", _BURNS_SLOWLY, ("3d", "1d")),
)
"""Times the pace that uses a budget up evenly, and the windows that must both be above."""


def _likely(budget: BudgetOutlook) -> str:
    """Say that a budget will probably be exceeded, while less than that is certain."""
    if budget.forecast is None or budget.forecast.expected <= budget.limit:
        return ""
    above = dollars(budget.forecast.expected - budget.limit)
    return f" It will probably be exceeded by {above}: {dollars(budget.forecast.expected)} forecast."


def _of_budget(budget: BudgetOutlook) -> Iterator[Alert]:
    about = f"Budget {budget.budget}"
    if budget.spend is None:
        return
    spend, limit = dollars(budget.spend), dollars(budget.limit)
    if budget.spend > budget.limit:
        text = f"Exceeded by {dollars(budget.spend - budget.limit)}: {spend} of {limit}."
        alert = _of("FalBudgetExceeded", about, text, "exceeded")
        yield replace(alert, action="Stop what can wait, or raise the limit.", link=_BUDGETS)
        return
    if budget.forecast is not None and budget.forecast.low > budget.limit:
        above = dollars(budget.forecast.expected - budget.limit)
        text = f"Forecast to end at {dollars(budget.forecast.expected)}, {above} above its limit of {limit}."
        yield replace(_of("FalBudgetForecastExceeded", about, text, "forecast"), action=_SPEND_LESS, link=_BUDGETS)
    elif any(budget.spend >= share * budget.limit for share in budget.thresholds):
        likely = _likely(budget)
        text = f"{share_of_limit(budget.spend, budget.limit)} used: {spend} of {limit}.{likely}"
        alert = _of("FalBudgetThresholdReached", about, text, "threshold")
        yield replace(alert, action=_SPEND_LESS if likely else "", link=_BUDGETS, is_ahead=bool(likely))
    for rule, pace, windows in _BURNS:
        burn = min((budget.burn or {}).get(window, 0.0) for window in windows)
        if burn > pace:
            text = f"Spent {burn:.1f} times faster than lasts to the end of the period."
            yield replace(
                _of(rule, about, text, "pace"), action="Find out what is spending and stop it, or raise the budget."
            )
            break
