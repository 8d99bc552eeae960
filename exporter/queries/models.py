"""Answers as documents for programs, declared once: their fields, and what is said of each.

REST, its description at `/openapi.json`, the output schemas of MCP and the tables of fields in `docs/rest.md` all come
from the pydantic models here. A model is made from what a question is answered with, by `model_validate`. Usage, whose
answers have thousands of rows, has its own in `usage_documents`; invoices, which are as fal sends them, in `invoices`.
"""

import json
import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated

from pydantic import (
    AliasPath,
    AwareDatetime,
    BeforeValidator,
    Field,
    model_validator,
)

from exporter.events.summaries import Difference
from exporter.forecasting.budgets import percent, threshold_amount
from exporter.forecasting.drivers import Driver
from exporter.forecasting.state import BudgetOutlook
from exporter.forecasting.what_if import Setting, WhatIf
from exporter.machines import Efficiency, Parts
from exporter.queries.exact_json import Amount, Document, HourWindow
from exporter.queries.machines import AppMachines, idle_share
from exporter.queries.requests import AccountDifferences, RequestRow


class _Published(Document):
    """Answer made from a publication."""

    as_of: AwareDatetime = Field(description="Time of the figures.")
    currency: str = Field(description="Always USD.")


def _seconds(duration: timedelta | None) -> int | None:
    return None if duration is None else duration // timedelta(seconds=1)


class Lock(Document):
    """A reason for which fal has locked an account."""

    reason: str = Field(description="The reason, as in `fal_account_locked`.")
    advice: str = Field(description="What it means and what to do about it.")


class Balance(Document):
    """The prepaid credit of one account."""

    account: str = Field(description="Configured account.")
    balance: Amount | None = Field(description="Credit in USD; null while unknown.")
    balance_at: AwareDatetime | None = Field(description="When the balance was read.")
    runway_seconds: Annotated[int | None, BeforeValidator(_seconds)] = Field(
        validation_alias="runway",
        description="How long the credit lasts at the recent burn rate; null if nothing is spent or it is not known.",
    )
    credit_floor: Amount | None = Field(
        description="Balance at which fal locks the account (the setting `credit_floor`), to which the runway counts "
        "down; null if only the ledger is read."
    )
    locked: tuple[str, ...] = Field(description="Why fal has locked the account; empty if it has not.")
    locks: tuple[Lock, ...] = Field(description="The same reasons, each with what to do about it.")


class Balances(_Published):
    """The prepaid credit of the accounts."""

    accounts: tuple[Balance, ...] = Field(description="By account.")


class Forecast(Document):
    """Forecast spend of a whole period, in USD."""

    expected: Amount = Field(description="The median.")
    low: Amount = Field(description="Lower edge of a band that contains the final amount in 80% of cases.")
    high: Amount = Field(description="Upper edge of that band.")


class Threshold(Document):
    """A share of the limit that is watched."""

    threshold: str = Field(description="The share, such as `80%`.")
    amount: Amount = Field(description="The threshold in USD.")
    reached: bool | None = Field(
        description="True if the spend has reached it; null while the spend is unknown.",
    )


class Budget(Document):
    """One budget in its current period; amounts in USD."""

    budget: str = Field(description="Its name.")
    period: str = Field(description="`day`, `week` or `month`.")
    start: AwareDatetime = Field(description="Start of the current period.")
    end: AwareDatetime = Field(description="End of the current period, exclusive.")
    match: dict[str, tuple[str, ...]] = Field(
        description="What the budget covers: glob patterns by label; everything if there are none."
    )
    limit: Amount = Field(description="The budget.")
    spend: Amount | None = Field(description="Spend in the period so far; null until its hours have been loaded.")
    remaining: Amount | None = Field(description="`limit` minus `spend`; negative if the budget is exceeded.")
    forecast: Forecast | None = Field(description="Forecast spend of the whole period; null while unknown.")
    thresholds: tuple[Threshold, ...] = Field(description="Watched shares of the limit, ascending.")
    burn: dict[str, float] = Field(
        description="Burn rate by window (1h, 6h, 1d, 3d); at 1 the budget is used up exactly at the end of the period."
    )

    @model_validator(mode="before")
    @classmethod
    def _of_outlook(cls, budget: BudgetOutlook) -> Mapping[str, object]:
        """Return the fields, among them what is left and which thresholds are reached."""
        spend, amounts = budget.spend, [threshold_amount(budget.limit, share) for share in budget.thresholds]
        return {
            "budget": budget.budget,
            "period": budget.period,
            "start": budget.window.start,
            "end": budget.window.end,
            "match": {label: tuple(patterns) for label, patterns in budget.match.items()},
            "limit": budget.limit,
            "spend": spend,
            "remaining": None if spend is None else budget.limit - spend,
            "forecast": budget.forecast,
            "thresholds": tuple(
                {"threshold": percent(share), "amount": amount, "reached": None if spend is None else spend >= amount}
                for share, amount in zip(budget.thresholds, amounts, strict=True)
            ),
            "burn": {window: burn for window, burn in (budget.burn or {}).items() if math.isfinite(burn)},
        }


