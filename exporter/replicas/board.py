"""Board of publications: tables in the ledger's database by which replicas serve the same bytes.

The leader stores each publication as a row and its pieces, and announces it by NOTIFY. Followers read what they do not
hold yet. Of an exposition with thousands of series a publication that changes a few moves a few kilobytes.

The tables are coordination, not part of the ledger: each replica makes them where they are missing, and no migration
knows them. Those of the publication are UNLOGGED: they cost no write-ahead log, and are empty after a crash of the
server or a fail-over. The leader notices and writes them anew; until there is one, each replica lays there what it has
shown last, if it is the newest, so that whoever leads next goes on from that.
"""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, text

from exporter import __version__
from exporter.errors import ConfigurationError, LedgerError
from exporter.ledger.tables.database import ledger_url, shown
from exporter.publication import Piece, Publication
from exporter.replicas.session import Session
from exporter.replicas.stored_form import StoredBody, body_format, inflated, parsed_body, stored_body

_TABLES = {
    "replica_publication": """
        CREATE UNLOGGED TABLE IF NOT EXISTS replica_publication (
            one boolean PRIMARY KEY DEFAULT true CHECK (one),
            leader text NOT NULL,
            replica text NOT NULL,
            sequence bigint NOT NULL,
            at timestamptz NOT NULL,
            format text NOT NULL,
            version text NOT NULL,
            body bytea NOT NULL
        )""",
    "replica_piece": """
        CREATE UNLOGGED TABLE IF NOT EXISTS replica_piece (
            leader text,
            number bigint,
            deflated bytea NOT NULL,
            PRIMARY KEY (leader, number)
        )""",
    "replica_epoch": """
        CREATE UNLOGGED TABLE IF NOT EXISTS replica_epoch (
            one boolean PRIMARY KEY DEFAULT true CHECK (one),
            epoch text NOT NULL
        )""",
    "replica_member": """
        CREATE TABLE IF NOT EXISTS replica_member (
            replica text PRIMARY KEY,
            seen_at timestamptz NOT NULL,
            scraped_sequence bigint,
            scraped_at timestamptz
        )""",
    "replica_reach": """
        CREATE TABLE IF NOT EXISTS replica_reach (
            replica text PRIMARY KEY,
            reaches_fal boolean NOT NULL,
            tried_at timestamptz NOT NULL
        )""",
}
"""Leader is the token of a lease: pieces with the same number are the same only where the token is.

An epoch is a random name that whoever finds none writes: another one says that the tables have been emptied since.
"""

_TABLES_LOCK = 0x66616C62
"""Number of the advisory lock under which the tables are made."""

_PUBLICATION_LOCK = text(f"SELECT pg_advisory_xact_lock({0x66616C64})")
"""Taken by writers of a publication: of two that find the tables empty, one waits."""

_CHANNEL = "fal_exporter_publication"

