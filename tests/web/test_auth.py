import base64
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest
from pydantic import SecretStr

from exporter.ledger.reader import LedgerReader
from exporter.publication import Publication
from exporter.settings.credentials import TokenFile, token_line
from exporter.web.application import Application
from exporter.web.auth import refusal
from exporter.web.rest.calls import CALLS
from exporter.web.rest.entrance import RestOptions

Publish = Callable[..., Publication]
Serve = Callable[[Application], Awaitable[httpx.AsyncClient]]

TOKEN = "falx_" + "the-same_in-every-process".ljust(43, "0")
GUARDED = ["/", "/docs", "/openapi.json", "/v1", "/v1/nothing", *(call.path for call in CALLS)]
OPEN = ["/metrics", "/-/healthy", "/healthz", "/-/ready", "/readyz"]


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.fixture
def tokens(tmp_path: Path) -> TokenFile:
    path = tmp_path / "tokens"
    path.write_text(token_line("test", SecretStr(TOKEN)))
    return TokenFile(path)


def guarded(tmp_path: Path, **options: TokenFile | None) -> Application:
    rest = RestOptions(
        ledger_url=SecretStr(f"sqlite:///{tmp_path / 'ledger.sqlite'}"),
        reader=LedgerReader,
        zone=ZoneInfo("UTC"),
        tokens=options.get("rest"),
    )
    return Application(rest=rest, metrics_tokens=options.get("metrics"))


async def test_rest_and_the_landing_page_need_a_token_and_the_rest_does_not(
    serve: Serve, tokens: TokenFile, tmp_path: Path
) -> None:
    client = await serve(guarded(tmp_path, rest=tokens))
    for path in GUARDED:
        answer = await client.get(path)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"] == 'Bearer realm="fal-exporter"'
        # No cache may give one caller's refusal to another, and no browser take it for a page.
        assert (answer.headers["vary"], answer.headers["cache-control"]) == ("Authorization", "no-store")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.json()["error"]["type"] == "authorization_error"
        admitted = await client.get(path, headers={"authorization": f"Bearer {TOKEN}"})
        assert admitted.status_code in {200, 404, 503}, path
    for path in OPEN:
        assert (await client.get(path)).status_code in {200, 503}, path


async def test_metrics_need_a_token_of_their_own_only_if_so_configured(
    serve: Serve, tokens: TokenFile, tmp_path: Path
) -> None:
    client = await serve(guarded(tmp_path, metrics=tokens))
    assert (await client.get("/metrics")).status_code == 401
    assert (await client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"})).status_code == 200
    for path in ("/", "/docs", "/-/healthy", "/-/ready"):
        assert (await client.get(path)).status_code in {200, 503}


async def test_without_tokens_everybody_is_admitted(serve: Serve, tmp_path: Path) -> None:
    client = await serve(guarded(tmp_path))
    for path in GUARDED:
        assert (await client.get(path)).status_code != 401


@pytest.mark.parametrize(
    ("authorization", "admitted"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer  {TOKEN} ", True),
        (basic(f"anyone:{TOKEN}"), True),
        (basic(f":{TOKEN}"), True),
        ("Bearer", False),
        (f"Bearer {TOKEN[:-1]}", False),
        (f"Bearer {TOKEN}x", False),
        (f"Bearer {TOKEN} {TOKEN}", False),
        (TOKEN, False),
        (f"Key {TOKEN}", False),
        (basic(TOKEN), False),
        (basic(f"{TOKEN}:"), False),
        ("Basic ###", False),
        ("Basic //8=", False),
    ],
)
def test_who_is_admitted(tokens: TokenFile, authorization: str, admitted: bool) -> None:  # noqa: FBT001  a case
    refused = refusal([(b"authorization", authorization.encode())], tokens)
    assert (refused is None) is admitted
    if refused is not None:
        assert refused.headers["www-authenticate"] == 'Bearer realm="fal-exporter", error="invalid_token"'
        assert TOKEN not in refused.body.decode()


def test_two_tokens_at_once_are_none(tokens: TokenFile) -> None:
    header = (b"authorization", f"Bearer {TOKEN}".encode())
    assert refusal([header, header], tokens) is not None


def test_a_browser_is_told_that_it_may_ask_for_a_password(tokens: TokenFile) -> None:
    refused = refusal([(b"accept", b"text/html,application/xhtml+xml")], tokens)
    assert refused is not None
    assert refused.headers["www-authenticate"] == 'Basic realm="fal-exporter", charset="UTF-8"'


async def test_no_answer_and_no_log_holds_a_token(
    serve: Serve, tokens: TokenFile, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = await serve(guarded(tmp_path, rest=tokens, metrics=tokens))
    told = []
    for path in [*GUARDED, *OPEN]:
        for place in (
            {"headers": {"authorization": f"Bearer {TOKEN}"}},
            {"headers": {"authorization": f"Bearer {TOKEN}x"}},
            {"headers": {"authorization": TOKEN, "accept": TOKEN}},
            {"params": {TOKEN: TOKEN, "start": TOKEN}, "headers": {"authorization": f"Bearer {TOKEN}"}},
            {"params": {"start": TOKEN, "account": TOKEN}, "headers": {"authorization": f"Bearer {TOKEN}"}},
        ):
            answer = await client.get(path, **place)  # type: ignore[arg-type]  # one type for all of its values
            told.append(f"{answer.headers} {answer.text}")
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert TOKEN not in "".join([*told, *ours])