class Budgets(_Published):
    """The configured budgets; none where none is configured."""

    budgets: tuple[Budget, ...] = Field(description="By budget.")
    notes: tuple[str, ...] = Field(description="What the spend of budgets lacks: accounts or charges not read.")


class MonthForecast(Document):
    """The current month of one account; amounts in USD."""

    account: str = Field(description="Configured account.")
    start: AwareDatetime = Field(
        validation_alias=AliasPath("month", "start"), description="Start of the month, in the configured time zone."
    )
    end: AwareDatetime = Field(validation_alias=AliasPath("month", "end"), description="End of the month, exclusive.")
    spend: Amount | None = Field(description="Spend in the month so far; null while unknown.")
    forecast: Forecast | None = Field(
        description="Forecast spend of the whole month; null until the month to date has been loaded."
    )


class Forecasts(_Published):
    """Forecast spend of the current month, by account."""

    accounts: tuple[MonthForecast, ...] = Field(description="By account.")
    notes: tuple[str, ...] = Field(description="What spend and forecasts lack: accounts or charges not read.")


class DriverWindow(HourWindow):
    """One of two windows that are compared."""

    spend: Amount = Field(description="What fal charged in USD, after discount.")
    complete: bool = Field(
        description="True if every hour of the window has been read from fal completely, with all its rows."
    )


class DriverParts(Document):
    """Causes of a difference, in USD; they add up to it."""

    price: Amount = Field(description="The later quantity at the change of the list price without surge.")
    volume: Amount = Field(
        description="The growth of each kind of unit at earlier prices, as if every item had grown alike."
    )
    mix: Amount = Field(
        description="What items have moved apart from that growth at earlier prices, and changes of a model's machine "
        "or unit."
    )
    new: Amount = Field(description="Models and apps that were not charged for in the earlier window.")
    vanished: Amount = Field(description="Models and apps that are no longer charged for.")
    discount: Amount = Field(description="The later quantity at the change of the rate of discount.")
    surge: Amount = Field(description="The later quantity at the change of the surcharge of surge prices.")
    unknown: Amount = Field(description="Charges without a quantity, so that price and volume cannot be told.")


class DriverItem(Document):
    """One item: a model or app of an account, with the machine and the unit it is sold by; null where it has none."""

    account: str = Field(description="Configured account.")
    product: str | None = Field(description="Product line: `model_apis`, `serverless` or `compute`.")
    model: str | None = Field(description="Model endpoint, like `fal-ai/flux/dev`.")
    app: str | None = Field(description="Your own serverless app.")
    gpu_class: str | None = Field(description="GPU class, like `H100`.")
    unit: str | None = Field(description="fal's unit, like `image`.")
    spend: Amount = Field(description="Cost in the window.")
    compare_spend: Amount = Field(description="Cost in the earlier window.")
    quantity: Amount = Field(description="Units in the window.")
    compare_quantity: Amount = Field(description="Units in the earlier window.")
    difference: Amount = Field(description="`spend` minus `compare_spend`.")
    parts: DriverParts = Field(description="Causes of the difference.")

    @model_validator(mode="before")
    @classmethod
    def _of_driver(cls, driver: Driver) -> Mapping[str, object]:
        """Return the fields; a name that an item lacks is null."""
        return {
            **{name: value or None for name, value in driver.item._asdict().items()},
            "account": driver.item.account,
            "spend": driver.after.cost,
            "compare_spend": driver.before.cost,
            "quantity": driver.after.quantity,
            "compare_quantity": driver.before.quantity,
            "difference": driver.difference,
            "parts": driver.parts,
        }


class DriverOthers(Document):
    """The items that are not listed, together."""

    count: int = Field(description="How many there are.")
    difference: Amount = Field(description="Difference of their costs.")
    parts: DriverParts = Field(description="Causes of the difference.")


