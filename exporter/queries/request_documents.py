"""Documents of `exporter.queries.requests`, for programs: single requests, and where they differ from the ledger."""

import json
from collections.abc import Mapping

from pydantic import AwareDatetime, Field, model_validator

from exporter.events.summaries import Difference
from exporter.queries.models import Amount, Document
from exporter.queries.requests import AccountDifferences, RequestRow


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
        description="Number of settled hours of the window that the ledger has and whose requests have not been read."
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


class RequestDifferences(Document):
    """Requests beside the ledger: two interfaces of fal that agree, or where they do not."""

    start: AwareDatetime = Field(description="Start of the window: a whole UTC hour.")
    end: AwareDatetime = Field(description="End of the window, exclusive: a whole UTC hour.")
    currency: str = Field(default="USD", description="Always USD.")
    accounts: tuple[AccountRequests, ...] = Field(description="The accounts whose requests are read.")
