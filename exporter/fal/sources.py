"""The sources by name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from exporter.errors import ConfigurationError
from exporter.fal.client import Client
from exporter.fal.focus_usage import FocusUsage
from exporter.fal.models import models
from exporter.fal.organization import organization
from exporter.fal.reading import UsageSource
from exporter.fal.reporting import ReportingUsage
from exporter.fal.serverless import serverless

SOURCES: Mapping[str, Callable[[Client], UsageSource]] = MappingProxyType(
    {
        "models": models,
        "serverless": serverless,
        "organization": organization,
        "reporting": ReportingUsage,
        "focus": FocusUsage,
    }
)

TELL_LIST_PRICES = frozenset({"models", "serverless", "focus"})
"""The sources that tell prices before discount."""


def usage_source(name: str, client: Client) -> UsageSource:
    """Return the source of a name, to be kept as long as the client.

    Raises:
        ConfigurationError: there is none of this name.
    """
    make = SOURCES.get(name)
    if make is None:
        raise ConfigurationError(f"there is no source {name!r}; the sources are {', '.join(SOURCES)}.")
    return make(client)