class DriverGroup(Document):
    """One value of what was grouped by, or all others together."""

    spend: Amount = Field(validation_alias="after", description="Cost in the window.")
    compare_spend: Amount = Field(validation_alias="before", description="Cost in the earlier window.")
    difference: Amount = Field(validation_alias="change", description="`spend` minus `compare_spend`.")


class DriverValue(DriverGroup):
    """One value of what was grouped by."""

    value: str = Field(
        validation_alias="name",
        description="Value; empty for charges without one, `untagged` for what has no such tag.",
    )


class DriverGroups(Document):
    """Who moved; the differences of `values` and `others` add up to that of the windows."""

    group_by: str = Field(description="The dimension, or the tag behind `tag:`.")
    values: tuple[DriverValue, ...] = Field(
        validation_alias=AliasPath("moves", "top"), description="Its values, those that moved most first."
    )
    others_count: int = Field(
        validation_alias=AliasPath("moves", "count"), description="How many values are beyond `limit`."
    )
    others: DriverGroup = Field(validation_alias=AliasPath("moves", "rest"), description="Those, together.")


class Drivers(Document):
    """Why a window cost more or less than an earlier one.

    `parts` add up to `difference`, and so do the differences of `items` and `others`, to the nano-dollar.
    """

    window: DriverWindow = Field(description="The window that is explained.")
    compare: DriverWindow = Field(description="The earlier window.")
    timezone: str = Field(description="Time zone of days and months.")
    currency: str = Field(description="Always USD.")
    difference: Amount = Field(description="Spend of the window minus that of the earlier one.")
    parts: DriverParts = Field(description="Causes of the difference, all items together.")
    items: tuple[DriverItem, ...] = Field(description="The items, those that moved most first.")
    others: DriverOthers = Field(description="The items beyond `limit`, together.")
    groups: DriverGroups | None = Field(description="Who moved, by `group_by`; null without it.")
    notes: tuple[str, ...] = Field(
        description="Remarks on the figures: a widened window, missing hours, rows that cannot be read."
    )


class ByState(Document):
    """An amount divided by the states of runners; the parts add up to it exactly."""

    running: Amount = Field(description="Runners that worked on requests.")
    idle: Amount = Field(description="Runners that were warm, billed and without requests.")
    pending: Amount = Field(description="Runners that were starting.")
    draining: Amount = Field(description="Runners that were ending.")
    unknown: Amount = Field(description="Hours for which fal has stated no runners.")
    total: Amount = Field(description="The amount.")


def _by_state(parts: Parts) -> ByState:
    return ByState(**parts._asdict(), total=parts.total)


States = Annotated[ByState, BeforeValidator(_by_state)]


class AppSetting(Document):
    """Settings of an app as fal lists them now."""

    machine_type: str = Field(validation_alias="machine", description="Machine type, in fal's words.")
    keep_alive: int | None = Field(description="Seconds for which a runner without requests stays warm.")
    min_concurrency: int | None = Field(description="Fewest runners.")
    max_concurrency: int | None = Field(description="Most runners.")
    updated_at: AwareDatetime | None = Field(description="When the settings were changed last.")


class MachinesOfApp(Document):
    """Runners of an app in an environment on machines of one GPU class."""

    account: str = Field(description="Configured account.")
    app: str | None = Field(description="Your own serverless app; null for charges that fal states for none.")
    environment: str | None = Field(description="Environment; null for the main one where fal does not name it.")
    gpu_class: str | None = Field(description="GPU class, like `H100`; null for machines without a GPU.")
    spend: States = Field(description="What fal charged in USD, by the state of the runners.")
    gpu_seconds: States = Field(description="GPU time in seconds, by the state of the runners.")
    idle_share: float | None = Field(
        description="Share of the spend that is known to have been idle, 0 to 1; null if nothing was spent, or nothing "
        "of it is known by state."
    )
    settings: AppSetting | None = Field(description="Present settings; null if fal lists no such app.")

    @model_validator(mode="before")
    @classmethod
    def _of_app(cls, app: AppMachines) -> Mapping[str, object]:
        """Return the fields; what an app lacks is null."""
        return {
            "account": app.account,
            "app": app.app or None,
            "environment": app.environment or None,
            "gpu_class": app.gpu_class or None,
            "spend": app.spend,
            "gpu_seconds": app.gpu_seconds,
            "idle_share": idle_share(app.spend),
            "settings": app.settings,
        }


