import http.server
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import ClassVar, cast

import click
import pytest
import structlog

import exporter
from exporter import __main__
from exporter.cli import commands, main
from exporter.cli.help import Program, SettingsCommand
from exporter.errors import ConfigurationError, FalExporterError
from exporter.settings import Settings

KEY = "key-id:key-secret-value"
COMMANDS = (
    "operations.administration",
    "operations.backfill",
    "operations.check",
    "demo",
    "focus",
    "mcp_stdio",
    "handover",
)


class StandIn(ModuleType):
    """Stands for the modules of `exporter.app` that commands import: remembers calls, answers or fails as told."""

    def __init__(self) -> None:
        super().__init__("exporter.app")
        self.calls: list[tuple[str, object]] = []
        self.answer: int | BaseException = 0
        self.listen_settings: list[str] = []

    def _called(self, name: str, given: object) -> int:
        self.calls.append((name, given))
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def serve_by(self, read: Callable[[], Settings]) -> int:
        return self._called("serve", read())

    def run_check(self, settings: Settings) -> int:
        return self._called("check", settings)

    def run_ledger_backup(self, settings: Settings, *, file: Path) -> int:
        return self._called("backup", (settings.key is not None, file))

    def run_ledger_restore(self, settings: Settings, *, file: Path) -> int:
        return self._called("restore", (settings.key is not None, file))

    def run_ledger_verify(self, settings: Settings, *, file: Path | None) -> int:
        return self._called("verify", (settings.key is not None, file))

    def run_ledger_migrate(self, settings: Settings, *, source: str, target: str | None) -> int:
        return self._called("migrate", (settings.key is not None, source, target))

    def run_rename_account(self, settings: Settings, *, old: str, new: str) -> int:
        return self._called("rename-account", (settings.key is not None, old, new))

    def run_demo(
        self, *, listen: tuple[str, int], seed: int, days: int, with_prometheus: bool, listen_setting: str
    ) -> int:
        self.listen_settings.append(listen_setting)
        return self._called("demo", (listen, seed, days, with_prometheus))

    def run_simulate(self, *, host: str, port: int, seed: int) -> int:
        return self._called("simulate", (host, port, seed))


