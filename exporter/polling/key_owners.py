"""Owners of the accounts' keys: no fal account is polled under two names, and no two under one.

Two names for one fal account would publish its spend twice in every sum over accounts. That two accounts have the same
key is seen at once. That two keys belong to the same fal account is known once fal has told the username of both; the
ledger keeps it, so that the next start is refused.

A name whose key is exchanged for one of another fal account would mix the charges of both: hours that are read again
would be of the other account, earlier ones of the first, and the difference would be counted as new spend. So a new key
is polled with once fal has told whose it is; where fal does not tell it to such a key, it is taken for the same.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import combinations

from exporter.charges import Clock
from exporter.errors import ConfigurationError, LedgerError, UpstreamError
from exporter.fal import Client, read_username
from exporter.ledger import KeyOwner
from exporter.polling.async_ledger import AsyncLedger

_AGAIN_AFTER = timedelta(hours=1)
"""Age at which a key to which fal does not tell its username is asked again: its scope may have changed."""

_PATIENCE = 5.0
"""Seconds that an account's poll waits for what fal says of the accounts before it, all together."""


class SharedAccountError(UpstreamError):
    """Two configured accounts are the same fal account."""

    reason = "configuration"


class OtherAccountError(UpstreamError):
    """An account's key belongs to another fal account than what the ledger has of it."""

    reason = "configuration"


class KeyOwners:
    """Knows which fal account each configured account's key belongs to.

    Args:
        clients: one for each account, in the order of the configuration.
        ledger: where usernames are kept.
        clock: the time.
        patience: seconds that a poll waits for what fal says of the accounts before its own.
    """

    def __init__(
        self, clients: Sequence[Client], ledger: AsyncLedger, clock: Clock, *, patience: float = _PATIENCE
    ) -> None:
        self._patience = patience
        self._clients = {client.account: client for client in clients}
        self._ledger = ledger
        self._clock = clock
        self._kept: dict[str, KeyOwner] = {}
        self._owners: dict[str, KeyOwner] = {}
        self._asked_at: dict[str, datetime] = {}
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def recall(self) -> None:
        """Take up what the ledger knows.

        Raises:
            ConfigurationError: two accounts have the same key, or keys of the same fal account.
            LedgerError: the ledger cannot be read.
        """
        self._kept = {owner.account: owner for owner in await self._ledger.key_owners()}
        for account in self._clients:
            # A key that cannot be read now may be there later; the polls say what is wrong with it.
            with suppress(ConfigurationError):
                self._recall(account)
        for first, second in combinations(self._clients, 2):
            sentence = self._shared(first, second)
            if sentence:
                raise ConfigurationError(sentence)

    async def confirm(self, account: str) -> None:
        """See to it that an account is not polled under another name already, and that its name is not another's.

        Accounts that stand before it in the configuration are asked first, so that it is always the later one that
        fails; but one that does not answer holds up no other for long.

        Raises:
            SharedAccountError: an earlier account is the same.
            OtherAccountError: the ledger has charges of another fal account under its name.
            ApiError: who the key belongs to could not be asked.
            ConfigurationError: the key cannot be used.
            LedgerError: the answer cannot be kept.
        """
        unknown = [other for other in self._earlier(account) if not self._is_known(other)]
        if unknown:
            await asyncio.wait([self._asked(other) for other in unknown], timeout=self._patience)
        if len(self._clients) > 1 or self._is_exchanged(account):
            await self._learn(account)
        else:
            await self._learn_if_told(account)
        for other in self._earlier(account):
            sentence = self._shared(other, account)
            if sentence:
                raise SharedAccountError(sentence)
        if sentence := self._other(account):
            raise OtherAccountError(sentence)

    def _is_exchanged(self, account: str) -> bool:
        """Return whether the ledger knows whose another key of the account was."""
        kept = self._kept.get(account)
        return kept is not None and bool(kept.username) and kept.key_hash != self._recall(account).key_hash

    def _other(self, account: str) -> str:
        """Return a sentence if the ledger has the charges of another fal account under this name, else nothing."""
        owner = self._owners.get(account)
        kept = {name: self._kept[name].username for name in self._clients if name in self._kept}
        return "" if owner is None else other_account(account, owner.username, kept)

    async def _learn_if_told(self, account: str) -> None:
        """Learn whose key it is, so that another one is noticed; nothing waits for a call that fails."""
        try:
            await self._learn(account)
        except (UpstreamError, ConfigurationError):
            self._asked_at[account] = self._clock()

    def _is_known(self, account: str) -> bool:
        owner = self._owners.get(account)
        return owner is not None and bool(owner.username)

    def _asked(self, account: str) -> "asyncio.Task[None]":
        """Have an account asked on behalf of others, once at a time; its own polls report what is wrong with it."""
        asking = self._asking.get(account)
        if asking is None:
            asking = self._asking[account] = asyncio.create_task(self._learn_quietly(account))
            asking.add_done_callback(lambda _: self._asking.pop(account, None))
        return asking

    async def _learn_quietly(self, account: str) -> None:
        with suppress(UpstreamError, ConfigurationError, LedgerError):
            await self._learn(account)

    def _earlier(self, account: str) -> Iterator[str]:
        for name in self._clients:
            if name == account:
                return
            yield name

    def _recall(self, account: str) -> KeyOwner:
        """Return the owner of the account's key as it is now, as far as that is known; a new key has none yet."""
        key_hash = self._clients[account].key_hash()
        owner = self._owners.get(account)
        if owner is None or owner.key_hash != key_hash:
            kept = self._kept.get(account)
            owner = kept if kept is not None and kept.key_hash == key_hash else KeyOwner(account, key_hash, "")
            self._owners[account] = owner
            self._asked_at.pop(account, None)
        return owner

    async def _learn(self, account: str) -> None:
        async with self._turns[account]:
            owner = self._recall(account)
            asked_at = self._asked_at.get(account)
            now = self._clock()
            if owner.username or (asked_at is not None and now - asked_at < _AGAIN_AFTER):
                return
            username = await read_username(self._clients[account])
            self._asked_at[account] = now
            if username:
                self._owners[account] = KeyOwner(account, owner.key_hash, username)
                if not self._other(account):
                    await self._ledger.record_key_owner(self._owners[account])
                    self._kept[account] = self._owners[account]

    def _shared(self, first: str, second: str) -> str:
        """Return a sentence if two accounts are known to be the same fal account, else nothing."""
        one, other = self._owners.get(first), self._owners.get(second)
        if one is None or other is None:
            return ""
        if one.key_hash == other.key_hash:
            return shared_key(first, second)
        return shared_username(first, second, one.username) if one.username and one.username == other.username else ""


