"""The landing page: what is spent and what is wrong, for a person at a browser, from the publication alone."""

from exporter.web.pages.landing import LandingPage

__all__ = ["LandingPage"]
