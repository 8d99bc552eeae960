"""The banner of a dashboard: all that is wrong, worst first, and nothing is well while an alert fires.

A finding is a series with the name of the alert that reports it, the account or budget it is about, the amounts that
it is about in words (`amounts`), and how bad it is; what is further beyond its limit stands before others as bad.
It is found twice: as a firing alert, where Prometheus has the shipped rules, and by the metrics themselves, where it
has not. Thresholds are those of the rules where they are recorded, else the shipped ones.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from grafana_foundation_sdk.models import dashboard as models

from source import palette
from source.amounts import BETWEEN, FIRST, SECOND, both, dollars, lasting, written
from source.panels import Built, Query, said
from source.queries import NOT_PAID, OF_CHARGES, covered, of_accounts, of_each
from source.tables import WRAPPED, Column, rows

CRITICAL, WARNING, WELL, LIKELY, NOTED = 3, 2, 1, 0, -1
"""In the order of the banner: that nothing needs attention stands before what is only worth knowing."""

WORDS = {
    "FalAccountLocked": "fal has locked the account: the runbook says how to unlock it",
    "FalExporterDown": "no exporter answers, nobody watches what fal charges: start it",
    "FalReplicaDown": "an exporter is down, others monitor its accounts: bring it back",
    "FalReplicaImpaired": "a replica should not collect: check its network and configuration",
    "FalLedgerLost": "the ledger is lost or cannot be written: do not stop the exporter",
    "FalCreditRunwayShort": "the credit runs out soon: top up",
    "FalCreditBalanceLow": "the credit is low: top up",
    "FalSpendAboveHourlyLimit": "an hour costs more than the hourly limit: find out what spends it",
    "FalSpendUnusual": "an hour costs unusually much: if the job is not planned, stop it",
    "FalBudgetExceeded": "a budget is exceeded: stop what can wait, or raise the limit",
    "FalBudgetForecastExceeded": "a budget will be exceeded: spend less, or raise the limit",
    "FalBudgetBurnFast": "a budget burns far too fast: find out what spends it",
    "FalBudgetBurnSlow": "a budget burns too fast: find out what spends it",
    "FalProviderBudgetNear": "the hard budget at fal is nearly used, then it locks: raise it",
    "FalUsageDataStale": "the data are late: see whether polls fail",
    "FalClockWrong": "the exporter's clock is wrong: synchronize it",
    "FalPublicationStalled": "the exporter publishes no new figures: restart it",
    "FalPollFailing": "a source cannot be polled: see fal / Exporter health",
    "FalRowsRejected": "rows of fal's answers cannot be read: look for a newer version",
    "left out": "charges that the key can read are not polled",
    "not loaded": "hours of this month or the last are not loaded",
    "not judged": "what is spent of a budget is not known: its hours are not loaded",
    "FalReconciliationDrift": "last month differs from fal's bill: compare it with the invoice",
    "FalLargeRestatement": "fal has changed past hours: if it surprises you, ask fal's support",
    "FalDiscountLost": "a discount is lost: check whether an agreement with fal has ended",
    "FalInvoiceOverdue": "an invoice is overdue: pay it, or see whether payment has arrived",
    "FalAppIdle": "idle runners of an app cost money: see fal / GPU time",
    "FalQueueGrowing": "requests wait though runners are idle: check the app's log",
    "FalAccessFileBroken": "the file that grants access cannot be read in full",
    "FalFocusPushFailing": "FOCUS files cannot be pushed to their destination",
    "FalBookingsDiffer": "bookings differ from what fal charged",
    "FalBookingsNotCompared": "bookings are no longer compared",
    "FalRemoteWriteFailing": "hourly samples cannot be sent by remote write",
    "FalThresholdsMissing": "the alert rules lack their thresholds",
    "FalBudgetThresholdReached": "a budget has reached a threshold: check its forecast",
    "budget likely": "a budget will probably be exceeded: spend less, or plan for more",
    "FalNewModelSpending": "a new model or app costs a lot: if unexpected, ask who has keys",
    "FalUnitPriceChanged": "a price has changed: compare with fal's price list",
    "FalApiKeyCreated": "an API key is new: if nobody knows it, delete it",
    "FalApiKeyUnused": "an API key is long unused: delete it if nobody needs it",
    "FalBurnCeilingAboveBudget": "apps can burn a budget's rest in an hour: lower max_concurrency",
    "FalSeriesOverflow": "too many combinations of labels: raise the limit, or remove one",
    "unknown": "nothing is known: no usage has been read yet",
    "well": "Nothing needs attention",
}
"""Sentence of each finding: the names of alerts, and what no alert says.

