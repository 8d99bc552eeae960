"""Interruption of reading: a statement under way in a database ends once nobody waits for what it finds.

SQLite asks every few thousand instructions whether to go on. A server, and DuckDB, are told by a thread of its own,
which looks after all statements that are under way and is there only as long as one of them is.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    import sqlite3

    from sqlalchemy import Connection

Check = Callable[[], None]
"""Raises once nobody waits any more, and from then on every time."""

_INSTRUCTIONS = 20_000
"""Of SQLite's, between two looks: about a millisecond."""

_EVERY = 0.2
"""Seconds between two looks at the statements that have to be told."""

_CANCEL_SECONDS = 5.0
"""Seconds that a server may take to be told."""


class _Cancellable(Protocol):
    """Connection to a server, as psycopg has it."""

    def cancel_safe(self, *, timeout: float) -> None:
        """Have the server end the statement that is under way; may be called in any thread."""


@contextmanager
def ended_by(connection: "Connection", check: Check | None) -> Iterator[None]:
    """End the statements of a block once a check raises; what the check raises then takes the place of their errors.

    Args:
        connection: used by this block alone.
        check: called in other threads too; None to have statements run to their end.
    """
    if check is None:
        yield
        return
    import sqlite3  # noqa: PLC0415  with the ledger, not before

    driver = connection.connection.driver_connection
    guarded = _of_sqlite(driver, check) if isinstance(driver, sqlite3.Connection) else _of_server(connection, check)
    with guarded:
        try:
            yield
        except Exception:
            check()
            raise


@contextmanager
def _of_sqlite(driver: "sqlite3.Connection", check: Check) -> Iterator[None]:
    driver.set_progress_handler(lambda: _is_over(check), _INSTRUCTIONS)
    try:
        yield
    finally:
        driver.set_progress_handler(None, 0)


@contextmanager
def _of_server(connection: "Connection", check: Check) -> Iterator[None]:
    # The only driver of servers is psycopg's, of which SQLAlchemy's types know nothing.
    driver = cast("_Cancellable", connection.connection.driver_connection)
    watched = _Watched(partial(driver.cancel_safe, timeout=_CANCEL_SECONDS), check)
    _watch.add(watched)
    try:
        yield
    finally:
        if _watch.remove(watched):
            # The server may hear of it late, when the connection would be in use for another question.
            connection.invalidate()


_wanted: ContextVar[Check | None] = ContextVar("wanted", default=None)


@contextmanager
def wanted_until(check: Check) -> Iterator[None]:
    """Have what is asked of databases in this block, in its context, end once a check raises."""
    before = _wanted.set(check)
    try:
        yield
    finally:
        _wanted.reset(before)


def current_check() -> Check | None:
    """Return the check of the innermost `wanted_until`; None outside of all."""
    return _wanted.get()


@contextmanager
def stopped_by(stop: Callable[[], None]) -> Iterator[None]:
    """End the statements of a block once the check of `wanted_until` raises; that then takes the place of their errors.

    Args:
        stop: ends the statement that is under way, if any; called in another thread, perhaps just after the block.
    """
    check = _wanted.get()
    if check is None:
        yield
        return
    check()
    watched = _Watched(stop, check)
    _watch.add(watched)
    try:
        yield
    except Exception:
        check()
        raise
    finally:
        _watch.remove(watched)


def _is_over(check: Check) -> bool:
    try:
        check()
    except Exception:  # noqa: BLE001  whatever it is, it is raised anew where the statement was begun
        return True
    return False


@dataclass(eq=False, slots=True)
class _Watched:
    """A statement: the way to stop it, and whether that was done."""

    stop: Callable[[], None]
    check: Check
    is_cancelled: bool = False


class _Watch:
    """Looks after the statements that have to be told."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: set[_Watched] = set()
        self._looking: threading.Thread | None = None

    def add(self, watched: _Watched) -> None:
        """Look after a statement from now on."""
        with self._lock:
            self._watched.add(watched)
            if self._looking is None:
                self._looking = threading.Thread(target=self._look, name="interruption", daemon=True)
                self._looking.start()

    def remove(self, watched: _Watched) -> bool:
        """Look after a statement no more; return whether it has been cancelled."""
        with self._lock:
            self._watched.discard(watched)
            return watched.is_cancelled

    def _look(self) -> None:
        while True:
            time.sleep(_EVERY)
            with self._lock:
                over = [watched for watched in self._watched if _is_over(watched.check)]
                for watched in over:
                    watched.is_cancelled = True
                self._watched.difference_update(over)
                if not self._watched and not over:
                    self._looking = None
                    return
            for watched in over:
                # Where a server cannot be told, the statement runs to its end, as it would have.
                with suppress(Exception):
                    watched.stop()


_watch = _Watch()
