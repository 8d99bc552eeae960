import errno
import os
import re
import socket
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest
from e2e.processes import Fal, free_port

from exporter.charges import Bill, utc_now
from exporter.cli import main
from exporter.ledger import KeyOwner, Ledger, LedgerInUseError, Rules, take_collector_lock
from exporter.ledger.collector_lock import as_collector
from exporter.ledger.tables.schema import SCHEMA_VERSION
from exporter.polling.reconciler import months
from exporter.simulator import ADMIN_KEY, API_KEY, Fault, Key

SCOPE = "this key has API scope; usage needs a key with admin scope; the credit balance works"
WRONG_KEY = "nobody:knows-this-key-at-all"


class Check:
    """Runs `fal-exporter check` in this process, against the simulator."""

    def __init__(
        self, fal: Fal, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self.ledger = folder / "ledger.sqlite"
        self.set(
            FAL_EXPORTER_PLATFORM_URL=fal.running.platform_url,
            FAL_EXPORTER_REPORTING_URL=fal.running.reporting_url,
            FAL_EXPORTER_LEDGER_URL=f"sqlite:///{self.ledger}",
            FAL_EXPORTER_REQUEST_ATTEMPTS="1",
            FAL_EXPORTER_LISTEN=f"127.0.0.1:{free_port()}",
            FAL_EXPORTER_MCP_LISTEN="off",
        )

    def set(self, **environment: str) -> None:
        for name, value in environment.items():
            self._monkeypatch.setenv(name, value)

    def __call__(self, key: str = "", *arguments: str) -> tuple[int, str]:
        if key:
            self.set(FAL_KEY=key)
        code = main(["check", *arguments])
        told = self._capsys.readouterr()
        for secret in (ADMIN_KEY, API_KEY, WRONG_KEY):
            assert secret.partition(":")[2] not in told.out + told.err
        assert "Traceback" not in told.err
        return code, told.out + told.err


@pytest.fixture
def check(fal: Fal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    return Check(fal, tmp_path, monkeypatch, capsys)


def rows(output: str) -> dict[str, list[str]]:
    """Return the cells of the (last) table by interface."""
    found = (re.split(r"  +", line.strip()) for line in output.splitlines() if "/" in line)
    return {cells[0]: cells[1:] for cells in found if len(cells) > 4}


def problems(output: str) -> list[str]:
    return [line.strip()[2:] for line in output.splitlines() if line.startswith("  ! ")]


def facts(output: str) -> dict[str, str]:
    """Return what is said of this machine, by what it is about."""
    machine = output.partition("this machine\n\n")[2].partition("\n\n")[0]
    return dict(re.split(r"  +", line.strip(), maxsplit=1) for line in machine.splitlines())


def polled(output: str) -> Iterable[str]:
    return {name for name, cells in rows(output).items() if cells[4] == "yes"}


def test_an_admin_key_works_and_nothing_is_written(check: Check) -> None:
    code, output = check(ADMIN_KEY)
    assert code == 0
    assert "account default: polls models, serverless, compute (chosen by what the key can read)" in output
    assert rows(output)["models"] == ["/models/usage", "yes", "accepted", "admin", "yes"]
    assert polled(output) == {"models", "serverless", "compute", "account_billing", "invoices", "keys"}
    assert "All configured sources work." in output
    assert not check.ledger.exists()


def test_an_api_key_is_told_to_be_one_and_that_the_balance_works(check: Check) -> None:
    code, output = check(API_KEY)
    assert code == 1
    assert problems(output) == [SCOPE]
    assert "polls no usage" in output
    assert rows(output)["models"][1:5] == ["yes", "accepted", "api", "no"]
    assert "user_balance" in polled(output)


def test_a_wrong_key_is_rejected(check: Check) -> None:
    code, output = check(WRONG_KEY)
    assert code == 1
    assert {cells[2] for cells in rows(output).values()} == {"rejected"}
    assert "has not been revoked" in output


def test_a_host_that_does_not_answer_is_unreachable(check: Check) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    check.set(FAL_EXPORTER_PLATFORM_URL=f"{nowhere}/v1", FAL_EXPORTER_REPORTING_URL=nowhere)
    code, output = check(ADMIN_KEY)
    assert code == 1
    assert {tuple(cells[1:3]) for cells in rows(output).values()} == {("no", "-")}
    assert problems(output)[0].startswith("the sources to poll cannot be chosen: GET ")


def test_a_wrong_address_is_not_taken_for_a_key_of_the_wrong_scope(check: Check, fal: Fal) -> None:
    check.set(FAL_EXPORTER_PLATFORM_URL=f"{fal.running.url}/v9", FAL_EXPORTER_REPORTING_URL=f"{fal.running.url}/v9")
    code, output = check(ADMIN_KEY)
    assert code == 1
    assert not [problem for problem in problems(output) if "scope" in problem]
    assert "check the URL" in output


def test_the_address_of_the_reporting_interface_is_shown(check: Check, fal: Fal) -> None:
    assert f"Reporting API: {fal.running.reporting_url}" in check(ADMIN_KEY)[1]


def test_a_locked_account_is_told_with_its_reason(check: Check, fal: Fal) -> None:
    fal.simulator.faults.add(Fault("locked"))
    code, output = check(ADMIN_KEY)
    assert code == 1
    assert "User is locked. Reason: Exhausted balance" in output
    assert "top up the balance" in output


def test_what_is_set_must_work(check: Check, fal: Fal) -> None:
    assert check(ADMIN_KEY, "--sources", "organization")[0] == 0
    fal.simulator.faults.add(Fault("feature_disabled", path="/v1/organization/usage"))
    code, output = check(ADMIN_KEY, "--sources", "organization")
    assert code == 1
    assert "polls organization (set by SOURCES)" in output
    assert rows(output)["organization"][4] == "fails"


def test_invoices_that_cannot_be_read_do_not_pass_as_working(check: Check, fal: Fal) -> None:
    fal.simulator.faults.add(Fault("server_error", path="/billing/invoices"))
    code, output = check(ADMIN_KEY)
    assert code == 1
    assert rows(output)["invoices"][4] == "fails"
    assert [problem for problem in problems(output) if "/billing/invoices" in problem]


def test_each_account_of_a_file_is_judged_by_its_own_key(check: Check, tmp_path: Path) -> None:
    file = tmp_path / "fal-exporter.yaml"
    file.write_text(
        f"accounts:\n  - name: research\n    key: {ADMIN_KEY}\n  - name: ads\n    key: {API_KEY}\n", encoding="utf-8"
    )
    code, output = check("", "--config-file", str(file))
    assert code == 1
    research, ads = output.split("account ads: ")
    assert problems(research) == []
    assert problems(ads) == [SCOPE]


def test_a_wrong_setting_is_exit_code_2(check: Check) -> None:
    assert check("")[0] == 2  # no key at all
    code, output = check(ADMIN_KEY, "--sources", "modles")
    assert code == 2
    assert "models" in output


def remarks(output: str) -> list[str]:
    return [line.strip()[2:] for line in output.splitlines() if line.startswith("  * ")]


def test_what_the_key_can_read_too_is_offered_and_is_no_failure(check: Check) -> None:
    code, output = check(ADMIN_KEY, "--sources", "models,serverless")
    assert (code, problems(output)) == (0, [])
    (offer,) = remarks(output)
    assert offer.startswith("This key can also read compute: the charges of compute machines are not in these figures.")
    assert "set the sources to models,serverless,compute and restart" in offer
    assert remarks(check(ADMIN_KEY)[1]) == []


def test_what_the_key_cannot_read_is_said_with_the_dollars_that_the_ledger_knows(check: Check, fal: Fal) -> None:
    fal.simulator.faults.add(Fault("feature_disabled", path="/v1/organization/usage"))
    (gap,) = remarks(check(ADMIN_KEY)[1])
    assert "The charges of compute machines are not in these figures: this key cannot read compute" in gap
    ledger = Ledger(f"sqlite:///{check.ledger}", rules=Rules(), clock=utc_now)
    ledger.activate({"default": ("models", "serverless")})
    month, _ = months(utc_now())
    ledger.reconcile(Bill("default", "invoice", month, 1_234_500_000_000, {}), at=utc_now())
    ledger.close()
    assert remarks(check(ADMIN_KEY)[1]) == [
        gap,
        f"For {month.start:%Y-%m} fal bills $1,234.50 more than is counted here (invoice).",
    ]


def test_what_the_organization_does_not_tell_is_said(check: Check) -> None:
    _, output = check(ADMIN_KEY, "--sources", "organization")
    assert remarks(output) == ["The source organization reports neither list prices, discounts nor surge prices."]


def test_two_accounts_that_are_one_fal_account_are_found(
    check: Check, fal: Fal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = "other-id:00000000000000000000000000000009"
    monkeypatch.setattr(fal.simulator, "keys", {ADMIN_KEY: Key(ADMIN_KEY), other: Key(other)})
    file = tmp_path / "fal-exporter.yaml"
    file.write_text(f"accounts: [{{name: studio, key: {ADMIN_KEY!r}}}, {{name: ads, key: {other!r}}}]\n")
    code, output = check("", "--config-file", str(file))
    assert code == 1
    studio, ads = output.split("account ads: ")
    assert problems(studio) == []
    assert 'the keys of the accounts "studio" and "ads" both belong to the fal account' in problems(ads)[0]


def test_a_key_of_another_fal_account_than_the_ledger_has_is_found(check: Check, fal: Fal) -> None:
    own = fal.simulator.account.world.teams[0]
    for username, code in ((own, 0), ("acme-before", 1)):
        with closing(Ledger(f"sqlite:///{check.ledger}", rules=Rules(), clock=utc_now)) as ledger:
            ledger.activate({"default": ("models",)})
            ledger.names.record_key_owner(KeyOwner("default", "of another key", username))
        exit_code, output = check(ADMIN_KEY)
        assert exit_code == code
        sentence = (
            f'the key of the account "default" belongs to the fal account "{own}", but the ledger has the charges of '
            'the fal account "acme-before" under this name'
        )
        assert [found for found in problems(output) if sentence in found] == problems(output)
        assert bool(problems(output)) == bool(code)


def test_the_machine_is_looked_at_first(check: Check) -> None:
    code, output = check(ADMIN_KEY)
    assert code == 0
    found = facts(output)
    assert found["ledger"] == f"sqlite:///{check.ledger}: there is none yet; serve creates it"
    assert found["FAL_EXPORTER_LISTEN"].endswith(" is free")
    assert "FAL_EXPORTER_MCP_LISTEN" not in found
    assert found["clock"] == "agrees with fal's"
    assert "Not checked: " in output
    assert not check.ledger.exists()


def test_a_ledger_is_told_with_its_version_and_whoever_uses_it(check: Check) -> None:
    lock = take_collector_lock(f"sqlite:///{check.ledger}")
    ledger = Ledger(f"sqlite:///{check.ledger}", rules=Rules(), clock=utc_now, lock=lock)
    ledger.activate({"default": ("models", "serverless", "compute")})
    used = facts(check(ADMIN_KEY)[1])["ledger"]
    assert f"schema {SCHEMA_VERSION}, counts since {utc_now():%Y-%m-%d}" in used
    assert f"in use by process {os.getpid()} on host {socket.gethostname()}" in used
    with pytest.raises(LedgerInUseError):
        take_collector_lock(f"sqlite:///{check.ledger}")
    ledger.close()
    assert facts(check(ADMIN_KEY)[1])["ledger"].endswith("; no exporter uses it")


@pytest.mark.parametrize(
    ("version", "said"), [(SCHEMA_VERSION + 1, "run the newer exporter"), (SCHEMA_VERSION - 1, "back it up first")]
)
def test_a_ledger_of_another_version_is_told(check: Check, version: int, said: str) -> None:
    Ledger(f"sqlite:///{check.ledger}", rules=Rules(), clock=utc_now).close()
    with closing(sqlite3.connect(check.ledger)) as database, database:
        database.execute("UPDATE fact SET value = ? WHERE name = 'schema'", (str(version),))
    code, output = check(ADMIN_KEY)
    assert said in output
    assert code == (version > SCHEMA_VERSION)


def test_a_ledger_whose_directory_is_missing_is_a_problem(check: Check, tmp_path: Path) -> None:
    check.set(FAL_EXPORTER_LEDGER_URL=f"sqlite:///{tmp_path}/nowhere/ledger.sqlite")
    code, output = check(ADMIN_KEY)
    assert code == 1
    assert problems(output) == [f"The ledger's directory {tmp_path}/nowhere does not exist; create it."]
    assert "All configured sources work." in output, "the keys are tried all the same"


def test_a_file_that_is_no_ledger_is_a_problem(check: Check) -> None:
    check.ledger.write_bytes(b"no database" * 1000)
    code, output = check(ADMIN_KEY)
    assert code == 1
    assert "is not a SQLite database" in problems(output)[0]


def test_an_address_that_is_taken_is_a_problem_but_not_where_the_exporter_that_runs_has_it(check: Check) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        check.set(FAL_EXPORTER_LISTEN=address)
        code, output = check(ADMIN_KEY)
        assert code == 1
        assert problems(output)[0].startswith(f"cannot listen on {address} (Address already in use)")
        assert facts(output)["FAL_EXPORTER_LISTEN"] == f"{address} is taken"
        with as_collector(f"sqlite:///{check.ledger}"):
            code, output = check(ADMIN_KEY)
        assert (code, problems(output)) == (0, [])
        assert "by the exporter that uses the ledger" in facts(output)["FAL_EXPORTER_LISTEN"]
        check.set(FAL_EXPORTER_LISTEN=f"127.0.0.1:{free_port()}", FAL_EXPORTER_MCP_LISTEN=address)
        assert check(ADMIN_KEY)[0] == 1


def test_a_port_for_privileged_processes_is_told_to_be_one(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    check.set(FAL_EXPORTER_LISTEN="127.0.0.1:80")
    code, output = check(ADMIN_KEY)
    assert code == 1
    assert "ports below 1024 are reserved for privileged processes" in problems(output)[0]


def test_a_clock_that_differs_from_fals_is_a_problem(check: Check, fal: Fal) -> None:
    fal.simulator.faults.add(Fault("clock_skew", seconds=-7200))
    code, output = check(ADMIN_KEY)
    assert code == 1
    assert re.fullmatch(r"is 7,(19|20)\d seconds ahead of fal's", facts(output)["clock"])
    assert problems(output)[0].startswith("The clock is wrong")


def test_the_last_day_is_read_as_serve_reads_it(check: Check, fal: Fal) -> None:
    code, output = check(ADMIN_KEY)
    assert code == 0
    assert re.search(r"could be read: models [1-9]\d*, serverless [1-9]\d*, compute 0\n", output)
    fal.simulator.faults.add(Fault("wrong_types", path="/v1/models/usage"))
    code, output = check(ADMIN_KEY)
    assert code == 1
    assert problems(output)[0].startswith("Rows that models reports for the last day cannot be read, or only in part (")
