"""``python -m carrick``."""

import sys

from carrick.cli import main

if __name__ == "__main__":
    sys.exit(main())
