"""A container, as a process of this machine.

Its user, arguments, environment and files are those of the container; everything else is read-only to it. Run as a
program inside a mount namespace of its own, this file makes the container's world and becomes its process.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.manifests import Manifest, named

Secrets = Mapping[str, Mapping[str, str]]


def start(
    manifests: list[Manifest],
    pod: Manifest,
    container: Manifest,
    *,
    secrets: Secrets,
    folder: Path,
    overrides: Mapping[str, str],
) -> "subprocess.Popen[bytes]":
    """Start the container; its output is in `output.txt`.

    Args:
        manifests: all that was rendered.
        pod: the template that the container is of.
        container: what to start.
        secrets: the contents of the Secrets of the cluster, by their names.
        folder: for the volumes.
        overrides: environment variables that take the place of what only a cluster has: fal, and a port of its own.
    """
    context = pod["spec"]["securityContext"]
    volumes = {item["name"]: item for item in pod["spec"]["volumes"]}
    mounts: dict[str, tuple[str, bool]] = {}
    for mount in container["volumeMounts"]:
        volume = folder / mount["name"]
        _fill(volume, volumes[mount["name"]], manifests, secrets, context)
        mounts[mount["mountPath"]] = (str(volume), mount.get("readOnly", False))
    environment = {
        item["name"]: item["value"] if "value" in item else _referred(item, secrets)
        for item in container.get("env", ())
    }
    image = {"FAL_EXPORTER_LEDGER_URL": "sqlite:////data/ledger.sqlite", "PYTHONDONTWRITEBYTECODE": "1"}
    return enter(
        {
            "lower": "/",
            "mounts": mounts,
            "user": context["runAsUser"],
            "group": context["runAsGroup"],
            "command": [sys.executable, "-m", "exporter", *container["args"]],
            "environment": image | environment | overrides | {"PATH": os.environ["PATH"]},
            "reachable": [sys.executable, str(Path(sys.executable).resolve()), __file__],
        },
        folder,
    )


def enter(world: Manifest, folder: Path) -> "subprocess.Popen[bytes]":
    """Start a command in a world of its own; what it prints is in `output.txt`.

    Args:
        world: `command`, `environment`, `user` and `group` of the process; `lower`, the files that it sees read-only;
            `mounts`, what it sees elsewhere: folders and whether they are read-only, by paths; `reachable`, files whose
            folders are opened to it; perhaps `removed`, files that it shall not see.
        folder: for what it takes to make that world; used once.
    """
    (folder / "root").mkdir()
    with (folder / "output.txt").open("wb") as output:
        return subprocess.Popen(
            [
                *("unshare", "--mount", "--propagation", "private"),
                *(sys.executable, __file__, json.dumps(world | {"root": str(folder / "root")})),
            ],
            env={"PYTHONPATH": str(Path(__file__).parent.parent), "PATH": os.environ["PATH"]},
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def _referred(variable: Manifest, secrets: Secrets) -> str:
    reference = variable["valueFrom"]["secretKeyRef"]
    return secrets[reference["name"]][reference["key"]]


def _fill(folder: Path, volume: Manifest, manifests: list[Manifest], secrets: Secrets, context: Manifest) -> None:
    """Make a volume with the owners and modes that a kubelet gives."""
    folder.mkdir()
    group = context["fsGroup"]
    contents: dict[str, str] = {}
    mode = 0o644
    if "configMap" in volume:
        (found,) = (
            entry for entry in named(manifests, "ConfigMap") if entry["metadata"]["name"] == volume["configMap"]["name"]
        )
        contents = found["data"]
    elif "secret" in volume:
        contents, mode = dict(secrets[volume["secret"]["secretName"]]), volume["secret"]["defaultMode"]
    elif "projected" in volume:
        mode = volume["projected"]["defaultMode"]
        for source in volume["projected"]["sources"]:
            for item in source["secret"]["items"]:
                contents[item["path"]] = secrets[source["secret"]["name"]][item["key"]]
    else:
        os.chown(folder, 0, group)
        folder.chmod(0o2775)
    for name, text in contents.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        os.chown(path, 0, group)
        path.chmod(mode)


def _become(world: Manifest) -> None:
    """Mount what the container mounts over what it sees read-only, and become its process."""
    root = Path(world["root"])
    scratch = root.with_name("scratch")
    scratch.mkdir()
    _mount("-t", "tmpfs", "tmpfs", scratch)
    for name in ("upper", "work"):
        (scratch / name).mkdir()
    _mount(
        "-t",
        "overlay",
        "overlay",
        "-o",
        f"lowerdir={world['lower']},upperdir={scratch / 'upper'},workdir={scratch / 'work'}",
        root,
    )
    for path in world.get("removed", ()):
        (root / path.lstrip("/")).unlink(missing_ok=True)
    for path in world["reachable"]:
        # Python may be in a folder of the one who runs the tests alone.
        for folder in Path(path).parents:
            inside = root / folder.relative_to("/")
            inside.chmod(inside.stat().st_mode | 0o055)
    for place, (folder, read_only) in world["mounts"].items():
        inside = root / place.lstrip("/")
        inside.mkdir(parents=True, exist_ok=True)
        _mount("--bind", folder, inside)
        if read_only:
            _mount("-o", "remount,bind,ro", inside)
    _mount("-o", "remount,bind,ro", root)
    _mount("--rbind", "/proc", root / "proc")
    _mount("--rbind", "/dev", root / "dev")
    os.chroot(root)
    os.chdir("/data")
    os.setgroups([world["group"]])
    os.setgid(world["group"])
    os.setuid(world["user"])
    os.execve(world["command"][0], world["command"], world["environment"])  # noqa: S606  no shell wanted


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True)


if __name__ == "__main__":
    _become(json.loads(sys.argv[1]))
