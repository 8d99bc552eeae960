import pytest
from fal.conftest import Answer, Bench, Fal, as_json, bucket, page, refused

from exporter.errors import ConfigurationError
from exporter.fal.errors import ApiError, LockedError, ServerError
from exporter.fal.sources import SOURCES, USAGE, Probe, automatic_sources, probe, unpolled_sources, usage_source


async def test_every_source_is_made_by_its_name(bench: Bench) -> None:
    assert list(SOURCES) == ["models", "serverless", "compute", "organization", "reporting", "focus"]
    client = bench.client()
    assert [usage_source(name, client).name for name in SOURCES] == list(SOURCES)


async def test_an_unknown_source_is_a_wrong_configuration(bench: Bench) -> None:
    with pytest.raises(ConfigurationError, match="no source 'model'; the sources are models, serverless"):
        usage_source("model", bench.client())


LOCKED = as_json({"detail": "User is locked. Reason: TOP_UP"}, 403)
GOOD = {
    "/v1/models/usage": as_json(page()),
    "/v1/serverless/usage": as_json(page()),
    "/v1/organization/usage": as_json(page()),
    "/v1/organization/teams": as_json({"teams": [{"username": "acme"}]}),
    "/billing/usage": as_json({"usage": []}),
    "/v1/account/focus": Answer(b"BilledCost\n"),
    "/v1/account/billing": as_json({"username": "a", "credits": {"current_balance": 1, "currency": "USD"}}),
    "/billing/user_balance": as_json(1),
    "/billing/invoices": as_json([]),
    "/v1/keys": as_json({"keys": [], "next_cursor": None, "has_more": False}),
}
ADMIN_CALLS = [path for path in GOOD if path != "/billing/user_balance"]


async def found(fal: Fal, bench: Bench, **answers: Answer) -> dict[str, Probe]:
    for path, answer in (GOOD | answers).items():
        fal.plays(path, answer)
    return {one.name: one for one in await probe(bench.client(attempts=1))}


async def test_an_admin_key_can_do_everything_and_each_call_is_tried_once(fal: Fal, bench: Bench) -> None:
    probes = await found(fal, bench)
    assert list(probes) == [
        *("models", "serverless", "compute", "organization", "reporting", "focus"),
        *("account_billing", "user_balance", "invoices", "keys"),
    ]
    assert all(one.ok and one.reachable and one.accepted and not one.problem for one in probes.values())
    assert probes["models"].scope == "admin"
    assert probes["user_balance"].scope == "api"
    assert sorted(request.path for request in fal.requests) == sorted(GOOD)
    assert fal.asked("/v1/models/usage")[0].query["limit"] == ["1"]
    assert fal.asked("/v1/models/usage")[0].query["start"] == ["2026-11-21T11:00:00Z"]


async def test_a_key_with_api_scope_is_told_what_it_lacks(fal: Fal, bench: Bench) -> None:
    probes = await found(fal, bench, **dict.fromkeys(ADMIN_CALLS, refused(403, "authorization_error", "Access denied")))
    models = probes["models"]
    assert (models.reachable, models.accepted, models.ok, models.scope) == (True, True, False, "api")
    assert "admin scope" in models.advice
    assert "Access denied" in models.problem
    assert probes["user_balance"].ok


async def test_an_account_without_focus_reports_is_told_whom_to_ask(fal: Fal, bench: Bench) -> None:
    refusal = refused(403, "authorization_error", "FOCUS reports are not enabled for this account.")
    focus = (await found(fal, bench, **{"/v1/account/focus": refusal}))["focus"]
    assert (focus.reachable, focus.accepted, focus.ok) == (True, True, False)
    assert "ask fal to enable it" in focus.advice
    assert fal.asked("/v1/account/focus")[0].query["start"] == ["2026-11-21T11:00:00Z"]


async def test_a_rejected_key_is_reachable_but_not_accepted(fal: Fal, bench: Bench) -> None:
    probes = await found(fal, bench, **dict.fromkeys(GOOD, refused(401)))
    assert {(one.reachable, one.accepted, one.ok) for one in probes.values()} == {(True, False, False)}


async def test_no_connection_is_not_reachable(bench: Bench) -> None:
    probes = await probe(bench.client(url="http://127.0.0.1:1", attempts=1))
    assert {(one.reachable, one.accepted, one.ok) for one in probes} == {(False, False, False)}
    assert all(one.problem and one.advice for one in probes)


async def test_a_lock_met_by_probing_leaves_no_lock_state_that_nobody_takes_back(fal: Fal, bench: Bench) -> None:
    probes = await found(fal, bench, **dict.fromkeys(GOOD, LOCKED))
    assert {one.accepted for one in probes.values()} == {True}
    assert bench.clients[0].locks.reasons == set()


SCOPE, FEATURE, MISSING, DOWN = refused(403), refused(403, "", "feature not enabled"), refused(404), refused(500)
TEAMS = as_json({"teams": [{"username": "acme"}, {"username": "research"}]})


