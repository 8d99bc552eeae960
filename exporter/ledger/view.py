"""What the ledger shows of itself at one instant: immutable, and cheap to make when little has changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from exporter.charges import Balance, Invoice
from exporter.ledger.reconciliations import Reconciliation
from exporter.samples import Pages


@dataclass(frozen=True, slots=True)
class ScopeState:
    """How far one source of one account is known.

    Attributes:
        born_at: when the ledger first took this source up.
        data_through: end of the last complete hour up to which every hour has been covered; None before the first poll.
        settled_through: end of the last hour that is older than the settle delay and has been polled since.
        history_from: start of the earliest hour from which on every hour has been covered.
        last_success_at: start of the last successful poll.
        restated_up, restated_down: nano-USD by which complete hours have been changed, each positive.
        restated_hours: how many times a complete hour has been changed.
    """

    account: str
    source: str
    born_at: datetime
    data_through: datetime | None
    settled_through: datetime | None
    history_from: datetime | None
    last_success_at: datetime | None
    restated_up: int
    restated_down: int
    restated_hours: int


@dataclass(frozen=True, slots=True)
class PeriodTotals:
    """One account's spend in nano-USD."""

    current_hour: int
    last_hour: int
    today: int
    month_to_date: int
    last_month: int


@dataclass(frozen=True, slots=True)
class LedgerView:
    """The ledger's figures at an instant. Every table's values are in nano-units.

    The labels of a table are the configured labels; `quantity` has `unit` after them, and the tables of prices and
    discounts have account, product, model, app, gpu_class and unit. Counters carry the instant of their creation.

    Attributes:
        surge_month_to_date: the part of `month_to_date` that was charged at surge prices; likewise the GPU time. Only
            what has been sold at such prices in the periods shown has a sample.
        previous_prices: what a unit cost before its price changed last; only of those whose price has been seen to.
        price_changes: when: the start of the hour of the charge that showed it, in seconds since 1970 (not nano).
        discounts: the share taken off each unit price, in units of 10**-11 (100 * NANO of them are everything).
        previous_discounts, discount_changes: as for prices, of the discounts.
        first_seen: with account, product, model and app: the start of the hour of the first charge in seconds since
            1970 (not nano), retention notwithstanding; without those that may be older than the known history.
    """

    sequence: int
    at: datetime
    labels: tuple[str, ...]
    spend: Pages
    discount: Pages
    gpu_seconds: Pages
    quantity: Pages
    pending: Pages
    current_hour: Pages
    last_hour: Pages
    today: Pages
    month_to_date: Pages
    last_month: Pages
    gpu_time_last_hour: Pages
    gpu_time_month_to_date: Pages
    surge_month_to_date: Pages
    gpu_time_surge_month_to_date: Pages
    unit_prices: Pages
    previous_prices: Pages
    price_changes: Pages
    discounts: Pages
    previous_discounts: Pages
    discount_changes: Pages
    first_seen: Pages
    scopes: tuple[ScopeState, ...]
    totals: Mapping[str, PeriodTotals]
    balances: tuple[Balance, ...]
    invoices: tuple[Invoice, ...]
    reconciliations: tuple[Reconciliation, ...]
    charges: int
    label_sets: int
    overflowed_series: int
    born_at: datetime
