"""A simulated fal: its usage and billing interfaces, answered from one seeded world, with faults on demand.

Lives here: the world and the account (`world`), fal's calls (`interfaces`), what can go wrong and the truth (`faults`),
and the application with its server (`app`, `server`).
May import: nothing of the project, so that a bug of the exporter's own code cannot hide behind the same bug here.
Begin reading at `world.world`: any hour is a function of seed and time, nothing is stored, and all interfaces report
the same charges to the nano-dollar. Then read `interfaces.calls`, one endpoint of `interfaces.usage`, and `app`.
"""

from exporter.simulator.app import Simulator, simulator_app
from exporter.simulator.faults.faults import Fault, demo_faults
from exporter.simulator.interfaces.calls import ADMIN_KEY, API_KEY, DEFAULT_KEYS, Key, Options
from exporter.simulator.server import RunningSimulator, running_simulator, serve_simulator, serving
from exporter.simulator.world.company import company, company_events
from exporter.simulator.world.injected_charges import (
    GlitchedJob,
    PlantedLateness,
    PlantedRelabelling,
    PlantedRevision,
    PlantedSpend,
)
from exporter.simulator.world.lines import IdleSpan, Pace, WorldSize
from exporter.simulator.world.world import World

__all__ = [
    "ADMIN_KEY",
    "API_KEY",
    "DEFAULT_KEYS",
    "Fault",
    "GlitchedJob",
    "IdleSpan",
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
