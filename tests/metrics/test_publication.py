import pickle
from datetime import UTC, datetime

from exporter.metrics.encoding import deflated
from exporter.overview import AccountOverview, Overview, SourceOverview
from exporter.publication import Exposition, Piece, Publication, rendering

AT = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)
PIECE = Piece(1, b"a 1\n", deflated(b"a 1\n"))
OVERVIEW = Overview("0.1.0", (AccountOverview("a", (SourceOverview("models", "set", "up", AT),), balance=5),))


def test_a_publication_survives_its_way_through_a_pipe() -> None:
    first = Publication(1, AT, Exposition(rendering([PIECE]), rendering([PIECE])), OVERVIEW, ready=False)
    second = Publication(2, AT, Exposition(rendering([PIECE]), rendering([])), OVERVIEW, ready=True)
    there = pickle.loads(pickle.dumps(first.pack(None))).unpack(None)  # noqa: S301  our own bytes
    assert there == first
    parcel = pickle.loads(pickle.dumps(second.pack(first.exposition)))  # noqa: S301  our own bytes
    assert parcel.delta.new == ()
    assert parcel.unpack(there.exposition) == second


def test_pieces_of_another_encoder_are_sent_though_their_numbers_are_known() -> None:
    other = Piece(1, b"a 2\n", deflated(b"a 2\n"))
    first = Publication(1, AT, Exposition(rendering([PIECE])), OVERVIEW, ready=True)
    second = Publication(2, AT, Exposition(rendering([other])), OVERVIEW, ready=True, role="follower")
    parcel = second.pack(first.exposition)
    assert parcel.delta.new == (other,)
    assert parcel.unpack(first.exposition) == second
