"""Rules that every rendered Kubernetes object must keep, however it was rendered."""

import json
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from docs_tables import ROUTES
from kubernetes_validate import utils

from exporter.settings import Settings

Manifest = dict[str, Any]

OLDEST = "1.28"
VERSIONS = tuple(version for version in utils.all_versions() if utils.major_minor(version) >= utils.major_minor(OLDEST))
ENDS = (VERSIONS[0], VERSIONS[-1])
"""The oldest and the newest version: the schemas of each take a quarter of a second to read."""
EACH_SET_OF_VERSIONS = pytest.mark.parametrize(
    "versions", [pytest.param(ENDS, id="oldest and newest"), pytest.param(VERSIONS, id="all", marks=pytest.mark.long)]
)
_OPERATOR = {"ServiceMonitor", "PrometheusRule"}
_OF_OTHERS = {"HTTPRoute", "Cluster"}
"""Objects of the Gateway API and of CloudNativePG, whose schemas are not at hand."""
_RESTRICTED_VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret", "downwardAPI", "csi"}


def read(text: str) -> list[Manifest]:
    # PyYAML's own scanner takes ten times as long, and charts are read a thousand times.
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def named(manifests: Iterable[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def pods(manifests: Iterable[Manifest]) -> Iterator[Manifest]:
    """Yield the pod templates; the names of claimed volumes are added to the volumes, as the controller does."""
    for manifest in manifests:
        if manifest["kind"] in {"StatefulSet", "Deployment"}:
            template = manifest["spec"]["template"]
            claims = [{"name": claim["metadata"]["name"]} for claim in manifest["spec"].get("volumeClaimTemplates", ())]
            volumes = template["spec"].get("volumes", []) + claims
            yield template | {"spec": template["spec"] | {"volumes": volumes}}


def exporters(manifests: Iterable[Manifest]) -> Iterator[tuple[Manifest, Manifest]]:
    """Yield each exporter's pod and container."""
    for pod in pods(manifests):
        yield from ((pod, item) for item in pod["spec"]["containers"] if item["name"] == "fal-exporter")


def assert_valid(manifests: Iterable[Manifest], versions: tuple[str, ...] = ENDS) -> None:
    """Validate strictly, in some versions of Kubernetes; the operator's objects against their models."""
    for manifest in manifests:
        kind = manifest["kind"]
        if kind in _OPERATOR:
            from cloudcoil.models.prometheus_operator import v1  # noqa: PLC0415  takes seconds

            dumped = (
                getattr(v1, kind).model_validate(manifest).model_dump(mode="json", by_alias=True, exclude_unset=True)
            )
            # The models ignore what they do not know; the operator's schema would refuse it.
            assert dumped == manifest
        elif kind not in _OF_OTHERS:
            _assert_valid(json.dumps(manifest, sort_keys=True), versions)


_read_schema = cache(utils.schema_contents)


@cache
def _assert_valid(manifest: str, versions: tuple[str, ...]) -> None:
    # Else it reads megabytes of JSON again for each object.
    with patch.object(utils, "schema_contents", _read_schema):
        for version in versions:
            utils.validate(json.loads(manifest), version, strict=True)


def violations(pod: Manifest) -> list[str]:
    """Return how a pod breaks the pod security standard "restricted", version 1.37."""
    spec = pod["spec"]
    found = [name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    found += [f"volume {item['name']}" for item in spec["volumes"] if not item.keys() - {"name"} <= _RESTRICTED_VOLUMES]
    context = spec.get("securityContext", {})
    found += ["sysctls"] if context.get("sysctls") else []
    for container in [*spec["containers"], *spec.get("initContainers", ())]:
        own = container.get("securityContext", {})
        both = context | own
        capabilities = own.get("capabilities", {})
        wrong = {
            "runAsNonRoot": both.get("runAsNonRoot") is not True,
            "runAsUser": both.get("runAsUser") == 0,
            "seccompProfile": both.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"},
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is not False,
            "privileged": bool(own.get("privileged")),
            "procMount": own.get("procMount", "Default") != "Default",
            "capabilities": "ALL" not in capabilities.get("drop", ())
            or not set(capabilities.get("add", ())) <= {"NET_BIND_SERVICE"},
            "seLinuxOptions": "seLinuxOptions" in both,
            "hostPort": any("hostPort" in port for port in container.get("ports", ())),
        }
        found += [f"{container['name']}: {name}" for name, is_wrong in wrong.items() if is_wrong]
    return found


def assert_hardened(manifests: Iterable[Manifest], user: int | None = 65532) -> None:
    """Beyond "restricted": a read-only root, a numeric user, no token of the API, bounded memory."""
    for pod in pods(manifests):
        assert violations(pod) == []
        assert pod["spec"]["securityContext"].get("runAsUser") == user
        assert pod["spec"]["automountServiceAccountToken"] is False
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]
    for account in named(manifests, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


def assert_joined(manifests: list[Manifest]) -> None:
    """Everything that refers to something finds it: selectors, ports, probes, volumes, accounts, claims."""
    accounts = {item["metadata"]["name"] for item in named(manifests, "ServiceAccount")}
    for pod, container in exporters(manifests):
        _container_fits_the_code(pod, container)
        assert pod["spec"].get("serviceAccountName", "default") in accounts | {"default"}
        labels = pod["metadata"]["labels"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        for service in named(manifests, "Service"):
            assert service["spec"]["selector"].items() <= labels.items()
            assert {item["targetPort"]: item["port"] for item in service["spec"]["ports"]} == ports
        for policy in named(manifests, "NetworkPolicy"):
            assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
            assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
            assert all(rule["from"] for rule in policy["spec"]["ingress"])
            assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} == ports.keys()
        for budget in named(manifests, "PodDisruptionBudget"):
            assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
    for workload in (*named(manifests, "StatefulSet"), *named(manifests, "Deployment")):
        assert (workload["spec"]["replicas"] > 1) is is_replicated(manifests)
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert workload["spec"]["selector"]["matchLabels"].items() <= labels.items()
    _traffic_arrives(manifests)


def is_replicated(manifests: list[Manifest]) -> bool:
    """Return whether the exporters are told that there are several on one ledger."""
    told = [yaml.safe_load(item["data"].get("fal-exporter.yaml", "{}")) for item in named(manifests, "ConfigMap")]
    variables = {entry["name"]: entry.get("value") for _, item in exporters(manifests) for entry in item["env"]}
    return variables.get("FAL_EXPORTER_REPLICATED") == "true" or any(item.get("replicated") for item in told)


def assert_replicated(manifests: list[Manifest]) -> None:
    """Replicas share a database and nothing else, are kept apart, go one after the other, and are all scraped."""
    assert is_replicated(manifests)
    (deployment,) = named(manifests, "Deployment")
    assert not named(manifests, "StatefulSet")
    assert deployment["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
    }
    ((pod, container),) = exporters(manifests)
    (ledger,) = (entry for entry in container["env"] if entry["name"] == "FAL_EXPORTER_LEDGER_URL")
    assert "secretKeyRef" in ledger["valueFrom"]
    assert not any("persistentVolumeClaim" in volume for volume in pod["spec"]["volumes"])
    spread = {item["topologyKey"]: item["labelSelector"] for item in pod["spec"]["topologySpreadConstraints"]}
    assert spread.keys() == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    assert all(item["matchLabels"].items() <= pod["metadata"]["labels"].items() for item in spread.values())
    (budget,) = named(manifests, "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    (service,) = named(manifests, "Service")
    assert not service["spec"].get("publishNotReadyAddresses")
    (monitor,) = named(manifests, "ServiceMonitor")
    relabelings = {item["targetLabel"]: item for item in monitor["spec"]["endpoints"][0]["relabelings"]}
    assert "__meta_kubernetes_pod_name" in relabelings["instance"]["sourceLabels"]


def _container_fits_the_code(pod: Manifest, container: Manifest) -> None:
    main, *others = container["ports"]
    assert main["containerPort"] == Settings.model_fields["listen"].default.port
    assert [other["containerPort"] for other in others] in ([], [Settings.model_fields["mcp_listen"].default.port])
    for probe in {"startupProbe", "livenessProbe", "readinessProbe"} & container.keys():
        assert container[probe]["httpGet"]["path"] in ROUTES
        assert container[probe]["httpGet"]["port"] == main["name"]
    assert {item["name"] for item in container["volumeMounts"]} == {item["name"] for item in pod["spec"]["volumes"]}
    annotations = pod["metadata"].get("annotations", {})
    if annotations.get("prometheus.io/scrape") == "true":
        assert annotations["prometheus.io/port"] == str(main["containerPort"])
        assert annotations["prometheus.io/path"] in ROUTES


def _traffic_arrives(manifests: list[Manifest]) -> None:
    services = {item["metadata"]["name"]: item for item in named(manifests, "Service")}
    for stateful in named(manifests, "StatefulSet"):
        assert stateful["spec"]["serviceName"] in services
    for monitor in named(manifests, "ServiceMonitor"):
        (service,) = services.values()
        (endpoint,) = monitor["spec"]["endpoints"]
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert endpoint["port"] in {item["name"] for item in service["spec"]["ports"]}
        assert endpoint["path"] in ROUTES
    for backend in _backends(manifests):
        ports = [item[key] for item in services[backend["name"]]["spec"]["ports"] for key in ("name", "port")]
        port = backend["port"]
        assert (port["name"] if isinstance(port, dict) else port) in ports


def _backends(manifests: Iterable[Manifest]) -> Iterator[Manifest]:
    for ingress in named(manifests, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            yield from (path["backend"]["service"] for path in rule["http"]["paths"])
    for route in named(manifests, "HTTPRoute"):
        assert route["spec"]["parentRefs"]
        for rule in route["spec"]["rules"]:
            yield from rule["backendRefs"]


def assert_no_secret(manifests: Iterable[Manifest]) -> None:
    """No key stands where everybody may read it: in a ConfigMap, an argument or a variable."""
    for manifest in named(manifests, "ConfigMap"):
        for name, text in manifest["data"].items():
            if name.endswith(".yaml"):
                settings = yaml.safe_load(text)
                assert not {"key", "ledger_url"} & settings.keys()
                assert not any("key" in account for account in settings.get("accounts", ()))
            assert not re.search(r"://[^/\s]+:[^/\s]+@", text)
    for pod in pods(manifests):
        for container in pod["spec"]["containers"]:
            for variable in container.get("env", ()):
                if re.search(r"KEY(_|$)|LEDGER_URL|TOKEN|PASSWORD", variable["name"]):
                    assert "valueFrom" in variable or variable["name"].endswith("_FILE")
    for _, container in exporters(manifests):
        assert container["args"] == ["serve"]
        assert "command" not in container


def assert_rules_pass(manifests: Iterable[Manifest], program: Callable[[str, str], str], folder: Path) -> int:
    """Check the groups of every PrometheusRule with promtool; return how many rules there are."""
    objects = named(manifests, "PrometheusRule")
    file = folder / "rules.yaml"
    groups = [group for item in objects for group in item["spec"]["groups"]]
    file.write_text(yaml.safe_dump({"groups": groups}))
    checked = subprocess.run(
        [program("promtool", "prometheus"), "check", "rules", "--lint-fatal", file],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    return sum(len(group["rules"]) for group in groups)
