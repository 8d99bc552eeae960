"""The Helm chart, with every way to install it that `ci/` holds."""

import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote

import programs
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
)
from local_http import HTTP

from exporter import __version__
from exporter.charges import nano
from exporter.settings import Settings, load_settings
from exporter.settings.credentials import new_token, token_line
from exporter.settings.parsing import file_name
from exporter.simulator import ADMIN_KEY, API_KEY

programs.required_module("helm_python", programs.HELM)
import helm_python as helm  # noqa: E402  an extra of its own, as it is large

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/fal-exporter"
WAYS = sorted((CHART / "ci").glob("*-values.yaml"))
EACH_WAY = pytest.mark.parametrize("way", [path.name.removesuffix("-values.yaml") for path in WAYS])
WARNING = 2
"""Least of Helm's severities that counts under --strict."""

TOKENS = token_line("reader", new_token())

Program = Callable[[str, str], str]


def values_of(way: str) -> Manifest:
    return yaml.safe_load((CHART / f"ci/{way}-values.yaml").read_text())


def rendered(values: Manifest) -> dict[str, str]:
    with helm.Chart.load(CHART) as chart:
        files = chart.render(values, name="fal-exporter", namespace="fal")
    return {Path(name).name: text for name, text in files.items()}


def manifests_of(values: Manifest) -> list[Manifest]:
    return [item for name, text in rendered(values).items() if name.endswith(".yaml") for item in read(text)]


def settings_in(manifests: list[Manifest]) -> Manifest:
    (found,) = (item for item in named(manifests, "ConfigMap") if "fal-exporter.yaml" in item["data"])
    return yaml.safe_load(found["data"]["fal-exporter.yaml"])


def test_there_are_values_for_every_way_to_install_it() -> None:
    assert {path.name.removesuffix("-values.yaml") for path in WAYS} >= {
        "default",
        "existing-secret",
        "several-accounts",
        "operator",
        "budgets-and-thresholds",
        "ingress",
        "httproute",
        "persistence-off",
        "replicated",
        "extra-labels",
    }


@EACH_WAY
def test_helm_lint_strict_finds_nothing(way: str) -> None:
    report = helm.lint(CHART, values_of(way), strict=True)
    assert [item for item in report["messages"] if item["severity"] >= WARNING] == []
    assert report["errors"] == []


@EACH_SET_OF_VERSIONS
@EACH_WAY
def test_every_object_is_valid_in_versions_of_kubernetes(way: str, versions: tuple[str, ...]) -> None:
    assert_valid(manifests_of(values_of(way)), versions)


@EACH_WAY
def test_every_pod_is_restricted_and_what_refers_to_something_finds_it(way: str) -> None:
    # The rules that a user adds are their own.
    manifests = manifests_of(values_of(way))
    assert_hardened(manifests, user=None if way == "openshift" else 65532)
    assert_joined(manifests)


@EACH_WAY
def test_no_secret_is_where_everybody_may_read_it(way: str) -> None:
    assert_no_secret(manifests_of(values_of(way)))


