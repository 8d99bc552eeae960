"""The notes of a release: the section of its version in CHANGELOG.md.

`python deploy/release/notes.py v1.2.3` prints them. It fails where the tag is not the version that the package, the
chart and the examples state, or where the changelog has no dated section of that version.
"""  # noqa: INP001  a script

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def versions(root: Path) -> dict[str, str]:
    """Return the version that each file states that has one."""
    stated = {
        "exporter/__init__.py": r'^__version__ = "(.+)"$',
        "deploy/helm/fal-exporter/Chart.yaml": r"^version: (.+)$",
        "deploy/compose/compose.yaml": r"image: fal-exporter:(\S+)$",
        "deploy/kubernetes/base/kustomization.yaml": r"newTag: (\S+)$",
        "deploy/kubernetes/sidecar/kustomization.yaml": r"newTag: (\S+)$",
        "docs/install/container.md": r"docker build -t fal-exporter:(\S+) ",
    }
    found = {}
    for name, pattern in stated.items():
        match = re.search(pattern, (root / name).read_text(encoding="utf-8"), re.MULTILINE)
        found[name] = match[1] if match else "none"
    return found


def notes(tag: str, root: Path = ROOT) -> str:
    """Return the notes of the release of a tag.

    Raises:
        ValueError: the tag, a version and the changelog do not agree.
    """
    version = tag.removeprefix("v")
    for name, stated in versions(root).items():
        if tag != f"v{stated}":
            raise ValueError(f"the tag {tag} is not v{stated}, the version in {name}")
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n"
    section = re.search(rf"{heading}(.*?)(?=^## \[|\Z)", changelog, re.MULTILINE | re.DOTALL)
    if section is None:
        raise ValueError(f'CHANGELOG.md has no section "## [{version}] - YYYY-MM-DD"')
    return section[1].strip() + "\n"


if __name__ == "__main__":
    try:
        sys.stdout.write(notes(sys.argv[1]))
    except ValueError as error:
        sys.exit(f"notes.py: {error}")
