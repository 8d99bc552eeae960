"""Tagged usage: spend on model endpoints by the tags that callers sent (`/models/usage?source=tagged-estimate`).

It allocates and does not bill: recent usage comes later than in the source `models`, and its sums can differ.
"""

from collections import Counter
from datetime import datetime

from exporter.charges import Amounts, Window, hour_of
from exporter.fal.aggregation import rounded
from exporter.fal.client import Client
from exporter.fal.endpoints import Deadline
from exporter.fal.errors import FeatureError
from exporter.fal.platform_usage import MODELS, amounts_of, pages, window_parameters
from exporter.fal.rows import RejectedError, Rejection, fine_amount, in_dollars, instant, optional_text, row_of, text
from exporter.tags import UNTAGGED, TaggedCharge, TaggedReading, TagValues, tag_values

SOURCE = "tagged-estimate"

_Key = tuple[str, str, TagValues]
"""Model, unit and values of the tags."""


async def read_tagged(
    client: Client, window: Window, keys: TagValues, deadline: Deadline | None = None
) -> TaggedReading:
    """Read a window by tags through all its pages.

    Args:
        client: the account's own.
        window: whole UTC hours.
        keys: of the tags that are wanted; values of others are added up.
        deadline: the client's own unless given.

    Raises:
        FeatureError: fal answers, but not by tags: reporting is not switched on for the account.
        ApiError: every other kind of failure; see `exporter.fal.errors`.
    """
    call, deadline = MODELS.call, deadline or client.deadline()
    hours: dict[datetime, dict[_Key, Amounts]] = {}
    rejected: Counter[str] = Counter()
    query = {**window_parameters(window, by_key=False), "source": SOURCE}
    async for page in pages(client, call, query, deadline, track_lock=False):
        for bucket in page:
            rows = bucket.get("results") if isinstance(bucket, dict) else None
            if not isinstance(bucket, dict) or not isinstance(rows, list):
                raise client.misshapen(call, "`time_series` contains something that is not a bucket with `results`")
            for row in rows:
                if isinstance(row, dict) and "tags" not in row:
                    raise client.failure(FeatureError, call, "fal's answer has no tags: reporting by tags is not on")
                try:
                    hour = _hour(bucket.get("bucket"), window)
                    key, amounts = _row(row, keys)
                except RejectedError as error:
                    client.rejections.reject(rejected, "tags", error.reason, row)
                    continue
                sums = hours.setdefault(hour, {})
                known = sums.get(key)
                sums[key] = amounts if known is None else known.plus(amounts)
    charges, stated = [], {}
    for hour, sums in hours.items():
        stated[hour] = 0
        for (model, unit, tags), amounts in rounded(sums):
            stated[hour] += amounts.cost
            if any(value != UNTAGGED for value in tags):
                charges.append(TaggedCharge(hour, model, unit, tags, amounts))
    return TaggedReading(client.account, window, keys, tuple(charges), stated, dict(rejected))


def _hour(stamp: object, window: Window) -> datetime:
    hour = instant(stamp)
    if hour != hour_of(hour):
        raise RejectedError(Rejection.BUCKET)
    if hour not in window:
        raise RejectedError(Rejection.OUTSIDE_WINDOW)
    return hour


def _row(value: object, keys: TagValues) -> tuple[_Key, Amounts]:
    row = row_of(value)
    in_dollars(row.get("currency"))
    tags = row.get("tags")
    if tags is not None and not isinstance(tags, dict):
        raise RejectedError(Rejection.WRONG_TYPE)
    unit = optional_text(row.get("unit"))
    amounts = amounts_of(row, fine_amount(row.get("quantity")), 0)
    return (text(row.get("endpoint_id")), unit, tag_values(tags or {}, keys)), amounts
