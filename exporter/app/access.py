"""Access to what is served: the files and settings that say who may ask, made once for REST, scrapes and MCP."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from exporter.errors import ConfigurationError
from exporter.settings.credentials import TokenFile
from exporter.settings.parsing import environment_name, is_loopback
from exporter.web.admission import WebConfigFile
from exporter.web.callers import Callers, Hosts

if TYPE_CHECKING:
    from exporter.settings import Settings

_log = structlog.get_logger(__name__)

REST = "REST and the landing page"
MCP = "MCP"


@dataclass(frozen=True, slots=True)
class Access:
    """Permission to ask.

    Attributes:
        web_config: TLS, users, headers and the rate limit of everything; None for none.
        rest, metrics, mcp: the tokens of each; None where none are needed.
        is_open: whether callers of other machines are answered without credentials.
    """

    web_config: WebConfigFile | None
    rest: TokenFile | None
    metrics: TokenFile | None
    mcp: TokenFile | None
    is_open: bool

    @classmethod
    def of(cls, settings: "Settings") -> "Access":
        """Read the files that the settings name.

        Raises:
            ConfigurationError: one of them cannot be used any more.
        """
        access = cls(
            web_config=_web_config(settings.web_config_file),
            rest=_tokens(settings.rest_tokens_file),
            metrics=_tokens(settings.metrics_tokens_file),
            mcp=_tokens(settings.mcp_tokens_file),
            is_open=settings.open,
        )
        for what, tokens, address in ((REST, access.rest, settings.listen), (MCP, access.mcp, settings.mcp_listen)):
            if (
                settings.open
                and tokens is None
                and not access.asks_everybody
                and address is not None
                and not is_loopback(address.host)
            ):
                _log.warning(f"{what}: open to anyone who can reach the port", setting=environment_name("open"))
        return access

    @property
    def asks_everybody(self) -> bool:
        """True if the web configuration asks all callers for credentials."""
        return self.web_config is not None and self.web_config.asks_for_credentials

    @property
    def files(self) -> Mapping[str, WebConfigFile | TokenFile]:
        """The files in use, by their settings."""
        named = {
            "web_config_file": self.web_config,
            "rest_tokens_file": self.rest,
            "metrics_tokens_file": self.metrics,
            "mcp_tokens_file": self.mcp,
        }
        return {setting: file for setting, file in named.items() if file is not None}

    def callers_of_rest(self, names: tuple[str, ...]) -> Callers:
        """Return who may ask REST and see the landing page, under some names of hosts."""
        return self._callers(REST, self.rest, "rest_tokens_file", Hosts(names))

    def callers_of_mcp(self) -> Callers:
        """Return who may ask MCP, which checks the names of hosts by itself."""
        return self._callers(MCP, self.mcp, "mcp_tokens_file", None)

    def _callers(self, what: str, tokens: TokenFile | None, setting: str, hosts: Hosts | None) -> Callers:
        return Callers(
            what=what,
            credentials=f"{environment_name(setting)}, {environment_name('web_config_file')} with users",
            has_credentials=lambda: tokens is not None or self.asks_everybody,
            is_open=self.is_open,
            hosts=hosts,
        )


def _tokens(path: Path | None) -> TokenFile | None:
    return None if path is None else TokenFile(path)


def _web_config(path: Path | None) -> WebConfigFile | None:
    if path is None:
        return None
    try:
        return WebConfigFile(path)
    except ValueError as error:
        raise ConfigurationError(f'{environment_name("web_config_file")}: "{path}" {error}') from None
