"""checkov on the Dockerfile and on everything that is rendered; it is large, so it is asked where it is installed."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import programs
import pytest

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"

Program = Callable[[str, str], str]


@pytest.mark.long
def test_checkov_finds_nothing_that_is_not_excused(program: Program, tmp_path: Path) -> None:
    checkov = program("checkov", "pipx:checkov")
    shutil.copy(ROOT / "Dockerfile", tmp_path)
    for way in (*KUBERNETES.glob("overlays/*"), KUBERNETES / "sidecar"):
        with (tmp_path / f"{way.name}.yaml").open("w") as file:
            subprocess.run([program("kubectl", "kubectl"), "kustomize", way], stdout=file, check=True, timeout=60)
    programs.required_module("helm_python", programs.HELM)
    import helm_python as helm  # noqa: PLC0415  an extra of its own, as it is large

    with helm.Chart.load(ROOT / "deploy/helm/fal-exporter") as chart:
        for values in (ROOT / "deploy/helm/fal-exporter/ci").glob("*.yaml"):
            rendered = chart.render(helm.values_from_yaml(values.read_text()), name="fal-exporter", namespace="fal")
            objects = [text for name, text in rendered.items() if name.endswith(".yaml") and text.strip()]
            (tmp_path / f"helm-{values.name}").write_text("\n---\n".join(objects))
    done = subprocess.run(
        [
            *(checkov, "--directory", tmp_path, "--framework", "kubernetes", "dockerfile"),
            *("--config-file", ROOT / "deploy/checkov.yaml", "--skip-download", "--compact", "--quiet"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
