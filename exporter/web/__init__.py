"""HTTP: the exposition, the landing page, the probes. Serves what has been published; never reaches upstream."""
