"""From the ledger's figures to the tables of a snapshot."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from exporter.ledger import LedgerView, ScopeState
from exporter.metrics.catalogue import CATALOGUE
from exporter.metrics.prospects import prospects
from exporter.metrics.reconciled import reconciled
from exporter.metrics.snapshot import Snapshot, Table
from exporter.outlook.state import Outlook
from exporter.samples import Pages, Sample, paged


def snapshot_of(view: LedgerView, history_progress: Mapping[tuple[str, str], float], outlook: Outlook) -> Snapshot:
    """Lay out everything that is published of the ledger.

    Args:
        view: the ledger's figures.
        history_progress: share of the configured history that is loaded, 0 to 1, by account and source.
        outlook: what lies ahead by these figures.
    """
    charged: dict[str, Pages] = {
        "fal_spend_usd_total": view.spend,
        "fal_discount_usd_total": view.discount,
        "fal_gpu_seconds_total": view.gpu_seconds,
        "fal_usage_quantity_total": view.quantity,
        "fal_counter_pending_usd": view.pending,
        "fal_spend_current_hour_usd": view.current_hour,
        "fal_spend_last_hour_usd": view.last_hour,
        "fal_spend_today_usd": view.today,
        "fal_spend_month_to_date_usd": view.month_to_date,
        "fal_spend_last_month_usd": view.last_month,
        "fal_gpu_time_last_hour_seconds": view.gpu_time_last_hour,
        "fal_gpu_time_month_to_date_seconds": view.gpu_time_month_to_date,
        "fal_spend_surge_month_to_date_usd": view.surge_month_to_date,
        "fal_gpu_time_surge_month_to_date_seconds": view.gpu_time_surge_month_to_date,
        "fal_unit_price_usd": view.unit_prices,
        "fal_unit_price_previous_usd": view.previous_prices,
        "fal_unit_price_changed_timestamp_seconds": view.price_changes,
        "fal_unit_discount_ratio": view.discounts,
        "fal_unit_discount_previous_ratio": view.previous_discounts,
        "fal_unit_discount_changed_timestamp_seconds": view.discount_changes,
        "fal_model_first_seen_timestamp_seconds": view.first_seen,
    }
    few: dict[str, Iterable[Sample]] = {
        "fal_data_through_timestamp_seconds": _stamps(view.scopes, [it.data_through for it in view.scopes]),
        "fal_settled_through_timestamp_seconds": _stamps(view.scopes, [it.settled_through for it in view.scopes]),
        "fal_restated_usd_total": [
            Sample((it.account, it.source, direction), amount, it.born_at)
            for it in view.scopes
            for direction, amount in (("down", it.restated_down), ("up", it.restated_up))
        ],
        "fal_restated_hours_total": [
            Sample((it.account, it.source), it.restated_hours, it.born_at) for it in view.scopes
        ],
        "fal_credit_balance_usd": [Sample((it.account,), it.amount) for it in view.balances],
        "fal_invoice_total_usd": [
            Sample((it.account, it.number or it.id, it.status), it.total) for it in view.invoices
        ],
        "fal_invoice_due_timestamp_seconds": [
            Sample((it.account, it.number or it.id, it.status), it.due_at.timestamp())
            for it in view.invoices
            if it.due_at is not None
        ],
        **reconciled(view.reconciliations, view.at),
        **prospects(outlook),
        "fal_exporter_history_progress_ratio": [
            Sample(scope, progress) for scope, progress in history_progress.items()
        ],
        "fal_exporter_series": [Sample((), view.label_sets)],
        "fal_exporter_series_overflow_total": [Sample((), view.overflowed_series, view.born_at)],
        "fal_exporter_ledger_charges": [Sample((), view.charges)],
        "fal_exporter_ledger_birth_timestamp_seconds": [Sample((), view.born_at.timestamp())],
    }
    tables = charged | {name: paged(samples) for name, samples in few.items()}
    return Snapshot(
        view.sequence,
        view.at,
        tuple(
            Table(CATALOGUE[name], CATALOGUE[name].labels_with(view.labels), pages) for name, pages in tables.items()
        ),
    )


def _stamps(scopes: Iterable[ScopeState], instants: Iterable[datetime | None]) -> list[Sample]:
    return [
        Sample((scope.account, scope.source), instant.timestamp())
        for scope, instant in zip(scopes, instants, strict=True)
        if instant is not None
    ]
