"""Pages for people at a browser: the landing page from the publication, and what all pages share.

Python computes values (`landing`, `summary`, `chart`, `alerts`, in the words of `formatting`); `templates/` has all
HTML and the stylesheet; `rendering` puts them together. May import `exporter.publication` and what is below it.
Start reading at `landing.py` and `templates/overview.html`.
"""

from exporter.web.pages.landing import LandingPage

__all__ = ["LandingPage"]
