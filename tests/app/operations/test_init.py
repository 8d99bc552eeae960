from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from e2e.processes import Fal

from exporter.cli import commands, main
from exporter.settings import load_settings
from exporter.simulator import ADMIN_KEY


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_three_answers_make_a_file_that_serve_reads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAL_KEY", ADMIN_KEY)
    done = CliRunner().invoke(commands, ["init", "--no-check"], input="studio: EU\nFAL_KEY\n$1,500.50\n")
    assert done.exit_code == 0, done.output
    text = (folder / "fal-exporter.yaml").read_text()
    assert ADMIN_KEY.partition(":")[2] not in text
    settings = load_settings({"config_file": folder / "fal-exporter.yaml"})
    (account,) = settings.accounts
    assert (account.name, account.key().get_secret_value()) == ("studio: EU", ADMIN_KEY)
    assert [(budget.name, budget.amount) for budget in settings.budgets] == [("everything", Decimal("1500.5"))]
    assert "FAL_EXPORTER_CONFIG_FILE=fal-exporter.yaml fal-exporter serve" in done.output


@pytest.mark.parametrize(("option", "field"), [("--key-file", "key_file"), ("--key-env", "key_env")])
def test_flags_answer_the_questions(folder: Path, monkeypatch: pytest.MonkeyPatch, option: str, field: str) -> None:
    (folder / "key").write_text(ADMIN_KEY)
    monkeypatch.setenv("STUDIO_KEY", ADMIN_KEY)
    place = {"key_file": str(folder / "key"), "key_env": "STUDIO_KEY"}[field]
    arguments = ["init", "--account", "studio", option, place, "--budget", "0", "--no-check", "--output", "a.yaml"]
    assert main(arguments) == 0
    settings = load_settings({"config_file": Path("a.yaml")})
    assert [(account.name, account.key().get_secret_value()) for account in settings.accounts] == [
        ("studio", ADMIN_KEY)
    ]
    assert settings.budgets == ()
    assert "budgets" not in yaml.safe_load(Path("a.yaml").read_text())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--key-env", "NOT_SET"], "--key-env: the environment variable NOT_SET is not set"),
        (["--key-file", "missing"], "--key-file: missing is not a file"),
        (["--key-env", "STUDIO_KEY", "--budget", "much"], '--budget: "much" is not an amount of US dollars'),
        (["--key-env", "STUDIO_KEY", "--budget", "-1"], '--budget: "-1" is not an amount of US dollars'),
        (["--key-env", "STUDIO_KEY", "--budget", "1e400"], "--budget: "),
        (["--key-env", "STUDIO_KEY", "--budget", "0.0000000001"], "--budget: "),
        (["--key-env", "STUDIO_KEY", "--account", ""], "--account: "),
        (["--key-env", "STUDIO_KEY", "--account", "a\nb"], "--account: "),
        (["--key-env", "STUDIO_KEY", "--output", "no/folder.yaml"], "--output: no/folder.yaml cannot be written"),
        (["--key-env", "STUDIO_KEY", "--key-file", "f"], "--key-file and --key-env are both given"),
    ],
)
def test_an_answer_that_cannot_be_used_is_named_and_nothing_is_written(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.setenv("STUDIO_KEY", ADMIN_KEY)
    usual = ["init", "--account", "a", "--no-check", *([] if "--budget" in arguments else ["--budget", "0"])]
    assert main([*usual, *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert not [*folder.glob("*.yaml")]


def test_a_file_that_is_there_is_kept_unless_forced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAL_KEY", ADMIN_KEY)
    (folder / "fal-exporter.yaml").write_text("mine")
    answers = ["init", "--account", "a", "--key-env", "FAL_KEY", "--budget", "0", "--no-check"]
    assert main(answers) == 2
    assert (folder / "fal-exporter.yaml").read_text() == "mine"
    assert main([*answers, "--force"]) == 0
    assert yaml.safe_load((folder / "fal-exporter.yaml").read_text()) == {"account": "a"}


def test_the_key_is_tried_at_the_end(
    fal: Fal, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAL_KEY", ADMIN_KEY)
    monkeypatch.setenv("FAL_EXPORTER_PLATFORM_URL", fal.running.platform_url)
    monkeypatch.setenv("FAL_EXPORTER_REPORTING_URL", fal.running.reporting_url)
    monkeypatch.setenv("FAL_EXPORTER_LISTEN", "127.0.0.1:0")
    monkeypatch.setenv("FAL_EXPORTER_MCP_LISTEN", "off")
    assert main(["init", "--account", "studio", "--key-env", "FAL_KEY", "--budget", "0"]) == 0
    assert "Verdict: studio is ready; serve will poll " in capsys.readouterr().out
