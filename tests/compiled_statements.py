"""One cache of compiled statements for all ledgers that a test run opens.

SQLAlchemy compiles each statement once an engine, which is right for a process that has one or two. Tests open more
than a thousand, and would spend a fifth of their time on texts of SQL that they have already made.
"""

from sqlalchemy import Dialect, Engine
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.sql.compiler import Compiled
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.util import LRUCache

_MOST_STATEMENTS = 5_000
_CACHES: dict[type, LRUCache[object, object]] = {}


def _shared(engine: Engine) -> LRUCache[object, object]:
    return _CACHES.setdefault(type(engine.dialect), LRUCache(_MOST_STATEMENTS))


def _keep_shared(engine: Engine, own: object) -> None:
    del engine, own


_TABLES: dict[tuple[object, ...], Compiled] = {}


def _compiled_once(
    self: CreateTable | CreateIndex, *, dialect: Dialect, schema_translate_map: object = None
) -> Compiled:
    """Compile a statement that makes a table or an index, once; SQLAlchemy itself keeps none of these."""
    key = type(self), self.element, self.if_not_exists, type(dialect)
    made = _TABLES.get(key)
    if made is None:
        made = _TABLES[key] = ClauseElement.compile(self, dialect=dialect, schema_translate_map=schema_translate_map)
    return made


def share() -> None:
    """Let all engines of one dialect find what others have compiled."""
    CreateTable.compile = _compiled_once  # type: ignore[method-assign, assignment]
    CreateIndex.compile = _compiled_once  # type: ignore[method-assign, assignment]
    Engine._compiled_cache = property(_shared, _keep_shared)  # type: ignore[assignment]
    # The dialect is a part of each key. Two of one kind compile alike: a run has one SQLite and one PostgreSQL.
    DefaultDialect.__hash__ = lambda self: hash(type(self))  # type: ignore[method-assign]
    DefaultDialect.__eq__ = lambda self, other: type(self) is type(other)  # type: ignore[method-assign]
