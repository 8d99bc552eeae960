"""Whether an account is locked, as told by fal's refusals.

At a balance of zero fal answers every call with 403 `User is locked. Reason: ...`. Users report calls that stay locked
after a top-up while others work again, so the state is kept per call: the account counts as locked until every call
that was refused for a lock has succeeded once more. Any other failure leaves the state as it is.
"""

import re

from exporter.fal.observer import Observer

LOCK_REASONS = ("exhausted_balance", "admin_lock", "top_up", "other")
"""Why an account can be locked: a closed set, fit for a label."""

_LOCKED = re.compile(r"\bis locked\b\.?(?:\s*Reason:\s*(?P<reason>[^.]*))?", re.IGNORECASE)


def lock_reason(message: str) -> str | None:
    """Tell from fal's message why the account is locked, or None if it does not speak of a lock."""
    locked = _LOCKED.search(message)
    if locked is None:
        return None
    word = re.sub(r"[\s_-]+", "_", (locked["reason"] or "").strip()).lower()
    return word if word in LOCK_REASONS else "other"


class Locks:
    """The calls of one account that were refused for a lock, and why."""

    def __init__(self, account: str, observer: Observer) -> None:
        self._account = account
        self._observer = observer
        self._calls: dict[str, str] = {}

    @property
    def reasons(self) -> frozenset[str]:
        """The reasons the account is locked for; empty when it is not locked."""
        return frozenset(self._calls.values())

    def refused(self, call: str, reason: str) -> None:
        """Remember that a call was refused for a lock."""
        self._change(self._calls | {call: reason})

    def succeeded(self, call: str) -> None:
        """Remember that a call works."""
        if call in self._calls:
            self._change({other: reason for other, reason in self._calls.items() if other != call})

    def _change(self, calls: dict[str, str]) -> None:
        told = self.reasons
        self._calls = calls
        now = self.reasons
        if told - now:
            self._observer.unlocked(self._account)
            told = frozenset()
        for reason in sorted(now - told):
            self._observer.locked(self._account, reason)