_NEWEST = text(
    "SELECT leader, replica, sequence,"
    " (SELECT count(*) FROM replica_piece WHERE replica_piece.leader = replica_publication.leader) AS pieces"
    " FROM replica_publication FOR UPDATE"
)
_EPOCH = text("SELECT epoch FROM replica_epoch")
_BEGIN_EPOCH = text("INSERT INTO replica_epoch (epoch) VALUES (:epoch) ON CONFLICT (one) DO NOTHING")
_HAS = text("SELECT EXISTS (SELECT FROM replica_publication WHERE sequence >= :sequence)")
_PUT = text(
    "INSERT INTO replica_publication (leader, replica, sequence, at, format, version, body)"
    " VALUES (:leader, :replica, :sequence, :at, :format, :version, :body)"
    " ON CONFLICT (one) DO UPDATE SET leader = excluded.leader, replica = excluded.replica,"
    " sequence = excluded.sequence, at = excluded.at, format = excluded.format, version = excluded.version,"
    " body = excluded.body WHERE replica_publication.sequence <= excluded.sequence"
)
_PUT_PIECE = text("INSERT INTO replica_piece (leader, number, deflated) VALUES (:leader, :number, :deflated)")
_REMOVE_PIECES = text("DELETE FROM replica_piece WHERE leader = :leader AND number = ANY(CAST(:numbers AS bigint[]))")
_REMOVE_ALL_PIECES = text("DELETE FROM replica_piece")
_ANNOUNCE = text(f"SELECT pg_notify('{_CHANNEL}', CAST(:sequence AS text))")
_NEWER = text("SELECT leader, sequence, at, format, version, body FROM replica_publication WHERE sequence > :sequence")
_PIECES = text(
    "SELECT number, deflated FROM replica_piece WHERE leader = :leader AND number = ANY(CAST(:numbers AS bigint[]))"
)
_REPORT = text(
    "INSERT INTO replica_member AS known (replica, seen_at, scraped_sequence, scraped_at)"
    " VALUES (:replica, now(), :scraped, CASE WHEN CAST(:scraped AS bigint) IS NOT NULL THEN now() END)"
    " ON CONFLICT (replica) DO UPDATE SET seen_at = excluded.seen_at,"
    " scraped_at = CASE WHEN excluded.scraped_sequence IS DISTINCT FROM known.scraped_sequence"
    " THEN coalesce(excluded.scraped_at, known.scraped_at) ELSE known.scraped_at END,"
    " scraped_sequence = coalesce(excluded.scraped_sequence, known.scraped_sequence)"
)
_REACH = text(
    "INSERT INTO replica_reach (replica, reaches_fal, tried_at) VALUES (:replica, :reaches, now())"
    " ON CONFLICT (replica) DO UPDATE SET reaches_fal = excluded.reaches_fal, tried_at = excluded.tried_at"
)
_REACH_NO_MORE = text("DELETE FROM replica_reach WHERE replica = :replica")
_LEAVE = text("DELETE FROM replica_member WHERE replica = :replica")
_FORGET = text(
    "WITH forgotten AS (DELETE FROM replica_member WHERE seen_at < now() - interval '1 hour' RETURNING replica)"
    " DELETE FROM replica_reach WHERE replica IN (SELECT replica FROM forgotten)"
)
_SCRAPED_BY_ALL = text(
    "SELECT min(scraped_sequence) FROM replica_member"
    " WHERE seen_at > now() - interval '15 seconds' AND scraped_at > now() - interval '5 minutes'"
)
_MEMBERS = text(
    "SELECT replica, seen_at, seen_at > now() - interval '15 seconds' AS is_alive,"
    " coalesce(replica = (SELECT replica FROM replica_publication), false) AS leads,"
    " (SELECT reaches_fal FROM replica_reach AS reach WHERE reach.replica = replica_member.replica"
    " AND tried_at > now() - interval '15 seconds') AS reaches_fal"
    " FROM replica_member ORDER BY replica"
)


class OvertakenError(LedgerError):
    """Another replica has published what is newer: this one does not lead any more."""


class UnreadablePublicationError(LedgerError):
    """The leader's version writes publications that this one cannot read.

    Attributes:
        version: of the replica that leads.
    """

    def __init__(self, version: str) -> None:
        super().__init__(
            f"the replica that leads runs fal-exporter {version}, whose publications version {__version__} cannot "
            "read; run one version on all replicas"
        )
        self.version = version


class Member(NamedTuple):
    """A replica of the last hour.

    Attributes:
        seen_at: by the database's clock.
        is_alive: whether it was seen within the last 15 seconds.
        leads: whether the newest publication is its own.
        reaches_fal: what came of its newest try; None where it has not tried within the last 15 seconds.
    """

    replica: str
    seen_at: datetime
    is_alive: bool
    leads: bool
    reaches_fal: bool | None


class _Held(NamedTuple):
    """Publication that a replica has: pieces with the same numbers are the same if the leader is, too."""

    leader: str
    sequence: int


