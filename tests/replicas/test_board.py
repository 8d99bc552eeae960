import pickle
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import get_args
from zoneinfo import ZoneInfo

import profiles
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, NullPool, create_engine, text

from exporter import __version__
from exporter.charges import Window
from exporter.errors import ConfigurationError, LedgerError
from exporter.forecasting.state import Outlook
from exporter.metrics.encoding import deflated
from exporter.overview import Overview
from exporter.publication import Exposition, Piece, Publication, rendering
from exporter.replicas import board as board_module
from exporter.replicas.board import Board, OvertakenError, UnreadablePublicationError

AT = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)

ZONES = (UTC, ZoneInfo("UTC"), ZoneInfo("Europe/Berlin"), ZoneInfo("Australia/Lord_Howe"))


def mappings(kind: type[Mapping[object, object]]) -> st.SearchStrategy[dict[object, object]]:
    """Return dictionaries for a mapping of these keys and values: others are not published."""
    return st.dictionaries(*map(st.from_type, get_args(kind)), max_size=3)


INSTANTS = st.timedeltas(timedelta(days=-9000), timedelta(days=9000)).map(AT.__add__)
st.register_type_strategy(Mapping, mappings)
st.register_type_strategy(datetime, st.builds(datetime.astimezone, INSTANTS, st.sampled_from(ZONES)))
st.register_type_strategy(float, st.floats(allow_nan=False))
st.register_type_strategy(
    Window,
    st.builds(
        lambda start, hours: Window(AT + timedelta(hours=start), AT + timedelta(hours=start + hours)),
        st.integers(-9000, 9000),
        st.integers(1, 9000),
    ),
)


@pytest.fixture(scope="module")
def database(empty_postgresql: Callable[[], str]) -> Iterator[Engine]:
    engine = create_engine(empty_postgresql(), poolclass=NullPool)
    with closing(Board(address(engine), replica="first")) as board:
        board.members()
    yield engine
    engine.dispose()


def address(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


def execute(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement))


EMPTY = (
    "DELETE FROM replica_publication; DELETE FROM replica_piece; DELETE FROM replica_epoch; DELETE FROM replica_member"
)


@pytest.fixture(autouse=True)
def emptied(database: Engine) -> None:
    execute(database, EMPTY)


class Leader:
    """Publishes on a board, as one that has just taken the lease: with a token, and numbers of pieces, of its own."""

    def __init__(self, address: str, token: str, sequence: int) -> None:
        self.board = Board(address, replica=f"replica-{token}")
        self.token = token
        self._sequences = count(sequence)
        self._numbers = count()
        self._pieces: list[Piece] = []

    def change(self, *, removed: int = 0, added: int = 1) -> Publication:
        """Return the next publication, with some pieces replaced by others."""
        del self._pieces[:removed]
        for _ in range(added):
            number = next(self._numbers)
            plain = f"fal_spend_usd_total{{leader={self.token!r}}} {number}\n".encode()
            self._pieces.append(Piece(number, plain, deflated(plain)))
        half = len(self._pieces) // 2
        shown = Exposition(rendering(self._pieces), rendering(self._pieces[half:]), rendering(self._pieces[:half]))
        return Publication(next(self._sequences), AT, shown, Overview(__version__, series=added), ready=True)

    def publish(self, **change: int) -> Publication:
        publication = self.change(**change)
        self.board.publish(publication, leader=self.token)
        return publication


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["publish", "read", "lead", "publish", "read", "empty", "reconnect", "restore"]),
        st.integers(0, 2),
        st.integers(0, 3),
    ),
    max_size=20,
)