@EACH_WAY
def test_the_exporter_accepts_its_configuration(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifests = manifests_of(values_of(way))
    ((pod, container),) = exporters(manifests)
    (tmp_path / "fal-exporter.yaml").write_text(
        yaml.safe_dump(settings_in(manifests)).replace("/run/secrets/fal-exporter", str(tmp_path))
    )
    configuration = tmp_path / "fal-exporter.yaml"
    (tmp_path / "web.yaml").touch()
    configuration.write_text(configuration.read_text().replace(f"{tmp_path}-web", str(tmp_path)))
    for volume in pod["spec"]["volumes"]:
        for source in volume.get("projected", {}).get("sources", ()):
            for item in source["secret"]["items"]:
                path = tmp_path / item["path"]
                path.parent.mkdir(exist_ok=True)
                path.write_text(TOKENS if path.name.endswith("-tokens") else f"{quote(item['path'])}:secret")
    monkeypatch.setenv("FAL_EXPORTER_CONFIG_FILE", str(tmp_path / "fal-exporter.yaml"))
    referred = {entry["name"] for entry in container["env"] if "valueFrom" in entry}
    for name, value in {"FAL_KEY": ADMIN_KEY, "FAL_EXPORTER_LEDGER_URL": "postgresql://a:b@db/ledger"}.items():
        if name in referred:
            monkeypatch.setenv(name, value)
    settings = load_settings({})
    given = values_of(way)
    assert [account.name for account in settings.accounts] == [
        entry["name"] for entry in given.get("accounts", ())
    ] or [given.get("settings", {}).get("account", "default")]
    assert [account.credit_floor for account in settings.accounts] == [
        nano(Decimal(str(entry.get("credit_floor", 0)))) for entry in given.get("accounts", ({},))
    ]
    assert [budget.name for budget in settings.budgets] == [entry["name"] for entry in given.get("budgets", ())]


@EACH_WAY
def test_every_object_has_the_recommended_labels_and_the_users(way: str) -> None:
    values = values_of(way)
    manifests = manifests_of(values)
    for item in (*manifests, *pods(manifests)):
        labels = item["metadata"]["labels"]
        assert {"app.kubernetes.io/name", "app.kubernetes.io/instance", "helm.sh/chart"} <= labels.keys()
        assert labels["app.kubernetes.io/version"] == __version__
        assert values.get("labels", {}).items() <= labels.items()


@EACH_WAY
def test_the_notes_tell_the_next_step(way: str) -> None:
    values = values_of(way)
    notes = rendered(values)["NOTES.txt"]
    has_key = values.get("accounts") or values.get("key")
    assert ("kubectl exec" if has_key else "kubectl create secret generic fal-exporter") in notes
    assert "port-forward" in notes
    assert "<no value>" not in notes


@pytest.mark.parametrize(
    "typo",
    [
        {"serviceMonitors": {"enabled": True}},
        {"serviceMonitor": {"enable": True}},
        {"settings": {"pollinterval": "5m"}},
        {"settings": {"key_file": "/key"}},
        {"prometheusRule": {"thresholds": {"credit_balance": 5}}},
        {"prometheusRule": {"accountThresholds": {"studio": {"spend_hourly_usd": "much"}}}},
        {"prometheusRule": {"disabled": ["FalNoSuchAlert"]}},
        {"prometheusRule": {"runbookBase": "wiki.example"}},
        {"prometheusRule": {"dashboardBase": "grafana.example"}},
        {"key": {"value": "no-colon"}},
        {"accounts": [{"name": "studio"}]},
        {"image": {"digest": "latest"}},
        {"replicated": {"enabled": True, "replicas": 1}},
    ],
    ids=json.dumps,
)
def test_a_typo_is_refused(typo: Manifest) -> None:
    with pytest.raises(helm.HelmError, match=next(iter(typo))):
        rendered(typo)


@pytest.mark.parametrize(
    ("values", "image"),
    [
        ({}, f"fal-exporter:{__version__}"),
        ({"settings": {"events": False}}, f"fal-exporter:{__version__}"),
        ({"settings": {"events": True}}, f"fal-exporter:{__version__}-events"),
        ({"settings": {"events": "On"}}, f"fal-exporter:{__version__}-events"),
        ({"settings": {"events": True}, "image": {"tag": "mine"}}, "fal-exporter:mine"),
    ],
    ids=json.dumps,
)
def test_where_requests_are_read_the_image_has_what_that_needs(values: Manifest, image: str) -> None:
    (workload,) = named(manifests_of(values), "StatefulSet")
    assert workload["spec"]["template"]["spec"]["containers"][0]["image"] == image


def test_the_schema_knows_every_setting_threshold_and_alert() -> None:
    properties = json.loads((CHART / "values.schema.json").read_text())
    owned = {"key", "key_file", "accounts", "budgets", "config_file", "listen", "mcp_listen", "ledger_url"}
    names = {file_name(field) for field in Settings.model_fields}
    owned |= {"web_config_file", "replicated"}
    tokens = {name for name in names if name.endswith("_tokens_file")}
    assert properties["properties"]["settings"]["properties"].keys() == names - owned - tokens
    assert {f"{view}_tokens_file" for view in properties["properties"]["auth"]["properties"]} == tokens
    rules = yaml.safe_load((ROOT / "deploy/prometheus/thresholds.yaml").read_text())["groups"][0]["rules"]
    thresholds = {rule["record"].removeprefix("fal:threshold_") for rule in rules}
    assert properties["$defs"]["thresholds"]["properties"].keys() == thresholds
    (group,) = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())["groups"]
    known = properties["properties"]["prometheusRule"]["properties"]["disabled"]["items"]["enum"]
    assert set(known) == {rule["alert"] for rule in group["rules"]}


def test_every_default_is_one_that_the_schema_has() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    assert schema.keys() - {"global"} == defaults.keys()