def shared_key(first: str, second: str) -> str:
    """Return the sentence on two accounts with one key."""
    return (
        f'the accounts "{first}" and "{second}" have the same key, so everything would be counted twice; remove one '
        "of them, or give it its own key"
    )


def other_account(account: str, username: str, kept: Mapping[str, str]) -> str:
    """Return a sentence if a key is of another fal account than what has been polled under a name, else nothing.

    Args:
        account: the name.
        username: of the fal account that its key belongs to; empty where that is not known.
        kept: the usernames that the ledger knows, by configured account.
    """
    before = kept.get(account, "")
    if not username or before in {"", username}:
        return ""
    # With a key of an account that has another name, too, nothing had been read.
    if any(other == before for name, other in kept.items() if name != account):
        return ""
    return (
        f'the key of the account "{account}" belongs to the fal account "{username}", but the ledger has the charges '
        f'of the fal account "{before}" under this name, and would mix them; give it a key of "{before}", or give '
        f'"{username}" a name of its own. If fal has renamed the account, stop the exporter, run '
        f"`fal-exporter ledger rename-account {account} NEW`, and configure the account under the new name"
    )


def shared_username(first: str, second: str, username: str) -> str:
    """Return the sentence on two accounts whose keys belong to the same fal account."""
    return (
        f'the keys of the accounts "{first}" and "{second}" both belong to the fal account "{username}", so '
        "everything would be counted twice; remove one of them, or give it a key of another fal account"
    )
