"""Prices as fal states them, and what is new in them."""

from exporter.charges import NANO
from exporter.metrics.families.family import Family

_PRICED = ("account", "product", "model", "app", "gpu_class", "unit")
_PERCENT = 100 * NANO
"""Discounts are nano-percent."""

PRICES: tuple[Family, ...] = (
    Family(
        "fal_unit_price_usd",
        "gauge",
        "Price in US dollars of one unit before discount, as seen in the newest charge.",
        _PRICED,
        scale=NANO,
    ),
    Family(
        "fal_unit_price_previous_usd",
        "gauge",
        "Price in US dollars of one unit before the last change of price; absent where none has been seen.",
        _PRICED,
        scale=NANO,
    ),
    Family(
        "fal_unit_price_changed_timestamp_seconds",
        "gauge",
        "Start of the hour of the first charge at the present price, in seconds since the epoch; absent where no "
        "change of price has been seen.",
        _PRICED,
    ),
    Family(
        "fal_unit_discount_ratio",
        "gauge",
        "Share of the price that fal takes off, from 0 to 1, as seen in the newest charge.",
        _PRICED,
        scale=_PERCENT,
    ),
    Family(
        "fal_unit_discount_previous_ratio",
        "gauge",
        "Share of the price that fal took off before the last change, from 0 to 1; absent where no change has been "
        "seen. More than fal_unit_discount_ratio means that a discount was lost.",
        _PRICED,
        scale=_PERCENT,
    ),
    Family(
        "fal_unit_discount_changed_timestamp_seconds",
        "gauge",
        "Start of the hour of the first charge at the present discount, in seconds since the epoch; absent where no "
        "change has been seen.",
        _PRICED,
    ),
    Family(
        "fal_model_first_seen_timestamp_seconds",
        "gauge",
        "Start of the hour of the first charge of a model or app, in seconds since the epoch; absent for those that "
        "were charged in the ledger's first 7 days, whose age is not known.",
        ("account", "product", "model", "app"),
    ),
)
