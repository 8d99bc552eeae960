"""Who calls: the keys that the simulator accepts and what each may do."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from exporter.simulator.errors import ApiError

ADMIN_KEY = "simulator-admin:00000000000000000000000000000001"
"""An admin-scope key of the organization's root, accepted unless other keys are given."""

API_KEY = "simulator-api:00000000000000000000000000000002"
"""An API-scope key of the organization's root, accepted unless other keys are given."""

Scope = Literal["admin", "api"]


@dataclass(frozen=True, slots=True)
class Key:
    """A key that is accepted.

    Attributes:
        text: `id:secret`, as the Authorization header carries it after `Key `.
        scope: `admin` for everything, `api` for the calls that need no admin key.
        team: the team whose charges alone the key sees; empty for a key of the organization's root, which sees all.
    """

    text: str = field(repr=False)
    scope: Scope = "admin"
    team: str = ""


DEFAULT_KEYS = (Key(ADMIN_KEY), Key(API_KEY, "api"))


def by_text(keys: Iterable[Key]) -> dict[str, Key]:
    """Index keys by their text."""
    return {key.text: key for key in keys}


def authenticate(keys: Mapping[str, Key], authorization: str | None) -> Key:
    """Return the key that an Authorization header carries.

    Raises:
        ApiError: 401: there is no header, it is not of the `Key` scheme, or the key is not accepted.
    """
    scheme, _, text = (authorization or "").partition(" ")
    if not text:
        raise ApiError(401, "Authentication is required: send the header 'Authorization: Key <key_id>:<key_secret>'.")
    if scheme.lower() != "key":
        raise ApiError(401, f"Authorization scheme {scheme!r} is not supported, use 'Key'.")
    key = keys.get(text.strip())
    if key is None:
        raise ApiError(401, "Invalid API key.")
    return key


def need_admin(key: Key) -> None:
    """Refuse a key without admin scope.

    Raises:
        ApiError: 403.
    """
    if key.scope != "admin":
        raise ApiError(403, "This endpoint requires an admin-scope API key.")


def need_root(key: Key) -> None:
    """Refuse a key that is not an admin key of the organization's root team.

    Raises:
        ApiError: 403.
    """
    need_admin(key)
    if key.team:
        raise ApiError(403, "This endpoint requires an admin-scope API key of the organization's root team.")
