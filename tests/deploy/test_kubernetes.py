"""The manifests for `kubectl apply -k`."""

import json
import subprocess
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from deploy.conftest import Run
from deploy.manifests import (
    EACH_SET_OF_VERSIONS,
    Manifest,
    assert_hardened,
    assert_joined,
    assert_no_secret,
    assert_replicated,
    assert_rules_pass,
    assert_valid,
    exporters,
    named,
    pods,
    read,
    violations,
)
from e2e.processes import parsed, wait_until
from local_http import HTTP

from exporter import __version__
from exporter.simulator import ADMIN_KEY, API_KEY

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"
WAYS = [path.relative_to(KUBERNETES) for path in (*sorted(KUBERNETES.glob("overlays/*")), KUBERNETES / "sidecar")]
EACH_WAY = pytest.mark.parametrize("way", WAYS, ids=str)
ANNOTATIONS = Path("overlays/scrape-annotations")
OPERATOR = Path("overlays/prometheus-operator")

Program = Callable[[str, str], str]
Render = Callable[[Path], list[Manifest]]


@pytest.fixture(scope="module")
def render(program: Program) -> Render:
    rendered: dict[Path, list[Manifest]] = {}

    def manifests(way: Path) -> list[Manifest]:
        if way not in rendered:
            command = [program("kubectl", "kubectl"), "kustomize", str(KUBERNETES / way)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
            assert done.returncode == 0, done.stderr
            rendered[way] = read(done.stdout)
        return deepcopy(rendered[way])

    return manifests


def test_there_is_a_way_for_annotations_the_operator_two_accounts_and_a_sidecar() -> None:
    assert {way.name for way in WAYS} == {
        *("scrape-annotations", "prometheus-operator", "two-accounts", "sidecar"),
        *("replicated", "cloudnativepg"),
    }


@EACH_SET_OF_VERSIONS
@EACH_WAY
def test_every_object_is_valid_in_versions_of_kubernetes(way: Path, versions: tuple[str, ...], render: Render) -> None:
    assert_valid(render(way), versions)


@EACH_WAY
def test_every_pod_is_restricted_and_may_write_to_its_ledger_alone(way: Path, render: Render) -> None:
    manifests = render(way)
    assert_hardened(manifests)
    for _, container in exporters(manifests):
        writable = {item["mountPath"] for item in container["volumeMounts"] if not item.get("readOnly")}
        assert writable == {"/data"}


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("spec", "hostNetwork"), True),
        (("spec", "volumes"), [{"name": "host", "hostPath": {"path": "/"}}]),
        (("spec", "securityContext"), {}),
        (("spec", "securityContext", "runAsUser"), 0),
        (("spec", "containers", 0, "securityContext"), {}),
        (("spec", "containers", 0, "securityContext", "allowPrivilegeEscalation"), True),
        (("spec", "containers", 0, "securityContext", "capabilities"), {"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
        (("spec", "containers", 0, "ports"), [{"containerPort": 8080, "hostPort": 8080}]),
    ],
    ids=str,
)
def test_a_pod_that_is_not_restricted_is_noticed(place: tuple[str | int, ...], value: object, render: Render) -> None:
    (pod,) = pods(render(ANNOTATIONS))
    assert violations(pod) == []
    changed = pod
    for step in place[:-1]:
        changed = changed[step]
    changed[place[-1]] = value
    assert violations(pod)


@EACH_WAY
def test_what_refers_to_something_finds_it(way: Path, render: Render) -> None:
    assert_joined(render(way))


@EACH_WAY
def test_no_secret_is_where_everybody_may_read_it(way: Path, render: Render) -> None:
    assert_no_secret(render(way))


@EACH_WAY
def test_the_image_is_that_of_this_version(way: Path, render: Render) -> None:
    assert {container["image"] for _, container in exporters(render(way))} == {f"fal-exporter:{__version__}"}


def test_nothing_but_dns_and_https_leaves_the_pod(render: Render) -> None:
    (policy,) = named(render(ANNOTATIONS), "NetworkPolicy")
    ports = {(port["protocol"], port["port"]) for rule in policy["spec"]["egress"] for port in rule["ports"]}
    assert ports == {("UDP", 53), ("TCP", 53), ("TCP", 443)}


