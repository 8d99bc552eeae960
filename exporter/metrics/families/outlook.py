"""What lies ahead: runway, budgets, forecasts, and what is expected of an hour."""

from exporter.charges import NANO
from exporter.metrics.families.family import Family

_BUDGET = ("budget",)
_EXPECTED = ("account", "product")


def _dollars(name: str, text: str, labels: tuple[str, ...]) -> Family:
    return Family(name, "gauge", text, labels, scale=NANO)


OUTLOOK: tuple[Family, ...] = (
    Family(
        "fal_credit_runway_seconds",
        "gauge",
        "How long the credit balance lasts, in seconds, at the burn of the last day or week, whichever is more; absent "
        "while nothing burns, 0 when the balance is used up.",
        ("account",),
    ),
    _dollars(
        "fal_spend_month_forecast_usd",
        "What this month will have cost at its end in US dollars, the median of what the account's own past makes "
        "likely; absent while there is less than a day of history.",
        ("account",),
    ),
    _dollars(
        "fal_spend_month_forecast_low_usd",
        "Lower edge in US dollars of the band in which the month's cost ends in 8 of 10 cases.",
        ("account",),
    ),
    _dollars(
        "fal_spend_month_forecast_high_usd",
        "Upper edge in US dollars of the band in which the month's cost ends in 8 of 10 cases.",
        ("account",),
    ),
    _dollars("fal_budget_limit_usd", "What a budget allows in US dollars for its period.", _BUDGET),
    _dollars(
        "fal_budget_spend_usd",
        "Spend in US dollars in a budget's running period, exact and with all corrections; absent until the hours of "
        "the period have been loaded.",
        _BUDGET,
    ),
    _dollars(
        "fal_budget_forecast_usd",
        "What a budget's running period will have cost at its end in US dollars, the median of what the past makes "
        "likely.",
        _BUDGET,
    ),
    _dollars(
        "fal_budget_forecast_low_usd",
        "Lower edge in US dollars of the band in which the period's cost ends in 8 of 10 cases.",
        _BUDGET,
    ),
    _dollars(
        "fal_budget_forecast_high_usd",
        "Upper edge in US dollars of the band in which the period's cost ends in 8 of 10 cases.",
        _BUDGET,
    ),
    Family(
        "fal_budget_period_start_timestamp_seconds",
        "gauge",
        "Start of a budget's running period, in seconds since the epoch.",
        _BUDGET,
    ),
    Family(
        "fal_budget_period_end_timestamp_seconds",
        "gauge",
        "End of a budget's running period, in seconds since the epoch.",
        _BUDGET,
    ),
    _dollars(
        "fal_budget_threshold_usd",
        "Spend in US dollars that reaches a configured share of a budget, for example 80%.",
        (*_BUDGET, "threshold"),
    ),
    Family(
        "fal_budget_burn_ratio",
        "gauge",
        "Spend of the charge hours of a window (1h, 6h, 1d, 3d; the running hour is its last) over what the budget "
        "allows evenly for as long: at 1 the budget is used up exactly by the end of its period.",
        (*_BUDGET, "window"),
    ),
    _dollars(
        "fal_spend_expected_last_hour_usd",
        "What the last complete UTC hour usually costs in US dollars, by the same hours of earlier days and weeks; "
        "absent while there is less than a week of history.",
        _EXPECTED,
    ),
    _dollars(
        "fal_spend_expected_last_hour_high_usd",
        "What the last complete UTC hour may cost in US dollars without being unusual.",
        _EXPECTED,
    ),
    _dollars(
        "fal_spend_expected_current_hour_usd",
        "What the running UTC hour usually costs by its end in US dollars.",
        _EXPECTED,
    ),
    _dollars(
        "fal_spend_expected_current_hour_high_usd",
        "What the running UTC hour may cost by its end in US dollars without being unusual.",
        _EXPECTED,
    ),
)
