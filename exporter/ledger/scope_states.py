"""How far a source is known: the rules for the stamps, pure."""

from dataclasses import replace
from datetime import datetime, timedelta

from exporter.charges import Window, hour_of
from exporter.ledger.series_rows import Scope
from exporter.ledger.view import ScopeState


def reached(scope: Scope, window: Window, at: datetime, settle_delay: timedelta) -> Scope:
    """Return the scope after a successful poll of a window that began at an instant, whatever the poll found.

    The hours that are covered are always one span, from `history_from` to `data_through`; a window that does not touch
    it (there is a gap that some other poll has to fill) does not move its ends. An hour is settled when a poll that
    began a settle delay after the hour's end has covered what followed it.
    """
    end = min(window.end, hour_of(at))
    if scope.history_from is None or scope.data_through is None:
        history_from, data_through = window.start, max(end, window.start)
    else:
        touches = window.start <= scope.data_through and window.end >= scope.history_from
        history_from = min(scope.history_from, window.start) if touches else scope.history_from
        data_through = max(scope.data_through, end) if touches else scope.data_through
    settled_through = scope.settled_through
    edge = min(hour_of(at - settle_delay), data_through)
    if window.start <= edge <= window.end and history_from <= edge:
        settled_through = edge if settled_through is None else max(settled_through, edge)
    return replace(
        scope,
        data_through=data_through,
        history_from=history_from,
        settled_through=settled_through,
        last_success_at=at if scope.last_success_at is None else max(at, scope.last_success_at),
    )


def state_of(scope: Scope) -> ScopeState:
    """Return what a scope shows of itself."""
    return ScopeState(
        account=scope.account,
        source=scope.source,
        born_at=scope.born_at,
        data_through=scope.data_through,
        settled_through=scope.settled_through,
        history_from=scope.history_from,
        last_success_at=scope.last_success_at,
        restated_up=scope.restated_up,
        restated_down=scope.restated_down,
        restated_hours=scope.restated_hours,
    )