@given(steps=STEPS)
@example(steps=[("publish", 0, 3), ("read", 0, 0), ("empty", 0, 0), ("restore", 0, 0), ("read", 1, 0)])
@example(
    steps=[
        *(("publish", 0, 3), ("read", 0, 0), ("publish", 1, 2), ("read", 1, 0)),
        *(("reconnect", 0, 0), ("restore", 0, 0), ("read", 2, 0)),
    ]
)
@settings(max_examples=profiles.examples(10, long=500))
def test_whoever_reads_at_any_time_has_what_was_published(database: Engine, steps: list[tuple[str, int, int]]) -> None:
    execute(database, EMPTY)
    boards = [Board(address(database), replica=f"follower-{number}") for number in range(3)]
    held: list[Publication | None] = [None] * len(boards)
    leaders = [Leader(address(database), "0", 0)]
    newest = on_board = None
    for step, first, second in [*steps, ("publish", 1, 1), *(("read", number, 0) for number in range(len(boards)))]:
        if step == "publish":
            newest = on_board = leaders[-1].publish(removed=first, added=second)
        elif step == "lead":
            leaders.append(Leader(address(database), str(len(leaders)), len(leaders) << 20))
        elif step == "reconnect":
            for board in (*boards, leaders[-1].board):
                board.close()
        elif step == "restore":
            # Whatever is on the board, nothing older takes its place.
            of_replica = held[first]
            if of_replica is not None and boards[first].restore(of_replica):
                on_board = max(filter(None, (of_replica, on_board)), key=lambda publication: publication.sequence)
        elif step == "read":
            read, of_replica = boards[first].read(held[first]), held[first]
            is_newer = on_board is not None and (of_replica is None or on_board.sequence > of_replica.sequence)
            assert read == (on_board if is_newer else None)
            held[first] = read or held[first]
        else:
            execute(database, EMPTY)
            on_board = None
    assert held == [newest] * len(boards)
    for board in (*boards, *(leader.board for leader in leaders)):
        board.close()


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@given(at=st.from_type(datetime), overview=st.from_type(Overview), outlook=st.from_type(Outlook), ready=st.booleans())
@settings(max_examples=profiles.examples(8, long=300))
def test_all_that_a_publication_says_arrives(
    database: Engine, at: datetime, overview: Overview, outlook: Outlook, *, ready: bool
) -> None:
    execute(database, EMPTY)
    publication = Publication(7, at, Exposition(), overview, ready, outlook)
    with (
        closing(Board(address(database), replica="one")) as one,
        closing(Board(address(database), replica="two")) as two,
    ):
        one.publish(publication, leader="token")
        read = two.read(None)
    assert read == publication
    # Equal instants may be of different zones.
    assert repr(read) == repr(publication)


def test_of_a_thousand_pieces_one_that_changes_is_written_alone(database: Engine) -> None:
    with closing(Board(address(database), replica="follower")) as follower:
        leader = Leader(address(database), "token", 1)
        leader.publish(added=1000)
        first = follower.read(None)
        second = leader.publish(removed=1, added=1)
        assert pieces_written(database) == (1, 1000)
        assert first is not None
        read = follower.read(first)
        assert read == second
        # What is the same is not fetched again either.
        kept = {number: id(piece) for number, piece in first.exposition.pieces().items()}
        assert sum(kept.get(number) == id(piece) for number, piece in read.exposition.pieces().items()) == 999
        leader.board.close()


def pieces_written(database: Engine) -> tuple[int, int]:
    """Return how many pieces the last publication's transaction wrote, and how many there are."""
    question = (
        "SELECT count(*) FILTER (WHERE xmin = (SELECT xmin FROM replica_publication)), count(*) FROM replica_piece"
    )
    with database.connect() as connection:
        written, all_of_them = connection.execute(text(question)).one()
    return written, all_of_them


def test_pieces_that_were_lost_are_written_anew(database: Engine) -> None:
    leader = Leader(address(database), "token", 1)
    with closing(leader.board), closing(Board(address(database), replica="follower")) as follower:
        leader.publish(added=3)
        execute(database, "DELETE FROM replica_piece WHERE number = 1")
        with pytest.raises(LedgerError, match="without some of its pieces"):
            follower.read(None)
        newest = leader.publish()
        assert follower.read(None) == newest


def test_what_a_board_has_lost_is_restored_by_whoever_has_shown_the_newest(database: Engine) -> None:
    leader = Leader(address(database), "token", 1)
    with (
        closing(leader.board),
        closing(Board(address(database), replica="behind")) as behind,
        closing(Board(address(database), replica="ahead")) as ahead,
    ):
        older = leader.publish(added=3)
        assert behind.read(None) == older
        newest = leader.publish(removed=1, added=2)
        assert ahead.read(None) == newest
        assert behind.restore(older)
        assert ahead.restore(newest)
        execute(database, EMPTY)
        assert not ahead.restore(newest), "it has looked on this connection, and its server has not been away"
        for board in (ahead, behind):
            board.close()
        assert behind.restore(older)
        assert ahead.read(None) == older
        assert ahead.restore(newest)
        assert behind.read(older) == newest
        behind.close()
        assert behind.restore(older)
        assert ahead.read(None) == newest, "nothing older takes its place"
        with closing(Board(address(database), replica="new")) as board:
            assert board.read(None) == newest
        last = leader.publish(added=1)
        assert ahead.read(newest) == last, "the leader goes on, if there still is one"


