"""A stand-in for fal: the interfaces of its usage and billing, spoken from one seeded world, with faults on demand.

The world is a function of seed and time: any window can be asked at any instant, and nothing is stored. All of fal's
interfaces tell of the same charges, so they agree to the nano-dollar; `/_simulator/statement` tells the truth.
"""

from exporter.simulator.app import Simulator, simulator_app
from exporter.simulator.calls import Options
from exporter.simulator.faults import Fault, demo_faults
from exporter.simulator.keys import ADMIN_KEY, API_KEY, DEFAULT_KEYS, Key
from exporter.simulator.lines import Pace, WorldSize
from exporter.simulator.plants import GlitchedJob, PlantedLateness, PlantedRevision, PlantedSpend
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
    "PlantedRevision",
    "PlantedSpend",
    "RunningSimulator",
    "Simulator",
    "World",
    "WorldSize",
    "demo_faults",
    "running_simulator",
    "serve_simulator",
    "serving",
    "simulator_app",
]