def charge_row(team: str, product: str) -> dict[str, object]:
    row: dict[str, object] = {"username": team, "product": product, "endpoint_id": "x", "unit": "second"}
    return row | {"quantity": 1, "cost": 1, "currency": "USD"}


def charged(*rows: dict[str, object]) -> Answer:
    return as_json(page(bucket("2026-11-01T00:00:00Z", *rows)))


MODELS, SERVERLESS, ORGANIZATION = "/v1/models/usage", "/v1/serverless/usage", "/v1/organization/usage"
NO_ORGANIZATION = {ORGANIZATION: SCOPE, "/v1/organization/teams": SCOPE}


@pytest.mark.parametrize(
    ("answers", "sources"),
    [
        ({}, ("models", "serverless", "compute")),
        (NO_ORGANIZATION, ("models", "serverless")),
        (NO_ORGANIZATION | {SERVERLESS: FEATURE}, ("models",)),
        (NO_ORGANIZATION | {MODELS: MISSING, "/billing/usage": SCOPE}, ("serverless",)),
        (NO_ORGANIZATION | {MODELS: SCOPE, SERVERLESS: SCOPE}, ("reporting",)),
        (NO_ORGANIZATION | {MODELS: SCOPE, SERVERLESS: SCOPE, "/billing/usage": SCOPE}, ()),
        (NO_ORGANIZATION | {"/billing/usage": DOWN}, ("models", "serverless")),
        ({"/v1/organization/teams": TEAMS}, ("organization",)),
        (
            {"/v1/organization/teams": MISSING, ORGANIZATION: charged(charge_row("acme", "compute"))},
            ("models", "serverless", "compute"),
        ),
        ({MODELS: SCOPE, SERVERLESS: SCOPE}, ("organization",)),
        (
            {
                SERVERLESS: FEATURE,
                ORGANIZATION: charged(charge_row("acme", "compute"), charge_row("acme", "model_apis")),
            },
            ("models", "compute"),
        ),
        (
            {
                SERVERLESS: MISSING,
                ORGANIZATION: charged(charge_row("acme", "compute"), charge_row("acme", "serverless")),
            },
            ("organization",),
        ),
    ],
)
async def test_sources_are_chosen_by_what_the_key_may_read(
    fal: Fal, bench: Bench, answers: dict[str, Answer], sources: tuple[str, ...]
) -> None:
    probes = await found(fal, bench, **answers)
    assert automatic_sources(probes.values()) == sources


async def test_several_teams_are_noticed_by_their_charges_where_they_cannot_be_listed(fal: Fal, bench: Bench) -> None:
    both = charged(charge_row("acme", "compute"), charge_row("research", "model_apis"))
    probes = await found(fal, bench, **{"/v1/organization/teams": SCOPE, ORGANIZATION: both})
    assert automatic_sources(probes.values()) == ("organization",)


@pytest.mark.parametrize(("answer", "kind"), [(DOWN, ServerError), (LOCKED, LockedError)])
@pytest.mark.parametrize("call", [MODELS, SERVERLESS, ORGANIZATION])
async def test_a_passing_failure_decides_nothing(
    fal: Fal, bench: Bench, call: str, answer: Answer, kind: type[ApiError]
) -> None:
    probes = await found(fal, bench, **{call: answer})
    with pytest.raises(kind):
        automatic_sources(probes.values())
    if call == ORGANIZATION:
        assert automatic_sources(probes.values(), is_patient=False) == ("models", "serverless")


async def test_an_organization_whose_charges_cannot_be_read_decides_nothing(fal: Fal, bench: Bench) -> None:
    for path, answer in (GOOD | {SERVERLESS: MISSING}).items():
        fal.plays(path, answer)
    fal.plays(ORGANIZATION, as_json(page()), DOWN)
    probes = {one.name: one for one in await probe(bench.client(attempts=1), USAGE)}
    assert list(probes) == ["models", "serverless", "compute", "organization", "reporting"]
    with pytest.raises(ServerError):
        automatic_sources(probes.values())


@pytest.mark.parametrize(
    ("polled", "readable", "unpolled"),
    [
        (("models", "serverless"), {"models", "serverless", "compute", "organization"}, ("compute",)),
        (("models",), {"models", "serverless"}, ("serverless",)),
        (("models", "serverless", "compute"), {"models", "serverless", "compute", "organization"}, ()),
        (("organization",), {"models", "serverless", "compute", "organization"}, ()),
        (("reporting",), {"models", "serverless", "reporting"}, ()),
        ((), {"models"}, ()),
    ],
)
def test_only_what_would_add_charges_is_unpolled(
    polled: tuple[str, ...], readable: set[str], unpolled: tuple[str, ...]
) -> None:
    assert unpolled_sources(polled, readable) == unpolled