def test_the_operator_gets_every_rule_and_grafana_every_dashboard(
    render: Render, program: Program, tmp_path: Path
) -> None:
    manifests = render(OPERATOR)
    files = [yaml.safe_load((ROOT / f"deploy/prometheus/{item}.yaml").read_text()) for item in ("recording", "alerts")]
    assert assert_rules_pass(manifests, program, tmp_path) > sum(
        len(group["rules"]) for file in files for group in file["groups"]
    )
    maps = [
        item for item in named(manifests, "ConfigMap") if item["metadata"].get("labels", {}).get("grafana_dashboard")
    ]
    boards = {name: json.loads(text) for item in maps for name, text in item["data"].items()}
    assert boards == {item.name: json.loads(item.read_text()) for item in (ROOT / "grafana/dashboards").glob("*.json")}
    assert len(boards) == 7


@pytest.mark.parametrize("way", ["replicated", "cloudnativepg"])
def test_replicas_share_a_database_alone(way: str, render: Render) -> None:
    assert_replicated(render(Path("overlays") / way))


def test_replicas_take_the_address_that_the_operator_of_their_database_writes(render: Render) -> None:
    manifests = render(Path("overlays/cloudnativepg"))
    (cluster,) = named(manifests, "Cluster")
    ((_, container),) = exporters(manifests)
    (ledger,) = (entry for entry in container["env"] if entry["name"] == "FAL_EXPORTER_LEDGER_URL")
    assert ledger["valueFrom"]["secretKeyRef"] == {"name": f"{cluster['metadata']['name']}-app", "key": "uri"}
    (policy,) = named(manifests, "NetworkPolicy")
    assert {"ports": [{"protocol": "TCP", "port": 5432}]} in policy["spec"]["egress"]


@pytest.mark.long
def test_one_account_is_polled_with_the_mounted_key(render: Render, run: Run) -> None:
    url = run(render(ANNOTATIONS), {"fal-exporter": {"fal-key": ADMIN_KEY}})
    spend = parsed(HTTP.get(f"{url}/metrics").text)["fal_spend_last_hour_usd"]
    assert {dict(labels)["account"] for labels in spend} == {"default"}


@pytest.mark.long
def test_two_accounts_are_polled_with_a_mounted_key_and_one_of_the_environment(render: Render, run: Run) -> None:
    secrets = {"fal-exporter": {"fal-key": ADMIN_KEY}, "fal-research": {"fal-key": API_KEY}}
    url = run(render(Path("overlays/two-accounts")), secrets)
    samples = parsed(HTTP.get(f"{url}/metrics").text)
    assert {dict(labels)["account"] for labels in samples["fal_account_locked"]} == {"studio", "research"}
    assert {dict(labels)["budget"] for labels in samples["fal_budget_limit_usd"]} == {"research-month"}


@pytest.mark.long
def test_of_two_replicas_one_collects_and_both_are_ready(render: Render, run: Run, postgresql_address: str) -> None:
    manifests = render(Path("overlays/replicated"))
    address = postgresql_address.replace("+psycopg", "")
    secrets = {"fal-exporter": {"fal-key": ADMIN_KEY}, "fal-ledger": {"uri": address}}
    urls = [run(manifests, secrets) for _ in range(2)]

    def leads(url: str) -> float | None:
        told = parsed(HTTP.get(f"{url}/metrics").text).get("fal_exporter_leader", {})
        return next(iter(told.values()), None)

    wait_until(
        lambda: [leads(url) for url in urls] == [1, 0], "one says that it collects, and the other that it does not"
    )
    first, second = (parsed(HTTP.get(f"{url}/metrics").text)["fal_spend_last_hour_usd"] for url in urls)
    assert first == second != {}


@pytest.mark.long
def test_the_sidecar_polls_beside_its_application(render: Render, run: Run) -> None:
    manifests = render(Path("sidecar"))
    (deployment,) = named(manifests, "Deployment")
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert HTTP.get(run(manifests, {"fal-exporter": {"fal-key": ADMIN_KEY}}) + "/-/healthy").is_success
