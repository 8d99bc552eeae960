"""checkov on the Dockerfile and on everything that is rendered; it is large, so it is asked where it is installed."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import programs
import pytest
import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"

Program = Callable[[str, str], str]


OPENSHIFT = "openshift-values.yaml"
USER_OF_THE_NAMESPACE = "CKV_K8S_40"
"""Asks for a high user id; OpenShift gives each namespace one, so the manifest names none."""


def findings(checkov: str, folder: Path, *excused: str) -> str:
    """Return what checkov finds in a folder; empty for nothing."""
    configuration = ROOT / "deploy/checkov.yaml"
    skipped = ",".join((*yaml.safe_load(configuration.read_text())["skip-check"], *excused))
    done = subprocess.run(
        [
            *(checkov, "--directory", folder, "--framework", "kubernetes", "dockerfile"),
            *("--skip-check", skipped, "--skip-download", "--compact", "--quiet"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return done.stdout + done.stderr if done.returncode else ""


@pytest.mark.long
def test_checkov_finds_nothing_that_is_not_excused(program: Program, tmp_path: Path) -> None:
    checkov = program("checkov", "pipx:checkov")
    common, openshift = tmp_path / "common", tmp_path / "openshift"
    common.mkdir()
    openshift.mkdir()
    shutil.copy(ROOT / "Dockerfile", common)
    for way in (*KUBERNETES.glob("overlays/*"), KUBERNETES / "sidecar"):
        with (common / f"{way.name}.yaml").open("w") as file:
            subprocess.run([program("kubectl", "kubectl"), "kustomize", way], stdout=file, check=True, timeout=60)
    programs.required_module("helm_python", programs.HELM)
    import helm_python as helm  # noqa: PLC0415  an extra of its own, as it is large

    with helm.Chart.load(ROOT / "deploy/helm/fal-exporter") as chart:
        for values in (ROOT / "deploy/helm/fal-exporter/ci").glob("*.yaml"):
            rendered = chart.render(helm.values_from_yaml(values.read_text()), name="fal-exporter", namespace="fal")
            objects = [text for name, text in rendered.items() if name.endswith(".yaml") and text.strip()]
            folder = openshift if values.name == OPENSHIFT else common
            (folder / f"helm-{values.name}").write_text("\n---\n".join(objects))
    assert findings(checkov, common) == ""
    assert list(openshift.iterdir())
    assert findings(checkov, openshift, USER_OF_THE_NAMESPACE) == ""