def test_the_rules_are_those_of_the_one_source_unless_values_say_otherwise(program: Program, tmp_path: Path) -> None:
    def groups(values: Manifest) -> list[Manifest]:
        manifests = manifests_of({"prometheusRule": {"enabled": True} | values})
        assert assert_rules_pass(manifests, program, tmp_path)
        (rule,) = named(manifests, "PrometheusRule")
        return rule["spec"]["groups"]

    shipped = [
        group
        for name in ("thresholds", "recording", "alerts")
        for group in yaml.safe_load((ROOT / f"deploy/prometheus/{name}.yaml").read_text())["groups"]
    ]
    assert groups({}) == shipped

    thresholds, recording, alerts = groups(values_of("budgets-and-thresholds")["prometheusRule"])
    expected = deepcopy(shipped[0]["rules"])
    for rule in expected:
        if rule["record"] == "fal:threshold_credit_balance_usd":
            rule["expr"] = "vector(500)"
        if rule["record"] == "fal:threshold_unit_price_change_ratio":
            rule["expr"] = "vector(0.05)"
    own = {"record": "fal:threshold_spend_hourly_usd", "expr": "vector(1500000)", "labels": {"account": "studio"}}
    assert thresholds["rules"] == [*expected, own]
    assert recording == shipped[1]
    names = [rule["alert"] for rule in shipped[2]["rules"]]
    assert [rule["alert"] for rule in alerts["rules"]] == [name for name in names if name != "FalNewModelSpending"]
    for rule in alerts["rules"]:
        assert rule["labels"].keys() == {"severity", "team"}
        assert rule["annotations"]["runbook_url"] == f"https://wiki.example/fal-exporter/{rule['alert']}.md"
        assert rule["annotations"]["dashboard_url"].startswith("https://grafana.example/monitoring/d/fal-")


def test_grafana_gets_every_dashboard() -> None:
    maps = [
        item
        for item in named(manifests_of(values_of("operator")), "ConfigMap")
        if "fal-exporter.yaml" not in item["data"]
    ]
    assert all(item["metadata"]["labels"]["grafana_dashboard"] == "1" for item in maps)
    boards = {name: json.loads(text) for item in maps for name, text in item["data"].items()}
    assert boards.keys() == {item.name for item in (ROOT / "grafana/dashboards").glob("*.json")}
    assert len(boards) > 4


def test_a_packaged_chart_holds_the_rules_and_dashboards_themselves(tmp_path: Path) -> None:
    with helm.Chart.load(helm.chart.package(CHART, destination=tmp_path)) as packaged:
        files = {file["name"]: file["data"] for file in packaged.files}
    for name in ("thresholds", "recording", "alerts"):
        text = (ROOT / f"deploy/prometheus/{name}.yaml").read_text()
        assert files[f"files/prometheus/{name}.yaml"] == text
    assert not any(name.startswith("ci/") for name in files)


