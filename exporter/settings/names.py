"""How a setting is called: in the environment, as a flag, and in the configuration file."""

from difflib import get_close_matches

ENVIRONMENT_PREFIX = "FAL_EXPORTER_"

_FAL_NAMES = {"key": "FAL_KEY", "key_file": "FAL_KEY_FILE"}
"""Settings that go by the names fal's own clients use."""

FILE_ONLY = frozenset({"entries", "budgets"})
"""Settings with a structure that only a file can give."""

NEVER_A_FLAG = frozenset({"key"}) | FILE_ONLY
"""A key on a command line would be visible to every user of the machine."""

NEVER_IN_FILE = frozenset({"config_file"})

_LIKENESS = 0.62
"""Below it two names, of all that end in `_file` for example, are not alike enough to be taken for each other."""


def environment_name(field: str) -> str:
    """Return the environment variable of a setting."""
    return _FAL_NAMES.get(field) or ENVIRONMENT_PREFIX + field.upper()


def file_name(field: str) -> str:
    """Return the key of a setting in the configuration file."""
    return "accounts" if field == "entries" else field


def flag_name(field: str) -> str:
    """Return the flag of a setting."""
    return "--" + field.replace("_", "-")


def nearest(name: str, known: list[str]) -> str | None:
    """Return the known name that an unknown one was probably meant to be."""
    matches = get_close_matches(name, known, n=1, cutoff=_LIKENESS)
    return matches[0] if matches else None


class Origins(dict[str, str]):
    """How the user wrote each setting, by field; one that was not written goes by its environment variable."""

    def __missing__(self, field: str) -> str:
        return file_name(field) if field in FILE_ONLY else environment_name(field)
