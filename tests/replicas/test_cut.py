"""A replica in a network of its own, whose only cable is pulled: nobody tells either side that the other is gone."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing

import programs
import pytest
from e2e.relay import relay
from sqlalchemy import make_url

from exporter.replicas.board import Board

pytestmark = pytest.mark.long

HERE, THERE, BEYOND = "10.213.77.1", "10.213.77.2", "fal-exporter-cut"

REPLICA = """
import sys, time
from exporter.errors import LedgerError
from exporter.replicas.board import Board

board = Board(sys.argv[1], replica="beyond")
board.report(1)
assert board.wait(0)
print("connected", flush=True)
for line in sys.stdin:
    began = time.monotonic()
    try:
        board.wait(0.1)
        board.report(2)
        answer = "reported"
    except LedgerError:
        answer = "failed"
    print(answer, time.monotonic() - began, flush=True)
"""


@pytest.fixture
def cable() -> Iterator[Callable[[str], None]]:
    """A network namespace beyond a cable; yields what sets the cable up or down."""
    ip = programs.required("ip", "iproute2")
    if os.geteuid() != 0:
        pytest.skip(f"a network of its own needs root: sudo {sys.executable} -m pytest")

    def run(*arguments: str) -> None:
        subprocess.run([ip, *arguments], check=True, capture_output=True)

    try:
        run("netns", "add", BEYOND)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"a network of its own needs CAP_NET_ADMIN and CAP_SYS_ADMIN: {error.stderr.decode().strip()}")
    try:
        run("link", "add", "falcut0", "type", "veth", "peer", "name", "falcut1", "netns", BEYOND)
        run("address", "add", f"{HERE}/30", "dev", "falcut0")
        run("link", "set", "falcut0", "up")
        run("-n", BEYOND, "address", "add", f"{THERE}/30", "dev", "falcut1")
        run("-n", BEYOND, "link", "set", "falcut1", "up")
        yield lambda state: run("link", "set", "falcut0", state)
    finally:
        run("netns", "delete", BEYOND)


def test_a_replica_notices_within_seconds_that_its_network_is_gone_and_that_it_is_back(
    cable: Callable[[str], None], postgresql_address: str
) -> None:
    server = make_url(postgresql_address)
    assert server.host
    assert server.port
    with relay(server.host, server.port, listens_on=HERE) as way:
        address = server.set(host=HERE, port=way.port).render_as_string(hide_password=False)
        command = [programs.required("ip", "iproute2"), "netns", "exec", BEYOND, sys.executable, "-c", REPLICA, address]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as replica:
            assert replica.stdin is not None
            assert replica.stdout is not None
            assert replica.stdout.readline() == "connected\n"

            def report() -> tuple[str, float]:
                assert replica.stdin is not None
                assert replica.stdout is not None
                print(file=replica.stdin, flush=True)
                answer, seconds = replica.stdout.readline().split()
                return answer, float(seconds)

            assert report()[0] == "reported"
            cable("down")
            answer, seconds = report()
            assert answer == "failed"
            assert seconds < 20
            cable("up")
            for _ in range(10):
                answer, _ = report()
                if answer == "reported":
                    break
            assert answer == "reported"
            replica.stdin.close()
    with closing(Board(postgresql_address, replica="here")) as board:
        assert [member.replica for member in board.members() if member.is_alive] == ["beyond"]
