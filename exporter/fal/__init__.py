"""The only room that knows fal: its calls, its words, its ways to fail."""

from exporter.fal.balance import read_balance
from exporter.fal.client import PLATFORM_URL, REPORTING_URL, Client
from exporter.fal.errors import REASONS, BadRequestError, CallError, FeatureError, NotFoundError, ScopeError
from exporter.fal.focus import Progress, download, fetch
from exporter.fal.focus_bill import CORRECTION, FocusBills
from exporter.fal.focus_request import FocusRequest, FocusRequestError
from exporter.fal.invoices import Invoices, read_invoices
from exporter.fal.limits import Limits
from exporter.fal.locks import LOCK_REASONS
from exporter.fal.observer import Observer, Silent
from exporter.fal.pricing import read_list_prices
from exporter.fal.probe import Probe, automatic_sources, probe
from exporter.fal.reading import Reading, UsageSource
from exporter.fal.rejections import OUTSIDE_WINDOW, REJECTIONS
from exporter.fal.sources import SOURCES, TELL_LIST_PRICES, usage_source

__all__ = [
    "CORRECTION",
    "LOCK_REASONS",
    "OUTSIDE_WINDOW",
    "PLATFORM_URL",
    "REASONS",
    "REJECTIONS",
    "REPORTING_URL",
    "SOURCES",
    "TELL_LIST_PRICES",
    "BadRequestError",
    "CallError",
    "Client",
    "FeatureError",
    "FocusBills",
    "FocusRequest",
    "FocusRequestError",
    "Invoices",
    "Limits",
    "NotFoundError",
    "Observer",
    "Probe",
    "Progress",
    "Reading",
    "ScopeError",
    "Silent",
    "UsageSource",
    "automatic_sources",
    "download",
    "fetch",
    "probe",
    "read_balance",
    "read_invoices",
    "read_list_prices",
    "usage_source",
]
