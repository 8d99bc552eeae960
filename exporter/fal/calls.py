"""What a call to fal is."""

from dataclasses import dataclass
from enum import StrEnum


class Host(StrEnum):
    """Which of fal's two hosts answers."""

    PLATFORM = "platform"
    REPORTING = "reporting"


class Scope(StrEnum):
    """What a key must be allowed to do for a call to succeed."""

    API = "api"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Call:
    """One of fal's interfaces; all are read with GET.

    Attributes:
        path: below the host's base URL; also the value of the `call` label.
    """

    host: Host
    path: str
    scope: Scope = Scope.ADMIN


Parameters = dict[str, str | list[str]]
"""A call's query; a list is sent as a repeated parameter."""
