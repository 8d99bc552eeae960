"""Every setting, in one place: what it is called, what it means, what is accepted, and where it was given."""

from exporter.settings.credentials import KeyFile, KeySource
from exporter.settings.entries import Account
from exporter.settings.fields import Listen, parse_listen
from exporter.settings.loading import listening_address, load_settings
from exporter.settings.model import Settings
from exporter.settings.table import settings_table

__all__ = [
    "Account",
    "KeyFile",
    "KeySource",
    "Listen",
    "Settings",
    "listening_address",
    "load_settings",
    "parse_listen",
    "settings_table",
]
