import asyncio
import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from e2e.processes import PATIENCE

from exporter.errors import ConfigurationError
from exporter.publication import Publication
from exporter.web.application import Application
from exporter.web.server import listen, serve_web

Publish = Callable[..., Publication]

FIRST_FREE = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


async def get(port: int, host: str = "127.0.0.1") -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def test_an_address_in_use_is_one_sentence_that_names_the_setting() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigurationError) as caught:
            listen("127.0.0.1", port)
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use): set FAL_EXPORTER_LISTEN" in str(caught.value)


def bound_to_few_ports() -> None:
    """Give up the capability to listen on the first ports, which a superuser has."""
    pr_capbset_drop, cap_net_bind_service = 24, 10
    ctypes.CDLL(None).prctl(pr_capbset_drop, cap_net_bind_service, 0, 0, 0)


@pytest.mark.skipif(not FIRST_FREE.exists() or int(FIRST_FREE.read_text()) < 81, reason="port 80 is open to everybody")
@pytest.mark.parametrize(
    ("command", "setting"), [(("simulate", "--listen"), "--listen"), (("serve", "--listen"), "FAL_EXPORTER_LISTEN")]
)
def test_a_port_for_privileged_processes_is_said_to_be_one(
    command: tuple[str, ...], setting: str, tmp_path: Path
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "exporter", *command, "127.0.0.1:80"],
        env=os.environ | {"FAL_KEY": "id:secret", "FAL_EXPORTER_LEDGER_URL": f"sqlite:///{tmp_path / 'ledger.sqlite'}"},
        preexec_fn=bound_to_few_ports,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert "127.0.0.1:80" in ended.stderr
    assert "(Permission denied)" in ended.stderr
    assert (
        f"ports below 1024 are for privileged processes; set {setting} to a higher port, or allow it by the capability "
        "CAP_NET_BIND_SERVICE"
    ) in ended.stderr
    assert "unexpected" not in ended.stderr


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match=f"cannot listen on {host}:8080 "):
        listen(host, 8080)


async def test_all_interfaces_of_ipv6_are_those_of_ipv4_too() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6: sysctl net.ipv6.conf.lo.disable_ipv6=0")
    stop, listener = asyncio.Event(), listen("::", 0)
    serving = asyncio.create_task(serve_web(Application(), listener, stop))
    assert (await get(listener.getsockname()[1])).startswith(b"HTTP/1.1 200 OK")
    stop.set()
    await serving


async def test_signals_stay_with_the_application_and_the_socket_is_closed_at_the_end() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    stop, listener = asyncio.Event(), listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    serving = asyncio.create_task(serve_web(Application(), listener, stop))
    await get(port)
    assert {number: signal.getsignal(number) for number in before} == before
    stop.set()
    await serving
    with pytest.raises(ConnectionRefusedError):
        await get(port)


async def test_the_end_does_not_wait_for_idle_connections() -> None:
    stop, listener = asyncio.Event(), listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    serving = asyncio.create_task(serve_web(Application(), listener, stop, grace=3600))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    await reader.readuntil(b"healthy\n")
    stop.set()
    await asyncio.wait_for(serving, PATIENCE)
    writer.close()


async def test_a_client_that_never_reads_holds_up_neither_others_nor_the_end(publication: Publish) -> None:
    application = Application()
    application.publish(publication(series=200_000))
    stop, listener = asyncio.Event(), listen("127.0.0.1", 0)
    serving = asyncio.create_task(serve_web(application, listener, stop))
    port = listener.getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
    await reader.readline()
    async with asyncio.timeout(PATIENCE):
        assert (await get(port)).endswith(b"healthy\n")
        stop.set()
        await serving
    writer.close()


def test_small_answers_are_sent_at_once_on_every_event_loop() -> None:
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP, "asyncio turns Nagle's algorithm off for sockets that say so only"
