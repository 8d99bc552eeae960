import sys
from pathlib import Path

import programs
import pytest

MISSING = "no-such-program-anywhere"


def test_a_program_beside_the_running_python_is_found_though_nothing_is_activated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert programs.find("check-jsonschema") == str(Path(sys.executable).with_name("check-jsonschema"))


@pytest.mark.parametrize(
    ("package", "command"),
    [
        ("prometheus", "apt-get install --yes prometheus"),
        ("pip:check-jsonschema", f"{sys.executable} -m pip install 'check-jsonschema'"),
        ("pipx:checkov", "apt-get install --yes pipx && pipx install checkov"),
    ],
)
def test_what_is_missing_skips_a_test_with_the_command_that_installs_it(
    package: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    for need in (programs.required, programs.required_module):
        with pytest.raises(pytest.skip.Exception) as skipped:
            need(MISSING, package)
        assert str(skipped.value).startswith(f"{MISSING} is missing: ")
        assert str(skipped.value).endswith(command)


def test_what_is_missing_fails_where_everything_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="is missing: "):
        programs.required(MISSING, "prometheus")
