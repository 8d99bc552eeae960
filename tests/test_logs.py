import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator

import pytest
import structlog
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from exporter.logs import _CHATTY, _VERY_CHATTY, configure_logging, hide, redact, redact_loosely

SECRET = SecretStr("rotated-id:rotated-secret-value")
FAL_KEY = "1b2c3d4e-aaaa-bbbb-cccc-1234567890ab:0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    libraries = [logging.getLogger(name) for name in (*_CHATTY, *_VERY_CHATTY)]
    levels = [library.level for library in libraries]
    yield
    for library, its_level in zip(libraries, levels, strict=True):
        library.setLevel(its_level)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def configured(
    log_format: str = "json",
    level: str = "info",
    secrets: tuple[SecretStr, ...] = (),
    stream: io.StringIO | None = None,
) -> io.StringIO:
    stream = stream or io.StringIO()
    configure_logging(log_format=log_format, level=level, stream=stream, secrets=secrets)
    return stream


def test_an_event_is_one_json_object_a_line_with_a_utc_time() -> None:
    stream = configured()
    structlog.get_logger("exporter.polling").info("poll finished", account="Größe", rows=3)
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "poll finished",
        "level": "info",
        "logger": "exporter.polling",
        "account": "Größe",
        "rows": 3,
    }


def test_a_line_of_a_library_has_the_same_shape() -> None:
    stream = configured()
    logging.getLogger("uvicorn.error").warning(
        "started on %s", "port", extra={"port": 80, "color_message": "\x1b[36mport\x1b[0m"}
    )
    event = json.loads(stream.getvalue())
    assert event.pop("timestamp").endswith("Z")
    assert event == {"event": "started on port", "level": "warning", "logger": "uvicorn.error", "port": 80}


def test_text_is_plain_in_a_file_and_coloured_on_a_terminal() -> None:
    stream, terminal = configured("text"), Terminal()
    structlog.get_logger("exporter").info("poll finished", rows=3)
    (line,) = stream.getvalue().splitlines()
    assert line.endswith("poll finished [exporter] rows=3")
    configured("text", stream=terminal)
    structlog.get_logger("exporter").info("poll finished", rows=3)
    assert "\x1b[" in terminal.getvalue()


def test_what_is_below_the_level_is_not_written() -> None:
    stream = configured(level="warning")
    structlog.get_logger("exporter").info("quiet")
    logging.getLogger("uvicorn").info("quiet")
    structlog.get_logger("exporter").warning("loud")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]


def test_requests_are_not_logged_by_uvicorn_though_logging_is_configured_while_it_serves() -> None:
    configured(level="info")
    uvicorn.Config("exporter", log_config=None, access_log=False)
    stream = configured(level="info")
    # uvicorn asks this of every connection.
    assert not logging.getLogger("uvicorn.access").hasHandlers()
    logging.getLogger("uvicorn.access").info("GET /metrics")
    assert not stream.getvalue()


@pytest.mark.parametrize("logger", ["httpx", "asyncio", "apscheduler.executors.default"])
def test_chatter_of_libraries_is_kept_for_debug(logger: str) -> None:
    stream = configured(level="info")
    logging.getLogger(logger).info("HTTP Request: GET https://api.fal.ai")
    assert not stream.getvalue()
    stream = configured(level="debug")
    logging.getLogger(logger).info("HTTP Request: GET https://api.fal.ai")
    assert "HTTP Request" in stream.getvalue()


@pytest.mark.parametrize("logger", ["httpx", "asyncio", "uvicorn.error", "httpcore"])
def test_warnings_of_libraries_are_not_written_where_errors_alone_are(logger: str) -> None:
    stream = configured(level="error")
    logging.getLogger(logger).warning("something is odd")
    assert stream.getvalue() == ""
    logging.getLogger(logger).error("something is wrong")
    assert "something is wrong" in stream.getvalue()


def test_a_warning_of_python_is_logged() -> None:
    stream = configured()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("an old call", DeprecationWarning, stacklevel=1)
    assert "an old call" in json.loads(stream.getvalue())["event"]


