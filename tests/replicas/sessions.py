"""Sessions of replicas that divide accounts, on a database in which one of them leads."""

from collections.abc import Iterator

from sqlalchemy import Engine, create_engine, make_url, text

from exporter.replicas import errands, owners
from exporter.replicas.session import Session

LEASE = "token of the lease"


class Statements:
    """A database, as a person sees it."""

    def __init__(self, address: str, engine: Engine) -> None:
        self._url = make_url(address)
        self._engine = engine

    def execute(self, statement: str) -> None:
        """Run a statement."""
        with self._engine.begin() as connection:
            connection.execute(text(statement))

    def value(self, question: str) -> object:
        """Return the first value of a question."""
        with self._engine.connect() as connection:
            return connection.scalar(text(question))

    def session(self, replica: str, *, idle_limit: str = "5s") -> Session:
        """Return a session as a replica's."""
        return Session(
            self._url,
            tables=owners.TABLES | errands.TABLES,
            lock=7,
            channel=errands.channel_of(replica),
            idle_limit=idle_limit,
        )


def statements_of(address: str) -> Iterator[Statements]:
    """Yield a database in which replica `a` leads."""
    engine = create_engine(address)
    found = Statements(address, engine)
    found.execute(
        "CREATE TABLE replica_lease (only_row boolean PRIMARY KEY, token text, replica text, expires_at timestamptz)"
    )
    found.execute(f"INSERT INTO replica_lease VALUES (true, '{LEASE}', 'a', 'infinity')")  # noqa: S608
    yield found
    engine.dispose()
