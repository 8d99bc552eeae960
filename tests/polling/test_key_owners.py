"""No fal account is polled under two names, however that comes to be known."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest
from polling.conftest import Clock, opened_bench
from pydantic import SecretStr

from exporter.errors import ConfigurationError
from exporter.fal import Client, Limits, Silent
from exporter.fal.errors import ServerError
from exporter.ledger import Ledger, Rules
from exporter.ledger.maintenance.renaming import rename_account
from exporter.polling.async_ledger import AsyncLedger
from exporter.polling.key_owners import KeyOwners, OtherAccountError, SharedAccountError
from exporter.simulator import ADMIN_KEY, API_KEY, Fault, Key, RunningSimulator

SECOND = "second-id:00000000000000000000000000000004"
BILLING = "/v1/account/billing"


@pytest.fixture
def team(fal: RunningSimulator) -> Callable[[str], None]:
    """Let the second key belong to a team; empty for the one that the first key belongs to."""

    def belongs(to: str) -> None:
        fal.simulator.keys = {key.text: key for key in (Key(ADMIN_KEY), Key(API_KEY, "api"), Key(SECOND, team=to))}

    belongs("")
    return belongs


@asynccontextmanager
async def opened_owners(
    fal: RunningSimulator, clock: Clock, folder: Path, patience: float = 60, /, **key_of: Callable[[], SecretStr]
) -> AsyncIterator[KeyOwners]:
    ledger = AsyncLedger()
    await ledger.open(lambda: Ledger(f"sqlite:///{folder / 'ledger.sqlite'}", rules=Rules(), clock=clock))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(ledger.close)
        clients = []
        for account, key in key_of.items():
            client = Client(
                account=account,
                key=key,
                observer=Silent(),
                platform_url=fal.platform_url,
                reporting_url=fal.reporting_url,
                limits=Limits(attempts=1),
                now=clock,
            )
            stack.push_async_callback(client.aclose)
            clients.append(client)
        owners = KeyOwners(clients, ledger, clock, patience=patience)
        await owners.recall()
        yield owners


def always(key: str) -> Callable[[], SecretStr]:
    return lambda: SecretStr(key)


async def test_one_key_in_two_accounts_is_refused_at_the_start(
    fal: RunningSimulator, clock: Clock, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match='the accounts "studio" and "ads" have the same key') as caught:
        async with opened_owners(fal, clock, tmp_path, studio=always(ADMIN_KEY), ads=always(ADMIN_KEY)):
            pass
    assert ADMIN_KEY.partition(":")[2] not in str(caught.value)
    assert fal.simulator.seen.total() == 0


async def test_two_keys_of_one_fal_account_are_found_when_fal_tells_and_refused_at_the_next_start(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, team: Callable[[str], None]
) -> None:
    keys = {"studio": always(ADMIN_KEY), "ads": always(SECOND)}
    username = fal.simulator.account.world.teams[0]
    sentence = f'the keys of the accounts "studio" and "ads" both belong to the fal account "{username}"'
    async with opened_owners(fal, clock, tmp_path, **keys) as owners:
        for _ in range(2):
            with pytest.raises(SharedAccountError, match=sentence):
                await owners.confirm("ads")  # before the first has been asked for
            await owners.confirm("studio")
        assert fal.simulator.seen[BILLING] == 2, "each is asked once"
    with pytest.raises(ConfigurationError, match=sentence):
        async with opened_owners(fal, clock, tmp_path, **keys):
            pass
    # With a key of another account it is well again, and a key that is asked for the first time is no reason to refuse.
    team("another")
    async with opened_owners(fal, clock, tmp_path, studio=always(ADMIN_KEY), ads=always(API_KEY)) as owners:
        await owners.confirm("ads")


async def test_keys_of_different_fal_accounts_are_fine(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, team: Callable[[str], None]
) -> None:
    team("another")
    for _ in range(2):
        async with opened_owners(fal, clock, tmp_path, studio=always(ADMIN_KEY), ads=always(SECOND)) as owners:
            await owners.confirm("studio")
            await owners.confirm("ads")
    assert fal.simulator.seen[BILLING] == 2, "the ledger keeps the answers"


async def test_a_key_that_is_exchanged_while_running_is_asked_anew(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, team: Callable[[str], None]
) -> None:
    team("another")
    key = SECOND
    async with opened_owners(fal, clock, tmp_path, studio=always(ADMIN_KEY), ads=lambda: SecretStr(key)) as owners:
        await owners.confirm("ads")
        key = ADMIN_KEY
        with pytest.raises(SharedAccountError, match='"studio" and "ads" have the same key'):
            await owners.confirm("ads")
        await owners.confirm("studio")
        key = SECOND
        await owners.confirm("ads")


async def test_a_key_to_which_fal_tells_nothing_is_asked_once_an_hour(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, team: Callable[[str], None]
) -> None:
    del team
    async with opened_owners(fal, clock, tmp_path, studio=always(API_KEY), ads=always(SECOND)) as owners:
        for _ in range(3):
            await owners.confirm("ads")
        assert fal.simulator.seen[BILLING] == 2
        clock.forward(minutes=60)
        await owners.confirm("studio")
        assert fal.simulator.seen[BILLING] == 3


async def test_while_it_cannot_be_asked_whose_key_it_is_its_account_is_not_polled(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, team: Callable[[str], None]
) -> None:
    team("another")
    fal.simulator.faults.add(Fault("server_error", path=BILLING))
    async with opened_owners(fal, clock, tmp_path, studio=always(ADMIN_KEY), ads=always(SECOND)) as owners:
        with pytest.raises(ServerError):
            await owners.confirm("ads")
        fal.simulator.faults.clear()
        await owners.confirm("ads")


async def test_a_single_account_is_asked_for_once_and_polled_whatever_fal_says(
    fal: RunningSimulator, clock: Clock, tmp_path: Path
) -> None:
    fal.simulator.faults.add(Fault("server_error", path=BILLING, times=1))
    async with opened_owners(fal, clock, tmp_path, studio=always(ADMIN_KEY)) as owners:
        asked = []
        for minutes in (0, 30, 30, 60, 600):
            clock.forward(minutes=minutes)
            await owners.confirm("studio")
            asked.append(fal.simulator.seen[BILLING])
        assert asked == [1, 1, 2, 2, 2], "an hour after it could not be asked"
    async with opened_owners(fal, clock, tmp_path, studio=always(ADMIN_KEY)) as owners:
        await owners.confirm("studio")
    assert fal.simulator.seen[BILLING] == 2, "the ledger keeps the answer"


async def test_a_key_of_another_fal_account_is_refused_under_a_name_that_has_been_polled(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, team: Callable[[str], None]
) -> None:
    team("another")
    first = fal.simulator.account.world.teams[0]
    sentence = (
        f'the key of the account "studio" belongs to the fal account "another", but the ledger has the charges of the '
        f'fal account "{first}" under this name'
    )
    async with opened_owners(fal, clock, tmp_path, studio=always(ADMIN_KEY)) as owners:
        await owners.confirm("studio")
    for _ in range(2):  # what was refused is not kept
        async with opened_owners(fal, clock, tmp_path, studio=always(SECOND)) as owners:
            fal.simulator.faults.add(Fault("server_error", path=BILLING, times=1))
            with pytest.raises(ServerError):
                await owners.confirm("studio")
            for _ in range(2):
                with pytest.raises(OtherAccountError, match=sentence):
                    await owners.confirm("studio")
    # The account's own key, another one of the same account, and one that fal tells nothing.
    team(first)
    for key in (ADMIN_KEY, SECOND, API_KEY):
        async with opened_owners(fal, clock, tmp_path, studio=always(key)) as owners:
            await owners.confirm("studio")
    address = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    with closing(Ledger(address, rules=Rules(), clock=clock)) as ledger:
        ledger.activate({"studio": ("models",)})
    rename_account(address, "studio", "main", now=clock())
    team("another")
    async with opened_owners(fal, clock, tmp_path, main=always(SECOND)) as owners:
        await owners.confirm("main")


async def test_keys_that_have_been_exchanged_between_two_accounts_are_refused_in_both(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, team: Callable[[str], None]
) -> None:
    team("another")
    async with opened_owners(fal, clock, tmp_path, studio=always(ADMIN_KEY), ads=always(SECOND)) as owners:
        await owners.confirm("studio")
        await owners.confirm("ads")
    async with opened_owners(fal, clock, tmp_path, studio=always(SECOND), ads=always(ADMIN_KEY)) as owners:
        for account in ("studio", "ads"):
            with pytest.raises(OtherAccountError, match=f'the key of the account "{account}" belongs to'):
                await owners.confirm(account)
    async with opened_owners(fal, clock, tmp_path, studio=always(ADMIN_KEY), ads=always(SECOND)) as owners:
        await owners.confirm("ads")


@pytest.mark.usefixtures("team")
async def test_a_name_that_was_given_a_key_of_another_by_mistake_takes_the_right_one(
    fal: RunningSimulator, clock: Clock, tmp_path: Path
) -> None:
    async with opened_owners(fal, clock, tmp_path, studio=always(ADMIN_KEY), ads=always(SECOND)) as owners:
        await owners.confirm("studio")
        with pytest.raises(SharedAccountError):
            await owners.confirm("ads")
        # Nothing has been read under it, though the ledger knows whose its key was.
        third = "third-id:00000000000000000000000000000005"
        fal.simulator.keys[third] = Key(third, team="another")
    async with opened_owners(fal, clock, tmp_path, studio=always(ADMIN_KEY), ads=always(third)) as owners:
        await owners.confirm("ads")


async def test_all_polls_of_the_second_account_fail_with_both_names(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, team: Callable[[str], None]
) -> None:
    del team
    beside = tmp_path / "owners"
    beside.mkdir()
    async with (
        opened_owners(fal, clock, beside, studio=always(SECOND), main=always(ADMIN_KEY)) as owners,
        opened_bench(fal, clock, tmp_path, owners=owners, price_models=("fal-ai/flux/dev",)) as bench,
    ):
        account = bench.account
        await account.poll_current()
        polls = (account.poll_balance, account.poll_invoices, account.poll_reconciliation, account.poll_names)
        for poll in (account.load_history, *polls):
            await poll()
        failing = {polled.name: polled for polled in account.polled if polled.name not in {"prices", "teams"}}
        assert failing.keys() == {"models", "serverless", "balance", "invoices", "reconciliation", "keys"}
        for polled in failing.values():
            assert (polled.state, polled.cause) == ("failing", "configuration")
            assert 'the keys of the accounts "studio" and "main" both belong to the fal account' in polled.problem
        view = await bench.view()
        assert (view.charges, view.balances) == (0, ())
    assert fal.simulator.seen.keys() == {BILLING}


async def test_an_account_of_which_fal_says_nothing_holds_up_no_other(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, team: Callable[[str], None]
) -> None:
    team("another")
    fal.simulator.faults.add(Fault("hang", path=BILLING, key_id=API_KEY.partition(":")[0]))
    keys = {"stuck": always(API_KEY), "ads": always(SECOND)}
    async with opened_owners(fal, clock, tmp_path, 0.05, **keys) as owners, asyncio.timeout(10):
        await owners.confirm("ads")
        await owners.confirm("ads")
    assert fal.simulator.seen[BILLING] == 2, "the one that hangs is asked once at a time"