def test_being_configured_twice_writes_once() -> None:
    configured()
    stream = configured()
    structlog.get_logger("exporter").info("once")
    assert len(stream.getvalue().splitlines()) == 1


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("terminal", [True, False])
def test_no_key_is_in_any_part_of_a_line(log_format: str, terminal: bool) -> None:  # noqa: FBT001  a parameter of the test
    stream = configured(log_format, "debug", (SECRET,), Terminal() if terminal else None)
    value = SECRET.get_secret_value()
    log = structlog.get_logger("exporter")
    event = f"event {value}"
    log.info(event, header=f"Key {FAL_KEY}", nested={"authorization": [value]}, half="rotated-secret-value")
    log.info("an unknown key of the usual shape", value=FAL_KEY)
    log.info("positional %s", value)
    logging.getLogger("library").error("header %s", {"Authorization": "Key some-id:some-secret-value"})
    try:
        int(f"{value} {FAL_KEY}")
    except ValueError:
        log.exception("failed")
        logging.getLogger("library").exception("failed")
    text = stream.getvalue()
    assert text.count("[redacted]") >= 10
    for secret in ("rotated-secret-value", "some-secret-value", FAL_KEY.partition(":")[2]):
        assert secret not in text


@given(st.from_regex(r"[0-9a-z-]{8,40}:[0-9a-zA-Z_]{16,64}", fullmatch=True), st.sampled_from(["", " ", '"', "'", "}"]))
def test_a_sent_key_never_survives(key: str, end: str) -> None:
    assert key.partition(":")[2] not in redact(f"Authorization: Key {key}{end}")
    assert key.partition(":")[2] not in redact_loosely(f"--sources {key}{end}")


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21T22:07:49Z poll finished",
        "https://api.fal.ai/v1 answered 500",
        "Key rejected: the key was revoked",
        "sqlite:////data/ledger.sqlite is locked",
        "[::1]:8080 and 127.0.0.1:8080",
        "fal-ai/flux/dev costs 0.025: an image",
        "postgresql://ledger:***@db/billing and s3://bucket/a:b@c",
        "http://127.0.0.1:8080/a@b and mailto: ada@example.com",
    ],
)
def test_ordinary_text_is_left_as_it_is(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("https://a:b@example.com/v1", "https://a:[redacted]@example.com/v1"),
        ("postgresql+psycopg://ledger:p%40ss:w@[::1]:5432/db", "postgresql+psycopg://ledger:[redacted]@[::1]:5432/db"),
        ("http://:only@host", "http://:[redacted]@host"),
    ],
)
def test_the_password_in_an_address_is_taken_out(address: str, told: str) -> None:
    assert redact(f"GET {address}, refused: {address}") == f"GET {told}, refused: {told}"


def test_a_short_secret_eats_no_letters_of_other_words() -> None:
    text = "hidden: se, 'se', se=se \x1b[35mse\x1b[0m (se) /se/; left: seconds unseen 7se case se2"
    told = redact(text, ["se"])
    assert told == (
        "hidden: [redacted], '[redacted]', [redacted]=[redacted] \x1b[35m[redacted]\x1b[0m ([redacted]) /[redacted]/; "
        "left: seconds unseen 7se case se2"
    )
    assert redact("url?key=xlong-enough-secretx", ["long-enough-secret"]) == "url?key=x[redacted]x"


def test_a_key_that_has_been_rotated_is_hidden_too() -> None:
    stream = configured()
    structlog.get_logger("exporter").info("before abcd-1:new-secret-half")
    hide([SecretStr("abcd-1:new-secret-half")])
    structlog.get_logger("exporter").info("after new-secret-half")
    assert stream.getvalue().count("new-secret-half") == 1


def test_a_blank_secret_hides_nothing() -> None:
    stream = configured(secrets=(SecretStr(""), SecretStr("id:")))
    structlog.get_logger("exporter").info("a whole sentence")
    assert "a whole sentence" in stream.getvalue()


def test_the_stream_is_the_one_that_was_given(capsys: pytest.CaptureFixture[str]) -> None:
    configured(stream=io.StringIO())
    structlog.get_logger("exporter").info("elsewhere")
    assert capsys.readouterr() == ("", "")
    assert sys.stderr is not None


def test_the_scheduler_warns_of_late_jobs_in_its_own_words() -> None:
    stream = configured(level="info")
    logging.getLogger("apscheduler.scheduler").warning("maximum number of running instances reached")
    assert not stream.getvalue()
    logging.getLogger("apscheduler.scheduler").error("a listener failed")
    assert "a listener failed" in stream.getvalue()
