import pickle
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.metrics.encoding import deflated
from exporter.publication import Exposition, Piece, rendering

PIECES = {number: Piece(number, b"%d\n" % number, deflated(b"%d\n" % number)) for number in range(12)}
NUMBERS = st.lists(st.sampled_from(sorted(PIECES)), unique=True)
EXPOSITIONS = st.builds(
    lambda text, openmetrics: Exposition(
        rendering(PIECES[number] for number in text), rendering(PIECES[number] for number in openmetrics)
    ),
    NUMBERS,
    NUMBERS,
)


def test_a_rendering_knows_the_checksum_and_length_of_all_its_bytes() -> None:
    whole = rendering([PIECES[10], PIECES[3]])
    assert whole.length == len(b"10\n3\n")
    assert whole.checksum == zlib.crc32(b"10\n3\n")


@given(st.lists(EXPOSITIONS, min_size=1, max_size=5))
def test_deltas_sent_one_after_another_give_the_sent_expositions(sent: list[Exposition]) -> None:
    at_sender = at_receiver = None
    for exposition in sent:
        delta = pickle.loads(pickle.dumps(exposition.delta_from(at_sender)))  # noqa: S301  our own bytes
        at_sender, at_receiver = exposition, delta.apply(at_receiver)
        assert at_receiver == exposition


def test_a_delta_carries_only_what_is_new() -> None:
    old = Exposition(rendering([PIECES[1], PIECES[2]]), rendering([PIECES[1]]))
    new = Exposition(rendering([PIECES[1], PIECES[5]]), rendering([PIECES[5], PIECES[2]]))
    assert new.delta_from(old).new == (PIECES[5],)
    assert {piece.number for piece in new.delta_from(None).new} == {1, 2, 5}


def test_a_piece_is_kept_as_the_same_object_not_copied() -> None:
    old = Exposition(rendering([PIECES[1]]), rendering([]))
    assert old.delta_from(old).apply(old).text.pieces[0] is PIECES[1]


def test_a_delta_for_another_exposition_is_refused() -> None:
    old = Exposition(rendering([PIECES[1]]), rendering([]))
    with pytest.raises(ValueError, match="piece 1 is in neither"):
        old.delta_from(old).apply(None)