def test_what_a_board_has_lost_behind_a_pooler_is_restored_on_the_same_connection(
    pooled_address: str,
) -> None:
    leader = Leader(pooled_address, "token", 1)
    with closing(leader.board), closing(Board(pooled_address, replica="follower")) as follower:
        newest = leader.publish(added=3)
        assert follower.read(None) == newest
        assert follower.restore(newest)
        assert not follower.restore(newest)
        execute(create_engine(pooled_address, poolclass=NullPool), EMPTY)
        assert follower.restore(newest), "sessions of a pooler outlive those of the server"
        assert leader.board.read(None) == newest


def test_a_replica_behind_a_pooler_is_told_of_a_loss_that_another_has_mended(pooled_address: str) -> None:
    leader = Leader(pooled_address, "token", 1)
    with (
        closing(leader.board),
        closing(Board(pooled_address, replica="first")) as first,
        closing(Board(pooled_address, replica="second")) as second,
    ):
        newest = leader.publish(added=3)
        for board in (first, second):
            assert board.read(None) == newest
            assert board.restore(newest)
        execute(create_engine(pooled_address, poolclass=NullPool), EMPTY)
        assert first.restore(newest)
        assert second.restore(newest), "a third may have shown what is newer, and is to be waited for"
        assert not any(board.restore(newest) for board in (first, second))


def test_a_replica_that_has_been_overtaken_publishes_nothing(database: Engine) -> None:
    old, new = Leader(address(database), "old", 1), Leader(address(database), "new", 1 << 20)
    with closing(old.board), closing(new.board), closing(Board(address(database), replica="follower")) as follower:
        old.publish(added=2)
        newest = new.publish(added=2)
        with pytest.raises(OvertakenError, match="newer publication, made by replica replica-new"):
            old.publish()
        assert follower.read(None) == newest
        with pytest.raises(OvertakenError):
            Leader(address(database), "third", 1 << 20).publish()


def test_a_former_leader_follows_with_what_it_holds(database: Engine) -> None:
    old, new = Leader(address(database), "old", 1), Leader(address(database), "new", 1 << 20)
    with closing(old.board), closing(new.board):
        held = old.publish(added=3)
        assert old.board.read(held) is None
        assert old.board.read(held) is None
        newest = new.publish(added=3)
        assert old.board.read(held) == newest