A sentence fits one line of fal / Month: a row is as high as what the sentence stands for, a name, needs.
"""

_RUNBOOKS = {
    "left out": "../configuration.md#what-the-figures-do-not-include",
    "not loaded": "../numbers.md#whole-absent-or-marked",
    "not judged": "../numbers.md#whole-absent-or-marked",
    "unknown": "../troubleshooting.md",
    "budget likely": "FalBudgetForecastExceeded.md",
    "well": "../alerts.md",
}
"""Pages about what no alert says, seen from the runbooks."""


def state() -> Built:
    """Return the banner."""
    panel = rows(
        "State",
        "Everything that is wrong, worst first, by the firing alerts and by the metrics themselves: red needs action "
        "now, orange today, blue is worth knowing; of two that are as bad, what is further beyond its limit stands "
        "first. Each line names amount and limit, and leads to its runbook. Green only while no alert of "
        "fal-exporter fires that needs anybody, nothing is locked, late, rejected, left out or not loaded, and no "
        "budget or credit is about to be used up.",
        [Query(_findings())],
        {
            "finding": Column(
                "What",
                properties={
                    "mappings": [said({name: (text, "") for name, text in WORDS.items()})],
                    "links": [{"title": "Runbook", "url": "${runbooks}/${__data.fields.runbook}", "targetBlank": True}],
                    "custom.minWidth": 180,
                    **WRAPPED,
                },
            ),
            "about": Column("Account or budget", width=170, properties=WRAPPED),
            "amounts": Column("Amounts", width=226, properties=WRAPPED),
            "runbook": Column("runbook", properties={"custom.hidden": True}),
            "Value": Column("How bad", width=84, properties=_AS_BAD),
        },
        sort="How bad",
        no_value="nothing is known: no Prometheus answers",
    )
    return panel.show_header(show_header=False)


_AS_BAD: dict[str, object] = {
    "mappings": [
        {
            "type": "range",
            "options": {"from": start, "to": end, "result": {"text": text, "color": color, "index": place}},
        }
        for place, (start, end, text, color) in enumerate(
            (
                (CRITICAL, CRITICAL + 0.99, "act now", "dark-red"),
                (WARNING, WARNING + 0.99, "act today", "dark-orange"),
                (WELL, WELL, "well", palette.GOOD_TINT),
                (NOTED, LIKELY + 0.99, "noted", palette.NOTED_TINT),
            )
        )
    ],
    "color": {"mode": "thresholds"},
    "thresholds": {
        "mode": models.ThresholdsMode.ABSOLUTE,
        "steps": [
            {"value": None, "color": palette.NOTED_TINT},
            {"value": WELL, "color": palette.GOOD_TINT},
            {"value": WARNING, "color": "dark-orange"},
            {"value": CRITICAL, "color": "dark-red"},
        ],
    },
    "custom.cellOptions": {"type": "color-background", "mode": "basic", "applyToRow": True},
}


_MOST = 30


@dataclass(frozen=True, slots=True)
class _Counted:
    """A finding whose amounts are known.

    Attributes:
        found: series while it is true, whatever their labels and values.
        told: the same, with all that the rows of the table say.
    """

    found: str
    told: str


def _findings() -> str:
    """Return the worst findings: series with finding, about, amounts and runbook, whose value is how bad they are."""
    wrong, noted = _each(_found(), _counted()), _each(_noted(), _noted_counted())
    well = _named(f"vector({WELL})", "well", _RUNBOOKS["well"])
    # Amounts, which make most of the query, do not matter to whether anything is wrong.
    anything = "\nor\n".join((*_found(), *(counted.found for counted in _counted())))
    return f"topk({_MOST},\n{wrong}\nor\n{noted}\nor\n(\n{well}\nunless on () (\n{anything}\n)\n)\n)"


def _each(found: tuple[str, ...], with_amounts: tuple[_Counted, ...]) -> str:
    """Return each finding once: with its amounts where they are known."""
    told = written("(\n" + "\nor\n".join(counted.told for counted in with_amounts) + "\n)")
    others = "\nor\n".join(found)
    return (
        f"(\nmax by (finding, about, runbook, {FIRST}) (\n{told}\n)\nor on (finding, about)\n"
        f"max by (finding, about, runbook) (\n{others}\n)\n)"
    )


def _found() -> tuple[str, ...]:
    partly = covered("today", "month_to_date", "last_month", by=("account",))
    return (
        *_firing("critical", CRITICAL),
        *_firing("warning", WARNING),
        _finding("FalAccountLocked", CRITICAL, f"{of_accounts('fal_account_locked')} > 0"),
        _finding("FalExporterDown", CRITICAL, f"absent(fal_exporter_build_info)\nor {_stale()}", about=""),
        _finding("FalLedgerLost", CRITICAL, "min(fal_exporter_ledger_up) == 0", about=""),
        _finding(
            "FalRowsRejected", WARNING, f"{_summed('fal_exporter_rejected_rows', 'account', 'source', 'reason')} > 0"
        ),
        _finding(
            "FalBookingsNotCompared",
            WARNING,
            "max(fal_booked_up) == 0\n"
            f"or time() - max(fal_booked_window_end_timestamp_seconds) > {_threshold('booked_age_seconds')}",
            about="",
        ),
        _finding("left out", WARNING, f"{of_accounts('fal_source_available')} > 0"),
        _finding("not loaded", WARNING, f"{partly} < 1"),
        _finding(
            "not judged", WARNING, "max by (budget) (fal_budget_limit_usd unless fal_budget_spend_usd)", about="budget"
        ),
        _finding("unknown", WARNING, f"absent(fal_data_through_timestamp_seconds{_ACCOUNT})", about=""),
    )


def _counted() -> tuple[_Counted, ...]:
    """Return the findings whose amounts are known, with them."""
    age = f"max by (account) (time() - {of_accounts('fal_data_through_timestamp_seconds', ('account', 'source'))})"
    runway, balance = of_accounts("fal_credit_runway_seconds"), of_accounts("fal_credit_balance_usd")
    soon, urgent = (_threshold(f"credit_runway_{how}_seconds") for how in ("warning", "critical"))
    low, most, late = (_threshold(name) for name in ("credit_balance_usd", "spend_hourly_usd", "data_age_seconds"))
    hour = " or ".join(
        f'label_replace({_summed(f"fal_spend_{which}_hour_usd")}, "edge", "{which}", "", "")'
        for which in ("last", "current")
    )
    hour = f"max by (account) ({hour})"
    # An account that pays by invoice has no credit, and no runway.
    credit = f"{balance} and on (account) {runway}"
    left = both(lasting(runway, "account"), dollars(balance, "account", SECOND), "account")
    return (
        _told("FalCreditRunwayShort", CRITICAL, f"{runway} < {urgent}", f"{urgent} / ({runway})", (left, " left, ")),
        _told(
            "FalCreditRunwayShort",
            WARNING,
            f"{runway} < {soon} unless {runway} < {urgent}",
            f"{soon} / ({runway})",
            (left, " left, "),
        ),
        _told(
            "FalCreditBalanceLow",
            WARNING,
            f"({credit}) < {low}",
            f"{low} / {_above_zero(balance)}",
            _beside(balance, low),
        ),
        _told("FalSpendAboveHourlyLimit", CRITICAL, f"{hour} > {most}", f"{hour} / {most}", _beside(hour, most)),
        _told("FalUsageDataStale", WARNING, f"{age} > {late}", f"{age} / {late}", (lasting(age, "account"), "")),
        _of_budgets("FalBudgetExceeded", WARNING, _EXCEEDED, _SPENT),
        _of_budgets("FalBudgetForecastExceeded", WARNING, f"{_FORECAST_EXCEEDED} unless {_EXCEEDED}", _FORECAST),
        _told(
            "FalBookingsDiffer",
            WARNING,
            _bookings_differ(),
            "vector(1)",
            (
                both(dollars(f"max({OFF_BOOKINGS})", ""), dollars("max(fal_booked_charged_usd)", "", SECOND), ""),
                " off, of ",
            ),
            about="",
        ),
        _told(
            "FalAppIdle",
            WARNING,
            _idle_apps(),
            f"0 * {_idle_apps()}",
            (dollars(_idle_apps(), "account"), " in 24 hours"),
        ),
        _told(
            "FalReconciliationDrift",
            WARNING,
            # The last hours of a month change for days.
            f"{_differs()} > {_threshold('reconciliation_difference_usd')} and on () day_of_month() > 3",
            f"0 * {_differs()}",
            (dollars(_differs(), "account"), ""),
        ),
        _firing_of_budgets(("critical", CRITICAL), ("warning", WARNING)),
        _locked(),
        _failing(),
        _unreadable(),
        _unusual(),
        _restated(),
        _overdue(),
        _near_the_hard_budget(),
        _discount_lost(),
    )


def _locked() -> _Counted:
    """Return the locked accounts of which a balance is known, with it and the reason; worst of what is critical."""
    balance = dollars(of_accounts("fal_credit_balance_usd"), "account")
    # Of an account with several reasons, one is named: each has its own firing alert.
    reason = f"topk by (account) (1, {of_accounts('fal_account_locked', ('account', 'reason'))} > 0)"
    for replacement, pattern in (("$1", "(.+)"), ("$1 $2", "(.+)_(.+)"), ("$1 $2", "(.+)_(.+)")):
        source = SECOND if SECOND in reason else "reason"
        reason = f'label_replace({reason}, "{SECOND}", "{replacement}", "{source}", "{pattern}")'
    amounts = f"{balance} * on (account) group_left ({SECOND}) {reason}"
    locked = f"{of_accounts('fal_account_locked')} > 0"
    return _told("FalAccountLocked", CRITICAL, locked, f"9.5 * ({locked})", (amounts, " of credit, "))


def _failing() -> _Counted:
    """Return how many sources of an account cannot be polled, the more the worse."""
    sources = f"count by (account) (min by (account, source) (fal_source_up{_ACCOUNT}) == 0)"
    counted = f'count_values by (account) ("{FIRST}", {sources})'
    for text, pattern in (("$1 sources", "(.+)"), ("1 source", "1 sources")):
        counted = f'label_replace({counted}, "{FIRST}", "{text}", "{FIRST}", "{pattern}")'
    return _told("FalPollFailing", WARNING, sources, sources, (counted, ""))


def _unreadable() -> _Counted:
    """Return what the rows cost that cannot be read, of accounts of which that is known."""
    rejected = _summed("fal_exporter_rejected_rows", "account", "source", "reason")
    cost = _summed("fal_unreadable_usd", "account", "source")
    amounts = dollars(cost, "account"), " not counted"
    # Figures that lack something stand before what they say.
    return _told("FalRowsRejected", WARNING, f"({rejected} > 0) and {cost} > 0", f"9 + 0 * {cost}", amounts)


def _unusual() -> _Counted:
    """Return by how much hours of products cost more than the most that is usual of them."""
    of_product = "account, product, job, instance"
    beyond = " or ".join(
        f"label_replace(sum by ({of_product}) (max by ({', '.join(OF_CHARGES)}, job, instance) "
        f"(fal_spend_{hour}_hour_usd{_ACCOUNT})) - max by ({of_product}) "
        f'(fal_spend_expected_{hour}_hour_high_usd{_ACCOUNT}), "edge", "{hour}", "", "")'
        for hour in ("last", "current")
    )
    limit = _threshold("spend_unusual_usd")
    found = f"max by (account, product) (({beyond}) unless on (job, instance) fal:exporter_outdated) > {limit}"
    of_products = [("product", re.escape(name), f" on {text}") for name, text in palette.PRODUCT_NAMES.items()]
    names, words = (("product", "(.+)", " on $1"), *of_products), " an hour beyond what is usual"
    by = ("account", "product")
    return _each_told("FalSpendUnusual", WARNING, found, f"({found}) / {limit}", *names, by=by, between=words)


def _restated() -> _Counted:
    """Return by how much fal has changed past hours within an hour, up and down."""
    counter = f"fal_restated_usd_total{_ACCOUNT}"
    # A new ledger counts from 0, and what it has counted is what came since.
    grown = (
        f"max_over_time({counter}[1h]) - min_over_time({counter}[1h]) and resets({counter}[1h]) == 0 and {counter}"
        f" or {counter} and resets({counter}[1h]) > 0"
    )
    by, limit = ("account", "direction"), _threshold("restatement_usd")
    found = f"{of_each(grown, ('account', 'source', 'direction'), by)} > {limit}"
    name, words = ("direction", "(.+)", ", $1"), " within an hour"
    return _each_told("FalLargeRestatement", WARNING, found, f"({found}) / {limit}", name, by=by, between=words)


def _overdue() -> _Counted:
    """Return the totals of the open invoices that should have been paid."""
    by, limit = ("account", "invoice"), _threshold("invoice_overdue_seconds")
    total, due = (of_accounts(f"fal_invoice_{what}", by, NOT_PAID) for what in ("total_usd", "due_timestamp_seconds"))
    found = f"({total} and time() - {due} > {limit})"
    name = ("invoice", "(.+)", ", invoice $1")
    return _each_told("FalInvoiceOverdue", WARNING, found, f"(time() - {due}) / {limit}", name, by=by)


def _near_the_hard_budget() -> _Counted:
    """Return the accounts that fal is about to lock, as they use up the budget that they have set at fal."""
    spent = of_each(f"fal_spend_month_to_date_usd{_ACCOUNT}")
    budget = f"({of_accounts('fal_provider_budget_usd', ('account',), _HARD)} > 0)"
    limit, used = _threshold("provider_budget_used_ratio"), f"{spent} / {budget}"
    amounts = both(dollars(f"({spent} and {budget})", "account"), dollars(budget, "account", SECOND), "account")
    return _told("FalProviderBudgetNear", WARNING, f"{used} > {limit}", f"{used} / {limit}", (amounts, " of "))


def _new() -> _Counted:
    """Return what models and apps have cost that were charged for the first time within a day."""
    by, limit = ("account", "product", "model", "app"), _threshold("new_model_usd")
    cost = of_each(f"fal_spend_last_day_usd{_ACCOUNT}", by=by)
    found = f"({cost} and time() - {of_accounts('fal_model_first_seen_timestamp_seconds', by)} < 86400) > {limit}"
    names, words = (("app", "(.+)", ", $1"), ("model", "(.+)", ", $1")), " in a day"
    return _each_told("FalNewModelSpending", NOTED, found, f"({found}) / {limit}", *names, by=by, between=words)


_UNITS = ("account", "product", "model", "app", "gpu_class", "unit")
"""The labels of a price."""


def _repriced() -> _Counted:
    """Return the prices that have changed within a day, the new beside the old."""
    price, before = (of_accounts(f"fal_unit_price_{when}usd", _UNITS) for when in ("", "previous_"))
    much = f"abs({price} / {before} - 1) >= {_threshold('unit_price_change_ratio')}"
    # Prices are far below a cent: they are written with all their digits.
    return _changed_unit(("FalUnitPriceChanged", NOTED), "price", much, (price, before), "$$$1")


def _discount_lost() -> _Counted:
    """Return the discounts that have become less within a day, the new beside the old."""
    ratio, before = (of_accounts(f"fal_unit_discount_{when}ratio", _UNITS) for when in ("", "previous_"))
    percents = tuple(f"round(100 * {which}, 0.1)" for which in (ratio, before))
    return _changed_unit(("FalDiscountLost", WARNING), "discount", f"({before} - {ratio} > 0)", percents, "$1%")


def _changed_unit(finding: tuple[str, int], what: str, much: str, amounts: tuple[str, str], text: str) -> _Counted:
    """Return what has changed by much within a day: new and old amount, each as a text, and the model or app."""
    name, value = finding
    labels = ", ".join(_UNITS)
    changed = of_accounts(f"fal_unit_{what}_changed_timestamp_seconds", _UNITS)
    found = f"({much} and time() - {changed} < 86400)"
    new, old = (
        f'label_replace(count_values by ({labels}) ("{label}", {amount}), "{label}", "{text}", "{label}", "(.+)")'
        for label, amount in zip((FIRST, SECOND), amounts, strict=True)
    )
    ranked = f"({value} + 0.1 * clamp_max({found}, 9))"
    told = (
        f"{ranked} * on ({labels}) group_left ({FIRST}, {SECOND}) ({new} * on ({labels}) group_left ({SECOND}) {old})"
    )
    for label in ("app", "model"):
        told = f'label_replace({told}, "name", "$1", "{label}", "(.+)")'
    told = f'label_join({told}, "{SECOND}", ", ", "{SECOND}", "name")'
    told = f'label_replace({told}, "{BETWEEN}", ", was ", "", "")'
    return _Counted(found, _about(told, name, "account"))


def _idle_apps() -> str:
    """Return what idle runners cost in 24 hours, of the app of an account that burns most on them, where it is much."""
    all_states = f"sum without (gpu_class, state) (fal_gpu_spend_by_state_last_day_usd{_ACCOUNT})"
    idle = all_states.replace(_ACCOUNT, '{account=~"$account",state="idle"}')
    much = f"({idle} and {idle} / {all_states} > {_threshold('app_idle_ratio')}) > {_threshold('app_idle_usd')}"
    return f"max by (account) ({much})"


def _differs() -> str:
    matcher = 'period="last_month"'
    return (
        f"max by (account) (abs({of_accounts('fal_reconciliation_difference_usd', ('account', 'against'), matcher)}))"
    )


def _noted_counted() -> tuple[_Counted, ...]:
    likely = f"fal_budget_forecast_usd > fal_budget_limit_usd unless {_FORECAST_EXCEEDED} unless {_EXCEEDED}"
    return (
        _of_budgets("budget likely", LIKELY, likely, _FORECAST),
        _firing_of_budgets(("info", NOTED)),
        _new(),
        _repriced(),
    )


def _bookings_differ() -> str:
    ratio, amount = _threshold("booked_difference_ratio"), _threshold("booked_difference_usd")
    return f"max({OFF_BOOKINGS} > {ratio} * fal_booked_charged_usd) > {amount}"


def bookings_of_rule(part: str, *, reported: bool) -> str:
    """Return a figure of bookings, while they are off by as much as FalBookingsDiffer reports, or while not."""
    return f"{part}\n{'and' if reported else 'unless'} on () ({_bookings_differ()})"


def _noted() -> tuple[str, ...]:
    return _firing("info", NOTED)


OFF_BOOKINGS = 'sum without (finding) (abs(fal_booked_finding_usd{finding!="not_read"}))'
"""Amounts that are booked too high and too low, added up."""

_ACCOUNT = '{account=~"$account"}'
_HARD = 'kind="hard"'
_EXCEEDED = "fal_budget_spend_usd > fal_budget_limit_usd"
_FORECAST_EXCEEDED = "fal_budget_forecast_low_usd > fal_budget_limit_usd"
"""Both compare within each exporter: budgets of two exporters may have the same name, and other limits."""


_SPENT, _FORECAST = "fal_budget_spend_usd", "fal_budget_forecast_usd"


def _of_budgets(name: str, value: int, comparison: str, amount: str) -> _Counted:
    """Return a finding about budgets, with an amount of them and their limits."""
    found = f"max by (budget) ({comparison})"
    return _told(name, value, found, _beyond(amount), _of_limit(amount), about="budget")


def _firing_of_budgets(*severities: tuple[str, int]) -> _Counted:
    """Return what fires about budgets; forecasts are left to what metrics find of them."""
    also = 'budget!="",alertname!="FalBudgetForecastExceeded"'
    firing = " or ".join(found for severity, value in severities for found in _firing(severity, value, also))
    return _with_amounts(f"({firing})", _beyond(_SPENT), _of_limit(_SPENT), "budget")


def _beyond(amount: str) -> str:
    return f"max by (budget) ({amount} / (fal_budget_limit_usd > 0))"


def _of_limit(amount: str) -> tuple[str, str]:
    """Return amount and limit of each budget; of the exporter in which the budget is furthest beyond it."""
    furthest = f"topk by (budget) (1, {amount} / (fal_budget_limit_usd > 0))"
    spent, limit = (f"max by (budget) ({metric} and {furthest})" for metric in (amount, "fal_budget_limit_usd"))
    found = both(dollars(spent, "budget"), dollars(limit, "budget", SECOND), "budget")
    return found, " of " if amount == _SPENT else " forecast, limit "


def _above_zero(amount: str) -> str:
    """Return an amount to divide by: at 0 and below, a finding is far beyond its limit and still has a row."""
    return f"clamp_min({amount}, 0.01)"


def _beside(amount: str, threshold: str) -> tuple[str, str]:
    limit = dollars(f"0 * ({amount}) + {threshold}", "account", SECOND)
    return both(dollars(amount, "account"), limit, "account"), ", limit "


def _told(
    name: str, value: int, expression: str, beyond: str, amounts: tuple[str, str], *, about: str = "account"
) -> _Counted:
    """Return a finding with its amounts and the words between them.

    `beyond` is how many times the limit it is, by which it is ranked.
    """
    found = _with_amounts(f"(0 * ({expression}) + {value})", beyond, amounts, about).told
    return _Counted(f"({expression})", _about(found, name, about))


def _each_told(
    name: str,
    value: int,
    found: str,
    beyond: str,
    *names: tuple[str, str, str],
    by: tuple[str, ...],
    between: str = "",
) -> _Counted:
    """Return findings of which an account may have several, with the amount of each and what it is of.

    Args:
        name: the alert that says the same.
        value: how bad it is.
        found: the amounts in US dollars, of what is to be reported.
        beyond: how many times the limit they are, by which they are ranked.
        names: a label, a pattern of its values and the words for those, the last that fits counts.
        by: the labels of both, the account among them.
        between: the words after the amount.
    """
    labels = ", ".join(by)
    ranked = f"({value} + 0.1 * clamp_max({beyond}, 9))"
    told = f"{dollars(f'({found})', labels)} * on ({labels}) group_left () {ranked}"
    for label, pattern, text in names:
        told = f'label_replace({told}, "{SECOND}", "{text}", "{label}", "{pattern}")'
    if between:
        told = f'label_replace({told}, "{BETWEEN}", "{between}", "", "")'
    return _Counted(f"({found})", _about(told, name, "account"))


def _with_amounts(found: str, beyond: str, amounts: tuple[str, str], about: str) -> _Counted:
    ranked = f"({found} + on ({about}) group_left () 0.1 * clamp_max({beyond}, 9))"
    told = f"{ranked} * on ({about}) group_left ({FIRST}, {SECOND}) ({amounts[0]})"
    return _Counted(found, f'label_replace({told}, "{BETWEEN}", "{amounts[1]}", "", "")' if amounts[1] else told)


def _firing(severity: str, value: int, also: str = "") -> tuple[str]:
    """Return what fires of a severity; alerts about no account, such as a missing exporter, concern all of them."""
    which = ",".join(filter(None, ('alertname=~"Fal.+",alertstate="firing",account=~"$account|"', also)))
    alerts = f'ALERTS{{{which},severity="{severity}"}} * {value}'
    for target, replacement, label in (
        ("about", "$1", "account"),
        ("about", "$1", "budget"),
        ("finding", "$1", "alertname"),
        ("runbook", "$1.md", "alertname"),
    ):
        alerts = f'label_replace({alerts}, "{target}", "{replacement}", "{label}", "(.+)")'
    return (alerts,)


def _finding(name: str, value: int, expression: str, about: str = "account") -> str:
    return _about(f"0 * ({expression}) + {value}", name, about)


def _about(found: str, name: str, about: str) -> str:
    """Return a finding with its name, its runbook and what it is about, which one of its labels says."""
    labelled = f'label_replace({found}, "about", "$1", "{about}", "(.+)")' if about else found
    return _named(labelled, name, _RUNBOOKS.get(name, f"{name}.md"))


def _named(expression: str, name: str, runbook: str) -> str:
    labelled = f'label_replace({expression}, "finding", "{name}", "", "")'
    return f'label_replace({labelled}, "runbook", "{runbook}", "", "")'


def _summed(metric: str, *labels: str) -> str:
    return of_each(f"{metric}{_ACCOUNT}", *([labels] if labels else []))


def _stale() -> str:
    return "(time() - max(fal_exporter_snapshot_timestamp_seconds) > 300)"


SHIPPED = {
    name: float(value)
    for name, value in re.findall(
        r"record: fal:threshold_(\w+)\n\s+expr: vector\(([\d.]+)\)",
        (Path(__file__).parents[2] / "deploy" / "prometheus" / "thresholds.yaml").read_text(encoding="utf-8"),
    )
}
"""The thresholds of the shipped rules."""


def _threshold(name: str) -> str:
    """Return the threshold of the rules as a number, or the shipped one where no rule has recorded it."""
    return f"scalar(max(fal:threshold_{name}) or vector({SHIPPED[name]:g}))"
