"""The web configuration as clients meet it: TLS, users, headers, the rate limit, and rotation."""

import asyncio
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from errno import EMFILE
from pathlib import Path

import bcrypt
import httpx
import pytest
import trustme
from starlette.types import Scope
from structlog.testing import capture_logs
from web.conftest import Publish, served_on

from exporter.cli import main
from exporter.settings.credentials import TokenFile, new_token, token_line
from exporter.settings.web_config import WebConfig, read_web_config
from exporter.web import admission
from exporter.web.admission import Admission, Bucket, Users, WebConfigFile
from exporter.web.application import Application
from exporter.web.connections import Connections, Limits
from exporter.web.mcp.endpoint import PATH, endpoint

PASSWORD = "a scrape a minute"  # noqa: S105  of a test
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
TLS = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n"
USERS = f"basic_auth_users:\n  prometheus: {HASH}\n"
BASIC = httpx.BasicAuth("prometheus", PASSWORD)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture
def folder(tmp_path: Path, authority: trustme.CA) -> Path:
    """A folder with the certificate of a server, and of those who sign for clients."""
    issue(authority, tmp_path)
    authority.cert_pem.write_to_path(tmp_path / "clients.pem")
    return tmp_path


def issue(authority: trustme.CA, folder: Path) -> None:
    """Put a new certificate in the place of the one before, each file whole at once."""
    made = authority.issue_cert("127.0.0.1", "localhost", key_type=trustme.KeyType.ECDSA)
    made.private_key_pem.write_to_path(folder / "new.key")
    made.cert_chain_pems[0].write_to_path(folder / "new.pem")
    (folder / "new.key").replace(folder / "server.key")
    (folder / "new.pem").replace(folder / "server.pem")


def config(folder: Path, text: str) -> WebConfigFile:
    rewrite(folder, text)
    return WebConfigFile(folder / "web.yaml")


def rewrite(folder: Path, text: str) -> None:
    (folder / "web.new").write_text(text)
    # Two writes can fall into one tick of the file system's clock.
    os.utime(folder / "web.new", ns=(time.time_ns(), time.monotonic_ns()))
    (folder / "web.new").replace(folder / "web.yaml")


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context


@asynccontextmanager
async def client_of(
    file: WebConfigFile, app: Application | None = None, trust: ssl.SSLContext | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """Serve an application with a web configuration, and return a client that connects anew for each request."""
    application = app or Application(web_config=file, access_files={"web_config_file": file})
    async with served_on(application, file) as port:
        scheme = "https" if file.has_tls else "http"
        context = trust or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(
            verify=context, base_url=f"{scheme}://127.0.0.1:{port}", trust_env=False, limits=limits
        ) as client:
            yield client


async def test_everything_is_served_by_tls(folder: Path, authority: trustme.CA) -> None:
    async with client_of(config(folder, TLS), trust=trusting(authority)) as client:
        assert (
            'fal_exporter_access_file_last_reload_successful{setting="web_config_file"} 1.0'
            in (await client.get("/metrics")).text
        )
        assert (await client.get("/healthz")).status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(f"http://127.0.0.1:{client.base_url.port}/metrics")


HALF_A_HANDSHAKE = b"\x16\x03\x01\x02\x00\x01\x00"


@pytest.mark.parametrize("sent", [HALF_A_HANDSHAKE, b"GET / HTTP/1.1\r\n\r\n"], ids=["half", "no TLS"])
async def test_connections_that_are_never_encrypted_make_room_and_are_ended(
    folder: Path, authority: trustme.CA, sent: bytes
) -> None:
    connections = Connections(Limits(most=20, most_of_address=20))
    async with asyncio.timeout(30), AsyncExitStack() as stack:
        async with (
            served_on(Application(), config(folder, TLS), connections, grace=60) as port,
            httpx.AsyncClient(
                verify=trusting(authority),
                base_url=f"https://127.0.0.1:{port}",
                trust_env=False,
                limits=httpx.Limits(max_keepalive_connections=0),
            ) as client,
        ):
            for _ in range(30):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                stack.callback(writer.close)
                writer.write(sent)
                assert (await client.get("/healthz")).status_code == 200
                assert len(connections) <= 20
            if sent != HALF_A_HANDSHAKE:
                async with asyncio.timeout(10):
                    while len(connections):  # noqa: ASYNC110  what is waited for has no event
                        await asyncio.sleep(0.005)
        # The server has ended those that still waited, without any grace.
        assert len(connections) == 0


async def test_a_connection_that_is_not_encrypted_in_time_is_ended(folder: Path) -> None:
    now = 1000.0
    connections = Connections(clock=lambda: now)
    async with served_on(Application(), config(folder, TLS), connections) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HALF_A_HANDSHAKE)
        async with asyncio.timeout(10):
            while not len(connections):  # noqa: ASYNC110  what is waited for has no event
                await asyncio.sleep(0.005)
            now += 11
            connections.end_late()
            assert len(connections) == 0
            with suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()