def test_the_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__
    assert re.search(rf"^### {re.escape(chart['version'])}$", (CHART / "README.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        ({"ingress": {"enabled": True, "host": "fal.example.com"}}, "auth.rest.existingSecret"),
        ({"httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]}}, "auth.rest.existingSecret"),
        (values_of("ingress") | {"mcp": {"enabled": True}}, "auth.mcp.existingSecret"),
        (values_of("ingress") | {"ingress": {"enabled": True}}, "ingress.host"),
        ({"listen": "0.0.0.0:9090", "mcp": {"enabled": True}}, "which MCP needs"),
        ({"key": {"value": "id:secret", "existingSecret": "fal"}}, "keep one of them"),
        ({"replicated": {"enabled": True}}, "ledger.postgresql.existingSecret"),
    ],
)
def test_what_would_let_everybody_in_or_contradicts_itself_is_refused(values: Manifest, missing: str) -> None:
    with pytest.raises(helm.HelmError, match=missing):
        rendered(values)


def every_value(values: Manifest, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in values.items():
        yield (*path, name)
        if isinstance(value, dict):
            yield from every_value(value, (*path, name))


@pytest.mark.long
@pytest.mark.parametrize("path", list(every_value(yaml.safe_load((CHART / "values.yaml").read_text()))), ids=".".join)
def test_null_empties_any_default_and_what_is_rendered_is_yaml(path: tuple[str, ...]) -> None:
    values: Manifest = {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}
    section = values
    for name in path[:-1]:
        section = section.setdefault(name, {})
    section[path[-1]] = None
    found = manifests_of(values)
    assert len(list(pods(found))) == 1
    assert settings_in(found)


@pytest.mark.parametrize("release", ["123", "true", "null", "1e3"])
def test_a_release_may_be_called_like_a_number_or_a_truth_value(release: str) -> None:
    with helm.Chart.load(CHART) as chart:
        files = chart.render(values_of("operator"), name=release, namespace="7")
    found = [item for name, text in files.items() if name.endswith(".yaml") for item in read(text)]
    for item in found:
        metadata = item["metadata"]
        assert isinstance(metadata["name"], str)
        assert metadata["namespace"] == "7"
        assert metadata["labels"]["app.kubernetes.io/instance"] == release
    assert_valid(found)


def test_replicas_share_a_database_alone() -> None:
    manifests = manifests_of(values_of("replicated"))
    assert_replicated(manifests)
    (deployment,) = named(manifests, "Deployment")
    assert deployment["spec"]["replicas"] == 3
    (monitor,) = named(manifests_of(values_of("replicated") | OWN_INSTANCE), "ServiceMonitor")
    (instance,) = (item for item in monitor["spec"]["endpoints"][0]["relabelings"] if item["targetLabel"] == "instance")
    assert instance["replacement"] == "spend/$1"
    spread = [{"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}]
    (pod,) = pods(manifests_of(values_of("replicated") | {"topologySpreadConstraints": spread}))
    assert pod["spec"]["topologySpreadConstraints"] == spread


OWN_INSTANCE = {"serviceMonitor": {"enabled": True, "instance": "spend"}}


def test_names_that_yaml_would_misread_reach_the_exporter_as_they_are() -> None:
    settings = settings_in(manifests_of(values_of("odd-names")))
    assert [(account["name"], account["key_file"].rpartition("/")[2]) for account in settings["accounts"]] == [
        ("dev #1", "dev #1"),
        ("no", "no"),
    ]
    assert settings["mcp_allowed_hosts"].split(",")[-2:] == ["fal.internal", "*.svc"]
    assert (settings["listen"], settings["mcp_listen"]) == ("[::]:8080", "[::]:9090")


def test_another_port_is_that_of_the_container_the_service_and_the_setting() -> None:
    found = manifests_of(values_of("httproute") | {"listen": "0.0.0.0:8081"})
    ((_, container),) = exporters(found)
    (service,) = named(found, "Service")
    (route,) = named(found, "HTTPRoute")
    assert settings_in(found)["listen"] == "0.0.0.0:8081"
    assert container["ports"][0]["containerPort"] == service["spec"]["ports"][0]["port"] == 8081
    assert route["spec"]["rules"][0]["backendRefs"][0]["port"] == 8081


def test_a_web_configuration_with_tls_reaches_probes_and_prometheus() -> None:
    found = manifests_of(values_of("web-config"))
    ((_, container),) = exporters(found)
    assert {container[f"{kind}Probe"]["httpGet"]["scheme"] for kind in ("startup", "liveness", "readiness")} == {
        "HTTPS"
    }
    (monitor,) = named(found, "ServiceMonitor")
    (endpoint,) = monitor["spec"]["endpoints"]
    assert (endpoint["scheme"], endpoint["basicAuth"]["username"]["key"]) == ("https", "username")
    assert settings_in(found)["web_config_file"] == "/run/secrets/fal-exporter-web/web.yaml"


def test_openshift_may_choose_the_user() -> None:
    (pod,) = pods(manifests_of(values_of("openshift")))
    context = pod["spec"]["securityContext"]
    assert context == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_a_changed_configuration_rolls_the_pod() -> None:
    def checksum(values: Manifest) -> str:
        (pod,) = pods(manifests_of(values))
        return pod["metadata"]["annotations"]["checksum/configuration"]

    assert checksum({}) == checksum({"resources": {"limits": {"memory": "1Gi"}}})
    assert checksum({}) != checksum({"settings": {"poll_interval": "10m"}})


def test_agents_reach_mcp_by_the_names_of_the_service_and_from_outside() -> None:
    values = values_of("httproute") | {"settings": {"mcp_allowed_hosts": "fal.internal"}}
    assert settings_in(manifests_of(values))["mcp_allowed_hosts"].split(",") == [
        *("fal-exporter", "fal-exporter.fal", "fal-exporter.fal.svc", "fal-exporter.fal.svc.cluster.local"),
        *("fal.example.com", "fal.internal"),
    ]


def test_large_numbers_stay_whole() -> None:
    settings = settings_in(manifests_of(values_of("several-accounts")))
    assert settings["max_series"] == 1_000_000
    assert isinstance(settings["max_series"], int)
    budgets = settings_in(manifests_of(values_of("budgets-and-thresholds")))["budgets"]
    assert [budget["amount"] for budget in budgets] == [25000, 1500000.5]


@pytest.mark.long
def test_several_accounts_are_polled_with_their_mounted_keys(run: Run) -> None:
    values = values_of("several-accounts")
    values["accounts"][1]["sources"] = "models,serverless"
    secrets = {"fal-studio": {"fal-key": ADMIN_KEY}, "fal-research": {"admin": API_KEY}}
    answer = HTTP.get(run(manifests_of(values), secrets) + "/metrics").text
    assert 'fal_account_locked{account="studio"' in answer
    assert 'fal_account_locked{account="research"' in answer
