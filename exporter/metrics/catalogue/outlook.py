"""Families of what lies ahead: runway, forecasts, budgets and expected spend."""

from exporter.metrics.catalogue.family import Family, dollars

_BUDGET = ("budget",)
_ITEM = ("account", "product", "model", "app", "gpu_class")
_MOVED = ("account", "by", "value")
_EXPECTED = ("account", "product")

OUTLOOK: tuple[Family, ...] = (
    Family(
        "fal_credit_runway_seconds",
        "gauge",
        "How long the credit above fal_credit_floor_usd lasts, in seconds, at the higher of the burn rates of the "
        "last day and the last week; absent while nothing is spent, 0 when the credit is used up.",
        ("account",),
    ),
    dollars(
        "fal_spend_month_change_usd",
        "US dollars by which the complete hours of this month cost more (below 0: less) than as many hours of the "
        "previous month; cause is volume, price (list price, discounts and surge together), new, gone or unknown (if "
        "a quantity is unknown). All causes add up to the change. The 50 items of an account that changed most have "
        "their own series, the others are __other__. Absent when fal_spend_last_month_to_date_usd is.",
        (*_ITEM, "cause"),
    ),
    dollars(
        "fal_spend_movers_this_month_usd",
        "Who moved: spend in US dollars in the complete hours of this month, by one label alone; by is its name "
        "(product, account, team, api_key, member, tag:KEY) and value what it is set to. The 50 values of an account "
        "that changed most have their own series, the others are __other__; those of one by add up to all spend in "
        "these hours; never add up several. By a tag the hours end with the last that has been read by tags for good, "
        "and there is nothing while one of them has not been read. Absent when fal_spend_month_compared_usd is.",
        _MOVED,
    ),
    dollars(
        "fal_spend_movers_last_month_usd",
        "The same values' spend in US dollars in as many hours from the start of the previous month; the difference is "
        "by how much each moved.",
        _MOVED,
    ),
    dollars(
        "fal_account_spend_month_to_date_usd",
        "Spend in US dollars of a whole account since the start of the month in the configured time zone: the "
        "starting point of its forecast. It is the sum of fal_spend_month_to_date_usd, in one series for long ranges; "
        "where that is absent because a source fails, it stays at what has been read.",
        ("account",),
    ),
    Family(
        "fal_month_end_timestamp_seconds",
        "gauge",
        "End of the current month in the configured time zone, in seconds since the epoch: the time that "
        "fal_spend_month_forecast_usd is a forecast for.",
        ("account",),
    ),
    dollars(
        "fal_spend_month_forecast_usd",
        "Forecast of this month's total cost in US dollars: the median of what the account's own history makes "
        "likely; absent while there is less than a day of history.",
        ("account",),
    ),
    dollars(
        "fal_spend_month_forecast_low_usd",
        "Lower edge in US dollars of the band that contains the month's total cost in 8 of 10 cases.",
        ("account",),
    ),
    dollars(
        "fal_spend_month_forecast_high_usd",
        "Upper edge in US dollars of the band that contains the month's total cost in 8 of 10 cases.",
        ("account",),
    ),
    dollars(
        "fal_spend_expected_weekday_usd",
        "Expected cost in US dollars of the next seven whole UTC days by weekday, 0 for Sunday as in day_of_week(); "
        "their sum is the expected cost of these days. It gives a month's forecast its path from day to day.",
        ("account", "weekday"),
    ),
    Family(
        "fal_spend_forecast_spread_ratio",
        "gauge",
        "Factor between the expected cost of the time ahead (1d, 7d, 14d, 28d) and the edges of the band that contains "
        "it in 8 of 10 cases: the upper edge is the expected cost times the factor, the lower edge the cost divided by "
        "it.",
        ("account", "ahead"),
    ),
    dollars("fal_budget_limit_usd", "Amount in US dollars that a budget allows for its period.", _BUDGET),
    dollars(
        "fal_budget_spend_usd",
        "Spend in US dollars in a budget's current period, exact and including all corrections; absent until the "
        "hours of the period have been loaded.",
        _BUDGET,
    ),
    dollars(
        "fal_budget_forecast_usd",
        "Forecast of the total cost of a budget's current period in US dollars: the median of what history makes "
        "likely.",
        _BUDGET,
    ),
    dollars(
        "fal_budget_forecast_low_usd",
        "Lower edge in US dollars of the band that contains the period's total cost in 8 of 10 cases.",
        _BUDGET,
    ),
    dollars(
        "fal_budget_forecast_high_usd",
        "Upper edge in US dollars of the band that contains the period's total cost in 8 of 10 cases.",
        _BUDGET,
    ),
    Family(
        "fal_budget_period_start_timestamp_seconds",
        "gauge",
        "Start of a budget's current period, in seconds since the epoch.",
        _BUDGET,
    ),
    Family(
        "fal_budget_period_end_timestamp_seconds",
        "gauge",
        "End of a budget's current period, in seconds since the epoch.",
        _BUDGET,
    ),
    dollars(
        "fal_budget_threshold_usd",
        "Spend in US dollars at which a configured share of a budget, for example 80%, is reached.",
        (*_BUDGET, "threshold"),
    ),
    Family(
        "fal_budget_burn_ratio",
        "gauge",
        "Spend in the charge hours of a window (1h, 6h, 1d, 3d, including the current hour) divided by what the "
        "budget allows for the same time if spent evenly: at 1 the budget is used up exactly at the end of its period.",
        (*_BUDGET, "window"),
    ),
    dollars(
        "fal_spend_expected_last_hour_usd",
        "Usual cost of the last complete UTC hour in US dollars, based on the same hours of earlier days and weeks; "
        "absent while there is less than a week of history.",
        _EXPECTED,
    ),
    dollars(
        "fal_spend_expected_last_hour_high_usd",
        "Highest cost of the last complete UTC hour in US dollars that would not be unusual.",
        _EXPECTED,
    ),
    dollars(
        "fal_spend_expected_current_hour_usd",
        "Usual cost of the current UTC hour at its end in US dollars.",
        _EXPECTED,
    ),
    dollars(
        "fal_spend_expected_current_hour_high_usd",
        "Highest cost of the current UTC hour at its end in US dollars that would not be unusual.",
        _EXPECTED,
    ),
)
