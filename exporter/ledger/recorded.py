"""What a ledger counts, seen from outside, beside the exporter that writes it."""

from sqlalchemy import select

from exporter.ledger.reading import NoLedgerError, reading
from exporter.ledger.schema import scopes


def recorded_sources(address: str) -> dict[str, tuple[str, ...]]:
    """Return the sources that a ledger counts for each account; none where there is no ledger yet.

    Raises:
        LedgerError: the database cannot be read.
    """
    found: dict[str, tuple[str, ...]] = {}
    question = select(scopes.c.account, scopes.c.source).where(scopes.c.active).order_by(scopes.c.id)
    try:
        with reading(address, of_any_version=True) as connection:
            for account, source in connection.execute(question):
                found[account] = (*found.get(account, ()), source)
    except NoLedgerError:
        return {}
    return found