async def test_connections_that_cannot_be_taken_for_a_while_are_reported_and_taken_after_it(
    folder: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    take, failures = loop.sock_accept, iter([EMFILE, EMFILE])

    async def failing(listener: socket.socket) -> tuple[socket.socket, object]:
        for code in failures:
            raise OSError(code, os.strerror(code))
        return await take(listener)

    monkeypatch.setattr(loop, "sock_accept", failing)
    monkeypatch.setattr("exporter.web.server._PAUSE", 0.0)
    monkeypatch.setattr("exporter.web.server._SELDOM._told", {})
    async with client_of(config(folder, TLS), trust=trusting(authority)) as client:
        assert (await client.get("/healthz")).status_code == 200
    told = [record.getMessage() for record in caplog.records if record.name == "uvicorn.error"]
    assert told.count("No connection can be taken: Too many open files.") == 1


async def test_a_version_below_the_least_is_refused(folder: Path, authority: trustme.CA) -> None:
    context = trusting(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with client_of(config(folder, f"{TLS}  min_version: TLS13\n"), trust=context) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("/metrics")
    async with client_of(config(folder, TLS), trust=context) as client:
        assert (await client.get("/metrics")).status_code == 200


MUTUAL = f"{TLS}  client_ca_file: clients.pem\n  client_auth_type: RequireAndVerifyClientCert\n"


def with_certificate(authority: trustme.CA, issuer: trustme.CA, name: str) -> ssl.SSLContext:
    context = trusting(authority)
    issuer.issue_cert(name, key_type=trustme.KeyType.ECDSA).configure_cert(context)
    return context


async def test_a_client_needs_a_certificate_of_the_authority_with_an_allowed_name(
    folder: Path, authority: trustme.CA
) -> None:
    file = config(folder, f"{MUTUAL}  client_allowed_sans: [prometheus.example.com]\n")
    stranger = trustme.CA(key_type=trustme.KeyType.ECDSA)
    ours = with_certificate(authority, authority, "prometheus.example.com")
    async with client_of(file, trust=ours) as client:
        assert (await client.get("/metrics")).status_code == 200
    for refused in (
        trusting(authority),
        with_certificate(authority, stranger, "prometheus.example.com"),
        with_certificate(authority, authority, "grafana.example.com"),
    ):
        async with client_of(file, trust=refused) as client:
            with pytest.raises(httpx.TransportError):
                await client.get("/metrics")


async def test_a_certificate_may_be_left_out_where_it_is_verified_if_given(folder: Path, authority: trustme.CA) -> None:
    file = config(folder, MUTUAL.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"))
    async with client_of(file, trust=trusting(authority)) as client:
        assert (await client.get("/metrics")).status_code == 200


async def test_certificates_rotate_under_scrapes_and_connections_that_are_open_stay(
    folder: Path, authority: trustme.CA
) -> None:
    file = config(folder, TLS)
    serials: set[int] = set()

    async def scrape(client: httpx.AsyncClient, times: int) -> None:
        for _ in range(times):
            async with client.stream("GET", "/metrics") as answer:
                assert answer.status_code == 200
                await answer.aread()
                found = answer.extensions["network_stream"].get_extra_info("ssl_object").getpeercert()
                serials.add(int(found["serialNumber"], 16))

    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(client_of(file, trust=trusting(authority)))
        open_before = await stack.enter_async_context(
            httpx.AsyncClient(verify=trusting(authority), base_url=client.base_url, trust_env=False)
        )
        await scrape(open_before, 1)
        (first,) = serials
        for _ in range(5):
            issue(authority, folder)
            await asyncio.gather(*(scrape(client, 3) for _ in range(4)))
        assert len(serials) == 6
        serials.clear()
        await scrape(open_before, 3)
        assert serials == {first}


async def test_a_broken_certificate_leaves_the_last_good_one_in_place_and_is_told(
    folder: Path, authority: trustme.CA
) -> None:
    file = config(folder, TLS)
    app = Application(web_config=file, access_files={"web_config_file": file}, tail_interval=0.01)
    async with client_of(file, app, trusting(authority)) as client:
        good = (folder / "server.pem").read_bytes()
        with capture_logs() as logs:
            (folder / "server.pem").write_text("no certificate\n")
            async with asyncio.timeout(10):
                while 'setting="web_config_file"} 0.0' not in (await client.get("/metrics")).text:
                    pass
        assert "the last good certificates stay in use" in logs[0]["problem"]
        assert len(logs) == 1, "told once"
        (folder / "server.pem").write_bytes(good)
        async with asyncio.timeout(10):
            while 'setting="web_config_file"} 1.0' not in (await client.get("/metrics")).text:
                pass


async def test_users_are_asked_for_a_password_and_probes_are_not(folder: Path) -> None:
    async with client_of(config(folder, USERS)) as client:
        for path in ("/metrics", "/", "/nothing"):
            refused = await client.get(path)
            assert (refused.status_code, refused.headers["www-authenticate"].split()[0]) == (401, "Basic")
        for wrong in (("prometheus", "wrong"), ("somebody", PASSWORD), ("prometheus", "")):
            answer = await client.get("/metrics", auth=wrong)
            assert answer.json()["error"]["message"] == "the user or the password is not valid"
        for header in ("Basic !!", "Basic cHJvbWV0aGV1cw==", "Negotiate abc", f"Bearer {PASSWORD}"):
            assert (await client.get("/metrics", headers={"Authorization": header})).status_code == 401
        assert (await client.get("/metrics", auth=BASIC)).status_code == 200
        assert (await client.get("/nothing", auth=BASIC)).status_code == 404
        assert (await client.get("/-/healthy")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503


async def test_a_password_is_hashed_once_and_one_of_an_unknown_user_as_well(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs: list[bytes] = []
    verify = bcrypt.checkpw

    def counting(password: bytes, hashed: bytes) -> bool:
        costs.append(hashed[:7])
        return verify(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", counting)
    users, web = Users(), config(folder, USERS).config
    assert [await users.verify(web, "prometheus", PASSWORD.encode()) for _ in range(3)] == [True] * 3
    assert costs == [b"$2b$04$"]
    assert not await users.verify(web, "nobody", PASSWORD.encode())
    assert costs == [b"$2b$04$"] * 2


async def test_a_user_who_is_taken_away_is_refused_with_the_next_request(folder: Path) -> None:
    async with client_of(config(folder, USERS)) as client:
        assert (await client.get("/metrics", auth=BASIC)).status_code == 200
        rewrite(folder, USERS.replace("prometheus", "grafana"))
        assert (await client.get("/metrics", auth=BASIC)).status_code == 401
        assert (await client.get("/metrics", auth=("grafana", PASSWORD))).status_code == 200


async def test_a_file_that_cannot_be_used_admits_nobody_until_it_can(folder: Path) -> None:
    async with client_of(config(folder, USERS)) as client:
        for broken in ("basic_auth_users: [", "users: {}\n"):
            rewrite(folder, broken)
            refused = await client.get("/metrics", auth=BASIC)
            assert (refused.status_code, (await client.get("/-/healthy")).status_code) == (500, 200)
            assert "every request is refused" in refused.json()["error"]["message"]
        rewrite(folder, USERS)
        assert (await client.get("/metrics", auth=BASIC)).status_code == 200
        (folder / "web.yaml").unlink()
        assert (await client.get("/metrics", auth=BASIC)).status_code == 500


@pytest.mark.parametrize("text", ["", "basic_auth_users:\n", f"{TLS}  client_auth_type: RequireAndVerifyClientCert\n"])
async def test_a_file_that_asks_nobody_for_credentials_any_more_admits_nobody(folder: Path, text: str) -> None:
    """It may be half written; and what it asks for by TLS, it does not before a restart."""
    if text.startswith(TLS):
        text += "  client_ca_file: clients.pem\n"
    file = config(folder, USERS)
    async with client_of(file) as client:
        rewrite(folder, text)
        assert [(await client.get("/metrics", auth=auth)).status_code for auth in (None, BASIC)] == [500, 500]
        assert "asks nobody for credentials any more" in file.problem
        rewrite(folder, USERS)
        assert [(await client.get("/metrics", auth=auth)).status_code for auth in (None, BASIC)] == [401, 200]


def test_what_is_written_while_the_file_is_read_is_read_next(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_and_rewrite(path: Path) -> WebConfig:
        found = read_web_config(path)
        rewrite(folder, USERS.replace("prometheus", next(names)))
        return found

    names = iter(("first", "second"))
    with monkeypatch.context() as patched:
        patched.setattr(admission, "read_web_config", read_and_rewrite)
        file = config(folder, USERS)
        assert [*file.config.users] == ["first"]
    assert [*file.config.users] == ["second"]


async def test_tls_can_neither_begin_nor_cease_while_running_and_users_change_all_the_same(folder: Path) -> None:
    file = config(folder, USERS)
    async with client_of(file) as client:
        rewrite(folder, TLS + USERS.replace("prometheus", "grafana"))
        assert (await client.get("/metrics", auth=("grafana", PASSWORD))).status_code == 200
        assert "takes effect after a restart" in file.problem


async def test_headers_stand_on_every_answer_in_place_of_ours(folder: Path) -> None:
    headers = "    X-Frame-Options: deny\n    Content-Security-Policy: default-src 'self'\n"
    text = f"{USERS}http_server_config:\n  headers:\n{headers}"
    async with client_of(config(folder, text)) as client:
        for answer in (await client.get("/", auth=BASIC), await client.get("/metrics"), await client.get("/healthz")):
            assert answer.headers.get_list("content-security-policy") == ["default-src 'self'"]
            assert answer.headers["x-frame-options"] == "deny"


async def test_the_rate_limit_refuses_what_is_above_the_burst_but_no_probe(folder: Path) -> None:
    async with client_of(config(folder, "rate_limit:\n  interval: 1h\n  burst: 2\n")) as client:
        statuses = [(await client.get("/metrics")).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        refused = await client.get("/metrics")
        assert 3590 < int(refused.headers["retry-after"]) <= 3600
        assert (await client.get("/healthz")).status_code == 200


def test_a_bucket_fills_by_one_in_each_interval_up_to_the_burst(folder: Path) -> None:
    now = [100.0]
    limit = config(folder, "rate_limit:\n  interval: 500ms\n  burst: 2\n").config.rate_limit
    assert limit is not None
    bucket = Bucket(limit, lambda: now[0])
    assert [bucket.take(), bucket.take()] == [0, 0]
    assert bucket.take() == pytest.approx(0.5)
    now[0] += 0.5
    assert [bucket.take(), bucket.take() > 0] == [0, True]
    now[0] += 3600
    assert [bucket.take() > 0 for _ in range(3)] == [False, False, True]


@pytest.fixture
def token(tmp_path: Path) -> str:
    made = new_token()
    (tmp_path / "tokens").write_text(token_line("grafana", made))
    return made.get_secret_value()


async def test_a_token_decides_where_tokens_guard_and_a_user_needs_none(folder: Path, token: str) -> None:
    file = config(folder, USERS)
    app = Application(web_config=file, metrics_tokens=TokenFile(folder / "tokens"))
    async with client_of(file, app) as client:
        bearer = {"Authorization": f"Bearer {token}"}
        assert (await client.get("/metrics", headers=bearer)).status_code == 200
        assert (await client.get("/metrics", headers={"Authorization": "Bearer wrong"})).status_code == 401
        assert (await client.get("/metrics", auth=BASIC)).status_code == 200
        assert (await client.get("/", headers=bearer)).status_code == 401, "tokens of scrapes guard scrapes alone"


async def test_mcp_is_behind_the_same_configuration(folder: Path, authority: trustme.CA) -> None:
    file = config(folder, TLS + USERS)
    async with (
        served_on(endpoint((), web_config=file), file) as port,
        httpx.AsyncClient(verify=trusting(authority), trust_env=False) as client,
    ):
        url = f"https://127.0.0.1:{port}{PATH}"
        assert (await client.post(url, json={})).status_code == 401
        assert (await client.post(url, json={}, auth=BASIC)).status_code != 401


async def test_a_browsers_question_before_the_question_needs_no_password(folder: Path) -> None:
    file = config(folder, USERS)
    seen: list[str] = []

    async def app(scope: Scope, *_: object) -> None:
        seen.append(str(scope["method"]))

    async def send(_: object) -> None: ...

    admission = Admission(app, file, has_tokens=lambda _: False)
    headers = [(b"origin", b"https://example.com"), (b"access-control-request-method", b"GET")]
    for given in (headers, headers[:1]):
        await admission({"type": "http", "path": "/v1/x", "method": "OPTIONS", "headers": given}, None, send)  # type: ignore[arg-type]
    assert seen == ["OPTIONS"]


@pytest.mark.parametrize("text", [TLS, MUTUAL])
async def test_the_health_check_of_a_container_finds_a_server_with_tls(
    folder: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    file = config(folder, text)
    async with served_on(Application(web_config=file), file) as port:
        monkeypatch.setenv("FAL_EXPORTER_LISTEN", f"127.0.0.1:{port}")
        assert await asyncio.to_thread(main, ["healthcheck"]) == 0


async def test_publications_are_served_as_without_a_configuration(
    folder: Path, authority: trustme.CA, publication: Publish
) -> None:
    app = Application(web_config=(file := config(folder, TLS + USERS)))
    app.publish(publication())
    async with client_of(file, app, trusting(authority)) as client:
        answer = await client.get("/metrics", auth=BASIC, headers={"Accept-Encoding": "gzip"})
        assert answer.headers["content-encoding"] == "gzip"
        assert 'fal_credit_balance_usd{account="account-0"} 1' in answer.text