def test_a_publication_of_another_version_is_refused(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    leader = Leader(address(database), "token", 1)
    with closing(leader.board), closing(Board(address(database), replica="follower")) as follower:
        with monkeypatch.context() as patch:
            patch.setattr(board_module, "body_format", lambda: "another")
            patch.setattr(board_module, "__version__", "9.9.9")
            leader.publish()
        with pytest.raises(UnreadablePublicationError, match=r"runs fal-exporter 9\.9\.9") as caught:
            follower.read(None)
        assert caught.value.version == "9.9.9"
        newest = leader.publish()
        assert follower.read(None) == newest


@pytest.mark.parametrize(
    "body",
    [
        b"",
        pickle.dumps({}),
        *map(zlib.compress, (b"{", b"{}", b"[]", b'{"at": {"$at": "x", "zone": "Z"}}', pickle.dumps({}))),
    ],
)
def test_a_damaged_publication_is_an_error_in_words(database: Engine, body: bytes) -> None:
    leader = Leader(address(database), "token", 1)
    with closing(leader.board), closing(Board(address(database), replica="follower")) as follower:
        leader.publish()
        with database.begin() as connection:
            connection.execute(text("UPDATE replica_publication SET body = :body"), {"body": body})
        with pytest.raises(LedgerError, match="is damaged"):
            follower.read(None)
        newest = leader.publish()
        assert follower.read(None) == newest


def test_an_announcement_ends_the_wait(database: Engine) -> None:
    leader = Leader(address(database), "token", 1)
    with closing(leader.board), closing(Board(address(database), replica="follower")) as follower:
        assert follower.wait(0.01), "what came before it listened is to be read"
        assert not follower.wait(0.01)
        heard: list[bool] = []
        waiting = threading.Thread(target=lambda: heard.append(follower.wait(60)))
        waiting.start()
        leader.publish()
        waiting.join(30)
        assert heard == [True]
        assert not follower.wait(0.01)


def test_a_pooled_connection_waits_without_announcements(pooled_address: str) -> None:
    leader = Leader(pooled_address, "token", 1)
    with closing(leader.board), closing(Board(pooled_address, replica="follower")) as follower:
        for _ in range(7):  # the driver would prepare a statement that comes so often
            newest = leader.publish()
            assert not follower.wait(0.01)
            follower.report(newest.sequence)
        assert follower.read(None) == newest
        assert follower.scraped_by_all() == newest.sequence


def test_a_lost_session_is_an_error_once(database: Engine) -> None:
    leader = Leader(address(database), "token", 1)
    with closing(leader.board), closing(Board(address(database), replica="follower")) as follower:
        leader.publish(added=2)
        first = follower.read(None)
        assert follower.wait(0)
        end_sessions(database)
        assert not follower.wait(0.01)
        with pytest.raises(LedgerError, match="has been shut down"):
            leader.publish()
        second = leader.publish()
        assert follower.read(first) == second
        # Whoever waits on the new connection listens anew.
        assert follower.wait(0)


def end_sessions(database: Engine) -> None:
    execute(database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid != pg_backend_pid()")


def test_tables_that_are_gone_are_made_again(database: Engine) -> None:
    leader = Leader(address(database), "token", 1)
    with closing(leader.board), closing(Board(address(database), replica="follower")) as follower:
        leader.publish()
        follower.report(None)
        execute(database, "DROP TABLE replica_publication, replica_piece, replica_member")
        for board in (leader.board, follower):
            with pytest.raises(LedgerError):
                board.report(1)
        newest = leader.publish()
        assert follower.read(None) == newest


def test_a_server_that_is_away_is_an_error_and_no_announcement(database: Engine) -> None:
    away = database.url.set(port=1).render_as_string(hide_password=False)
    with closing(Board(away, replica="one")) as board:
        assert not board.wait(0.01)
        with pytest.raises(LedgerError, match="connection"):
            board.read(None)


def test_no_replica_is_passed_by_what_is_taken_for_scraped(database: Engine) -> None:
    with closing(Board(address(database), replica="a")) as first, closing(Board(address(database), replica="b")) as two:
        first.report(None)
        assert first.scraped_by_all() is None
        first.report(7)
        two.report(5)
        assert first.scraped_by_all() == 5
        two.report(None)  # started again: what it was scraped with before still counts
        assert first.scraped_by_all() == 5
        two.report(9)
        assert first.scraped_by_all() == 7
        for gone in (
            "UPDATE replica_member SET seen_at = now() - interval '16 seconds' WHERE replica = 'a'",
            "UPDATE replica_member SET scraped_at = now() - interval '301 seconds' WHERE replica = 'a'",
        ):
            execute(database, gone)
            assert two.scraped_by_all() == 9
            first.report(7)
        # Scraped no more, it is alive, and the same number does not make it scraped again.
        assert two.scraped_by_all() == 9
        first.report(8)
        assert two.scraped_by_all() == 8


def test_members_are_those_of_the_last_hour(database: Engine) -> None:
    leader = Leader(address(database), "token", 1)
    with closing(leader.board), closing(Board(address(database), replica="follower")) as follower:
        leader.board.report(None)
        follower.report(None)
        assert [(member.replica, member.leads) for member in follower.members()] == [
            ("follower", False),
            ("replica-token", False),
        ]
        leader.publish()
        assert [member.leads for member in follower.members()] == [False, True]
        assert all(member.seen_at.tzinfo is not None for member in follower.members())
        execute(
            database, "UPDATE replica_member SET seen_at = now() - interval '16 seconds' WHERE replica != 'follower'"
        )
        assert [member.is_alive for member in follower.members()] == [True, False]
        execute(
            database, "UPDATE replica_member SET seen_at = now() - interval '61 minutes' WHERE replica != 'follower'"
        )
        follower.report(None)
        assert [member.replica for member in follower.members()] == ["follower"]


def test_two_may_make_the_tables_at_once(database: Engine) -> None:
    execute(database, "DROP TABLE replica_publication, replica_piece, replica_member")
    boards = [Board(address(database), replica=str(number)) for number in range(4)]
    failed: list[LedgerError] = []

    def report(board: Board) -> None:
        try:
            board.report(None)
        except LedgerError as error:
            failed.append(error)

    threads = [threading.Thread(target=report, args=(board,)) for board in boards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failed == []
    assert len(boards[0].members()) == len(boards)
    for board in boards:
        board.close()


def test_a_ledger_in_a_file_has_no_board() -> None:
    with pytest.raises(ConfigurationError, match="needs a ledger on PostgreSQL"):
        Board("sqlite:///ledger.sqlite", replica="one")
