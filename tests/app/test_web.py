import re
from pathlib import Path

import pytest
from app.conftest import MakeSettings
from structlog.testing import capture_logs

from exporter.app.administration import run_token
from exporter.app.serve import web_application
from exporter.errors import ConfigurationError
from exporter.settings import Listen
from exporter.settings.credentials import TokenFile, new_token, token_line


@pytest.mark.parametrize(
    ("host", "warned"),
    [("0.0.0.0", True), ("::", True), ("192.0.2.7", True), ("127.0.0.1", False), ("::1", False), ("localhost", False)],  # noqa: S104
)
def test_listening_to_others_without_tokens_is_warned_of_once_by_the_settings_name(
    settings: MakeSettings, tmp_path: Path, host: str, warned: bool  # noqa: FBT001  a case
) -> None:  # fmt: skip
    with capture_logs() as logs:
        web_application(settings(listen=Listen(host, 8080)), on_scrape=lambda _: None)
    assert ["FAL_EXPORTER_REST_TOKENS_FILE" in log["event"] for log in logs] == [True] * warned
    tokens = tmp_path / "tokens"
    tokens.write_text(token_line("me", new_token()))
    with capture_logs() as logs:
        web_application(settings(listen=Listen(host, 8080), rest_tokens_file=tokens), on_scrape=lambda _: None)
    assert logs == []


def test_a_new_token_is_printed_once_with_the_line_that_admits_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_token("grafana") == 0
    token, line = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"falx_[\w-]{43}", token)
    (tmp_path / "tokens").write_text(line)
    assert TokenFile(tmp_path / "tokens").name_of(token) == "grafana"
    assert token not in line


def test_a_name_that_cannot_stand_in_a_file_is_a_wrong_configuration() -> None:
    with pytest.raises(ConfigurationError, match="the name of a token is not a plain name"):
        run_token("two words")
