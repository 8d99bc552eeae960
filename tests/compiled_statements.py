"""One cache of compiled statements for all ledgers that a test run opens.

SQLAlchemy compiles each statement once an engine, which is right for a process that has one or two. Tests open more
than a thousand, and would spend a fifth of their time on texts of SQL that they have already made.
"""

from sqlalchemy import Engine
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.util import LRUCache

_MOST_STATEMENTS = 5_000
_CACHES: dict[type, LRUCache[object, object]] = {}


def _shared(engine: Engine) -> LRUCache[object, object]:
    return _CACHES.setdefault(type(engine.dialect), LRUCache(_MOST_STATEMENTS))


def _keep_shared(engine: Engine, own: object) -> None:
    del engine, own


def share() -> None:
    """Let all engines of one dialect find what others have compiled."""
    Engine._compiled_cache = property(_shared, _keep_shared)  # type: ignore[assignment]
    # The dialect is a part of each key. Two of one kind compile alike: a run has one SQLite and one PostgreSQL.
    DefaultDialect.__hash__ = lambda self: hash(type(self))  # type: ignore[method-assign]
    DefaultDialect.__eq__ = lambda self, other: type(self) is type(other)  # type: ignore[method-assign]
