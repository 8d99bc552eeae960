"""What the client tells about itself while it works."""

from typing import Protocol


class Observer(Protocol):
    """Hears of every request; called on the event loop, so it must be quick and must not raise."""

    def answered(self, account: str, call: str, code: str, seconds: float) -> None:
        """One request has ended: `code` is the HTTP status, or `error` when no whole answer came."""

    def retried(self, account: str, call: str) -> None:
        """A request is about to be made again."""

    def locked(self, account: str, reason: str) -> None:
        """The account is locked for a reason (one of `LOCK_REASONS`) that was not known before."""

    def unlocked(self, account: str) -> None:
        """The account is no longer locked for the reasons told so far; one that still holds is told again at once."""


class Silent:
    """An observer that keeps everything to itself."""

    def answered(self, account: str, call: str, code: str, seconds: float) -> None:
        """Ignore it."""

    def retried(self, account: str, call: str) -> None:
        """Ignore it."""

    def locked(self, account: str, reason: str) -> None:
        """Ignore it."""

    def unlocked(self, account: str) -> None:
        """Ignore it."""