class RequestCosts(Document):
    """Requests of an app or a model beside what they cost."""

    account: str = Field(description="Configured account.")
    product: str = Field(description="`serverless` for an app, `model_apis` for a model.")
    name: str = Field(description="The app or model.")
    requests: int = Field(description="Number of requests.")
    succeeded: int = Field(description="Requests that succeeded.")
    failed: int = Field(description="Requests that failed.")
    cold_starts: int = Field(description="Requests that waited for a runner to start.")
    spend: Amount = Field(description="What fal charged in USD, idle time included.")
    cost_per_success: Amount | None = Field(description="Spend by successful request; null if none succeeded.")
    failed_spend: Amount = Field(
        description="Spend on requests that failed. Of apps an estimate: the share of failed requests in what running "
        "runners cost. Of models an upper bound: as if every request that failed for what was asked were charged, of "
        "which fal charges some."
    )
    failed_share: float | None = Field(description="`failed_spend` as a share of `spend`, 0 to 1.")
    start_spend: Amount = Field(description="What runners cost while they started; 0 for models.")
    start_seconds: Amount = Field(description="GPU time of starting runners in seconds; 0 for models.")

    @model_validator(mode="before")
    @classmethod
    def _of_efficiency(cls, item: Efficiency) -> Mapping[str, object]:
        """Return the fields under the names that documents have."""
        return {
            "account": item.account,
            "product": item.product,
            "name": item.name,
            "requests": item.requests,
            "succeeded": item.succeeded,
            "failed": item.failed,
            "cold_starts": item.cold_starts,
            "spend": item.cost,
            "cost_per_success": item.cost_per_success,
            "failed_spend": item.failed_cost,
            "failed_share": item.failed_share,
            "start_spend": item.start_cost,
            "start_seconds": item.start_seconds,
        }


class LowerSetting(Document):
    """Effect that a lower setting of an app would have had: an estimate within bounds, and no promise.

    The bounds hold for every order of requests; the likely value takes requests to come at random.
    """

    account: str = Field(description="Configured account.")
    app: str = Field(description="Your own serverless app.")
    environment: str | None = Field(description="Environment; null for the main one where fal does not name it.")
    setting: str = Field(description="`keep_alive` (seconds) or `min_concurrency` (runners).")
    present: int = Field(description="Present value, taken as that of all the hours.")
    proposed: int = Field(description="Lower value.")
    hours: int = Field(description="Number of hours tried, at most the last 168 of the window.")
    saved_least: Amount = Field(
        description="Least saving in USD; below zero where more cold starts may cost more than is saved."
    )
    saved_likely: Amount = Field(description="Likely saving in USD, less what more cold starts cost.")
    saved_most: Amount = Field(description="Most that could have been saved, in USD.")
    cold_starts_likely: int = Field(description="Likely number of cold starts more.")
    cold_starts_most: int = Field(description="Most cold starts more.")

    @model_validator(mode="before")
    @classmethod
    def _of_what_if(cls, item: WhatIf) -> Mapping[str, object]:
        """Return the fields; one of the settings differs."""
        setting = next(name for name in Setting._fields if getattr(item.present, name) != getattr(item.proposed, name))
        return {
            "account": item.account,
            "app": item.app,
            "environment": item.environment or None,
            "setting": setting,
            "present": getattr(item.present, setting),
            "proposed": getattr(item.proposed, setting),
            "hours": item.hours,
            "saved_least": item.least,
            "saved_likely": item.likely,
            "saved_most": item.most,
            "cold_starts_likely": item.likely_starts,
            "cold_starts_most": item.most_starts,
        }


class Machines(HourWindow):
    """Runners of apps in a window by state, and what requests cost."""

    timezone: str = Field(description="Time zone of times without an offset.")
    currency: str = Field(description="Always USD.")
    apps: tuple[MachinesOfApp, ...] = Field(description="By app, environment and GPU class; most idle money first.")
    spend: States = Field(description="Spend of all of them by state, in USD.")
    gpu_seconds: States = Field(description="GPU time of all of them by state, in seconds.")
    idle_share: float | None = Field(
        description="Share of the spend that is known to have been idle, 0 to 1; null if nothing was spent, or nothing "
        "of it is known by state."
    )
    requests: tuple[RequestCosts, ...] = Field(description="Requests of apps and models in the same window.")
    what_if: tuple[LowerSetting, ...] = Field(
        description="Lower settings of apps and what they would have saved in the last week of the window: an estimate "
        "within bounds, and no promise; the likeliest savings first."
    )
    complete: bool = Field(
        validation_alias=AliasPath("coverage", "complete"),
        description="True if every hour of the window has been read from fal completely, with all its charges.",
    )
    data_through: AwareDatetime | None = Field(
        validation_alias=AliasPath("coverage", "data_through"),
        description="End of the last hour of charges that has been read completely.",
    )
    notes: tuple[str, ...] = Field(description="Remarks on the figures: missing hours, accounts that are not included.")


