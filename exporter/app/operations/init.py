"""`fal-exporter init`: a commented configuration file, validated before it is written, and tried afterwards."""

import os
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import NamedTuple

import click
import yaml
from pydantic import ValidationError

from exporter.errors import ConfigurationError
from exporter.settings import load_settings
from exporter.settings.entries import AccountEntry, BudgetEntry
from exporter.settings.loading import sentences
from exporter.settings.parsing import Origins
from exporter.unfinished import written_whole

_CONFIG_VARIABLE = "FAL_EXPORTER_CONFIG_FILE"
_BUDGET = "everything"
_OPTIONS = Origins(name="--account", key_file="--key-file", key_env="--key-env", amount="--budget")


class Answers(NamedTuple):
    """Answers to the questions of `init`; one of key_file and key_env is None."""

    output: Path
    account: str
    key_file: Path | None
    key_env: str | None
    budget: str


def run_init(answers: Answers, *, check: bool) -> int:
    """Write the file and return the exit code, that of `check` where it is run.

    Raises:
        ConfigurationError: an answer cannot be used; nothing is written then.
    """
    text = configuration(answers)
    try:
        with written_whole(answers.output) as file:
            file.write(text.encode())
    except OSError as error:
        raise ConfigurationError(f"--output: {answers.output} cannot be written ({error.strerror})") from None
    click.echo(f"Wrote {answers.output}. Run the exporter with it:")
    click.echo(f"\n  {_CONFIG_VARIABLE}={answers.output} fal-exporter serve\n")
    if not check:
        return 0
    settings = load_settings({"config_file": answers.output})
    from exporter.app.operations.check import run_check  # noqa: PLC0415  only where it is run

    return run_check(settings)


def configuration(answers: Answers) -> str:
    """Return the text of the file.

    Raises:
        ConfigurationError: an answer cannot be used.
    """
    try:
        budget = Decimal(answers.budget.strip().lstrip("$").replace(",", ""))
    except InvalidOperation:
        budget = Decimal(-1)
    if not budget.is_finite() or budget < 0:
        raise ConfigurationError(
            f'--budget: "{answers.budget}" is not an amount of US dollars; write it like 1500, or 0 for none'
        )
    name = _quoted(answers.account)
    if answers.key_env is not None:
        if not os.environ.get(answers.key_env):
            raise ConfigurationError(
                f"--key-env: the environment variable {answers.key_env} is not set; set it to the key, or give "
                "--key-file"
            )
        # The variable FAL_KEY is read by itself, and stands beside no list of accounts.
        account = _IN_FAL_KEY if answers.key_env == "FAL_KEY" else _IN_VARIABLE
    elif answers.key_file is None or not answers.key_file.is_file():
        raise ConfigurationError(f"--key-file: {answers.key_file} is not a file; write the key into it, on one line")
    else:
        account = _IN_FILE
    try:
        AccountEntry(name=answers.account, key_file=answers.key_file, key_env=answers.key_env)
        if budget:
            BudgetEntry(name=_BUDGET, amount=budget)
    except ValidationError as error:
        raise ConfigurationError(next(sentences(error, _OPTIONS))) from None
    account = account.format(name=name, variable=_quoted(answers.key_env or ""), file=_quoted(str(answers.key_file)))
    budgets = (
        f"\nbudgets:\n  - name: {_BUDGET}\n    # US dollars a month.\n    amount: {budget:f}\n"
        if budget
        else "\n# budgets:\n#   - name: everything\n#     # US dollars a month.\n#     amount: 1500\n"
    )
    return _TEXT.format(account=account, budgets=budgets)


def _quoted(text: str) -> str:
    """Return a text as a YAML scalar, with quotes where it needs them."""
    return yaml.safe_dump(text, allow_unicode=True, width=10_000).removesuffix("...\n").strip()


_IN_FAL_KEY = """\
# Name of the account: the value of the label account. Its key is in the environment variable FAL_KEY.
account: {name}
"""
_IN_FILE = """\
# Name of the account: the value of the label account.
account: {name}
# File that holds the key; read again when it changes.
key_file: {file}
"""
_IN_VARIABLE = """\
accounts:
  # Name of the account: the value of the label account.
  - name: {name}
    # The environment variable that holds the key.
    key_env: {variable}
"""
_TEXT = """\
# Configuration of fal-exporter. Use it with FAL_EXPORTER_CONFIG_FILE=THIS_FILE, or --config-file THIS_FILE.
# Flags and environment variables win over this file. What is commented out shows its default.

{account}
# What to poll: auto, or some of models,serverless,compute, or one of organization, reporting and focus.
# sources: auto

# US dollars: the balance at which fal locks the account.
# credit_floor: 0
{budgets}
# Address of /metrics, REST and the page.
# listen: 0.0.0.0:8080

# The ledger: a SQLite file, or postgresql://user:password@host/database.
# ledger_url: sqlite:///fal-exporter.sqlite

# Time zone of "today" and "month".
# timezone: UTC

# How much of the past to load at the first start; auto is since the start of the previous month.
# history: auto
"""
