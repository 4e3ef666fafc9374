"""Run the command line: `python -m consistory_svd`."""

import sys

from consistory_svd.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
