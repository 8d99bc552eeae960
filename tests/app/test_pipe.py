import pickle
from collections.abc import Iterator
from multiprocessing import Pipe
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from app.conftest import MakeSettings, Publications
from pydantic import SecretStr

from exporter.publication import Begin, GaveUp, Publication, Receiving, Sending
from exporter.simulator import ADMIN_KEY

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

End: TypeAlias = "Connection[Any, Any]"


@pytest.fixture
def ends() -> Iterator[tuple[End, End]]:
    ours, theirs = Pipe()
    yield ours, theirs
    ours.close()
    theirs.close()


def text(publication: Publication) -> bytes:
    return b"".join(piece.plain for piece in publication.exposition.text.pieces)


def test_publications_arrive_as_they_were_sent(ends: tuple[End, End], publication: Publications) -> None:
    web, collector = ends
    send, receive = Sending(collector), Receiving(web)
    sent = [publication() for _ in range(3)]

    def send_all() -> None:
        for each in sent:
            send(each)

    sending = Thread(target=send_all)
    sending.start()
    for each in sent:
        received = receive()
        assert isinstance(received, Publication)
        assert text(received) == text(each)
        assert (received.sequence, received.at, received.overview) == (each.sequence, each.at, each.overview)
        assert received.ready
    sending.join(10)


def test_what_the_other_side_has_is_not_sent_again(publication: Publications) -> None:
    first, second = publication(), publication()
    whole, change = (len(pickle.dumps(parcel)) for parcel in (first.pack(None), second.pack(first.exposition)))
    assert change < whole / 2


def test_a_parcel_for_another_state_is_refused(publication: Publications) -> None:
    first, second = publication(), publication()
    with pytest.raises(ValueError, match=r"."):
        second.pack(first.exposition).unpack(None)


def test_that_the_collector_gave_up_comes_with_its_sentence(ends: tuple[End, End]) -> None:
    web, collector = ends
    collector.send(GaveUp("the disk is full", 1))
    assert Receiving(web)() == GaveUp("the disk is full", 1)


def test_a_collector_that_is_gone_is_the_end_of_the_file(ends: tuple[End, End]) -> None:
    web, collector = ends
    collector.close()
    with pytest.raises(EOFError):
        Receiving(web)()


def test_the_settings_arrive_with_their_keys_and_show_none(settings: MakeSettings) -> None:
    arrived = pickle.loads(pickle.dumps(Begin(settings())))  # noqa: S301  what we have just written
    (account,) = arrived.settings.accounts
    assert account.key() == SecretStr(ADMIN_KEY)
    assert ADMIN_KEY not in repr(arrived)
