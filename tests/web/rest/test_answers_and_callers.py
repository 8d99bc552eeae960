"""Answers that are kept, and who may have them: nobody is answered from the cache whom the files no longer admit."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import bcrypt
import httpx
import pytest
from pydantic import SecretStr
from queries.conftest import NOW, UTC_ZONE
from web.conftest import served_on

from exporter.charges import NANO, Window
from exporter.forecasting.state import AccountOutlook, Outlook
from exporter.ledger.reader import LedgerReader
from exporter.publication import Publication
from exporter.settings.credentials import TokenFile, new_token, token_line
from exporter.web.admission import WebConfigFile
from exporter.web.application import Application
from exporter.web.rest.answer_cache import Answer
from exporter.web.rest.calls import CALLS
from exporter.web.rest.entrance import RestOptions

Serve = Callable[[Application], Awaitable[httpx.AsyncClient]]
Make = Callable[..., Application]
Publish = Callable[..., Publication]

MONTH = Window(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
KEPT = [
    call.path for call in CALLS if call.answer is not None and call.made_from != "requests" and "{" not in call.path
]
"""Calls whose answers are kept."""


def rewrite(file: Path, text: str, ticks: int) -> None:
    """Put other contents in the place of a file; two writes can fall into one tick of the file system's clock."""
    new = file.with_suffix(".new")
    new.write_text(text)
    os.utime(new, ns=(ticks, ticks))
    new.replace(file)


def of_accounts(made: Publication, *names: str) -> Publication:
    """Return a publication with a balance of a dollar of each account."""
    accounts = tuple(AccountOutlook(name, MONTH, NANO, NOW) for name in names)
    return replace(made, outlook=Outlook(accounts))


def never(*_: object, **__: object) -> Answer:
    raise AssertionError("the answer is made anew")


async def kept_answers(
    client: httpx.AsyncClient, ways: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> dict[str, httpx.Response]:
    """Ask every call by the authorization of one caller, and see that another is answered without a new answer."""
    first = {path: await client.get(path, headers={"authorization": ways["leaves"]}) for path in KEPT}
    monkeypatch.setattr("exporter.web.rest.application._made", never)
    for path, answer in first.items():
        assert answer.status_code == 200, (path, answer.text)
        again = await client.get(path, headers={"authorization": ways["stays"]})
        assert (again.status_code, again.content) == (200, answer.content), path
    return first


async def is_refused(client: httpx.AsyncClient, authorization: str, kept: dict[str, httpx.Response]) -> None:
    """Check that no way to ask gives anything of what is kept, nor whether it is still the same."""
    for path, answer in kept.items():
        tag = answer.headers["etag"]
        for method in ("GET", "HEAD"):
            for known in ({}, {"if-none-match": tag}, {"if-none-match": "*"}):
                headers = {"authorization": authorization, **known}
                refused = await client.request(method, path, headers=headers)
                assert refused.status_code == 401, (method, path, known)
                assert "etag" not in refused.headers
                assert refused.headers["cache-control"] == "no-store"
                assert tag.strip('"') not in f"{refused.headers} {refused.text}"
                if method == "GET":
                    assert list(refused.json()) == ["error"]


@pytest.mark.usefixtures("ledger")
async def test_a_token_that_was_removed_has_nothing_of_the_answers_that_are_kept(
    serve: Serve, application: Make, publication: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = {name: new_token() for name in ("leaves", "stays")}
    lines = {name: token_line(name, token) + "\n" for name, token in tokens.items()}
    ways = {name: f"Bearer {token.get_secret_value()}" for name, token in tokens.items()}
    file = tmp_path / "tokens"
    file.write_text("".join(lines.values()))
    served = application(tokens=TokenFile(file))
    served.publish(of_accounts(publication(), "studio"))
    client = await serve(served)
    kept = await kept_answers(client, ways, monkeypatch)

    rewrite(file, lines["stays"], 1)
    await is_refused(client, ways["leaves"], kept)
    for path, answer in kept.items():
        assert (await client.get(path, headers={"authorization": ways["stays"]})).content == answer.content

    # A file that is gone admits nobody, whatever is kept for whom.
    file.unlink()
    for way in ways.values():
        await is_refused(client, way, kept)

    rewrite(file, "".join(lines.values()), 2)
    for path, answer in kept.items():
        assert (await client.get(path, headers={"authorization": ways["leaves"]})).content == answer.content


@pytest.mark.usefixtures("ledger")
async def test_a_user_whom_the_web_configuration_no_longer_names_or_who_has_another_password_has_nothing_either(
    address: str, publication: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = {name: bcrypt.hashpw(name.encode(), bcrypt.gensalt(4)).decode() for name in ("leaves", "stays", "other")}
    file = tmp_path / "web.yaml"
    file.write_text(f"basic_auth_users:\n  leaves: {hashes['leaves']}\n  stays: {hashes['stays']}\n")
    web_config = WebConfigFile(file)
    rest = RestOptions(ledger_url=SecretStr(address), reader=LedgerReader, zone=UTC_ZONE)
    served = Application(
        clock=lambda: NOW, rest=rest, web_config=web_config, access_files={"web_config_file": web_config}
    )
    served.publish(of_accounts(publication(), "studio"))
    made = {name: httpx.Request("GET", "http://127.0.0.1/", headers={}) for name in ("leaves", "stays")}
    ways = {}
    for name, request in made.items():
        asked = next(httpx.BasicAuth(name, name).auth_flow(request))
        ways[name] = asked.headers["authorization"]
    async with (
        served_on(served, web_config) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        kept = await kept_answers(client, ways, monkeypatch)
        for ticks, users in enumerate((f"  stays: {hashes['stays']}\n", f"  leaves: {hashes['other']}\n"), start=1):
            rewrite(file, f"basic_auth_users:\n{users}", ticks)
            await is_refused(client, ways["leaves"], kept)
        await is_refused(client, ways["stays"], kept)


async def test_after_other_accounts_are_configured_no_answer_of_the_former_ones_is_given(
    serve: Serve, application: Make, publication: Publish
) -> None:
    """A collector that begins anew counts its publications anew, so that the number alone does not tell them apart."""
    served = application()
    client = await serve(served)
    first = publication(1)
    served.publish(of_accounts(first, "studio", "research"))
    answers = [(await client.get("/v1/billing/balance")).json() for _ in range(2)]
    assert [[account["account"] for account in answer["accounts"]] for answer in answers] == [
        ["studio", "research"]
    ] * 2
    tag = (await client.get("/v1/billing/balance")).headers["etag"]

    served.publish(of_accounts(replace(first, at=first.at + timedelta(seconds=1)), "research"))
    for _ in range(2):
        answer = await client.get("/v1/billing/balance", headers={"if-none-match": tag})
        assert [account["account"] for account in answer.json()["accounts"]] == ["research"]


async def test_two_publications_are_told_apart_even_with_one_number_and_of_one_moment(
    serve: Serve, application: Make, publication: Publish
) -> None:
    """A collector that begins anew beside a clock that was set back may come to both."""
    served = application()
    client = await serve(served)
    first = publication(1)
    for name in ("studio", "other", "studio"):
        served.publish(of_accounts(first, name))
        answer = await client.get("/v1/billing/balance")
        assert [account["account"] for account in answer.json()["accounts"]] == [name]