class BilledRequest(Document):
    """One charged request of a model endpoint, as fal reports it; null where fal states nothing."""

    request_id: str = Field(description="fal's id of the request, as its response says (`x-fal-request-id`).")
    time: AwareDatetime = Field(description="When it was charged for.")
    account: str = Field(description="Configured account.")
    model: str = Field(description="Model endpoint, like `fal-ai/flux/dev`.")
    team: str | None = Field(description="Team of an organization.")
    api_key: str | None = Field(description="API key, by its alias where one is known, else by id.")
    member: str | None = Field(description="Member of the organization, by login.")
    tags: dict[str, str] = Field(description="Tags that the caller sent with the request.")
    quantity: Amount | None = Field(description="Units that were charged.")
    unit_price: Amount | None = Field(description="Price of a unit in USD, before discount.")
    list_cost: Amount = Field(description="Cost in USD before discount.")
    discount: Amount = Field(description="Discount in USD.")
    cost: Amount = Field(description="What was charged, in USD.")

    @model_validator(mode="before")
    @classmethod
    def _of_row(cls, row: RequestRow) -> Mapping[str, object]:
        """Return the fields; what fal does not state is null."""
        request = row.request
        return {
            "request_id": request.request_id,
            "time": request.at,
            "account": row.account,
            "model": request.model,
            "team": request.team or None,
            "api_key": row.api_key or None,
            "member": request.member or None,
            "tags": {name: str(value) for name, value in json.loads(request.tags).items()},
            "quantity": request.quantity,
            "unit_price": request.unit_price,
            "list_cost": request.list_cost,
            "discount": request.discount,
            "cost": request.cost,
        }


class Requests(Document):
    """A page of requests."""

    start: AwareDatetime = Field(description="Start of the window.")
    end: AwareDatetime = Field(description="End of the window, exclusive.")
    currency: str = Field(default="USD", description="Always USD.")
    requests: tuple[BilledRequest, ...] = Field(description="The requests, in the order asked for.")
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last.")
    complete: bool = Field(
        description="Whether every hour of the window has been read to its end, and every request of it."
    )
    notes: tuple[str, ...] = Field(description="What is missing, in sentences.")


class DifferentHour(Document):
    """An hour and model whose requests do not add up to what the ledger charges."""

    hour: AwareDatetime = Field(description="Start of the UTC hour.")
    model: str = Field(description="Model endpoint.")
    requests: int = Field(description="Number of requests.")
    events: Amount = Field(description="What the requests cost, in USD.")
    ledger: Amount = Field(description="What the ledger charges, in USD.")
    difference: Amount = Field(description="`events` minus `ledger`.")

    @model_validator(mode="before")
    @classmethod
    def _of_difference(cls, found: Difference) -> Mapping[str, object]:
        """Return the fields."""
        return {**found._asdict(), "difference": found.amount}


class AccountRequests(Document):
    """An account's requests beside the ledger, over the settled hours that both have."""

    account: str = Field(description="Configured account.")
    hours: int = Field(description="Number of hours that were compared.")
    not_read: int = Field(
        description="Number of settled hours of the window that the ledger has and whose requests have not all been "
        "read: not to their end, or some of their rows cannot be read."
    )
    events: Amount = Field(description="What the requests of these hours cost, in USD.")
    ledger: Amount = Field(description="What the ledger charges in these hours, in USD.")
    difference: Amount = Field(description="`events` minus `ledger`.")
    differences: tuple[DifferentHour, ...] = Field(description="The hours and models that differ.")

    @model_validator(mode="before")
    @classmethod
    def _of_account(cls, found: AccountDifferences) -> Mapping[str, object]:
        """Return the fields."""
        return {
            "account": found.account,
            "hours": found.hours,
            "not_read": found.not_read,
            "events": found.events,
            "ledger": found.ledger,
            "difference": found.events - found.ledger,
            "differences": found.differences,
        }


class RequestDifferences(HourWindow):
    """Requests beside the ledger: two interfaces of fal that agree, or where they do not."""

    currency: str = Field(default="USD", description="Always USD.")
    accounts: tuple[AccountRequests, ...] = Field(description="The accounts whose requests are read.")
