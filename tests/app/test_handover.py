"""The process that reads the settings becomes the one that serves by them."""

import fcntl
import http.client
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from app.conftest import MakeSettings
from structlog.testing import capture_logs

from exporter import __version__, logs
from exporter.app import handover, serve
from exporter.errors import ConfigurationError
from exporter.logs import Secret
from exporter.settings import Settings
from exporter.settings.plain import PlainSettings, plain
from exporter.simulator import ADMIN_KEY

PATIENCE = 30.0
KEY = "identity:secret-0123456789"
CONFIGURATION = """
accounts: [{{name: main, key: "{key}", credit_floor: {floor}}}]
platform_url: http://127.0.0.1:9/v1
reporting_url: http://127.0.0.1:9
listen: 127.0.0.1:{port}
mcp_listen: off
"""


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.01)


@dataclass
class Running:
    """`fal-exporter serve` with a configuration file."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path

    def configure(self, floor: int | str) -> None:
        text = CONFIGURATION.format(key=KEY, floor=floor, port=self.port)
        (self.folder / "fal-exporter.yaml").write_text(text)

    @property
    def command(self) -> list[str]:
        """The words behind the name of the program."""
        return cast("list[str]", self.process.args)[1:]

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    def of_process(self, name: str) -> str:
        return Path(f"/proc/{self.process.pid}/{name}").read_text()

    def open_files(self) -> list[str]:
        names = []
        for file in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed since, as is the connection of who has just asked
                names.append(str(file.readlink()))
        return names

    def holds_back(self, number: signal.Signals) -> bool:
        (mask,) = [line.split()[1] for line in self.of_process("status").splitlines() if line.startswith("SigBlk")]
        return bool(int(mask, 16) >> (number - 1) & 1)

    def asked(self, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAL_")}
    made = Running(subprocess.Popen(["true"]), port, tmp_path)
    made.configure(5)
    made.process.wait()
    with (tmp_path / "output").open("wb") as output:
        made.process = subprocess.Popen(
            [sys.executable, "-m", "exporter", "serve", "--ledger-url", "sqlite:///ledger.sqlite"],
            env=environment | {"FAL_EXPORTER_CONFIG_FILE": "fal-exporter.yaml", "PYTHONPATH": str(Path.cwd())},
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    yield made
    if made.process.poll() is None:
        os.killpg(made.process.pid, signal.SIGKILL)
        made.process.wait()


def test_it_serves_under_its_name_with_nothing_of_what_has_read_the_settings(running: Running) -> None:
    before = running.command
    wait_until(lambda: running.asked("/-/healthy") == 200, "it serves")
    assert running.of_process("cmdline").split("\0")[1:-1] == before
    assert "secret-0123456789" not in running.of_process("cmdline") + running.of_process("environ")
    assert not [name for name in running.open_files() if "memfd" in name]
    assert "pydantic_core" not in running.of_process("maps")

    assert running.asked("/v1/billing/budgets") == 503, "nothing has been read from fal yet"
    assert "pydantic_core" in running.of_process("maps"), "REST has been asked"

    running.configure("a lot")
    os.kill(running.process.pid, signal.SIGHUP)
    wait_until(lambda: "the former one stays in use" in running.output, "the configuration is refused")
    assert "credit_floor" in running.output
    running.configure(7)
    os.kill(running.process.pid, signal.SIGHUP)
    wait_until(lambda: "reloading] has_changed=True" in running.output, "it takes effect")
    os.kill(running.process.pid, signal.SIGHUP)
    wait_until(lambda: "reloading] has_changed=False" in running.output, "nothing has changed")
    os.kill(running.process.pid, signal.SIGTERM)
    assert running.process.wait(PATIENCE) == 0
    assert "Traceback" not in running.output


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_what_comes_while_one_program_becomes_the_other_is_acted_on(
    running: Running, number: signal.Signals, code: int
) -> None:
    end = time.monotonic() + PATIENCE
    while not running.holds_back(number):
        assert time.monotonic() < end
    os.kill(running.process.pid, number)
    # Ctrl-C is what it always was: the convention of shells while it starts, and the end of a server afterwards.
    assert running.process.wait(PATIENCE) in {code, 0}
    assert "Traceback" not in running.output


def test_where_it_cannot_be_executed_anew_it_serves_as_it_is(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[tuple[Settings, Settings]] = []

    def run_serve(given: Settings, reread: Callable[[], Settings]) -> int:
        served.append((given, reread()))
        return 7

    def fail(path: str, arguments: list[str], environment: dict[str, str]) -> None:
        assert path == sys.executable
        assert arguments[1:] == sys.orig_argv[1:]
        assert int(environment["_FAL_EXPORTER_SETTINGS"]) > 2
        assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        # Freed memory goes back to the system, unless somebody has set that otherwise.
        assert (environment["MALLOC_ARENA_MAX"], environment["MALLOC_TRIM_THRESHOLD_"]) == ("4", "131072")
        raise OSError("no memory")

    monkeypatch.setattr(serve, "run_serve", run_serve)
    monkeypatch.setattr(os, "execve", fail)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "")
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_")
    assert handover.serve_by(settings) == 7
    assert os.environ["MALLOC_TRIM_THRESHOLD_"] == "131072", "so that the collector has it"
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    monkeypatch.delattr(os, "memfd_create")
    assert handover.serve_by(settings) == 7
    for given, reread in served:
        assert isinstance(given, PlainSettings)
        assert given == reread


@pytest.mark.parametrize(
    "program", ["import sys; sys.exit(1)", "", "print(end='nonsense')", "import os, signal; os.kill(os.getpid(), 9)"]
)
def test_a_process_that_fails_to_read_the_settings_changes_nothing(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", program])
    with capture_logs() as logs, pytest.raises(ConfigurationError, match="has failed"):
        handover.read_again()
    assert not logs


def test_who_is_asked_for_the_settings_answers_with_them_or_a_sentence(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    def refuse() -> Settings:
        raise ConfigurationError("poll_interval is not a duration")

    monkeypatch.setenv("_FAL_EXPORTER_SETTINGS_WANTED", "1")
    assert handover.serve_by(settings) == 0
    version, _, answer = capfdbinary.readouterr().out.partition(b"\n")
    assert version.decode() == __version__
    assert pickle.loads(answer) == plain(settings())  # noqa: S301  our own
    assert handover.serve_by(refuse) == 0
    _, _, answer = capfdbinary.readouterr().out.partition(b"\n")
    assert pickle.loads(answer) == "poll_interval is not a duration"  # noqa: S301  our own


def test_a_version_that_has_been_installed_meanwhile_is_not_mixed_with_this_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", "print('99.0.0\\n' + 'of another kind')"])
    with pytest.raises(ConfigurationError, match="another version has been installed meanwhile; start serve again"):
        handover.read_again()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_it_serves_though_it_was_started_without_standard_files(closed: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    running = Running(subprocess.Popen(["true"]), port, tmp_path)
    running.process.wait()
    running.configure(5)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAL_")}
    command = f"exec '{sys.executable}' -m exporter serve --config-file fal-exporter.yaml {closed}"
    running.process = subprocess.Popen(
        ["sh", "-c", command], env=environment | {"PYTHONPATH": str(Path.cwd())}, cwd=tmp_path, start_new_session=True
    )
    try:
        wait_until(lambda: running.asked("/-/ready") == 503, "it serves")
        wait_until((tmp_path / "fal-exporter.sqlite").exists, "its collector works")
        os.kill(running.process.pid, signal.SIGTERM)
        assert running.process.wait(PATIENCE) == 0
    finally:
        if running.process.poll() is None:
            os.killpg(running.process.pid, signal.SIGKILL)
            running.process.wait()


@pytest.mark.parametrize("value", ["", "abc", "-1", "0", "2", "987654", "9" * 30, "9" * 5000])
def test_a_variable_that_somebody_else_has_set_is_one_sentence(value: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "exporter", "serve"],
        env=os.environ | {"PYTHONPATH": str(Path.cwd()), "_FAL_EXPORTER_SETTINGS": value},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "unset it" in line
    assert "_FAL_EXPORTER_SETTINGS" in line


def handed(content: bytes, seals: int) -> str:
    """Return the number of a descriptor of memory with some content."""
    descriptor = os.memfd_create("settings", os.MFD_ALLOW_SEALING)
    os.write(descriptor, content)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return str(descriptor)


SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
OURS = __version__.encode() + b"\n"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "another version"),
        (b"99.0.0\n" + pickle.dumps(("name", None)), "another version"),
        (OURS, "is damaged"),
        (OURS + pickle.dumps(("name", None))[:-3], "is damaged"),
        (OURS + b"cexporter.settings.plain\nGone\n.", "is damaged"),
        (OURS + b"cexporter.gone\nGone\n.", "is damaged"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(content: bytes, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        handover._handed(handed(content, SEALS))
    monkeypatch.setattr(
        sys, "orig_argv", [sys.executable, "-c", f"import sys; sys.stdout.buffer.write({content or b'1' + OURS!r})"]
    )
    with pytest.raises(ConfigurationError, match=sentence):
        handover.read_again()


def test_a_file_that_serve_has_not_written_is_neither_read_nor_closed(tmp_path: Path) -> None:
    fatal = OURS + b"cos\n_exit\n(I9\ntR."
    (tmp_path / "fatal").write_bytes(fatal)
    file = os.open(tmp_path / "fatal", os.O_RDONLY)
    memory = int(handed(fatal, fcntl.F_SEAL_SHRINK))
    for descriptor in (file, memory):
        with pytest.raises(ConfigurationError, match="unset it"):
            handover._handed(str(descriptor))
        os.close(descriptor)


def test_a_name_that_the_system_has_cut_amid_a_character_is_handed_over(
    settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[object] = []

    def execute(program: str, words: list[str], environment: dict[str, str]) -> None:
        assert [program, *words[1:]] == [sys.executable, *sys.orig_argv[1:]]
        number = environment["_FAL_EXPORTER_SETTINGS"]
        found.append(handover._handed(str(os.dup(int(number)))))
        raise OSError("no memory")

    name = "fal-exporter-für".encode()[:15]
    (tmp_path / "comm").write_bytes(name + b"\n")
    monkeypatch.setattr(handover, "_NAME", tmp_path / "comm")
    monkeypatch.setattr(os, "execve", execute)
    given = plain(settings())
    with pytest.raises(OSError, match="no memory"):
        handover._become(given)
    assert found == [(name, given)]


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return the secrets that logs are kept free of, each time that logging is configured."""
    found: list[list[str]] = []

    def configure(*, secrets: list[Secret], **_: object) -> None:
        found.append([secret.get_secret_value() for secret in secrets])

    monkeypatch.setattr(logs, "configure_logging", configure)
    return found


def test_settings_that_are_handed_over_or_read_again_keep_their_secrets_out_of_logs(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, configured: list[list[str]]
) -> None:
    written = pickle.dumps((b"name", plain(settings())))
    monkeypatch.setenv("_FAL_EXPORTER_SETTINGS", handed(OURS + written, SEALS))
    monkeypatch.setattr(handover, "_NAME", Path(os.devnull))
    monkeypatch.setattr(serve, "run_serve", lambda *_: 7)
    assert handover.serve_as_handed() == 7
    assert configured == [[ADMIN_KEY]]

    answer = OURS + pickle.dumps(plain(settings()))
    program = f"import sys; sys.stdout.buffer.write({answer!r})"
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", program])
    handover.read_again()
    assert configured == [[ADMIN_KEY]] * 2

    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", f"{program}; sys.exit(1)"])
    with pytest.raises(ConfigurationError, match="has failed"):
        handover.read_again()
    assert configured == [[ADMIN_KEY]] * 2
