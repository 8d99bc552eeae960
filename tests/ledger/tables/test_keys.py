from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from exporter.charges import HOUR, NANO, Amounts, Charge, Dimensions, Window
from exporter.ledger import KeyOwner, Ledger, SourceProbe
from exporter.ledger.maintenance.renaming import rename_account

OpenLedger = Callable[..., Ledger]

AT = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
REFUSED = SourceProbe("prod", "compute", AT, "1.2.0", "scope", "GET /organization/usage failed.", 0, "not_found")
READABLE = SourceProbe("prod", "models", AT, "1.2.0", teams=3)


def test_the_last_probe_of_every_source_outlives_the_process(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    ledger.names.record_probes([REFUSED, READABLE, SourceProbe("other", "models", AT, "1.2.0")])
    later = SourceProbe("prod", "compute", AT + timedelta(days=1), "1.3.0", reason_at_choice="not_found")
    ledger.names.record_probes([later])
    ledger.close()
    again = open_ledger()
    assert again.names.probes("prod") == (later, READABLE)
    assert again.names.probes("nobody") == ()


def test_whom_a_key_belongs_to_outlives_the_process(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    ledger.names.record_key_owner(KeyOwner("prod", "aa", "acme"))
    ledger.names.record_key_owner(KeyOwner("other", "bb", ""))
    ledger.names.record_key_owner(KeyOwner("prod", "cc", "research"))
    ledger.close()
    assert set(open_ledger().names.key_owners()) == {KeyOwner("prod", "cc", "research"), KeyOwner("other", "bb", "")}


def test_a_renamed_account_keeps_its_probes_and_is_asked_anew_whose_its_key_is(
    address: str, open_ledger: OpenLedger
) -> None:
    ledger = open_ledger()
    ledger.activate({"prod": ["models"]})
    ledger.names.record_probes([REFUSED, SourceProbe("studio", "compute", AT, "1.2.0")])
    ledger.names.record_key_owner(KeyOwner("prod", "aa", "acme"))
    ledger.names.record_key_owner(KeyOwner("studio", "aa", "acme"))
    ledger.close()
    rename_account(address, "prod", "studio", now=AT)
    again = open_ledger()
    assert [(probe.account, probe.reason_at_choice) for probe in again.names.probes("studio")] == [
        ("studio", "not_found")
    ]
    assert again.names.probes("prod") == ()
    assert again.names.key_owners() == (), "fal, too, may have renamed the account"


def test_costs_by_product_are_those_of_the_active_sources_in_the_window(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    hour = datetime(2026, 11, 20, 10, tzinfo=UTC)

    def charge(at: datetime, product: str, cost: int, account: str = "prod", model: str = "a") -> Charge:
        return Charge(at, Dimensions(account, product=product, model=model), Amounts(NANO, 0, cost, 0, cost))

    window = Window(hour, hour + 2 * HOUR)
    for sources in (["organization"], ["models", "compute"]):
        ledger.activate({"prod": sources, "other": ["models"]})
        for source in sources:
            product = "compute" if source == "compute" else "model_apis"
            charges = [
                charge(hour, product, 3),
                charge(hour, product, 40, model="b"),
                charge(hour + HOUR, product, 500),
            ]
            ledger.restate("prod", source, window, charges, at=AT)
    ledger.restate("other", "models", window, [charge(hour, "model_apis", 7, "other")], at=AT)
    assert ledger.cost_by_product("prod", Window(hour, hour + HOUR)) == {"model_apis": 43, "compute": 43}
    assert ledger.cost_by_product("other", window) == {"model_apis": 7}
    assert ledger.cost_by_product("nobody", window) == {}
