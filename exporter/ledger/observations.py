"""Which hours of a scope have been covered by a successful poll, in the database; hours are numbers."""

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, bindparam, delete, func, select

from exporter.ledger.schema import observed_hours

_hour = observed_hours.c.hour
_IN_SCOPE = observed_hours.c.scope_id == bindparam("scope")
_OBSERVED = select(_hour, observed_hours.c.complete).where(
    _IN_SCOPE, _hour >= bindparam("first"), _hour < bindparam("end")
)
_COMPLETE = select(_hour).where(_IN_SCOPE, observed_hours.c.complete)
_COMPLETE_FROM = _COMPLETE.where(_hour >= bindparam("first")).order_by(_hour)
_COMPLETE_BEFORE = _COMPLETE.where(_hour < bindparam("end")).order_by(_hour.desc())


def read_observed(connection: Connection, scope: int, first: int, end: int) -> dict[int, bool]:
    """Return the covered hours in [first, end), each with whether it was covered after its end."""
    rows = connection.execute(_OBSERVED, {"scope": scope, "first": first, "end": end})
    return {row[0]: row[1] for row in rows.all()}


def write_observed(connection: Connection, scope: int, before: Mapping[int, bool], after: Mapping[int, bool]) -> None:
    """Note which hours a poll has covered, and whether after their end."""
    new = [
        {"scope_id": scope, "hour": hour, "complete": complete}
        for hour, complete in after.items()
        if hour not in before
    ]
    if new:
        connection.execute(observed_hours.insert(), new)
    for hour, complete in after.items():
        if hour in before and complete != before[hour]:
            connection.execute(
                observed_hours.update().where(observed_hours.c.scope_id == scope, observed_hours.c.hour == hour),
                {"complete": complete},
            )


def covered_until(connection: Connection, scope: int, hour: int) -> int:
    """Return the end of the run of hours, covered after their end, that begins at an hour; the hour where none does."""
    rows = connection.execute(_COMPLETE_FROM, {"scope": scope, "first": hour})
    with rows:
        for row in rows:
            if row[0] != hour:
                break
            hour += 1
    return hour


def covered_since(connection: Connection, scope: int, hour: int) -> int:
    """Return the start of the run of hours, covered after their end, that ends where an hour starts; or that hour."""
    rows = connection.execute(_COMPLETE_BEFORE, {"scope": scope, "end": hour})
    with rows:
        for row in rows:
            if row[0] != hour - 1:
                break
            hour -= 1
    return hour


def first_unseen(connection: Connection, scopes: Collection[int]) -> int | None:
    """Return the first hour after all that some scopes have covered, None where they have covered nothing."""
    last = connection.scalar(select(func.max(observed_hours.c.hour)).where(observed_hours.c.scope_id.in_(scopes)))
    return None if last is None else last + 1


def forget_observed(connection: Connection, scope: int) -> None:
    """Forget which hours of a scope have been covered, so that what they hold counts as history."""
    connection.execute(delete(observed_hours).where(observed_hours.c.scope_id == scope))


def forget_before(connection: Connection, horizon: int) -> None:
    """Forget the hours before the retention's horizon."""
    connection.execute(delete(observed_hours).where(observed_hours.c.hour < horizon))
