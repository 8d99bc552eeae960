"""Families of machines: spend by the states of runners, settings of apps, queues, and what requests cost."""

from exporter.charges import NANO
from exporter.metrics.catalogue.family import Family, dollars

_STATES = ("account", "app", "environment", "gpu_class", "state")
_APP = ("account", "app", "environment")
_REQUESTS = ("account", "product", "model", "app")
_BY_STATE = (
    "state is running, idle (warm, billed and without requests), pending (starting), draining (ending), or unknown for "
    "hours for which fal has stated no runners"
)


def _seconds(name: str, text: str) -> Family:
    return Family(name, "gauge", text, _STATES, scale=NANO)


MACHINES: tuple[Family, ...] = (
    Family(
        "fal_gpu_spend_by_state_usd_total",
        "counter",
        f"Spend on runners of own apps in US dollars since they are divided by state; {_BY_STATE}. An hour is counted "
        "once its runners have been read after its end, or as unknown 24 hours later. gpu_class is empty for machines "
        "without a GPU.",
        _STATES,
        scale=NANO,
    ),
    Family(
        "fal_gpu_time_by_state_seconds_total",
        "counter",
        "GPU time of own apps in GPU-seconds, divided as fal_gpu_spend_by_state_usd_total is.",
        _STATES,
        scale=NANO,
    ),
    dollars(
        "fal_gpu_spend_by_state_today_usd",
        f"Spend on runners of own apps in US dollars since midnight in the configured time zone; {_BY_STATE}. The "
        "states of an app add up to its fal_spend_today_usd, and are absent when that is.",
        _STATES,
    ),
    dollars(
        "fal_gpu_spend_by_state_last_day_usd",
        "The same in US dollars of the last 24 UTC hours, including the current one, as fal_spend_last_day_usd.",
        _STATES,
    ),
    dollars(
        "fal_gpu_spend_by_state_month_to_date_usd",
        "The same in US dollars since the start of the month in the configured time zone, as "
        "fal_spend_month_to_date_usd.",
        _STATES,
    ),
    dollars(
        "fal_gpu_spend_by_state_last_month_usd",
        "The same in US dollars of the whole previous month in the configured time zone, as fal_spend_last_month_usd.",
        _STATES,
    ),
    _seconds(
        "fal_gpu_time_by_state_today_seconds",
        "GPU time of own apps in GPU-seconds by state of the runners, of the same hours as "
        "fal_gpu_spend_by_state_today_usd.",
    ),
    _seconds(
        "fal_gpu_time_by_state_last_day_seconds",
        "GPU time of own apps in GPU-seconds by state of the runners, of the same hours as "
        "fal_gpu_spend_by_state_last_day_usd.",
    ),
    _seconds(
        "fal_gpu_time_by_state_month_to_date_seconds",
        "GPU time of own apps in GPU-seconds by state of the runners, of the same hours as "
        "fal_gpu_spend_by_state_month_to_date_usd.",
    ),
    _seconds(
        "fal_gpu_time_by_state_last_month_seconds",
        "GPU time of own apps in GPU-seconds by state of the runners, of the same hours as "
        "fal_gpu_spend_by_state_last_month_usd.",
    ),
    Family(
        "fal_app_burn_ceiling_usd_per_hour",
        "gauge",
        "What an app can burn in an hour in US dollars with all the runners that its max_concurrency allows, at the "
        "newest price of its machine after discount; GPUs of a runner are counted by what was billed in the last 7 "
        "days. Absent for apps that have not been charged for.",
        ("account", "app", "environment", "gpu_class"),
        scale=NANO,
    ),
    Family(
        "fal_budget_burn_ceiling_usd_per_hour",
        "gauge",
        "Sum of fal_app_burn_ceiling_usd_per_hour over the apps that a budget covers; absent if it covers none. "
        "Compare it with what is left of the budget.",
        ("budget",),
        scale=NANO,
    ),
    Family(
        "fal_serverless_keep_alive_seconds",
        "gauge",
        "Time in seconds for which a runner of an app without requests stays warm, as set at fal.",
        _APP,
    ),
    Family(
        "fal_serverless_min_concurrency",
        "gauge",
        "Fewest runners of an app, as set at fal; above 0, it is never without a billed runner.",
        _APP,
    ),
    Family(
        "fal_serverless_max_concurrency",
        "gauge",
        "Most runners of an app, as set at fal.",
        _APP,
    ),
    dollars(
        "fal_serverless_what_if_saving_usd",
        "Estimate of what a lower setting of an app would have saved in the last 7 days, in US dollars, less what more "
        "cold starts would have cost: bound is least, likely or most; setting is keep_alive (value in seconds) or "
        "min_concurrency. One setting for each app, that which would likely have saved most; absent where none would, "
        "and for apps in several environments. No promise: what holds for the week before need not hold for the next.",
        (*_APP, "setting", "value", "bound"),
    ),
    Family(
        "fal_serverless_what_if_cold_starts",
        "gauge",
        "Requests that would have waited for a runner to start with the setting of fal_serverless_what_if_saving_usd, "
        "in the same 7 days, more than did; bound is likely or most.",
        (*_APP, "setting", "value", "bound"),
    ),
    Family(
        "fal_serverless_queue_size",
        "gauge",
        "Requests that wait for a runner of an app, of all its environments, as of the last poll.",
        ("account", "app"),
    ),
    Family(
        "fal_serverless_queue_idle_runners",
        "gauge",
        "Mean number of idle runners of an app in the 10 minutes before the last poll; only for apps with a queue. "
        "Above 0, requests wait although runners are free.",
        ("account", "app"),
    ),
    dollars(
        "fal_cost_per_success_usd",
        "Spend by successful request in US dollars in the last 24 complete hours, idle time of apps included; product "
        "is serverless for an app, model_apis for a model. Absent if no request succeeded.",
        _REQUESTS,
    ),
    dollars(
        "fal_failed_requests_spend_usd",
        "Spend on requests that failed, in US dollars in the same 24 hours. Of apps an estimate: the share of failed "
        "requests in what running runners cost. Of models an upper bound: as if every request that failed for what was "
        "asked were charged.",
        _REQUESTS,
    ),
    Family(
        "fal_failed_requests_spend_ratio",
        "gauge",
        "fal_failed_requests_spend_usd as a share of the spend of the app or model in the same 24 hours, from 0 to 1.",
        _REQUESTS,
    ),
    Family(
        "fal_cold_starts",
        "gauge",
        "Requests of an app that waited for a runner to start, in the same 24 hours.",
        ("account", "app"),
    ),
    dollars(
        "fal_cold_starts_spend_usd",
        "What runners of an app cost while they started, in US dollars in the same 24 hours.",
        ("account", "app"),
    ),
    Family(
        "fal_cold_starts_gpu_seconds",
        "gauge",
        "GPU time of starting runners of an app in GPU-seconds in the same 24 hours.",
        ("account", "app"),
        scale=NANO,
    ),
)