class Board:
    """The board, as one replica sees it; not for several threads at once.

    Args:
        address: of the ledger, which is on PostgreSQL.
        replica: name of this replica, which no other has.

    Raises:
        ConfigurationError: the ledger is not on PostgreSQL.
    """

    def __init__(self, address: str, *, replica: str) -> None:
        self._url = ledger_url(address)
        if self._url.get_backend_name() != "postgresql":
            raise ConfigurationError(
                "FAL_EXPORTER_REPLICATED needs a ledger on PostgreSQL; name it by FAL_EXPORTER_LEDGER_URL, or run one "
                "exporter alone"
            )
        self._replica = replica
        self._session = Session(self._url, tables=_TABLES, lock=_TABLES_LOCK, channel=_CHANNEL)
        self._held: _Held | None = None
        self._stored: frozenset[int] = frozenset()
        self._told_of_fal = False
        self._restored_on = 0
        self._epoch = ""

    def publish(self, publication: Publication, *, leader: str) -> None:
        """Store a publication, of which only the pieces that are new are written, and announce it.

        Args:
            publication: to be served by all replicas.
            leader: token of the lease.

        Raises:
            OvertakenError: another replica has published what is newer.
            LedgerError: the database cannot be written; the publication before is still there.
        """
        pieces = publication.exposition.pieces()
        row = _row(publication, leader, self._replica)
        with self._session.transaction() as connection:
            connection.execute(_PUBLICATION_LOCK)
            newest = connection.execute(_NEWEST).one_or_none()
            if newest is not None and (newest.sequence, newest.leader != leader) > (publication.sequence, False):
                raise self._overtaken(f"replica {newest.replica}")
            stored: frozenset[int] = frozenset()
            if newest is not None and (newest.leader, newest.sequence) == self._held:
                # A table that was emptied, by whatever, is not taken for what was written to it.
                stored = self._stored if newest.pieces == len(self._stored) else stored
            if stored:
                connection.execute(_REMOVE_PIECES, {"leader": leader, "numbers": sorted(stored - pieces.keys())})
            else:
                connection.execute(_REMOVE_ALL_PIECES)
            _put_pieces(connection, leader, {number: pieces[number] for number in pieces.keys() - stored})
            if not connection.execute(_PUT, row).rowcount:
                raise self._overtaken("another replica")
            connection.execute(_ANNOUNCE, {"sequence": publication.sequence})
        self._held, self._stored = _Held(leader, publication.sequence), frozenset(pieces)

    def restore(self, held: Publication) -> bool:
        """Lay on the board what this replica has shown last, if the board has lost it; return whether it may have.

        It looks once on each connection, as a server that has crashed or failed over has ended those before. Those of a
        pooler outlive that: there it looks each time, and tells by the epoch what another replica has restored before.

        Raises:
            LedgerError: the database cannot be written.
        """
        is_known = self._session.is_open and self._session.number == self._restored_on
        if is_known and not self._session.is_pooled:
            return False
        is_lost = False
        leader = self._held.leader if self._held and self._held.sequence == held.sequence else str(uuid.uuid4())
        with self._session.transaction() as connection:
            epoch = connection.scalar(_EPOCH)
            if epoch is None:
                connection.execute(_BEGIN_EPOCH, {"epoch": str(uuid.uuid4())})
                epoch = connection.scalar(_EPOCH)
            if not connection.scalar(_HAS, {"sequence": held.sequence}):
                connection.execute(_PUBLICATION_LOCK)
                is_lost = not connection.scalar(_HAS, {"sequence": held.sequence})
            if is_lost:
                connection.execute(_REMOVE_ALL_PIECES)
                _put_pieces(connection, leader, held.exposition.pieces())
                replicas = held.overview.replicas
                connection.execute(_PUT, _row(held, leader, "" if replicas is None else replicas.leader))
                connection.execute(_ANNOUNCE, {"sequence": held.sequence})
                self._held, self._stored = _Held(leader, held.sequence), frozenset()
        is_known = is_known and epoch == self._epoch
        self._restored_on, self._epoch = self._session.number, str(epoch)
        return is_lost or not is_known

    def read(self, held: Publication | None) -> Publication | None:
        """Return the newest publication; None where there is none that is newer than what is held.

        Args:
            held: what was read or published last; None for nothing.

        Raises:
            UnreadablePublicationError: it is another version's.
            LedgerError: the database cannot be read.
        """
        with self._session.transaction(reads=True) as connection:
            row = connection.execute(_NEWER, {"sequence": -1 if held is None else held.sequence}).one_or_none()
            if row is None:
                return None
            if row.format != body_format():
                raise UnreadablePublicationError(row.version)
            body = self._parsed(row.body)
            known: dict[int, Piece] = {}
            if held is not None and self._held == (row.leader, held.sequence):
                known = held.exposition.pieces()
            lacking = body.numbers() - known.keys()
            found = connection.execute(_PIECES, {"leader": row.leader, "numbers": sorted(lacking)}).all()
        if len(found) < len(lacking):
            raise LedgerError(
                f"the ledger {shown(self._url)} has a publication without some of its pieces; the replica that leads "
                "writes them anew with its next publication"
            )
        new = tuple(Piece(number, inflated(deflated), bytes(deflated)) for number, deflated in found)
        publication = body.delta(row.sequence, new).unpack(None if held is None or not known else held.exposition)
        self._held, self._stored = _Held(row.leader, row.sequence), frozenset()
        return publication

    def wait(self, seconds: float) -> bool:
        """Wait for an announcement, at most so long; return whether there may be something new.

        Where nothing can be announced, behind a pooler that lends its connections or without the database, the time
        passes: the caller reads after it in any case.
        """
        return self._session.wait(seconds)

    def report(self, scraped: int | None, *, reaches_fal: bool | None = None) -> None:
        """Report that this replica is alive.

        Args:
            scraped: sequence of the publication that it has been scraped from last; None if it has not been scraped.
            reaches_fal: whether fal has answered it just now; None where it has not tried.

        Raises:
            LedgerError: the database cannot be written.
        """
        with self._session.transaction() as connection:
            connection.execute(_REPORT, {"replica": self._replica, "scraped": scraped})
            if reaches_fal is not None:
                connection.execute(_REACH, {"replica": self._replica, "reaches": reaches_fal})
            elif self._told_of_fal:
                connection.execute(_REACH_NO_MORE, {"replica": self._replica})
            connection.execute(_FORGET)
        self._told_of_fal = reaches_fal is not None

    def scraped_by_all(self) -> int | None:
        """Return the sequence up to which every replica has been scraped; None where none is.

        Replicas that have not been seen for 15 seconds, or not scraped for 5 minutes, hold nobody back.

        Raises:
            LedgerError: the database cannot be read.
        """
        with self._session.transaction(reads=True) as connection:
            sequence: int | None = connection.execute(_SCRAPED_BY_ALL).scalar_one()
            return sequence

    def members(self) -> tuple[Member, ...]:
        """Return the replicas that were alive within the last hour, by name.

        Raises:
            LedgerError: the database cannot be read.
        """
        with self._session.transaction(reads=True) as connection:
            return tuple(Member(*row) for row in connection.execute(_MEMBERS))

    def leave(self) -> None:
        """Count among the living no more; does nothing where the database is away, as it is noticed by itself.

        Raises:
            LedgerError: the database has just gone.
        """
        if self._session.is_open:
            with self._session.transaction() as connection:
                connection.execute(_LEAVE, {"replica": self._replica})
                connection.execute(_REACH_NO_MORE, {"replica": self._replica})

    def close(self) -> None:
        """End the connection; the next call opens another."""
        self._session.close()

    def _overtaken(self, by: str) -> OvertakenError:
        return OvertakenError(
            f"the ledger {shown(self._url)} has a newer publication, made by {by}; replica {self._replica} "
            "publishes nothing more until it leads again"
        )

    def _parsed(self, body: bytes) -> StoredBody:
        try:
            return parsed_body(body)
        except ValueError as error:
            raise LedgerError(
                f"the ledger {shown(self._url)} has a publication that is damaged; the replica that leads writes "
                "another one soon"
            ) from error


def _row(publication: Publication, leader: str, replica: str) -> dict[str, object]:
    return {
        "leader": leader,
        "replica": replica,
        "sequence": publication.sequence,
        "at": publication.at,
        "format": body_format(),
        "version": __version__,
        "body": stored_body(publication),
    }


def _put_pieces(connection: Connection, leader: str, pieces: Mapping[int, Piece]) -> None:
    if pieces:
        connection.execute(
            _PUT_PIECE,
            [{"leader": leader, "number": number, "deflated": piece.deflated} for number, piece in pieces.items()],
        )
