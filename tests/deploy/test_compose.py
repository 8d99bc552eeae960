"""The whole product by `docker compose up`."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest
import yaml
from deploy.manifests import Manifest
from e2e.processes import free_port, wait_until
from local_http import HTTP

from exporter import __version__
from exporter.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy/compose"

Program = Callable[[str, str], str]


def read(name: str) -> Manifest:
    return yaml.safe_load((COMPOSE / name).read_text())


@pytest.fixture(scope="module")
def services() -> Manifest:
    return read("compose.yaml")["services"]


@pytest.mark.parametrize("name", ["compose.yaml", "real.yaml"])
def test_it_is_a_compose_file(name: str, program: Program) -> None:
    check = program("check-jsonschema", "pip:check-jsonschema")
    command = [check, "--builtin-schema", "vendor.compose-spec", str(COMPOSE / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout


def test_everything_that_is_mounted_exists_and_cannot_be_written(services: Manifest) -> None:
    named = read("compose.yaml")["volumes"].keys()
    for service in services.values():
        for source, target, *mode in (volume.split(":") for volume in service["volumes"]):
            assert target.startswith("/")
            if source.startswith("."):
                assert (COMPOSE / source).resolve().exists(), source
                assert mode == ["ro"]
            else:
                assert source in named


def test_every_image_is_pinned_and_ours_is_of_this_version(services: Manifest) -> None:
    for name, service in services.items():
        image = re.sub(r"\$\{\w+:-(.*)\}", r"\1", service["image"])
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", image), name
    assert services["fal-exporter"]["image"] == services["receiver"]["image"] == f"fal-exporter:{__version__}"
    assert (COMPOSE / services["fal-exporter"]["build"] / "Dockerfile").exists()


def test_every_service_is_hardened_and_reached_from_this_machine_alone(services: Manifest) -> None:
    ports: list[str] = []
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["read_only"] is (name != "grafana")
        ports += service.get("ports", ())
    assert all(port.startswith("127.0.0.1:") for port in ports)
    published = [port.split(":")[1] for port in ports]
    assert len(published) == len(set(published))


def test_the_exporter_is_a_demo_unless_a_key_is_given(services: Manifest) -> None:
    assert services["fal-exporter"]["command"][0] == "demo"
    real = read("real.yaml")["services"]["fal-exporter"]
    assert real["command"] == ["serve"]
    assert real["environment"]["FAL_KEY"].startswith("${FAL_KEY:?")


def test_prometheus_accepts_its_configuration_and_every_rule(
    services: Manifest, program: Program, tmp_path: Path
) -> None:
    # As in the container: the files are where they are mounted.
    for volume in services["prometheus"]["volumes"]:
        source, target, *_ = volume.split(":")
        if source.startswith("."):
            place = tmp_path / target.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text((COMPOSE / source).read_text().replace("/etc/prometheus/", f"{tmp_path}/etc/prometheus/"))
    promtool = program("promtool", "prometheus")
    configuration = tmp_path / "etc/prometheus/prometheus.yaml"
    assert f"--config.file=/{configuration.relative_to(tmp_path)}" in services["prometheus"]["command"]
    done = subprocess.run(
        [promtool, "check", "config", configuration], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"SUCCESS: \d+ rules found", done.stdout)) == 3


def test_prometheus_finds_the_exporter_and_alertmanager(services: Manifest) -> None:
    configuration = read("prometheus.yaml")
    ((target,),) = (item["targets"] for job in configuration["scrape_configs"] for item in job["static_configs"])
    assert target == f"fal-exporter:{Settings.model_fields['listen'].default.port}"
    ((receiver,),) = (
        item["targets"] for them in configuration["alerting"]["alertmanagers"] for item in them["static_configs"]
    )
    assert receiver.partition(":")[0] in services
    assert configuration["scrape_configs"][0]["job_name"] == "fal"


def test_alertmanager_inhibits_as_shipped_and_sends_all_to_the_receiver(program: Program, services: Manifest) -> None:
    done = subprocess.run(
        [program("amtool", "prometheus-alertmanager"), "check-config", COMPOSE / "alertmanager.yaml"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    configuration = read("alertmanager.yaml")
    shipped = yaml.safe_load((ROOT / "deploy/alertmanager/alertmanager.yaml").read_text())
    assert configuration["inhibit_rules"] == shipped["inhibit_rules"]
    ((webhook,),) = (item["webhook_configs"] for item in configuration["receivers"])
    assert httpx.URL(webhook["url"]).host in services


def test_the_receiver_prints_every_alert() -> None:
    port = free_port()
    code = (COMPOSE / "receiver.py").read_text()
    assert code.count("8081") == 2
    process = subprocess.Popen(
        [sys.executable, "-c", code.replace("8081", str(port))], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with closing(process.stdout) as output:
        lines: list[str] = []
        reading = threading.Thread(target=lambda: lines.extend(output))
        reading.start()
        alert = {
            "status": "firing",
            "labels": {"alertname": "FalExporterDown", "severity": "critical"},
            "annotations": {"summary": "fal-exporter is down."},
        }

        def sent() -> bool:
            try:
                return HTTP.post(f"http://127.0.0.1:{port}/", json={"alerts": [alert]}).is_success
            except httpx.TransportError:
                return False

        wait_until(sent, "the receiver listens")
        process.terminate()
        process.wait(10)
        reading.join(10)
    assert lines == ["FIRING critical FalExporterDown fal-exporter is down.\n"]


def test_grafana_finds_its_data_source_and_dashboards(services: Manifest) -> None:
    grafana = services["grafana"]
    mounted = {target: COMPOSE / source for source, target, *_ in (item.split(":") for item in grafana["volumes"])}
    provisioned = mounted["/etc/grafana/provisioning/dashboards"].glob("*.yaml")
    paths = [item["options"]["path"] for file in provisioned for item in yaml.safe_load(file.read_text())["providers"]]
    assert all(path in mounted for path in paths)
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert json.loads((mounted[str(home.parent)] / home.name).read_text())["uid"] == "fal-spend"
    variables = {
        name
        for file in mounted["/etc/grafana/provisioning/datasources"].glob("*.yaml")
        for name in re.findall(r"\$\{?(\w+)", file.read_text())
    }
    assert variables <= grafana["environment"].keys()
    assert httpx.URL(grafana["environment"]["PROMETHEUS_URL"]).host in services
