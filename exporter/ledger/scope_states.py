"""How far a source is known: the rules for the stamps, pure."""

from dataclasses import replace
from datetime import datetime, timedelta

from exporter.charges import Window, hour_of
from exporter.ledger.series_rows import Scope
from exporter.ledger.view import ScopeState


def reached(scope: Scope, window: Window, at: datetime) -> Scope:
    """Return the scope after a successful poll of a window that began at an instant, whatever the poll found.

    The hours that are covered are always one span, from `history_from` to `data_through`; a window that does not touch
    it (there is a gap that some other poll has to fill) does not move its ends.
    """
    end = min(window.end, hour_of(at))
    if scope.history_from is None or scope.data_through is None:
        history_from, data_through = window.start, max(end, window.start)
    elif window.start <= scope.data_through and end >= scope.history_from:
        history_from, data_through = min(scope.history_from, window.start), max(scope.data_through, end)
    else:
        history_from, data_through = scope.history_from, scope.data_through
    return replace(
        scope,
        data_through=data_through,
        history_from=history_from,
        last_success_at=at if scope.last_success_at is None else max(at, scope.last_success_at),
    )


def settled(scope: Scope, window: Window, at: datetime, settle_delay: timedelta) -> Scope:
    """Return the scope after the same poll, with what has now settled.

    An hour is settled when a poll that began a settle delay after the hour's end has covered what followed it.
    """
    if scope.history_from is None or scope.data_through is None:
        return scope
    edge = min(hour_of(at - settle_delay), scope.data_through)
    if not window.start <= edge <= window.end or edge < scope.history_from:
        return scope
    return replace(scope, settled_through=edge if scope.settled_through is None else max(scope.settled_through, edge))


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
