"""`python -m exporter`: the same as the command `fal-exporter`."""

import sys

from exporter.cli import main

if __name__ == "__main__":
    sys.exit(main())
