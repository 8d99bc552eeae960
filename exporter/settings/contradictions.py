"""Contradictions: settings that are valid each by itself and do not go together."""

from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from typing import ClassVar, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from exporter.settings.entries import AccountEntry, KeylessEntry
from exporter.settings.model import SettingFields
from exporter.settings.parsing import format_duration, is_loopback
from exporter.tags import TAG


class Contradiction(ValueError):  # noqa: N818  it reads as what it is
    """Settings that do not go together: a whole sentence, with `{field}` where a setting is to be named."""


class Settings(SettingFields):  # type: ignore[explicit-any]  # in the initialiser mypy derives from pydantic's base
    """The settings of the exporter, which go together."""

    needs_keys: ClassVar[bool] = True

    @model_validator(mode="after")
    def _one_way_to_keys(self) -> Self:
        if self.entries:
            for single in ("key", "key_file", "account"):
                if single in self.model_fields_set:
                    raise Contradiction(f"{{{single}}} and {{entries}} are both set; keep only one of them")
            for name, count in Counter(entry.name for entry in self.entries).items():
                if count > 1:
                    raise Contradiction(
                        f'{{entries}}: the name "{_shown(name)}" is given to {count} accounts; give each account its '
                        "own name"
                    )
            if self.needs_keys:
                self._one_account_a_key()
        elif self.key is not None and self.key_file is not None:
            raise Contradiction("{key} and {key_file} are both set; keep only one of them")
        elif self.needs_keys and self.key is None and self.key_file is None:
            raise Contradiction(
                "no key is set; set FAL_KEY or FAL_KEY_FILE, or list accounts in the file that "
                "FAL_EXPORTER_CONFIG_FILE names"
            )
        return self

    def _one_account_a_key(self) -> None:
        names: dict[str, str] = {}
        for entry in self.entries:
            other = names.setdefault(entry.key_source()().get_secret_value(), entry.name)
            if other != entry.name:
                raise Contradiction(
                    f'{{entries}}: the accounts "{_shown(other)}" and "{_shown(entry.name)}" have the same key, so '
                    "everything would be counted twice; remove one of them, or give it its own key"
                )

    @model_validator(mode="after")
    def _keys_travel_encrypted(self) -> Self:
        for name in ("platform_url", "reporting_url"):
            url = urlsplit(getattr(self, name))
            if url.scheme == "http" and not self.allow_http and not is_loopback(url.hostname or ""):
                raise Contradiction(
                    f"{{{name}}} begins with http:// and leads to another machine, so that the key would travel "
                    "unencrypted; write https://, or set {allow_http} to true"
                )
        return self

    @model_validator(mode="after")
    def _budgets_fit(self) -> Self:
        for name, count in Counter(budget.name for budget in self.budgets).items():
            if count > 1:
                raise Contradiction(
                    f'{{budgets}}: the name "{_shown(name)}" is given to {count} budgets; give each budget its own name'
                )
        names = [entry.name for entry in self.entries] or [self.account]
        for budget in self.budgets:
            globs = budget.match.get("account", ("*",))
            if not any(fnmatchcase(name, glob) for name in names for glob in globs):
                raise Contradiction(
                    f'{{budgets}}: the budget "{_shown(budget.name)}" matches none of the accounts '
                    f"({_shown(', '.join(names))}); use the names of configured accounts"
                )
            for label in budget.match:
                if label.startswith(TAG) and label.removeprefix(TAG) not in self.tags:
                    raise Contradiction(
                        f'{{budgets}}: the budget "{_shown(budget.name)}" matches {label}, by which spend is not '
                        "read; add its key to FAL_EXPORTER_TAGS"
                    )
        return self

    @model_validator(mode="after")
    def _requests_have_a_place(self) -> Self:
        if self.events and not self.requests_url:
            raise Contradiction(
                "{events} is true, and a ledger in PostgreSQL has no folder beside it; set {events_url}, for example "
                "to file:///var/lib/fal-exporter/requests"
            )
        return self

    @model_validator(mode="after")
    def _bookings_have_requests(self) -> Self:
        if self.booked_source is not None and not self.events:
            raise Contradiction(
                "{booked_source} is set, and there are no single requests to compare it with; set {events} to true"
            )
        return self

    @model_validator(mode="after")
    def _replicas_share_a_server(self) -> Self:
        if self.replicated and self.ledger_url.get_secret_value().startswith("sqlite"):
            raise Contradiction(
                "{replicated} is true, and {ledger_url} is a SQLite file, which only one exporter can use; set "
                "{ledger_url} to postgresql://..., or {replicated} to false"
            )
        return self

    @model_validator(mode="after")
    def _division_is_of_replicas(self) -> Self:
        if self.divide_polling and not self.replicated:
            raise Contradiction(
                "{divide_polling} is true, and a single exporter asks fal for all accounts; set {replicated} to true, "
                "or {divide_polling} to false"
            )
        return self

    @model_validator(mode="after")
    def _standby_is_of_a_server(self) -> Self:
        if self.ledger_read_url is not None:
            addresses = (self.ledger_url, self.ledger_read_url)
            if any(address.get_secret_value().startswith("sqlite") for address in addresses):
                raise Contradiction(
                    "{ledger_read_url} names a standby of a ledger in PostgreSQL, and a SQLite file has none; set both "
                    "{ledger_url} and {ledger_read_url} to postgresql://..., or leave {ledger_read_url} out"
                )
        return self

    @model_validator(mode="after")
    def _uploads_are_remembered(self) -> Self:
        if self.focus_upload and not self.ledger_url.get_secret_value().startswith("sqlite"):
            raise Contradiction(
                "{focus_upload} keeps what was uploaded in a file beside a ledger in SQLite, and this ledger is in "
                "PostgreSQL; run `fal-exporter focus upload SERVICE --state FILE` on a schedule instead"
            )
        return self

    @model_validator(mode="after")
    def _remote_write_fits(self) -> Self:
        given = [
            name
            for name in self.model_fields_set
            if name.startswith("remote_write_") and getattr(self, name) != type(self).model_fields[name].default
        ]
        if self.remote_write_url is None and given:
            raise Contradiction(
                f"{{{min(given)}}} is set, and {{remote_write_url}} is not, so that nothing is sent; set it, or "
                "remove the other"
            )
        if (self.remote_write_user is None) != (self.remote_write_password is None):
            raise Contradiction("{remote_write_user} and {remote_write_password} go together; set both, or neither")
        if self.remote_write_user is not None and self.remote_write_token is not None:
            raise Contradiction("{remote_write_user} and {remote_write_token} are both set; keep only one of them")
        if self.remote_write_key_file is not None and self.remote_write_cert_file is None:
            raise Contradiction("{remote_write_key_file} is set without {remote_write_cert_file}; set both, or neither")
        url = urlsplit(self.remote_write_url or "")
        has_secrets = self.remote_write_token or self.remote_write_password
        if has_secrets and url.scheme == "http" and not self.allow_http and not is_loopback(url.hostname or ""):
            raise Contradiction(
                "{remote_write_url} begins with http:// and leads to another machine, so that the credentials would "
                "travel unencrypted; write https://, or set {allow_http} to true"
            )
        return self

    @model_validator(mode="after")
    def _durations_fit(self) -> Self:
        for shorter, longer in (
            ("recent_window", "deep_window"),
            ("settle_delay", "deep_window"),
            ("deep_window", "retention"),
            ("history", "retention"),
            ("settle_delay", "events_retention"),
            ("request_timeout", "poll_deadline"),
        ):
            short, long = getattr(self, shorter), getattr(self, longer)
            if short is not None and short > long:
                raise Contradiction(
                    f"{{{shorter}}} ({format_duration(short)}) is longer than {{{longer}}} ({format_duration(long)}); "
                    "shorten the first or lengthen the second"
                )
        return self


class KeylessSettings(Settings):  # type: ignore[explicit-any]  # as above
    """The settings of a command that asks nobody anything: no key need be set, and none is read."""

    needs_keys: ClassVar[bool] = False
    entry_type: ClassVar[type[AccountEntry]] = KeylessEntry

    key_file: Path | None = None
    entries: tuple[KeylessEntry, ...] = Field(default=(), validation_alias="accounts")


def _shown(text: str) -> str:
    """Return what a user wrote as it stands in a sentence whose braces name settings."""
    return text.replace("{", "{{").replace("}", "}}")
