"""A look at a ledger from outside, beside the exporter that writes it: changes nothing, creates nothing."""

from pathlib import Path

from sqlalchemy import inspect, make_url, select

from exporter.ledger.database import clear_errors, open_database
from exporter.ledger.schema import scopes


def recorded_sources(address: str) -> dict[str, tuple[str, ...]]:
    """Return the sources that a ledger counts for each account; none where there is no ledger yet.

    Raises:
        ConfigurationError: the address is not a database's.
        LedgerError: the database cannot be read.
    """
    url = make_url(address)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return {}
    engine = open_database(address)
    try:
        with clear_errors(url), engine.connect() as connection:
            if not inspect(connection).has_table(scopes.name):
                return {}
            found: dict[str, tuple[str, ...]] = {}
            for account, source in connection.execute(
                select(scopes.c.account, scopes.c.source).where(scopes.c.active).order_by(scopes.c.id)
            ):
                found[account] = (*found.get(account, ()), source)
            return found
    finally:
        engine.dispose()
