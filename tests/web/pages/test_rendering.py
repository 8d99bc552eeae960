import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from exporter import web
from exporter.web.pages.rendering import STYLESHEET, render

WEB = Path(web.__file__).parent
TEMPLATES = WEB / "pages" / "templates"
FRAME = {
    "ready": True,
    "refresh_seconds": 0,
    "uptime": "1 s",
    "links": (),
    "mcp_port": None,
    "overview": None,
    "replicas": "",
}


@given(st.text())
def test_a_value_cannot_leave_its_place(value: str) -> None:
    html = render("landing.html", **{**FRAME, "version": value, "links": ((value, value),)})
    version = html.partition("<span>version ")[2].partition("</span>")[0]
    address, _, title = html.rpartition('<li><a href="')[2].partition("</a></li>")[0].partition('">')
    for part in (version, address, title):
        assert not set("<>\"'") & set(part)
        assert unescape(part) == value


def test_a_name_without_a_value_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'version' is undefined"):
        render("landing.html", **FRAME)


def test_only_the_stylesheet_and_what_is_rendered_already_are_not_escaped() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in TEMPLATES.glob("*.html")}
    raw = [(name, found) for name, text in texts.items() for found in re.findall(r"\w+ *\| *safe|autoescape", text)]
    assert sorted(raw) == [("landing.html", "overview|safe"), ("layout.html", "stylesheet|safe")]
    assert "</" not in STYLESHEET


def constants(module: Path) -> Iterator[str]:
    """Yield the texts in a module's code, without its docstrings."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


def test_html_is_in_templates_alone() -> None:
    element = re.compile(r"</?[a-z][a-z0-9]*(?: [^<>]*)?/?>")
    found = [(path.name, text) for path in WEB.rglob("*.py") for text in constants(path) if element.search(text)]
    assert found == []


def test_a_start_needs_no_template_engine() -> None:
    code = "import sys, exporter.app.serve, exporter.web.rest.application; sys.exit('jinja2' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
