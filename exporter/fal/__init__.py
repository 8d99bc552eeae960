"""The only room that knows fal: its calls, its words, its ways to fail."""

from exporter.fal.balance import read_balance
from exporter.fal.client import PLATFORM_URL, REPORTING_URL, Client
from exporter.fal.errors import REASONS, CallError
from exporter.fal.invoices import Invoices, read_invoices
from exporter.fal.limits import Limits
from exporter.fal.locks import LOCK_REASONS
from exporter.fal.observer import Observer, Silent
from exporter.fal.probe import Probe, automatic_sources, probe
from exporter.fal.reading import Reading, UsageSource
from exporter.fal.rejections import REJECTIONS
from exporter.fal.sources import SOURCES, usage_source

__all__ = [
    "LOCK_REASONS",
    "PLATFORM_URL",
    "REASONS",
    "REJECTIONS",
    "REPORTING_URL",
    "SOURCES",
    "CallError",
    "Client",
    "Invoices",
    "Limits",
    "Observer",
    "Probe",
    "Reading",
    "Silent",
    "UsageSource",
    "automatic_sources",
    "probe",
    "read_balance",
    "read_invoices",
    "usage_source",
]
