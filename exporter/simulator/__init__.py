"""A simulated fal: its usage and billing interfaces, answered from one seeded world, with faults on demand.

Lives here: the world (`lines`, `world`, `company` for the demo, `injected_charges`), the account as fal knows it
(`account`), fal's calls (`usage`, `activity`, `billing`, `focus` on top of `calls`), the faults (`faults`), the control
interface with the truth (`controls`), and the application with its server (`app`, `server`). `exact` has numbers and
calendar.
May import: nothing of the project, so that a bug of the exporter's own code cannot hide behind the same bug here.
Begin reading at `world`: any hour is a function of seed and time, nothing is stored, and all interfaces report the same
charges to the nano-dollar. Then read `calls`, one endpoint of `usage`, and `app`.
"""

from exporter.simulator.app import Simulator, simulator_app
from exporter.simulator.calls import ADMIN_KEY, API_KEY, DEFAULT_KEYS, Key, Options
from exporter.simulator.company import company, company_events
from exporter.simulator.faults import Fault, demo_faults
from exporter.simulator.injected_charges import (
    GlitchedJob,
    PlantedLateness,
    PlantedRelabelling,
    PlantedRevision,
    PlantedSpend,
)
from exporter.simulator.lines import Pace, WorldSize
from exporter.simulator.server import RunningSimulator, running_simulator, serve_simulator, serving
from exporter.simulator.world import World

__all__ = [
    "ADMIN_KEY",
    "API_KEY",
    "DEFAULT_KEYS",
    "Fault",
    "GlitchedJob",
    "Key",
    "Options",
    "Pace",
    "PlantedLateness",
    "PlantedRelabelling",
    "PlantedRevision",
    "PlantedSpend",
    "RunningSimulator",
    "Simulator",
    "World",
    "WorldSize",
    "company",
    "company_events",
    "demo_faults",
    "running_simulator",
    "serve_simulator",
    "serving",
    "simulator_app",
]
