"""The composition root: builds the rooms and joins them; the only place that knows all of them."""

from exporter.app.check import run_check
from exporter.app.demo import run_demo
from exporter.app.serve import run_serve
from exporter.app.simulate import run_simulate

__all__ = ["run_check", "run_demo", "run_serve", "run_simulate"]
