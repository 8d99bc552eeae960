"""Every setting, in one place: its name, its meaning, what is accepted, and where it was given.

Lives here: the settings (`model`), what of them does not go together (`contradictions`), their types (`fields`,
`entries`, `credentials`), their names, texts and files (`parsing`), what of them processes are handed
(`plain`), their reading and what is said of wrong ones (`loading`), and the table and flags made from them (`table`).
May import: `charges`, `errors`, `logs`. Begin reading at `model`. Only `app` and `cli` read settings; other packages
are handed plain values. A name of this package is imported when it is first used: the processes that serve and collect
need neither the types of settings nor pydantic.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporter.settings.contradictions import Settings
    from exporter.settings.credentials import Account, KeyFile, KeySource
    from exporter.settings.loading import listening_address, load_settings
    from exporter.settings.parsing import Listen, parse_listen
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

_MODULES = {
    "Account": "credentials",
    "KeyFile": "credentials",
    "KeySource": "credentials",
    "Listen": "parsing",
    "Settings": "contradictions",
    "listening_address": "loading",
    "load_settings": "loading",
    "parse_listen": "parsing",
    "settings_table": "table",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
