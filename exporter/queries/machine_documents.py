"""Documents of `exporter.queries.machines`, for programs: runners by state, and what requests cost."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import AliasPath, AwareDatetime, BeforeValidator, Field, model_validator

from exporter.forecasting.what_if import Setting, WhatIf
from exporter.machines import Efficiency, Parts
from exporter.queries.machines import AppMachines, share
from exporter.queries.models import Amount, Document


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
    idle_share: float | None = Field(description="Share of the spend that was idle, 0 to 1; null if nothing was spent.")
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
            "idle_share": share(app.spend.idle, app.spend.total),
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


class Machines(Document):
    """Runners of apps in a window by state, and what requests cost."""

    start: AwareDatetime = Field(description="Start of the window: a whole UTC hour.")
    end: AwareDatetime = Field(description="End of the window, exclusive: a whole UTC hour.")
    timezone: str = Field(description="Time zone of times without an offset.")
    currency: str = Field(description="Always USD.")
    apps: tuple[MachinesOfApp, ...] = Field(description="By app, environment and GPU class; most idle money first.")
    spend: States = Field(description="Spend of all of them by state, in USD.")
    gpu_seconds: States = Field(description="GPU time of all of them by state, in seconds.")
    idle_share: float | None = Field(description="Share of the spend that was idle, 0 to 1; null if nothing was spent.")
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
