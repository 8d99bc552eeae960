"""Every setting, in one place: its name, its meaning, what is accepted, and where it was given.

Lives here: the settings (`model`), what of them does not go together (`contradictions`), their types (`fields`,
`entries`, `credentials`), their reading and what is said of wrong ones (`loading`), and the table and flags made from
them (`table`). May import: `charges`, `errors`, `logs`. Begin reading at `model`. Only `app` and `cli` read settings;
other packages are handed plain values.
"""

from exporter.settings.contradictions import Settings
from exporter.settings.credentials import KeyFile, KeySource
from exporter.settings.entries import Account
from exporter.settings.fields import Listen, parse_listen
from exporter.settings.loading import listening_address, load_settings
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
