"""Commands and keys: whoever asks fal nothing works where no key is, such as in a job that backs the ledger up."""

import os
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from exporter.cli import commands, main
from exporter.cli.help import SettingsCommand

NEED_KEYS = {"serve", "check", "focus fetch"}


def with_settings(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield every command that takes the flags of serve, by what is typed for it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from with_settings(command, f"{before}{name} ")
        elif isinstance(command, SettingsCommand):
            yield before + name, command


FOUND = dict(with_settings(commands))
ARGUMENTS = {"source": "sqlite:///absent", "service": "datadog"}
OPTIONS = {"focus fetch": ["--month", "2026-10"], "focus export": ["--month", "2026-10"]}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run each command in an empty folder, without a setting."""
    for name in os.environ:
        if name.startswith("FAL_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", sorted(FOUND))
def test_a_key_is_asked_for_only_where_fal_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        ARGUMENTS.get(parameter.name or "", "absent")
        for parameter in FOUND[name].params
        if isinstance(parameter, click.Argument) and parameter.required
    ]
    code = main([*name.split(), *arguments, *OPTIONS.get(name, [])])
    said = capsys.readouterr().err
    assert code
    assert ("no key is set" in said) is (name in NEED_KEYS), said
    assert "see fal-exporter" not in said, "the command line itself is wrong"


def test_what_does_not_ask_fal_reads_a_configuration_whose_secrets_are_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fal.yaml").write_text(
        "accounts: [{name: studio, key_file: /absent/key}, {name: legacy, key_env: ABSENT}]\n", encoding="utf-8"
    )
    assert main(["ledger", "verify", "--config-file", "fal.yaml"]) == 1
    assert "there is no ledger sqlite:///fal-exporter.sqlite yet" in capsys.readouterr().err
    assert main(["check", "--config-file", "fal.yaml"]) == 2
    assert "names an environment variable that is not set" in capsys.readouterr().err
