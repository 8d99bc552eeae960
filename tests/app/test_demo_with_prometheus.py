import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml
from e2e.processes import free_port, wait_until
from local_http import NO_TLS

from exporter.app.local_prometheus import (
    MONITORING,
    LocalPrometheusError,
    alertmanager_configuration,
    find_programs,
    prometheus_configuration,
)

Program = Callable[[str, str], str]


@pytest.mark.long
def test_the_demo_runs_prometheus_on_the_history_and_with_the_rules_and_ends_it_again(
    program: Program, tmp_path: Path
) -> None:
    program("prometheus", "prometheus")
    if shutil.which("alertmanager") is None:
        program("prometheus-alertmanager", "prometheus-alertmanager")
    port = free_port()
    with (tmp_path / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "exporter", "demo", "--with-prometheus"),
                *("--listen", f"127.0.0.1:{port}", "--days", "1"),
            ],
            env=os.environ | {"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    def told() -> str:
        assert process.poll() is None, (tmp_path / "output.txt").read_text()
        return (tmp_path / "output.txt").read_text()

    try:
        wait_until(lambda: "Alertmanager  http" in told(), "Prometheus and Alertmanager are up")
        words = told().split()
        prometheus, alertmanager = (
            words[words.index(name) + 1].removesuffix("alerts") for name in ("Prometheus", "Alertmanager")
        )
        client = httpx.Client(verify=NO_TLS, timeout=10)

        def asked(query: str) -> dict[str, float]:
            answer = client.get(f"{prometheus}api/v1/query", params={"query": query}).json()
            return {item["metric"].get("job", ""): float(item["value"][1]) for item in answer["data"]["result"]}

        wait_until(lambda: asked("up") == {"fal": 1}, "Prometheus scrapes the exporter")
        history = "sum by (job, instance) (max_over_time(fal_spend_last_hour_usd[20h] offset 1h))"
        assert asked(history)["fal"] > 0
        assert len(asked(f"{history} / sum by (job, instance) (fal_spend_last_hour_usd)")) == 1
        groups = client.get(f"{prometheus}api/v1/rules").json()["data"]["groups"]
        assert {group["name"] for group in groups} == {"fal-thresholds", "fal-recording", "fal-alerts"}
        wait_until(lambda: asked("count(account:fal_threshold_credit_balance_usd)"), "the rules are evaluated")
        known = client.get(f"{prometheus}api/v1/alertmanagers").json()["data"]["activeAlertmanagers"]
        assert [item["url"] for item in known] == [f"{alertmanager}api/v2/alerts"]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in (tmp_path / "output.txt").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"output.txt"}
    for url in (prometheus, alertmanager):
        with pytest.raises(httpx.ConnectError):
            client.get(url)


@pytest.mark.long
def test_a_missing_program_is_named_with_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "prometheus").symlink_to("/bin/true")
    done = subprocess.run(
        [sys.executable, "-m", "exporter", "demo", "--with-prometheus"],
        env=os.environ | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("fal-exporter: --with-prometheus needs promtool and alertmanager on the PATH;")
    assert "apt-get install prometheus prometheus-alertmanager" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.long
def test_a_program_that_fails_ends_the_demo_with_its_last_words(tmp_path: Path) -> None:
    programs, temporary = tmp_path / "programs", tmp_path / "temporary"
    for folder in (programs, temporary):
        folder.mkdir()
    for name in ("prometheus", "promtool", "alertmanager"):
        (programs / name).write_text("#!/bin/sh\necho reading\necho no space is left >&2\nexit 3\n")
        (programs / name).chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "exporter", "demo", "--with-prometheus", "--listen", "127.0.0.1:0", "--days", "1"],
        env=os.environ | {"PATH": f"{programs}:/bin", "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert done.returncode == 1
    assert "fal-exporter: --with-prometheus: promtool does not work: no space is left\n" in done.stderr
    assert list(temporary.iterdir()) == []


def test_debians_name_of_alertmanager_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("prometheus", "promtool", "prometheus-alertmanager"):
        (tmp_path / name).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_programs().alertmanager == str(tmp_path / "prometheus-alertmanager")
    (tmp_path / "alertmanager").symlink_to("/bin/true")
    assert find_programs().alertmanager == str(tmp_path / "alertmanager")
    (tmp_path / "promtool").unlink()
    with pytest.raises(LocalPrometheusError, match="needs promtool on"):
        find_programs()


def test_the_shipped_files_are_the_ones_of_the_repository(repository: Path) -> None:
    for name in ("thresholds", "recording", "alerts"):
        assert (MONITORING / f"{name}.yaml").samefile(repository / f"deploy/prometheus/{name}.yaml")
    assert (MONITORING / "alertmanager.yaml").samefile(repository / "deploy/alertmanager/alertmanager.yaml")


def test_prometheus_accepts_the_configuration(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "prometheus.yaml"
    file.write_text(yaml.safe_dump(prometheus_configuration("127.0.0.1:8080", "127.0.0.1:9093")))
    command = [program("promtool", "prometheus"), "check", "config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("rules found") == 3


def test_alertmanager_accepts_the_configuration_which_routes_as_shipped_and_sends_nothing(
    program: Program, tmp_path: Path
) -> None:
    configuration = alertmanager_configuration()
    file = tmp_path / "alertmanager.yaml"
    file.write_text(yaml.safe_dump(configuration))
    command = [program("amtool", "prometheus-alertmanager"), "check-config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    shipped = yaml.safe_load((MONITORING / "alertmanager.yaml").read_text())
    assert {name: configuration[name] for name in ("route", "inhibit_rules")} == {
        name: shipped[name] for name in ("route", "inhibit_rules")
    }
    assert configuration["receivers"] == [{"name": item["name"]} for item in shipped["receivers"]]