@pytest.fixture(autouse=True)
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    for name in os.environ:
        if name.startswith("FAL_"):
            monkeypatch.delenv(name)
    stand_in = StandIn()
    for module in COMMANDS:
        monkeypatch.setitem(sys.modules, f"exporter.app.{module}", stand_in)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield stand_in
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("arguments", "called"),
    [
        (["ledger", "backup", "copy"], ("backup", (True, Path("copy")))),
        (["ledger", "restore", "copy"], ("restore", (True, Path("copy")))),
        (["ledger", "verify", "copy"], ("verify", (True, Path("copy")))),
        (["ledger", "verify"], ("verify", (True, None))),
        (["ledger", "migrate", "sqlite:///a"], ("migrate", (True, "sqlite:///a", None))),
        (["ledger", "migrate", "sqlite:///a", "sqlite:///b"], ("migrate", (True, "sqlite:///a", "sqlite:///b"))),
        (["ledger", "rename-account", "a", "b"], ("rename-account", (True, "a", "b"))),
        (["rename-account", "a", "b"], ("rename-account", (True, "a", "b"))),
    ],
)
def test_the_commands_about_the_ledger_take_the_settings_of_serve(
    arguments: list[str], called: tuple[str, object], app: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAL_KEY", KEY)
    app.answer = 1
    assert main([*arguments, "--max-series", "500"]) == 1
    assert app.calls == [called]


@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_command_gets_the_settings_and_gives_its_exit_code(
    command: str, app: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAL_KEY", KEY)
    app.answer = 1
    assert main([command, "--poll-interval", "1m", "--access-log", "--max-series", "500"]) == 1
    ((name, settings),) = app.calls
    assert name == command
    assert isinstance(settings, Settings)
    assert (settings.poll_interval.total_seconds(), settings.access_log, settings.max_series) == (60, True, 500)


def test_a_switch_can_be_turned_off_over_the_environment(app: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAL_KEY", KEY)
    monkeypatch.setenv("FAL_EXPORTER_ACCESS_LOG", "true")
    main(["serve"])
    main(["serve", "--no-access-log"])
    assert [getattr(settings, "access_log", None) for _, settings in app.calls] == [True, False]


def test_demo_and_simulate_have_defaults_of_their_own(app: StandIn) -> None:
    assert main(["demo"]) == 0
    assert main(["demo", "--listen", ":0", "--seed", "7", "--days", "3", "--with-prometheus"]) == 0
    assert main(["simulate", "--listen", "[::1]:9000", "--seed", "2"]) == 0
    assert app.calls == [
        ("demo", (("127.0.0.1", 8080), 1, None, False)),
        ("demo", (("0.0.0.0", 0), 7, 3, True)),  # noqa: S104  named, not bound
        ("simulate", ("::1", 9000, 2)),
    ]


def test_the_demo_listens_where_the_environment_says(
    app: StandIn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAL_EXPORTER_LISTEN", "127.0.0.1:9001")
    assert main(["demo"]) == 0
    assert main(["demo", "--listen", "127.0.0.1:9002"]) == 0
    assert [given[0] for _, given in app.calls] == [("127.0.0.1", 9001), ("127.0.0.1", 9002)]
    # Errors about the address name what it was given with.
    assert app.listen_settings == ["FAL_EXPORTER_LISTEN", "--listen"]
    monkeypatch.setenv("FAL_EXPORTER_LISTEN", "9001")
    assert main(["demo"]) == 2
    assert "Invalid value for 'FAL_EXPORTER_LISTEN': \"9001\" is not an address" in capsys.readouterr().err


def test_a_wrong_setting_is_one_sentence_and_exit_code_2(app: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve"]) == 2
    assert capsys.readouterr() == (
        "",
        (
            "fal-exporter: no key is set; set FAL_KEY or FAL_KEY_FILE, or list accounts in the file that "
            "FAL_EXPORTER_CONFIG_FILE names\n"
        ),
    )
    assert not app.calls


def test_several_wrong_settings_are_a_line_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAL_KEY", KEY)
    assert main(["serve", "--history", "91d", "--listen", "8080"]) == 2
    assert [line.partition(": ")[2].partition(":")[0] for line in capsys.readouterr().err.splitlines()] == [
        "--listen",
        "--history",
    ]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["serve", "--poll-intervall", "5m"], "--poll-interval"),
        (["serve", "--key", KEY], "--key-file"),
        (["serve", f"--key={KEY}"], "--key-file"),
        (["serve", KEY], "unexpected extra argument ([redacted])"),
        (["demo", "--days", "91"], "91 is not in the range 1<=x<=90"),
        (["demo", "--listen", "8080"], "is not an address to listen on; write it like"),
        (["simulate", "--seed", "x"], "'x' is not a valid integer"),
        (["served"], "No such command 'served'"),
    ],
)
def test_a_wrong_command_line_is_one_sentence_and_exit_code_2(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line
    assert re.search(r" \(see fal-exporter( \w+)* --help\)$", line)
    assert "secret-value" not in line


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (FalExporterError("the ledger is gone"), 1, "fal-exporter: the ledger is gone"),
        (ConfigurationError("the zone is wrong"), 2, "fal-exporter: the zone is wrong"),
        (
            RuntimeError(f"Key {KEY} was\nrefused"),
            1,
            (
                "fal-exporter: an unexpected error, RuntimeError (Key [redacted] was refused), ended the command; "
                "run it again with --log-level debug to see where"
            ),
        ),
        (ValueError(), 1, "an unexpected error, ValueError, ended the command"),
    ],
)
def test_an_error_is_a_sentence_without_a_traceback(
    error: Exception, code: int, line: str, app: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    app.answer = error
    assert main(["simulate"]) == code
    (shown,) = capsys.readouterr().err.splitlines()
    assert line in shown


@pytest.mark.parametrize("command", ["serve", "demo", "simulate", "check"])
def test_an_unexpected_error_shows_its_traceback_at_debug(
    command: str, app: StandIn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAL_KEY", KEY)
    app.answer = RuntimeError(f"Key {KEY}")
    assert main([command, "--log-level", "debug"]) == 1
    shown = capsys.readouterr().err
    assert "Traceback (most recent call last)" in shown
    assert shown.splitlines()[-1].endswith("ended the command; the traceback above says where")
    assert "secret-value" not in shown


def test_ctrl_c_ends_with_the_shells_exit_code(app: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    app.answer = KeyboardInterrupt()
    assert main(["demo"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_served_log_is_in_the_configured_form_without_the_key(
    app: StandIn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAL_KEY", KEY)
    assert main(["serve", "--log-format", "json"]) == 0
    assert app.calls
    structlog.get_logger("exporter").warning("said", value=KEY)
    assert json.loads(capsys.readouterr().err)["value"] == "[redacted]"


@pytest.mark.parametrize("command", ["serve", "check", "demo", "simulate"])
def test_every_command_helps(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: fal-exporter {command}")
    assert ("--series-birth-hold" in text) == (command in {"serve", "check"})
    assert "--key " not in text


def subcommands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield from subcommands(command, (*path, name)) if isinstance(command, click.Group) else [(*path, name)]


@pytest.mark.parametrize("path", tuple(subcommands(commands)), ids=" ".join)
def test_a_commands_own_options_come_first_and_only_serve_explains_the_settings(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    command: click.Command = commands
    for name in path:
        command = cast("click.Group", command).commands[name]
    assert main([*path, "--help"]) == 0
    own, heading, settings = capsys.readouterr().out.partition("\nSettings")
    options = [item for item in command.params if isinstance(item, click.Option) and not item.hidden]
    assert all(option.opts[0] in own for option in options)
    assert bool(heading) == isinstance(command, SettingsCommand)
    if heading:
        explained = settings.startswith(":")
        assert explained == (path == ("serve",))
        assert "--poll-interval" in settings
        assert "--poll-interval" not in own
        assert "--series-birth-hold" in settings
        assert explained or len(settings.splitlines()) < 20
        assert explained or '"fal-exporter serve --help"' in settings.splitlines()[0]


def test_commands_stand_under_headings_and_none_under_no_heading(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    places = [text.index(f"\n{heading}:\n") for heading in cast("Program", commands).headings]
    assert places == sorted(places)
    assert "Other commands" not in text
    for name, command in commands.commands.items():
        assert (f"\n  {name} " in text) == (not command.hidden)


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("fal-exporter ", {"serve", "demo", "ledger"}),
        ("fal-exporter serve --ledger", {"--ledger-url"}),
        ("fal-exporter focus ", {"check", "export"}),
    ],
)
def test_shells_complete_commands_and_options(words: str, completed: set[str]) -> None:
    count = str(len(words.split()) - (not words.endswith(" ")))
    surroundings = {"_FAL_EXPORTER_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": count}
    answer = subprocess.run(
        [sys.executable, "-c", "from exporter.cli import commands; commands(prog_name='fal-exporter')"],
        env=os.environ | surroundings,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert completed <= {line.partition(",")[2] for line in answer.stdout.splitlines()}, answer.stderr


def test_the_list_of_commands_hides_what_is_for_containers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in ("serve", "check", "demo", "simulate"))
    assert "healthcheck" not in text
    assert main([]) == 2
    assert capsys.readouterr().out == text


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fal-exporter {exporter.__version__}\n"


class Health(http.server.BaseHTTPRequestHandler):
    answers: ClassVar[dict[str, int]] = {"/-/healthy": 200}

    def do_GET(self) -> None:
        self.send_response(self.answers.get(self.path, 404))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def server() -> Iterator[http.server.HTTPServer]:
    with http.server.HTTPServer(("127.0.0.1", 0), Health) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield listening
        listening.shutdown()
        thread.join()


def test_the_health_check_asks_where_the_settings_say_and_passes_any_proxy(
    server: http.server.HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAL_EXPORTER_LISTEN", f":{server.server_port}")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert main(["healthcheck"]) == 0


def test_a_sick_or_absent_server_fails_the_health_check(
    server: http.server.HTTPServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Health, "answers", {"/-/healthy": 503})
    monkeypatch.setenv("FAL_EXPORTER_LISTEN", f"127.0.0.1:{server.server_port}")
    assert main(["healthcheck"]) == 1
    assert capsys.readouterr().err.endswith("answers 503\n")
    server.server_close()
    monkeypatch.setenv("FAL_EXPORTER_LISTEN", f":{server.server_port}")
    assert main(["healthcheck"]) == 1
    assert capsys.readouterr().err.startswith(f"fal-exporter: 127.0.0.1:{server.server_port} does not answer: ")
    monkeypatch.setenv("FAL_EXPORTER_LISTEN", "nowhere")
    assert main(["healthcheck"]) == 1
    assert capsys.readouterr().err.startswith("fal-exporter: FAL_EXPORTER_LISTEN: is not an address to listen on")


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAL_")} | variables
    return subprocess.run(
        [sys.executable, "-m", "exporter", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_the_module_is_the_command() -> None:
    finished = run("serve", "--poll-interval", "never", FAL_KEY=KEY)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert finished.stderr == (
        'fal-exporter: --poll-interval: "never" is not a duration; write it like 90s, 5m, 1h30m or 30d\n'
    )


@pytest.mark.parametrize("word", ["collector", "worker"])
def test_what_starts_processes_is_no_command(
    word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["fal-exporter", word])
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # this process is not one that SIGTERM may end so
    assert __main__.run() == 2
    assert f"No such command '{word}'" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["nonsense", "exporter.nonsense", "a.b", ".", "", "exporter"])
def test_a_worker_that_is_no_module_is_one_sentence(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["fal-exporter", "worker", module])
    assert __main__.run() == 2
    assert capsys.readouterr().err == (
        f"fal-exporter: worker: there is no module {module!r} to run; see fal-exporter --help\n"
    )


def test_a_reader_that_went_away_is_no_traceback() -> None:
    command = f"'{sys.executable}' -m exporter serve --help | true"
    finished = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=30)
    assert "Traceback" not in finished.stderr


def test_the_list_of_commands_waits_for_no_heavy_import() -> None:
    program = (
        "import sys; from exporter.cli import main; main(['--help']); "
        "sys.exit(any(name in sys.modules for name in ('pydantic', 'structlog', 'httpx', 'sqlalchemy')))"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, timeout=30)
    assert finished.returncode == 0


def test_scrapes_do_not_wait_for_the_import_of_mcp() -> None:
    program = "import sys; import exporter.app.serve; sys.exit('mcp' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, timeout=30)
    assert finished.returncode == 0


def test_a_group_without_a_command_shows_its_help_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["focus"]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("Usage: fal-exporter focus")
    assert not told.out


def test_a_command_that_is_told_to_end_leaves_nothing_behind(tmp_path: Path) -> None:
    """A ZIP archive is read from standard input by way of a copy, which is begun with the first bytes of it."""
    with subprocess.Popen(
        [sys.executable, "-m", "exporter", "focus", "summary", "-"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(b"PK\x03\x04".ljust(4000, b"\0"))
        process.stdin.flush()
        until = time.monotonic() + 60
        while process.poll() is None and not any(tmp_path.rglob("copy")):
            assert time.monotonic() < until, "the copy is begun"
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
        _, told = process.communicate()
    assert (told, list(tmp_path.iterdir())) == (b"", [])
